"""What the kernel says of a process: CPU by thread, memory, and of the machine."""

import os
import pathlib
import time


def threads(pid):
    """Seconds on a CPU so far, by thread name; threads of one name are added up. Ended threads are not seen."""
    seconds = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            ran = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue
        seconds[name] = seconds.get(name, 0) + ran
    return seconds


def cpu(pid):
    """User and system seconds of all threads, ended ones included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def switches(pid):
    """How often its threads have waited so far. Ended threads are not seen."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return total


def memory(pid):
    """Highest and present resident memory in MiB, and how much of the present one is anonymous."""
    fields = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith("kB"):
            fields[name] = int(value.split()[0]) / 1024
    return {"peak": fields["VmHWM"], "now": fields["VmRSS"], "anonymous": fields["RssAnon"]}


def forget_peak(pid):
    """The highest resident memory counts from now on."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def describe():
    """Processor, cores, kernel, load."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "?")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, load {load}"


def until(condition, seconds, what, pause=0.05):
    """Waits until the condition is true, and gives its value back."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s still waiting for {what}")
        time.sleep(pause)

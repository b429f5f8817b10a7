"""Measures Forebay: see benches/run."""

import argparse
import datetime
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import ends
import machine
import report
import scenarios

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


class Run:
    """What the scenarios share."""

    def __init__(self, options, home):
        self.options, self.home, self.notes = options, home, {}
        given = [text.partition("=") for text in options.forebay]
        self.stub_binary = str(BUILT / "kinesis-stub")
        self.binaries = [(name, path) for name, _, path in given] or [("forebay", str(BUILT / "forebay"))]
        stub = self.stub_binary
        self.postgres = ends.Postgres(home, options.postgres)
        self.postgres.sql(scenarios.TABLE)
        self.stub, self.measuring_stub = ends.Stub(home, stub), ends.Stub(home, stub, "--measure")
        self.stub.start()
        self.measuring_stub.start()

    def prefix(self, daemon):
        """With --perf, Forebay runs under it."""
        if not self.options.perf:
            return ()
        output = pathlib.Path(self.options.perf) / f"{daemon.name}.perf"
        return ("perf", "record", "-q", "-F", "999", "--call-graph", "fp", "-o", str(output))

    @staticmethod
    def say(text):
        print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run", description="Measures Forebay on this machine.")
    parser.add_argument("what", nargs="*", help=f"{', '.join(scenarios.ALL)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="of drain and latency; the median counts")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of drain, and of the one transaction")
    parser.add_argument("--backlog-rows", type=int, default=5_000_000)
    parser.add_argument("--confirm-after", type=lambda text: text.split(","), default=["5s", "0s"], help="of drain")
    parser.add_argument("--rate", type=int, default=1_000, help="transactions a second of latency")
    parser.add_argument("--seconds", type=int, default=30, help="of latency and live")
    numbers = lambda text: [int(part) for part in text.split(",")]
    parser.add_argument("--live-rates", type=numbers, default=[100, 1_000, 4_000, 16_000], help="transactions a second of live")
    parser.add_argument("--live-latency", type=numbers, default=[0], help="milliseconds until a response of live")
    parser.add_argument("--postgres", default="15", help="major version")
    parser.add_argument("--forebay", action="append", default=[], metavar="NAME=PATH", help="another build; may be repeated")
    parser.add_argument("--perf", metavar="DIRECTORY", help="profile the drains with perf record")
    parser.add_argument("--note", default="", help="for the head of RESULTS.md")
    parser.add_argument("--no-build", action="store_true", help="what is built is up to date")
    options = parser.parse_args()
    unknown = set(options.what) - set(scenarios.ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def facts(run):
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    options = run.options
    return {
        "date": datetime.date.today().isoformat(), "machine": machine.describe(), "postgres": run.postgres.version,
        "commit": commit.stdout.strip() + (f" ({options.note})" if options.note else ""), "rounds": options.rounds, "drain_rows": options.rows,
        "backlog_rows": options.backlog_rows, "rate": options.rate, "hot_events": scenarios.HOT_EVENTS, "seconds": options.seconds,
        "row_bytes": run.notes.get("row bytes in the stream", "?"), "event_bytes": run.notes.get("event bytes", "?"),
    }


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Forebay's log must be on a disk, and Postgres's own user must be able to go there.
    home = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    home.chmod(0o755)
    try:
        run = Run(options, home)
        results = {}
        for name in options.what or scenarios.ALL:
            results[name] = scenarios.ALL[name](run)
            for figures in results.get("drain", {}).values():
                run.notes["event bytes"] = round(figures["event bytes"])
            if not options.what and not options.forebay:
                # After each, so that a failure later on does not take what is known.
                (ROOT / "benches/RESULTS.md").write_text(report.markdown(results, facts(run)), encoding="utf-8")
        print(f"\n{machine.describe()}\n\n{report.text(results)}")
    finally:
        ends.end_all()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()

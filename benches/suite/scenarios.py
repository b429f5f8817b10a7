"""What is measured. Each scenario gives rows of figures; how they are shown is report.py's."""

import os
import statistics
import subprocess
import time

import machine
from ends import Forebay, Stub, start
from machine import until

TABLE = """
create table ev (
  id bigserial primary key, account int not null, device uuid not null, kind text not null, place text not null,
  amount numeric(12,2) not null, happened timestamptz not null, payload text not null, note text, ok bool not null,
  counter bigint not null);
create function some_rows(n int) returns void language sql as $$
  insert into ev (account, device, kind, place, amount, happened, payload, note, ok, counter)
  select i % 1000, gen_random_uuid(), 'transfer', 'deck ' || i % 8, random() * 100000, clock_timestamp(),
         repeat(md5(i::text), 2) || 'abcdefghijklmnop', 'none', i % 3 = 0, i * 1000003::bigint
  from generate_series(1, n) i $$;
create procedure fill(transactions int, n int) language plpgsql as $$
begin
  for t in 1 .. transactions loop perform some_rows(n); commit; end loop;
end $$;
create procedure heat(transactions int, n int) language plpgsql as $$
declare hot bigint := (select min(id) from ev);
begin
  for t in 1 .. transactions loop
    for i in 1 .. n loop update ev set counter = counter + 1 where id = hot; end loop;
    commit;
  end loop;
end $$;
"""
PER_TRANSACTION = 100


def row_bytes(postgres):
    """Bytes of a row's message in the replication stream: every value as text behind 5 bytes, the rest 33."""
    columns = "id account device kind place amount happened payload note ok counter".split()
    lengths = " + ".join(f"coalesce(octet_length({column}::text), 0)" for column in columns)
    return float(postgres.sql(f"select avg({lengths}) from (select * from ev limit 10000) s")) + 5 * len(columns) + 33


def fill(postgres, rows, per_transaction=PER_TRANSACTION, procedure="fill"):
    statement = f"call {procedure}({rows // per_transaction}, {per_transaction})"
    call = ["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", statement]
    environment = os.environ | {"PGOPTIONS": "-c synchronous_commit=off"}
    subprocess.run([*postgres.client("psql"), *call], check=True, env=environment)
    postgres.sql("checkpoint")


def receive_only(postgres, home, slot, round_name):
    """pg_recvlogical to /dev/null from a copy of the slot: the floor. Rows are counted by the caller."""
    copy = f"copy_{round_name}"
    postgres.sql(f"select pg_copy_logical_replication_slot('{slot}', '{copy}')")
    command = [
        *postgres.client("pg_recvlogical"), "-d", "postgres", "--slot", copy, "--start", "-f", "/dev/null", "--no-loop",
        "-o", "proto_version=1", "-o", f"publication_names={slot}", "--endpos", postgres.sql("select pg_current_wal_lsn()"),
    ]
    postgres.sql("select pg_logical_emit_message(false, 'bench', 'end')")
    began = time.monotonic()
    process = start(command, home / "pg_recvlogical.log")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit((home / "pg_recvlogical.log").read_text())
    postgres.sql(f"select pg_drop_replication_slot('{copy}')")
    return seconds, usage.ru_utime + usage.ru_stime


def drain_one(daemon, stub, rows, prefix=()):
    """One drain of the daemon's backlog into the stub."""
    stub.reset()
    walsender = "select pid from pg_stat_replication"
    began = time.monotonic()
    daemon.start(prefix)
    pid = until(lambda: int(daemon.postgres.sql(walsender) or 0), 60, "a walsender")
    until(lambda: stub.stats()["records"] >= rows, 1200, f"{rows} records at the stub")
    seconds = time.monotonic() - began
    daemon_pid = daemon.pid if not prefix else child_of(daemon.pid)
    user, system = machine.cpu(daemon_pid)
    by_thread = machine.threads(daemon_pid)
    stats = stub.stats()
    figures = {
        "rows/s": rows / seconds, "cpu": sum(by_thread.values()) / rows * 1e6,
        "user": user / rows * 1e6, "system": system / rows * 1e6,
        **{name: seconds / rows * 1e6 for name, seconds in by_thread.items()},
        "walsender": sum(machine.threads(pid).values()) / rows * 1e6,
        "records a request": stats["records"] / stats["requests"]["puts"], "event bytes": stats["bytes"] / stats["records"],
        "peak": machine.memory(daemon_pid)["peak"], "anonymous": machine.memory(daemon_pid)["anonymous"],
        "load": os.getloadavg()[0],
    }
    daemon.stop(daemon_pid)
    return figures


def child_of(pid):
    return int(open(f"/proc/{pid}/task/{pid}/children", encoding="ascii").read().split()[0])


def drain(run):
    """A backlog in one slot, drained; beside it pg_recvlogical from a copy of the slot, in every round."""
    variants = [(name, path, after) for name, path in run.binaries for after in run.options.confirm_after]
    daemons = []
    for turn in range(run.options.rounds):
        for name, path, after in variants:
            label = f"drain_{name}_{after}_{turn}".replace(".", "_")
            daemons.append((turn, name, after, Forebay(run.home, label, path, run.postgres, run.stub, after)))
    run.say(f"drain: {run.options.rows:,} rows, {PER_TRANSACTION} a transaction")
    fill(run.postgres, run.options.rows)
    run.notes["row bytes in the stream"] = round(row_bytes(run.postgres))
    results = {}
    for turn, name, after, daemon in daemons:
        seconds, cpu = receive_only(run.postgres, run.home, daemon.name, daemon.name)
        figures = drain_one(daemon, run.stub, run.options.rows, run.prefix(daemon))
        figures |= {
            "floor rows/s": run.options.rows / seconds, "floor cpu": cpu / run.options.rows * 1e6,
            "ratio": figures["rows/s"] * seconds / run.options.rows,
        }
        results.setdefault(f"{name}, confirm_after {after}", []).append(figures)
        run.say(f"  {turn + 1} {name} {after}: {figures['rows/s']:,.0f} rows/s ({figures['ratio']:.0%} of pg_recvlogical), "
                f"{figures['cpu']:.2f} µs of CPU, {figures['peak']:.0f} MiB, load {figures['load']:.1f}")
        daemon.drop()
    return {label: median(all_figures) for label, all_figures in results.items()}


def median(all_figures):
    names = {name: None for figures in all_figures for name in figures}
    return {name: statistics.median(figures.get(name, 0) for figures in all_figures) for name in names}


def huge(run):
    """All rows in one transaction."""
    (name, path), rows = run.binaries[-1], run.options.rows
    daemon = Forebay(run.home, "huge", path, run.postgres, run.stub)
    run.say(f"huge: one transaction of {rows:,} rows")
    fill(run.postgres, rows, rows)
    figures = drain_one(daemon, run.stub, rows)
    daemon.drop()
    run.say(f"  {name}: {figures['rows/s']:,.0f} rows/s, {figures['cpu']:.2f} µs of CPU, {figures['peak']:.0f} MiB")
    return {"one transaction": figures}


def backlog(run):
    """The stream is away while a backlog is received into the log; then it is back."""
    (_, path), rows = run.binaries[-1], run.options.backlog_rows
    daemon = Forebay(run.home, "backlog", path, run.postgres, run.stub)
    run.say(f"backlog: {rows:,} rows held in the log")
    fill(run.postgres, rows)
    run.stub.stop()
    began = time.monotonic()
    daemon.start()
    until(lambda: (daemon.metric("forebay_log_frames_unpublished") or 0) >= rows, 1800, f"{rows} frames in the log", 0.1)
    received = phase(daemon, rows, time.monotonic() - began, 0)
    log_bytes = daemon.metric("forebay_log_bytes")
    machine.forget_peak(daemon.pid)
    run.stub.start()
    until(lambda: run.stub.stats()["records"] > 0, 60, "the first record", 0.01)
    began, spent = time.monotonic(), sum(machine.cpu(daemon.pid))
    until(lambda: run.stub.stats()["records"] >= rows, 1800, f"{rows} records at the stub")
    drained = phase(daemon, rows, time.monotonic() - began, spent)
    daemon.stop()
    daemon.drop()
    run.notes["log of the backlog, bytes an event"] = round(log_bytes / rows)
    for what, figures in (("receiving", received), ("draining", drained)):
        run.say(f"  {what}: {figures['rows/s']:,.0f} rows/s, {figures['cpu']:.2f} µs of CPU, {figures['peak']:.0f} MiB")
    return {"receiving, the stream away": received, "draining, the stream back": drained}


def phase(daemon, rows, seconds, spent):
    memory = machine.memory(daemon.pid)
    return {
        "rows/s": rows / seconds, "cpu": (sum(machine.cpu(daemon.pid)) - spent) / rows * 1e6,
        "peak": memory["peak"], "anonymous": memory["anonymous"], "load": os.getloadavg()[0],
    }


def latency(run):
    """Single-row transactions at a steady rate; the stub takes the time from commit to its taking of the record."""
    seconds, rate, results = run.options.seconds, run.options.rate, []
    run.say(f"latency: {rate:,} transactions of one row a second, {seconds} s")
    script = run.home / "one.sql"
    script.write_text("select some_rows(1);\n")
    for turn in range(run.options.rounds):
        daemon = Forebay(run.home, f"latency_{turn}", run.binaries[-1][1], run.postgres, run.measuring_stub)
        daemon.start()
        until(lambda: daemon.slot("active") == "t", 60, "the stream")
        writer = [*run.postgres.client("pgbench"), "-n", "-M", "prepared", "-c", "2", "-R", str(rate),
                  "-f", str(script), "postgres"]
        subprocess.run([*writer, "-T", "2"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run.measuring_stub.reset()
        spent, began = sum(machine.threads(daemon.pid).values()), time.monotonic()
        subprocess.run([*writer, "-T", str(seconds)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = time.monotonic() - began
        cores = (sum(machine.threads(daemon.pid).values()) - spent) / took
        measured = run.measuring_stub.stats()["latency"]
        results.append({
            "events/s": measured["events"] / took, "p50": measured["p50_us"] / 1000, "p99": measured["p99_us"] / 1000,
            "max": measured["max_us"] / 1000, "cores": cores, "peak": machine.memory(daemon.pid)["peak"],
            "load": os.getloadavg()[0],
        })
        daemon.stop()
        daemon.drop()
        run.say("  {} p50 {:.2f} ms, p99 {:.2f} ms, max {:.1f} ms, {:.3f} cores, load {:.1f}".format(
            turn + 1, *(results[-1][name] for name in ("p50", "p99", "max", "cores", "load"))))
    return {"steady": median(results)}


def live_writer(run, rate, seconds):
    """pgbench with one row a transaction; above what two clients can do, several."""
    clients = str(max(2, rate // 2000))
    return [*run.postgres.client("pgbench"), "-n", "-M", "prepared", "-c", clients, "-j", "2", "-R", str(rate),
            "-T", str(seconds), "-f", str(run.home / "one.sql"), "postgres"]


def live_receiver(run, slot):
    """pg_recvlogical to /dev/null, reading the same load from a slot of its own."""
    run.postgres.sql(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    command = [
        *run.postgres.client("pg_recvlogical"), "-d", "postgres", "--slot", slot, "--start", "-f", "/dev/null", "--no-loop",
        "-o", "proto_version=1", "-o", f"publication_names={run.live_publication}",
    ]
    process = start(command, run.home / "pg_recvlogical.log")
    until(lambda: run.postgres.sql(f"select active from pg_replication_slots where slot_name = '{slot}'") == "t", 60, slot)
    return process


def live_once(run, label, path, stub, rate):
    """One rate, read by one daemon and, beside it, by pg_recvlogical."""
    daemon = Forebay(run.home, label, path, run.postgres, stub)
    run.live_publication = label
    daemon.start()
    until(lambda: daemon.slot("active") == "t", 60, "the stream")
    floor = live_receiver(run, f"{label}_floor")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(live_writer(run, rate, 2), check=True, **quiet)
    time.sleep(1)
    stub.reset()
    seconds_of = lambda pid: sum(machine.threads(pid).values())
    before, floor_before, began = seconds_of(daemon.pid), seconds_of(floor.pid), time.monotonic()
    waits_before = machine.switches(daemon.pid)
    subprocess.run(live_writer(run, rate, run.options.seconds), check=True, **quiet)
    took = time.monotonic() - began
    # What is under way belongs to it.
    time.sleep(0.5)
    spent, floor_spent = seconds_of(daemon.pid) - before, seconds_of(floor.pid) - floor_before
    waits = machine.switches(daemon.pid) - waits_before
    stats = stub.stats()
    events, measured = stats["records"], stats["latency"]
    figures = {
        "events/s": events / took, "cpu": spent / events * 1e6, "floor cpu": floor_spent / events * 1e6,
        "times": spent / floor_spent, "switches": waits / events, "requests/s": stats["requests"]["puts"] / took,
        "events a request": events / stats["requests"]["puts"],
        "p50": measured["p50_us"] / 1000, "p99": measured["p99_us"] / 1000, "load": os.getloadavg()[0],
    }
    floor.terminate()
    floor.wait(20)
    daemon.stop()
    daemon.drop()
    run.postgres.sql(f"select pg_drop_replication_slot('{label}_floor')")
    return figures


def live(run):
    """Live loads of single-row transactions; Forebay and pg_recvlogical read the same one at the same time."""
    (run.home / "one.sql").write_text("select some_rows(1);\n")
    results, seconds = {}, run.options.seconds
    for trip in run.options.live_latency:
        stub = Stub(run.home, run.stub_binary, "--measure", "--latency-ms", str(trip))
        stub.start()
        for rate in run.options.live_rates:
            run.say(f"live: {rate:,} transactions of one row a second, {seconds} s, responses after {trip} ms")
            for turn in range(run.options.rounds):
                for name, path in run.binaries:
                    figures = live_once(run, f"live_{trip}_{rate}_{name}_{turn}", path, stub, rate)
                    results.setdefault((name, trip, rate), []).append(figures)
                    run.say("  {} {}: {:,.0f} events/s, {:.0f} µs of CPU an event ({:.1f} times pg_recvlogical's {:.1f}), "
                            "{:.1f} switches, {:,.0f} requests/s, p50 {:.2f} ms, p99 {:.2f} ms, load {:.1f}".format(turn + 1, name, *(figures[key] for key in (
                                "events/s", "cpu", "times", "floor cpu", "switches", "requests/s", "p50", "p99", "load"))))
        stub.stop()
    return {f"{name}, {rate:,} a second, responses after {trip} ms": median(all_figures)
            for (name, trip, rate), all_figures in results.items()}


HOT_VARIANTS = {
    "pack off": ("off", ()), "pack lines": ("lines", ()), "pack lines, a shard's limits": ("lines", ("--limits",)),
}
HOT_EVENTS = 50_000


def hot_key(run):
    """A backlog of one row's changes, into a stub that answers after 20 ms."""
    (_, path), results = run.binaries[-1], {}
    run.say(f"hot key: {HOT_EVENTS:,} changes of one row, answers after 20 ms, at most {run.options.seconds} s")
    fill(run.postgres, PER_TRANSACTION)
    for number, (label, (pack, limits)) in enumerate(HOT_VARIANTS.items()):
        stub = Stub(run.home, run.stub_binary, "--latency-ms", "20", *limits)
        stub.start()
        daemon = Forebay(run.home, f"hot_{number}", path, run.postgres, stub, pack=pack)
        fill(run.postgres, HOT_EVENTS, procedure="heat")
        daemon.start()
        counted = lambda name: daemon.metric(f"forebay_{name}_total") or 0
        until(lambda: counted("events_accepted") >= 20, 120, "the first events")
        began, before = time.monotonic(), counted("events_accepted")
        until(lambda: counted("events_accepted") >= HOT_EVENTS or time.monotonic() - began > run.options.seconds,
              run.options.seconds + 60, "a part of the backlog", 0.02)
        took, events, records = time.monotonic() - began, counted("events_accepted"), counted("records_accepted")
        refused = stub.stats()["requests"]["throttled"]
        results[label] = {"events/s": (events - before) / took, "events a record": events / records,
                          "refused": refused / (records + refused)}
        daemon.stop()
        daemon.drop()
        stub.stop()
        run.say("  {}: {:,.0f} events/s, {:.1f} a record, {:.1%} refused".format(label, *results[label].values()))
    return results


ALL = {"drain": drain, "huge": huge, "latency": latency, "live": live, "hotkey": hot_key, "backlog": backlog}

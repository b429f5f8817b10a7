"""The table, and benches/RESULTS.md."""

METHOD = """# What was measured

Written by `benches/run`; do not edit. {date}. {machine}. Postgres {postgres}, Forebay at {commit}.

| what | | target now | goal |
|---|---|---|---|
{rows}
How it is done:

- Everything runs on one machine and shares its cores: Postgres (Unix socket, `fsync = off`, so that its disk is not
  measured), Forebay (release build, its log on a disk), and `kinesis-stub --null`, which counts records and drops them.
  CPU seconds are the figure to trust; rates depend on what else the machine does. Medians of {rounds} rounds.
- A row has 11 columns and takes {row_bytes} bytes in the replication stream; its event has {event_bytes} bytes.
- **drain**: {drain_rows:,} rows at 100 a transaction wait in one slot. Before each drain, `pg_recvlogical` reads a copy
  of the same slot to /dev/null. Both are timed from their start. CPU is that of Forebay's threads
  (`/proc/<pid>/task/*/schedstat`); the walsender's and the stub's come on top and share the cores.
- **one transaction**: the same number of rows in a single transaction.
- **backlog**: {backlog_rows:,} rows are received while the stream is away, then it comes back. Peaks are counted apart.
- **latency**: {rate:,} transactions of one row a second for {seconds} s; from the commit time to the arrival at the stub.
- **one key**: {hot_events:,} changes of one row wait; the stub answers after 20 ms. With a shard's limits it takes 1 MiB a second,
  which is then what there is to have.
- Resident memory is `VmHWM`, the program's own pages included.
- Segments are neither zero-filled nor recycled. `benches/segments` times a write and its fdatasync (median of 300; 2026-11-21, ext4, the
  machine at load 12): 100 frames of 630 bytes appended 5.4 to 6.8 ms, over zeroes 3.7 to 4.1 ms; 1 frame 3.5 to 5.5 and 4.2 to 5.1 ms. Quiet,
  others measured 246 and 124 µs. The log is fsynced at most once a second, so at most 0.2 % of the time is to be gained, for
  0.4 to 0.7 ms of zeroing for each 100 frames and a segment of disk more; and `confirm_after` 0s drains as fast as 5s.
- Rules, without anything around them: `cargo bench --bench rules` (ten runs of 15 rounds of 100,000 rows, CPU time; 2026-11-21, beside compilers on the other
  core, which make a round half as long again; the medians of the ten runs, and the quietest round of all): decoding a row 55 to 59 ns (34); more than that, a rule
  with a filter, eight fields and two computed ones 869 to 889 ns (586), and 991 in the slowest of 150 rounds (target 1,000); the automatic event of the same
  row 918 to 950 ns (617), a row that the filter does not want 72 to 83 ns (29), one of an operation that no rule wants 20 to 27 ns (target 100).
"""


def lines(results):
    """Rows of the table: what, figure, target, goal."""
    table = []
    for label, figures in results.get("drain", {}).items():
        threads = ", ".join(f"{name} {figures[name]:.2f}" for name in ("ingest", "publish", "keeper") if name in figures)
        table += [
            (f"drain ({label}): rows/s", f"{figures['rows/s']:,.0f}", "", ""),
            ("… pg_recvlogical to /dev/null, rows/s", f"{figures['floor rows/s']:,.0f}", "", ""),
            ("… ratio", f"{figures['ratio']:.0%}", "≥ 50 %", "≥ 90 %"),
            ("… CPU an event, µs", f"{figures['cpu']:.2f} ({threads})", "≤ 6", "≤ 5"),
            ("… user and system, µs", f"{figures['user']:.2f} + {figures['system']:.2f}", "", ""),
            ("… beside it: walsender, pg_recvlogical, µs a row",
             f"{figures['walsender']:.2f}, {figures['floor cpu']:.2f}", "", ""),
            ("… records a request", f"{figures['records a request']:.0f}", "", ""),
            ("… resident memory, MiB", f"{figures['peak']:.0f}", "≤ 96", "≤ 64"),
            ("… load of the machine", f"{figures['load']:.1f}", "", ""),
        ]
    parts = results.get("huge", {}) | results.get("backlog", {})
    for label, figures in parts.items():
        table += [
            (f"{label}: resident memory, MiB", f"{figures['peak']:.0f}", "≤ 96", "≤ 64"),
            ("… rows/s, CPU an event µs", f"{figures['rows/s']:,.0f}, {figures['cpu']:.2f}", "", ""),
        ]
    for figures in results.get("latency", {}).values():
        table += [
            ("latency: p50, ms", f"{figures['p50']:.2f}", "", "≤ 1"),
            ("… p99, ms", f"{figures['p99']:.2f}", "", "≤ 5"),
            ("… max, ms", f"{figures['max']:.1f}", "", ""),
            ("… cores", f"{figures['cores']:.3f}", "", "≤ 0.15"),
            ("… load of the machine", f"{figures['load']:.1f}", "", ""),
        ]
    for label, figures in results.get("hotkey", {}).items():
        refused = f", {figures['refused']:.1%} of records refused" if "limits" in label else ""
        table.append((f"one key at 20 ms, {label}: events/s",
                      f"{figures['events/s']:,.0f} ({figures['events a record']:.1f} a record{refused})", "", ""))
    return table


def text(results):
    table = lines(results)
    width = max((len(row[0]) for row in table), default=0)
    return "\n".join(f"{what:<{width}}  {value:<48} {target:<8} {goal}".rstrip() for what, value, target, goal in table)


def markdown(results, facts):
    rows = "".join(f"| {' | '.join(row)} |\n" for row in lines(results))
    return METHOD.format(rows=rows, **facts)

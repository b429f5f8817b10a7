"""The table, and benches/RESULTS.md."""

METHOD = """# What does Forebay cost?

`benches/run` writes this file; do not edit it. {date}. {machine}. PostgreSQL {postgres}, Forebay at
{commit}.

| what | | target now | goal |
|---|---|---|---|
{rows}
## How is it measured?

Everything runs on one machine and shares its cores:

- PostgreSQL on a Unix socket, with `fsync = off`, so that its disk is not measured;
- Forebay as a release build, with its log on a disk;
- `kinesis-stub --null`, which counts records and drops them.

Trust the CPU seconds; rates depend on what else the machine does. Figures are medians of {rounds}
rounds. A row has 11 columns and takes {row_bytes} bytes in the replication stream; its event has
{event_bytes} bytes. Resident memory is `VmHWM`; it includes the program's own pages.

| measurement | method |
|---|---|
| drain | {drain_rows:,} rows, 100 per transaction, wait in one slot. Before each drain, `pg_recvlogical` reads a copy of the same slot to /dev/null. Both are timed from their start. CPU is that of Forebay's threads (`/proc/<pid>/task/*/schedstat`). Walsender and stub use CPU in addition, on the same cores |
| one transaction | the same number of rows in a single transaction |
| backlog | {backlog_rows:,} rows are received while the stream is unavailable; then it returns. The peaks of both phases are measured separately |
| latency | {rate:,} transactions of one row a second for {seconds} s, from the commit time to the arrival at the stub |
| live | single-row transactions at a steady rate for {seconds} s; Forebay and `pg_recvlogical` read the same load at the same time, each from its slot. CPU of all threads of each |
| one key | {hot_events:,} changes of one row wait; the stub responds after 20 ms. "A shard's limits" are 1 MiB a second, which is then the most that is possible |

## What does a live load cost?

`benches/run live --rounds 3 --seconds 10`, 2026-11-29, two cores at load 8 to 10 of other work, so trust the ratio to
`pg_recvlogical`, which reads the same load at the same time. Before: the AWS SDK sent the requests (measured on another day).

| transactions a second | CPU an event, µs | times pg_recvlogical's | before | requests a second | p50, p99, ms |
|---|---|---|---|---|---|
| 100 | 198 | 7.6 | 11.0 | 98 | 0.31, 5.3 |
| 1,000 | 82 | 4.2 | 7.7 | 887 | 0.26, 6.3 |
| 4,000 | 62 | 3.9 | 5.6 | 3,551 | 0.34, 12.8 |
| 16,000 (the machine managed 9,000 to 14,000) | 13 | 2.7 | | 1,589 | the machine was full |

System calls and wake-ups (`strace -c -f`, voluntary context switches), release build, responses at once:

| transactions a second | calls | switches | the calls of an event |
|---|---|---|---|
| 0 | 53 a second | 23 a second | epoll_wait 35, write to wake a thread 8, openat 4, a status message 5 |
| 1 | 83 a second | 26 a second | |
| 100 | 11.6 an event | 3.4 an event | epoll_wait 5.1, recvfrom 2.4, and one each of: write to wake publish, pwrite64 and pread64 of the log, writev of the request |
| 1,000 | 8.5 an event | 3.0 an event | epoll_wait 3.6, recvfrom 1.9, 0.8 each of the others |

## Why are segments neither zero-filled nor recycled?

It would gain at most 0.2 % of the time: the log is fsynced at most once a second. It would cost 0.4
to 0.7 ms of zeroing per 100 frames, and one more segment of disk. `confirm_after` 0s drains as fast
as 5s. `benches/segments` times a write and its fdatasync (median of 300; 2026-11-21, ext4, the
machine at load 12). On a quiet machine others measured 246 and 124 µs.

| written | appended | over zeroes |
|---|---|---|
| 100 frames of 630 bytes | 5.4 to 6.8 ms | 3.7 to 4.1 ms |
| 1 frame | 3.5 to 5.5 ms | 4.2 to 5.1 ms |

## What does a rule cost?

`cargo bench --bench rules` measures rules alone: ten runs of 15 rounds of 100,000 rows, CPU time.
Measured on 2026-11-21 beside compilers on the other core, which make a round half as long again.
The table has the range of the medians of the ten runs, and the quietest round of all. All rows but
the first come in addition to decoding.

| work | median, ns a row | quietest round | target |
|---|---|---|---|
| decode a row | 55 to 59 | 34 | |
| a rule with a filter, eight fields and two computed ones | 869 to 889 (slowest of 150 rounds: 991) | 586 | 1,000 |
| the automatic event of the same row | 918 to 950 | 617 | |
| a row that the filter drops | 72 to 83 | 29 | |
| a row of an operation that no rule covers | 20 to 27 | | 100 |
"""


def lines(results):
    """Rows of the table: what, figure, target, goal."""
    table = []
    for label, figures in results.get("drain", {}).items():
        threads = ", ".join(f"{name} {figures[name]:.2f}" for name in ("ingest", "publish", "checkpointer") if name in figures)
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
    for label, figures in results.get("live", {}).items():
        table += [
            (f"live ({label}): CPU an event, µs", f"{figures['cpu']:.1f}", "", ""),
            ("… times pg_recvlogical's", f"{figures['times']:.1f} ({figures['floor cpu']:.1f} µs)", "", "≤ 3 at 1,000"),
            ("… requests a second, events a request", f"{figures['requests/s']:,.0f}, {figures['events a request']:.1f}", "", ""),
            ("… p50, p99, ms", f"{figures['p50']:.2f}, {figures['p99']:.2f}", "", "≤ 1, ≤ 5 beyond the response time"),
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

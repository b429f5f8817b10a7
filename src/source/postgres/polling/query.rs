//! The statements of a poll. Pure. All go by the simple protocol, within one transaction, and leave nothing in the session: a
//! pooler may give each transaction another one.

use std::fmt::Write as _;

use postgres_protocol::escape::escape_literal;

use super::cursor::CursorKind;
use super::progress::{PollWindow, TableProgress};
use super::table::PolledTable;
use crate::source::postgres::publication::{escape_identifier, quoted};

/// Transaction ids have 32 bits in a row.
const WRAP: u64 = 1 << 32;

/// Begins the transaction of a poll: a snapshot that changes nothing and waits for nobody. The settings are those of our other
/// sessions, for a pooler drops the options of the startup packet. `row_security = off` makes a policy an error instead of rows
/// that are left out.
pub fn begin(reads_all: bool) -> String {
    // A search of a whole table ends with the table.
    let timeout = if reads_all { "0" } else { "5min" };
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SELECT pg_catalog.set_config(name, value, true) FROM (VALUES
        ('search_path', 'pg_catalog'), ('client_encoding', 'UTF8'), ('datestyle', 'ISO'), ('intervalstyle', 'postgres'),
        ('timezone', 'UTC'), ('extra_float_digits', '3'), ('bytea_output', 'hex'), ('xmlbinary', 'base64'),
        ('xmloption', 'content'), ('quote_all_identifiers', 'off'), ('row_security', 'off'), ('jit', 'off'),
        ('standard_conforming_strings', 'on'), ('lock_timeout', '5s'), ('statement_timeout', '{timeout}'),
        ('idle_in_transaction_session_timeout', '5min')) AS settings (name, value)"
    )
}

/// What a poll must know of the server, in one row of texts. Needs no rights. `age()` gives the next transaction id; the end of
/// the snapshot does not, because transactions beyond it may be running.
pub const SERVER: &str = "SELECT pg_catalog.pg_snapshot_xmin(s), pg_catalog.pg_snapshot_xmax(s), pg_catalog.age('3'::xid),
        pg_catalog.pg_is_in_recovery(), (pg_catalog.pg_control_system()).system_identifier,
        CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN greatest((pg_catalog.pg_control_checkpoint()).timeline_id,
                          (pg_catalog.pg_control_recovery()).min_recovery_end_timeline)::bigint
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
        (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
        CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint
            ELSE (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint END,
        pg_catalog.current_setting('server_version_num'), pg_catalog.current_database(), pg_catalog.getdatabaseencoding(),
        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn END,
        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn END
    FROM pg_catalog.pg_current_snapshot() AS s";

/// Name of the cursor.
const CURSOR: &str = "polled_rows";

/// The end of a window, and how far the server has come.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All transactions below it were read; `None`: none were.
    pub horizon: Option<u64>,
    /// The first transaction id that is not visible, whatever it did.
    pub visible_end: u64,
}

/// Opens the cursor over the rest of a table in a window, checks the table, reads its sequence, and the first rows. The cursor
/// comes first: it locks the table, so that the definition that is read after it is the one that its rows have.
pub fn open(
    table: &PolledTable,
    (window, bounds): (&PollWindow, Bounds),
    progress: Option<&TableProgress>,
    rows: usize,
) -> String {
    let mut sql = format!("DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT r.xmin, ");
    list(&mut sql, table.columns(), "r.");
    write!(sql, " FROM ONLY {} AS r WHERE ", quoted(&table.name)).unwrap_or_default();
    condition(&mut sql, table, window, bounds, progress);
    sql.push_str(" ORDER BY ");
    list(&mut sql, table.order(), "r.");
    sql.push_str("; ");
    sql.push_str(&check(table));
    sql.push_str("; ");
    sql.push_str(&highest(table, progress));
    write!(sql, "; FETCH FORWARD {rows} FROM {CURSOR}").unwrap_or_default();
    sql
}

/// The highest value of a `serial` cursor that the sequence has certainly given out, and whether the sequence is still above the
/// bound: it may be set back. A row may be inserted with a higher value than the sequence has, and a standby sees a sequence up to
/// 32 values ahead.
fn highest(table: &PolledTable, progress: Option<&TableProgress>) -> String {
    let Some(sequence) = &table.cursor.sequence else { return "SELECT NULL, true".to_owned() };
    let low = progress.and_then(|progress| progress.low.as_deref());
    // Until the sequence is called, its value is the next one.
    let given = "(s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END - CASE WHEN pg_catalog.pg_is_in_recovery() THEN 33 ELSE 0 END)";
    let above = low.map_or_else(|| "true".to_owned(), |low| format!("{given} >= {}", literal(low)));
    format!(
        "SELECT least((SELECT pg_catalog.max({}) FROM ONLY {})::bigint, {given}), {above} FROM {sequence} AS s",
        escape_identifier(table.cursor_column()),
        quoted(&table.name)
    )
}

/// Reads more rows.
pub fn more(rows: usize) -> String {
    format!("FETCH FORWARD {rows} FROM {CURSOR}")
}

/// Closes the cursor.
pub fn close() -> String {
    format!("CLOSE {CURSOR}")
}

/// What the table is now: its file, the file of the snapshot, and a fingerprint of its columns. A table that was rewritten
/// or truncated after the snapshot looks empty to it; the two files differ then.
pub fn check(table: &PolledTable) -> String {
    check_of(&quoted(&table.name), table.has_composites)
}

/// As [`check`], for a table that is not described yet.
pub fn check_of(quoted_name: &str, has_composites: bool) -> String {
    let composites = if has_composites {
        "|| (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(',', a.attrelid, a.attnum, a.attname, a.atttypid, a.attisdropped),
            ';' ORDER BY a.attrelid, a.attnum), '')) FROM pg_catalog.pg_class k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid
            WHERE k.relkind = 'c')"
    } else {
        ""
    };
    format!(
        "SELECT pg_catalog.pg_relation_filenode(c.oid), c.relfilenode, c.oid::text || ':' || c.relkind::text || (SELECT pg_catalog.md5(pg_catalog.string_agg(
            pg_catalog.concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull), ';' ORDER BY a.attnum))
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) {composites}
        FROM pg_catalog.pg_class c WHERE c.oid = {}::pg_catalog.regclass",
        escape_literal(quoted_name).trim_start()
    )
}

fn list<'a>(sql: &mut String, columns: impl Iterator<Item = &'a str>, of: &str) {
    for (nth, column) in columns.enumerate() {
        let comma = if nth > 0 { ", " } else { "" };
        write!(sql, "{comma}{of}{}", escape_identifier(column)).unwrap_or_default();
    }
}

fn condition(
    sql: &mut String,
    table: &PolledTable,
    window: &PollWindow,
    bounds: Bounds,
    progress: Option<&TableProgress>,
) {
    let column = escape_identifier(table.cursor_column());
    match table.cursor.kind {
        CursorKind::Xid8 => {
            write!(sql, "r.{column} < '{}'", window.until).unwrap_or_default();
            if let Some(horizon) = bounds.horizon {
                write!(sql, " AND r.{column} >= '{horizon}'").unwrap_or_default();
            }
        }
        CursorKind::Serial | CursorKind::UpdatedAt => {
            sql.push_str(&written_in(bounds, window.until));
            if let Some(low) = progress.and_then(|progress| progress.low.as_deref()) {
                let low = literal(low);
                let low = if table.cursor.kind == CursorKind::Serial {
                    low
                } else {
                    // Microseconds since the Unix epoch.
                    format!("timestamptz 'epoch' + interval '1 microsecond' * {low}::bigint")
                };
                write!(sql, " AND r.{column} > {low}").unwrap_or_default();
            }
        }
    }
    if !window.after.is_empty() {
        sql.push_str(" AND (");
        list(sql, table.order(), "r.");
        let values: Vec<String> = window.after.iter().map(|value| literal(value)).collect();
        write!(sql, ") > ({})", values.join(", ")).unwrap_or_default();
    }
}

/// Whether a transaction of the window wrote the row: `xmin` has the lower 32 bits of its id. Without a lower end, whether none
/// beyond the window did.
fn written_in(bounds: Bounds, until: u64) -> String {
    let distance = |from: u64| format!("(r.xmin::text::bigint - {} + {WRAP}) % {WRAP}", from % WRAP);
    match bounds.horizon {
        None => format!("{} >= {}", distance(until), bounds.visible_end.saturating_sub(until)),
        Some(horizon) if until.saturating_sub(horizon) >= WRAP => "true".to_owned(),
        Some(horizon) => format!("{} < {}", distance(horizon), until.saturating_sub(horizon)),
    }
}

/// The whole id of the transaction with these lower 32 bits: the last one below `end`.
pub fn whole_id(low: u32, end: u64) -> u64 {
    let last = end.saturating_sub(1);
    let back = last.wrapping_sub(u64::from(low)) % WRAP;
    last.saturating_sub(back)
}

fn literal(value: &str) -> String {
    escape_literal(value).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the condition says of a transaction, as the server would evaluate it.
    fn is_in(bounds: Bounds, until: u64, id: u64) -> bool {
        let xmin = id % WRAP;
        let distance = |from: u64| (xmin + WRAP - from % WRAP) % WRAP;
        match bounds.horizon {
            None => distance(until) >= bounds.visible_end - until,
            Some(horizon) if until - horizon >= WRAP => true,
            Some(horizon) => distance(horizon) < until - horizon,
        }
    }

    #[test]
    fn each_transaction_is_in_exactly_one_window() {
        for start in [100, WRAP - 5, 7 * WRAP - 3, 7 * WRAP] {
            let ends = [start, start + 2, start + 3, start + 9];
            for id in start - 50..start + 9 {
                let first = Bounds { horizon: None, visible_end: start + 4 };
                // At the time of the first window, later transactions are not visible.
                let mut windows = usize::from(id < first.visible_end && is_in(first, start, id));
                for pair in ends.windows(2) {
                    let bounds = Bounds { horizon: Some(pair[0]), visible_end: pair[1] };
                    windows += usize::from(is_in(bounds, pair[1], id));
                }
                assert_eq!(windows, 1, "{id} of {start}");
            }
        }
    }

    #[test]
    fn whole_id_is_the_last_one_before_the_end() {
        for (low, end, expected) in [
            (99, 100, 99),
            (3, 100, 3),
            (5, WRAP + 5, 5),
            (5, WRAP + 6, WRAP + 5),
            (u32::MAX, 2 * WRAP + 9, 2 * WRAP - 1),
        ] {
            assert_eq!(whole_id(low, end), expected, "{low} below {end}");
        }
    }
}

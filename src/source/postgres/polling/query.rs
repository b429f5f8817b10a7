//! The statements of a poll. Does no I/O. All use the simple protocol within one transaction, and leave
//! nothing in the session, because a pooler may give each transaction another one.

use std::fmt::Write as _;

use postgres_protocol::escape::escape_literal;

use super::cursor::CursorKind;
use super::progress::{PollWindow, TableProgress};
use super::table::{PolledTable, hidden};
use crate::config::TableName;
use crate::source::postgres::publication::{escape_identifier, quoted};

/// Transaction ids in rows have 32 bits.
const WRAP: u64 = 1 << 32;

/// Begins the transaction of a poll: a snapshot that changes nothing and waits for no other session. The
/// settings are those of our other sessions, because a pooler drops the options of the startup packet.
/// `row_security = off` turns a policy into an error instead of hiding rows.
///
/// The locks come before the snapshot, which the first SELECT takes. So nobody alters a table between the
/// snapshot, from which its definition is read, and the cursor, which uses current names.
pub fn begin<'a>(tables: impl Iterator<Item = &'a TableName>) -> String {
    let mut sql = String::from(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '1min'; ",
    );
    for table in tables {
        write!(sql, "LOCK TABLE ONLY {} IN ACCESS SHARE MODE; ", quoted(table)).unwrap_or_default();
    }
    sql.push_str(SETTINGS);
    sql
}

/// The settings of the transaction of a poll.
const SETTINGS: &str = "SELECT pg_catalog.set_config(name, value, true) FROM (VALUES
        ('search_path', 'pg_catalog'), ('client_encoding', 'UTF8'), ('datestyle', 'ISO'), ('intervalstyle', 'postgres'),
        ('timezone', 'UTC'), ('extra_float_digits', '3'), ('bytea_output', 'hex'), ('xmlbinary', 'base64'),
        ('xmloption', 'content'), ('quote_all_identifiers', 'off'), ('row_security', 'off'), ('jit', 'off'),
        ('standard_conforming_strings', 'on'), ('statement_timeout', '5min'), ('idle_in_transaction_session_timeout', '5min'))
        AS settings (name, value)";

/// The state of the server, in one row of texts, for PostgreSQL 12 and later. It needs no permissions.
/// `age()` returns the next transaction id. The end of the snapshot is not enough, because later transactions
/// may be running. The id is read after the time of the last replayed commit, so all transactions that wrote
/// before that time have lower ids.
pub const SERVER: &str = "SELECT pg_catalog.txid_snapshot_xmin(s), pg_catalog.txid_snapshot_xmax(s), pg_catalog.pg_is_in_recovery(),
        (pg_catalog.pg_control_system()).system_identifier,
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
        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn END,
        pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn,
        (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint,
        (extract(epoch FROM coalesce((SELECT a.backend_start FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a LIMIT 1),
            pg_catalog.pg_postmaster_start_time())) * 1000000)::bigint,
        pg_catalog.age('3'::xid)
    FROM pg_catalog.txid_current_snapshot() AS s";

/// Most rows that one cursor searches. A search of a whole table is split into many short statements, in
/// transactions that end.
pub const LOOKED_AT: u32 = if cfg!(debug_assertions) { 5_000 } else { 50_000 };

/// Number of columns before those of the row: the transaction that wrote it, whether it is in the window, and
/// whether it is the last row of the search.
pub const EXTRA: usize = 3;

/// Name of the cursor.
const CURSOR: &str = "polled_rows";

/// The beginning of a window, and the state of the server.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All transactions below this id were read; `None` if none were.
    pub horizon: Option<u64>,
    /// The first transaction id that the snapshot cannot see, whatever its state.
    pub visible_end: u64,
}

/// Opens the cursor over the rest of a table in a window, checks the table, reads its sequence, and fetches
/// the first rows. The cursor is opened first, because it locks the table: the definition that is read
/// afterwards is then that of its rows.
pub fn open(
    table: &PolledTable,
    (window, bounds): (&PollWindow, Bounds),
    progress: Option<&TableProgress>,
    rows: usize,
) -> String {
    let mut sql = format!("DECLARE {CURSOR} NO SCROLL CURSOR FOR ");
    rows_of(&mut sql, table, (window, bounds), progress);
    sql.push_str("; ");
    sql.push_str(&check(table));
    sql.push_str("; ");
    sql.push_str(&highest(table, progress));
    write!(sql, "; FETCH FORWARD {rows} FROM {CURSOR}").unwrap_or_default();
    sql
}

/// The query of the cursor. With an `xid8` cursor, the index finds the rows of the window. With other
/// cursors, [`LOOKED_AT`] rows of the index are searched, and the last one is always returned, because the
/// next cursor begins after it.
pub fn rows_of(
    sql: &mut String,
    table: &PolledTable,
    (window, bounds): (&PollWindow, Bounds),
    progress: Option<&TableProgress>,
) {
    let (from, column) = (table.from(), escape_identifier(table.cursor_column()));
    let mut conditions: Vec<String> = Vec::new();
    if table.cursor.kind == CursorKind::Xid8 {
        conditions.push(format!("r.{column} < '{}'", window.until));
        conditions.extend(bounds.horizon.map(|horizon| format!("r.{column} >= '{horizon}'")));
    } else if let Some(low) = progress.and_then(|progress| progress.low.as_deref()) {
        let low = if table.cursor.kind == CursorKind::Serial {
            literal(low)
        } else {
            // Microseconds since the Unix epoch.
            format!("timestamptz 'epoch' + interval '1 microsecond' * {}::bigint", literal(low))
        };
        conditions.push(format!("r.{column} > {low}"));
    }
    if !window.after.is_empty() {
        let mut after = String::from("(");
        list(&mut after, table.order(), "r.");
        let values: Vec<String> = window.after.iter().map(|value| key_literal(value, table)).collect();
        write!(after, ") > ({})", values.join(", ")).unwrap_or_default();
        conditions.push(after);
    }
    let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let mut order = String::new();
    list(&mut order, table.order(), "r.");
    let (mut values, mut names) = (String::new(), String::new());
    for (nth, column) in table.columns().enumerate() {
        let comma = if nth > 0 { ", " } else { "" };
        write!(values, "{comma}r.{}", escape_identifier(column)).unwrap_or_default();
        write!(names, "{comma}{}", shown(&format!("c{nth}"), table)).unwrap_or_default();
    }
    let aliases: Vec<String> = (0..table.relation.columns.len()).map(|nth| format!("c{nth}")).collect();
    let aliases = aliases.join(", ");
    if table.cursor.kind == CursorKind::Xid8 {
        write!(
            sql,
            "SELECT x, true, false, {names} FROM (SELECT r.xmin, {values} FROM {from} AS r WHERE {condition} ORDER BY {order}) AS s (x, {aliases})"
        )
        .unwrap_or_default();
        return;
    }
    let is_in = written_in("s.x", bounds, window.until);
    write!(
        sql,
        "SELECT x, {is_in}, n = {LOOKED_AT}, {names} FROM (SELECT r.xmin, pg_catalog.row_number() OVER (ORDER BY {order}), {values} \
         FROM {from} AS r WHERE {condition} ORDER BY {order} LIMIT {LOOKED_AT}) AS s (x, n, {aliases}) WHERE {is_in} OR n = {LOOKED_AT}"
    )
    .unwrap_or_default();
}

/// A value as it is selected. If the database is not UTF-8, it is in hexadecimal digits, so that text without
/// a character in UTF-8 arrives too.
fn shown(column: &str, table: &PolledTable) -> String {
    match &table.encoding {
        None => column.to_owned(),
        Some(encoding) => format!(
            "CASE WHEN pg_catalog.num_nulls({column}) = 0 THEN pg_catalog.encode(pg_catalog.convert_to(pg_catalog.format('%s', {column}), \
             {}), 'hex') END",
            literal(&encoding.name)
        ),
    }
}

/// A key value of the last row that was read, as an SQL literal.
fn key_literal(value: &str, table: &PolledTable) -> String {
    match (hidden(value), &table.encoding) {
        (Some(digits), Some(encoding)) => format!(
            "pg_catalog.convert_from(pg_catalog.decode({}, 'hex'), {})",
            literal(digits),
            literal(&encoding.name)
        ),
        _ => literal(value),
    }
}

/// The highest value of a `serial` cursor that the sequence has certainly returned, and whether the sequence
/// is still above the bound, because it may be set back. A row may be inserted with a higher value than the
/// sequence has, and a standby sees a sequence up to 32 values ahead.
fn highest(table: &PolledTable, progress: Option<&TableProgress>) -> String {
    let Some(sequence) = &table.cursor.sequence else { return "SELECT NULL, true".to_owned() };
    let low = progress.and_then(|progress| progress.low.as_deref());
    // A sequence that was never called has its next value as the last one.
    let given = "(s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END - CASE WHEN pg_catalog.pg_is_in_recovery() THEN 33 ELSE 0 END)";
    let above = low.map_or_else(|| "true".to_owned(), |low| format!("{given} >= {}", literal(low)));
    format!(
        "SELECT least((SELECT pg_catalog.max({}) FROM {})::bigint, {given}), {above} FROM {sequence} AS s",
        escape_identifier(table.cursor_column()),
        table.from()
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

/// The current state of the table: its file, the file in the snapshot, and a fingerprint of its columns and
/// of the settings of its sequence.
pub fn check(table: &PolledTable) -> String {
    check_of(&quoted(&table.name), table.has_composites, table.cursor.sequence.as_deref())
}

/// Like [`check`], for a table that is not described yet.
pub fn check_of(quoted_name: &str, has_composites: bool, sequence: Option<&str>) -> String {
    let sequence = sequence.map_or_else(String::new, |name| {
        format!(
            "|| coalesce((SELECT pg_catalog.concat_ws(',', q.xmin, q.seqcache, q.seqincrement, q.seqcycle) FROM pg_catalog.pg_sequence q
            WHERE q.seqrelid = {}::pg_catalog.regclass), 'none')",
            literal(name)
        )
    });
    let composites = if has_composites {
        "|| (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(',', a.attrelid, a.attnum, a.attname, a.atttypid, a.attisdropped),
            ';' ORDER BY a.attrelid, a.attnum), '')) FROM pg_catalog.pg_class k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid
            WHERE k.relkind = 'c')"
    } else {
        ""
    };
    format!(
        "SELECT coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), c.relfilenode,
            c.oid::text || ':' || c.relkind::text || (SELECT pg_catalog.md5(pg_catalog.string_agg(
            pg_catalog.concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull), ';' ORDER BY a.attnum))
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) {composites} {sequence}
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

/// Whether a transaction of the window wrote the row. `xmin` has the lower 32 bits of its id. If the window
/// has no lower end, the condition is that no later transaction wrote it.
fn written_in(xmin: &str, bounds: Bounds, until: u64) -> String {
    let distance = |from: u64| format!("({xmin}::text::bigint - {} + {WRAP}) % {WRAP}", from % WRAP);
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

    /// Evaluates the condition for a transaction as the server would.
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
                // In the snapshot of the first window, later transactions are not visible.
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

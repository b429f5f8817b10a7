//! `json` and the catalogue against a real server: the JSON form of a value equals `to_jsonb()`.
//!
//! `SEED=` repeats a run, `VALUES=` sets the number of random values per column (default 40), `FOREBAY_PG_BIN=` is
//! the directory of another PostgreSQL's programs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failing test may panic, and says what it was working on"
)]

mod compare;
pub(crate) mod generate;
mod samples;
pub(crate) mod server;

use std::collections::{HashMap, HashSet};

use forebay::json::write_value;
use forebay::source::postgres::catalog;
use forebay::types::Kind;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use compare::{Json, differs};
use generate::{Column, Random, columns};
use samples::{NOT_COLUMNS, SAMPLES};

/// The session settings that `write_value` requires.
pub(crate) const SETTINGS: &str = "-c client_encoding=UTF8 -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC \
                        -c extra_float_digits=3 -c bytea_output=hex -c lc_monetary=C";

pub(crate) fn number_from_environment(name: &str, default: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).map_or_else(|_| default(), |text| text.parse().unwrap())
}

#[tokio::test]
async fn values_match_to_jsonb() {
    let seed = number_from_environment("SEED", rand_seed);
    let values = usize::try_from(number_from_environment("VALUES", || 40)).unwrap();
    eprintln!("SEED={seed} VALUES={values}");
    let server = server::start();
    let (admin, admin_connection) = server.connect("postgres", SETTINGS).await;
    let mut random = Random(seed);
    let body = async {
        admin.batch_execute("CREATE ROLE reader LOGIN").await.unwrap();
        let (reader, reader_connection) = server.connect("reader", "").await;
        tokio::select! {
            ended = reader_connection => panic!("the connection ended: {ended:?}"),
            () = compare_all(&admin, &reader, &mut random, values) => {}
        }
    };
    tokio::select! {
        ended = admin_connection => panic!("the connection ended: {ended:?}"),
        () = body => {}
    }
}

pub(crate) fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}

async fn compare_all(admin: &Client, reader: &Client, random: &mut Random, values: usize) {
    samples_name_every_type(admin).await;
    let (schema, columns) = columns();
    admin.batch_execute(&schema).await.unwrap();
    let kinds = kinds_of_columns(admin, reader).await;
    let mut compared = 0;
    let mut differences = Vec::new();
    for column in &columns {
        let kind = &kinds[&column.name];
        let literals = column.literals(random, values);
        match ask(admin, column, &literals).await {
            Ok(answers) => {
                compared += answers.len();
                differences.extend(answers.iter().filter_map(|answer| difference(column, kind, answer)));
            }
            Err(error) => differences.push(format!("{}: {error:?}\n{literals:?}", column.sql)),
        }
    }
    eprintln!("{compared} values of {} columns compared", columns.len());
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences[..differences.len().min(30)].join("\n")
    );
    assert!(compared > columns.len() * values, "no column may stay without values");
    primary_keys_come_in_their_own_order(admin, reader).await;
}

/// A type of a later PostgreSQL must not stay untested unnoticed.
async fn samples_name_every_type(client: &Client) {
    const QUERY: &str = "
        SELECT t.oid::regtype::text FROM pg_type t
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')
              AND (t.typcategory <> 'A' OR t.typname IN ('int2vector', 'oidvector'))
              AND NOT t.oid = ANY ($1::text[]::regtype[])";
    let named: Vec<&str> = SAMPLES.iter().map(|sample| sample.sql).collect();
    let rows = client.query_typed(QUERY, &[(&named, Type::TEXT_ARRAY)]).await.unwrap();
    let unnamed: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let unnamed: Vec<_> = unnamed.iter().filter(|name| !NOT_COLUMNS.contains(&name.as_str())).collect();
    assert!(unnamed.is_empty(), "types without samples: {unnamed:?}");
}

/// The kinds of the table's columns, read in one call by a role without privileges.
async fn kinds_of_columns(admin: &Client, reader: &Client) -> HashMap<String, Kind> {
    const QUERY: &str = "
        SELECT attname::text, atttypid FROM pg_attribute
        WHERE attrelid = 'everything'::regclass AND attnum > 0";
    let types: Vec<(String, u32)> =
        admin.query_typed(QUERY, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let oids: Vec<u32> = types.iter().map(|(_, oid)| *oid).chain([4_000_000_000]).collect();
    let kinds = catalog::kinds(reader, &oids).await.unwrap();
    assert_eq!(kinds[&4_000_000_000], Kind::Text, "a type that is not there");
    types.into_iter().map(|(name, oid)| (name, kinds[&oid].clone())).collect()
}

/// Each value as the type's output function prints it and as `to_jsonb()` does. A cast to text would not do: it turns
/// `t` into `true`.
async fn ask(client: &Client, column: &Column, literals: &[String]) -> Result<Vec<(String, String)>, Error> {
    let query = format!(
        "SELECT format('%s', v), to_jsonb(v)::text
         FROM unnest($1) WITH ORDINALITY AS u (literal, nth)
         CROSS JOIN LATERAL (SELECT u.literal::{} AS v) AS s ORDER BY u.nth",
        column.sql
    );
    let rows = client.query_typed(&query, &[(&literals, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn difference(column: &Column, kind: &Kind, (text, expected): &(String, String)) -> Option<String> {
    let difference =
        |what: &str| Some(format!("{}: {text:?}\n    expected {expected}\n    {what}", column.sql));
    let mut ours = Vec::new();
    if let Err(error) = write_value(&mut ours, kind, text.as_bytes()) {
        return difference(&format!("refused: {error}"));
    }
    let ours = String::from_utf8(ours).unwrap();
    if ours.contains('\n') || serde_json::from_str::<serde::de::IgnoredAny>(&ours).is_err() {
        return difference(&format!("not one line of JSON: {ours}"));
    }
    if differs(kind, &Json::parse(&ours), &Json::parse(expected)) {
        return difference(&format!("ours     {ours}"));
    }
    None
}

async fn primary_keys_come_in_their_own_order(admin: &Client, reader: &Client) {
    const SCHEMA: &str = r#"
        CREATE TABLE keyed (a int, "b B" int, c int, gone int, d int, PRIMARY KEY (d, "b B", a) INCLUDE (c));
        ALTER TABLE keyed DROP COLUMN gone;
        CREATE TABLE keyless (a int UNIQUE NOT NULL);
        CREATE TABLE parted (a int, b int, PRIMARY KEY (b, a)) PARTITION BY RANGE (b);"#;
    admin.batch_execute(SCHEMA).await.unwrap();
    for (table, expected) in
        [("keyed", &["d", "b B", "a"][..]), ("keyless", &[]), ("parted", &["b", "a"]), ("pg_class", &["oid"])]
    {
        let query = format!("SELECT '{table}'::regclass::oid");
        let oid: u32 = admin.query_typed_one(&query, &[]).await.unwrap().get(0);
        assert_eq!(catalog::primary_key(reader, oid).await.unwrap(), expected, "{table}");
    }
    assert!(catalog::primary_key(reader, 4_000_000_000).await.unwrap().is_empty());
}

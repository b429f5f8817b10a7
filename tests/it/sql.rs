//! The expression language against a real server: random expressions over random rows have the same value, type and
//! SQLSTATE, and every accepted expression is accepted by the server.
//!
//! `SEED=` repeats a run, `CASES=` sets the number of expressions of each of two generators (default 4000, the long form
//! 250000 with each of PostgreSQL 14, 16, 17 and 18),
//! `FOREBAY_PG_BIN=` is the directory of another PostgreSQL's programs.

mod business;
mod columns;
mod generate;
mod patterns;
mod templates;

use std::collections::BTreeMap;

use forebay::change::{Cell, Operation, Tuple};
use forebay::expression::{
    Context, EvalError, EvalOutcome, Expression, Meaning, Name, PseudonymOrigin, Row, Scope, ScopeColumn,
};
use forebay::source::postgres::catalog;
use forebay::types::Kind;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::json::generate::Random;
use crate::json::{SETTINGS, number_from_environment, rand_seed, server};
use columns::SCHEMA;
use generate::Generator;

/// Expressions per query.
const BATCH: u64 = 500;
const ROWS: usize = 80;

/// Evaluates each text on a row. An error is returned as its SQLSTATE and does not end the query.
const ASK: &str = "
    -- A domain, and an array of a domain, have the operators of the type that is below.
    CREATE FUNCTION base_type(regtype) RETURNS oid LANGUAGE sql AS $$
        SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN e.typtype = 'd' THEN b.typarray ELSE t.oid END
        FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem LEFT JOIN pg_type b ON b.oid = e.typbasetype
        WHERE t.oid = $1 $$;
    CREATE FUNCTION ask(texts text[], ids int[], OUT nth int, OUT value text, OUT state text, OUT type oid)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
    BEGIN
        FOR nth IN 1 .. array_length(texts, 1) LOOP
            value := NULL; state := NULL; type := NULL;
            BEGIN
                EXECUTE 'SELECT CASE WHEN x IS NOT NULL THEN format(''%s'', x) END, base_type(pg_typeof(x)) FROM (SELECT ('
                    || texts[nth] || ') AS x FROM r AS new WHERE id = ' || ids[nth] || ' OFFSET 0) q'
                    INTO value, type;
            EXCEPTION WHEN OTHERS THEN
                state := SQLSTATE;
            END;
            RETURN NEXT;
        END LOOP;
    END $$";

/// What expressions are compared: a table `r`, and expressions over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Every type, every function, and every kind of error.
    EveryType,
    /// Orders of a shop.
    Business,
}

#[tokio::test]
async fn random_expressions_equal_postgres() {
    compare_all(Over::EveryType).await;
}

#[tokio::test]
async fn business_expressions_equal_postgres() {
    compare_all(Over::Business).await;
}

async fn compare_all(over: Over) {
    let seed = number_from_environment("SEED", rand_seed);
    let cases = number_from_environment("CASES", || 4000);
    println!("SEED={seed} CASES={cases}");
    let server = server::start();
    let (client, connection) = server.connect("postgres", SETTINGS).await;
    tokio::select! {
        ended = connection => panic!("the connection ended: {ended:?}"),
        () = compare(&client, over, seed, cases) => {}
    }
}

/// A stored row in tuple form.
struct Stored {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Tally {
    compared: u64,
    failed_alike: u64,
    refused_by_both: u64,
    /// Refused by us and accepted by the server.
    refused_by_us: u64,
    differences: Vec<String>,
    /// Errors of constants, which the server's planner evaluates even if they are not needed.
    folded: u64,
    /// Documented differences: texts that only the server reads as a date or time; infinite intervals, which exist since
    /// 17; sums of intervals out of range, which were no error before.
    stated: u64,
    /// `server_version_num`
    version: u32,
    /// Differences, each with its expression alone.
    suspects: Vec<(String, String)>,
    /// Expressions that we refuse and the server accepts, by our message.
    strict: BTreeMap<String, (u64, String)>,
}

async fn compare(client: &Client, over: Over, seed: u64, cases: u64) {
    let mut random = Random(seed);
    let (schema, table) = match over {
        Over::EveryType => (SCHEMA, columns::table(&mut random, ROWS)),
        Over::Business => (business::SCHEMA, business::table(&mut random, ROWS)),
    };
    for statements in [schema, ASK, &table] {
        client.batch_execute(statements).await.unwrap();
    }
    let scope = scope(client).await;
    let rows = rows(client).await;
    let version = client.query_typed_one("SELECT current_setting('server_version_num')::int", &[]).await;
    let version = u32::try_from(version.unwrap().get::<_, i32>(0)).unwrap();
    let mut tally = Tally { version, ..Tally::default() };
    let mut asked = 0;
    while asked < cases {
        let mut make = || match over {
            Over::EveryType => Generator { random: &mut random }.expression(),
            Over::Business => business::expression(&mut random),
        };
        let texts: Vec<String> = (0..BATCH.min(cases - asked)).map(|_| make()).collect();
        let ids: Vec<i32> =
            texts.iter().map(|_| i32::try_from(random.below(rows.len() as u64)).unwrap()).collect();
        let answers = client
            .query_typed("SELECT * FROM ask($1, $2)", &[(&texts, Type::TEXT_ARRAY), (&ids, Type::INT4_ARRAY)])
            .await
            .unwrap();
        for ((text, id), answer) in texts.iter().zip(&ids).zip(&answers) {
            let theirs = Answer {
                value: answer.get("value"),
                state: answer.get("state"),
                data_type: answer.get("type"),
            };
            let row = &rows[usize::try_from(*id).unwrap()];
            judge(&mut tally, (text, *id), &scope, row, &theirs);
        }
        asked += texts.len() as u64;
    }
    for (text, reported) in std::mem::take(&mut tally.suspects) {
        let without_a_row = client
            .query_typed_one("SELECT state FROM ask($1, '{-1}')", &[(&vec![text], Type::TEXT_ARRAY)])
            .await
            .unwrap();
        if without_a_row.get::<_, Option<String>>(0).is_some() {
            tally.folded += 1;
        } else {
            tally.differences.push(reported);
        }
    }
    println!("{} fail in the planner, {} are stated differences", tally.folded, tally.stated);
    assert!((tally.folded + tally.stated) * 50 < cases.max(4000), "these are exceptions");
    println!(
        "{} compared, of which {} fail alike; {} refused by both, {} by us only; {} differ",
        tally.compared,
        tally.failed_alike,
        tally.refused_by_both,
        tally.refused_by_us,
        tally.differences.len()
    );
    for (words, (count, text)) in &tally.strict {
        println!("    {count} times stricter: {words}: {text}");
    }
    let shown = &tally.differences[..tally.differences.len().min(40)];
    assert!(tally.differences.is_empty(), "SEED={seed}: {}", shown.join("\n"));
    assert!(tally.compared * 2 > cases, "most expressions must come to a comparison");
    let errors = if over == Over::Business { 1000 } else { 200 };
    assert!(tally.failed_alike * errors > cases, "errors must occur too");
    assert!(over == Over::Business || tally.refused_by_both * 100 > cases, "refusals must occur too");
}

struct Answer {
    value: Option<String>,
    state: Option<String>,
    data_type: Option<u32>,
}

fn judge(tally: &mut Tally, (text, id): (&str, i32), scope: &Scope, row: &Stored, theirs: &Answer) {
    let expression = match Expression::parse(text, scope) {
        Ok(expression) => expression,
        Err(_) if theirs.state.is_some() => {
            tally.refused_by_both += 1;
            return;
        }
        Err(mistakes) => {
            tally.refused_by_us += 1;
            let words = mistakes.0.first().map(|mistake| mistake.message.clone()).unwrap_or_default();
            tally.strict.entry(words).or_insert_with(|| (0, text.to_owned())).0 += 1;
            return;
        }
    };
    tally.compared += 1;
    let operation = Operation::Insert { new: Tuple::new(&row.bytes, &row.cells) };
    let cells = Row::of(&operation).unwrap();
    let (mut out, mut json) = (String::new(), Vec::new());
    let mut context = Context::default();
    let ours = expression.write_text(&cells, &mut context, &mut out);
    let as_json = expression.write_json(&cells, &mut context, &mut json);
    let same = match (&ours, &theirs.state) {
        (Err(error), Some(state)) => {
            tally.failed_alike += 1;
            error.sqlstate == state && as_json.is_err()
        }
        (Ok(outcome), None) => {
            let value = (*outcome == EvalOutcome::Value).then_some(out.as_str());
            let known = expression.data_type().base.oid();
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok();
            // The JSON of a number is its text, but the two are not always computed the same way.
            let is_finite = !matches!(out.as_str(), "NaN" | "Infinity" | "-Infinity");
            let is_number = *outcome == EvalOutcome::Value && *expression.kind() == Kind::Number && is_finite;
            value == theirs.value.as_deref()
                && (known == 0 || Some(known) == theirs.data_type)
                && as_json == Ok(*outcome)
                && is_json
                && (!is_number || json == out.as_bytes())
                && (value.is_some() || expression.is_nullable())
        }
        _ => false,
    };
    if same {
        return;
    }
    if is_stated(tally.version, (text, &out), row, &ours, theirs) {
        tally.stated += 1;
        return;
    }
    let reported = format!(
        "{text}\n    row {id}, ours {ours:?} {out:?} {}, theirs {:?} {:?} type {:?}",
        expression.data_type(),
        theirs.value,
        theirs.state,
        theirs.data_type
    );
    // An expression that the planner evaluates before it reads a row fails with its own error.
    if theirs.state.is_some() {
        tally.suspects.push((text.to_owned(), reported));
    } else {
        tally.differences.push(reported);
    }
}

/// Whether docs/EXPRESSIONS.md states the difference.
fn is_stated(
    version: u32,
    (text, out): (&str, &str),
    row: &Stored,
    ours: &Result<EvalOutcome, EvalError>,
    theirs: &Answer,
) -> bool {
    let is_infinite = theirs.value.as_deref().is_some_and(|value| value.contains("infinity"));
    let stated = |error: &EvalError| {
        error.sqlstate == "22007"
            || error.message.contains("subtract infinite")
            // From 17 on the product of an interval and an infinite number is infinite, and so is what is made of it.
            || error.message == "interval out of range"
                && (version < 170_000 || is_infinite || text.contains(['*', '/']))
    };
    // PostgreSQL 14 takes no interval of more than 2147483647 hours.
    let hours = out.split(':').next().and_then(|hours| hours.rsplit(' ').next()?.parse::<i64>().ok());
    let many = hours.is_some_and(|hours| hours.abs() > 2_147_483_647);
    let narrow = version < 150_000
        && (text.contains("make_interval") || many)
        && theirs.state.as_deref() == Some("22008");
    // From 16 on a number may have underscores; from 18 on the JSON null is NULL as a number or a boolean.
    let is_newer = |error: &EvalError| {
        let underscores = row.bytes.windows(5).any(|part| part == b"1_000");
        theirs.state.is_none()
            && (version >= 160_000 && error.sqlstate == "22P02" && underscores
                || version >= 180_000 && error.message.contains("cast this jsonb"))
    };
    ours.as_ref().is_err_and(|error| stated(error) || is_newer(error)) || narrow
}

async fn scope(client: &Client) -> Scope {
    const QUERY: &str = "
        SELECT attname::text, atttypid, atttypmod, attnotnull FROM pg_attribute
        WHERE attrelid = 'r'::regclass AND attnum > 0 ORDER BY attnum";
    let columns = client.query_typed(QUERY, &[]).await.unwrap();
    let oids: Vec<u32> = columns.iter().map(|column| column.get(1)).collect();
    let kinds = catalog::kinds(client, &oids).await.unwrap();
    let types = catalog::data_types(client, &oids).await.unwrap();
    let names = columns.iter().enumerate().map(|(index, column)| {
        let oid: u32 = column.get(1);
        let mut data_type = types[&oid].clone();
        let modifier: i32 = column.get(2);
        data_type.modifier = if modifier >= 0 { modifier } else { data_type.modifier };
        let column_facts = ScopeColumn {
            index: Some(index),
            kind: kinds[&oid].clone(),
            data_type,
            not_null: column.get(3),
            in_identity: true,
            tagged: false,
        };
        Name { name: column.get(0), meaning: Meaning::Column(column_facts) }
    });
    let scope = Scope { of: "r".to_owned(), names: names.collect(), origin: PseudonymOrigin::default() };
    assert!(scope.names.len() > 20, "all columns");
    scope
}

/// All rows in replication's text form.
async fn rows(client: &Client) -> Vec<Stored> {
    let messages = client.simple_query("SELECT * FROM r ORDER BY id").await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let mut stored = Stored { bytes: Vec::new(), cells: Vec::new() };
        for at in 0..row.len() {
            stored.cells.push(row.get(at).map_or(Cell::Null, |text| {
                let start = u32::try_from(stored.bytes.len()).unwrap();
                stored.bytes.extend_from_slice(text.as_bytes());
                Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
            }));
        }
        stored
    })
    .collect()
}

//! The expression language against a real server: random expressions over random rows have the same value, the same type
//! and the same SQLSTATE; and what we accept, the server accepts.
//!
//! `SEED=` repeats a run, `CASES=` sets how many expressions are compared (default 4000, the long form 100000),
//! `FOREBAY_PG_BIN=` is the directory of another Postgres's programs.

mod columns;
mod generate;
mod templates;

use std::collections::BTreeMap;

use forebay::change::{Cell, Operation, Tuple};
use forebay::source::postgres::catalog;
use forebay::translate::sql::{Column, Context, EvalError, Expression, Meaning, Name, Outcome, Row, Scope};
use forebay::types::Kind;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::json::generate::Random;
use crate::json::{SETTINGS, number_from_environment, rand_seed, server};
use columns::{COLUMNS, SCHEMA};
use generate::Generator;

/// Expressions in one question.
const BATCH: u64 = 500;
const ROWS: usize = 80;

/// Evaluates each text on a row; an error is its SQLSTATE, and ends nothing else.
const ASK: &str = "
    CREATE FUNCTION ask(texts text[], ids int[], OUT nth int, OUT value text, OUT state text, OUT type oid)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
    BEGIN
        FOR nth IN 1 .. array_length(texts, 1) LOOP
            value := NULL; state := NULL; type := NULL;
            BEGIN
                EXECUTE 'SELECT CASE WHEN x IS NOT NULL THEN format(''%s'', x) END, (SELECT CASE t.typtype WHEN ''d'' THEN t.typbasetype ELSE t.oid END FROM pg_type t WHERE t.oid = pg_typeof(x)) FROM (SELECT ('
                    || texts[nth] || ') AS x FROM r AS new WHERE id = ' || ids[nth] || ' OFFSET 0) q'
                    INTO value, type;
            EXCEPTION WHEN OTHERS THEN
                state := SQLSTATE;
            END;
            RETURN NEXT;
        END LOOP;
    END $$";

#[tokio::test]
async fn expressions_mean_what_they_mean_in_postgres() {
    let seed = number_from_environment("SEED", rand_seed);
    let cases = number_from_environment("CASES", || 4000);
    println!("SEED={seed} CASES={cases}");
    let server = server::start();
    let (client, connection) = server.connect("postgres", SETTINGS).await;
    tokio::select! {
        ended = connection => panic!("the connection ended: {ended:?}"),
        () = compare(&client, seed, cases) => {}
    }
}

/// A row as a tuple's parts.
struct Stored {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Tally {
    compared: u64,
    failed_alike: u64,
    refused_by_both: u64,
    /// We are stricter.
    refused_by_us: u64,
    differences: Vec<String>,
    /// Errors of constants, which the server's planner computes before it knows whether they are needed.
    folded: u64,
    /// Texts that only the server's liberal reader takes for a date or time, and infinite intervals, which came with 17.
    stated: u64,
    /// What differs, and the expression alone.
    suspects: Vec<(String, String)>,
    /// What we refused and the server took, by our words.
    strict: BTreeMap<String, (u64, String)>,
}

async fn compare(client: &Client, seed: u64, cases: u64) {
    let mut random = Random(seed);
    client.batch_execute(SCHEMA).await.unwrap();
    client.batch_execute(ASK).await.unwrap();
    client.batch_execute(&columns::table(&mut random, ROWS)).await.unwrap();
    let scope = scope(client).await;
    let rows = rows(client).await;
    let mut tally = Tally::default();
    let mut asked = 0;
    while asked < cases {
        let mut generator = Generator { random: &mut random };
        let texts: Vec<String> = (0..BATCH.min(cases - asked)).map(|_| generator.expression()).collect();
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
    for (text, told) in std::mem::take(&mut tally.suspects) {
        let without_a_row = client
            .query_typed_one("SELECT state FROM ask($1, '{-1}')", &[(&vec![text], Type::TEXT_ARRAY)])
            .await
            .unwrap();
        if without_a_row.get::<_, Option<String>>(0).is_some() {
            tally.folded += 1;
        } else {
            tally.differences.push(told);
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
    assert!(
        tally.failed_alike * 200 > cases && tally.refused_by_both * 100 > cases,
        "errors must be met too"
    );
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
    let row = Row::of(&operation).unwrap();
    let (mut out, mut json) = (String::new(), Vec::new());
    let mut context = Context::default();
    let ours = expression.write_text(&row, &mut context, &mut out);
    let as_json = expression.write_json(&row, &mut context, &mut json);
    let same = match (&ours, &theirs.state) {
        (Err(error), Some(state)) => {
            tally.failed_alike += 1;
            error.sqlstate == state && as_json.is_err()
        }
        (Ok(outcome), None) => {
            let value = (*outcome == Outcome::Value).then_some(out.as_str());
            let known = expression.data_type().base.oid();
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok();
            // A number's JSON is its text; it is not always computed the same way.
            let is_finite = !matches!(out.as_str(), "NaN" | "Infinity" | "-Infinity");
            let is_number = *outcome == Outcome::Value && *expression.kind() == Kind::Number && is_finite;
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
    let is_stated =
        |error: &EvalError| error.sqlstate == "22007" || error.message.contains("subtract infinite");
    if ours.as_ref().is_err_and(is_stated) {
        tally.stated += 1;
        return;
    }
    let told = format!(
        "{text}\n    row {id}, ours {ours:?} {out:?} {}, theirs {:?} {:?} type {:?}",
        expression.data_type(),
        theirs.value,
        theirs.state,
        theirs.data_type
    );
    // What the planner computes before there is a row fails with its own error, whatever the row is.
    if theirs.state.is_some() {
        tally.suspects.push((text.to_owned(), told));
    } else {
        tally.differences.push(told);
    }
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
        let column_facts = Column {
            index: Some(index),
            kind: kinds[&oid].clone(),
            data_type,
            not_null: column.get(3),
            in_identity: true,
            tagged: false,
        };
        Name { name: column.get(0), meaning: Meaning::Column(column_facts) }
    });
    let scope = Scope { of: "r".to_owned(), names: names.collect() };
    assert_eq!(scope.names.len(), COLUMNS.len() + 1);
    scope
}

/// All rows in the text form in which replication sends them.
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

//! A table that changes its form all the time: DDL commands in the transactions of its rows, and `ALTER TYPE`. Each row leaves as
//! it was when it was written ([`check`]), or it is a dead letter that says what is not known.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::support::flow::Flow;
use crate::support::postgres::Postgres;
use crate::support::random::Random;
use crate::support::session::Session;

/// Tables and functions.
pub const SCHEMA: &str = include_str!("shapes.sql");
/// Its events.
const TYPE: &str = "lab.shapes.";
/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(50);
/// Kinds of `audit.alter_shapes`.
const KINDS: usize = 12;

/// A writer in the background, until it is dropped.
#[derive(Debug)]
pub struct Shapes {
    /// Dropped to stop.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Shapes {
    /// Writes and alters.
    pub fn start(postgres: &Postgres, seed: u64) -> Self {
        let address = postgres.address();
        let mut random = Random::new(seed);
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = std::thread::spawn(move || {
            let mut session = None;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let transaction = transaction(&mut random);
                // The server may be away; whether a broken transaction was committed, the audit table knows.
                session =
                    session.or_else(|| Session::connect(&address).ok()).and_then(|mut session: Session| {
                        session.try_execute(&transaction).ok().map(|()| session)
                    });
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Shapes {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the writer panicked");
        }
    }
}

/// Rows, and a command between them in one of two.
fn transaction(random: &mut Random) -> String {
    let mut text = "begin; ".to_owned();
    rows(random, &mut text);
    for _ in 0..random.below(3) {
        let (kind, nr) = (random.below(KINDS), random.below(1_000_000));
        write!(text, "select audit.alter_shapes({kind}, {nr}); ").unwrap();
        rows(random, &mut text);
    }
    text + if random.once_in(10) { "rollback" } else { "commit" }
}

fn rows(random: &mut Random, text: &mut String) {
    for _ in 0..=random.below(2) {
        text.push_str("select audit.insert_shape(); ");
    }
    for _ in 0..random.below(3) {
        write!(text, "select audit.touch_shape({}); ", random.below(1_000_000)).unwrap();
    }
}

/// Compares the data of the window's events with the rows as they were written. How many were compared.
#[track_caller]
pub fn check(flow: &Flow) -> usize {
    let mut images: HashMap<(String, String), Value> = HashMap::new();
    for row in flow.postgres.query("select key, version, image from audit.images") {
        let [key, version, image] = <[_; 3]>::try_from(row).unwrap().map(Option::unwrap);
        images.insert((key, version), serde_json::from_str(&image).unwrap());
    }
    let mut compared = 0;
    let mut wrong = Vec::new();
    for record in flow.records() {
        for line in record.data.split_inclusive(|byte| *byte == b'\n') {
            let event: Value = serde_json::from_slice(line).unwrap();
            let of_shapes = event["type"].as_str().is_some_and(|name| name.starts_with(TYPE));
            let place =
                (event["subject"].as_str().unwrap_or_default().to_owned(), text(&event["data"]["version"]));
            // A deletion has no image; one of an older window was compared then.
            let Some(image) = images.get(&place).filter(|_| of_shapes && !is_deletion(&event)) else {
                continue;
            };
            compared += 1;
            if plain(&event["data"]) != plain(image) {
                wrong.push(format!("{event}\n  was written as {image}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows left otherwise than they were written:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // What a late repeat would be compared with goes: it is compared byte for byte with the event that it repeats.
    flow.postgres.execute("truncate audit.images, audit.altered");
    compared
}

fn is_deletion(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|name| name.contains(".deleted."))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Numbers as texts: a bigint is a text in an event.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

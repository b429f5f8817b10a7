//! The next changes, through a slot that goes with its connection.

use std::time::Duration;

use tokio::time::Instant;

use crate::change::{Delivery, Operation};
use crate::config::units::Span;
use crate::config::{Config, TableName};
use crate::contracts::trial::On;
use crate::failure::Failure;
use crate::source::Source as _;
use crate::source::postgres::conninfo::Settings as Connection;
use crate::source::postgres::{PostgresSource, Stream};

use super::{Audience, Looked, Show};

/// Shows the events of the next changes of these tables, until there were so many, the time is over or somebody interrupts.
pub(super) async fn show(
    config: &Config,
    connection: &Connection,
    (tables, count, time): (&[Looked], u32, Duration),
    show: &mut Show<'_, impl Audience>,
) -> Result<(), Failure> {
    let end = || (!time.is_zero()).then(|| Instant::now() + time);
    let slot = format!("forebay_preview_{}", std::process::id());
    let stream = Stream {
        max_row_size: usize::try_from(config.source.max_row_size).unwrap_or(usize::MAX),
        temporary: true,
        ..Stream::new(slot, &config.source.publication)
    };
    show.audience
        .note("making a slot that goes with this connection; it waits for the transactions that run now");
    let mut source = tokio::select! {
        source = PostgresSource::start(connection, &stream) => source?,
        () = over(end()) => return Err(Failure::stop(format!(
            "the slot was not made within {}: it waits for the transactions that run in the database; --for gives it more time",
            Span(time)
        ))),
    };
    let limit = if time.is_zero() { String::new() } else { format!(" within {}", Span(time)) };
    show.audience.note(&format!(
        "looking at the next {count} changes{limit}; Ctrl-C ends it. Meanwhile the database keeps its write-ahead log"
    ));
    let (mut left, end) = (count, end());
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            () = over(end) => {
                show.audience.note(&format!("{} are over: {} of {count} changes came", Span(time), count - left));
                break;
            }
            received = source.receive() => received?,
        }
        if !drain(&mut source, tables, &mut left, show)? {
            break;
        }
    }
    source.close().await
}

/// Waits for this moment; for ever, if there is none.
async fn over(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Shows what has been received; whether there is more to be shown.
fn drain(
    source: &mut PostgresSource,
    tables: &[Looked],
    left: &mut u32,
    show: &mut Show<'_, impl Audience>,
) -> Result<bool, Failure> {
    while let Some(delivery) = source.take()? {
        match delivery {
            Delivery::Change(change) => {
                let on = match change.operation {
                    Operation::Insert { .. } => On::Insert,
                    Operation::Update { .. } => On::Update,
                    Operation::Delete { .. } => On::Delete,
                    Operation::Truncate { .. } => continue,
                };
                if !tables.iter().any(|looked| looked.relation.oid == change.relation.oid) {
                    continue;
                }
                if on != On::Insert && show.is_outbox(change.relation) {
                    // Its clean-up.
                    continue;
                }
                if show.change(&change, on, false).is_err() {
                    return Ok(false);
                }
                *left = left.saturating_sub(1);
            }
            Delivery::Unreadable(unreadable) => {
                let (schema, table) = unreadable.relation.map_or(("?", "?"), |of| (&of.schema, &of.table));
                let name = TableName { schema: schema.to_owned(), table: table.to_owned() };
                show.audience.note(&format!("a change of {name} cannot be read: {}", unreadable.reason));
                *left = left.saturating_sub(1);
            }
            Delivery::Begin(_) => show.translator.set_context(None),
            Delivery::Message(message) => match show.message(&message) {
                Ok(counts) => *left = left.saturating_sub(u32::from(counts)),
                Err(_) => return Ok(false),
            },
            Delivery::Commit { .. } | Delivery::Progress { .. } => {}
        }
        if *left == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

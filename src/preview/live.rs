//! Previews the next changes, through a temporary replication slot.

use std::time::Duration;

use tokio::time::Instant;

use crate::change::{Delivery, Operation};
use crate::config::units::Span;
use crate::config::{Config, TableName};
use crate::contracts::trial::On;
use crate::failure::{Failure, Problem};
use crate::source::Source as _;
use crate::source::postgres::conninfo::Settings as Connection;
use crate::source::postgres::tables::TableHistory;
use crate::source::postgres::{PostgresSource, Stream};

use super::{Audience, PreviewedTable, Show};

/// Shows the events of the next changes, until the count, the time limit or Ctrl-C.
pub(super) async fn show(
    config: &Config,
    connection: &Connection,
    (tables, count, time): (&[PreviewedTable], u32, Duration),
    (history, show): (&TableHistory, &mut Show<'_, impl Audience>),
) -> Result<(), Failure> {
    let end = || (!time.is_zero()).then(|| Instant::now() + time);
    let slot = format!("forebay_preview_{}", std::process::id());
    let stream = Stream {
        max_row_size: usize::try_from(config.source.max_row_size).unwrap_or(usize::MAX),
        temporary: true,
        ..Stream::new(slot, &config.source.publication)
    };
    show.audience.note("creating a temporary slot; this waits for running transactions");
    let mut source = tokio::select! {
        source = PostgresSource::start(connection, &stream) => source?,
        () = over(end()) => {
            let fact = format!("the slot was not created within {}: it waits for running transactions", Span(time));
            return Err(Failure::stop(Problem::new(fact).with_hint("Use --for to wait longer.")));
        }
    };
    source.describe_by(history.clone(), None);
    let limit = if time.is_zero() { String::new() } else { format!(" within {}", Span(time)) };
    show.audience.note(&format!(
        "waiting for the next {count} changes{limit}; press Ctrl-C to end. Meanwhile the database retains WAL"
    ));
    let (mut left, end) = (count, end());
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            () = over(end) => {
                show.audience.note(&format!("stopped after {}: received {} of {count} changes", Span(time), count - left));
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

/// Waits until this time. `None`: never returns.
async fn over(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Previews the changes received so far. Returns whether more are needed.
fn drain(
    source: &mut PostgresSource,
    tables: &[PreviewedTable],
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
                    // Updates and deletes in an outbox are clean-up and make no events.
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
                show.audience.note(&format!("a change of {name} cannot be decoded: {}", unreadable.reason));
                *left = left.saturating_sub(1);
            }
            Delivery::Begin(_) => show.translator.set_context(None),
            Delivery::Message(message) => match show.message(&message) {
                Ok(counts) => *left = left.saturating_sub(u32::from(counts)),
                Err(_) => return Ok(false),
            },
            Delivery::Backfill | Delivery::Commit { .. } | Delivery::Progress { .. } => {}
        }
        if *left == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Looks at the catalogue regularly, beside the loops: what Postgres does not say on the stream.
//!
//! A table that left the publication is an ERROR and a metric: its changes are no longer sent, and nothing else would tell.
//! What a start would refuse of a publication, such as a table whose own UPDATEs fail now, is an ERROR as well.
//! A publication that is gone stops the process. How much write-ahead log the slot keeps is a metric. A standby that is
//! promoted under a living connection goes on sending: its new timeline is noted, else the next start would take it for
//! another history.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::buffer::ledger::SharedLedger;
use crate::failure::Failure;
use crate::pipeline::recover::Wanted;
use crate::pipeline::{database, meters};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::slot::Finding;
use crate::source::postgres::sql::Session;

/// How often: rarely enough to cost nothing, often enough that an alert on the slot's size comes in time.
const EVERY: Duration = Duration::from_secs(30);

/// Tables that were published when the process started.
type Tables = BTreeSet<String>;

/// Watches until something is found that must stop the process; that it returns.
pub async fn watch(settings: &Settings, wanted: &Wanted, ledger: &SharedLedger) -> Failure {
    let mut session = None;
    let mut known: Option<Tables> = None;
    let mut reported = Tables::new();
    let mut doubts = Vec::new();
    loop {
        match look(settings, wanted, ledger, &mut session).await {
            Ok((tables, found)) => {
                for doubt in found.iter().filter(|doubt| !doubts.contains(*doubt)) {
                    tracing::error!(mend = doubt.mend, "{}", doubt.message);
                }
                doubts = found;
                let known = known.get_or_insert_with(|| tables.clone());
                let gone: Tables = known.difference(&tables).cloned().collect();
                for table in gone.difference(&reported) {
                    tracing::error!(
                        table,
                        publication = wanted.publication,
                        "the table has left the publication, or was dropped: its changes are not sent any more. If that is not meant: \
                         ALTER PUBLICATION … ADD TABLE …; changes made meanwhile are not sent later"
                    );
                }
                meters::tables_gone(gone.len());
                reported = gone;
                known.extend(tables);
            }
            Err(Failure::Retry(error)) => {
                // The ingest loop says it louder.
                tracing::debug!(%error, "the catalogue cannot be looked at now");
                session = None;
            }
            Err(stop) => return stop,
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(
    settings: &Settings,
    wanted: &Wanted,
    ledger: &SharedLedger,
    session: &mut Option<Session>,
) -> Result<(Tables, Vec<Finding>), Failure> {
    let session = match session {
        Some(open) if open.is_open() => open,
        other => other.insert(Session::open(settings).await?),
    };
    let seen = database::look(session, settings, wanted).await?;
    seen.check_running(wanted)?;
    if let Some(slot) = &seen.slot_facts {
        let from =
            |lsn: Option<crate::position::Lsn>| lsn.map_or(0, |lsn| seen.server.wal_end.bytes_since(lsn));
        meters::slot(from(slot.restart_lsn), from(slot.confirmed_flush));
        // Only the server that our stream comes from has somebody reading the slot; on another cluster somebody else does.
        let mut ledger = ledger.lock();
        if slot.active_pid.is_some() && ledger.checkpoint().identity.system_id == seen.server.system_id {
            ledger.promoted(seen.server.timeline);
        }
    }
    let doubts = seen.doubts(wanted);
    let tables = seen.publication.map(|publication| publication.tables).unwrap_or_default();
    Ok((tables.into_iter().map(|table| table.name.to_string()).collect(), doubts))
}

//! Checks the catalogue regularly, for facts that PostgreSQL does not send on the replication stream.
//!
//! The [`monitor`](crate::source::postgres::monitor) reports differences of the publication. What a start
//! would refuse in a publication, such as a table whose own UPDATEs fail now, is an error in the log too. If
//! the publication does not exist any more, the process stops. The amount of WAL that the slot retains is a
//! metric. If a standby is promoted, the connection continues on a new timeline. The watchdog notes that
//! timeline; otherwise the next start would treat it as another history.
//!
//! When it opens its session it also reads facts that a start does not need ([`setup`]). Those warnings of
//! `forebay check` are logged and shown on `/status`.
//!
//! A failed check never stops the process: it is logged, and a gauge is set.
//!
//! It keeps one SQL session open, so that it can check a server without free connections, and needs no
//! walsender. Without a replication stream it has no session: the stream has priority if connections are
//! scarce.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::ledger::SharedLedger;
use crate::config::SourceConfig;
use crate::daemon::contract::Selectors;
use crate::daemon::forecast::{Foreseen, Growth};
use crate::daemon::heartbeat::LoopHeartbeat;
use crate::diagnosis::{Diagnosis, Severity};
use crate::failure::Failure;
use crate::identity::{Identity, SourceIdentity};
use crate::pipeline::meters;
use crate::pipeline::status::{Moment, Status};
use crate::position::CommitSeq;
use crate::source::postgres::admit::Wanted;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::inspect::{self, Seen, Unseen};
use crate::source::postgres::monitor::{Observed, PublicationMonitor};
use crate::source::postgres::session::Session;
use crate::source::postgres::setup::{self, judge};

/// Interval of the checks: short enough for an alert on the slot's size, long enough to cost nothing.
const EVERY: Duration = Duration::from_secs(30);

/// How often it checks whether there is a stream, and whether a check is due.
const TICK: Duration = Duration::from_secs(1);

/// Pause after a first failure, which is not logged, because a server that restarts is reported elsewhere.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Failures in a row after which a warning is logged again: about every ten minutes.
const LOG_AGAIN: u32 = 20;

/// What the watchdog checks, and where it reports.
#[derive(Debug)]
pub struct Watchdog<'a> {
    /// The connection settings.
    pub settings: &'a Settings,
    /// The expected identity of database, slot and publication.
    pub wanted: &'a Wanted,
    /// How the slot is created.
    pub source: &'a SourceConfig,
    /// Selectors that must match something.
    pub selectors: Selectors,
    /// Where a promotion is noted.
    pub ledger: &'a SharedLedger,
    /// Where the slot's size is noted.
    pub status: &'a Status,
    /// Compares the publication with its earlier state.
    pub monitor: &'a Mutex<PublicationMonitor>,
    /// Its SQL session, kept open while there is a stream.
    pub session: Option<Session>,
    /// Growth of the WAL that the slot retains.
    pub growth: Growth,
    /// The last reported forecast about the loss of the slot.
    pub foreseen: Foreseen,
    /// Writes heartbeats over the same session; `None`: heartbeats are off.
    pub heartbeat: Option<LoopHeartbeat>,
}

impl Watchdog<'_> {
    /// Runs until there is a reason to stop the process, and returns it.
    pub async fn watch(mut self) -> Failure {
        let status = self.status;
        let (mut warnings, mut unseen) = (Vec::new(), Vec::new());
        let mut failures = 0_u32;
        let mut due = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            if let Some(heartbeat) = &self.heartbeat {
                heartbeat.look(status, self.ledger);
            }
            if status.ingest(|part| part.connected.is_none()) {
                self.session = None;
                status.source(|part| part.watched = false);
                due = Instant::now();
                continue;
            }
            if Instant::now() < due {
                if let (Some(heartbeat), Some(session)) = (&mut self.heartbeat, &mut self.session)
                    && session.is_open()
                {
                    heartbeat.beat(session, status).await;
                }
                continue;
            }
            match self.look().await {
                Ok((found, blind)) => {
                    for Unseen { part, error } in blind.iter().filter(|part| !unseen.contains(*part)) {
                        tracing::warn!(
                            event = "watchdog_partly_blind",
                            part,
                            %error,
                            "part of the catalogue cannot be read, so it is not checked; the stream continues"
                        );
                    }
                    unseen = blind;
                    for new in found.iter().filter(|warning| !warnings.contains(*warning)) {
                        let Diagnosis { hint, command, .. } = new;
                        tracing::error!(event = "publication_unfit", hint, command, "{new}");
                    }
                    warnings = found;
                    if failures > 1 {
                        tracing::info!(
                            event = "watchdog_recovered",
                            failures,
                            "publication and slot are checked again"
                        );
                    }
                    failures = 0;
                    status.source(|part| part.watched = unseen.is_empty());
                }
                Err(Failure::Retry(error)) => {
                    self.session = None;
                    status.source(|part| part.watched = false);
                    if failures % LOG_AGAIN == 1 {
                        tracing::warn!(
                            event = "watchdog_blind",
                            %error,
                            "publication and slot cannot be checked; a table that leaves the publication would not be noticed"
                        );
                    }
                    failures = failures.saturating_add(1);
                }
                Err(stop) => return stop,
            }
            due = Instant::now() + if failures == 1 { AFTER_FAILURE } else { EVERY };
        }
    }

    async fn look(&mut self) -> Result<(Vec<Diagnosis>, Vec<Unseen>), Failure> {
        let Self {
            settings,
            wanted,
            source,
            selectors,
            ledger,
            status,
            monitor,
            session,
            growth,
            foreseen,
            ..
        } = self;
        let (session, is_new) = match session {
            Some(open) if open.is_open() => (open, false),
            other => (other.insert(Session::open(settings).await.map_err(Failure::retry)?), true),
        };
        let seen = inspect::glance(session, wanted).await?;
        if is_new {
            growth.forget();
            report_setup(session, &seen, source, status).await;
        }
        seen.check_running(wanted)?;
        if let Some(slot) = &seen.slot_facts {
            let from = |lsn: Option<CommitSeq>| lsn.map_or(0, |lsn| seen.server.wal_end.distance_from(lsn));
            let wal_bytes = (from(slot.restart_lsn), from(slot.confirmed_flush));
            let now = Moment::now();
            growth.look(now.at, wal_bytes.0);
            let left = slot.safe_wal_size.map(|left| u64::try_from(left).unwrap_or_default());
            let lost_at =
                left.and_then(|left| growth.reaches(left)).and_then(|left| now.at.checked_add(left));
            status.source(|part| {
                (part.looked, part.retained_bytes) = (Some(now), Some(wal_bytes));
                (part.growth, part.lost_at) = (growth.per_second(), lost_at);
            });
            if let Some((severity, minutes)) = foreseen.take(lost_at.map(|at| at.duration_since(now.at))) {
                slot_loss(severity, minutes);
            }
            // Our stream comes from the server on which the slot is active. On another cluster, another
            // reader uses it.
            let mut ledger = ledger.lock();
            if seen.facts.control.is_ok()
                && slot.active_pid.is_some()
                && is_of(&ledger.checkpoint().identity, &seen)
            {
                ledger.promoted(seen.server.timeline);
            }
        }
        observe(monitor, &seen, status);
        let published = seen.publication.iter().flat_map(|publication| &publication.tables);
        let published: Vec<_> = published.map(|table| &table.name).collect();
        selectors.report(session, &published).await?;
        let mut found = seen.warnings(wanted);
        found.extend(seen.publication.iter().flat_map(|publication| selectors.without_key(publication)));
        Ok((found, seen.unseen))
    }
}

/// Logs that the slot will be lost.
fn slot_loss(severity: Severity, minutes: u64) {
    const HINT: &str = "Find out what keeps Forebay from confirming, or raise max_slot_wal_keep_size.";
    if severity == Severity::Blocker {
        tracing::error!(
            event = "slot_loss_foreseen",
            minutes,
            hint = HINT,
            "retained WAL grows; the slot is lost soon"
        );
    } else {
        tracing::warn!(
            event = "slot_loss_foreseen",
            minutes,
            hint = HINT,
            "retained WAL grows; the slot is lost within a day"
        );
    }
}

/// Logs new warnings about the configuration of the database, and reports all of them in the status. Nothing
/// depends on it.
async fn report_setup(session: &mut Session, seen: &Seen, source: &SourceConfig, status: &Status) {
    let setup = match session.run(async |client| setup::read(client, &source.publication).await).await {
        Ok(setup) => setup,
        Err(error) => {
            tracing::debug!(event = "setup_unreadable", %error, "the set-up cannot be checked");
            return;
        }
    };
    let mut found = judge::judge(seen, &setup, source, setup.wal_rate);
    found.retain(|one| one.severity == Severity::Warning);
    let known = status.source(|part| std::mem::replace(&mut part.warnings, found.clone()));
    for new in found.iter().filter(|warning| !known.contains(*warning)) {
        let Diagnosis { hint, command, .. } = new;
        tracing::warn!(event = "setup_warning", hint, command, "{new}");
    }
}

/// Whether a directory belongs to the cluster that was examined.
fn is_of(identity: &Identity, seen: &Seen) -> bool {
    matches!(&identity.source, SourceIdentity::Replication(source) if source.system_id == seen.server.system_id)
}

/// Compares the publication with its earlier state.
pub(super) fn observe(monitor: &Mutex<PublicationMonitor>, seen: &Seen, status: &Status) {
    let observed = monitor.lock().unwrap_or_else(PoisonError::into_inner).observe(seen);
    if let Some(Observed { differences, gone, missing }) = observed {
        meters::publication_changed(u64::try_from(differences).unwrap_or(u64::MAX));
        status.source(|part| (part.tables_gone, part.tables_missing) = (gone, missing));
    }
}

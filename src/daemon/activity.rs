//! Writes the [activity history](crate::buffer::activity) of a running daemon: once a minute it adds the
//! events since the last note, and forecasts when log and disk will be full.
//!
//! Nothing waits for it, and none of its errors stops anything. A history that cannot be read is renamed, and
//! a failed write is repeated a minute later. It has a thread of its own, so a slow disk delays neither loop.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::buffer::activity::{self, Activity, ActivityError, ActivityNote};
use crate::buffer::disk::Directory;
use crate::buffer::ledger::SharedLedger;
use crate::daemon::fill::FillForecast;
use crate::pipeline::status::{Status, TypeCounts};
use crate::time;

/// Interval of the notes.
const EVERY: Duration = Duration::from_mins(1);

/// The history of a running daemon, and what its next note needs.
#[derive(Debug)]
pub struct ActivityKeeper {
    directory: Directory,
    ledger: SharedLedger,
    status: Status,
    /// The history; `None` if a newer release wrote the file.
    activity: Option<Activity>,
    /// Events received and filtered up to the last note.
    noted: HashMap<String, TypeCounts>,
    at: Instant,
    /// Whether the last note could not be written.
    failing: bool,
    /// The forecasts, which are updated with each note.
    fill: FillForecast,
}

impl ActivityKeeper {
    /// Continues the history in the directory, or begins a new one.
    pub fn open(directory: Directory, ledger: SharedLedger, status: Status) -> Self {
        let counted = || ledger.lock().checkpoint().event_counts.clone();
        let activity = match activity::read(&directory) {
            Ok(Some(found)) => Some(found),
            Ok(None) => Some(Activity::beginning(counted())),
            Err(error @ ActivityError::Newer(_)) => {
                tracing::warn!(
                    event = "activity_not_kept", %error, file = activity::FILE_NAME,
                    hint = "Start the newer release, or delete the file.",
                    "the activity history is of a newer release; this release does not continue it"
                );
                None
            }
            Err(error) => {
                let kept = directory.put_aside(activity::FILE_NAME, "damaged");
                let kept = kept.map_or_else(|error| error.to_string(), |()| "activity.damaged".to_owned());
                tracing::warn!(
                    event = "activity_unreadable", %error, file = activity::FILE_NAME, kept,
                    "the activity history cannot be read; a new one begins"
                );
                Some(Activity::beginning(counted()))
            }
        };
        Self {
            directory,
            ledger,
            status,
            activity,
            noted: HashMap::new(),
            at: time::now(),
            failing: false,
            fill: FillForecast::default(),
        }
    }

    /// Adds a note once a minute until the sender sends or is dropped, and then a last one. Blocks: run it on
    /// a thread of its own.
    pub fn run(mut self, stop: &mpsc::Receiver<()>) {
        self.note();
        while let Err(mpsc::RecvTimeoutError::Timeout) = stop.recv_timeout(EVERY) {
            self.note();
        }
        self.note();
    }

    fn note(&mut self) {
        self.fill.look(&self.directory, &self.status);
        let Some(activity) = &mut self.activity else { return };
        let now = time::now();
        let (counted, backlog) = {
            let ledger = self.ledger.lock();
            let backlog = ledger.tail().mark.frame.0.saturating_sub(ledger.watermark().mark.frame.0);
            (ledger.checkpoint().event_counts.clone(), backlog)
        };
        let at = time::now_micros();
        let oldest = self.status.publish(|part| part.oldest).map_or(0, |oldest| at.saturating_sub(oldest));
        let noted = &mut self.noted;
        let received = self.status.received(|all| {
            let new = |(name, now): (&str, TypeCounts)| {
                let before = noted.insert(name.to_owned(), now).unwrap_or_default();
                let (received, filtered) = (now.received - before.received, now.filtered - before.filtered);
                (received + filtered > 0).then(|| (name.to_owned(), received, filtered))
            };
            all.iter().filter_map(new).collect()
        });
        let note = ActivityNote {
            at,
            seconds: now.duration_since(self.at).as_secs(),
            backlog,
            oldest: u64::try_from(oldest).unwrap_or_default() / 1_000_000,
            received,
        };
        self.at += Duration::from_secs(note.seconds);
        activity.note(&note, &counted);
        let written = activity::write(&self.directory, activity);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::warn!(
                event = "activity_not_written", %error, file = activity::FILE_NAME,
                "the activity history cannot be written; trying again every minute"
            );
        }
        self.failing = written.is_err();
    }
}

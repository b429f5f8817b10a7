//! Collects the facts of a report from a buffer directory.

use std::collections::BTreeMap;

use crate::buffer::activity::{self, Activity, ActivityError, ActivityPeriod};
use crate::buffer::checkpoint::{Checkpoint, CheckpointFile};
use crate::buffer::disk::{Directory, DirectoryLock};
use crate::buffer::unpublished::{self, ReadOut};
use crate::diagnosis::Diagnosis;
use crate::failure::Failure;
use crate::sink::lanes::{BeyondCounts, Start, UnpublishedCounts};

/// How often a report is started, because a daemon has deleted what was being read.
const ATTEMPTS: usize = 5;

/// The totals of one event type, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeTotals {
    /// Events received, whatever their outcome.
    pub received: u64,
    /// Row changes that rules have excluded.
    pub filtered: u64,
    /// Events acknowledged by the stream.
    pub published: u64,
    /// Events in the dead-letter file.
    pub quarantined: u64,
    /// Events in the log that are neither published nor quarantined.
    pub in_flight: u64,
    /// When the oldest change of these was committed, microseconds since the Unix epoch.
    pub oldest: Option<i64>,
}

impl TypeTotals {
    fn add(&mut self, other: Self) {
        self.received += other.received;
        self.filtered += other.filtered;
        self.published += other.published;
        self.quarantined += other.quarantined;
        self.in_flight += other.in_flight;
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }

    /// Number of events without an outcome, or (negative) counted twice. Anything but 0 is an error.
    const fn difference(&self) -> i128 {
        self.received as i128 - (self.published as i128 + self.quarantined as i128 + self.in_flight as i128)
    }
}

/// The data of a report.
#[derive(Clone, Debug, Default)]
pub struct EventReport {
    /// `name` of the configuration.
    pub name: String,
    /// The buffer directory.
    pub directory: String,
    /// The stream's name, if it is known.
    pub stream: Option<String>,
    /// Now, in microseconds since the Unix epoch.
    pub at: i64,
    /// The process that uses the directory.
    pub daemon: Option<String>,
    /// Totals per event type.
    pub types: BTreeMap<String, TypeTotals>,
    /// Hours that end after the requested time, oldest first.
    pub hours: Vec<ActivityPeriod>,
    /// The same for days.
    pub days: Vec<ActivityPeriod>,
    /// Totals that do not balance, and parts that could not be read.
    pub findings: Vec<Diagnosis>,
}

impl EventReport {
    /// The totals of all event types.
    pub fn sum(&self) -> TypeTotals {
        let mut sum = TypeTotals::default();
        self.types.values().for_each(|totals| sum.add(*totals));
        sum
    }

    /// Whether an event is unaccounted for.
    pub fn is_unbalanced(&self) -> bool {
        self.types.values().any(|totals| totals.difference() != 0)
    }
}

/// Reads a buffer directory. Hours and days that ended before `since` (microseconds since the Unix epoch) are
/// left out. `progress` receives the number of bytes to read, then of bytes read.
///
/// # Errors
/// The checkpoint or the log cannot be read.
pub fn read(
    directory: &Directory,
    (name, since, at): (&str, i64, i64),
    mut progress: impl FnMut(ReportProgress),
) -> Result<EventReport, Failure> {
    let mut report = EventReport {
        name: name.to_owned(),
        directory: directory.path().display().to_string(),
        at,
        daemon: DirectoryLock::holder(directory),
        ..EventReport::default()
    };
    let activity = match activity::read(directory) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            report.findings.push(unreadable(&error));
            Activity::default()
        }
    };
    for attempt in 1..=ATTEMPTS {
        // First the checkpoint, then the log: everything that is deleted from the log in the meantime is
        // published.
        let Some(checkpoint) = CheckpointFile::peek(directory)?.checkpoint else { break };
        let watermark = checkpoint.watermark.frame;
        let mut beyond = UnpublishedCounts::new(&start(&checkpoint));
        progress(ReportProgress::Total(unpublished::size(directory, watermark)?));
        let count = |frame: &crate::buffer::frame::Frame<'_>| {
            let head = frame.head();
            let committed = (head.transaction.time != 0).then_some(head.transaction.time);
            let records = frame.records().map(|record| (record.hash, record.event_type));
            beyond.count(head.number, committed, records);
        };
        let read_out = unpublished::read(directory, watermark, count, |bytes| {
            progress(ReportProgress::Read(bytes));
        })?;
        match read_out {
            ReadOut::Reclaimed if attempt < ATTEMPTS => continue,
            ReadOut::Reclaimed => report.findings.push(Diagnosis::warning(
                "log",
                "the daemon published faster than the log could be read; events in flight are incomplete",
            )),
            ReadOut::Damaged(frame) => report.findings.push(
                Diagnosis::warning(
                    "log",
                    format!("the log is damaged before frame {frame}; events in flight are incomplete"),
                )
                .with_command("forebay buffer verify"),
            ),
            ReadOut::Whole => {}
        }
        report.fill(&checkpoint, beyond.into_counts(), read_out == ReadOut::Whole);
        break;
    }
    for (name, filtered) in activity.filtered {
        report.types.entry(name).or_default().filtered = filtered;
    }
    let after = since.div_euclid(1_000_000);
    let within = |length: i64| move |period: &ActivityPeriod| period.start + length > after;
    report.hours = activity.hours.into_iter().filter(within(3_600)).collect();
    report.days = activity.days.into_iter().filter(within(86_400)).collect();
    Ok(report)
}

/// Progress of a report.
#[derive(Clone, Copy, Debug)]
pub enum ReportProgress {
    /// Number of bytes to read.
    Total(u64),
    /// Bytes that were read since the last call.
    Read(u64),
}

fn start(checkpoint: &Checkpoint) -> Start {
    Start {
        watermark: checkpoint.watermark,
        last_seen: checkpoint.last_seen,
        lanes: checkpoint.lanes.clone(),
        parts: checkpoint.lane_parts.clone(),
        acknowledged: checkpoint.acknowledged.clone(),
    }
}

fn unreadable(error: &ActivityError) -> Diagnosis {
    let hint = match error {
        ActivityError::Newer(_) => "Run `forebay report` of the newer release.",
        ActivityError::Damaged(_) | ActivityError::Disk(_) => {
            "The totals are complete. The next start puts the file aside and begins a new history."
        }
    };
    Diagnosis::warning("history", format!("hours and days are missing: {error}")).with_hint(hint)
}

impl EventReport {
    fn fill(&mut self, checkpoint: &Checkpoint, beyond: BTreeMap<String, BeyondCounts>, is_whole: bool) {
        self.stream = checkpoint.identity.stream.as_ref().map(|stream| stream.name.clone());
        // An earlier version did not count by lanes. Its counts are completed at the next start.
        let judged = is_whole
            && (checkpoint.counted_by_lane
                || (checkpoint.lanes.is_empty() && checkpoint.lane_parts.is_empty()));
        for (name, counted) in &checkpoint.event_counts {
            let received = if checkpoint.counted_by_lane {
                counted.received
            } else {
                counted.published + counted.quarantined
            };
            let totals = self.types.entry(name.clone()).or_default();
            (totals.received, totals.published, totals.quarantined) =
                (received, counted.published, counted.quarantined);
        }
        for (name, counts) in beyond {
            let totals = self.types.entry(name).or_default();
            totals.received += counts.received;
            (totals.in_flight, totals.oldest) = (counts.in_flight, counts.oldest);
        }
        if !judged {
            // Events whose outcome is unknown do not count as missing.
            for totals in self.types.values_mut() {
                let known = totals.published + totals.quarantined;
                totals.in_flight = totals.received.saturating_sub(known);
                totals.received = totals.received.max(known);
            }
            return;
        }
        for (name, totals) in self.types.iter().filter(|(_, totals)| totals.difference() != 0) {
            let difference = totals.difference();
            let fact = if difference > 0 {
                format!("{difference} events of {name} are neither published, quarantined nor in flight")
            } else {
                format!("{} events of {name} are counted twice", -difference)
            };
            let hint = "Compare what the consumers of this type have with the table, and report this with the output of \
                        `forebay buffer stat --json`.";
            self.findings.push(Diagnosis::blocker("event counts", fact).with_hint(hint));
        }
    }
}

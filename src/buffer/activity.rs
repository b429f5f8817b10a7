//! The activity history: counts of events by hour and by day, for `forebay report`. It is the file `activity`
//! in `buffer.dir`.
//!
//! Format, version 1:
//!
//! ```text
//! "FOREBAYA" · version u32 · CRC-32C of the content u32 · content
//! ```
//!
//! Numbers are little endian. The content is JSON: `counted` (per event type, the counts of the checkpoint up
//! to which published and quarantined events are in the history), `filtered` (per event type, all events that
//! rules have filtered), `hours` and `days` (periods, oldest first). A period has its `start` in seconds
//! since the Unix epoch (UTC), the `seconds` for which a daemon ran in it, the largest `backlog` in frames
//! and the `oldest` age of an unpublished change in seconds that were seen, and counts per event type.
//!
//! Published and quarantined events are differences of checkpoints, so their sums are exact even after a
//! kill. Received and filtered events are counted while they are received: after a kill, the last minute may
//! be missing or counted twice.
//!
//! The file is replaced as a whole, about once a minute. Nothing depends on it. A file that cannot be read is
//! renamed, and a file of a newer release is left unchanged.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use super::checkpoint::Totals;
use super::disk::{Directory, DiskError, failed};
use super::ledger::OTHER_TYPES;

/// Name of the file.
pub const FILE_NAME: &str = "activity";
const MAGIC: &[u8; 8] = b"FOREBAYA";
const VERSION: u32 = 1;
/// A larger file is not read: Forebay never writes one.
const SIZE_MAX: u64 = 32 << 20;
/// Hours kept: a week.
const HOURS_MAX: usize = 168;
/// Days kept: thirteen months.
const DAYS_MAX: usize = 400;
/// Most event types with counts of their own in one period. All others share one entry. The 568 periods with
/// this many types, at about 100 bytes each, stay below [`SIZE_MAX`].
const TYPES_MAX: usize = 256;
/// Length of an hour and of a day in seconds.
const LENGTHS: [i64; 2] = [3_600, 86_400];

/// Counts of one event type in one period. A dead letter that is retried is no longer quarantined, so a count
/// can be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActivityCounts {
    /// Events appended to the log.
    #[serde(skip_serializing_if = "is_zero")]
    pub received: i64,
    /// Row changes that a rule selects by table, and excludes by its conditions.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: i64,
    /// Events acknowledged by the stream.
    #[serde(skip_serializing_if = "is_zero")]
    pub published: i64,
    /// Events written to the dead-letter file.
    #[serde(skip_serializing_if = "is_zero")]
    pub quarantined: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl ActivityCounts {
    /// Adds the counts of `other`.
    pub const fn add(&mut self, other: Self) {
        self.received = self.received.saturating_add(other.received);
        self.filtered = self.filtered.saturating_add(other.filtered);
        self.published = self.published.saturating_add(other.published);
        self.quarantined = self.quarantined.saturating_add(other.quarantined);
    }
}

/// An hour or a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityPeriod {
    /// Its beginning in seconds since the Unix epoch.
    pub start: i64,
    /// Seconds for which a daemon ran in the period.
    pub seconds: u64,
    /// Most unpublished frames seen.
    pub backlog: u64,
    /// Highest age of an unpublished change seen, in seconds.
    pub oldest: u64,
    /// Counts by event type.
    pub types: BTreeMap<String, ActivityCounts>,
}

impl ActivityPeriod {
    /// Sums of all event types.
    pub fn sum(&self) -> ActivityCounts {
        let mut sum = ActivityCounts::default();
        self.types.values().for_each(|counts| sum.add(*counts));
        sum
    }
}

/// What happened since the previous note.
#[derive(Clone, Debug, Default)]
pub struct ActivityNote {
    /// Time of the note, microseconds since the Unix epoch.
    pub at: i64,
    /// Seconds since the previous note.
    pub seconds: u64,
    /// Unpublished frames.
    pub backlog: u64,
    /// Age of the oldest unpublished change in seconds.
    pub oldest: u64,
    /// Event type, events received and events filtered since the previous note.
    pub received: Vec<(String, u64, u64)>,
}

/// The whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// The part of the checkpoint's counts that the history includes.
    counted: BTreeMap<String, Totals>,
    /// All events that rules have filtered since the history began, by type.
    pub filtered: BTreeMap<String, u64>,
    /// By hour, oldest first.
    pub hours: Vec<ActivityPeriod>,
    /// By day, oldest first.
    pub days: Vec<ActivityPeriod>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivityError {
    /// It is damaged.
    #[error("the activity history is damaged: {0}")]
    Damaged(&'static str),
    /// A newer release wrote it.
    #[error("the activity history has the newer format version {0}")]
    Newer(u32),
    /// A disk operation failed.
    #[error("the activity history cannot be read")]
    Disk(#[from] DiskError),
}

impl Activity {
    /// A history that begins now. Events in `counted` came before it.
    pub fn beginning(counted: BTreeMap<String, Totals>) -> Self {
        Self { counted, ..Self::default() }
    }

    /// Adds what happened since the previous note. `counted` are the counts of the last written checkpoint.
    pub fn note(&mut self, note: &ActivityNote, counted: &BTreeMap<String, Totals>) {
        let mut types: BTreeMap<&str, ActivityCounts> = BTreeMap::new();
        for (name, received, filtered) in &note.received {
            let counts = types.entry(name).or_default();
            (counts.received, counts.filtered) = (signed(*received), signed(*filtered));
            if *filtered > 0 {
                let name = shared(&self.filtered, name);
                let all = self.filtered.entry(name.to_owned()).or_default();
                *all = all.saturating_add(*filtered);
            }
        }
        // After a damaged checkpoint was replaced, counts begin at zero again.
        let begun = self
            .counted
            .iter()
            .any(|(name, before)| before.published > counted.get(name).map_or(0, |totals| totals.published));
        if begun {
            self.counted.clear();
        }
        for (name, now) in counted {
            let before = self.counted.get(name).copied().unwrap_or_default();
            if *now != before {
                let counts = types.entry(name).or_default();
                counts.published = signed(now.published) - signed(before.published);
                counts.quarantined = signed(now.quarantined) - signed(before.quarantined);
            }
        }
        self.counted.clone_from(counted);
        let at = note.at.div_euclid(1_000_000);
        for (periods, length, most) in
            [(&mut self.hours, LENGTHS[0], HOURS_MAX), (&mut self.days, LENGTHS[1], DAYS_MAX)]
        {
            let start = at - at.rem_euclid(length);
            // If the clock was set back, the last period is continued.
            if periods.last().is_none_or(|last| last.start < start) {
                periods.push(ActivityPeriod { start, ..ActivityPeriod::default() });
            }
            let surplus = periods.len().saturating_sub(most);
            periods.drain(..surplus);
            let Some(period) = periods.last_mut() else { continue };
            period.seconds = period.seconds.saturating_add(note.seconds);
            period.backlog = period.backlog.max(note.backlog);
            period.oldest = period.oldest.max(note.oldest);
            for (name, counts) in types.iter().filter(|(_, counts)| **counts != ActivityCounts::default()) {
                let name = shared(&period.types, name).to_owned();
                period.types.entry(name).or_default().add(*counts);
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let content = serde_json::to_vec(self);
        debug_assert!(content.is_ok(), "a history has text keys only");
        let content = content.unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&content).to_le_bytes());
        bytes.extend_from_slice(&content);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, ActivityError> {
        let damaged = ActivityError::Damaged;
        let rest = bytes.strip_prefix(MAGIC).ok_or(damaged("it does not begin as one"))?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(damaged("it is cut off"))?;
        let version = u32::from_le_bytes(*version);
        if version > VERSION {
            return Err(ActivityError::Newer(version));
        }
        let (checksum, content) = rest.split_first_chunk::<4>().ok_or(damaged("it is cut off"))?;
        if version != VERSION || crc32c::crc32c(content).to_le_bytes() != *checksum {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_slice(content).map_err(|_| damaged("its content is not that of a history"))
    }
}

/// The name under which a type is counted: its own, or the shared one if the limit of names is reached.
fn shared<'a, T>(counts: &BTreeMap<String, T>, name: &'a str) -> &'a str {
    if counts.len() < TYPES_MAX || counts.contains_key(name) { name } else { OTHER_TYPES }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads the history; `None` if there is no file yet.
///
/// # Errors
/// See [`ActivityError`].
pub fn read(directory: &Directory) -> Result<Option<Activity>, ActivityError> {
    let file = match directory.open_to_read(FILE_NAME) {
        Err(error) if error.is_missing() => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    let read = file.take(SIZE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(failed("read", &directory.path_of(FILE_NAME)))?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(ActivityError::Damaged("it is larger than any that Forebay writes"));
    }
    Activity::decode(&bytes).map(Some)
}

/// Replaces the history. After a kill or a power cut the file is the old or the new one.
///
/// # Errors
/// The operating system refuses.
pub fn write(directory: &Directory, activity: &Activity) -> Result<(), DiskError> {
    let written = directory.replace(FILE_NAME, &activity.encode()).map(drop);
    if written.is_err() {
        // On a full disk, the space is needed for the log.
        drop(directory.remove(&format!("{FILE_NAME}.new")));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn totals(received: u64, published: u64, quarantined: u64) -> Totals {
        Totals { received, published, quarantined }
    }

    fn counts(text: &str, counted: Totals) -> BTreeMap<String, Totals> {
        BTreeMap::from([(text.to_owned(), counted)])
    }

    fn note(at: i64, received: &[(&str, u64, u64)]) -> ActivityNote {
        let received =
            received.iter().map(|(name, received, filtered)| ((*name).to_owned(), *received, *filtered));
        ActivityNote { at, seconds: 60, backlog: 3, oldest: 7, received: received.collect() }
    }

    #[test]
    fn hours_and_days_have_the_differences() {
        let mut activity = Activity::beginning(counts("a", totals(5, 4, 1)));
        activity.note(&note(10 * HOUR, &[("a", 3, 2)]), &counts("a", totals(7, 6, 1)));
        // A dead letter was retried: it is published and no longer quarantined.
        activity.note(&note(11 * HOUR + 1, &[("b", 1, 0)]), &counts("a", totals(7, 7, 0)));
        let at = |period: &ActivityPeriod| (period.start, period.seconds, period.sum());
        let first = ActivityCounts { received: 3, filtered: 2, published: 2, quarantined: 0 };
        let second = ActivityCounts { received: 1, filtered: 0, published: 1, quarantined: -1 };
        let hours: Vec<_> = activity.hours.iter().map(at).collect();
        assert_eq!(hours, [(36_000, 60, first), (39_600, 60, second)]);
        let mut day = first;
        day.add(second);
        assert_eq!(activity.days.iter().map(at).collect::<Vec<_>>(), [(0, 120, day)]);
        assert_eq!(activity.filtered, BTreeMap::from([("a".to_owned(), 2)]));
        // A clock that was set back does not begin a period. Counts that begin at zero again are added as a
        // whole.
        activity.note(&note(2 * HOUR, &[]), &counts("a", totals(1, 1, 0)));
        assert_eq!(activity.hours.len(), 2);
        assert_eq!(activity.hours[1].types["a"].published, 2);
    }

    #[test]
    fn history_is_bounded() {
        let mut activity = Activity::default();
        let types: Vec<(String, u64, u64)> = (0..1_000).map(|n| (format!("type {n}"), 1, 1)).collect();
        for hour in 0..500 * 24 {
            let received = if hour > 490 * 24 { types.clone() } else { Vec::new() };
            let note = ActivityNote { at: hour * HOUR, received, ..ActivityNote::default() };
            activity.note(&note, &BTreeMap::new());
        }
        assert_eq!((activity.hours.len(), activity.days.len()), (HOURS_MAX, DAYS_MAX));
        assert_eq!(activity.hours[HOURS_MAX - 1].types.len(), TYPES_MAX + 1);
        assert_eq!(activity.hours[HOURS_MAX - 1].sum().received, 1_000);
        assert_eq!(activity.filtered.len(), TYPES_MAX + 1);
        let largest = activity.encode().len() / (HOURS_MAX + 10) * (HOURS_MAX + DAYS_MAX);
        assert!((largest as u64) < SIZE_MAX, "{largest}");
    }

    #[test]
    fn flipped_bit_and_cut_are_found() {
        let mut activity = Activity::default();
        activity.note(&note(HOUR, &[("a", 1, 1)]), &counts("a", totals(1, 1, 0)));
        let whole = activity.encode();
        assert_eq!(Activity::decode(&whole).unwrap(), activity);
        for length in 0..whole.len() {
            assert!(matches!(Activity::decode(&whole[..length]), Err(ActivityError::Damaged(_))), "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Activity::decode(&bytes).is_err(), "bit {bit}");
        }
        let mut newer = whole;
        newer[8] = 2;
        assert!(matches!(Activity::decode(&newer), Err(ActivityError::Newer(2))));
    }
}

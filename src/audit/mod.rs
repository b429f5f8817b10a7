//! `forebay audit`: compares a table with the events that were published about it.
//!
//! All rows are read in one snapshot at an exact position of the write-ahead log; a temporary replication
//! slot provides both. Each row is translated as the daemon would translate it, so that its values have the
//! form that they have in events. The events come from an archive, from the stream, or from both; those after
//! the position are not compared. Rows and events are sorted by key on disk, so that memory is bounded. Of
//! values, only digests are stored.
//!
//! Nothing is written to the database, the stream or the archive.

mod compare;
mod entry;
mod line;
mod objects;
mod rows;
mod scope;
mod sorter;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::config::{Config, TableName};
use crate::failure::Failure;
use crate::sink::kinesis::Settings;
use crate::sink::kinesis::read::bucket::Bucket;
use crate::sink::kinesis::read::stream::StreamReader;

pub use self::compare::{Difference, DifferenceKind, ScopeCounts};

use self::compare::{AuditQuestion, KeyComparison, Until};
use self::entry::{EntryKind, FieldNames};
use self::line::EventLine;
use self::objects::{Archive, ObjectsRead};
use self::rows::{AuditedTable, RowsRead};
use self::scope::AuditScope;
use self::sorter::Sorter;

/// Pause between two searches for new objects.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How many truncations of a table are remembered. Only the newest one before the position matters.
const TRUNCATIONS_MAX: usize = 10_000;

/// The request of an audit.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `schema.table`.
    pub table: String,
    /// `s3://bucket`, `s3://bucket/prefix`, or a directory.
    pub archive: Option<String>,
    /// Another endpoint of S3.
    pub s3_endpoint: Option<String>,
    /// Whether to read the stream as well.
    pub stream: bool,
    /// The caller knows that the stream has an event of every row.
    pub complete: bool,
    /// The caller knows that no UPDATE changes a key of the table.
    pub fixed_keys: bool,
    /// How long to wait for objects that Firehose has not written yet, before differences are reported.
    pub wait: Duration,
    /// How many keys to list of each kind of difference.
    pub list: usize,
    /// Directory of temporary files.
    pub temp: PathBuf,
    /// Memory for sorting, in bytes.
    pub memory: usize,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    /// Whether there is no difference.
    pub agrees: bool,
    /// The table.
    pub table: String,
    /// CloudEvents source of the events.
    pub source: String,
    /// The snapshot shows the transactions that commit before this position.
    pub position: String,
    /// The newest epoch of the events.
    pub epoch: u16,
    /// Rows read.
    pub rows: u64,
    /// Rows that cannot be translated. The daemon would write a dead letter for each.
    pub untranslatable: u64,
    /// Events of the table, repeats included.
    pub events: u64,
    /// Events among them that are after the position.
    pub later: u64,
    /// Lines that are not events of Forebay.
    pub other_lines: u64,
    /// Objects of the archive.
    pub objects: u64,
    /// Commit time of the newest event of this source, of any table.
    pub newest: String,
    /// The counts of each scope.
    pub scopes: Vec<ScopeCounts>,
    /// Keys that differ, the first of each kind.
    pub differences: Vec<Difference>,
    /// Why some events or fields cannot be compared.
    pub notes: Vec<String>,
}

/// The events that were read.
#[derive(Debug)]
struct EventsRead {
    scopes: Vec<AuditScope>,
    source: String,
    names: FieldNames,
    sorter: Sorter,
    truncated: BTreeSet<u128>,
    epoch: u16,
    events: u64,
    other_lines: u64,
    newest: String,
    objects: ObjectsRead,
}

impl EventsRead {
    /// Processes a line of the archive or of the stream.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let Ok(event) = serde_json::from_slice::<EventLine<'_>>(line) else {
            self.other_lines += u64::from(!line.trim_ascii().is_empty());
            return Ok(());
        };
        let Some(order) = event.order().filter(|_| event.source == self.source) else {
            self.other_lines += 1;
            return Ok(());
        };
        self.epoch = self.epoch.max(u16::try_from(order >> 112).unwrap_or_default());
        if event.recorded() > self.newest.as_str() {
            event.recorded().clone_into(&mut self.newest);
        }
        for (group, scope) in self.scopes.iter().enumerate() {
            if scope.is_truncation(&event.event_type) {
                self.events += 1;
                self.truncated.insert(order);
                if self.truncated.len() > TRUNCATIONS_MAX {
                    self.truncated.pop_first();
                }
            }
            let Some(kind) = scope.kind(&event.event_type) else { continue };
            self.events += 1;
            let entry =
                u8::try_from(group).ok().and_then(|group| self.names.entry(group, kind, &event, line));
            self.sorter
                .push(entry.ok_or_else(|| io::Error::other("the events have more than 65,535 fields"))?)?;
        }
        Ok(())
    }

    /// Adds the event that a row would make.
    fn row(&mut self, event_type: &str, line: &[u8]) -> Result<(), Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::stop(format!("a row cannot be kept: {error}"));
        let event: EventLine<'_> = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
        for (group, scope) in self.scopes.iter().enumerate() {
            if scope.kind(event_type).is_some() {
                let group = u8::try_from(group).map_err(|error| wrong(&error))?;
                let entry = self.names.entry(group, EntryKind::Row, &event, line);
                let entry = entry.ok_or_else(|| wrong(&"the events have more than 65,535 fields"))?;
                self.sorter.push(entry).map_err(|error| wrong(&error))?;
            }
        }
        Ok(())
    }
}

async fn archive(kinesis: &Settings, wanted: &Wanted) -> Result<Option<Archive>, Failure> {
    Ok(match wanted.archive.as_deref() {
        Some(location) if location.starts_with("s3://") => {
            let bucket = Bucket::open(kinesis, location, wanted.s3_endpoint.as_deref()).await;
            Some(Archive::Bucket(Box::new(bucket.map_err(Failure::stop)?)))
        }
        Some(directory) => Some(Archive::Directory(directory.into())),
        None => None,
    })
}

/// Runs an audit. `note` is called with a description of each step.
///
/// # Errors
/// The table, the archive or the stream cannot be read.
pub async fn run(
    config: &Config,
    wanted: &Wanted,
    mut note: impl FnMut(&str),
) -> Result<AuditReport, Failure> {
    let name = TableName::parse(&wanted.table).map_err(Failure::stop)?;
    let kinesis = Settings::from(&config.kinesis);
    let archive = archive(&kinesis, wanted).await?;
    let stream =
        if wanted.stream { Some(StreamReader::open(&kinesis).await.map_err(Failure::stop)?) } else { None };
    let mut table = AuditedTable::look(config, name).await?;
    let (mut scopes, mut notes) = scope::scopes(&table.translator, &table.relation);
    if !table.sends_updates || !table.sends_deletes {
        notes.push(
            "the publication omits updates or deletes: what they would change is not compared".to_owned(),
        );
    }
    for scope in &mut scopes {
        scope.values &= table.sends_updates;
        scope.deletes &= table.sends_deletes;
    }
    if scopes.is_empty() {
        let why = notes.join("\n  detail: ");
        return Err(Failure::stop(format!(
            "{} has no events that can be compared\n  detail: {why}",
            wanted.table
        )));
    }
    let mut read = EventsRead {
        scopes,
        source: config.source_urn(),
        names: FieldNames::default(),
        sorter: Sorter::new(&wanted.temp, wanted.memory),
        truncated: BTreeSet::new(),
        epoch: 0,
        events: 0,
        other_lines: 0,
        newest: String::new(),
        objects: ObjectsRead::default(),
    };
    note("reading the table in one snapshot; its position waits for running transactions");
    let rows = table.read(|event_type, line| read.row(event_type, line)).await?;
    note(&format!("{} rows at position {}; reading events", rows.rows, rows.position));
    if let Some(stream) = &stream {
        let mut take = |data: &[u8]| {
            let mut lines = data.split_inclusive(|byte| *byte == b'\n');
            lines.try_for_each(|line| read.line(line)).map_err(|error| error.to_string())
        };
        stream.read(&mut take).await.map_err(Failure::stop)?;
    }
    let deadline = Instant::now() + wanted.wait;
    loop {
        if let Some(archive) = &archive {
            // Moved out of `read`, so that the closure can borrow `read` while objects are read.
            let mut objects = std::mem::take(&mut read.objects);
            let done = archive.read(&mut objects, |line| read.line(line)).await;
            read.objects = objects;
            done.map_err(Failure::stop)?;
        }
        let report = compare(&mut read, wanted, rows, &notes)?;
        if report.agrees || archive.is_none() || Instant::now() >= deadline {
            return Ok(report);
        }
        note("differences; waiting for objects that are still to come");
        sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

fn compare(
    read: &mut EventsRead,
    wanted: &Wanted,
    rows: RowsRead,
    notes: &[String],
) -> Result<AuditReport, Failure> {
    let mut comparison = KeyComparison::new(AuditQuestion {
        scopes: &read.scopes,
        names: &read.names,
        until: Until { epoch: read.epoch, commit: rows.position.get() },
        truncated: &read.truncated,
        complete: wanted.archive.is_some() || wanted.complete,
        fixed_keys: wanted.fixed_keys,
        list: wanted.list,
    });
    let sorted = read.sorter.read(|entry| {
        comparison.take(entry);
        Ok(())
    });
    sorted
        .map_err(|error| Failure::stop(format!("temporary files in {}: {error}", wanted.temp.display())))?;
    let (scopes, differences, later) = comparison.finish();
    Ok(AuditReport {
        agrees: scopes.iter().all(|counts| counts.differences.is_empty()),
        table: wanted.table.clone(),
        source: read.source.clone(),
        position: rows.position.to_string(),
        epoch: read.epoch,
        rows: rows.rows,
        untranslatable: rows.untranslatable,
        events: read.events,
        later,
        other_lines: read.other_lines,
        objects: read.objects.objects,
        newest: read.newest.clone(),
        scopes,
        differences,
        notes: notes.to_vec(),
    })
}

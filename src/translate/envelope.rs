//! The envelope: CloudEvents 1.0, structured JSON, one event is one line.
//!
//! ```json
//! {"specversion":"1.0","id":"…","source":"urn:forebay:lab","type":"lab.plates.inserted.v1","subject":"PLT-7",
//!  "time":"…","recordedtime":"…","partitionkey":"PLT-7","sequence":"…","data":{…}}
//! ```
//!
//! (on one line, ending in `\n`, so that what Firehose concatenates is still JSON lines).
//!
//! - `id`: see `id.rs`; of an outbox's row, the id is the row's.
//! - `sequence`: `{epoch:04X}{commit:016X}{index:08X}{part:04X}`; sorts as text within a source.
//! - `time`, `recordedtime`: commit time. No wall clock: a repeat is byte-identical.
//! - `correlationid`, `traceparent`, `user`: only if the transaction has said so before, see `context.rs`; in this order.
//! - `unavailable`: names of the columns whose unchanged TOASTed value the server did not send, separated by commas and
//!   quoted as SQL identifiers are; left out when there are none.

use crate::change::Place;

use super::id::{Ids, MadeId, hex};
use super::time::write_rfc3339;
use super::{TransactionContext, json};

/// Longest partition key in UTF-16 units, as Kinesis counts.
const PARTITION_KEY_MAX: usize = 256;

/// What all events of a source share, and the buffers to build one in.
#[derive(Debug)]
pub struct Envelope {
    source: String,
    epoch: u16,
    ids: Ids,
    /// What the transaction has said of itself, as members of the event; empty: nothing.
    context: Vec<u8>,
    /// Of the commit time last written, which all changes of a transaction share.
    committed: Committed,
}

/// A commit time as the envelope writes it.
#[derive(Debug)]
struct Committed {
    time: i64,
    /// `,"time":"…`
    own: Vec<u8>,
    /// `","recordedtime":"…","partitionkey":`
    recorded: Vec<u8>,
}

/// What one event says of itself, beside its data.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Everything from `","source":` to `"subject":`, prepared once per type by [`type_attributes`].
    pub attributes: &'a [u8],
    /// The entity; `None`: the event id, for tables without a key.
    pub subject: Option<&'a str>,
    /// When it happened, RFC 3339; `None`: when it was committed.
    pub time: Option<&'a [u8]>,
    /// Where the change stands.
    pub place: Place,
    /// Ordinal of the event among its change's events.
    pub part: u16,
}

/// The id of an event.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    /// Made of where the change stands, or of its key.
    Made(MadeId),
    /// Given by the rule, or by the application.
    Given(&'a str),
}

/// What is only known once the id is: the id can be the key.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    /// The event's id.
    pub id: Id<'a>,
    /// Partition key.
    pub key: &'a str,
    /// Columns whose value the server did not send; empty if there are none.
    pub unavailable: &'a str,
}

impl Envelope {
    /// Of this source, in this epoch.
    pub fn new(source: &str, epoch: u16) -> Self {
        Self {
            source: source.to_owned(),
            epoch,
            ids: Ids::new(source),
            context: Vec::new(),
            committed: Committed { time: i64::MIN, own: Vec::new(), recorded: Vec::new() },
        }
    }

    /// The CloudEvents source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What all events from here on say of their transaction.
    pub fn set_context(&mut self, context: Option<&TransactionContext>) {
        self.context.clear();
        if let Some(context) = context {
            context.write_members(&mut self.context, true);
        }
    }

    /// What makes the ids of its events.
    pub const fn ids(&mut self) -> &mut Ids {
        &mut self.ids
    }

    /// Appends everything up to and including `"data":`. What follows is the data, `}` and a line feed.
    pub fn write(&mut self, out: &mut Vec<u8>, head: &Head<'_>, rest: &Rest<'_>) {
        let &Rest { id, key, unavailable } = rest;
        self.committed.at(head.place.transaction.time);
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":");
        match id {
            Id::Made(id) => {
                out.push(b'"');
                out.extend_from_slice(id.text().as_bytes());
                out.push(b'"');
            }
            Id::Given(id) => json::write_string(out, id),
        }
        out.extend_from_slice(head.attributes);
        // CloudEvents: a subject is not empty.
        let subject = head.subject.filter(|subject| !subject.is_empty()).unwrap_or(key);
        let subject_start = out.len();
        json::write_string(out, subject);
        let subject_end = out.len();
        if let Some(time) = head.time {
            out.extend_from_slice(b",\"time\":\"");
            out.extend_from_slice(time);
        } else {
            out.extend_from_slice(&self.committed.own);
        }
        out.extend_from_slice(&self.committed.recorded);
        if std::ptr::eq(key, subject) {
            out.extend_from_within(subject_start..subject_end);
        } else {
            json::write_string(out, key);
        }
        out.extend_from_slice(b",\"sequence\":\"");
        let position = head.place.position(self.epoch);
        let (epoch, commit) = (u64::from(position.epoch), position.commit.get());
        // Two, eight, four and two bytes.
        let high = (epoch << 48) | (commit >> 16);
        let low = (commit << 48) | (u64::from(position.index) << 16) | u64::from(head.part);
        for half in [high, low] {
            let (first, second) = hex(half, b'A');
            out.extend_from_slice(&first);
            out.extend_from_slice(&second);
        }
        out.push(b'"');
        out.extend_from_slice(&self.context);
        if !unavailable.is_empty() {
            out.extend_from_slice(b",\"unavailable\":");
            json::write_string(out, unavailable);
        }
        out.extend_from_slice(b",\"data\":");
    }

    /// The epoch of the positions it writes.
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }
}

/// The part of the envelope that is the same for all events of a type, see [`Head::attributes`]. `dataschema`: the address of
/// its schema.
pub fn type_attributes(source: &str, event_type: &str, dataschema: Option<&str>) -> Vec<u8> {
    let mut out = b",\"source\":".to_vec();
    json::write_string(&mut out, source);
    out.extend_from_slice(b",\"type\":");
    json::write_string(&mut out, event_type);
    if let Some(dataschema) = dataschema {
        out.extend_from_slice(b",\"dataschema\":");
        json::write_string(&mut out, dataschema);
    }
    out.extend_from_slice(b",\"subject\":");
    out
}

/// The same for an event that is deprecated: CloudEvents' deprecation extension, with days as points in time.
pub fn deprecated_attributes(
    source: &str,
    event_type: &str,
    dataschema: Option<&str>,
    (since, sunset): (&str, Option<&str>),
) -> Vec<u8> {
    let mut out = type_attributes(source, event_type, dataschema);
    let subject = b",\"subject\":".len();
    out.truncate(out.len() - subject);
    out.extend_from_slice(b",\"deprecated\":true,\"deprecationfrom\":\"");
    out.extend_from_slice(since.as_bytes());
    out.extend_from_slice(b"T00:00:00Z\"");
    if let Some(sunset) = sunset {
        out.extend_from_slice(b",\"deprecationsunset\":\"");
        out.extend_from_slice(sunset.as_bytes());
        out.extend_from_slice(b"T00:00:00Z\"");
    }
    out.extend_from_slice(b",\"subject\":");
    out
}

/// Adds a name to the list of `unavailable`: with a comma in between, quoted as SQL identifiers are where it would need it.
pub fn push_name(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.bytes().all(plain) {
        out.push_str(name);
    } else {
        out.push('"');
        out.push_str(&name.replace('"', "\"\""));
        out.push('"');
    }
}

/// The Kinesis partition key for a subject: the subject itself, or, if Kinesis would not take it (empty, or longer than
/// 256 characters), the hex SHA-256 of it.
pub fn partition_key<'a>(subject: &'a str, scratch: &'a mut String) -> &'a str {
    use sha2::{Digest as _, Sha256};
    let fits = subject.len() <= PARTITION_KEY_MAX || subject.encode_utf16().count() <= PARTITION_KEY_MAX;
    if fits && !subject.is_empty() {
        return subject;
    }
    let digest: [u8; 32] = Sha256::digest(subject.as_bytes()).into();
    scratch.clear();
    for byte in digest {
        for digit in [byte >> 4, byte & 15] {
            scratch.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
        }
    }
    scratch
}

impl Committed {
    fn at(&mut self, time: i64) {
        if self.time == time {
            return;
        }
        self.time = time;
        self.own.clear();
        self.own.extend_from_slice(b",\"time\":\"");
        write_rfc3339(&mut self.own, time);
        self.recorded.clear();
        self.recorded.extend_from_slice(b"\",\"recordedtime\":\"");
        write_rfc3339(&mut self.recorded, time);
        self.recorded.extend_from_slice(b"\",\"partitionkey\":");
    }
}

/// Appends a whole number in decimal.
pub(super) fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests;

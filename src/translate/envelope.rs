//! The envelope: CloudEvents 1.0 in structured JSON mode, one event per line.
//!
//! ```json
//! {"specversion":"1.0","id":"…","source":"urn:forebay:lab","type":"lab.plates.inserted.v1","subject":"PLT-7",
//!  "time":"…","recordedtime":"…","partitionkey":"PLT-7","sequence":"…","data":{…}}
//! ```
//!
//! The real form is one line that ends in `\n`, so that records concatenated by Firehose are still JSON
//! lines.
//!
//! - `id`: a UUID computed by `id.rs`, or the id of the outbox row.
//! - `sequence`: `{epoch:04X}{commit:016X}{index:08X}{part:04X}`; sorts as text within a source.
//! - `dataschema`, `deprecated`, `deprecationfrom`, `deprecationsunset`: between `type` and `subject`, if the
//!   type has them.
//! - `time`, `recordedtime`: commit time. No wall clock: a repeat is byte-identical.
//! - `correlationid`, `traceparent`, `user`, `origin`: the transaction context (`context.rs`), in this order;
//!   left out when not set.
//! - `unavailable`: columns whose unchanged TOASTed value the server did not send, separated by commas and
//!   quoted as SQL identifiers; left out when there are none.

use crate::change::ChangePlace;

use super::context::TransactionContext;
use super::id::{Ids, MadeId, hex};
use crate::json;
use crate::time::write_rfc3339;

/// Longest partition key in UTF-16 units, as the destination counts.
const PARTITION_KEY_MAX: usize = 256;

/// The parts that all events of a source share, and buffers.
#[derive(Debug)]
pub struct Envelope {
    source: String,
    epoch: u16,
    ids: Ids,
    /// The transaction context as JSON members; empty if there is none.
    context: Vec<u8>,
    /// The commit time last written. All changes of a transaction share it.
    committed: Committed,
}

/// A formatted commit time, with the JSON around it.
#[derive(Debug)]
struct Committed {
    time: i64,
    /// `,"time":"…`
    own: Vec<u8>,
    /// `","recordedtime":"…","partitionkey":`
    recorded: Vec<u8>,
}

/// The attributes of one event, besides its id and data.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Everything from `","source":` to `"subject":`, written once per type by [`type_attributes`].
    pub attributes: &'a [u8],
    /// The entity. `None`: the event id, for tables without a key.
    pub subject: Option<&'a str>,
    /// When the event happened, in RFC 3339. `None`: the commit time.
    pub time: Option<&'a [u8]>,
    /// Position of the change.
    pub place: ChangePlace,
    /// Index of the event among its change's events.
    pub part: u16,
}

/// The id of an event.
#[derive(Clone, Copy, Debug)]
pub enum EventId<'a> {
    /// Computed from the change's position or the row's key.
    Made(MadeId),
    /// Given by the rule or the application.
    Given(&'a str),
}

/// The attributes that depend on the id, because the key defaults to the id.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    /// The event's id.
    pub id: EventId<'a>,
    /// Partition key.
    pub key: &'a str,
    /// Columns whose value the server did not send; empty if there are none.
    pub unavailable: &'a str,
}

impl Envelope {
    /// For this source and epoch.
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

    /// Sets the transaction context of all events from here on.
    pub fn set_context(&mut self, context: Option<&TransactionContext>) {
        self.context.clear();
        if let Some(context) = context {
            context.write_members(&mut self.context, true);
        }
    }

    /// Computes the ids of the events.
    pub const fn ids(&mut self) -> &mut Ids {
        &mut self.ids
    }

    /// Appends everything up to and including `"data":`. The caller appends the data, `}` and a line feed.
    pub fn write(&mut self, out: &mut Vec<u8>, head: &Head<'_>, rest: &Rest<'_>) {
        let &Rest { id, key, unavailable } = rest;
        self.committed.at(head.place.transaction.time);
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":");
        match id {
            EventId::Made(id) => {
                out.push(b'"');
                out.extend_from_slice(id.text().as_bytes());
                out.push(b'"');
            }
            EventId::Given(id) => json::write_string(out, id),
        }
        out.extend_from_slice(head.attributes);
        // CloudEvents does not allow an empty subject.
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
        // Groups of two, eight, four and two bytes.
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

    /// Epoch of the positions.
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }
}

/// The constant part of the envelope for an event type, for [`Head::attributes`]. `dataschema` is the address
/// of its schema.
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

/// The constant part for a deprecated event: CloudEvents' deprecation extension, with days written as points
/// in time.
pub fn deprecated_attributes(
    source: &str,
    event_type: &str,
    dataschema: Option<&str>,
    since: &str,
    sunset: Option<&str>,
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

/// Appends a name to the list in `unavailable`, after a comma if needed, quoted as an SQL identifier where
/// necessary.
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

/// The partition key for a subject: the subject itself, or its SHA-256 in hex if the destination would refuse
/// it (empty, or longer than 256 UTF-16 units).
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

#[cfg(test)]
mod tests;

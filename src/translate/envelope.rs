//! The envelope: CloudEvents 1.0, structured JSON, one event is one line.
//!
//! ```json
//! {"specversion":"1.0","id":"…","source":"urn:forebay:lab","type":"lab.plates.inserted.v1","subject":"PLT-7",
//!  "time":"…","recordedtime":"…","partitionkey":"PLT-7","sequence":"…","data":{…}}
//! ```
//!
//! (on one line, ending in `\n`, so that what Firehose concatenates is still JSON lines).
//!
//! - `id`: `UUIDv5` in the namespace `UUIDv5(URL, source)`, over `<type>|wal|<commit µs>|<xid>|<lsn, 16 hex digits>|<n>`,
//!   where n counts the changes of one kind that share an LSN; from the second event of one type on, `|<ordinal>` follows.
//!   Of a logical message, `|msg|` stands for `|wal|`; of an outbox's row, the id is the row's.
//! - `sequence`: `{epoch:04X}{commit:016X}{index:08X}{part:04X}`; sorts as text within a source.
//! - `time`, `recordedtime`: commit time. No wall clock: a repeat is byte-identical.
//! - `correlationid`, `traceparent`, `user`: only if the transaction has said so before, see `context.rs`; in this order.
//! - `unavailable`: names of the columns whose unchanged TOASTed value the server did not send, separated by commas and
//!   quoted as SQL identifiers are; left out when there are none.

use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::change::Place;
use crate::position::Transaction;

use super::time::write_rfc3339;
use super::{TransactionContext, json};

/// Longest partition key in UTF-16 units, as Kinesis counts.
const PARTITION_KEY_MAX: usize = 256;

/// What all events of a source share, and the buffers to build one in.
#[derive(Debug)]
pub struct Envelope {
    source: String,
    namespace: Uuid,
    epoch: u16,
    identity: Vec<u8>,
    /// What the transaction has said of itself, as members of the event; empty: nothing.
    context: Vec<u8>,
    /// Of the commit time last written, which all changes of a transaction share.
    committed: Committed,
    /// Beginnings of ids, the last few.
    begun: Vec<Begun>,
    /// Which of them goes next.
    oldest: usize,
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

/// The hash of an id as far as all changes of a transaction share it.
#[derive(Debug)]
struct Begun {
    transaction: Transaction,
    kind: &'static [u8],
    event_type: String,
    hash: Sha1,
}

/// Beginnings kept: a transaction has few event types, as a rule.
const BEGUN_MAX: usize = 4;

/// What one event says of itself, beside its data.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The event's type.
    pub event_type: &'a str,
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
    /// Ordinal among its change's events of the same type.
    pub ordinal: u16,
}

/// What is only known once the id is: the id can be the key.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    /// The event's id.
    pub id: &'a str,
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
            namespace: uuid_v5(&Uuid::NAMESPACE_URL, source.as_bytes()),
            epoch,
            identity: Vec::new(),
            context: Vec::new(),
            committed: Committed { time: i64::MIN, own: Vec::new(), recorded: Vec::new() },
            begun: Vec::with_capacity(BEGUN_MAX),
            oldest: 0,
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

    /// The event's id.
    pub fn id(&mut self, head: &Head<'_>) -> [u8; 36] {
        self.id_of_place(head, b"|wal|")
    }

    /// The id of an event that a logical message is; a message and the change behind it share an LSN.
    pub fn id_of_message(&mut self, head: &Head<'_>) -> [u8; 36] {
        self.id_of_place(head, b"|msg|")
    }

    fn id_of_place(&mut self, head: &Head<'_>, kind: &'static [u8]) -> [u8; 36] {
        let Place { lsn, nth, .. } = head.place;
        let hash = self.begun(head, kind);
        let id = &mut self.identity;
        id.clear();
        id.extend_from_slice(&hex(lsn.get()));
        id.push(b'|');
        write_integer(id, i64::from(nth));
        self.hashed_with(hash, head.ordinal)
    }

    /// The hash of everything before the LSN.
    fn begun(&mut self, head: &Head<'_>, kind: &'static [u8]) -> Sha1 {
        let transaction = head.place.transaction;
        let is_it = |begun: &&Begun| {
            begun.transaction == transaction && begun.kind == kind && begun.event_type == head.event_type
        };
        if let Some(begun) = self.begun.iter().find(is_it) {
            return begun.hash.clone();
        }
        let id = &mut self.identity;
        id.clear();
        id.extend_from_slice(head.event_type.as_bytes());
        id.extend_from_slice(kind);
        write_integer(id, transaction.time);
        id.push(b'|');
        write_integer(id, i64::from(transaction.xid));
        id.push(b'|');
        let hash = Sha1::new_with_prefix(self.namespace).chain_update(&*id);
        if self.begun.len() < BEGUN_MAX {
            let event_type = head.event_type.to_owned();
            self.begun.push(Begun { transaction, kind, event_type, hash: hash.clone() });
        } else if let Some(begun) = self.begun.get_mut(self.oldest) {
            (begun.transaction, begun.kind) = (transaction, kind);
            begun.event_type.clear();
            begun.event_type.push_str(head.event_type);
            begun.hash.clone_from(&hash);
            self.oldest = (self.oldest + 1) % BEGUN_MAX;
        }
        hash
    }

    /// The id of what happens once to a row, whatever change tells of it: over `<type>|key|<schema.table>|<key as JSON>`.
    pub fn id_of_key(&mut self, head: &Head<'_>, table: &str, key: &[u8]) -> [u8; 36] {
        let id = &mut self.identity;
        id.clear();
        id.extend_from_slice(head.event_type.as_bytes());
        id.extend_from_slice(b"|key|");
        id.extend_from_slice(table.as_bytes());
        id.push(b'|');
        id.extend_from_slice(key);
        self.hashed_with(Sha1::new_with_prefix(self.namespace), head.ordinal)
    }

    /// The id of a name that begins with what is hashed already and goes on with what stands in `identity`.
    fn hashed_with(&mut self, begun: Sha1, ordinal: u16) -> [u8; 36] {
        let id = &mut self.identity;
        if ordinal > 0 {
            id.push(b'|');
            write_integer(id, i64::from(ordinal));
        }
        let mut text = [0; 36];
        uuid_of(begun.chain_update(&*id)).hyphenated().encode_lower(&mut text);
        text
    }

    /// Appends everything up to and including `"data":`. What follows is the data, `}` and a line feed.
    pub fn write(&mut self, out: &mut Vec<u8>, head: &Head<'_>, rest: &Rest<'_>) {
        let &Rest { id, key, unavailable } = rest;
        self.committed.at(head.place.transaction.time);
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":");
        json::write_string(out, id);
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
        out.extend_from_slice(&hex((epoch << 48) | (commit >> 16)));
        out.extend_from_slice(&hex((commit << 48)
            | (u64::from(position.index) << 16)
            | u64::from(head.part)));
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

/// RFC 9562's name-based UUID. The crate `uuid` makes the same, but with a SHA-1 that does not use the processor's
/// instructions for it: 0.3 µs an event.
fn uuid_v5(namespace: &Uuid, name: &[u8]) -> Uuid {
    uuid_of(Sha1::new_with_prefix(namespace).chain_update(name))
}

fn uuid_of(hash: Sha1) -> Uuid {
    let digest: [u8; 20] = hash.finalize().into();
    let [bytes @ .., _, _, _, _] = digest;
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// Appends a whole number in decimal.
pub(super) fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Two hex digits of each byte.
#[expect(clippy::indexing_slicing, reason = "the compiler computes it, and looks at the bounds")]
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xF]];
        byte += 1;
    }
    pairs
};

/// A number in sixteen hex digits.
fn hex(value: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(value.to_be_bytes()) {
        *pair = HEX.get(usize::from(byte)).copied().unwrap_or_default();
    }
    digits
}

#[cfg(test)]
mod tests;

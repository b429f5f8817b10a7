//! Event ids: deterministic, so that a repeated event has the same id.
//!
//! An id is a `UUIDv5` in the namespace `UUIDv5(URL, source)` of the name `<type>|wal|<commit µs>|<xid>|<lsn,
//! 16 hex digits>|<n>`. `n` counts the changes of the same kind that share an LSN. From the second event of a
//! type on, `|<ordinal>` is appended. Logical messages have `|msg|` instead of `|wal|`. With `id = "key"` the
//! name is `<type>|key|<schema.table>|<key as JSON>`. A polled row has no position in a log. Its name is
//! `<type>|cur|<schema.table>|<key as JSON>|<version>`, where the version is the 64-bit id of the transaction
//! that wrote the row.

use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::change::ChangePlace;
use crate::position::Transaction;

/// An id computed by Forebay, not given by a rule or application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeId(Uuid);

/// The text form: lower-case hex digits and hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdText([u8; 36]);

impl IdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text.
    pub const fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }
}

impl MadeId {
    /// The text form of RFC 9562.
    pub fn text(self) -> IdText {
        let (first, second) = self.0.as_u64_pair();
        let (low, [m1, m2, m3, m4, h1, h2, h3, h4]) = hex(first, b'a');
        let ([c1, c2, c3, c4, n1, n2, n3, n4], node) = hex(second, b'a');
        let mut text = [b'-'; 36];
        let parts: [&[u8]; 5] =
            [&low, &[m1, m2, m3, m4], &[h1, h2, h3, h4], &[c1, c2, c3, c4], &[n1, n2, n3, n4]];
        let mut at = 0;
        for part in parts {
            if let Some(place) = text.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len() + 1;
        }
        if let Some(place) = text.last_chunk_mut() {
            *place = node;
        }
        IdText(text)
    }
}

/// Computes the ids of one source's events.
#[derive(Debug)]
pub struct Ids {
    namespace: Uuid,
    name: Vec<u8>,
    /// The identity of the polled row that is being translated: everything after the type. Empty for changes
    /// with a position in the log.
    row: Vec<u8>,
    /// The most recently used name prefixes, already hashed.
    begun: Vec<Begun>,
    /// Index of the prefix to replace next.
    oldest: usize,
}

/// The hash of the part of a name that all changes of a transaction share.
#[derive(Debug)]
struct Begun {
    transaction: Transaction,
    kind: &'static [u8],
    event_type: String,
    hash: Sha1,
}

/// Number of cached prefixes. A transaction rarely has more event types.
const BEGUN_MAX: usize = 4;

impl Ids {
    /// For this CloudEvents source.
    pub fn new(source: &str) -> Self {
        let namespace = uuid_of(Sha1::new_with_prefix(Uuid::NAMESPACE_URL).chain_update(source));
        Self { namespace, name: Vec::new(), row: Vec::new(), begun: Vec::with_capacity(BEGUN_MAX), oldest: 0 }
    }

    /// The id of the change's `ordinal`th event of this type.
    pub fn of_change(&mut self, event_type: &str, place: &ChangePlace, ordinal: u16) -> MadeId {
        if !self.row.is_empty() {
            let name = &mut self.name;
            name.clear();
            name.extend_from_slice(event_type.as_bytes());
            name.extend_from_slice(&self.row);
            return self.hashed_with(Sha1::new_with_prefix(self.namespace), ordinal);
        }
        self.of_place(event_type, b"|wal|", place, ordinal)
    }

    /// Sets the polled row of the next changes: its table, its key as JSON, and its version.
    pub fn set_row<E>(
        &mut self,
        table: &str,
        version: u64,
        write_key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let row = &mut self.row;
        row.clear();
        row.extend_from_slice(b"|cur|");
        row.extend_from_slice(table.as_bytes());
        row.push(b'|');
        write_key(row)?;
        row.push(b'|');
        row.extend_from_slice(itoa::Buffer::new().format(version).as_bytes());
        Ok(())
    }

    /// The id of a logical message's event. A message and the change after it share an LSN.
    pub fn of_message(&mut self, event_type: &str, place: &ChangePlace) -> MadeId {
        self.of_place(event_type, b"|msg|", place, 0)
    }

    fn of_place(
        &mut self,
        event_type: &str,
        kind: &'static [u8],
        place: &ChangePlace,
        ordinal: u16,
    ) -> MadeId {
        let hash = self.begun(event_type, kind, place.transaction);
        let name = &mut self.name;
        name.clear();
        let (high, low) = hex(place.record.get(), b'A');
        name.extend_from_slice(&high);
        name.extend_from_slice(&low);
        name.push(b'|');
        write_integer(name, i64::from(place.nth));
        self.hashed_with(hash, ordinal)
    }

    /// The hash of everything before the LSN.
    fn begun(&mut self, event_type: &str, kind: &'static [u8], transaction: Transaction) -> Sha1 {
        let is_it = |begun: &&Begun| {
            begun.transaction == transaction && begun.kind == kind && begun.event_type == event_type
        };
        if let Some(begun) = self.begun.iter().find(is_it) {
            return begun.hash.clone();
        }
        let name = &mut self.name;
        name.clear();
        name.extend_from_slice(event_type.as_bytes());
        name.extend_from_slice(kind);
        write_integer(name, transaction.time);
        name.push(b'|');
        write_integer(name, i64::from(transaction.xid));
        name.push(b'|');
        let hash = Sha1::new_with_prefix(self.namespace).chain_update(&*name);
        if self.begun.len() < BEGUN_MAX {
            let event_type = event_type.to_owned();
            self.begun.push(Begun { transaction, kind, event_type, hash: hash.clone() });
        } else if let Some(begun) = self.begun.get_mut(self.oldest) {
            (begun.transaction, begun.kind) = (transaction, kind);
            begun.event_type.clear();
            begun.event_type.push_str(event_type);
            begun.hash.clone_from(&hash);
            self.oldest = (self.oldest + 1) % BEGUN_MAX;
        }
        hash
    }

    /// The id of an event that happens at most once to a row: the same for every change of the row.
    pub fn of_key(&mut self, event_type: &str, table: &str, key: &[u8], ordinal: u16) -> MadeId {
        let name = &mut self.name;
        name.clear();
        name.extend_from_slice(event_type.as_bytes());
        name.extend_from_slice(b"|key|");
        name.extend_from_slice(table.as_bytes());
        name.push(b'|');
        name.extend_from_slice(key);
        self.hashed_with(Sha1::new_with_prefix(self.namespace), ordinal)
    }

    /// The id of a name: a prefix that is already hashed, followed by the content of `name`.
    fn hashed_with(&mut self, begun: Sha1, ordinal: u16) -> MadeId {
        let name = &mut self.name;
        if ordinal > 0 {
            name.push(b'|');
            write_integer(name, i64::from(ordinal));
        }
        MadeId(uuid_of(begun.chain_update(&*name)))
    }
}

/// A name-based UUID of RFC 9562. The `uuid` crate's SHA-1 does not use the processor's SHA instructions,
/// which would cost 0.3 µs per event.
fn uuid_of(hash: Sha1) -> Uuid {
    let digest: [u8; 20] = hash.finalize().into();
    let [bytes @ .., _, _, _, _] = digest;
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// A number as sixteen hex digits; `ten` is the digit for ten. Each half is computed in one register, one
/// byte per digit, so that it is written by one store and a later copy does not stall.
pub(super) fn hex(value: u64, ten: u8) -> ([u8; 8], [u8; 8]) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = |half: u64| {
        let pairs = (half | half << 16) & 0x0000_FFFF_0000_FFFF;
        let bytes = (pairs | pairs << 8) & 0x00FF_00FF_00FF_00FF;
        let nibbles = (bytes | bytes << 4) & (EACH * 0x0F);
        let letters = ((nibbles + EACH * 6) >> 4) & EACH;
        (nibbles + EACH * u64::from(b'0') + letters * u64::from(ten - b'0' - 10)).to_be_bytes()
    };
    (digits(value >> 32), digits(value & 0xFFFF_FFFF))
}

/// Appends an integer in decimal.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::CommitSeq;

    #[test]
    fn numbers_are_written_in_sixteen_hex_digits() {
        let numbers = (0..64)
            .flat_map(|bit| [1 << bit, (1_u64 << bit) - 1, 0x0123_4567_89AB_CDEF_u64.rotate_left(bit)]);
        for value in numbers.chain([0, u64::MAX, 0x1_A2B3_C4D8]) {
            let joined = |(high, low): ([u8; 8], [u8; 8])| String::from_utf8([high, low].concat()).unwrap();
            assert_eq!(joined(hex(value, b'A')), format!("{value:016X}"));
            assert_eq!(joined(hex(value, b'a')), format!("{value:016x}"));
        }
    }

    #[test]
    fn polled_row_version_has_one_id() {
        let mut ids = Ids::new("urn:forebay:lab");
        let key = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"id\":7}");
            Ok::<(), ()>(())
        };
        ids.set_row("lab.plates", 4_294_967_299, key).unwrap();
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:forebay:lab");
        for (commit, ordinal, behind) in [(1, 0, ""), (2, 0, ""), (2, 3, "|3")] {
            let transaction = Transaction { commit: CommitSeq::new(commit), xid: 0, time: 5 };
            let place = ChangePlace { transaction, index: 1, record: CommitSeq::new(4_294_967_299), nth: 0 };
            let name = format!("t.v1|cur|lab.plates|{{\"id\":7}}|4294967299{behind}");
            let expected = Uuid::new_v5(&namespace, name.as_bytes()).to_string();
            assert_eq!(ids.of_change("t.v1", &place, ordinal).text().as_str(), expected);
        }
    }

    #[test]
    fn id_is_independent_of_earlier_ids() {
        let types = ["lab.a.v1", "lab.b.v1", "lab.c.v1"];
        let mut ids = Ids::new("urn:forebay:lab");
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:forebay:lab");
        for round in 0..40_u32 {
            let transaction =
                Transaction { commit: CommitSeq::new(9), xid: round / 7, time: i64::from(round / 11) };
            let place = ChangePlace {
                transaction,
                index: round,
                record: CommitSeq::new(u64::from(round / 3)),
                nth: round % 3,
            };
            for (event_type, ordinal) in types.into_iter().zip([0, 1, 12]) {
                for (kind, mark) in [("wal", b"|wal|"), ("msg", b"|msg|")] {
                    let id = ids.of_place(event_type, mark, &place, ordinal);
                    let behind = if ordinal == 0 { String::new() } else { format!("|{ordinal}") };
                    let name = format!(
                        "{event_type}|{kind}|{}|{}|{:016X}|{}{behind}",
                        transaction.time,
                        transaction.xid,
                        place.record.get(),
                        place.nth
                    );
                    let expected = Uuid::new_v5(&namespace, name.as_bytes()).to_string();
                    assert_eq!(id.text().as_str(), expected, "{name}");
                }
            }
        }
    }
}

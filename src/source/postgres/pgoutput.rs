//! Decodes pgoutput, protocol version 1, text format. Does no I/O, never panics, and allocates nothing for a
//! row.

use crate::change::{Cell, ReplicaIdentity};
use crate::config::TableName;
use crate::source::postgres::lsn::Lsn;

/// A message of the stream. Rows are written into the [`Cells`] given to [`decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A committed transaction begins.
    Begin {
        /// LSN of its commit record.
        commit: Lsn,
        /// Commit time, microseconds since 2000-01-01.
        time: i64,
        /// Transaction id.
        xid: u32,
    },
    /// The transaction ends.
    Commit {
        /// LSN of its commit record.
        commit: Lsn,
        /// End of that record.
        end: Lsn,
    },
    /// The transaction came from another server by replication.
    Origin,
    /// The definition of a table, for all later rows.
    Relation(Announced),
    /// A type's name. The catalogue has more, so it is ignored.
    Type,
    /// A row was inserted. The row is in `Cells::new`.
    Insert {
        /// `pg_class.oid`.
        relation: u32,
    },
    /// A row was updated.
    Update {
        /// `pg_class.oid`.
        relation: u32,
        /// What `Cells::old` contains.
        old: Old,
    },
    /// A row was deleted.
    Delete {
        /// `pg_class.oid`.
        relation: u32,
        /// What `Cells::old` contains.
        old: Old,
    },
    /// Tables were truncated. Their OIDs are in `Cells::relations`.
    Truncate {
        /// `CASCADE`.
        cascade: bool,
        /// `RESTART IDENTITY`.
        restart_identity: bool,
    },
    /// `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the transaction; otherwise it was sent at once.
        transactional: bool,
        /// LSN of the message.
        lsn: Lsn,
    },
}

/// The part of the old row that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Nothing.
    Absent,
    /// The replica identity's columns.
    Key,
    /// All columns.
    Full,
}

/// A relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema; the protocol's empty text means `pg_catalog`.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Replica identity.
    pub identity: ReplicaIdentity,
    /// The published columns.
    pub columns: Vec<AnnouncedColumn>,
}

impl Announced {
    /// The table, as selectors write it.
    pub fn name(&self) -> String {
        TableName { schema: self.schema.clone(), table: self.table.clone() }.to_string()
    }
}

/// A column of a relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedColumn {
    /// Name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `atttypmod`; -1 if there is none.
    pub modifier: i32,
    /// Whether it is flagged as part of the replica identity.
    pub in_identity: bool,
}

/// Buffers for the cells of a message, reused for every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// The new row.
    pub new: Vec<Cell>,
    /// The old row, or its key.
    pub old: Vec<Cell>,
    /// Truncated tables.
    pub relations: Vec<u32>,
}

/// Why a message cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A row is malformed, but its header has the table. This change becomes a dead letter, and the stream
    /// continues.
    #[error("{reason}")]
    Row {
        /// `pg_class.oid`.
        relation: u32,
        /// The error.
        reason: &'static str,
    },
    /// The whole message is malformed, so the rest of the stream cannot be trusted.
    #[error("{0}")]
    Message(&'static str),
    /// A message kind that protocol version 1 does not have.
    #[error("a pgoutput message of the unknown kind {:?}", char::from(*.0))]
    Unknown(u8),
}

const TORN: &str = "the message ends too early";

/// Decodes one message. Offsets in cells count from its first byte.
///
/// # Errors
/// See [`DecodeError`]. The content of `cells` is then undefined.
pub fn decode(message: &[u8], cells: &mut Cells) -> Result<Message, DecodeError> {
    let mut reader = Reader { message, at: 0 };
    let decoded = match reader.u8().map_err(DecodeError::Message)? {
        tag @ (b'I' | b'U' | b'D') => return row(tag, reader, cells),
        b'B' => reader.begin(),
        b'C' => reader.commit(),
        b'O' => return Ok(Message::Origin),
        b'Y' => return Ok(Message::Type),
        b'R' => reader.relation().map(Message::Relation),
        b'T' => reader.truncate(&mut cells.relations),
        b'M' => reader.logical(),
        tag => return Err(DecodeError::Unknown(tag)),
    };
    let decoded = decoded.map_err(DecodeError::Message)?;
    if reader.at == message.len() {
        Ok(decoded)
    } else {
        Err(DecodeError::Message("the message is too long"))
    }
}

/// The table of a row message, from its first five bytes.
pub fn relation_of(message: &[u8]) -> Option<u32> {
    let (tag, rest) = message.split_first()?;
    matches!(tag, b'I' | b'U' | b'D').then_some(())?;
    rest.first_chunk().map(|oid| u32::from_be_bytes(*oid))
}

/// Prefix and content of a logical message. For a truncated message, the beginning of the content.
pub fn logical_of(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader { message, at: 0 };
    (reader.u8().ok()? == b'M').then_some(())?;
    reader.u8().ok()?;
    reader.lsn().ok()?;
    let prefix = reader.zero_terminated().ok()?;
    let length = reader.u32().ok()? as usize;
    let rest = message.get(reader.at..)?;
    Some((prefix, rest.get(..length).unwrap_or(rest)))
}

fn row(tag: u8, mut reader: Reader<'_>, cells: &mut Cells) -> Result<Message, DecodeError> {
    let relation = reader.u32().map_err(DecodeError::Message)?;
    let decoded = reader.row(tag, relation, cells).and_then(|decoded| {
        if reader.at == reader.message.len() { Ok(decoded) } else { Err("the message is too long") }
    });
    decoded.map_err(|reason| DecodeError::Row { relation, reason })
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn row(&mut self, tag: u8, relation: u32, cells: &mut Cells) -> Read<Message> {
        cells.new.clear();
        cells.old.clear();
        let mut part = self.u8()?;
        let old = match (tag, part) {
            (b'U' | b'D', b'K') => Old::Key,
            (b'U' | b'D', b'O') => Old::Full,
            _ => Old::Absent,
        };
        if old != Old::Absent {
            self.tuple(&mut cells.old)?;
            if tag == b'D' {
                return Ok(Message::Delete { relation, old });
            }
            part = self.u8()?;
        }
        if part != b'N' || tag == b'D' {
            return Err("a tuple of an unexpected kind");
        }
        self.tuple(&mut cells.new)?;
        Ok(if tag == b'I' { Message::Insert { relation } } else { Message::Update { relation, old } })
    }

    fn tuple(&mut self, cells: &mut Vec<Cell>) -> Read<()> {
        for _ in 0..self.u16()? {
            cells.push(match self.u8()? {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => {
                    let length = self.u32()?;
                    let start = u32::try_from(self.at).map_err(|_| "the message is too long")?;
                    self.bytes(length as usize)?;
                    Cell::Text { start, length }
                }
                b'b' => return Err("a value in binary form, which was not requested"),
                _ => return Err("a value of an unknown form"),
            });
        }
        Ok(())
    }

    fn begin(&mut self) -> Read<Message> {
        Ok(Message::Begin { commit: self.lsn()?, time: self.i64()?, xid: self.u32()? })
    }

    fn commit(&mut self) -> Read<Message> {
        self.u8()?;
        let (commit, end) = (self.lsn()?, self.lsn()?);
        self.i64()?;
        Ok(Message::Commit { commit, end })
    }

    fn relation(&mut self) -> Read<Announced> {
        let oid = self.u32()?;
        let schema = match self.text()? {
            "" => "pg_catalog",
            schema => schema,
        }
        .to_owned();
        let table = self.text()?.to_owned();
        let identity = match self.u8()? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            _ => return Err("a replica identity of an unknown kind"),
        };
        let count = self.u16()?;
        // A column has at least ten bytes, so a wrong count allocates no more than the size of the message.
        let mut columns = Vec::with_capacity(usize::from(count).min(self.message.len() / 10));
        for _ in 0..count {
            let in_identity = self.u8()? & 1 != 0;
            let name = self.text()?.to_owned();
            let type_oid = self.u32()?;
            let modifier = self.u32()?.cast_signed();
            columns.push(AnnouncedColumn { name, type_oid, modifier, in_identity });
        }
        Ok(Announced { oid, schema, table, identity, columns })
    }

    fn truncate(&mut self, relations: &mut Vec<u32>) -> Read<Message> {
        relations.clear();
        let count = self.u32()?;
        let options = self.u8()?;
        for _ in 0..count {
            relations.push(self.u32()?);
        }
        Ok(Message::Truncate { cascade: options & 1 != 0, restart_identity: options & 2 != 0 })
    }

    fn logical(&mut self) -> Read<Message> {
        let transactional = self.u8()? & 1 != 0;
        let lsn = self.lsn()?;
        // The prefix can be any text, in the database's encoding.
        self.zero_terminated()?;
        let length = self.u32()?;
        self.bytes(length as usize)?;
        Ok(Message::Logical { transactional, lsn })
    }

    fn bytes(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(TORN)?;
        let bytes = self.message.get(self.at..end).ok_or(TORN)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| TORN)
    }

    fn zero_terminated(&mut self) -> Read<&'a [u8]> {
        let rest = self.message.get(self.at..).ok_or(TORN)?;
        let length = rest.iter().position(|&byte| byte == 0).ok_or(TORN)?;
        self.at += length + 1;
        rest.get(..length).ok_or(TORN)
    }

    fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.zero_terminated()?).map_err(|_| "a name that is not UTF-8")
    }

    fn u8(&mut self) -> Read<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Read<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn lsn(&mut self) -> Read<Lsn> {
        self.array().map(u64::from_be_bytes).map(Lsn::new)
    }
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
pub(super) mod tests;

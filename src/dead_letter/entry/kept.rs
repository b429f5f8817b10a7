//! The parts of a dead letter from which its raw change can be translated again, even after its table has
//! changed: the position of the change, and the table definition of that time.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::change::{ChangePlace, Relation};
use crate::letter_id::LetterId;
use crate::position::{CommitSeq, Transaction};
use crate::translate::TransactionContext;

/// The parts of a dead letter that a retry needs.
#[derive(Debug)]
pub struct Kept {
    /// Epoch of the position.
    pub epoch: u16,
    /// Position of the change.
    pub place: ChangePlace,
    /// The event whose rule failed; `None`: the whole change failed.
    pub rule: Option<String>,
    /// `schema.table`, or the owner of a logical message.
    pub table: String,
    /// Definition of its table at that time; `None` for a logical message.
    pub relation: Option<Arc<Relation>>,
    /// The context of its transaction, as set before the change.
    pub context: Option<TransactionContext>,
    /// The whole message as it was received.
    pub raw: Vec<u8>,
}

/// Why a letter cannot be retried.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It was not written by Forebay, or was altered.
    #[error("the letter cannot be read: {0}")]
    Malformed(String),
    /// The letter with its raw change does not exist, or belongs to another change.
    #[error("the letter {0}, which has its raw change, is not in the file")]
    Elsewhere(LetterId),
    /// The description of the table is missing.
    #[error("the letter has no description of its table")]
    NoTable,
    /// Only a part of the raw change was stored.
    #[error("the letter has only the beginning of its raw change")]
    Incomplete,
}

/// The members of a line that [`super::ChangeEntry`] writes.
#[derive(Deserialize)]
struct Line {
    epoch: u16,
    commit: CommitSeq,
    index: u32,
    lsn: CommitSeq,
    nth: u32,
    xid: u32,
    time: i64,
    size: u64,
    #[serde(default)]
    raw: String,
    raw_in: Option<LetterId>,
    rule: Option<String>,
    table: Option<String>,
    relation: Option<Relation>,
    #[serde(default)]
    message: bool,
    context: Option<TransactionContext>,
}

impl Kept {
    /// Parses a line that [`ChangeEntry::push`](super::ChangeEntry::push) has written, and the line of the
    /// letter with its raw change, if that is another one.
    ///
    /// # Errors
    /// A retry cannot succeed.
    pub fn read(line: &[u8], raw: Option<&[u8]>) -> Result<Self, NotKept> {
        let malformed = |error: &dyn std::fmt::Display| NotKept::Malformed(error.to_string());
        let mut line: Line = serde_json::from_slice(line).map_err(|error| malformed(&error))?;
        if let Some(id) = line.raw_in.take() {
            let other: Option<Line> = raw.and_then(|raw| serde_json::from_slice(raw).ok());
            let of = |line: &Line| (line.epoch, line.commit, line.index);
            let Some(other) = other.filter(|other| of(other) == of(&line) && other.raw_in.is_none()) else {
                return Err(NotKept::Elsewhere(id));
            };
            line = Line { rule: line.rule, ..other };
        }
        if line.relation.is_none() && !line.message {
            return Err(NotKept::NoTable);
        }
        let raw = STANDARD.decode(&line.raw).map_err(|error| malformed(&error))?;
        if (raw.len() as u64) < line.size {
            return Err(NotKept::Incomplete);
        }
        let transaction = Transaction { commit: line.commit, xid: line.xid, time: line.time };
        Ok(Self {
            epoch: line.epoch,
            place: ChangePlace { transaction, index: line.index, record: line.lsn, nth: line.nth },
            rule: line.rule,
            table: match &line.relation {
                Some(relation) => relation.name(),
                None => line.table.unwrap_or_default(),
            },
            relation: line.relation.map(Arc::new),
            context: line.context,
            raw,
        })
    }
}

/// The relation as JSON.
pub(super) fn write_relation(out: &mut Vec<u8>, relation: &Relation) {
    let written = serde_json::to_writer(out, relation);
    debug_assert!(written.is_ok(), "names and numbers always become JSON");
}

#[cfg(test)]
mod tests {
    use super::super::ChangeEntry;
    use super::*;
    use crate::change::{Column, ReplicaIdentity};
    use crate::event::Records;
    use crate::types::{Base, Kind, SqlType};

    fn relation() -> Relation {
        let text = || Arc::new(Kind::Text);
        let kinds = [
            Kind::Bool,
            Kind::TimestampTz,
            Kind::Array { element: text(), delimiter: b';' },
            Kind::Vector { element: Arc::new(Kind::Number) },
            Kind::Composite { fields: [("a \"b\"".to_owned(), Kind::Json)].into() },
        ];
        let column = |(at, kind)| Column {
            name: format!("c\n\"{at}"),
            kind,
            data_type: SqlType { base: Base::Array(Arc::new(Base::Varchar)), modifier: at },
            not_null: at == 1,
            origin: None,
            in_identity: at == 0,
        };
        Relation {
            oid: 7,
            schema: "lab".into(),
            table: "pl\"ates".into(),
            identity: ReplicaIdentity::Index,
            columns: (0..).zip(kinds).map(column).collect(),
            primary_key: vec![1, 0],
            absent: vec![column((9, Kind::Json))],
            unknown: None,
        }
    }

    #[test]
    fn kept_change_round_trips() {
        let relation = relation();
        let transaction = Transaction { commit: CommitSeq::new(77), xid: 5, time: -3 };
        let place = ChangePlace { transaction, index: 4, record: CommitSeq::new(70), nth: 2 };
        let (context, _) = TransactionContext::read(br#"{"user":"a \"b\""}"#);
        let letter = |size, kept: bool| ChangeEntry {
            epoch: 3,
            place,
            rule: kept.then_some("lab.made.v1"),
            table: Some("lab.plates"),
            relation: kept.then_some(&relation),
            context: context.as_ref(),
            reason: "because",
            hint: None,
            size,
            raw: b"raw\0bytes",
            raw_in: None,
        };
        let line = |letter: ChangeEntry<'_>| {
            let mut records = Records::default();
            letter.push(&mut records);
            let record = records.iter().next().unwrap();
            record.line.to_vec()
        };
        let kept = Kept::read(&line(letter(9, true)), None).unwrap();
        assert_eq!(
            (kept.epoch, kept.place, kept.relation.as_deref(), &kept.context, &*kept.raw),
            (3, place, Some(&relation), &context, &b"raw\0bytes"[..])
        );
        // Letters may be older than the program that reads them.
        let written: serde_json::Value = serde_json::from_slice(&line(letter(9, true))).unwrap();
        let columns = &written["relation"]["columns"];
        assert_eq!(written["relation"]["identity"], "index");
        assert_eq!(columns[1]["kind"], "timestamptz");
        assert_eq!(columns[2]["kind"], serde_json::json!({"array": {"element": "text", "delimiter": 59}}));
        assert!(matches!(Kept::read(&line(letter(10, true)), None), Err(NotKept::Incomplete)));
        assert!(matches!(Kept::read(&line(letter(9, false)), None), Err(NotKept::NoTable)));
        assert!(matches!(Kept::read(b"{}", None), Err(NotKept::Malformed(_))));
    }

    #[test]
    fn only_the_first_letter_of_a_change_keeps_the_raw_change() {
        let relation = relation();
        let place =
            ChangePlace { transaction: Transaction::default(), index: 4, record: CommitSeq::new(70), nth: 2 };
        let raw = vec![b'x'; 1 << 20];
        let letter = ChangeEntry {
            epoch: 3,
            place,
            rule: None,
            table: Some("lab.plates"),
            relation: Some(&relation),
            context: None,
            reason: "",
            hint: None,
            size: raw.len() as u64,
            raw: &raw,
            raw_in: None,
        };
        let failed = |name: &str| crate::translate::Failed {
            event_type: name.to_owned(),
            reason: "no".repeat(9_000).into(),
        };
        let mut records = Records::default();
        letter.push_failed(&[failed("a.v1"), failed("b.v1"), failed("a.v1"), failed("c.v1")], &mut records);
        let lines: Vec<Vec<u8>> = records.iter().map(|record| record.line.to_vec()).collect();
        assert_eq!(lines.len(), 3, "one for each name");
        assert!(lines[1..].iter().all(|line| line.len() < 6_000), "{:?}", lines[1].len());
        for (line, rule) in lines.iter().zip(["a.v1", "b.v1", "c.v1"]) {
            let kept = Kept::read(line, Some(&lines[0])).unwrap();
            assert_eq!((kept.rule.as_deref(), kept.raw.len()), (Some(rule), raw.len()));
            assert_eq!(kept.relation.as_deref(), Some(&relation));
        }
        assert!(matches!(Kept::read(&lines[1], None), Err(NotKept::Elsewhere(_))));
        assert!(matches!(Kept::read(&lines[1], Some(&lines[2])), Err(NotKept::Elsewhere(_))));
    }

    #[test]
    fn letter_without_change_always_fits() {
        let name = "n".repeat(1 << 20);
        let relation = Relation { table: name.clone(), ..relation() };
        let raw = vec![b'x'; 12 << 20];
        let transaction = Transaction { commit: CommitSeq::new(u64::MAX), xid: u32::MAX, time: i64::MIN };
        let letter = ChangeEntry {
            epoch: u16::MAX,
            place: ChangePlace {
                transaction,
                index: u32::MAX,
                record: CommitSeq::new(u64::MAX),
                nth: u32::MAX,
            },
            rule: None,
            table: Some(&name),
            relation: Some(&relation),
            context: None,
            reason: &name,
            hint: None,
            size: u64::MAX,
            raw: &raw,
            raw_in: None,
        };
        for (limit, whole) in [(16 << 20, true), (1 << 20, false), (16 << 10, false)] {
            let mut records = Records::with_limit(limit);
            letter.push_alone(&mut records);
            assert!(records.fit() && records.len() == 1, "{limit}");
            let line: Line = serde_json::from_slice(records.iter().next().unwrap().line).unwrap();
            assert_eq!(line.relation.is_some(), whole, "{limit}");
        }
    }
}

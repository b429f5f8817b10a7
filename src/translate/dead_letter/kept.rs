//! What a dead letter keeps so that its raw change can be translated again after its table has changed: where the change
//! stood, and the relation as it was known then.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::change::{Place, Relation};
use crate::position::{Lsn, Transaction};

/// The part of a dead letter that a retry needs, read back.
#[derive(Debug)]
pub struct Kept {
    /// Epoch of the position.
    pub epoch: u16,
    /// Where the change stands.
    pub place: Place,
    /// The event that could not be made of it; `None`: none could.
    pub rule: Option<String>,
    /// `schema.table`.
    pub table: String,
    /// Its table, as it was known then.
    pub relation: Arc<Relation>,
    /// The message as it was received, whole.
    pub raw: Vec<u8>,
}

/// Why a letter cannot be retried.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It is not what was written.
    #[error("the letter cannot be read: {0}")]
    Malformed(String),
    /// The description of the table is missing.
    #[error("the letter has no description of its table")]
    NoTable,
    /// Only a part of the raw change is there.
    #[error("the letter has only the beginning of its raw change")]
    Incomplete,
}

/// The names of [`super::DeadLetter`]'s line.
#[derive(Deserialize)]
struct Line {
    epoch: u16,
    commit: Lsn,
    index: u32,
    lsn: Lsn,
    nth: u32,
    xid: u32,
    time: i64,
    size: u64,
    raw: String,
    rule: Option<String>,
    relation: Option<Relation>,
}

impl Kept {
    /// Of the line that [`DeadLetter::push`](super::DeadLetter::push) has written.
    ///
    /// # Errors
    /// A retry cannot help.
    pub fn read(line: &[u8]) -> Result<Self, NotKept> {
        let malformed = |error: &dyn std::fmt::Display| NotKept::Malformed(error.to_string());
        let line: Line = serde_json::from_slice(line).map_err(|error| malformed(&error))?;
        let relation = line.relation.ok_or(NotKept::NoTable)?;
        let raw = STANDARD.decode(&line.raw).map_err(|error| malformed(&error))?;
        if (raw.len() as u64) < line.size {
            return Err(NotKept::Incomplete);
        }
        let transaction = Transaction { commit: line.commit, xid: line.xid, time: line.time };
        Ok(Self {
            epoch: line.epoch,
            place: Place { transaction, index: line.index, lsn: line.lsn, nth: line.nth },
            rule: line.rule,
            table: format!("{}.{}", relation.schema, relation.table),
            relation: Arc::new(relation),
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
    use super::super::DeadLetter;
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
            in_identity: at == 0,
        };
        Relation {
            oid: 7,
            schema: "lab".into(),
            table: "pl\"ates".into(),
            identity: ReplicaIdentity::Index,
            columns: (0..).zip(kinds).map(column).collect(),
            primary_key: vec![1, 0],
        }
    }

    #[test]
    fn what_a_retry_needs_comes_back_as_it_was() {
        let relation = relation();
        let transaction = Transaction { commit: Lsn::new(77), xid: 5, time: -3 };
        let place = Place { transaction, index: 4, lsn: Lsn::new(70), nth: 2 };
        let letter = |size, kept: bool| DeadLetter {
            epoch: 3,
            place,
            rule: kept.then_some("lab.made.v1"),
            table: Some("lab.plates"),
            relation: kept.then_some(&relation),
            reason: "because",
            size,
            raw: b"raw\0bytes",
        };
        let line = |letter: DeadLetter<'_>| {
            let mut records = Records::default();
            letter.push(&mut records);
            let record = records.iter().next().unwrap();
            record.line.to_vec()
        };
        let kept = Kept::read(&line(letter(9, true))).unwrap();
        assert_eq!(
            (kept.epoch, kept.place, &*kept.relation, &*kept.raw),
            (3, place, &relation, &b"raw\0bytes"[..])
        );
        // Letters outlive the program that wrote them.
        let written: serde_json::Value = serde_json::from_slice(&line(letter(9, true))).unwrap();
        let columns = &written["relation"]["columns"];
        assert_eq!(written["relation"]["identity"], "index");
        assert_eq!(columns[1]["kind"], "timestamptz");
        assert_eq!(columns[2]["kind"], serde_json::json!({"array": {"element": "text", "delimiter": 59}}));
        assert!(matches!(Kept::read(&line(letter(10, true))), Err(NotKept::Incomplete)));
        assert!(matches!(Kept::read(&line(letter(9, false))), Err(NotKept::NoTable)));
        assert!(matches!(Kept::read(b"{}"), Err(NotKept::Malformed(_))));
    }
}

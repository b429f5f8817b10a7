//! `events.lock/tables.json`: the tables as the database described them when the contracts were locked, so that checks, the
//! catalogue and fixtures need no database.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::Described;
use crate::types::{Base, Enumeration, Named};

/// Its name in `events.lock/`.
pub const FILE: &str = "tables.json";

/// The form that this program writes and reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    tables: Vec<Described>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It was never made.
    #[error(
        "{0} does not exist: it holds the tables as the database describes them; make it with `forebay events lock`"
    )]
    Missing(String),
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It is not what was written.
    #[error("{0} is damaged: {1}; make it again with `forebay events lock`")]
    Malformed(String, serde_json::Error),
    /// A newer program has written it.
    #[error("{0} has format {1}, this program reads format {FORMAT}")]
    Newer(String, u32),
}

/// Reads the tables of a directory of contracts.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn read(directory: &Path) -> Result<Vec<Described>, SnapshotError> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let path = directory.join(FILE);
    let shown = path.display().to_string();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SnapshotError::Missing(shown));
        }
        Err(error) => return Err(SnapshotError::Unreadable(shown, error)),
    };
    let malformed = |error| SnapshotError::Malformed(shown.clone(), error);
    let head: Head = serde_json::from_slice(&bytes).map_err(malformed)?;
    if head.format != FORMAT {
        return Err(SnapshotError::Newer(shown, head.format));
    }
    let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(malformed)?;
    Ok(snapshot.tables)
}

/// The text of the snapshot: sorted by table, without the numbers that differ from one database to its copy.
///
/// # Errors
/// Never in practice: names and numbers always become JSON.
pub fn text(tables: &[Described]) -> Result<String, serde_json::Error> {
    let mut tables = tables.to_vec();
    tables.sort_by(|a, b| {
        (&a.relation.schema, &a.relation.table).cmp(&(&b.relation.schema, &b.relation.table))
    });
    for described in &mut tables {
        described.relation.oid = 0;
        for column in &mut described.relation.columns {
            column.data_type.base = without_oid(&column.data_type.base);
        }
    }
    serde_json::to_string_pretty(&Snapshot { format: FORMAT, tables }).map(|text| text + "\n")
}

fn without_oid(base: &Base) -> Base {
    match base {
        Base::Enum(known) => Base::Enum(Arc::new(Enumeration { oid: 0, ..Enumeration::clone(known) })),
        // A type of the server itself has the same number everywhere.
        Base::Other(known) if known.oid >= FIRST_OF_USERS => {
            Base::Other(Arc::new(Named { oid: 0, ..Named::clone(known) }))
        }
        Base::Array(element) => Base::Array(Arc::new(without_oid(element))),
        other => other.clone(),
    }
}

/// `FirstNormalObjectId`.
const FIRST_OF_USERS: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Column, Relation, ReplicaIdentity};
    use crate::types::{Kind, SqlType};

    fn described(oid: u32) -> Described {
        let status = Enumeration { oid: oid + 1, name: "lab.status".into(), labels: vec!["a\"b".into()] };
        let column = |name: &str, base| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            data_type: SqlType::plain(base),
            not_null: true,
            in_identity: false,
        };
        let relation = Relation {
            oid,
            schema: "lab".into(),
            table: "plates".into(),
            identity: ReplicaIdentity::Full,
            columns: vec![
                column("status", Base::Array(Arc::new(Base::Enum(Arc::new(status))))),
                column("place", Base::Other(Arc::new(Named { oid: 600, name: "point".into() }))),
            ],
            primary_key: vec![0],
        };
        Described { relation, comment: None, comments: vec![Some("what it is".into()), None] }
    }

    #[test]
    fn two_copies_of_a_database_have_one_snapshot_and_it_is_read_back() {
        let written = text(&[described(20_000)]).unwrap();
        assert_eq!(written, text(&[described(30_000)]).unwrap());
        assert!(written.ends_with("}\n"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), &written).unwrap();
        let back = read(folder.path()).unwrap();
        assert_eq!(text(&back).unwrap(), written);
        assert_eq!(back[0].comments, described(0).comments);
        assert_eq!(back[0].relation.columns[1], described(0).relation.columns[1]);
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let said = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(folder.path().join(FILE), text).unwrap();
            }
            read(folder.path()).unwrap_err().to_string()
        };
        assert!(said(None).contains("forebay events lock"));
        assert!(said(Some("{\"format\": 1")).contains("is damaged"));
        assert!(said(Some("{\"format\": 2, \"tables\": 7}")).contains("has format 2"));
    }
}

//! `events.lock/tables.json`: the table definitions at the time of locking, so that checks, the catalogue and
//! fixtures need no database.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::{Described, PersonalOrigin};
use crate::failure::Explain;
use crate::small_file;
use crate::types::{Base, Enumeration, Named};

/// Largest file of table definitions: a thousand tables have about 1 MiB.
const FILE_MAX: u64 = 256 << 20;

/// File name in `events.lock/`.
pub const FILE: &str = "tables.json";

/// Format version.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    tables: Vec<Described>,
}

/// Why the snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// An I/O error.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// The file is corrupt.
    #[error("{0} is corrupt: {1}")]
    Malformed(String, serde_json::Error),
    /// A newer program wrote the file.
    #[error("{0} has format {1}, but this version reads format {FORMAT}")]
    Newer(String, u32),
}

impl Explain for SnapshotError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => {
                Some("Run `forebay events lock` to read the table definitions from the database.".to_owned())
            }
            Self::Unreadable(..) => None,
            Self::Malformed(..) => Some("Run `forebay events lock` to write it again.".to_owned()),
            Self::Newer(..) => Some("Install the newer version of Forebay.".to_owned()),
        }
    }
}

/// Reads the tables from a directory of contracts.
///
/// # Errors
/// The snapshot does not exist or cannot be read.
pub fn read(directory: &Path) -> Result<Vec<Described>, SnapshotError> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let path = directory.join(FILE);
    let shown = path.display().to_string();
    let bytes = match small_file::read(&path, FILE_MAX) {
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

/// The text of the snapshot: sorted by table, without OIDs that differ between databases.
///
/// # Errors
/// Never in practice: names and numbers can always be written as JSON.
pub fn text(tables: &[Described]) -> Result<String, serde_json::Error> {
    let mut tables = tables.to_vec();
    tables.sort_by(|a, b| {
        (&a.relation.schema, &a.relation.table).cmp(&(&b.relation.schema, &b.relation.table))
    });
    for described in &mut tables {
        let relation = &mut described.relation;
        relation.oid = 0;
        for column in &mut relation.columns {
            let is_own = |origin: &PersonalOrigin| {
                (&origin.schema, &origin.table, &origin.column)
                    == (&relation.schema, &relation.table, &column.name)
            };
            // `[pii]` itself has this fact, so it need not be in the snapshot.
            if column.origin.as_ref().is_some_and(is_own) {
                column.origin = None;
            }
            column.data_type.base = without_oid(&column.data_type.base);
        }
        for part in described.types.iter_mut().flat_map(|one| &mut one.parts) {
            part.data_type.base = without_oid(&part.data_type.base);
        }
    }
    serde_json::to_string_pretty(&Snapshot { format: FORMAT, tables }).map(|text| text + "\n")
}

fn without_oid(base: &Base) -> Base {
    match base {
        Base::Enum(known) => Base::Enum(Arc::new(Enumeration { oid: 0, ..Enumeration::clone(known) })),
        // A built-in type has the same OID in every database.
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
    use crate::change::{Column, Inheritance, Relation, ReplicaIdentity};
    use crate::failure::Problem;
    use crate::types::{Kind, SqlType};

    fn described(oid: u32) -> Described {
        let status = Enumeration { oid: oid + 1, name: "lab.status".into(), labels: vec!["a\"b".into()] };
        let column = |name: &str, base| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            data_type: SqlType::plain(base),
            not_null: true,
            origin: None,
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
            absent: Vec::new(),
            unknown: None,
        };
        Described {
            relation,
            comment: None,
            comments: vec![Some("what it is".into()), None],
            types: Vec::new(),
            numbers: Vec::new(),
            unsent: Vec::new(),
        }
    }

    #[test]
    fn database_copies_have_equal_snapshot_that_round_trips() {
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
    fn origin_is_written_only_where_it_has_another_name() {
        let with_origin = |column: &str| {
            let mut described = described(20_000);
            described.relation.columns[0].origin = Some(PersonalOrigin {
                how: Inheritance::Former,
                schema: "lab".into(),
                table: "plates".into(),
                column: column.into(),
            });
            text(&[described]).unwrap()
        };
        assert_eq!(with_origin("status"), text(&[described(20_000)]).unwrap());
        assert!(with_origin("former_status").contains("\"column\": \"former_status\""));
    }

    #[test]
    fn unreadable_snapshot_error_has_hint() {
        let folder = tempfile::tempdir().unwrap();
        let said = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(folder.path().join(FILE), text).unwrap();
            }
            Problem::from(read(folder.path()).unwrap_err())
        };
        assert!(said(None).hint().is_some_and(|hint| hint.contains("forebay events lock")));
        assert!(said(Some("{\"format\": 1")).primary().contains("is corrupt"));
        assert!(said(Some("{\"format\": 2, \"tables\": 7}")).primary().contains("has format 2"));
    }
}

//! What is appended, and what is not.

use std::path::Path;

use super::*;
use crate::buffer::checkpoint::Mark;
use crate::buffer::log::LogConfig;
use crate::change::{Relation, ReplicaIdentity};
use crate::config::Tables;
use crate::position::Lsn;
use crate::translate::Settings;

/// An appender over an empty log.
pub(in crate::pipeline) fn appender(directory: &Path, tables: Tables) -> (Arc<Log>, Appender) {
    let scan = Log::scan(directory, Mark::default(), FrameNo(0)).unwrap();
    let settings = Settings { tables, ..Settings::default() };
    let (log, writer) = Log::open(LogConfig::new(directory, 16 << 20), FrameNo(0), scan).unwrap();
    (Arc::clone(&log), Appender::new(log, writer, Translator::new("urn:forebay:lab", 0, settings)))
}

#[test]
fn a_change_that_cannot_be_read_is_no_dead_letter_where_nobody_wants_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables { exclude: vec!["lab.blobs".into()], ..Tables::default() };
    let (_log, mut appender) = appender(directory.path(), tables);
    for (table, letters) in [("blobs", 0), ("plates", 1)] {
        let relation = Relation {
            oid: 5,
            schema: "lab".into(),
            table: table.into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
            primary_key: Vec::new(),
        };
        let place = Place { transaction: Transaction::default(), index: 0, lsn: Lsn::new(400), nth: 0 };
        let relation = Some(&relation);
        appender.quarantine(&Unreadable { place, relation, table: None, reason: "x", size: 1, raw: b"x" });
        assert_eq!(appender.records.len(), letters, "{table}");
    }
}

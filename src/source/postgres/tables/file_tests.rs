//! What a restart reads back from the file.

use super::super::look::{Look, LookedAt};
use super::*;

fn look(wal: u64, table: &str) -> Look {
    let state = serde_json::json!({
        "schema": "lab", "table": table, "identity": "d", "columns": [], "key": [], "key_index": 0, "lesser": [], "whole": [],
    });
    let state = serde_json::from_value(state).unwrap();
    Look { at: LookedAt::at(wal, wal), tables: vec![(1, Some(state))], ..Look::default() }
}

#[test]
fn states_survive_only_in_their_own_history() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let origin = HistoryOrigin { system_id: "7".into(), database: "lab".into(), epoch: 3 };
    let mut store = Store::default();
    store.note(look(1, "plates"));
    store.note(look(2, "trays"));
    write(&directory, &bytes(&origin, &store)).unwrap();
    let (found, whose) = read(&directory, ("lab", 3), &Pii::default());
    assert_eq!(whose, origin);
    let states = found.tables[&1].all();
    let names: Vec<_> = states.iter().map(|version| version.state.as_ref().unwrap().table.as_str()).collect();
    assert_eq!((names, states[1].first.before), (vec!["plates", "trays"], 2));
    for (database, epoch) in [("lab", 4), ("other", 3)] {
        assert!(
            read(&directory, (database, epoch), &Pii::default()).0.tables.is_empty(),
            "{database} {epoch}"
        );
    }
    let whole = std::fs::read(folder.path().join(NAME)).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(folder.path().join(NAME), &whole[..cut]).unwrap();
        assert!(read(&directory, ("lab", 3), &Pii::default()).0.tables.is_empty(), "{cut}");
    }
}

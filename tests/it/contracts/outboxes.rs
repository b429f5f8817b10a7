//! Pairs of schemas that applications give (`outboxes.toml`), each with what the check must say.

use std::path::Path;

use forebay::contracts::check::check;
use forebay::contracts::locking::LockRequest;
use forebay::contracts::model::Model;
use serde::Deserialize;
use serde_json::Value;

use super::pairs::{TODAY, lock, model, verdict};
use super::tables::Tables;

const RULE: &str = "[[event]]\nmessages = \"event:\"\nschemas = \"schemas\"\n";

#[derive(Deserialize)]
struct SchemaCorpus {
    group: Vec<SchemaGroup>,
}

#[derive(Deserialize)]
struct SchemaGroup {
    verdict: String,
    schema: String,
    /// A name, and edits.
    pairs: Vec<Vec<String>>,
}

/// `/a/b 7` sets a value, `/a/b` removes it.
fn edit(schema: &mut Value, edit: &str) {
    let (pointer, value) =
        edit.split_once(' ').map_or((edit, None), |(pointer, value)| (pointer, Some(value)));
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let value = value
        .map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{edit}: {error}")));
    match (schema.pointer_mut(parent).unwrap_or_else(|| panic!("{edit}: no {parent}")), value) {
        (Value::Object(members), Some(value)) => drop(members.insert(last.to_owned(), value)),
        (Value::Object(members), None) => {
            drop(members.remove(last).unwrap_or_else(|| panic!("{edit}: nothing")));
        }
        (Value::Array(items), Some(value)) => {
            let at: usize = last.parse().unwrap();
            items.truncate(at);
            items.push(value);
        }
        (other, _) => panic!("{edit}: {other}"),
    }
}

fn given(folder: &Path, schema: &Value) -> Model {
    std::fs::create_dir_all(folder.join("schemas")).unwrap();
    std::fs::write(folder.join("schemas/s.made.v1.json"), schema.to_string()).unwrap();
    model(folder, RULE, &Tables::new())
}

#[test]
fn check_says_of_every_given_schema_what_it_must() {
    let corpus: SchemaCorpus = toml::from_str(include_str!("outboxes.toml")).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for group in &corpus.group {
        for pair in &group.pairs {
            count += 1;
            let name = &pair[0];
            let folder = tempfile::tempdir().unwrap();
            let mut schema: Value = serde_json::from_str(&group.schema).unwrap();
            let before = given(folder.path(), &schema);
            let locked = lock(folder.path(), &before, &LockRequest::default());
            assert!(check(&before, &locked, TODAY).is_empty(), "{name}");
            pair[1..].iter().for_each(|change| edit(&mut schema, change));
            let now = given(folder.path(), &schema);
            let found = check(&now, &locked, TODAY);
            if verdict(&found) != group.verdict {
                wrong.push(format!("{name}: {}, not {}\n{found:?}", verdict(&found), group.verdict));
                continue;
            }
            if group.verdict != "broken" {
                let locked = lock(folder.path(), &now, &LockRequest::default());
                let left = check(&now, &locked, TODAY);
                if !left.is_empty() {
                    wrong.push(format!("{name}: after the lock {left:#?}"));
                }
            }
        }
    }
    println!("{count} pairs");
    assert!(wrong.is_empty(), "{} of {count}:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

//! Pairs of what was locked and what is published now (`pairs.toml`), each with what the check must say.
//! What the advice offers to paste is pasted, and what can be accepted is accepted.

use std::path::Path;
use std::sync::Arc;

use forebay::config::Pii;
use forebay::contracts::check::{ContractFinding, FindingKind, check};
use forebay::contracts::lock::{Lock, put};
use forebay::contracts::locking::{LockRequest, files};
use forebay::contracts::model::Model;
use forebay::rules::Rules;
use forebay::translate::TranslateSettings;
use serde::Deserialize;

use super::tables::Tables;

pub(super) const TODAY: &str = "2026-11-30";

#[derive(Deserialize)]
struct Corpus {
    group: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    verdict: String,
    rule: String,
    /// Name, rule afterwards, statements.
    pairs: Vec<[String; 3]>,
}

fn settings(folder: &Path, rules: &str) -> TranslateSettings {
    std::fs::write(folder.join("rules.toml"), rules).unwrap();
    TranslateSettings {
        rules: Arc::new(Rules::load("rules.toml", folder).unwrap_or_else(|wrong| panic!("{wrong}\n{rules}"))),
        pii: Pii { columns: vec!["s.t.email".into()], ..Pii::default() },
        ..TranslateSettings::default()
    }
}

pub(super) fn model(folder: &Path, rules: &str, tables: &Tables) -> Model {
    let settings = settings(folder, rules);
    Model::new("urn:forebay:s", None, &settings, &tables.described())
        .unwrap_or_else(|wrong| panic!("{wrong}\n{rules}"))
}

/// The rules of a pair, with what it leaves out.
fn whole(rule: &str) -> String {
    let rule = rule.replace('⏎', "\n").replace('’', "'");
    let part = |part: &str| {
        let mut text = "[[event]]\n".to_owned();
        let has = |key: &str| part.lines().any(|line| line.trim_start().starts_with(key));
        if !has("type") {
            text.push_str("type = \"s.made.v1\"\n");
        }
        if !has("from") {
            text.push_str("from = \"s.t\"\n");
        }
        if !has("on") && !has("from_event") {
            text.push_str("on = \"insert\"\n");
        }
        text + part + "\n"
    };
    rule.split("[[event]]").map(part).collect()
}

pub(super) fn lock(folder: &Path, model: &Model, request: &LockRequest<'_>) -> Lock {
    let directory = folder.join("events.lock");
    let before = Lock::read(&directory).unwrap().unwrap_or_default();
    for (file, text) in files(model, &before, request).unwrap() {
        put(&directory.join(file), &text).unwrap();
    }
    Lock::read(&directory).unwrap().unwrap()
}

/// The verdict on findings: the worst of them.
pub(super) fn verdict(found: &[ContractFinding]) -> &'static str {
    let one = |finding: &ContractFinding| match finding.what {
        FindingKind::Broken { .. } => 4,
        FindingKind::Meaning { .. } => 3,
        FindingKind::Added(_) => 2,
        // A type that was not there before.
        FindingKind::NotLocked => 0,
        _ => 1,
    };
    ["same", "wrong", "added", "meaning", "broken"][found.iter().map(one).max().unwrap_or(0)]
}

/// Pastes what the advice says takes the place of the rule; `None`: it says nothing of that kind, or what to complete.
fn pasted(model: &Model, found: &[ContractFinding]) -> Option<Result<Model, String>> {
    let advice = found.iter().find_map(|finding| match &finding.what {
        FindingKind::Broken { advice, .. } => Some(advice),
        _ => None,
    })?;
    let (_, text) = advice.split_once("replace the rule with\n\n")?;
    assert!(!text.contains("-- renamed"), "{text}");
    (!text.contains("Complete it first"))
        .then(|| model.with_rule(0, text).map_err(|wrong| format!("{wrong}\n{text}")))
}

#[test]
fn check_says_of_every_pair_what_it_must() {
    let corpus: Corpus = toml::from_str(include_str!("pairs.toml")).unwrap();
    let (mut wrong, mut count, mut pastes) = (Vec::new(), 0, 0);
    for group in &corpus.group {
        for [name, after, statements] in &group.pairs {
            count += 1;
            let folder = tempfile::tempdir().unwrap();
            let mut tables = Tables::new();
            let before = model(folder.path(), &whole(&group.rule), &tables);
            let locked = lock(folder.path(), &before, &LockRequest::default());
            let unchanged = check(&before, &locked, TODAY);
            assert!(unchanged.is_empty(), "{name}: {unchanged:#?}");
            tables.change(statements);
            let rule = if after.is_empty() { &group.rule } else { after };
            let now = model(folder.path(), &whole(rule), &tables);
            let found = check(&now, &locked, TODAY);
            let said = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            if verdict(&found) != group.verdict {
                wrong.push(format!("{name}: {}, not {}\n{said}", verdict(&found), group.verdict));
                continue;
            }
            match &*group.verdict {
                "same" | "added" => {
                    let locked = lock(folder.path(), &now, &LockRequest::default());
                    let left = check(&now, &locked, TODAY);
                    if !left.is_empty() {
                        wrong.push(format!("{name}: after the lock {left:#?}"));
                    }
                }
                "meaning" => {
                    let request = LockRequest { automatic: false, accepted: Some(("they agreed", TODAY)) };
                    let accepted = lock(folder.path(), &now, &request);
                    let left = check(&now, &accepted, TODAY);
                    if !left.is_empty() {
                        wrong.push(format!("{name}: after the acceptance {left:#?}"));
                    }
                    // It holds in both directions: the old rule is another meaning now.
                    if check(&before, &accepted, TODAY).is_empty() {
                        wrong.push(format!("{name}: the rule before is not noticed"));
                    }
                }
                "broken" => match pasted(&now, &found) {
                    None => {}
                    Some(Err(error)) => wrong.push(format!("{name}: the paste fails: {error}")),
                    Some(Ok(both)) => {
                        pastes += 1;
                        let left = check(&both, &locked, TODAY);
                        if left.iter().any(|finding| finding.what != FindingKind::NotLocked) {
                            wrong.push(format!("{name}: after the paste {left:#?}\n{said}"));
                        }
                    }
                },
                _ => {}
            }
        }
    }
    println!("{count} pairs, {pastes} pastes");
    assert!(wrong.is_empty(), "{} of {count}:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

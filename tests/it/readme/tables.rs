//! What the documents list, compared with the sources: keys and defaults, metrics, rights.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use forebay::config::{Config, ConfirmAfter};
use forebay::contracts::envelope::ATTRIBUTES;
use serde_json::Value;

use super::{blocks, document, quoted, sources, table};

/// The least that must be written.
const LEAST: &str = "name = \"lab\"\nsource.url = \"postgres://u@h/d\"\nkinesis.stream = \"s\"\nbuffer.dir = \"/var/lib/forebay\"\n";

fn config(text: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::read(file.path(), std::iter::empty()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Keys that `src/config` asks for: literals such as `"source.slot"`.
fn keys_of_the_sources() -> BTreeSet<String> {
    const SECTIONS: [&str; 8] =
        ["source.", "kinesis.", "buffer.", "http.", "tables.", "events.", "pii.", "log."];
    let files = sources("src/config").into_iter().filter(|(path, _)| !path.ends_with("tests.rs"));
    let mut keys = BTreeSet::new();
    for (_, text) in files {
        for literal in text.split('"').skip(1).step_by(2) {
            let is_plain =
                |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
            let in_section = SECTIONS
                .iter()
                .any(|section| literal.strip_prefix(section).is_some_and(|key| !key.is_empty()));
            if is_plain(literal) && (in_section || matches!(literal, "name" | "on_poison" | "max_lag")) {
                keys.insert(literal.to_owned());
            }
        }
    }
    keys
}

#[test]
fn key_table_is_complete_with_defaults() {
    let rows = table(&document("docs/CONFIGURATION.md"), "key");
    let keys: BTreeSet<_> = rows.iter().map(|row| quoted(&row[0])[0].to_owned()).collect();
    assert_eq!(keys, keys_of_the_sources());
    let in_force = config(LEAST).to_string();
    let mut compared = 0;
    for row in &rows {
        let (key, default) = (quoted(&row[0])[0], row[1].as_str());
        if default == "required" {
            assert!(LEAST.contains(&format!("{key} =")), "{key} is not required");
        } else if let [value] = quoted(default)[..] {
            let written = config(&format!("{LEAST}{key} = {}\n", value.replace("<name>", "lab")));
            if key == "buffer.confirm_after" {
                // Only an unwritten one depends on the disk.
                assert_eq!(written.buffer.confirm_after(true), config(LEAST).buffer.confirm_after(false));
                assert_eq!(config(LEAST).buffer.confirm_after(true), ConfirmAfter::Never);
            } else {
                assert_eq!(written.to_string(), in_force, "the default of {key}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared} defaults were compared");
}

#[test]
fn example_shows_every_key_at_its_default() {
    let example = document("config/example.toml");
    let mut section = String::new();
    let mut least = String::new();
    let mut keys = BTreeSet::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.replace(']', ".");
        }
        let Some((key, value)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
        let key = format!("{section}{key}");
        if ["name", "source.url", "kinesis.stream", "buffer.dir"].contains(&key.as_str()) {
            writeln!(least, "{key} = {value}").unwrap();
        }
        keys.insert(key);
    }
    assert_eq!(keys, keys_of_the_sources());
    assert_eq!(config(&example).to_string(), config(&least).to_string());
}

#[test]
fn only_required_keys_must_be_given() {
    for line in LEAST.lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LEAST.replace(line, "")).unwrap();
        let key = line.split(' ').next().unwrap();
        let errors = Config::read(file.path(), std::iter::empty()).unwrap_err().to_string();
        assert!(errors.contains(&format!("{key}: is missing")), "{errors}");
    }
}

#[test]
fn metrics_table_is_complete() {
    let documented: BTreeSet<_> = table(&document("docs/METRICS.md"), "metric")
        .iter()
        .flat_map(|row| quoted(&row[0]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut metrics = BTreeSet::new();
    for (_, text) in sources("src") {
        for line in text.lines().filter(|line| line.contains("const ") && line.contains("&str = \"forebay_"))
        {
            metrics.insert(line.split('"').nth(1).unwrap().to_owned());
        }
    }
    assert_eq!(documented, metrics);
}

#[test]
fn envelope_table_is_complete() {
    let rows = table(&document("docs/EVENTS.md"), "attribute");
    let mut documented: BTreeSet<_> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert!(documented.remove("data"));
    assert_eq!(documented, ATTRIBUTES.iter().map(|attribute| attribute.name).collect());
}

/// Alerts and tests match on the `event` field: each line has one, as its first field, and the table lists all of them.
#[test]
fn log_event_table_is_complete() {
    let table = table(&document("docs/METRICS.md"), "event");
    let mut documented: BTreeSet<_> = table.iter().map(|row| quoted(&row[0])[0].to_owned()).collect();
    // `publication_…` stands for a family.
    let families: Vec<_> = documented.extract_if(.., |event| event.ends_with('…')).collect();
    let is_of_family =
        |event: &str| families.iter().any(|family| event.starts_with(family.trim_end_matches('…')));
    let mut logged = BTreeSet::new();
    for (path, text) in sources("src") {
        for (at, call) in ["tracing::info!(", "tracing::warn!(", "tracing::error!("]
            .iter()
            .flat_map(|call| text.match_indices(call))
        {
            let arguments = text[at + call.len()..].trim_start();
            let event = arguments.strip_prefix("event = \"").and_then(|rest| rest.split('"').next());
            let line = text[..at].lines().count();
            logged.insert(event.unwrap_or_else(|| panic!("{path:?}:{line}: no event field")).to_owned());
        }
    }
    // Members of a family may have rows of their own.
    documented.extend(logged.iter().filter(|event| is_of_family(event)).cloned());
    assert_eq!(documented, logged);
}

#[test]
fn policy_allows_exactly_what_is_called() {
    let [policy] = <[String; 1]>::try_from(blocks(&document("README.md"), "json")).unwrap();
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let actions: BTreeSet<_> = policy["Statement"][0]["Action"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action.as_str().unwrap().to_owned())
        .collect();
    let (mut called, mut audit) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in sources("src/sink") {
        // What reads is for commands, and never part of the daemon's policy.
        let called = if path.to_string_lossy().contains("kinesis/read/") { &mut audit } else { &mut called };
        for (at, call) in text.match_indices("self.client.") {
            let rest = &text[at + call.len()..];
            if let Some((operation, _)) = rest.split_once("()").filter(|(name, _)| name.len() < 40) {
                let words = operation.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
                called.insert(format!("kinesis:{}", words.collect::<String>()));
            }
        }
        // Forebay's own client names its operation in the header `x-amz-target`; tests of the signature do not count.
        let production = text.split("#[cfg(test)]").next().unwrap();
        for rest in production.split("\"Kinesis_20131202.").skip(1) {
            called.insert(format!("kinesis:{}", rest.split('"').next().unwrap()));
        }
    }
    assert_eq!(actions, called);
    assert_eq!(audit.len(), 3);
    let archive = document("docs/ARCHIVE.md");
    assert!(audit.iter().all(|action| archive.contains(&format!("`{action}`"))), "{audit:?}");
    assert_eq!(policy["Statement"][1]["Action"], "kms:GenerateDataKey");
}

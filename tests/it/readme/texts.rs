//! What the documents name exists: scripts, links, tests, and the words of refusals.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{blocks, document, quoted, sources, table};
use crate::support::repository;

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/EVENTS.md",
    "docs/OPERATIONS.md",
    "docs/RELIABILITY.md",
];

#[test]
fn every_command_of_the_readme_is_run_by_a_test_or_is_one_of_the_two_long_ones() {
    for line in blocks(&document("README.md"), "sh").iter().flat_map(|block| block.lines()) {
        let program = line.split_whitespace().next().unwrap();
        if program == "forebay" {
            continue;
        }
        assert!(["scripts/demo", "scripts/test"].contains(&program), "who runs {line:?}?");
        let mode = std::fs::metadata(repository().join(program)).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{program} is not executable");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for name in DOCUMENTS {
        let text = document(name);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = repository().join(name).parent().unwrap().to_owned();
            let path = if file.is_empty() { repository().join(name) } else { folder.join(file) };
            let linked = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {target}: {error}"));
            let found = anchor.is_empty() || anchors(&String::from_utf8_lossy(&linked)).contains(anchor);
            assert!(found, "{name}: {target}: no such heading");
        }
    }
}

/// The headings as links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_refusal_in_the_runbook_is_in_the_words_of_the_program() {
    let program: String = sources("src")
        .into_iter()
        .map(|(_, text)| text.split("\\\n").map(str::trim_start).collect::<String>())
        .collect();
    for row in table(&document("docs/OPERATIONS.md"), "it says") {
        for part in row[0].split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(program.contains(part), "nothing says {part:?}");
        }
    }
}

#[test]
fn every_command_that_the_program_tells_a_person_to_run_exists() {
    let mut named = BTreeSet::new();
    for (_, text) in sources("src") {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            named.extend(
                line.split("`forebay ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap().to_owned()),
            );
        }
    }
    assert!(named.contains("adopt"), "{named:?}");
    for subcommand in named {
        let help =
            Command::new(env!("CARGO_BIN_EXE_forebay")).args([&subcommand, "--help"]).output().unwrap();
        assert!(help.status.success(), "the program tells to run `forebay {subcommand}`");
    }
}

/// The names of all functions of sources and tests.
fn functions() -> BTreeSet<String> {
    ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|(_, text)| {
            let names = text.match_indices("fn ").map(|(at, _)| {
                let rest = &text[at + 3..];
                let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(0);
                rest[..end].to_owned()
            });
            names.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_fault_in_the_reliability_document_names_the_test_that_shows_it() {
    let (text, functions) = (document("docs/RELIABILITY.md"), functions());
    for name in quoted(&text).into_iter().filter(|name| name.matches('_').count() >= 3) {
        assert!(functions.contains(name), "no test {name}");
    }
    let faults = text.split("\n## ").find(|part| part.starts_with("What breaks")).unwrap();
    let rows: Vec<_> =
        faults.lines().filter(|line| line.starts_with("| ") && !line.contains("| shown by |")).collect();
    assert!(rows.len() >= 30, "{} faults", rows.len());
    for row in rows {
        let shown = quoted(row.trim_end_matches(" |").rsplit(" | ").next().unwrap());
        let exists = |name: &&str| match name.split_once(' ') {
            Some((script, _)) => repository().join(script).exists(),
            None => functions.contains(*name),
        };
        assert!(!shown.is_empty() && shown.iter().all(exists), "{row}");
    }
}

#[test]
fn every_test_and_file_that_the_architecture_names_exists() {
    let functions = functions();
    let text = document("ARCHITECTURE.md");
    let invariants = text.split("## ").find(|part| part.starts_with("Invariants")).unwrap();
    let mut checked = 0;
    for item in invariants.split("\n\n").flat_map(|part| part.split(". *")) {
        for name in quoted(item) {
            if name.ends_with('/') || Path::new(name).extension().is_some() {
                let places = ["", "tests/it/"].map(|folder| repository().join(folder).join(name));
                let exists = places.iter().any(|path| path.exists());
                assert!(exists, "no {name}");
            } else if name.matches('_').count() >= 2 {
                assert!(functions.contains(name), "no test {name}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 25, "{checked} tests were looked for");
}

#[test]
fn the_documents_stay_short() {
    for (name, most) in [("README.md", 350), ("ARCHITECTURE.md", 300), ("CONTRIBUTING.md", 80)] {
        let lines = document(name).lines().count();
        assert!(lines < most, "{name} has {lines} lines");
    }
}

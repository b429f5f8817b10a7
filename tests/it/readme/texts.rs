//! What the documents name exists: scripts, links, tests, and the words of refusals.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{blocks, document, quoted, sources, table};
use crate::support::repository;

const DOCUMENTS: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/ARCHIVE.md",
    "docs/CONFIGURATION.md",
    "docs/CONSUMERS.md",
    "docs/EVENTS.md",
    "docs/EXPRESSIONS.md",
    "docs/METRICS.md",
    "docs/OPERATIONS.md",
    "docs/POLLING.md",
    "docs/QUICKSTART.md",
    "docs/RELIABILITY.md",
    "docs/SECURITY.md",
];

#[test]
fn readme_commands_are_tested_or_exist() {
    let commands = blocks(&document("README.md"), "sh").concat().replace("\\\n", "");
    for line in commands.lines() {
        let program = line.split_whitespace().next().unwrap();
        if program == "forebay" {
            continue;
        }
        // `readme_steps_lead_to_an_event` runs curl. The AWS command line needs an account.
        if ["curl", "aws"].contains(&program) {
            continue;
        }
        assert!(["scripts/demo", "scripts/test"].contains(&program), "who runs {line:?}?");
        let mode = std::fs::metadata(repository().join(program)).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{program} is not executable");
    }
}

#[test]
fn links_resolve() {
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
pub(super) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

/// The names that `Explain::code` of the program's errors can give.
fn codes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in sources("src") {
        // The tests of `failure.rs` have an error of their own.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for body in text.split("fn code(&self) -> Option<&'static str> {").skip(1) {
            let body = body.split("\n    }").next().unwrap();
            found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn runbook_lists_every_error_code() {
    let rows = table(&document("docs/OPERATIONS.md"), "`code`");
    let documented: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, codes());
}

#[test]
fn runbook_refusals_quote_the_program() {
    let program: String = sources("src")
        .into_iter()
        .map(|(_, text)| text.split("\\\n").map(str::trim_start).collect::<String>())
        .collect();
    for row in table(&document("docs/OPERATIONS.md"), "`code`") {
        for part in row[1].split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(program.contains(part), "nothing says {part:?}");
        }
    }
}

#[test]
fn commands_in_messages_exist() {
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
        assert!(help.status.success(), "the program advises to run `forebay {subcommand}`");
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
fn reliability_faults_name_existing_tests() {
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
fn security_page_names_existing_tests() {
    let (text, functions) = (document("docs/SECURITY.md"), functions());
    let tests: Vec<_> = text.lines().flat_map(quoted).filter(|name| name.matches('_').count() >= 3).collect();
    for name in &tests {
        assert!(functions.contains(*name), "no test {name}");
    }
    assert!(tests.len() >= 20, "{} tests were looked for", tests.len());
}

#[test]
fn architecture_names_existing_tests_and_files() {
    let functions = functions();
    let text = document("ARCHITECTURE.md");
    let invariants = text.split("## ").find(|part| part.starts_with("What must never break?")).unwrap();
    let tests: Vec<_> =
        quoted(invariants).into_iter().filter(|name| name.matches('_').count() >= 2).collect();
    for name in &tests {
        assert!(functions.contains(*name), "no test {name}");
    }
    assert!(tests.len() >= 60, "{} tests were looked for", tests.len());
    let is_path = |name: &&str| {
        name.ends_with('/') || Path::new(name).extension().is_some_and(|extension| extension == "rs")
    };
    for name in text.lines().flat_map(quoted).filter(is_path) {
        let exists = ["", "src/", "tests/it/"].iter().any(|top| repository().join(top).join(name).exists());
        assert!(exists, "no {name}");
    }
}

/// Tables may have longer lines. The changelog's lines are written by many hands and merged by union: wrapped at a release.
#[test]
fn documents_have_no_line_over_160_characters() {
    for name in DOCUMENTS.into_iter().filter(|name| *name != "CHANGELOG.md") {
        for (number, line) in document(name).lines().enumerate().filter(|(_, line)| !line.starts_with('|')) {
            assert!(line.chars().count() <= 160, "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn documents_stay_short() {
    for (name, most) in [("README.md", 230), ("ARCHITECTURE.md", 300), ("CONTRIBUTING.md", 101)] {
        let lines = document(name).lines().count();
        assert!(lines < most, "{name} has {lines} lines");
    }
}

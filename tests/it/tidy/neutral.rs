//! The core knows neither PostgreSQL nor Kinesis: a second source or destination must not change it.

use super::{code, files, read};
use crate::support::repository;

/// Folders of the core.
const CORE: [&str; 3] = ["src/pipeline", "src/buffer", "src/translate"];

/// Code of one source or destination.
const CONCRETE: [&str; 6] =
    ["source::postgres", "sink::kinesis", "tokio_postgres", "postgres_protocol", "aws_", "crate::daemon"];

/// Words of one source or destination.
const WORDS: [&str; 9] =
    ["lsn", "pgoutput", "walsender", "postgres", "postgresql", "wal", "kinesis", "arn", "publication"];

/// Files that use such words all the same: texts for operators, who run PostgreSQL and Kinesis, and the documented format of
/// ids. This list may only shrink.
const WORDED: [&str; 8] = [
    "src/pipeline/ingest/append.rs",
    "src/pipeline/meters.rs",
    "src/pipeline/publish/publish_log.rs",
    "src/pipeline/publish/stream_watch.rs",
    "src/pipeline/start/directory.rs",
    "src/pipeline/status/report.rs",
    "src/translate/error.rs",
    "src/translate/id.rs",
];

#[test]
fn core_imports_no_concrete_end() {
    let mut wrong = Vec::new();
    for (path, text) in core() {
        let code = code(&text);
        wrong.extend(
            CONCRETE.iter().filter(|used| code.contains(*used)).map(|used| format!("{path}: {used}")),
        );
    }
    assert!(wrong.is_empty(), "use the traits of source/mod.rs and sink/mod.rs:\n{}", wrong.join("\n"));
}

/// Lanes, pacing and shards decide when records leave, for every destination.
#[test]
fn rules_of_the_sink_import_no_destination() {
    let all = files("src/sink", &["rs"]);
    let rules = all.iter().filter(|file| !file.starts_with(repository().join("src/sink/kinesis")));
    let wrong: Vec<_> = rules.filter(|file| code(&read(file)).contains("kinesis::")).collect();
    assert!(wrong.is_empty() && all.len() > 30, "use the types of sink/mod.rs: {wrong:?}");
}

#[test]
fn core_names_no_concrete_end() {
    let mut wrong = Vec::new();
    let mut worded = Vec::new();
    for (path, text) in core() {
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| words(line).any(|word| WORDS.contains(&word.as_str())));
        let found: Vec<_> = lines.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())).collect();
        if WORDED.contains(&path.as_str()) {
            worded.push((path, found.is_empty()));
        } else {
            wrong.extend(found);
        }
    }
    assert!(wrong.is_empty(), "say source, destination, position, log:\n{}", wrong.join("\n"));
    let unused: Vec<_> = worded.iter().filter(|(_, unused)| *unused).collect();
    assert!(worded.len() == WORDED.len() && unused.is_empty(), "remove these from WORDED: {unused:?}");
}

#[test]
fn words_are_found_in_names_and_texts() {
    let line = "let confirmed_lsn = wal_end; // Kinesis says \"x|wal|\"";
    let found: Vec<_> = words(line).filter(|word| WORDS.contains(&word.as_str())).collect();
    assert_eq!(found, ["lsn", "wal", "kinesis", "wal"]);
    assert_eq!(words("Walk the learned arnica").filter(|word| WORDS.contains(&word.as_str())).count(), 0);
}

fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase)
}

/// Files of the core by path, without their tests.
fn core() -> Vec<(String, String)> {
    let all = CORE.iter().flat_map(|folder| files(folder, &["rs"]));
    let mut core = Vec::new();
    for file in all {
        let path = file.strip_prefix(repository()).unwrap().display().to_string();
        if !path.contains("tests") {
            let text = read(&file);
            core.push((path, text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()));
        }
    }
    assert!(core.len() > 30, "the core was not found");
    core
}

//! The documents are true: what they ask a person to type is typed, what they list is compared with the sources.

mod deploy;
mod first_event;
mod ops;
mod python;
mod quickstart;
mod steps;
mod tables;
mod texts;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use crate::support::repository;

/// A document of the repository.
fn document(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a document in one language, in order.
fn blocks(text: &str, wanted: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language == wanted, String::new())),
            (Some(_), Some(_)) => found.extend(open.take().filter(|(is_wanted, _)| *is_wanted)),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found.into_iter().map(|(_, block)| block).collect()
}

/// The rows of the table whose first column has this title, as cells; without the line of dashes.
fn table(text: &str, title: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {title} |")));
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table with the title {title:?}");
    rows
}

/// The texts between single backticks, in order.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What a daemon on this port answers, head and all; empty while nobody listens.
fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
    }
    answer
}

/// All files with this extension below a folder of the repository, with their texts.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

#[test]
fn blocks_and_tables_are_parsed() {
    let text = "```sh\na\n```\n```sql\nb;\nc;\n```\nx\n```sql\nd;\n```\n| key | x |\n|---|---|\n| `a` | 1 |\n\n| z |\n";
    assert_eq!(blocks(text, "sql"), ["b;\nc;\n", "d;\n"]);
    assert_eq!(table(text, "key"), [["`a`", "1"]]);
    assert_eq!(quoted("a `b` c `d e`."), ["b", "d e"]);
}

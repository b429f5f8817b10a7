//! The house rules that no lint knows: floors, headers, lengths, nothing left open, scripts that parse, a README that
//! tells the truth.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository;

/// Rooms of `src/`, from the ground up (DESIGN §9). A room may use the floors below it. The nouns, and the configuration
/// that is made of nothing but nouns, know each other; other rooms on one floor do not.
const FLOORS: [&[&str]; 7] = [
    &["position", "types", "change", "event", "failure", "config", "rules"],
    &["translate", "buffer"],
    &["contracts"],
    &["source", "sink"],
    &["pipeline"],
    &["observe", "preview"],
    &["cli"],
];

/// The longest file that is still one room.
const LINES_MAX: usize = 500;

#[test]
fn no_room_uses_one_on_its_own_floor_or_above() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files("src", &["rs"]) {
        let Some(room) = room(&file) else { continue };
        let floor = floor(&room).unwrap_or_else(|| panic!("src/{room} stands on no floor: add it to FLOORS"));
        seen.insert(room.clone());
        for used in used_rooms(&code(&read(&file))) {
            let below = self::floor(used).is_none_or(|used_floor| used_floor < floor || used_floor == 0);
            if used != room && !below {
                wrong.push(format!("{}: {room} uses {used}", file.display()));
            }
        }
    }
    assert!(seen.len() > 5, "the rooms were not found: {seen:?}");
    assert!(wrong.is_empty(), "lower floors never use higher ones:\n{}", wrong.join("\n"));
}

#[test]
fn the_floors_test_sees_what_a_line_uses() {
    for (text, expected) in [
        ("use crate::pipeline::recover;", vec!["pipeline"]),
        ("use crate::{\n    buffer::{Settled, sink},\n    sink,\n};\nuse x::{cli};", vec!["buffer", "sink"]),
        ("    let x = crate::cli::run(crate::config::get());", vec!["cli", "config"]),
        ("//! See [`crate::pipeline`].", vec![]),
        ("use std::fmt; // as crate::cli does", vec![]),
        ("use crate::Lsn;", vec![]),
    ] {
        assert_eq!(used_rooms(&code(text)), expected, "{text}");
    }
    assert!(floor("translate") < floor("source") && floor("source") < floor("pipeline"));
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for() {
    let headless = rust_files().into_iter().filter(|file| !read(file).starts_with("//! "));
    assert_none("files without a module header", headless);
}

#[test]
fn no_file_is_longer_than_one_room() {
    let long = rust_files().into_iter().filter(|file| read(file).lines().count() > LINES_MAX);
    assert_none("files with more than 500 lines: two rooms?", long);
}

#[test]
fn nothing_is_left_open() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("unimple", "mented!")];
    let mut places = rust_files();
    places.extend(scripts());
    places.extend(files("config", &["toml", "sql"]));
    places.extend(files("localstack", &["yaml"]));
    let open = places.into_iter().filter(|file| words.iter().any(|word| read(file).contains(word)));
    assert_none("files with something left open: open an issue instead", open);
}

#[test]
fn every_script_parses_and_is_executable() {
    use std::os::unix::fs::PermissionsExt as _;
    let shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    let scripts = scripts();
    assert!(scripts.len() >= 4, "{scripts:?}");
    for script in scripts {
        check(Command::new("bash").arg("-n").arg(&script));
        let mode = std::fs::metadata(&script).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{} is not executable", script.display());
        if shellcheck {
            check(Command::new("shellcheck").args(["--severity=warning", "--external-sources"]).arg(&script));
        }
    }
}

#[test]
fn every_command_in_the_documents_exists() {
    for document in ["README.md", "CONTRIBUTING.md"] {
        let path = repository().join(document);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for command in commands(&text) {
            let words: Vec<_> = command.split_whitespace().collect();
            match words[..] {
                ["forebay", subcommand, ..] if !subcommand.starts_with('-') => {
                    check(Command::new(env!("CARGO_BIN_EXE_forebay")).args([subcommand, "--help"]));
                }
                [program, ..] if program.contains('/') && !program.starts_with('/') => {
                    assert!(repository().join(program).exists(), "{document}: no {program}");
                }
                _ => {}
            }
        }
    }
}

/// Lines of a document's shell blocks, without prompt and without what a line before goes on with.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut shell = false;
    let mut continued = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = !shell && matches!(language, "sh" | "bash" | "console");
        } else if shell {
            if !continued {
                commands.push(line.trim_start().trim_start_matches("$ ").to_owned());
            }
            continued = line.ends_with('\\');
        }
    }
    commands
}

#[test]
fn commands_are_found_in_shell_blocks_only() {
    let text = "scripts/no\n```sh\nscripts/demo\nforebay run \\\n  --config x\n```\n```toml\na/b = 1\n```\n";
    assert_eq!(commands(text), ["scripts/demo", "forebay run \\"]);
}

/// A source text without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Rooms that code names by `crate::…`.
fn used_rooms(code: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => outer_names(list),
            None => vec![first_word(rest)],
        };
        rooms.extend(names.into_iter().filter(|name| floor(name).is_some()));
    }
    rooms
}

/// First words of the members of a list in braces, which may hold further lists.
fn outer_names(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut names = vec![first_word(list)];
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_word(&list[at + 1..])),
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The room a file of `src/` belongs to; none for `lib.rs` and `main.rs`, which know all.
fn room(file: &Path) -> Option<String> {
    let path = file.strip_prefix(repository().join("src")).unwrap();
    let room = path.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (room != "lib" && room != "main").then_some(room)
}

fn rust_files() -> Vec<PathBuf> {
    let all: Vec<_> =
        ["src", "tests", "benches", "fuzz"].into_iter().flat_map(|top| files(top, &["rs"])).collect();
    assert!(all.len() > 20, "the sources were not found");
    all
}

/// Files of the repository that begin with bash's name.
fn scripts() -> Vec<PathBuf> {
    let places = ["scripts", "localstack", "deploy", ".ci"].into_iter();
    let all = places.flat_map(|top| files(top, &["", "sh"]));
    all.filter(|file| std::fs::read(file).unwrap().starts_with(b"#!/usr/bin/env bash")).collect()
}

/// Files below a folder with one of these extensions (`""`: none), in order. No folder, no files.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if extensions.contains(&path.extension().unwrap_or_default().to_str().unwrap_or("?")) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn assert_none(what: &str, files: impl Iterator<Item = PathBuf>) {
    let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
    assert!(files.is_empty(), "{what}:\n{}", files.join("\n"));
}

fn check(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

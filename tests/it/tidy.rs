//! Rules of the code base that no lint checks: layers, module headers, lengths, names, open markers, and scripts that parse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository;

mod neutral;
mod structure;

/// Modules of `src/` by layer, from the lowest up (DESIGN §9). A module may use the layers below its own. Modules of the lowest
/// layer may use each other; modules of another layer may not.
const LAYERS: [&[&str]; 10] = [
    &[
        "backoff",
        "position",
        "identity",
        "time",
        "types",
        "json",
        "change",
        "event",
        "letter_id",
        "failure",
        "diagnosis",
        "visible",
        "small_file",
        "config",
        "rules",
    ],
    &["expression"],
    &["translate", "buffer"],
    &["dead_letter"],
    &["contracts"],
    &["source", "sink"],
    &["pipeline"],
    &["daemon"],
    &["observe", "preview", "audit"],
    &["cli"],
];

/// Most lines of a file.
const LINES_MAX: usize = 500;

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files("src", &["rs"]) {
        let Some(module) = module(&file) else { continue };
        let layer = layer(&module).unwrap_or_else(|| panic!("src/{module} has no layer: add it to LAYERS"));
        seen.insert(module.clone());
        for used in used_modules(&code(&read(&file))) {
            let below = self::layer(used).is_none_or(|used_layer| used_layer < layer || used_layer == 0);
            if used != module && !below {
                wrong.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(seen.len() > 5, "no modules found: {seen:?}");
    assert!(wrong.is_empty(), "a module uses a higher layer or its own:\n{}", wrong.join("\n"));
}

/// The texts between single backticks in the table of ARCHITECTURE.md name the modules of each layer, in the same order.
#[test]
fn documents_name_the_same_layers() {
    let is_name = |name: &&str| LAYERS.concat().contains(name);
    let text = read(Path::new("ARCHITECTURE.md"));
    let rows = text.lines().skip_while(|line| !line.starts_with("| layer | modules |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|') && !line.starts_with("| tests |"));
    let documented: Vec<Vec<_>> =
        rows.map(|row| row.split('`').skip(1).step_by(2).filter(is_name).collect()).collect();
    assert_eq!(documented, LAYERS);
    let header: String =
        read(Path::new("src/lib.rs")).lines().take_while(|line| line.starts_with("//!")).collect();
    let named: BTreeSet<_> = header.split("[`").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    assert_eq!(named, LAYERS.concat().into_iter().collect());
}

#[test]
fn layer_check_sees_every_import_form() {
    for (text, expected) in [
        ("use crate::pipeline::recover;", vec!["pipeline"]),
        ("use crate::{\n    buffer::{Settled, sink},\n    sink,\n};\nuse x::{cli};", vec!["buffer", "sink"]),
        ("    let x = crate::cli::run(crate::config::get());", vec!["cli", "config"]),
        ("//! See [`crate::pipeline`].", vec![]),
        ("use std::fmt; // as crate::cli does", vec![]),
        ("use crate::CommitSeq;", vec![]),
    ] {
        assert_eq!(used_modules(&code(text)), expected, "{text}");
    }
    assert!(layer("translate") < layer("source") && layer("source") < layer("pipeline"));
}

/// Another user may own the directory and replace the file that a path names. See `buffer::disk::Directory`.
#[test]
fn buffer_directory_is_used_through_its_descriptor_only() {
    let by_path = [
        "File::open",
        "File::create",
        "OpenOptions",
        "DirBuilder",
        "std::fs::read",
        "std::fs::write",
        " fs::",
        "(fs::",
        "dir.join",
    ];
    let uses = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            // `CheckpointFile::open` is another function; `use std::fs::File` names only the type.
            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                && !before.ends_with("std::")
                && !before.ends_with("unix::")
        })
    };
    let mut wrong = Vec::new();
    for file in ["src/buffer", "src/pipeline", "src/daemon", "src/cli"]
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
    {
        let text = read(&file);
        let elsewhere = ["disk/", "tests.rs"];
        if elsewhere.iter().any(|part| file.to_string_lossy().contains(part)) {
            continue;
        }
        let production = code(text.split("#[cfg(test)]").next().unwrap_or_default());
        wrong.extend(
            by_path
                .iter()
                .filter(|word| uses(&production, word))
                .map(|word| format!("{}: {word}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "use buffer::disk::Directory:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_has_a_module_header() {
    let headless = rust_files().into_iter().filter(|file| !read(file).starts_with("//! "));
    assert_none("files without a module header", headless);
}

#[test]
fn no_file_exceeds_500_lines() {
    let long = rust_files().into_iter().filter(|file| read(file).lines().count() > LINES_MAX);
    assert_none("files with more than 500 lines: split by meaning", long);
}

#[test]
fn no_todo_markers_are_left() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("unimple", "mented!")];
    let mut places = rust_files();
    places.extend(scripts());
    places.extend(files("config", &["toml", "sql"]));
    places.extend(files("localstack", &["yaml"]));
    let open = places.into_iter().filter(|file| words.iter().any(|word| read(file).contains(word)));
    assert_none("files with open markers: open an issue instead", open);
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

/// Commands of a document's shell blocks, without the prompt and without continuation lines.
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
fn commands_are_parsed_from_shell_blocks_only() {
    let text = "scripts/no\n```sh\nscripts/demo\nforebay run \\\n  --config x\n```\n```toml\na/b = 1\n```\n";
    assert_eq!(commands(text), ["scripts/demo", "forebay run \\"]);
}

/// A source text without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Top modules that code names by `crate::…`.
fn used_modules(code: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => outer_names(list),
            None => vec![first_word(rest)],
        };
        modules.extend(names.into_iter().filter(|name| layer(name).is_some()));
    }
    modules
}

/// First words of the members of a list in braces. The list may be nested.
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

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top module of a file of `src/`; `None` for `lib.rs` and `main.rs`, which may use everything.
fn module(file: &Path) -> Option<String> {
    let path = file.strip_prefix(repository().join("src")).unwrap();
    let module = path.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (module != "lib" && module != "main").then_some(module)
}

fn rust_files() -> Vec<PathBuf> {
    let all: Vec<_> =
        ["src", "tests", "benches", "fuzz"].into_iter().flat_map(|top| files(top, &["rs"])).collect();
    assert!(all.len() > 20, "the sources were not found");
    all
}

/// Files of the repository that begin with bash's shebang line.
fn scripts() -> Vec<PathBuf> {
    let places = ["scripts", "localstack", "deploy", ".ci"].into_iter();
    let all = places.flat_map(|top| files(top, &["", "sh"]));
    all.filter(|file| std::fs::read(file).unwrap().starts_with(b"#!/usr/bin/env bash")).collect()
}

/// Files below a folder with one of these extensions (`""`: no extension), in order. A missing folder has no files.
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

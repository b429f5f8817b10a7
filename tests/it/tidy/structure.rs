//! Import cycles, type names, test names and line lengths.

use std::collections::{BTreeMap, BTreeSet};

use super::{code, files, read, rust_files};
use crate::support::repository;

/// Longest line in characters. Rustfmt wraps code earlier; this bounds comments and texts.
const LINE_MAX: usize = 160;
/// Longest name of a test.
const TEST_NAME_MAX: usize = 60;

/// Files with longer lines: data and generated statements. This list may only shrink.
const LONG_LINES: [&str; 9] = [
    "src/cli/adopt.rs",
    "src/config/tests.rs",
    "src/dead_letter/index/tests.rs",
    "src/expression/check/operators.rs",
    "src/translate/mod.rs",
    "tests/it/disk/foreign.rs",
    "tests/it/samples.rs",
    "tests/it/sql/templates.rs",
    "tests/it/sql.rs",
];

/// Known import cycles. A cycle that is found must be part of one of these. This list may only shrink.
const KNOWN_CYCLES: [&[&str]; 0] = [];

/// Types that share their name with a type of another file. This list may only shrink.
const DUPLICATE_TYPES: [&str; 66] = [
    "Attempt",
    "Attribute",
    "Buffer",
    "Catalog",
    "Change",
    "Command",
    "Content",
    "Deprecated",
    "Described",
    "Difference",
    "Facts",
    "Failure",
    "Fate",
    "Form",
    "Found",
    "Frame",
    "Group",
    "Head",
    "Holds",
    "Ingest",
    "Line",
    "Load",
    "LockError",
    "Log",
    "Maker",
    "Message",
    "Meter",
    "Named",
    "Old",
    "Open",
    "Order",
    "Origin",
    "Outcome",
    "Phase",
    "Place",
    "Progress",
    "Publish",
    "Published",
    "Random",
    "Reader",
    "Report",
    "Request",
    "Retry",
    "Row",
    "Rules",
    "Run",
    "Scan",
    "Schema",
    "Scratch",
    "Settings",
    "SettingsError",
    "Shape",
    "Show",
    "Slot",
    "Span",
    "Start",
    "State",
    "Step",
    "Stop",
    "Stream",
    "Tools",
    "Verdict",
    "Verified",
    "Walk",
    "Wanted",
    "Writer",
];

#[test]
fn no_line_exceeds_160_characters() {
    let mut long = Vec::new();
    for file in rust_files() {
        let path = file.strip_prefix(repository()).unwrap().display().to_string();
        let text = read(&file);
        let lines = text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_MAX);
        if !LONG_LINES.contains(&path.as_str()) {
            long.extend(lines.map(|(at, _)| format!("{path}:{}", at + 1)));
        }
    }
    assert!(long.is_empty(), "lines of more than {LINE_MAX} characters:\n{}", long.join("\n"));
}

/// The story of a test belongs into its doc comment.
#[test]
fn names_of_tests_have_at_most_60_characters() {
    let mut long = Vec::new();
    for text in rust_files().iter().map(|file| read(file)) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
            if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test && !line.starts_with("//")) {
                let name = name.split('(').next().unwrap_or_default();
                if name.len() > TEST_NAME_MAX {
                    long.push(name.to_owned());
                }
                is_test = false;
            }
        }
    }
    assert!(
        long.is_empty(),
        "names of tests with more than {TEST_NAME_MAX} characters:\n{}",
        long.join("\n")
    );
}

#[test]
fn no_new_type_name_is_used_twice() {
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in modules() {
        for line in text.lines() {
            if let Some(name) = type_name(line) {
                defined.entry(name.to_owned()).or_default().insert(module.clone());
            }
        }
    }
    assert!(defined.len() > 100, "no types found: {defined:?}");
    defined.retain(|name, modules| modules.len() > 1 && !DUPLICATE_TYPES.contains(&name.as_str()));
    assert!(defined.is_empty(), "qualify these names, such as `ReplicationSlot`: {defined:#?}");
}

/// The type that a line at the top level of a file defines.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    if line.starts_with(' ') || line.starts_with("//") {
        return None;
    }
    let is_visibility = |word: &str| matches!(word, "pub" | "crate" | "super" | "in");
    let keyword = words.by_ref().find(|word| !is_visibility(word))?;
    matches!(keyword, "struct" | "enum" | "trait" | "type" | "union").then(|| words.next())?
}

/// Files of one top module form layers too: a cycle means that none of its files can be understood alone.
#[test]
fn no_new_import_cycle() {
    let modules = modules();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, text) in &modules {
        let used = paths(text).into_iter().filter_map(|path| resolve(module, &path, &modules));
        let same = used.filter(|used| used != module && top(used) == top(module));
        uses.insert(module, same.collect());
    }
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 100, "no imports found");
    let mut new = BTreeSet::new();
    for module in uses.keys() {
        let cycle: BTreeSet<_> = reachable(&uses, module)
            .into_iter()
            .filter(|other| reachable(&uses, other).contains(module))
            .collect();
        let is_known = KNOWN_CYCLES.iter().any(|known| cycle.iter().all(|module| known.contains(module)));
        if cycle.len() > 1 && !is_known {
            new.insert(cycle.into_iter().collect::<Vec<_>>());
        }
    }
    assert!(new.is_empty(), "import cycles: {new:#?}");
}

#[test]
fn imports_are_parsed_in_every_form() {
    let code = "use super::a::{self, B, c::{D, E}};\nuse crate::x::Y as Z;\npub(in crate::z) fn f() { self::g::h(); super::super::i() }";
    let found: BTreeSet<_> = paths(code).into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::x::Y",
        "self::g::h",
        "super::a",
        "super::a::B",
        "super::a::c::D",
        "super::a::c::E",
        "super::super::i",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    assert_eq!(type_name("pub(super) struct Y<'a> {"), Some("Y"));
    assert_eq!(type_name("enum Z {"), Some("Z"));
    assert_eq!(type_name("pub fn type_name() {"), None);
}

/// Modules of `src/` by path, such as `buffer::log`, with their code; without tests.
fn modules() -> BTreeMap<String, String> {
    let source = repository().join("src");
    let mut modules = BTreeMap::new();
    for file in files("src", &["rs"]) {
        let path = file.strip_prefix(&source).unwrap().with_extension("").display().to_string();
        let path = path.strip_suffix("/mod").unwrap_or(&path).replace('/', "::");
        if !path.split("::").any(|name| name.ends_with("tests")) {
            let text = code(&read(&file));
            let production = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            modules.insert(path, production.to_owned());
        }
    }
    modules
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn reachable<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = uses.get(from).into_iter().flatten().copied().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(uses.get(module).into_iter().flatten());
        }
    }
    found
}

/// The module of `src/` that a path means in a module; the longest prefix that is one.
fn resolve<'a>(module: &str, path: &[&str], modules: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let mut place: Vec<&str> = module.split("::").collect();
    for (at, name) in path.iter().enumerate() {
        match *name {
            "crate" if at == 0 => place.clear(),
            "self" => {}
            "super" => drop(place.pop()),
            name => place.push(name),
        }
    }
    while !place.is_empty() {
        if let Some((known, _)) = modules.get_key_value(&place.join("::")) {
            return Some(known);
        }
        place.pop();
    }
    None
}

/// Paths in code that begin with `crate`, `self` or `super`, with groups expanded.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code;
    while let Some(at) = rest.find("::") {
        let begin = rest[..at].rfind(|c: char| !is_name(c)).map_or(0, |at| at + 1);
        let root = &rest[begin..at];
        // Not a visibility such as `pub(in crate::contracts)`.
        let is_import = !rest[..begin].ends_with("::") && !rest[..begin].ends_with("(in ");
        rest = if matches!(root, "crate" | "self" | "super") && is_import {
            path(&rest[at + 2..], &mut vec![root], &mut found)
        } else {
            &rest[at + 2..]
        };
    }
    found
}

/// Reads what follows `::` behind `prefix`, and returns the code after it.
fn path<'a>(code: &'a str, prefix: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) -> &'a str {
    if let Some(list) = code.strip_prefix('{') {
        let mut rest = list.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            let after = path(rest, &mut prefix.clone(), found);
            // A rename, a comma, or an end that the reader of this code must not skip.
            let end = after.find([',', '}']).unwrap_or(after.len());
            rest = after[end..].trim_start_matches(',').trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    if !name.is_empty() && name != "self" {
        prefix.push(name);
    }
    if let Some(more) = rest.strip_prefix("::") {
        path(more, prefix, found)
    } else {
        found.push(prefix.clone());
        rest
    }
}

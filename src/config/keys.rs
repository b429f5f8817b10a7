//! Reads single keys from file and environment, and collects every error.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Value};

use crate::failure::Problem;
use crate::small_file;

/// Largest configuration file. It has some forty keys; lists of tables need most of the space.
const FILE_MAX: u64 = 1 << 20;
/// The key by which the TOML parser marks a date or time.
const DATE: &str = "$__toml_private_datetime";

/// The configured values and the errors found in them.
#[derive(Debug)]
pub(super) struct Keys {
    /// Every value by its dotted path. Reading removes it: values that remain are unknown keys.
    leaves: BTreeMap<String, Value>,
    /// Every key that was read.
    known: BTreeSet<String>,
    /// The known keys that have a value.
    set: BTreeSet<String>,
    /// The environment variables, by the key that each sets.
    variables: BTreeMap<String, String>,
    /// Environment variables with a single underscore where a key needs two, and the key that each probably
    /// means.
    nearly: Vec<(String, String)>,
    errors: Vec<Problem>,
}

impl Keys {
    /// The file, overlaid by the environment: `FOREBAY_KINESIS__STREAM` is `kinesis.stream`. A variable
    /// counts if it has a double underscore, or is `FOREBAY_NAME`, `FOREBAY_ON_POISON` or `FOREBAY_MAX_LAG`.
    /// Its value is always text. `FOREBAY_DEFAULT_KINESIS__STREAM`, which an image may set, is a default:
    /// file and environment override it.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub(super) fn read(
        path: &Path,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Problem> {
        let text = small_file::read_text(path, FILE_MAX).map_err(|error| {
            let problem =
                Problem::new(format!("cannot read the configuration file {}: {error}", path.display()));
            if error.kind() == std::io::ErrorKind::NotFound {
                return problem.with_hint("Name the file with --config, or write one with `forebay init`.");
            }
            problem
        })?;
        let mut figment = Figment::from(Toml::string(&text));
        let (mut variables, mut nearly, mut errors) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (variable, value) in environment {
            let variable = variable.to_string_lossy().into_owned();
            let Some((prefix, name)) = variable.split_at_checked("FOREBAY_".len()) else { continue };
            if !prefix.eq_ignore_ascii_case("FOREBAY_") {
                continue;
            }
            let path = |name: &str| name.to_ascii_lowercase().replace("__", ".");
            let is_key = name.contains("__") || matches!(name, "NAME" | "ON_POISON" | "MAX_LAG");
            if prefix != "FOREBAY_" || !is_key {
                nearly.push((path(name).replace('.', "_").trim_matches('_').to_owned(), variable));
                continue;
            }
            if name.split("__").any(str::is_empty) {
                let problem = Problem::new(format!("environment variable {variable} names no key"));
                errors.push(problem.with_hint("Write FOREBAY_<SECTION>__<KEY>: FOREBAY_KINESIS__STREAM."));
                continue;
            }
            let Ok(value) = value.into_string() else {
                let problem = Problem::new(format!("environment variable {variable} is not UTF-8"));
                errors.push(problem.at(&path(name)));
                continue;
            };
            if let Some(name) = name.strip_prefix("DEFAULT_") {
                figment = figment.join(Serialized::default(&path(name), value));
            } else {
                figment = figment.merge(Serialized::default(&path(name), value));
                variables.insert(path(name), variable);
            }
        }
        let dict: Dict = figment.extract().map_err(|error| {
            let error = without_excerpt(&error.to_string());
            format!("the configuration file {} is not valid TOML: {error}", path.display())
        })?;
        let mut leaves = BTreeMap::new();
        flatten("", dict, &mut leaves);
        Ok(Self { leaves, known: BTreeSet::new(), set: BTreeSet::new(), variables, nearly, errors })
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        if !self.known.contains(key) {
            self.known.insert(key.to_owned());
        }
        let value = self.leaves.remove(key);
        if value.is_some() {
            self.set.insert(key.to_owned());
        }
        value
    }

    /// An optional string, never empty.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(_, text) if text.is_empty() => {
                self.is_empty(key);
                None
            }
            Value::String(_, text) => Some(text),
            other => {
                self.error(key, format!("expected a string in quotes, found {}", kind(&other)));
                None
            }
        }
    }

    fn is_empty(&mut self, key: &str) {
        let empty = Problem::new(format!("is empty{}", self.variable(key)));
        self.error(key, empty.with_hint("Set a value or remove the key."));
    }

    /// The environment variable that set a key, in brackets.
    fn variable(&self, key: &str) -> String {
        self.variables.get(key).map_or_else(String::new, |variable| format!(" ({variable})"))
    }

    /// A required string, converted by `parse`.
    pub(super) fn required_as<T, E: Into<Problem>>(
        &mut self,
        key: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.leaves.contains_key(key) {
            self.error(key, Problem::new("is missing").with_hint(format!("Set it, for example {example}")));
        }
        self.parsed(key, parse)
    }

    /// An optional string, converted by `parse`.
    pub(super) fn parsed<T, E: Into<Problem>>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|error| self.error(key, error)).ok()
    }

    /// An integer within bounds; the environment gives it as text.
    pub(super) fn number(&mut self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let number = match &value {
            Value::String(_, text) => text.parse().ok(),
            other => other.to_i128().and_then(|number| u64::try_from(number).ok()),
        };
        if number.is_none_or(|number| !bounds.contains(&number)) {
            self.error(key, format!("expected a whole number from {} to {}", bounds.start(), bounds.end()));
            return None;
        }
        number
    }

    /// `true` or `false`; the environment gives it as text.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = match &value {
            Value::Bool(_, flag) => Some(*flag),
            Value::String(_, text) => text.parse().ok(),
            _ => None,
        };
        if flag.is_none() {
            self.error(key, "expected true or false");
        }
        flag
    }

    /// An array of strings; the environment gives it separated by commas, or as JSON. An empty text is an
    /// error: a variable without a value would undo a list of the file, such as that of the personal data.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        match self.take(key)? {
            Value::String(_, text) if text.trim().is_empty() => {
                self.is_empty(key);
                None
            }
            Value::String(_, text) => Some(serde_json::from_str(&text).unwrap_or_else(|_| items(&text))),
            Value::Array(_, items) => {
                let count = items.len();
                let texts: Vec<_> = items.into_iter().filter_map(Value::into_string).collect();
                if texts.len() != count {
                    self.error(key, "expected an array of strings");
                    return None;
                }
                Some(texts)
            }
            _ => {
                self.error(key, "expected an array of strings, such as [\"lab.plates\"]");
                None
            }
        }
    }

    /// The texts of a table of tables, each as outer key, inner key and value: `"lab.plates" = { updated_at =
    /// "changed" }`.
    pub(super) fn nested(&mut self, key: &str) -> Vec<(String, String, String)> {
        let prefix = format!("{key}.");
        let paths: Vec<String> =
            self.leaves.keys().filter(|path| path.starts_with(&prefix)).cloned().collect();
        let mut found = Vec::new();
        if matches!(self.leaves.get(key), Some(Value::Dict(_, empty)) if empty.is_empty()) {
            self.leaves.remove(key);
        }
        for path in paths {
            let parts = path.strip_prefix(&prefix).and_then(|rest| rest.rsplit_once('.'));
            let (Some((name, inner)), Some(value)) = (parts, self.leaves.remove(&path)) else { continue };
            match value {
                Value::String(_, text) => found.push((name.to_owned(), inner.to_owned(), text)),
                _ => self.error(&path, "expected a string in quotes"),
            }
        }
        found
    }

    /// Whether a key that was read before had a value in the file or the environment.
    pub(super) fn was_set(&self, key: &str) -> bool {
        self.set.contains(key)
    }

    /// Adds an error for a key.
    pub(super) fn error(&mut self, key: &str, error: impl Into<Problem>) {
        self.errors.push(error.into().at(key));
    }

    /// All errors, including unknown keys. Must be called last.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (key, value) in &self.leaves {
            let is_empty_section = matches!(value, Value::Dict(_, inner) if inner.is_empty());
            let problem = match (self.is_section(key), is_empty_section) {
                (true, true) => continue,
                (true, false) => Problem::new(format!("is a section, not a key{}", self.variable(key)))
                    .with_hint(format!("Write [{key}] in a line of its own, and the keys below it.")),
                (false, is_section) => {
                    let what = if is_section { "section" } else { "key" };
                    let meant = match self.nearest(key, is_section) {
                        Some(near) if is_section => format!("Did you mean [{near}]?"),
                        Some(near) => format!("Did you mean {near}?"),
                        None => "config/example.toml lists every key.".to_owned(),
                    };
                    Problem::new(format!("unknown {what}{}", self.variable(key))).with_hint(meant)
                }
            };
            self.errors.push(problem.at(key));
        }
        for (key, variable) in &self.nearly {
            // `kinesis_stream`, but not `service_host`, which Kubernetes sets for a service named `forebay`.
            let Some(known) = self.known.iter().find(|known| known.replace('.', "_") == *key) else {
                continue;
            };
            let right = known.to_ascii_uppercase().replace('.', "__");
            let problem = Problem::new(format!("environment variable {variable} has no effect"));
            let hint = if right.contains("__") {
                format!("Write two underscores after the section: FOREBAY_{right}")
            } else {
                format!("Write FOREBAY_{right}")
            };
            self.errors.push(problem.with_hint(hint).at(known));
        }
        self.errors
    }

    fn is_section(&self, key: &str) -> bool {
        self.sections().any(|section| section == key)
    }

    fn sections(&self) -> impl Iterator<Item = &str> {
        self.known.iter().filter_map(|known| known.rsplit_once('.')).map(|(section, _)| section)
    }

    /// The key or section that was probably meant: a similar spelling, or the same key in another section.
    fn nearest(&self, wrong: &str, is_section: bool) -> Option<&str> {
        let key = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let slips = |near: &&str| strsim::damerau_levenshtein(near, wrong);
        let candidates: Vec<&str> = if is_section {
            self.sections().collect()
        } else {
            self.known.iter().map(String::as_str).collect()
        };
        let near = candidates.iter().copied().min_by_key(slips).filter(|near| slips(near) <= 2);
        let mut same = candidates.into_iter().filter(|near| !is_section && key(near) == key(wrong));
        near.or_else(|| same.next().filter(|_| same.next().is_none()))
    }
}

/// The type of a value, for a message. The value itself may be a numeric password.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Dict(_, inner) if inner.contains_key(DATE) => "a date",
        Value::Dict(..) => "a table",
        Value::Array(..) => "an array",
        Value::Empty(..) => "nothing",
    }
}

/// The parts of a text between commas outside of double quotes.
fn items(text: &str) -> Vec<String> {
    let mut is_quoted = false;
    let items = text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A TOML error without the quoted lines of the file, which may contain a password.
fn without_excerpt(error: &str) -> String {
    let own = |line: &&str| {
        if line.trim() == "in TOML source string" {
            return false;
        }
        let rest = line.trim_start().trim_start_matches(|digit: char| digit.is_ascii_digit());
        !rest.trim_start().starts_with('|')
    };
    error.lines().filter(own).collect::<Vec<_>>().join("; ")
}

fn flatten(prefix: &str, dict: Dict, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in dict {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Dict(_, inner) if !inner.is_empty() && !inner.contains_key(DATE) => {
                flatten(&path, inner, leaves);
            }
            leaf => {
                leaves.insert(path, leaf);
            }
        }
    }
}

/// Checks the path of a file or directory.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.trim() == text && !text.chars().any(char::is_control) {
        return Ok(PathBuf::from(text));
    }
    // Not repeated, because a secret may have been entered in place of its file.
    Err("is not a valid path: it has surrounding blanks or control characters".to_owned())
}

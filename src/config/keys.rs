//! Reads single keys from file and environment, and collects every error instead of stopping at the first.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Value};

/// What was typed, and what was wrong with it so far.
#[derive(Debug)]
pub(super) struct Keys {
    /// Every leaf by its dotted path; taken out as it is read, so that what is left at the end is unknown.
    leaves: BTreeMap<String, Value>,
    errors: Vec<String>,
}

impl Keys {
    /// The file, overlaid by the environment: `FOREBAY_KINESIS__STREAM` is `kinesis.stream`. A variable counts if it has
    /// a double underscore, or is `FOREBAY_NAME` or `FOREBAY_ON_POISON`; values of variables are text, never guessed.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub(super) fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration file {}: {error}", path.display()))?;
        let mut figment = Figment::from(Toml::string(&text));
        for (variable, value) in environment {
            let Some(key) = variable.strip_prefix("FOREBAY_") else { continue };
            if key.contains("__") || matches!(key, "NAME" | "ON_POISON") {
                figment =
                    figment.merge(Serialized::default(&key.to_ascii_lowercase().replace("__", "."), value));
            }
        }
        let dict: Dict = figment.extract().map_err(|error| {
            let error = without_excerpt(&error.to_string());
            format!("the configuration file {} is not valid TOML: {error}", path.display())
        })?;
        let mut leaves = BTreeMap::new();
        flatten("", dict, &mut leaves);
        Ok(Self { leaves, errors: Vec::new() })
    }

    /// A text, if the key is there.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.leaves.remove(key)? {
            Value::String(_, text) => Some(text),
            other => {
                // The value itself may be a password of digits.
                let actual = other.to_actual().to_string();
                let kind = actual.split('`').next().unwrap_or_default().trim_end();
                self.error(key, format!("expected a text in quotes, found {kind}"));
                None
            }
        }
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, key: &str, example: &str) -> Option<String> {
        if !self.leaves.contains_key(key) {
            self.error(key, format!("is missing; for example {example}"));
        }
        self.text(key)
    }

    /// A text made into something else by `parse`, if the key is there.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|error| self.error(key, error)).ok()
    }

    /// A whole number within bounds; from the environment also as text.
    pub(super) fn number(&mut self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.leaves.remove(key)?;
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

    /// `true` or `false`; from the environment also as text.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.leaves.remove(key)?;
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

    /// A list of texts; from the environment separated by commas.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        match self.leaves.remove(key)? {
            Value::String(_, text) => Some(
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
            ),
            Value::Array(_, items) => {
                let count = items.len();
                let texts: Vec<_> = items.into_iter().filter_map(Value::into_string).collect();
                if texts.len() != count {
                    self.error(key, "expected a list of texts in quotes");
                    return None;
                }
                Some(texts)
            }
            _ => {
                self.error(key, "expected a list of texts, such as [\"lab.plates\"]");
                None
            }
        }
    }

    /// Notes an error at a key.
    pub(super) fn error(&mut self, key: &str, error: impl AsRef<str>) {
        self.errors.push(format!("{key}: {}", error.as_ref()));
    }

    /// All errors, with every key nobody asked for.
    pub(super) fn finish(mut self) -> Vec<String> {
        for key in self.leaves.keys() {
            self.errors.push(format!("{key}: there is no such key; see `forebay config` for all keys"));
        }
        self.errors
    }
}

/// A TOML error without the lines of the file that it quotes, which may hold a password.
fn without_excerpt(error: &str) -> String {
    let own = |line: &&str| {
        let rest = line.trim_start().trim_start_matches(|digit: char| digit.is_ascii_digit());
        !rest.trim_start().starts_with('|')
    };
    error.lines().filter(own).collect::<Vec<_>>().join("; ")
}

fn flatten(prefix: &str, dict: Dict, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in dict {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Dict(_, inner) => flatten(&path, inner, leaves),
            leaf => {
                leaves.insert(path, leaf);
            }
        }
    }
}

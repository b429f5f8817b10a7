//! `[log]`: format and filter.

use tracing_subscriber::filter::Targets;

use super::keys::Keys;
use crate::failure::Problem;

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// One JSON object per line instead of text.
    pub json: bool,
    /// Filter in the syntax of `tracing`: `info`, `forebay=debug`.
    pub filter: String,
}

/// Names of the levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Names of levels in other programs.
const OTHER_WORDS: [(&str, &str); 8] = [
    ("warning", "warn"),
    ("information", "info"),
    ("notice", "info"),
    ("verbose", "debug"),
    ("fatal", "error"),
    ("critical", "error"),
    ("none", "off"),
    ("all", "trace"),
];
/// The target of Forebay's log lines.
const TARGET: &str = "forebay";

impl Log {
    pub(super) fn read(keys: &mut Keys) -> Self {
        Self {
            json: keys
                .parsed("log.format", |text| match text {
                    "human" => Ok(false),
                    "json" => Ok(true),
                    other => Err(format!("{other:?} is neither \"human\" nor \"json\"")),
                })
                .unwrap_or(false),
            filter: keys.parsed("log.filter", filter).unwrap_or_else(|| "info".to_owned()),
        }
    }
}

/// Checks a filter. `tracing` takes an unknown word as a module name and shows only that module: a misspelt
/// level would silence the log.
fn filter(text: &str) -> Result<String, Problem> {
    const FORM: &str =
        "Write a level, such as \"info\", or targets with levels, such as \"info,forebay=debug\".";
    let wrong = |(why, guess): (String, Option<&str>)| {
        let hint = guess.map_or_else(|| FORM.to_owned(), |guess| format!("Did you mean {guess:?}? {FORM}"));
        Problem::new(format!("{text:?} is not a log filter: {why}")).with_hint(hint)
    };
    let mut directives = Vec::new();
    let mut shows_ours = false;
    for directive in text.split(',').map(str::trim) {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target.trim()), Some(level.trim())),
            None if is_level(directive) => (None, Some(directive)),
            None => (Some(directive), None),
        };
        if let Some(level) = level.filter(|level| !is_level(level)) {
            return Err(wrong(no_level(level)));
        }
        if let Some(target) = target {
            check_target(target, level.is_some()).map_err(wrong)?;
        }
        let first = target.map(|target| target.split("::").next().unwrap_or_default());
        shows_ours |= first.is_none_or(|first| first == TARGET);
        directives.push(match (target, level) {
            (Some(target), Some(level)) => format!("{target}={level}"),
            (Some(word), None) | (None, Some(word)) => word.to_owned(),
            (None, None) => String::new(),
        });
    }
    if !shows_ours {
        let why =
            format!("it has neither a default level nor the target {TARGET:?}, so no line would be shown");
        return Err(wrong((why, None)));
    }
    let filter = directives.join(",");
    filter.parse::<Targets>().map_err(|error| wrong((error.to_string(), None)))?;
    Ok(filter)
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
}

/// Why a word is not a level, and the level that was probably meant.
fn no_level(text: &str) -> (String, Option<&'static str>) {
    let known = OTHER_WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, level)| *level);
    let lower = text.to_ascii_lowercase();
    let near = || LEVELS.into_iter().find(|level| strsim::damerau_levenshtein(level, &lower) <= 2);
    match known.or_else(near) {
        Some(level) => (format!("{text:?} is not a level"), Some(level)),
        None => (format!("{text:?} is not a level; valid levels are {}", LEVELS.join(", ")), None),
    }
}

fn check_target(target: &str, has_level: bool) -> Result<(), (String, Option<&'static str>)> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    if target.is_empty() || !target.bytes().all(allowed) {
        return Err((format!("{target:?} is not a target"), None));
    }
    let first = target.split("::").next().unwrap_or_default();
    if first == TARGET {
        return Ok(());
    }
    if !has_level {
        return Err(no_level(target));
    }
    if strsim::damerau_levenshtein(first, TARGET) <= 2 {
        return Err((format!("{first:?} is not a target"), Some(TARGET)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_levels_and_targets() {
        for (text, stored) in [
            ("info", "info"),
            ("WARN", "WARN"),
            ("off", "off"),
            ("info, forebay=debug", "info,forebay=debug"),
            ("forebay::sink=trace", "forebay::sink=trace"),
            ("forebay", "forebay"),
            ("warn,hyper=debug", "warn,hyper=debug"),
        ] {
            assert_eq!(filter(text).ok().as_deref(), Some(stored));
        }
    }

    #[test]
    fn mistyped_filter_is_refused_with_a_guess() {
        for (text, about) in [
            ("verbose", "\"debug\"?"),
            ("warning", "\"warn\"?"),
            ("inof", "\"info\"?"),
            ("forebay=verbose", "\"debug\"?"),
            ("info,forbay=debug", "\"forebay\"?"),
            ("hyper=debug", "no line would be shown"),
            ("loud", "valid levels are off"),
            ("info,", "not a target"),
            ("forebay[span]=info", "not a target"),
            ("a=b=c", "not a level"),
            ("", "not a target"),
        ] {
            let error = filter(text).unwrap_err().lines();
            assert!(error.contains(about), "{text}: {error}");
        }
    }
}

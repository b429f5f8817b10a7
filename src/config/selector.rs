//! Selectors of tables and columns: `lab.plates`, `lab.*`, `*.*.password`, `lab."Old.Name"`.
//!
//! A part is a name exactly as PostgreSQL stores it, in double quotes if it contains a dot or a quote, or `*`
//! for every name. A leading `?` marks a selector that may match nothing. In `pii.columns`, a leading `!`
//! marks one of columns that hold no personal data although another selector, their history or their origin
//! says so.

use std::borrow::Cow;

use crate::failure::Problem;

/// What a selector selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKind {
    /// `schema.table`.
    Table,
    /// `schema.table.column`.
    Column,
}

impl SelectorKind {
    const fn parts(self) -> usize {
        match self {
            Self::Table => 2,
            Self::Column => 3,
        }
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Table => "schema.table or schema.*",
            Self::Column => "schema.table.column, where each part may be *",
        }
    }
}

/// Checks the form of a selector.
///
/// # Errors
/// The error, with the valid form.
pub(super) fn check(text: &str, kind: SelectorKind) -> Result<(), Problem> {
    let problem = |why: &str| Problem::new(format!("{text:?} does not have the form {}: {why}", kind.form()));
    let wrong = |why: &str| Err(problem(why));
    if is_exception(text) && kind == SelectorKind::Table {
        return wrong("! is possible in pii.columns only");
    }
    let found: Vec<&str> = parts(pattern(text)).collect();
    for part in &found {
        if let Err(why) = check_part(part) {
            let wrong = problem(why.primary());
            return Err(match why.hint() {
                Some(hint) => wrong.with_hint(hint),
                None => wrong,
            });
        }
    }
    if found.len() != kind.parts() {
        let wrong = problem(&format!("it has {} of {} parts", found.len(), kind.parts()));
        // `"lab.plates"`: one pair of quotes around the whole selector.
        let whole =
            found.iter().find_map(|part| part.strip_prefix('"')?.strip_suffix('"')).unwrap_or_default();
        return Err(if found.len() > kind.parts() {
            wrong.with_hint("Put a name with a dot in double quotes.")
        } else if parts(whole).count() == kind.parts() {
            wrong.with_hint(format!("Write {whole}, without quotes around the whole."))
        } else {
            wrong
        });
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), Problem> {
    if part.is_empty() {
        return Err("a part is empty".into());
    }
    if part.trim() != part {
        return Err(format!("{part:?} has surrounding blanks").into());
    }
    if part.chars().any(char::is_control) && !part.starts_with('"') {
        let problem = Problem::new(format!("{part:?} has a control character"));
        return Err(problem.with_hint("Put the name in double quotes."));
    }
    if let Some(rest) = part.strip_prefix('"') {
        let inner = rest.strip_suffix('"').filter(|inner| !inner.is_empty());
        return match inner {
            Some(inner) if !inner.replace("\"\"", "").contains('"') => Ok(()),
            _ => Err(format!("{part} is not a valid name in double quotes").into()),
        };
    }
    if part.contains('"') {
        return Err(format!("{part} contains a double quote").into());
    }
    if part != "*" && part.contains('*') {
        return Err(format!("{part:?} has * inside a name; * stands for a whole name").into());
    }
    Ok(())
}

/// A selector without its `!` and `?`.
fn pattern(text: &str) -> &str {
    let text = text.strip_prefix('!').unwrap_or(text);
    text.strip_prefix('?').unwrap_or(text)
}

/// Whether the selector excepts columns (`!`).
pub fn is_exception(text: &str) -> bool {
    text.starts_with('!')
}

/// Whether the selector may match nothing.
pub fn is_optional(text: &str) -> bool {
    text.strip_prefix('!').unwrap_or(text).starts_with('?')
}

/// The parts as written, split at unquoted dots.
fn parts(pattern: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    pattern.split(move |c: char| {
        is_quoted ^= c == '"';
        c == '.' && !is_quoted
    })
}

/// A name without its quotes.
fn unquoted(part: &str) -> Cow<'_, str> {
    match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
        Some(inner) if inner.contains("\"\"") => Cow::Owned(inner.replace("\"\"", "\"")),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(part),
    }
}

/// A name in selector syntax.
pub fn quoted(name: &str) -> Cow<'_, str> {
    let is_plain = !name.contains(|c: char| matches!(c, '.' | '"' | '*') || c.is_control())
        && !name.starts_with(['?', '!'])
        && name.trim() == name;
    if !is_plain || name.is_empty() {
        return Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")));
    }
    Cow::Borrowed(name)
}

/// The names in a selector; `None` for `*`.
pub fn names(text: &str) -> Vec<Option<Cow<'_, str>>> {
    parts(pattern(text)).map(|part| (part != "*").then(|| unquoted(part))).collect()
}

/// Whether a selector matches these names.
pub fn matches(text: &str, names: &[&str]) -> bool {
    let mut parts = parts(pattern(text));
    names.iter().all(|name| parts.next().is_some_and(|part| part == "*" || unquoted(part) == *name))
        && parts.next().is_none()
}

/// The most similar selector that matches one of `candidates`, if it is similar enough.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = Vec<&'a str>>) -> Option<String> {
    /// A name that differs by more than two characters is another name.
    const SLIPS_MAX: usize = 2;
    let wanted = names(text);
    let distance = |candidate: &Vec<&str>| {
        // A name in capitals counts as one typing error, however many letters it has.
        let mut other_case = 0;
        let slips = |(wanted, name): (&Option<Cow<'_, str>>, &&str)| match wanted {
            Some(wanted) if wanted.eq_ignore_ascii_case(name) => {
                other_case |= usize::from(wanted != name);
                0
            }
            Some(wanted) => strsim::damerau_levenshtein(wanted, name),
            None => 0,
        };
        wanted.iter().zip(candidate).map(slips).sum::<usize>() + other_case
    };
    let near = candidates
        .filter(|candidate| candidate.len() == wanted.len())
        .map(|candidate| (distance(&candidate), candidate))
        .filter(|(distance, _)| (1..=SLIPS_MAX).contains(distance))
        .min()?;
    let part = |(wanted, name): (&Option<Cow<'_, str>>, &&str)| match wanted {
        Some(_) => quoted(name).into_owned(),
        None => "*".to_owned(),
    };
    Some(wanted.iter().zip(&near.1).map(part).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_names_quoted_names_or_stars() {
        for (text, names, expected) in [
            ("lab.plates", &["lab", "plates"][..], true),
            ("lab.*", &["lab", "plates"], true),
            ("?*.*", &["shop", "orders"], true),
            ("lab.plates", &["lab", "Plates"], false),
            ("lab.Plates", &["lab", "Plates"], true),
            ("lab.\"a.b\"", &["lab", "a.b"], true),
            ("\"a.b\".c", &["a", "b.c"], false),
            ("lab.\"say \"\"hi\"\"\"", &["lab", "say \"hi\""], true),
            ("lab.\"*\"", &["lab", "plates"], false),
            ("*.*.password", &["lab", "users", "password"], true),
            ("*.*.password", &["lab", "users"], false),
            ("lab.users", &["lab", "users", "password"], false),
        ] {
            assert_eq!(matches(text, names), expected, "{text} {names:?}");
        }
    }

    /// The selector of any table name matches only that table.
    #[test]
    fn quoted_name_selects_that_name() {
        for name in [
            "plain", "a.b", "a\"b", "*", "?a", "!a", " a", "a\nb", "\n", "a\t", "\u{7f}", "\"", "a b", "ä",
            "\u{85}",
        ] {
            let text = format!("{}.{}", quoted(name), quoted(name));
            assert_eq!(check(&text, SelectorKind::Table), Ok(()), "{name:?}");
            assert!(matches(&text, &[name, name]) && !is_optional(&text) && !is_exception(&text), "{text:?}");
            assert!(!matches(&text, &[name, "other"]), "{text:?}");
        }
    }

    #[test]
    fn malformed_selectors_are_refused_with_the_reason() {
        for (text, kind, about) in [
            ("plates", SelectorKind::Table, "1 of 2 parts"),
            ("a.b.c", SelectorKind::Table, "double quotes"),
            ("lab.plates", SelectorKind::Column, "2 of 3 parts"),
            ("lab..id", SelectorKind::Column, "empty"),
            ("", SelectorKind::Table, "empty"),
            ("?", SelectorKind::Table, "empty"),
            ("lab. plates", SelectorKind::Table, "blanks"),
            ("lab.plates\n", SelectorKind::Table, "blanks"),
            ("lab.pla\nes", SelectorKind::Table, "control character"),
            ("lab.pla*", SelectorKind::Table, "whole name"),
            ("lab.\"plates", SelectorKind::Table, "in double quotes"),
            ("lab.\"\"", SelectorKind::Table, "in double quotes"),
            ("lab.pl\"at\"es", SelectorKind::Table, "double quote"),
            ("\"lab.plates\"", SelectorKind::Table, "Write lab.plates, without quotes"),
            ("!lab.plates", SelectorKind::Table, "pii.columns only"),
            ("!lab.plates", SelectorKind::Column, "2 of 3 parts"),
        ] {
            let error = check(text, kind).unwrap_err().lines();
            assert!(error.contains(about), "{text:?}: {error}");
        }
        for text in ["lab.plates", "lab.My Table", "lab.\"a.b\"", "?lab.*", "*.*", "lab.\"a\nb\""] {
            assert_eq!(check(text, SelectorKind::Table), Ok(()), "{text}");
        }
    }

    #[test]
    fn nearest_selector_keeps_its_stars() {
        let columns =
            [vec!["lab", "users", "password"], vec!["lab", "users", "id"], vec!["lab", "a.b", "email"]];
        for (text, expected) in [
            ("lab.users.pasword", Some("lab.users.password")),
            ("lab.user.password", Some("lab.users.password")),
            ("lab.users.Password", Some("lab.users.password")),
            ("LAB.USERS.PASSWORD", Some("lab.users.password")),
            ("*.*.pasword", Some("*.*.password")),
            ("lab.\"a.b\".emial", Some("lab.\"a.b\".email")),
            ("lab.users.salary", None),
        ] {
            assert_eq!(nearest(text, columns.iter().cloned()).as_deref(), expected, "{text}");
        }
    }
}

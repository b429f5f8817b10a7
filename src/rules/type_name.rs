//! Names of event types.

use std::sync::Arc;

use super::error::Wrong;

/// An event type: lower-case words joined by dots, and a major version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeName {
    full: Arc<str>,
    stem: usize,
    major: u32,
}

/// Longest event type, in bytes. It is also a file name in `events.lock/`.
pub(super) const TYPE_MAX: usize = 200;

impl TypeName {
    /// Parses a type such as `lab.plate_completed.v2`.
    ///
    /// # Errors
    /// What is wrong, with the required form.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        const FORM: &str =
            "Write lower-case words joined by dots and a major version, such as \"lab.plate_completed.v1\".";
        let word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_lowercase())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let Some((stem, version)) = text.rsplit_once(".v") else {
            return Err((format!("{text:?} does not end in a major version"), FORM).into());
        };
        if version.starts_with('0') || !version.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!("{text:?}: \"v{version}\" is not a major version");
            return Err((message, "Start with \"v1\".").into());
        }
        let major =
            version.parse().map_err(|_| format!("{text:?}: \"v{version}\" is not a major version"))?;
        if !stem.split('.').all(word) {
            return Err((format!("{text:?} is not an event type"), FORM).into());
        }
        if text.len() > TYPE_MAX {
            return Err(
                format!("the event type has {} characters; the limit is {TYPE_MAX}", text.len()).into()
            );
        }
        if stem == "forebay" || stem.starts_with("forebay.") {
            return Err(format!("{text:?}: types that begin with \"forebay.\" are reserved").into());
        }
        Ok(Self { full: text.into(), stem: stem.len(), major })
    }

    /// The whole event type.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Without the version: `lab.plate_completed`.
    pub fn stem(&self) -> &str {
        self.full.get(..self.stem).unwrap_or_default()
    }

    /// The major version.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// The same event with another major version.
    #[must_use]
    pub fn with_major(&self, major: u32) -> Self {
        Self { full: format!("{}.v{major}", self.stem()).into(), stem: self.stem, major }
    }
}

impl std::fmt::Display for TypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_words_and_a_major_version() {
        for (text, stem, major) in [("lab.plate_completed.v2", "lab.plate_completed", 2), ("a.v10", "a", 10)]
        {
            let name = TypeName::parse(text).unwrap();
            assert_eq!((name.as_str(), name.stem(), name.major()), (text, stem, major));
            assert_eq!(name.with_major(7).as_str(), format!("{stem}.v7"));
        }
        for text in [
            "",
            "lab.plate",
            "lab.Plate.v1",
            "lab..v1",
            ".v1",
            "lab.v0",
            "lab.v01",
            "lab.v",
            "lab.v99999999999",
            "1a.v1",
            "forebay.gap.v1",
            "a b.v1",
        ] {
            assert!(TypeName::parse(text).is_err(), "{text}");
        }
        assert!(TypeName::parse(&format!("{}.v1", "a".repeat(300))).is_err());
    }
}

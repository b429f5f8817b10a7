//! Errors as an operator reads them, and the decision of a loop: retry or stop.
//!
//! Messages follow PostgreSQL's style guide: a *primary* line that states a fact, a *detail* with what was
//! seen (values, limits), a *hint* that says what to do. They are separate fields in JSON logs and separate
//! lines in a terminal. An error type prints its primary message by [`Display`](fmt::Display) and gives the
//! other two by [`Explain`]. Each module that does I/O decides the severity of its errors in one exhaustive
//! `From` for [`Failure`].

use std::error::Error;
use std::fmt;

use crate::visible::visible_lines;

/// An error that an operator reads. Its `Display` is the primary message.
pub trait Explain: Error {
    /// A stable name for alerts, the runbook and tests: `slot_missing`. Texts may change, codes do not.
    fn code(&self) -> Option<&'static str> {
        None
    }

    /// The primary message, on one line. Override it only where `Display` has more than that.
    fn primary(&self) -> String {
        self.to_string()
    }

    /// The values that were seen, limits, the system's response. No advice, no secrets, no row values.
    fn detail(&self) -> Option<String> {
        None
    }

    /// Advice, as an imperative sentence or a command to paste.
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Explain for std::io::Error {}

/// An error as it is reported: in the log, in a terminal, on `/health/ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    code: Option<&'static str>,
    primary: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Problem {
    /// With a primary message only.
    pub fn new(primary: impl Into<String>) -> Self {
        Self { code: None, primary: primary.into(), detail: None, hint: None }
    }

    /// From an error, without consuming it.
    pub fn of(error: &impl Explain) -> Self {
        let mut primary = error.primary();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Errors that print their cause themselves name it once.
            if !primary.contains(&text) {
                primary.push_str(": ");
                primary.push_str(&text);
            }
            cause = error.source();
        }
        Self { code: error.code(), primary, detail: error.detail(), hint: error.hint() }
    }

    /// Adds the detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a place and a colon before the primary message, such as the key of the configuration that is
    /// wrong.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.primary = format!("{place}: {}", self.primary);
        self
    }

    /// Adds a sentence to the detail.
    #[must_use]
    pub fn with_more_detail(mut self, more: &str) -> Self {
        self.detail = Some(self.detail.map_or_else(|| more.to_owned(), |detail| format!("{detail} {more}")));
        self
    }

    /// The stable name of the error, if it has one.
    pub const fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// One line: a fact, with the causes that the error names.
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// The values that were seen.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Advice for the operator.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Primary, detail and hint on lines of their own, for a terminal. No name in them begins a line or
    /// commands the terminal: whatever follows a line feed is indented.
    pub fn lines(&self) -> String {
        let indented = |text: &str| visible_lines(text).replace('\n', "\n    ");
        let mut text = indented(&self.primary);
        for (label, part) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(part) = part {
                text.push_str("\n  ");
                text.push_str(label);
                text.push_str(": ");
                text.push_str(&indented(part));
            }
        }
        text
    }
}

/// Primary, detail and hint as sentences on one line, for places with a single text field.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.primary)?;
        for (separator, part) in [(". ", &self.detail), (". Hint: ", &self.hint)] {
            if let Some(part) = part {
                f.write_str(separator)?;
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}

impl From<String> for Problem {
    fn from(primary: String) -> Self {
        Self::new(primary)
    }
}

impl From<&str> for Problem {
    fn from(primary: &str) -> Self {
        Self::new(primary)
    }
}

impl<E: Explain> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// Why an attempt of a loop ended.
#[derive(Debug)]
pub enum Failure {
    /// The loop starts again after a pause. Logged as WARN.
    Retry(Problem),
    /// Another attempt cannot succeed, or would break a guarantee: the process stops. Logged as ERROR.
    Stop(Problem),
}

impl Failure {
    /// A failure after which the loop tries again.
    pub fn retry(problem: impl Into<Problem>) -> Self {
        Self::Retry(problem.into())
    }

    /// A failure that needs a person.
    pub fn stop(problem: impl Into<Problem>) -> Self {
        Self::Stop(problem.into())
    }

    /// Adds a sentence to the detail.
    #[must_use]
    pub fn with_more_detail(self, more: &str) -> Self {
        match self {
            Self::Retry(problem) => Self::Retry(problem.with_more_detail(more)),
            Self::Stop(problem) => Self::Stop(problem.with_more_detail(more)),
        }
    }

    /// The problem to report.
    pub const fn problem(&self) -> &Problem {
        let (Self::Retry(problem) | Self::Stop(problem)) = self;
        problem
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("replication slot {0:?} does not exist")]
    struct Missing(&'static str, #[source] std::io::Error);

    impl Explain for Missing {
        fn code(&self) -> Option<&'static str> {
            Some("slot_missing")
        }

        fn detail(&self) -> Option<String> {
            Some("confirmed up to 0/1".to_owned())
        }

        fn hint(&self) -> Option<String> {
            Some("Run `forebay adopt`.".to_owned())
        }
    }

    #[test]
    fn problem_has_code_primary_with_causes_detail_and_hint() {
        let problem = Problem::from(Missing("x", std::io::Error::other("gone")));
        assert_eq!(problem.code(), Some("slot_missing"));
        assert_eq!(problem.primary(), "replication slot \"x\" does not exist: gone");
        assert_eq!(
            problem.lines(),
            "replication slot \"x\" does not exist: gone\n  detail: confirmed up to 0/1\n  hint: Run `forebay adopt`."
        );
        assert_eq!(
            problem.to_string(),
            "replication slot \"x\" does not exist: gone. confirmed up to 0/1. Hint: Run `forebay adopt`."
        );
    }
}

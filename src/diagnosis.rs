//! One finding about the configuration or the running process: what is wrong, where, and the command that
//! fixes it.
//!
//! `forebay check`, starts, the watchdog and readiness all report this type, and print it in the same way.

use std::fmt;

use serde::Serialize;

use crate::failure::{Explain, Problem};
use crate::visible::visible;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Checked, without a problem.
    Ok,
    /// It works, but an operator should check it.
    Warning,
    /// Does not work until it is fixed.
    Blocker,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// How serious it is.
    pub severity: Severity,
    /// Its subject, such as `source`, `stream`, `slot "forebay_lab"` or `table lab.samples`.
    pub subject: String,
    /// One line: a fact.
    pub fact: String,
    /// Advice for the operator, as an imperative sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The command that fixes it, to paste.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Diagnosis {
    /// A finding that must be fixed.
    pub fn blocker(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self::new(Severity::Blocker, subject, fact)
    }

    /// A finding that an operator should check.
    pub fn warning(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self::new(Severity::Warning, subject, fact)
    }

    /// A check without a problem.
    pub fn ok(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, fact)
    }

    fn new(severity: Severity, subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { severity, subject: subject.into(), fact: fact.into(), hint: None, command: None }
    }

    /// The same finding as a blocker, such as at a start.
    #[must_use]
    pub const fn blocks(mut self) -> Self {
        self.severity = Severity::Blocker;
        self
    }

    /// An error as a blocker: its primary message with the detail, and its hint.
    pub fn of_problem(subject: impl Into<String>, problem: &Problem) -> Self {
        let fact = match problem.detail() {
            Some(detail) => format!("{}: {detail}", problem.primary()),
            None => problem.primary().to_owned(),
        };
        Self { hint: problem.hint().map(str::to_owned), ..Self::blocker(subject, fact) }
    }

    /// Adds the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the command that fixes it.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Subject and fact on one line.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", visible(&self.subject), visible(&self.fact))
    }
}

/// Several findings as one error: all facts on one line, and each remedy on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnoses {
    /// The consequence, such as `the database cannot be used`.
    pub consequence: &'static str,
    /// The findings.
    pub found: Vec<Diagnosis>,
}

impl fmt::Display for Diagnoses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.consequence)?;
        let separators = std::iter::once(": ").chain(std::iter::repeat("; "));
        self.found.iter().zip(separators).try_for_each(|(one, separator)| write!(f, "{separator}{one}"))
    }
}

impl std::error::Error for Diagnoses {}

impl Explain for Diagnoses {
    fn hint(&self) -> Option<String> {
        let mut lines = Vec::new();
        for one in &self.found {
            lines.extend(one.hint.as_ref().map(|hint| visible(hint).into_owned()));
            lines.extend(one.command.as_ref().map(|command| format!("Run: {}", visible(command))));
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_print_facts_first_and_commands_as_hints() {
        let slot = Diagnosis::blocker("slot \"s\"", "it is lost").with_command("forebay adopt");
        let one = Diagnoses { consequence: "the database cannot be used", found: vec![slot.clone()] };
        assert_eq!(
            Problem::from(one).lines(),
            "the database cannot be used: slot \"s\": it is lost\n  hint: Run: forebay adopt"
        );
        let table = Diagnosis::warning("table t", "it has no key").with_hint("Add a key.");
        let two = Diagnoses { consequence: "the database cannot be used", found: vec![slot, table] };
        assert_eq!(
            Problem::from(two).lines(),
            "the database cannot be used: slot \"s\": it is lost; table t: it has no key\n  hint: Run: forebay adopt\n    Add a key."
        );
    }

    #[test]
    fn problem_is_a_blocker_with_detail_and_hint() {
        let problem = Problem::new("it failed").with_detail("why").with_hint("Mend it.");
        let expected = Diagnosis::blocker("x", "it failed: why").with_hint("Mend it.");
        assert_eq!(Diagnosis::of_problem("x", &problem), expected);
    }

    #[test]
    fn json_has_stable_names() {
        let table = Diagnosis::warning("table t", "it has no key").with_hint("Add a key.");
        assert_eq!(
            serde_json::to_string(&table).unwrap(),
            r#"{"severity":"warning","subject":"table t","fact":"it has no key","hint":"Add a key."}"#
        );
    }
}

//! Positions in rule files, and errors shown with their source line.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::failure::{Explain, Problem};

/// A rule file.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as shown to people.
    pub path: PathBuf,
    /// Contents.
    pub text: String,
}

/// A position in a rule file.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePosition {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Byte offset in the contents.
    pub offset: usize,
}

impl FilePosition {
    /// Line and column, both counted from 1; the column counts characters.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.file.text.get(..self.offset).unwrap_or(&self.file.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..).map_or(0, |text| text.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }

    fn line(&self) -> &str {
        let (line, _) = self.line_and_column();
        self.file.text.lines().nth(line - 1).unwrap_or_default()
    }
}

impl fmt::Debug for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.file.path.display())
    }
}

/// A string of a rule file, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The string's value.
    pub text: String,
    /// Position of its first character.
    pub place: FilePosition,
    /// Whether the value is written without escapes, so that offsets in it are offsets in the file.
    literal: bool,
}

impl SourceText {
    /// A string whose TOML form, including the quotes, is at `start..end`.
    pub(super) fn new(text: String, file: &Arc<SourceFile>, start: usize, end: usize) -> Self {
        let form = file.text.get(start..end).unwrap_or_default();
        let opening = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| form.starts_with(quotes));
        let mut offset = start + opening.map_or(0, str::len);
        let rest = file.text.get(offset..end).unwrap_or_default();
        // TOML ignores a line feed directly after three quotes.
        if opening.is_some_and(|quotes| quotes.len() == 3) {
            offset += ["\r\n", "\n"].into_iter().find(|feed| rest.starts_with(feed)).map_or(0, str::len);
        }
        let literal = file.text.get(offset..end).is_some_and(|form| form.starts_with(&text));
        Self { text, place: FilePosition { file: Arc::clone(file), offset }, literal }
    }

    /// The position of a byte of the value.
    pub fn place_of(&self, offset: usize) -> FilePosition {
        let offset = if self.literal { offset.min(self.text.len()) } else { 0 };
        FilePosition { offset: self.place.offset + offset, ..self.place.clone() }
    }
}

/// What is wrong, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// A fact.
    pub message: String,
    /// Advice, as an imperative sentence or a question.
    pub hint: Option<String>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// The detail is dropped: errors in rules have none.
impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        Self { message: problem.primary().to_owned(), hint: problem.hint().map(str::to_owned) }
    }
}

/// A fact and a hint.
impl<M: Into<String>, H: Into<String>> From<(M, H)> for Wrong {
    fn from((message, hint): (M, H)) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// One error in the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Position; `None`: the error is not in a file.
    pub place: Option<FilePosition>,
    /// The event, if known.
    pub event: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl RuleError {
    /// An error at a position, in the rule or outbox of this event.
    pub fn new(place: Option<FilePosition>, event: Option<String>, wrong: impl Into<Wrong>) -> Self {
        let Wrong { message, hint } = wrong.into();
        Self { place, event, message, hint }
    }

    fn without_hint(&self) -> Self {
        Self { hint: None, ..self.clone() }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(event) = &self.event {
            write!(f, "{event}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            let (line, column) = place.line_and_column();
            let (number, text) = (line.to_string(), place.line());
            let margin = " ".repeat(number.len());
            // Tabs are kept, so that the caret is under the error.
            let indent: String =
                text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n  {number} | {text}\n  {margin} | {indent}^")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// All errors in the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RuleErrors(pub Vec<RuleError>);

impl RuleErrors {
    fn count(&self) -> String {
        let count = self.0.len();
        format!("the rules have {count} error{}", if count == 1 { "" } else { "s" })
    }
}

impl Explain for RuleErrors {
    fn code(&self) -> Option<&'static str> {
        Some("rules_invalid")
    }

    fn primary(&self) -> String {
        self.count()
    }

    fn detail(&self) -> Option<String> {
        let errors: Vec<String> = self.0.iter().map(|error| error.without_hint().to_string()).collect();
        Some(errors.join("\n"))
    }

    fn hint(&self) -> Option<String> {
        let hint = |error: &RuleError| match (&error.hint, &error.place) {
            (Some(hint), Some(place)) if self.0.len() > 1 => Some(format!("{place}: {hint}")),
            (hint, _) => hint.clone(),
        };
        let hints: Vec<String> = self.0.iter().filter_map(hint).collect();
        (!hints.is_empty()).then(|| hints.join("\n"))
    }
}

/// All errors, in the form of a compiler's output.
impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.count())?;
        self.0.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_place_maps_to_file_place_unless_toml_escaped_it() {
        for (toml, needle, expected) in [
            ("when = \"volume > 0\"\n", "volume", (1, 9)),
            ("data = \"\"\"\n  a,\n  b as c\n\"\"\"\n", "b as c", (3, 3)),
            ("data = '''a,\n\tb'''\n", "b", (2, 2)),
            ("x = \"ä\"\nwhen = \"é = \\\"q\\\"\"\n", "=", (2, 9)),
        ] {
            let at = toml.find("= ").unwrap_or_default();
            let start =
                if toml.starts_with('x') { toml.rfind("= \"").unwrap_or_default().min(17) } else { at } + 2;
            let start = if toml.starts_with('x') { toml.find("\"é").unwrap() } else { start };
            let value: toml::Table = toml.parse().unwrap();
            let key = value.keys().find(|key| *key != "x").unwrap();
            let text = value[key].as_str().unwrap().to_owned();
            let file = Arc::new(SourceFile { path: "f".into(), text: toml.to_owned() });
            let end = toml.trim_end().len();
            let source = SourceText::new(text.clone(), &file, start, end);
            assert_eq!(source.place_of(text.find(needle).unwrap()).line_and_column(), expected, "{toml}");
        }
    }

    #[test]
    fn error_shows_line_and_caret() {
        let file =
            Arc::new(SourceFile { path: "events/a.toml".into(), text: "[[event]]\n\twhen = \"x\"\n".into() });
        let place = FilePosition { file, offset: 18 };
        let error = RuleError::new(Some(place), Some("a.b.v1".into()), ("no column x", "did you mean y?"));
        let shown = "\n  2 | \twhen = \"x\"\n    | \t       ^";
        let one = RuleErrors(vec![error.clone()]);
        let line = "events/a.toml:2:9: a.b.v1: no column x";
        assert_eq!(
            one.to_string(),
            format!("the rules have 1 error:\n{line}{shown}\n  hint: did you mean y?")
        );
        // In the log, detail and hint are separate fields.
        assert_eq!(one.detail(), Some(format!("{line}{shown}")));
        assert_eq!(one.hint().as_deref(), Some("did you mean y?"));
        let other = RuleError::new(None, None, "no rules");
        let two = RuleErrors(vec![error.clone(), other]);
        assert_eq!(two.hint().as_deref(), Some("events/a.toml:2:9: did you mean y?"));
    }
}

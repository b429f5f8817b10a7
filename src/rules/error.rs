//! Places in rule files, and errors that show them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A rule file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path as it is shown.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A place in a rule file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Byte in its text.
    pub offset: usize,
}

impl Place {
    /// Line and column, both from 1, the column in characters.
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

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.file.path.display())
    }
}

/// A text that stands in a rule file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What TOML makes of it.
    pub text: String,
    /// Where its first character stands.
    pub place: Place,
    /// Whether it stands in the file as it is, so that a place in it is a place in the file.
    literal: bool,
}

impl SourceText {
    /// A string whose TOML form, quotes included, stands at `start..end`.
    pub(super) fn new(text: String, file: &Arc<SourceFile>, start: usize, end: usize) -> Self {
        let form = file.text.get(start..end).unwrap_or_default();
        let opening = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| form.starts_with(quotes));
        let mut offset = start + opening.map_or(0, str::len);
        let rest = file.text.get(offset..end).unwrap_or_default();
        // A line feed right behind three quotes does not belong to the string.
        if opening.is_some_and(|quotes| quotes.len() == 3) {
            offset += ["\r\n", "\n"].into_iter().find(|feed| rest.starts_with(feed)).map_or(0, str::len);
        }
        let literal = file.text.get(offset..end).is_some_and(|form| form.starts_with(&text));
        Self { text, place: Place { file: Arc::clone(file), offset }, literal }
    }

    /// The place of a byte of the text.
    pub fn place_of(&self, offset: usize) -> Place {
        let offset = if self.literal { offset.min(self.text.len()) } else { 0 };
        Place { offset: self.place.offset + offset, ..self.place.clone() }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where; `None` if it is not in a file.
    pub place: Option<Place>,
    /// Which event, if that is known.
    pub event: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
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
            // A tab must stay one, so that the caret stands under what it means.
            let indent: String =
                text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n  {number} | {text}\n  {margin} | {indent}^")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RuleErrors(pub Vec<RuleError>);

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the rules have {count} error{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_text_is_a_place_in_the_file_unless_toml_changed_the_text() {
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
    fn an_error_shows_the_line_and_a_caret() {
        let file =
            Arc::new(SourceFile { path: "events/a.toml".into(), text: "[[event]]\n\twhen = \"x\"\n".into() });
        let place = Place { file, offset: 18 };
        let error =
            RuleError { place: Some(place), event: Some("a.b.v1".into()), message: "no column x".into() };
        assert_eq!(
            RuleErrors(vec![error]).to_string(),
            "the rules have 1 error:\nevents/a.toml:2:9: a.b.v1: no column x\n  2 | \twhen = \"x\"\n    | \t       ^"
        );
    }
}

//! Parses `on`: the operations that a rule reads, in the syntax of CREATE TRIGGER.

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update {
        /// Columns of which one must differ. Empty: any update.
        of: Vec<String>,
    },
    /// A row was deleted.
    Delete,
}

use super::error::Wrong;

/// The valid operations.
const OPERATIONS: &str = "write insert, update, update of a, b, or delete";

/// Parses `insert, update of a, b, delete`; `or` is a separator too. The error has the byte offset of the
/// problem.
pub(super) fn parse(text: &str) -> Result<Vec<Trigger>, (usize, Wrong)> {
    let mut triggers: Vec<Trigger> = Vec::new();
    let mut words = Words { text, at: 0 }.peekable();
    loop {
        let (at, word) = words.next().transpose()?.unwrap_or((text.len(), Word::Plain("")));
        let trigger = match word {
            Word::Plain(word) if word.eq_ignore_ascii_case("insert") => Trigger::Insert,
            Word::Plain(word) if word.eq_ignore_ascii_case("delete") => Trigger::Delete,
            Word::Plain(word) if word.eq_ignore_ascii_case("update") => Trigger::Update { of: Vec::new() },
            Word::Plain("") => {
                return Err((at, ("missing operation", OPERATIONS).into()));
            }
            other => {
                return Err((at, (format!("unknown operation {:?}", other.name()), OPERATIONS).into()));
            }
        };
        let same = |other: &Trigger| std::mem::discriminant(other) == std::mem::discriminant(&trigger);
        if triggers.iter().any(same) {
            return Err((at, "duplicate operation".into()));
        }
        let is_update = matches!(trigger, Trigger::Update { .. });
        triggers.push(trigger);
        if is_update
            && matches!(words.peek(), Some(Ok((_, Word::Plain(word)))) if word.eq_ignore_ascii_case("of"))
        {
            words.next();
            let of = columns(&mut words, text.len())?;
            if let Some(Trigger::Update { of: columns }) = triggers.last_mut() {
                *columns = of;
            }
        }
        match words.next().transpose()? {
            None => return Ok(triggers),
            Some((_, Word::Comma)) => {}
            Some((_, Word::Plain(word))) if word.eq_ignore_ascii_case("or") => {}
            Some((at, word)) => {
                return Err((at, (format!("expected a comma before {:?}", word.name()), OPERATIONS).into()));
            }
        }
    }
}

/// The columns after `of`, up to a comma that an operation follows. A column with the name of an operation
/// must be quoted.
fn columns(words: &mut std::iter::Peekable<Words<'_>>, end: usize) -> Result<Vec<String>, (usize, Wrong)> {
    let mut columns = Vec::new();
    loop {
        match words.next().transpose()? {
            Some((_, Word::Plain(name))) if is_name(name) => columns.push(name.to_ascii_lowercase()),
            Some((_, Word::Quoted(name))) => columns.push(name),
            Some((at, word)) => return Err((at, format!("{:?} is not a column name", word.name()).into())),
            None => return Err((end, ("missing column after `update of`", OPERATIONS).into())),
        }
        let mut ahead = words.clone();
        let another = match (ahead.next(), ahead.next()) {
            (Some(Ok((_, Word::Comma))), Some(Ok((_, Word::Plain(next))))) => !is_change(next),
            (Some(Ok((_, Word::Comma))), Some(Ok((_, Word::Quoted(_))))) => true,
            _ => false,
        };
        if !another {
            return Ok(columns);
        }
        words.next();
    }
}

fn is_change(word: &str) -> bool {
    ["insert", "update", "delete"].iter().any(|change| word.eq_ignore_ascii_case(change))
}

fn is_name(word: &str) -> bool {
    !word.starts_with(|first: char| first.is_ascii_digit())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word<'a> {
    Plain(&'a str),
    Quoted(String),
    Comma,
}

impl Word<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Plain(word) => word,
            Self::Quoted(word) => word,
            Self::Comma => ",",
        }
    }
}

#[derive(Clone, Debug)]
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<(usize, Word<'a>), (usize, Wrong)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.text.get(self.at..)?;
        let blank = rest.len() - rest.trim_start().len();
        let (start, rest) = (self.at + blank, rest.trim_start());
        let first = rest.chars().next()?;
        let (length, word) = match first {
            ',' => (1, Word::Comma),
            '"' => match quoted(rest) {
                Some((length, name)) if !name.is_empty() => (length, Word::Quoted(name)),
                _ => return Some(self.fail(start, "the quoted name is empty or not terminated")),
            },
            _ => {
                let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let length = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
                match rest.get(..length) {
                    Some(word) if !word.is_empty() => (length, Word::Plain(word)),
                    _ => {
                        return Some(
                            self.fail(start, (format!("unexpected character {first:?}"), OPERATIONS)),
                        );
                    }
                }
            }
        };
        self.at = start + length;
        Some(Ok((start, word)))
    }
}

impl Words<'_> {
    fn fail<T>(&mut self, at: usize, what: impl Into<Wrong>) -> Result<T, (usize, Wrong)> {
        self.at = self.text.len();
        Err((at, what.into()))
    }
}

/// Length and value of a quoted SQL identifier, where `""` is a quote.
fn quoted(text: &str) -> Option<(usize, String)> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            name.push(c);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
        } else {
            return Some((at + 1, name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(columns: &[&str]) -> Trigger {
        Trigger::Update { of: columns.iter().map(|column| (*column).to_owned()).collect() }
    }

    #[test]
    fn operations_are_named_as_in_create_trigger() {
        for (text, expected) in [
            ("insert", vec![Trigger::Insert]),
            ("INSERT or Delete", vec![Trigger::Insert, Trigger::Delete]),
            ("update", vec![of(&[])]),
            ("update of status", vec![of(&["status"])]),
            ("update of a, B , \"C d\", delete", vec![of(&["a", "b", "C d"]), Trigger::Delete]),
            (
                "delete,update of \"delete\", x, insert",
                vec![Trigger::Delete, of(&["delete", "x"]), Trigger::Insert],
            ),
            ("update of a or insert", vec![of(&["a"]), Trigger::Insert]),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(&expected[..]), "{text}");
        }
    }

    #[test]
    fn unknown_operation_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("upsert", 0),
            ("insert, ", 8),
            ("insert insert", 7),
            ("insert, insert", 8),
            ("update of", 9),
            ("update of ,", 10),
            ("update of 1a", 10),
            ("update of a b", 12),
            ("insert; delete", 6),
            ("update of \"a", 10),
            ("truncate", 0),
        ] {
            assert_eq!(parse(text).unwrap_err().0, at, "{text}");
        }
    }
}

//! Errors in an expression, with their position.

use std::fmt;

/// A range of an expression's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSpan {
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in characters, from 1.
    pub column: usize,
}

/// One error in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The message.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// Position.
    pub place: SourceSpan,
    /// The line of the text where it begins.
    pub line: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceSpan { start, end, line, column } = self.place;
        let shown = self.line.trim_end();
        writeln!(f, "line {line}, column {column}: {}", self.message)?;
        writeln!(f, "    {}", shown.replace('\t', " "))?;
        let left = shown.chars().count().saturating_sub(column - 1).max(1);
        let width = end.saturating_sub(start).clamp(1, left);
        write!(f, "    {}{}", " ".repeat(column - 1), "^".repeat(width))?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All errors in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, mistake) in self.0.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

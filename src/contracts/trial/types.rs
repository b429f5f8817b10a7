//! Columns of a fixture's tables: types in SQL, and values converted to PostgreSQL's output form.

use std::sync::Arc;

use crate::change::{Cell, Operation, Relation, Tuple};
use crate::expression::{self, Context, EvalOutcome, Expression, Meaning, Name, PseudonymOrigin, Row, Scope};
use crate::types::{Base, Enumeration, Kind, Named, SqlType};

/// A column declared in `[tables]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) data_type: SqlType,
    pub(super) kind: Kind,
    pub(super) primary_key: bool,
    pub(super) not_null: bool,
}

/// Built-in types whose values expressions can only pass through.
const PASSED_THROUGH: &[&str] = &[
    "bit",
    "box",
    "cidr",
    "circle",
    "citext",
    "daterange",
    "hstore",
    "inet",
    "int4range",
    "int8range",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "numrange",
    "oid",
    "path",
    "point",
    "polygon",
    "timetz",
    "tsquery",
    "tsrange",
    "tstzrange",
    "tsvector",
    "varbit",
    "xml",
];

/// Parses `bigint primary key`, `text not null`, `numeric(12,3)`, `enum lab.plate_status('empty', 'filled')`,
/// `text[]`.
///
/// # Errors
/// The reason.
pub(super) fn declared(text: &str) -> Result<Declared, String> {
    let mut rest = text.trim();
    let (mut primary_key, mut not_null) = (false, false);
    loop {
        if let Some(before) = without_suffix(rest, "primary key") {
            (rest, primary_key) = (before, true);
        } else if let Some(before) = without_suffix(rest, "not null") {
            (rest, not_null) = (before, true);
        } else {
            break;
        }
    }
    let (data_type, kind) = data_type(rest)?;
    Ok(Declared { data_type, kind, primary_key, not_null: not_null || primary_key })
}

/// The text before this suffix, ignoring case and repeated blanks.
fn without_suffix<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let mut rest = text;
    for word in words.split(' ').rev() {
        let trimmed = rest.trim_end();
        let at = trimmed.len().checked_sub(word.len())?;
        let (before, last) = (trimmed.get(..at)?, trimmed.get(at..)?);
        if !last.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = before;
    }
    rest.ends_with(|c: char| c.is_whitespace() || c == ')').then(|| rest.trim_end())
}

fn data_type(text: &str) -> Result<(SqlType, Kind), String> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if first.eq_ignore_ascii_case("enum") {
        return enumeration(rest.trim());
    }
    if first.eq_ignore_ascii_case("other") && !rest.trim().is_empty() {
        return Ok(other(rest.trim()));
    }
    let scope = Scope { of: "the fixture".to_owned(), names: Vec::new(), origin: PseudonymOrigin::default() };
    match Expression::parse(&format!("cast(null as {text})"), &scope) {
        Ok(expression) => Ok((expression.data_type().clone(), expression.kind().clone())),
        Err(_) if PASSED_THROUGH.contains(&text.to_ascii_lowercase().as_str()) => Ok(other(text)),
        Err(_) => Err(format!(
            "{text:?} is not a supported type; for an enum, write \"enum schema.name('a', 'b')\", of a \
             type that is \
             only passed on, \"other {text}\""
        )),
    }
}

fn other(name: &str) -> (SqlType, Kind) {
    let kind = if name.eq_ignore_ascii_case("hstore") { Kind::Hstore } else { Kind::Text };
    (SqlType::plain(Base::Other(Arc::new(Named { oid: 0, name: name.to_owned() }))), kind)
}

/// `lab.plate_status('empty', 'filled')`, with an optional `[]`.
fn enumeration(text: &str) -> Result<(SqlType, Kind), String> {
    let form = || "write an enum as enum schema.name('a', 'b')".to_owned();
    let (text, is_array) = text.strip_suffix("[]").map_or((text, false), |text| (text, true));
    let (name, labels) =
        text.trim_end().strip_suffix(')').and_then(|text| text.split_once('(')).ok_or_else(form)?;
    let mut found = Vec::new();
    let mut rest = labels.trim();
    while !rest.is_empty() {
        let (label, after) = quoted(rest).ok_or_else(form)?;
        found.push(label);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(form()),
        }
    }
    if name.trim().is_empty() || found.is_empty() {
        return Err(form());
    }
    let base = Base::Enum(Arc::new(Enumeration { oid: 0, name: name.trim().to_owned(), labels: found }));
    Ok(if is_array {
        let kind = Kind::Array { element: Arc::new(Kind::Text), delimiter: b',' };
        (SqlType::plain(Base::Array(Arc::new(base))), kind)
    } else {
        (SqlType::plain(base), Kind::Text)
    })
}

/// An SQL string at the start, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut label = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => return Some((label, after)),
        }
    }
}

/// Converts input to PostgreSQL's output form for a column.
#[derive(Debug)]
pub(super) struct Form {
    /// The cast from text. `None` if the language has none: the text is used as written.
    cast: Option<Expression>,
}

impl Form {
    /// For the column with this index.
    pub(super) fn of(relation: &Relation, column: usize) -> Self {
        let Some(wanted) = relation.columns.get(column) else { return Self { cast: None } };
        let column = |name: String, data_type: SqlType, kind: Kind| Name {
            name,
            meaning: Meaning::Column(expression::ScopeColumn {
                index: Some(0),
                kind,
                data_type,
                not_null: true,
                in_identity: true,
                tagged: false,
            }),
        };
        // The other columns let the cast name an enum.
        let mut names = vec![column("given".to_owned(), SqlType::plain(Base::Text), Kind::Text)];
        names.extend(
            relation
                .columns
                .iter()
                .enumerate()
                .map(|(nth, of)| column(format!("column {nth}"), of.data_type.clone(), of.kind.clone())),
        );
        let scope = Scope { of: "the fixture".to_owned(), names, origin: PseudonymOrigin::default() };
        Self { cast: Expression::parse(&format!("cast(given as {})", wanted.data_type), &scope).ok() }
    }

    /// The text as PostgreSQL would print it.
    ///
    /// # Errors
    /// PostgreSQL's error.
    pub(super) fn print(&self, text: &str) -> Result<String, String> {
        let Some(cast) = &self.cast else { return Ok(text.to_owned()) };
        let Ok(length) = u32::try_from(text.len()) else { return Err("the value is too long".to_owned()) };
        let cells = [Cell::Text { start: 0, length }];
        let new = Tuple::new(text.as_bytes(), &cells);
        let Some(row) = Row::of(&Operation::Insert { new }) else { return Ok(text.to_owned()) };
        let mut out = String::new();
        match cast.write_text(&row, &mut Context::default(), &mut out) {
            Ok(EvalOutcome::Value) => Ok(out),
            Ok(EvalOutcome::Null | EvalOutcome::Unavailable) => Ok(text.to_owned()),
            Err(error) => Err(error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Column, ReplicaIdentity};

    #[test]
    fn fixture_type_is_parsed_as_sql() {
        for (text, name, primary_key, not_null) in [
            ("bigint primary key", "bigint", true, true),
            ("BIGINT  PRIMARY   KEY", "bigint", true, true),
            ("text not null", "text", false, true),
            ("numeric(12,3)", "numeric(12,3)", false, false),
            ("numeric(12, 3) not null", "numeric(12,3)", false, true),
            ("varchar(20) not null primary key", "character varying(20)", true, true),
            ("timestamptz", "timestamp with time zone", false, false),
            ("timestamp with time zone", "timestamp with time zone", false, false),
            ("integer[]", "integer[]", false, false),
            ("interval", "interval", false, false),
            ("bytea", "bytea", false, false),
            ("inet", "inet", false, false),
            ("other lab.address", "lab.address", false, false),
            ("enum lab.s('a','it''s, here') not null", "lab.s", false, true),
            ("enum lab.s('a')[]", "lab.s[]", false, false),
        ] {
            let declared = declared(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let flags = (declared.primary_key, declared.not_null);
            assert_eq!(
                (declared.data_type.to_string().as_str(), flags),
                (name, (primary_key, not_null)),
                "{text}"
            );
        }
        for text in
            ["", "bigitn", "enum x", "enum x()", "enum ('a')", "enum x('a' 'b')", "primary key", "enum x('a"]
        {
            assert!(declared(text).is_err(), "{text}");
        }
        let Base::Enum(labels) = declared("enum x('a','it''s, here')").unwrap().data_type.base else {
            panic!()
        };
        assert_eq!(labels.labels, ["a", "it's, here"]);
    }

    #[test]
    fn fixture_value_is_normalised_as_postgres_prints_it() {
        for (data_type, text, expected) in [
            ("numeric(12,3)", "12.5", Ok("12.500")),
            ("numeric(3,1)", "1000", Err("overflow")),
            ("boolean", "true", Ok("t")),
            ("timestamptz", "2026-11-21T08:00:00+01:00", Ok("2026-11-21 07:00:00+00")),
            ("enum lab.s('a','b')", "b", Ok("b")),
            ("enum lab.s('a','b')", "c", Err("enum")),
            ("jsonb", "{\"b\":1, \"a\":2}", Ok("{\"a\": 2, \"b\": 1}")),
            ("bigint", "x", Err("invalid input")),
            ("integer[]", "{1,2}", Ok("{1,2}")),
            ("interval", "1 day", Ok("1 day")),
            ("inet", "10.0.0.1", Ok("10.0.0.1")),
            ("char(3)", "a", Ok("a  ")),
        ] {
            let Declared { data_type: of, kind, .. } = declared(data_type).unwrap();
            let column = Column {
                name: "x".into(),
                kind,
                data_type: of,
                not_null: false,
                in_identity: false,
                origin: None,
            };
            let relation = Relation {
                oid: 1,
                schema: "s".into(),
                table: "t".into(),
                identity: ReplicaIdentity::Default,
                columns: vec![column],
                primary_key: vec![],
                absent: Vec::new(),
                unknown: None,
            };
            let printed = Form::of(&relation, 0).print(text);
            match expected {
                Ok(expected) => assert_eq!(printed.as_deref(), Ok(expected), "{data_type}"),
                Err(part) => assert!(
                    printed.as_ref().is_err_and(|error| error.contains(part)),
                    "{data_type}: {printed:?}"
                ),
            }
        }
    }
}

//! Builds changes from rows of text, in the form that the decoder makes: cells over a buffer.

use std::collections::HashMap;

use crate::change::{Cell, OldRow, Operation, Relation, ReplicaIdentity, Tuple};
use crate::rules::{FilePosition, RuleError, Wrong};
use crate::types::Kind;

use super::document::Literal;
use super::fixture::{Case, Given, On};
use super::types::Form;

/// The values of a row, or of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    message: Vec<u8>,
    cells: Vec<Cell>,
}

impl Values {
    /// Adds the next column: `None` is NULL.
    pub fn push(&mut self, text: Option<&str>) {
        let cell = text.map_or(Cell::Null, |text| {
            let start = u32::try_from(self.message.len()).unwrap_or(u32::MAX);
            self.message.extend_from_slice(text.as_bytes());
            Cell::Text { start, length: u32::try_from(text.len()).unwrap_or(u32::MAX) }
        });
        self.cells.push(cell);
    }

    fn push_unavailable(&mut self) {
        self.cells.push(Cell::Unchanged);
    }

    /// The part of the row that the replica identity provides.
    fn only(&self, relation: &Relation) -> Self {
        let known = relation.columns.iter().zip(&self.cells);
        let cells = known.map(|(column, cell)| if column.in_identity { *cell } else { Cell::Null });
        Self { message: self.message.clone(), cells: cells.collect() }
    }

    pub(super) fn tuple(&self) -> Tuple<'_> {
        Tuple::new(&self.message, &self.cells)
    }
}

/// The known part of the old row.
#[derive(Debug)]
enum Old {
    No,
    Key(Values),
    Full(Values),
}

/// A change that owns its rows.
#[derive(Debug)]
pub struct OwnedChange {
    on: On,
    new: Values,
    old: Old,
}

impl OwnedChange {
    /// The operation.
    pub fn operation(&self) -> Operation<'_> {
        let old = match &self.old {
            Old::No => None,
            Old::Key(key) => Some(OldRow::Key(key.tuple())),
            Old::Full(row) => Some(OldRow::Full(row.tuple())),
        };
        let new = self.new.tuple();
        match (self.on, old) {
            (On::Insert, _) => Operation::Insert { new },
            (On::Update, old) => Operation::Update { old, new },
            (On::Delete, Some(old)) => Operation::Delete { old },
            (On::Delete, None) => Operation::Delete { old: OldRow::Key(new) },
        }
    }

    /// The insert, update or delete of a row, as the server would send it. An update leaves the row
    /// unchanged.
    pub fn of_row(on: On, row: &Values, relation: &Relation) -> Self {
        let old = match (on, relation.identity) {
            (On::Insert, _) => Old::No,
            (_, ReplicaIdentity::Full) => Old::Full(row.clone()),
            (On::Update, _) => Old::No,
            (On::Delete, _) => Old::Key(row.only(relation)),
        };
        Self { on, new: row.clone(), old }
    }
}

/// The change of a case, as the server would send it.
///
/// # Errors
/// An unknown column, an invalid value, or an old value that the replica identity does not provide.
pub(super) fn change(
    case: &Case,
    relation: &Relation,
    forms: &mut HashMap<(u32, usize), Form>,
) -> Result<OwnedChange, Vec<RuleError>> {
    let mut errors = Vec::new();
    let mut maker = Maker { case, relation, forms, errors: &mut errors };
    let new = maker.texts(&case.new);
    let old = maker.texts(&case.old);
    maker.is_given(&case.old);
    if case.on != On::Update {
        maker.all_sent(&case.new);
    }
    maker.all_sent(&case.old);
    if !errors.is_empty() {
        return Err(errors);
    }
    let columns = relation.columns.len();
    // Columns of the old row that an update does not list are unchanged.
    let before = |at: usize| match (old.get(&at), case.on) {
        (Some(text), _) => Some(text),
        (None, On::Update) => new.get(&at),
        (None, _) => None,
    };
    let is_key = |at: usize| relation.columns.get(at).is_some_and(|column| column.in_identity);
    let key_changed = (0..columns).any(|at| is_key(at) && before(at) != new.get(&at));
    let old = match (case.on, relation.identity) {
        (On::Insert, _) => Old::No,
        (_, ReplicaIdentity::Full) => Old::Full(values(columns, before)),
        (On::Update, _) if !key_changed => Old::No,
        _ => Old::Key(values(columns, |at| before(at).filter(|_| is_key(at)))),
    };
    Ok(OwnedChange { on: case.on, new: values(columns, |at| new.get(&at)), old })
}

/// A value in PostgreSQL's text form, NULL or unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Null,
    Unavailable,
    Value(String),
}

fn values<'a>(columns: usize, of: impl Fn(usize) -> Option<&'a Text>) -> Values {
    let mut values = Values::default();
    for at in 0..columns {
        match of(at) {
            Some(Text::Value(text)) => values.push(Some(text)),
            Some(Text::Unavailable) => values.push_unavailable(),
            Some(Text::Null) | None => values.push(None),
        }
    }
    values
}

struct Maker<'a> {
    case: &'a Case,
    relation: &'a Relation,
    forms: &'a mut HashMap<(u32, usize), Form>,
    errors: &'a mut Vec<RuleError>,
}

impl Maker<'_> {
    fn wrong(&mut self, place: &FilePosition, wrong: impl Into<Wrong>) {
        let event = Some(self.case.name.clone());
        self.errors.push(RuleError::new(Some(place.clone()), event, wrong));
    }

    fn texts(&mut self, given: &[Given]) -> HashMap<usize, Text> {
        let mut texts = HashMap::new();
        for Given { column, value, place } in given {
            let Some(at) = self.relation.columns.iter().position(|of| of.name == *column) else {
                let table = self.relation.name();
                let known: Vec<_> = self.relation.columns.iter().map(|of| of.name.as_str()).collect();
                let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, column));
                let hint = near.filter(|name| strsim::damerau_levenshtein(name, column) <= 2).map_or_else(
                    || format!("Its columns are {}.", known.join(", ")),
                    |name| format!("Did you mean {name}?"),
                );
                self.wrong(place, (format!("{table} has no column {column}"), hint));
                continue;
            };
            match self.text(at, value) {
                Ok(text) => drop(texts.insert(at, text)),
                Err(Wrong { message, hint }) => {
                    self.wrong(place, Wrong { message: format!("{column}: {message}"), hint });
                }
            }
        }
        texts
    }

    fn text(&mut self, at: usize, value: &Literal) -> Result<Text, Wrong> {
        let Some(column) = self.relation.columns.get(at) else { return Ok(Text::Null) };
        let text = match value {
            Literal::Null => return Ok(Text::Null),
            Literal::Unavailable => return Ok(Text::Unavailable),
            Literal::Text(text) | Literal::Number(text) => text.clone(),
            Literal::Bool(value) => value.to_string(),
            Literal::Json(json) => match (&column.kind, json) {
                (Kind::Json, json) => json.to_string(),
                (Kind::Array { delimiter, .. }, serde_json::Value::Array(elements)) => {
                    array(elements, char::from(*delimiter))
                }
                _ => {
                    let message = format!("an array or a table is not a {}", column.data_type);
                    return Err((message, "Write it in quotes, in PostgreSQL's output form.").into());
                }
            },
        };
        let relation = self.relation;
        let form = self.forms.entry((relation.oid, at)).or_insert_with(|| Form::of(relation, at));
        form.print(&text)
            .map(Text::Value)
            .map_err(|error| format!("{text:?} is not a valid {}: {error}", column.data_type).into())
    }

    /// Refuses old values that the server would not send.
    fn is_given(&mut self, old: &[Given]) {
        if self.relation.identity == ReplicaIdentity::Full {
            return;
        }
        for Given { column, place, .. } in old {
            if self.relation.columns.iter().any(|of| of.name == *column && !of.in_identity) {
                let table = self.relation.name();
                let message =
                    format!("the replica identity of {table} does not provide the old value of {column}");
                let hint =
                    "Run ALTER TABLE … REPLICA IDENTITY FULL (in [tables]: \"replica identity\" = \"full\").";
                self.wrong(place, (message, hint));
            }
        }
    }

    /// Refuses unavailable values where the server sends all.
    fn all_sent(&mut self, given: &[Given]) {
        for Given { value, place, .. } in given {
            if *value == Literal::Unavailable {
                let message = "only the new row of an update can have unavailable values";
                self.wrong(place, message);
            }
        }
    }
}

/// An array as PostgreSQL prints it.
fn array(elements: &[serde_json::Value], delimiter: char) -> String {
    let element = |element: &serde_json::Value| match element {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::Array(elements) => array(elements, delimiter),
        serde_json::Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        serde_json::Value::String(text) => quoted(text, delimiter),
        other => quoted(&other.to_string(), delimiter),
    };
    let elements: Vec<String> = elements.iter().map(element).collect();
    format!("{{{}}}", elements.join(&delimiter.to_string()))
}

fn quoted(text: &str, delimiter: char) -> String {
    let special = |c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '{' | '}') || c == delimiter;
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;
    use serde_json::json;

    #[test]
    fn array_is_printed_as_by_postgres() {
        for (elements, expected) in [
            (json!([]), "{}"),
            (json!(["a", "b c", "", null, "null", "q\"\\"]), r#"{a,"b c","",NULL,"null","q\"\\"}"#),
            (json!([[1, 2], [3.5, true]]), "{{1,2},{3.5,t}}"),
        ] {
            assert_eq!(array(elements.as_array().unwrap(), ','), expected);
        }
    }

    #[test]
    fn cell_points_at_its_text() {
        let mut values = Values::default();
        values.push(Some("ab"));
        values.push(None);
        values.push(Some("c"));
        values.push_unavailable();
        let tuple = values.tuple();
        assert_eq!(
            [tuple.get(0), tuple.get(1), tuple.get(2), tuple.get(3)],
            [Value::Text(b"ab"), Value::Null, Value::Text(b"c"), Value::Unavailable]
        );
    }
}

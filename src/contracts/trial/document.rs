//! TOML values with positions. SQL values that TOML lacks are written `{ null = true }` and `{ unavailable =
//! true }`.

use std::sync::Arc;

use serde_json::Value as Json;
use toml_edit::{Item, TableLike, Value};

use crate::rules::{FilePosition, RuleError, SourceFile, Wrong};

/// Reads a file and collects its errors.
pub(super) struct FixtureReader<'a> {
    pub(super) file: &'a Arc<SourceFile>,
    /// The current case, for messages.
    pub(super) case: Option<String>,
    pub(super) errors: &'a mut Vec<RuleError>,
}

/// A value of a row in a fixture.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    /// An unchanged TOASTed value that the server did not send.
    Unavailable,
    /// A string or date, in PostgreSQL's input form.
    Text(String),
    Bool(bool),
    /// A number, in PostgreSQL's input form.
    Number(String),
    /// An array or a table.
    Json(Json),
}

impl FixtureReader<'_> {
    pub(super) fn place(&self, offset: usize) -> FilePosition {
        FilePosition { file: Arc::clone(self.file), offset }
    }

    /// Position of a key, or of the enclosing item.
    pub(super) fn place_of(&self, table: &dyn TableLike, key: &str, around: usize) -> FilePosition {
        let span = table.key(key).and_then(toml_edit::Key::span);
        self.place(span.map_or(around, |span| span.start))
    }

    pub(super) fn wrong(&mut self, place: FilePosition, wrong: impl Into<Wrong>) {
        self.errors.push(RuleError::new(Some(place), self.case.clone(), wrong));
    }

    /// Reports unknown keys.
    pub(super) fn only(&mut self, table: &dyn TableLike, known: &[&str], around: usize) {
        let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys.iter().filter(|key| !known.contains(&key.as_str())) {
            let place = self.place_of(table, key, around);
            let distance = |known: &&&str| strsim::damerau_levenshtein(known, key);
            let near = known.iter().min_by_key(distance).filter(|known| distance(known) <= 2);
            let hint = near.map_or_else(
                || format!("Valid keys are {}.", known.join(", ")),
                |near| format!("Did you mean {near:?}?"),
            );
            self.wrong(place, (format!("unknown key {key:?}"), hint));
        }
    }

    pub(super) fn text(&mut self, table: &dyn TableLike, key: &str, around: usize) -> Option<String> {
        let item = table.get(key)?;
        let text = item.as_str().map(str::to_owned);
        if text.is_none() {
            let place = self.place_of(table, key, around);
            self.wrong(place, format!("{key} must be a string in quotes, not {}", item.type_name()));
        }
        text
    }

    pub(super) fn flag(&mut self, table: &dyn TableLike, key: &str, around: usize) -> bool {
        let Some(item) = table.get(key) else { return false };
        item.as_bool().unwrap_or_else(|| {
            let place = self.place_of(table, key, around);
            self.wrong(place, format!("{key} must be true or false"));
            false
        })
    }
}

/// Offset of an item.
pub(super) fn start_of(item: &Item, around: usize) -> usize {
    item.span().map_or(around, |span| span.start)
}

pub(super) fn literal(item: &Item) -> Literal {
    if is_mark(item, "null") {
        return Literal::Null;
    }
    if is_mark(item, "unavailable") {
        return Literal::Unavailable;
    }
    match item.as_value() {
        Some(Value::String(text)) => Literal::Text(text.value().clone()),
        Some(Value::Boolean(value)) => Literal::Bool(*value.value()),
        Some(Value::Integer(number)) => Literal::Number(number.value().to_string()),
        Some(Value::Float(number)) => Literal::Number(float(*number.value())),
        Some(Value::Datetime(moment)) => Literal::Text(moment.value().to_string()),
        Some(Value::Array(_) | Value::InlineTable(_)) | None => Literal::Json(json(item)),
    }
}

/// Whether an item is `{ null = true }` or another mark.
fn is_mark(item: &Item, name: &str) -> bool {
    item.as_table_like()
        .is_some_and(|table| table.len() == 1 && table.get(name).and_then(Item::as_bool) == Some(true))
}

/// A number in PostgreSQL's input form. A number with more digits than a float must be written as a string.
fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        number.to_string()
    }
}

/// An item as JSON.
pub(super) fn json(item: &Item) -> Json {
    if is_mark(item, "null") {
        return Json::Null;
    }
    if let Some(table) = item.as_table_like() {
        return table.iter().map(|(key, item)| (key.to_owned(), json(item))).collect();
    }
    match item.as_value() {
        Some(Value::String(text)) => Json::String(text.value().clone()),
        Some(Value::Boolean(value)) => Json::Bool(*value.value()),
        Some(Value::Integer(number)) => Json::from(*number.value()),
        Some(Value::Float(number)) => serde_json::Number::from_f64(*number.value())
            .map_or_else(|| Json::String(float(*number.value())), Json::Number),
        Some(Value::Datetime(moment)) => Json::String(moment.value().to_string()),
        Some(Value::Array(array)) => array.iter().map(|value| json(&Item::Value(value.clone()))).collect(),
        Some(Value::InlineTable(_)) | None => match item.as_array_of_tables() {
            Some(tables) => tables.iter().map(|table| json(&Item::Table(table.clone()))).collect(),
            None => Json::Null,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixture_values_are_kept_verbatim() {
        let document = toml_edit::ImDocument::parse(
            "a = 12.500\nb = +1_000.0\nc = { null = true }\nd = { unavailable = true }\ne = 2026-11-21T08:00:00Z\n\
             f = [1, { x = { null = true } }]\ng = inf\nh = true\ni = { null = true, x = 1 }\n",
        )
        .unwrap();
        for (key, expected) in [
            ("a", Literal::Number("12.5".into())),
            ("b", Literal::Number("1000".into())),
            ("c", Literal::Null),
            ("d", Literal::Unavailable),
            ("e", Literal::Text("2026-11-21T08:00:00Z".into())),
            ("f", Literal::Json(serde_json::json!([1, { "x": null }]))),
            ("g", Literal::Number("Infinity".into())),
            ("h", Literal::Bool(true)),
            ("i", Literal::Json(serde_json::json!({ "null": true, "x": 1 }))),
        ] {
            assert_eq!(literal(&document[key]), expected, "{key}");
        }
    }
}

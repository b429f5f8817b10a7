//! Types for consumers in their languages, generated from the contracts.
//!
//! One file per language, with few rules: the envelope, and the fields of `data` for each event type. Fields
//! that a later minor version adds are ignored. A number that can have more digits than a double, or be
//! `NaN`, has the type `Numeric`, which keeps its digits if the language can. A field that may be null or
//! absent is optional. Arrays, composite types and JSON have the language's own type for JSON.

mod go;
mod java;
mod python;
mod rust;
mod typescript;

use super::archive::columns::ColumnType;
use super::archive::views::{EventView, FieldColumn, views};
use super::envelope::ATTRIBUTES;
use super::lock::Lock;
use super::model::Model;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Python 3.11 and later: typed dictionaries.
    Python,
    /// Interfaces.
    Typescript,
    /// Java 17 and later: records for Jackson.
    Java,
    /// Structures for encoding/json.
    Go,
    /// Structures for serde.
    Rust,
}

/// The file of types. `package`: its package, for Java and Go.
pub fn types(language: Language, package: &str, model: &Model, lock: &Lock) -> String {
    let views = views(model, lock);
    let events: Vec<EventTypes<'_>> = views.events.iter().map(EventTypes::new).collect();
    let header = format!("Events of {}. Made by `forebay events codegen`: do not edit.", model.source);
    match language {
        Language::Python => python::file(&header, &events),
        Language::Typescript => typescript::file(&header, &events),
        Language::Java => java::file(&header, package, &events),
        Language::Go => go::file(&header, package, &events),
        Language::Rust => rust::file(&header, &events),
    }
}

/// An event type with its names in code.
struct EventTypes<'a> {
    view: &'a EventView,
    /// `LabPlateCompletedV1`.
    name: String,
    fields: Vec<FieldType<'a>>,
}

/// A field with its names in code.
struct FieldType<'a> {
    column: &'a FieldColumn,
    /// Its values.
    values: ValueType,
    /// `plate_id`: ASCII, no keyword of any language, distinct.
    snake: String,
    /// `PlateId`.
    pascal: String,
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueType {
    Boolean,
    Int32,
    Int64,
    /// A number with all its digits, or `NaN`, `Infinity`, `-Infinity`.
    Numeric,
    Text,
    Json,
}

impl ValueType {
    const fn of(column: ColumnType) -> Self {
        match column {
            ColumnType::Boolean => Self::Boolean,
            ColumnType::SmallInt | ColumnType::Integer => Self::Int32,
            ColumnType::BigInt => Self::Int64,
            ColumnType::Decimal(..) | ColumnType::Double => Self::Numeric,
            ColumnType::Json => Self::Json,
            ColumnType::Date
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
            | ColumnType::Time
            | ColumnType::Bytes
            | ColumnType::Text => Self::Text,
        }
    }
}

impl<'a> EventTypes<'a> {
    fn new(view: &'a EventView) -> Self {
        let mut taken = Vec::new();
        let field = |column: &'a FieldColumn| {
            let snake = distinct(&mut taken, &identifier(&column.field));
            FieldType { column, values: ValueType::of(column.column_type), pascal: pascal(&snake), snake }
        };
        Self { view, name: pascal(&view.name), fields: view.columns.iter().map(field).collect() }
    }
}

impl FieldType<'_> {
    /// Its meaning, for a comment on one line.
    fn comment(&self) -> &str {
        let text = self.column.meaning.as_str();
        if text.is_empty() { &self.column.field } else { text }
    }

    /// Its name in `data` as a JSON string, which is a valid string literal in all five languages.
    fn json_name(&self) -> String {
        quoted(&self.column.field)
    }
}

/// A string literal.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Words that are not allowed as names in at least one of the languages.
const KEYWORDS: [&str; 97] = [
    "abstract",
    "as",
    "assert",
    "async",
    "await",
    "become",
    "boolean",
    "box",
    "break",
    "byte",
    "case",
    "catch",
    "char",
    "class",
    "clone",
    "const",
    "continue",
    "crate",
    "default",
    "do",
    "double",
    "dyn",
    "else",
    "enum",
    "extends",
    "extern",
    "false",
    "final",
    "finalize",
    "finally",
    "float",
    "fn",
    "for",
    "func",
    "gen",
    "get",
    "get_class",
    "goto",
    "hash_code",
    "if",
    "impl",
    "implements",
    "import",
    "in",
    "instanceof",
    "int",
    "interface",
    "let",
    "long",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "native",
    "new",
    "notify",
    "notify_all",
    "null",
    "override",
    "package",
    "priv",
    "private",
    "protected",
    "pub",
    "public",
    "ref",
    "return",
    "self",
    "short",
    "static",
    "strictfp",
    "struct",
    "super",
    "switch",
    "synchronized",
    "this",
    "throw",
    "throws",
    "to_string",
    "trait",
    "transient",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "var",
    "virtual",
    "void",
    "volatile",
    "wait",
    "where",
    "yield",
];

/// The snake-case identifier of a field name: `plate_id` for `plate_id`, `plateId` or `plate id`.
fn identifier(field: &str) -> String {
    let mut name = String::new();
    let mut after_lower = false;
    for letter in field.chars() {
        if letter.is_ascii_alphanumeric() {
            if letter.is_ascii_uppercase() && after_lower {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    let name = name.trim_end_matches('_');
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let name =
        if begins { name.to_owned() } else { format!("field_{name}").trim_end_matches('_').to_owned() };
    if KEYWORDS.contains(&name.as_str()) { format!("{name}_") } else { name }
}

fn pascal(snake: &str) -> String {
    let upper = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    snake.split('_').map(upper).collect()
}

/// The camel-case form of a snake-case name: `plateId`.
fn camel(snake: &str) -> String {
    let name = pascal(snake);
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let name: String = first.into_iter().chain(letters).collect();
    if KEYWORDS.contains(&name.as_str()) || snake.ends_with('_') { format!("{name}_") } else { name }
}

/// A name whose Pascal-case form no other field has.
fn distinct(taken: &mut Vec<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    for number in 2.. {
        if !taken.contains(&pascal(&name)) {
            break;
        }
        name = format!("{wanted}_{number}");
    }
    taken.push(pascal(&name));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_field_name_becomes_an_identifier() {
        for (field, snake, camel_case) in [
            ("plate_id", "plate_id", "plateId"),
            ("plateId", "plate_id", "plateId"),
            ("Größe", "gr_e", "grE"),
            ("2nd", "field_2nd", "field2nd"),
            ("ß", "field", "field"),
            ("type", "type_", "type_"),
            ("Type", "type_", "type_"),
            ("a  b\"", "a_b", "aB"),
            ("a_1", "a_1", "a1"),
        ] {
            let found = identifier(field);
            assert_eq!((found.as_str(), camel(&found).as_str()), (snake, camel_case), "{field}");
        }
        let mut taken = Vec::new();
        assert_eq!(["a_b", "ab", "a_b"].map(|name| distinct(&mut taken, name)), ["a_b", "ab", "a_b_2"]);
        assert!(KEYWORDS.is_sorted());
    }
}

//! Whatever the text and the row: an expression is compiled or refused, and has a value, an error, or is unavailable.

#![no_main]

use forebay::change::{Cell, Operation, Tuple};
use forebay::expression::{ScopeColumn, Context, Expression, HmacKey, Meaning, Name, EvalOutcome, PseudonymOrigin, Row, Scope};
use forebay::types::{Base, Kind, SqlType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<Option<&str>>)| {
    let (text, values) = input;
    let scope = scope();
    for field in Expression::parse_list(text, &scope).unwrap_or_default() {
        evaluate(&field.expression, &values);
    }
    match Expression::parse(text, &scope) {
        Ok(expression) => evaluate(&expression, &values),
        Err(mistakes) => assert!(!mistakes.0.is_empty() && !mistakes.to_string().is_empty()),
    }
});

fn scope() -> Scope {
    let bases = [
        Base::Bool,
        Base::Int4,
        Base::Int8,
        Base::Numeric,
        Base::Float4,
        Base::Float8,
        Base::Text,
        Base::Bpchar,
        Base::Date,
        Base::Time,
        Base::Timestamp,
        Base::TimestampTz,
        Base::Interval,
        Base::Uuid,
        Base::Json,
        Base::Jsonb,
        Base::Bytea,
        Base::Array(Base::Text.into()),
    ];
    let names = bases.into_iter().enumerate().map(|(index, base)| Name {
        name: char::from(b'a' + u8::try_from(index).unwrap_or_default()).to_string(),
        meaning: Meaning::Column(ScopeColumn {
            index: Some(index),
            kind: Kind::Text,
            data_type: SqlType::plain(base),
            not_null: false,
            in_identity: true,
            tagged: false,
        }),
    });
    Scope { of: "t".to_owned(), names: names.collect(), origin: PseudonymOrigin::default() }
}

fn evaluate(expression: &Expression, values: &[Option<&str>]) {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for value in values {
        cells.push(value.map_or(Cell::Null, |text| {
            let start = u32::try_from(bytes.len()).unwrap_or_default();
            bytes.extend_from_slice(text.as_bytes());
            Cell::Text { start, length: u32::try_from(text.len()).unwrap_or_default() }
        }));
    }
    let operation = Operation::Insert { new: Tuple::new(&bytes, &cells) };
    let Some(row) = Row::of(&operation) else { return };
    let mut context = Context::new(HmacKey::new(b"a key of sixteen or more bytes"));
    let mut out = String::from("before");
    match expression.write_text(&row, &mut context, &mut out) {
        Ok(EvalOutcome::Value) => {}
        _ => assert_eq!(out, "before"),
    }
}

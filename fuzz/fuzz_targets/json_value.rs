//! Whatever the kind and the text: what is written is one JSON value on one line, or nothing.

#![no_main]

use std::sync::Arc;

use forebay::json::write_value;
use forebay::types::Kind;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(kind) = kind(&mut input, 4) else { return };
    let text = input.take_rest();
    let mut out = b"before".to_vec();
    let written = write_value(&mut out, &kind, text);
    let added = out.strip_prefix(b"before").expect("what was there stays");
    if written.is_err() {
        assert!(added.is_empty(), "an error leaves the buffer as it was");
        return;
    }
    assert!(!added.contains(&b'\n'));
    serde_json::from_slice::<serde::de::IgnoredAny>(added).expect("JSON");
});

fn kind(input: &mut Unstructured<'_>, depth: u8) -> Result<Kind> {
    let last = if depth == 0 { 9 } else { 12 };
    Ok(match input.int_in_range(0..=last)? {
        0 => Kind::Bool,
        1 => Kind::Number,
        2 => Kind::Float,
        3 => Kind::Date,
        4 => Kind::Timestamp,
        5 => Kind::TimestampTz,
        6 => Kind::Bytea,
        7 => Kind::Json,
        8 => Kind::Text,
        9 => Kind::Hstore,
        10 => Kind::Array { element: Arc::new(kind(input, depth - 1)?), delimiter: *input.choose(b",;")? },
        11 => Kind::Vector { element: Arc::new(kind(input, depth - 1)?) },
        _ => {
            let fields = 0..input.int_in_range(0..=3)?;
            let fields = fields.map(|nth| Ok((format!("f\"{nth}\n"), kind(input, depth - 1)?)));
            Kind::Composite { fields: fields.collect::<Result<_>>()? }
        }
    })
}

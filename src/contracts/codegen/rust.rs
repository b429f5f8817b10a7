//! Rust: structures for serde, which ignores unknown members.

use std::fmt::Write as _;

use super::{ATTRIBUTES, EventTypes, ValueType, quoted};

const HELPERS: &str = include_str!("rust.head");

pub(super) fn file(header: &str, events: &[EventTypes<'_>]) -> String {
    let mut text = format!("//! {header}\n//!{HELPERS}");
    for attribute in &ATTRIBUTES {
        let values = if attribute.is_flag() { "bool" } else { "String" };
        let values = if attribute.always { values.to_owned() } else { format!("Option<{values}>") };
        let (rename, name) = match attribute.name {
            "type" => ("#[serde(rename = \"type\")] ", "event_type"),
            name => ("", name),
        };
        add(&mut text, format_args!("    {rename}pub {name}: {values},"));
    }
    text.push_str("    pub data: Data,\n}\n");
    for event in events {
        let (name, event_type) = (&event.name, quoted(&event.view.event_type));
        add(
            &mut text,
            format_args!(
                "\n/// {}\n#[derive(Clone, Debug, Deserialize)]\npub struct {name} {{",
                event.view.about
            ),
        );
        for field in &event.fields {
            let values = match field.values {
                ValueType::Boolean => "bool",
                ValueType::Int32 => "i32",
                ValueType::Int64 => "i64",
                ValueType::Numeric => "Numeric",
                ValueType::Text => "String",
                ValueType::Json => "serde_json::Value",
            };
            let values = if field.column.nullable { format!("Option<{values}>") } else { values.to_owned() };
            add(&mut text, format_args!("    /// {}", field.comment()));
            add(
                &mut text,
                format_args!(
                    "    #[serde(rename = {})]\n    pub {}: {values},",
                    field.json_name(),
                    field.snake
                ),
            );
        }
        add(
            &mut text,
            format_args!("}}\n\nimpl {name} {{\n    pub const TYPE: &'static str = {event_type};\n}}"),
        );
    }
    text
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

//! TypeScript: interfaces for the objects that `JSON.parse` returns.

use std::fmt::Write as _;

use super::{ATTRIBUTES, EventTypes, ValueType, quoted};

pub(super) fn file(header: &str, events: &[EventTypes<'_>]) -> String {
    let mut text = format!(
        "// {header}\n\n/** A number. `JSON.parse` rounds it to a double; a string is \"NaN\", \"Infinity\" or \"-Infinity\". */\n\
         export type Numeric = number | string;\n\n/** The attributes of every event. */\nexport interface Envelope {{\n"
    );
    for attribute in &ATTRIBUTES {
        let values = if attribute.is_flag() { "boolean" } else { "string" };
        let optional = if attribute.always { "" } else { "?" };
        add(&mut text, format_args!("  {}{optional}: {values};", attribute.name));
    }
    text.push_str("}\n");
    for event in events {
        let comment = event.view.about.replace("*/", "* /");
        add(&mut text, format_args!("\n/** {comment} */\nexport interface {}Data {{", event.name));
        for field in &event.fields {
            let values = match field.values {
                ValueType::Boolean => "boolean",
                ValueType::Int32 | ValueType::Int64 => "number",
                ValueType::Numeric => "Numeric",
                ValueType::Text => "string",
                ValueType::Json => "unknown",
            };
            let (optional, null) = match (field.column.nullable, field.values) {
                (false, _) => ("", ""),
                (true, ValueType::Json) => ("?", ""),
                (true, _) => ("?", " | null"),
            };
            let comment = field.comment().replace("*/", "* /");
            add(
                &mut text,
                format_args!("  /** {comment} */\n  {}{optional}: {values}{null};", field.json_name()),
            );
        }
        let (name, event_type) = (&event.name, quoted(&event.view.event_type));
        add(
            &mut text,
            format_args!(
                "}}\n\nexport interface {name} extends Envelope {{\n  type: {event_type};\n  data: {name}Data;\n}}"
            ),
        );
    }
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let all = if names.is_empty() { "never".to_owned() } else { names.join(" | ") };
    add(
        &mut text,
        format_args!(
            "\n/** The events that are known here. There are others: ignore them. */\nexport type KnownEvent = {all};"
        ),
    );
    text
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

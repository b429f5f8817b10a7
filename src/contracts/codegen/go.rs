//! Go: structures for `encoding/json`, which ignores unknown members.

use std::fmt::Write as _;

use super::{ATTRIBUTES, EventTypes, ValueType, pascal, quoted};

const HELPERS: &str = include_str!("go.head");

pub(super) fn file(header: &str, package: &str, events: &[EventTypes<'_>]) -> String {
    let mut text = format!("// {header}\n\npackage {package}\n{HELPERS}");
    for attribute in &ATTRIBUTES {
        let values = if attribute.is_flag() { "bool" } else { "string" };
        let (name, tag) = (pascal(attribute.name), attribute.name);
        add(&mut text, format_args!("\t{name} {values} `json:\"{tag}\"`"));
    }
    text.push_str(
        "\tData Data `json:\"data\"`\n}\n\n// Raw is the data of any event.\ntype Raw = json.RawMessage\n",
    );
    for event in events {
        let (name, event_type) = (&event.name, quoted(&event.view.event_type));
        add(
            &mut text,
            format_args!("\n// {name}Type is the type of {name}.\nconst {name}Type = {event_type}"),
        );
        add(&mut text, format_args!("\n// {name}: {}\ntype {name} struct {{", event.view.about));
        for field in &event.fields {
            let values = match field.values {
                ValueType::Boolean => "bool",
                ValueType::Int32 => "int32",
                ValueType::Int64 => "int64",
                ValueType::Numeric => "Numeric",
                ValueType::Text => "string",
                ValueType::Json => "json.RawMessage",
            };
            let pointer = if field.column.nullable && field.values != ValueType::Json { "*" } else { "" };
            add(&mut text, format_args!("\t// {}", field.comment()));
            // A struct tag cannot contain every name. A field with such a name can only be read from Raw.
            let tag = field.column.field.as_str();
            let fits = !tag.is_empty() && !tag.contains(['"', '`', '\\', ',']);
            let tag = if fits && tag != "-" { tag.to_owned() } else { "-".to_owned() };
            add(&mut text, format_args!("\t{} {pointer}{values} `json:\"{tag}\"`", field.pascal));
        }
        text.push_str("}\n");
    }
    text
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

//! Python: typed dictionaries, as `json.loads` returns dictionaries.

use std::fmt::Write as _;

use super::{ATTRIBUTES, EventTypes, ValueType, quoted};

const HELPERS: &str = r#"
import json
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict, Union

#: A number with all its digits. A string is "NaN", "Infinity" or "-Infinity".
Numeric = Union[Decimal, int, str]


def _integer(digits: str) -> Union[int, Decimal]:
    return int(digits) if len(digits) < 4000 else Decimal(digits)


def loads(line: Union[str, bytes]) -> Any:
    """The event of a line, with all digits of its numbers. Choose its class by event["type"]."""
    return json.loads(line, parse_int=_integer, parse_float=Decimal)
"#;

pub(super) fn file(header: &str, events: &[EventTypes<'_>]) -> String {
    let mut text = format!("\"\"\"{}\"\"\"\n{HELPERS}", header.replace('\\', "\\\\").replace('"', "'"));
    text.push_str("\n\nclass Envelope(TypedDict):\n    \"\"\"The attributes of every event.\"\"\"\n\n");
    for attribute in &ATTRIBUTES {
        let values = if attribute.is_flag() { "bool" } else { "str" };
        let values = if attribute.always { values.to_owned() } else { format!("NotRequired[{values}]") };
        if attribute.name != "type" {
            add(&mut text, format_args!("    {}: {values}", attribute.name));
        }
    }
    for event in events {
        // The functional form of TypedDict allows any name as a key.
        add(&mut text, format_args!("\n\n#: {}\n{}Data = TypedDict(", about(event), event.name));
        add(&mut text, format_args!("    {},\n    {{", quoted(&format!("{}Data", event.name))));
        for field in &event.fields {
            let values = match field.values {
                ValueType::Boolean => "bool",
                ValueType::Int32 | ValueType::Int64 => "int",
                ValueType::Numeric => "Numeric",
                ValueType::Text => "str",
                ValueType::Json => "Any",
            };
            let values = match (field.column.nullable, field.values) {
                (false, _) => values.to_owned(),
                (true, ValueType::Json) => "NotRequired[Any]".to_owned(),
                (true, _) => format!("NotRequired[Union[{values}, None]]"),
            };
            add(
                &mut text,
                format_args!("        # {}\n        {}: {values},", field.comment(), field.json_name()),
            );
        }
        text.push_str("    },\n)\n");
        let (name, event_type) = (&event.name, quoted(&event.view.event_type));
        add(
            &mut text,
            format_args!(
                "\n\nclass {name}(Envelope):\n    type: Literal[{event_type}]\n    data: {name}Data"
            ),
        );
    }
    text
}

fn about<'a>(event: &'a EventTypes<'_>) -> &'a str {
    if event.view.about.is_empty() { &event.view.event_type } else { &event.view.about }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

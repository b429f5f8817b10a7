//! Java: records for Jackson, in one file.

use std::fmt::Write as _;

use super::{ATTRIBUTES, EventTypes, ValueType, camel, quoted};

const HELPERS: &str = r"
import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JsonDeserializer;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.annotation.JsonDeserialize;
import java.io.IOException;
import java.math.BigDecimal;

";

const BODY: &str = r"public final class ForebayEvents {
  private ForebayEvents() {}

  /** A number with all its digits, or NaN, Infinity, -Infinity. */
  @JsonDeserialize(using = NumericReader.class)
  public record Numeric(String text) {
    public BigDecimal value() {
      return new BigDecimal(text);
    }
  }

  static final class NumericReader extends JsonDeserializer<Numeric> {
    @Override
    public Numeric deserialize(JsonParser parser, DeserializationContext context) throws IOException {
      return new Numeric(parser.getText());
    }
  }

  /** The envelope with its data. Choose the type of data by type(), and ignore types that you do not know. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public record Event<T>(
";

pub(super) fn file(header: &str, package: &str, events: &[EventTypes<'_>]) -> String {
    let mut text = format!("// {header}\npackage {package};\n{HELPERS}{BODY}");
    for attribute in &ATTRIBUTES {
        let values = if attribute.is_flag() { "Boolean" } else { "String" };
        add(&mut text, format_args!("      @JsonProperty(\"{0}\") {values} {0},", attribute.name));
    }
    text.push_str("      @JsonProperty(\"data\") T data) {}\n");
    for event in events {
        let (name, event_type) = (&event.name, quoted(&event.view.event_type));
        let comment = event.view.about.replace("*/", "* /").replace("\\u", "\\\\u");
        add(
            &mut text,
            format_args!(
                "\n  /** {comment} */\n  @JsonIgnoreProperties(ignoreUnknown = true)\n  public record {name}("
            ),
        );
        let field = |field: &super::FieldType<'_>| {
            let values = match field.values {
                ValueType::Boolean => "Boolean",
                ValueType::Int32 => "Integer",
                ValueType::Int64 => "Long",
                ValueType::Numeric => "Numeric",
                ValueType::Text => "String",
                ValueType::Json => "JsonNode",
            };
            format!("      @JsonProperty({}) {values} {}", field.json_name(), camel(&field.snake))
        };
        let fields: Vec<String> = event.fields.iter().map(field).collect();
        add(
            &mut text,
            format_args!(
                "{}) {{\n    public static final String TYPE = {event_type};\n  }}",
                fields.join(",\n")
            ),
        );
    }
    text.push_str("}\n");
    text
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

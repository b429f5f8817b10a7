//! The template that builds an event type from an outbox row or message: `{aggregatetype}.{type}`.

use std::fmt;

use super::error::Wrong;
use super::type_name::{TYPE_MAX, TypeName};

/// A template such as `shop.{aggregatetype}.{type}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Aggregate,
    Type,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Aggregate => f.write_str("{aggregatetype}"),
            Piece::Type => f.write_str("{type}"),
        })
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else {
                return Err(format!("{text:?}: unbalanced {{").into());
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name {
                "aggregatetype" => Piece::Aggregate,
                "type" => Piece::Type,
                _ => return Err(format!("{{{name}}} is neither {{aggregatetype}} nor {{type}}").into()),
            });
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        let template = Self { pieces };
        template.type_name("a", "a").map_err(|wrong| Wrong {
            message: format!("with \"a\" for both placeholders: {}", wrong.message),
            ..wrong
        })?;
        Ok(template)
    }

    /// Whether the template uses `{aggregatetype}`.
    pub fn needs_aggregate(&self) -> bool {
        self.pieces.contains(&Piece::Aggregate)
    }

    /// Whether the template can produce this event type.
    pub fn may_make(&self, event_type: &TypeName) -> bool {
        let whole = event_type.as_str();
        fits(&self.pieces, whole) || whole.strip_suffix(".v1").is_some_and(|stem| fits(&self.pieces, stem))
    }

    /// The event type of a row or message. Words are converted to lower case and joined by `_`. Without a
    /// major version it is version 1.
    ///
    /// # Errors
    /// What is wrong. The message quotes the values.
    pub fn type_name(&self, aggregate: &str, kind: &str) -> Result<TypeName, Wrong> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Aggregate => words(&mut name, aggregate),
                Piece::Type => words(&mut name, kind),
            }
            if name.len() > TYPE_MAX {
                return Err(format!("the event type exceeds {TYPE_MAX} characters").into());
            }
        }
        let versioned = name.rsplit_once(".v").is_some_and(|(_, version)| {
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
        });
        if !versioned {
            name.push_str(".v1");
        }
        TypeName::parse(&name)
    }
}

/// Whether a text matches the pieces: fixed texts, with at least one character between them.
fn fits(pieces: &[Piece], text: &str) -> bool {
    let mut ends = vec![0];
    for piece in pieces {
        ends = match piece {
            Piece::Text(own) => {
                let is_there =
                    |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(own.as_str()));
                ends.into_iter().filter(is_there).map(|at| at + own.len()).collect()
            }
            Piece::Aggregate | Piece::Type => {
                let Some(first) = ends.first().copied() else { return false };
                (first + 1..=text.len()).filter(|at| text.is_char_boundary(*at)).collect()
            }
        };
    }
    ends.contains(&text.len())
}

/// Converts `OrderCreated`, `order-created` and `ORDER_CREATED` to `order_created`.
fn words(out: &mut String, text: &str) {
    let mut before: Option<char> = None;
    let mut chars = text.chars().take(TYPE_MAX + 1).peekable();
    while let Some(c) = chars.next() {
        if matches!(c, '-' | ' ' | '_') {
            out.push('_');
        } else if c.is_ascii_uppercase() {
            let follows_small = before.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let begins_word = before.is_some_and(|c| c.is_ascii_uppercase())
                && chars.peek().is_some_and(char::is_ascii_lowercase);
            if follows_small || begins_word {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
        before = Some(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_made_from_the_row() {
        for (template, aggregate, kind, expected) in [
            ("{aggregatetype}.{type}", "Order", "OrderCreated", "order.order_created.v1"),
            ("{aggregatetype}.{type}", "order", "placed.v3", "order.placed.v3"),
            ("{type}", "", "shop.order_placed.v12", "shop.order_placed.v12"),
            ("shop.{type}", "x", "ORDER-Line2Added", "shop.order_line2_added.v1"),
            ("{type}", "", "HTTPServerStarted", "http_server_started.v1"),
            ("shop.{aggregatetype}", "Customer order", "ignored", "shop.customer_order.v1"),
            ("shop.{type}.v2", "", "placed", "shop.placed.v2"),
        ] {
            let name = Template::parse(template).unwrap().type_name(aggregate, kind);
            assert_eq!(name.unwrap().as_str(), expected, "{template} {aggregate} {kind}");
        }
    }

    #[test]
    fn template_without_valid_type_is_refused() {
        let template = Template::parse("{aggregatetype}.{type}").unwrap();
        let long = "x".repeat(1 << 20);
        for (aggregate, kind) in [
            ("", "a"),
            ("a", ""),
            ("a", "ä"),
            ("1", "a"),
            ("a", "b.v0"),
            ("forebay", "gap"),
            ("a", long.as_str()),
        ] {
            assert!(template.type_name(aggregate, kind).is_err(), "{aggregate} {kind}");
        }
        for bad in ["{x}", "{type", "Shop.{type}", "a b.{type}", "forebay.{type}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn possible_types_of_template_are_known_in_advance() {
        for (template, event_type, expected) in [
            ("{type}", "shop.order_placed.v1", true),
            ("shop.{type}", "shop.order_placed.v3", true),
            ("shop.{type}", "lab.order_placed.v3", false),
            ("{aggregatetype}.{type}", "order.placed.v1", true),
            ("{aggregatetype}.{type}", "placed.v1", true),
            ("shop.{type}.v2", "shop.order.v2", true),
            ("shop.{type}.v2", "shop.order.v1", false),
            ("shop.{type}.seen", "shop.order.seen.v1", true),
            ("shop.{type}.seen", "shop.seen.v1", false),
        ] {
            let parsed = Template::parse(template).unwrap();
            assert_eq!(parsed.to_string(), template);
            assert_eq!(
                parsed.may_make(&TypeName::parse(event_type).unwrap()),
                expected,
                "{template} {event_type}"
            );
        }
    }
}

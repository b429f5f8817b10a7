//! How the type of an outbox's event is made of what its row or message says: `{aggregatetype}.{type}`.

use super::{TYPE_MAX, TypeName};

/// `shop.{aggregatetype}.{type}`.
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

impl Template {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else {
                return Err(format!("{text:?}: a {{ has no }}"));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name {
                "aggregatetype" => Piece::Aggregate,
                "type" => Piece::Type,
                _ => return Err(format!("{{{name}}} is neither {{aggregatetype}} nor {{type}}")),
            });
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        let template = Self { pieces };
        template.type_name("a", "a").map_err(|wrong| format!("{wrong}, where both are \"a\""))?;
        Ok(template)
    }

    /// Whether it asks for the aggregate's type.
    pub fn needs_aggregate(&self) -> bool {
        self.pieces.contains(&Piece::Aggregate)
    }

    /// The event type of a row or message. Capitals become lower-case words, what parts words becomes `_`; where no major
    /// version is named, it is the first.
    ///
    /// # Errors
    /// What is wrong; it quotes the values.
    pub fn type_name(&self, aggregate: &str, kind: &str) -> Result<TypeName, String> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Aggregate => words(&mut name, aggregate),
                Piece::Type => words(&mut name, kind),
            }
            if name.len() > TYPE_MAX {
                return Err(format!("an event type has at most {TYPE_MAX} characters"));
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

/// `OrderCreated`, `order-created` and `ORDER_CREATED` are `order_created`.
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
    fn a_row_says_its_type_in_its_own_way() {
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
            assert_eq!(name.as_ref().map(TypeName::as_str), Ok(expected), "{template} {aggregate} {kind}");
        }
    }

    #[test]
    fn what_makes_no_type_is_refused() {
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
}

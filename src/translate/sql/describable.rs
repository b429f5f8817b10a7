//! A text of a rule as a server can describe it: what only Forebay knows is replaced by what has the same type.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

/// A text for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// SQL.
    pub text: String,
    /// Whether nothing was replaced.
    pub verbatim: bool,
}

/// `hmac(…)` becomes `concat(…)`, which takes any type and gives text; `changed()` becomes an empty `text[]`.
pub fn describable(text: &str) -> Described {
    let verbatim = || Described { text: text.to_owned(), verbatim: true };
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).with_unescape(false).tokenize() else {
        return verbatim();
    };
    let is_space = |token: &&Token| !matches!(token, Token::Whitespace(_));
    let mut out = String::with_capacity(text.len());
    let mut replaced = false;
    let mut skip = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if at < skip {
            continue;
        }
        let mut behind = tokens.iter().enumerate().skip(at + 1).filter(|(_, token)| is_space(token));
        let calls = matches!(behind.next(), Some((_, Token::LParen)));
        match token {
            Token::Word(word) if calls && word.quote_style.is_none() && is(&word.value, "hmac") => {
                out.push_str("pg_catalog.concat");
                replaced = true;
            }
            Token::Word(word) if calls && word.quote_style.is_none() && is(&word.value, "changed") => {
                if let Some((end, Token::RParen)) = behind.next() {
                    out.push_str("CAST('{}' AS text[])");
                    (skip, replaced) = (end + 1, true);
                } else {
                    out.push_str(&word.value);
                }
            }
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                // A comment is nothing to a server; but it may end in a line feed.
                out.push_str(if token.to_string().ends_with('\n') { "\n" } else { " " });
                replaced = true;
            }
            _ => out.push_str(&token.to_string()),
        }
    }
    if replaced { Described { text: out, verbatim: false } } else { verbatim() }
}

fn is(word: &str, name: &str) -> bool {
    word.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_know_is_replaced_and_all_else_stays() {
        for (text, expected) in [
            ("a, old.b as \"B c\", 'it''s' || e'\\n'", None),
            ("hmac(a)", Some("pg_catalog.concat(a)")),
            ("HMAC (a || b) as x", Some("pg_catalog.concat (a || b) as x")),
            ("\"hmac\"(a), hmac", None),
            ("changed ( ) as c", Some("CAST('{}' AS text[]) as c")),
            ("changed", None),
            ("'hmac(a)'", None),
        ] {
            let described = describable(text);
            assert_eq!(described.text, expected.unwrap_or(text));
            assert_eq!(described.verbatim, expected.is_none(), "{text}");
        }
    }

    #[test]
    fn comments_are_not_sent_and_do_not_swallow_what_follows() {
        let described = describable("a, -- what a is\n hmac(b) -- who");
        assert!(
            !described.text.contains("--") && described.text.contains("\n pg_catalog.concat(b)"),
            "{described:?}"
        );
    }
}

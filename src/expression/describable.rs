//! Rewrites a rule's SQL so that a server can describe it: Forebay's functions are replaced by others of the
//! same type.

use std::ops::Range;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

/// SQL that a server can describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// SQL.
    pub text: String,
    /// Whether the text is unchanged.
    pub verbatim: bool,
}

/// Replaces `hmac(…)` and `hmac_previous(…)` by `concat(…)` of its first argument, which takes any type and
/// returns text, and `changed()` by an empty `text[]`.
pub fn describable(text: &str) -> Described {
    let verbatim = || Described { text: text.to_owned(), verbatim: true };
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).with_unescape(false).tokenize() else {
        return verbatim();
    };
    let is_space = |token: &&Token| !matches!(token, Token::Whitespace(_));
    let mut out = String::with_capacity(text.len());
    let mut replaced = false;
    let mut skip = 0_usize;
    let mut options: Vec<Range<usize>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if at < skip || options.iter().any(|range| range.contains(&at)) {
            continue;
        }
        let mut behind = tokens.iter().enumerate().skip(at + 1).filter(|(_, token)| is_space(token));
        let calls = matches!(behind.next(), Some((_, Token::LParen)));
        match token {
            Token::Word(word) if calls && word.quote_style.is_none() && is_hmac(&word.value) => {
                out.push_str("pg_catalog.concat");
                options.extend(named_arguments(&tokens, at));
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
                // A comment has no meaning for the server, but its line feed separates tokens.
                out.push_str(if token.to_string().ends_with('\n') { "\n" } else { " " });
                replaced = true;
            }
            _ => out.push_str(&token.to_string()),
        }
    }
    if replaced { Described { text: out, verbatim: false } } else { verbatim() }
}

/// The named arguments of a call, from the comma before them to its closing parenthesis.
fn named_arguments(tokens: &[Token], call: usize) -> Option<Range<usize>> {
    let mut depth = 0_usize;
    let mut comma = None;
    let mut begin = None;
    for (at, token) in tokens.iter().enumerate().skip(call + 1) {
        match token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 1 => return begin.map(|begin| begin..at),
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Comma if depth == 1 => comma = Some(at),
            Token::RArrow if depth == 1 => begin = begin.or(comma),
            _ => {}
        }
    }
    None
}

fn is_hmac(word: &str) -> bool {
    is(word, "hmac") || is(word, "hmac_previous")
}

fn is(word: &str, name: &str) -> bool {
    word.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forebay_functions_are_replaced_for_prepare() {
        for (text, expected) in [
            ("a, old.b as \"B c\", 'it''s' || e'\\n'", None),
            ("hmac(a)", Some("pg_catalog.concat(a)")),
            ("hmac_previous(a)", Some("pg_catalog.concat(a)")),
            ("HMAC (a || b) as x", Some("pg_catalog.concat (a || b) as x")),
            ("hmac(left(a, 1), weak => true), b", Some("pg_catalog.concat(left(a, 1)), b")),
            (
                "hmac(hmac(a[1], weak => true), weak=>false) = 'x'",
                Some("pg_catalog.concat(pg_catalog.concat(a[1])) = 'x'"),
            ),
            ("hmac(a, weak => tr", Some("pg_catalog.concat(a, weak => tr")),
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
    fn comments_are_stripped_and_following_text_kept() {
        let described = describable("a, -- what a is\n hmac(b) -- who");
        assert!(
            !described.text.contains("--") && described.text.contains("\n pg_catalog.concat(b)"),
            "{described:?}"
        );
    }
}

//! Characters that are not SQL: typographic, invisible and full-width ones, and operators of other languages.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use crate::visible::visible;

/// Characters that look like punctuation of SQL but are parsed as letters of a name.
pub(super) fn for_letters(word: &str) -> Option<(&'static str, &'static str)> {
    const QUOTES: [char; 11] = ['‘', '’', '‚', '′', '“', '”', '„', '″', '«', '»', '´'];
    const SIGNS: [char; 9] = ['–', '—', '−', '×', '÷', '≥', '≤', '≠', '…'];
    if word.contains(QUOTES) {
        return Some(("a typographic quote is no quote", "write a text in straight single quotes: 'text'"));
    }
    if word.contains(SIGNS) {
        return Some(("a typographic sign is no operator", "write -, *, /, >=, <= or <>"));
    }
    let is_hidden = |letter: char| visible(letter.encode_utf8(&mut [0; 4])).len() != letter.len_utf8();
    let is_wide = |letter: char| matches!(letter, '\u{3000}'..='\u{3002}' | '\u{ff01}'..='\u{ff65}');
    if word.contains(|letter: char| letter.is_whitespace() || is_hidden(letter) || is_wide(letter)) {
        let hint = "replace it by a plain blank or a plain comma";
        return Some(("a name contains an invisible or full-width character", hint));
    }
    None
}

/// Two adjacent characters that other languages read as one operator.
pub(in super::super) fn for_pair(first: &Token, second: &Token) -> Option<(&'static str, &'static str)> {
    Some(match (first, second) {
        (Token::Eq, Token::Tilde) => ("=~ is not an operator", "write x ~ 'pattern'"),
        (Token::Eq, Token::ExclamationMark) => ("=! is not an operator", "write <>"),
        (Token::Eq, Token::Lt) => ("=< is not an operator", "write <="),
        (Token::Question, Token::Question) => ("?? is not an operator", "write coalesce(x, y)"),
        _ => return None,
    })
}

/// A character where a value is expected.
pub(super) fn in_place_of_expression(found: &str, tokens: &[&Token]) -> Option<(&'static str, &'static str)> {
    let in_list = |token: &&Token| matches!(token, Token::Word(word) if word.keyword == Keyword::IN);
    Some(match found {
        "?" => ("parameters are not supported", "write the value, or a column as x, new.x or old.x"),
        ")" if tokens.iter().any(in_list) => ("in without a value", "write x in ('a', 'b')"),
        _ => return None,
    })
}

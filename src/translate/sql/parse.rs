//! From text to `sqlparser`'s tree: tokens, the items of a select list, places, and a check that the tree is the one that
//! Postgres would make of the text. What cannot be read is reported, item by item.

use sqlparser::ast::{self, Spanned as _};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::{Mistake, Place};

/// Longest text: a page or two; and tokens of one item, which bound the depth of its tree.
const TEXT_MAX: usize = 32 << 10;
const TOKENS_MAX: usize = 2000;
/// Parentheses and the like inside each other.
const DEPTH_MAX: usize = 48;

/// A text, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    text: &'a str,
    pub(super) mistakes: Vec<Mistake>,
}

/// One item of a select list, or a whole expression.
#[derive(Debug)]
pub(super) struct Item {
    tokens: Vec<TokenWithSpan>,
    pub(super) alias: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) place: Place,
}

impl<'a> Report<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    /// Adds a mistake; a second one at the same place says nothing new.
    pub(super) fn add(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if self.mistakes.iter().any(|mistake| mistake.place.start == place.start) {
            return;
        }
        let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default().to_owned();
        self.mistakes.push(Mistake { message: message.into(), hint, place, line });
    }

    /// Lines and columns from 1; an empty span is the beginning.
    pub(super) fn place(&self, span: Span) -> Place {
        let start = self.offset(span.start);
        let line = usize::try_from(span.start.line).unwrap_or_default().max(1);
        let column = usize::try_from(span.start.column).unwrap_or_default().max(1);
        Place { start, end: self.offset(span.end).max(start), line, column }
    }

    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or_default().max(1) - 1;
        let column = usize::try_from(location.column).unwrap_or_default().max(1) - 1;
        let before: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.text.get(before..).unwrap_or_default();
        before + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    fn tokens(&mut self) -> Option<Vec<TokenWithSpan>> {
        let start = Place { line: 1, column: 1, ..Place::default() };
        if self.text.len() > TEXT_MAX {
            self.add(start, format!("the text is longer than {TEXT_MAX} bytes"), None);
            return None;
        }
        match Tokenizer::new(&PostgreSqlDialect {}, self.text).tokenize_with_location() {
            Ok(tokens) => Some(tokens),
            Err(error) => {
                let place = self.place(Span::new(error.location, error.location));
                self.add(place, error.message, None);
                None
            }
        }
    }

    /// The whole text as one item.
    pub(super) fn expression(&mut self) -> Option<Item> {
        let tokens: Vec<_> = self.tokens()?.into_iter().filter(is_significant).collect();
        let place = self.extent(&tokens);
        self.checked(Item { tokens, alias: None, comment: None, place })
    }

    /// The items of a select list, with names and comments.
    pub(super) fn list(&mut self) -> Vec<Item> {
        let Some(tokens) = self.tokens() else { return Vec::new() };
        let mut items = Vec::new();
        let (mut current, mut comment, mut depth) = (Vec::new(), None, 0_i32);
        let mut comma_line = None;
        for token in tokens {
            match &token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment: said, .. }) => {
                    let said = said.trim().to_owned();
                    if current.is_empty() && comma_line == Some(token.span.start.line) {
                        if let Some((_, last)) = items.last_mut() {
                            *last = Some(said);
                        }
                    } else if !current.is_empty() {
                        comment = Some(said);
                    }
                }
                Token::Whitespace(_) => {}
                Token::Comma if depth == 0 => {
                    comma_line = Some(token.span.start.line);
                    if current.is_empty() {
                        let place = self.place(token.span);
                        self.add(place, "there is nothing before this comma", None);
                    }
                    items.push((std::mem::take(&mut current), comment.take()));
                }
                other => {
                    depth += match other {
                        Token::LParen | Token::LBracket => 1,
                        Token::RParen | Token::RBracket => -1,
                        _ => 0,
                    };
                    current.push(token);
                }
            }
        }
        if !current.is_empty() || items.is_empty() {
            items.push((current, comment));
        }
        let items: Vec<_> = items.into_iter().filter(|(tokens, _)| !tokens.is_empty()).collect();
        if items.is_empty() {
            self.add(Place { line: 1, column: 1, ..Place::default() }, "the list is empty", None);
        }
        items.into_iter().filter_map(|(tokens, comment)| self.item(tokens, comment)).collect()
    }

    /// Takes `as name` off an item.
    fn item(&mut self, mut tokens: Vec<TokenWithSpan>, comment: Option<String>) -> Option<Item> {
        let place = self.extent(&tokens);
        let is_as = |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::AS);
        let alias = match tokens.as_slice() {
            [.., before, last] if is_as(&before.token) => match &last.token {
                Token::Word(word) => Some(identifier(&word.value, word.quote_style)),
                _ => None,
            },
            _ => None,
        };
        if alias.is_some() {
            tokens.truncate(tokens.len() - 2);
        }
        self.checked(Item { tokens, alias, comment, place })
    }

    fn extent(&self, tokens: &[TokenWithSpan]) -> Place {
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.place(Span::new(first.span.start, last.span.end)),
            _ => Place { line: 1, column: 1, ..Place::default() },
        }
    }

    /// What is wrong with single tokens, which the tree no longer shows.
    fn checked(&mut self, item: Item) -> Option<Item> {
        let before = self.mistakes.len();
        if item.tokens.is_empty() {
            self.add(item.place, "there is no expression", None);
        }
        if item.tokens.len() > TOKENS_MAX {
            self.add(item.place, format!("the expression has more than {TOKENS_MAX} words and signs"), None);
        }
        let mut last: Option<&TokenWithSpan> = None;
        for token in &item.tokens {
            let wrong = match &token.token {
                Token::Number(digits, long) => {
                    let plain =
                        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
                    (*long || !digits.bytes().all(plain)).then_some("a number is written in decimal digits")
                }
                Token::Word(_)
                    if last
                        .is_some_and(|last| is_number(&last.token) && last.span.end == token.span.start) =>
                {
                    Some("a number ends in a word")
                }
                text if is_text(text) && last.is_some_and(|last| is_text(&last.token)) => {
                    Some("two texts beside each other: write them as one, or join them with ||")
                }
                Token::EscapedStringLiteral(text) | Token::SingleQuotedString(text)
                    if text.contains('\0') =>
                {
                    Some("a text holds no zero byte")
                }
                Token::SemiColon => Some("one expression needs no semicolon"),
                Token::Placeholder(_) => Some("there are no parameters"),
                _ => None,
            };
            last = Some(token);
            if let Some(wrong) = wrong {
                let place = self.place(token.span);
                self.add(place, wrong, None);
            }
        }
        (self.mistakes.len() == before).then_some(item)
    }

    /// Parses an item.
    pub(super) fn parse(&mut self, item: &Item) -> Option<ast::Expr> {
        let dialect = PostgreSqlDialect {};
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(DEPTH_MAX)
            .with_tokens_with_locations(item.tokens.clone());
        let parsed = parser.parse_expr();
        let next = parser.peek_token();
        match parsed {
            Ok(_) if next.token != Token::EOF => {
                let hint =
                    matches!(next.token, Token::Word(_)).then(|| "a name is given with `as`".to_owned());
                let place = self.place(next.span);
                self.add(place, format!("\"{}\" is not expected here", next.token), hint);
                None
            }
            Ok(expression) => Some(expression),
            Err(error) => {
                let message = match error {
                    ParserError::RecursionLimitExceeded => "the expression is nested too deeply".to_owned(),
                    ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                        message.split(" at Line:").next().unwrap_or_default().to_owned()
                    }
                };
                let place = if next.token == Token::EOF { item.place } else { self.place(next.span) };
                self.add(place, message, None);
                None
            }
        }
    }

    /// Where a part of the tree stands; within `outer` where the parser does not know.
    pub(super) fn place_of(&self, expression: &ast::Expr, outer: Place) -> Place {
        let span = expression.span();
        if span.start.line == 0 { outer } else { self.place(span) }
    }
}

fn is_significant(token: &TokenWithSpan) -> bool {
    !matches!(token.token, Token::Whitespace(_))
}

const fn is_number(token: &Token) -> bool {
    matches!(token, Token::Number(..))
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_)
    )
}

/// A name as Postgres understands it: in lower case unless it is quoted.
pub(super) fn identifier(name: &str, quoted: Option<char>) -> String {
    if quoted.is_some() { name.to_owned() } else { name.to_ascii_lowercase() }
}

/// The name that a column gives to its field.
pub(super) fn own_name(expression: &ast::Expr) -> Option<String> {
    match expression {
        ast::Expr::Identifier(name) => Some(identifier(&name.value, name.quote_style)),
        ast::Expr::CompoundIdentifier(parts) => {
            parts.last().map(|name| identifier(&name.value, name.quote_style))
        }
        _ => None,
    }
}

/// How tightly a construct binds in Postgres' grammar (gram.y); atoms bind tightest.
pub(super) fn binding(expression: &ast::Expr) -> u8 {
    use ast::{BinaryOperator as B, Expr, UnaryOperator as U};
    match expression {
        Expr::BinaryOp { op: B::Or, .. } => 1,
        Expr::BinaryOp { op: B::And, .. } => 2,
        Expr::UnaryOp { op: U::Not, .. } => 3,
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..) => 4,
        Expr::BinaryOp { op: B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq, .. }
        | Expr::AnyOp { .. } => 5,
        Expr::Between { .. } | Expr::InList { .. } | Expr::Like { .. } | Expr::ILike { .. } => 6,
        Expr::BinaryOp { op: B::Plus | B::Minus, .. } => 8,
        Expr::BinaryOp { op: B::Multiply | B::Divide | B::Modulo, .. } => 9,
        Expr::BinaryOp { .. } => 7,
        Expr::AtTimeZone { .. } => 11,
        Expr::Collate { .. } => 12,
        Expr::UnaryOp { .. } => 13,
        Expr::Cast { kind: ast::CastKind::DoubleColon, .. } => 15,
        _ => 20,
    }
}

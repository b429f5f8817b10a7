//! Parses text into `sqlparser`'s tree: tokens, select list items, positions, and a check that PostgreSQL
//! would build the same tree. Mistakes are reported item by item.

use sqlparser::ast::{self, Spanned as _};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::{Mistake, SourceSpan, advice};

/// Longest text, in bytes. Tokens per item are limited too, which bounds the depth of the tree.
const TEXT_MAX: usize = 32 << 10;
const TOKENS_MAX: usize = 2000;
/// Largest nesting depth of parentheses and brackets.
const DEPTH_MAX: usize = 48;

/// A text and the mistakes found in it.
#[derive(Debug)]
pub(super) struct MistakeReport<'a> {
    text: &'a str,
    pub(super) mistakes: Vec<Mistake>,
}

/// One item of a select list, or a whole expression.
#[derive(Debug)]
pub(super) struct Item {
    tokens: Vec<TokenWithSpan>,
    pub(super) alias: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) place: SourceSpan,
}

impl<'a> MistakeReport<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    /// Adds a mistake. A second mistake at the same position is dropped.
    pub(super) fn add(&mut self, place: SourceSpan, message: impl Into<String>, hint: Option<String>) {
        if self.mistakes.iter().any(|mistake| mistake.place.start == place.start) {
            return;
        }
        let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default().to_owned();
        self.mistakes.push(Mistake { message: message.into(), hint, place, line });
    }

    /// Converts a span. Lines and columns count from 1; an empty span is the start.
    pub(super) fn place(&self, span: Span) -> SourceSpan {
        let start = self.offset(span.start);
        let line = usize::try_from(span.start.line).unwrap_or_default().max(1);
        let column = usize::try_from(span.start.column).unwrap_or_default().max(1);
        SourceSpan { start, end: self.offset(span.end).max(start), line, column }
    }

    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or_default().max(1) - 1;
        let column = usize::try_from(location.column).unwrap_or_default().max(1) - 1;
        let before: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.text.get(before..).unwrap_or_default();
        before + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    fn tokens(&mut self) -> Option<Vec<TokenWithSpan>> {
        let start = SourceSpan { line: 1, column: 1, ..SourceSpan::default() };
        if self.text.len() > TEXT_MAX {
            self.add(start, format!("the text exceeds {TEXT_MAX} bytes"), None);
            return None;
        }
        match Tokenizer::new(&PostgreSqlDialect {}, self.text).tokenize_with_location() {
            Ok(tokens) => Some(tokens),
            Err(error) => {
                let place = self.place(Span::new(error.location, error.location));
                let hint = advice::for_tokenizer(&error.message);
                self.add(place, error.message, hint);
                None
            }
        }
    }

    /// Reads the whole text as one item.
    pub(super) fn expression(&mut self) -> Option<Item> {
        let tokens: Vec<_> = self.tokens()?.into_iter().filter(is_significant).collect();
        let place = self.extent(&tokens);
        self.checked(Item { tokens, alias: None, comment: None, place })
    }

    /// Reads the items of a select list, with names and comments.
    pub(super) fn list(&mut self) -> Vec<Item> {
        let Some(tokens) = self.tokens() else { return Vec::new() };
        let mut items = Vec::new();
        let (mut current, mut comment, mut depth) = (Vec::new(), None, 0_i32);
        let (mut comma_line, mut last_comma) = (None, None);
        for token in tokens {
            match &token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment: remark, .. }) => {
                    let remark = remark.trim().to_owned();
                    if current.is_empty() && comma_line == Some(token.span.start.line) {
                        if let Some((_, last)) = items.last_mut() {
                            *last = Some(remark);
                        }
                    } else if !current.is_empty() {
                        comment = Some(remark);
                    }
                }
                Token::Whitespace(_) => {}
                Token::Comma if depth == 0 => {
                    comma_line = Some(token.span.start.line);
                    last_comma = Some(token.span);
                    if current.is_empty() {
                        let place = self.place(token.span);
                        let hint = Some("remove one comma".to_owned());
                        self.add(place, "missing expression before this comma", hint);
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
        match last_comma {
            Some(span) if current.is_empty() => {
                let place = self.place(span);
                self.add(place, "no field follows this comma", Some("remove the comma".to_owned()));
            }
            _ => items.push((current, comment)),
        }
        let items: Vec<_> = items.into_iter().filter(|(tokens, _)| !tokens.is_empty()).collect();
        if items.is_empty() {
            self.add(SourceSpan { line: 1, column: 1, ..SourceSpan::default() }, "empty list", None);
        }
        items.into_iter().filter_map(|(tokens, comment)| self.item(tokens, comment)).collect()
    }

    /// Splits `as name` off an item.
    fn item(&mut self, mut tokens: Vec<TokenWithSpan>, comment: Option<String>) -> Option<Item> {
        let mut place = self.extent(&tokens);
        let is_as = |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::AS);
        let alias = match tokens.as_slice() {
            [.., before, last] if is_as(&before.token) => match &last.token {
                Token::Word(word) => {
                    self.folded(word, last.span);
                    Some(identifier(&word.value, word.quote_style))
                }
                _ => None,
            },
            _ => None,
        };
        if alias.is_some() {
            tokens.truncate(tokens.len() - 2);
        }
        if !tokens.is_empty() {
            place = self.extent(&tokens);
        }
        self.checked(Item { tokens, alias, comment, place })
    }

    /// A name in camel case would be folded to lower case silently.
    fn folded(&mut self, word: &sqlparser::tokenizer::Word, span: Span) {
        let has = |is: fn(&char) -> bool| word.value.chars().any(|letter| is(&letter));
        if word.quote_style.is_none() && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) {
            let (name, folded) = (&word.value, word.value.to_ascii_lowercase());
            let place = self.place(span);
            let hint = format!("write \"{name}\" in double quotes, or {folded}");
            self.add(place, format!("without quotes the name {name} is {folded}"), Some(hint));
        }
    }

    fn extent(&self, tokens: &[TokenWithSpan]) -> SourceSpan {
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.place(Span::new(first.span.start, last.span.end)),
            _ => SourceSpan { line: 1, column: 1, ..SourceSpan::default() },
        }
    }

    /// Checks single tokens, which are no longer visible in the tree.
    fn checked(&mut self, item: Item) -> Option<Item> {
        let before = self.mistakes.len();
        if item.tokens.is_empty() {
            self.add(item.place, "missing expression", None);
        }
        if item.tokens.len() > TOKENS_MAX {
            self.add(item.place, format!("the expression exceeds {TOKENS_MAX} tokens"), None);
        }
        let plain: Vec<&Token> = item.tokens.iter().map(|token| &token.token).collect();
        if let Some((message, hint)) = advice::for_list(&plain) {
            self.add(item.place, message, Some(hint.to_owned()));
        }
        let mut last: Option<&TokenWithSpan> = None;
        for token in &item.tokens {
            if let Some(before) = last.filter(|last| last.span.end == token.span.start)
                && let Some((message, hint)) = advice::for_pair(&before.token, &token.token)
            {
                let place = self.place(before.span);
                self.add(place, message, Some(hint.to_owned()));
            }
            let wrong = match &token.token {
                Token::Number(digits, long) => {
                    let plain =
                        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
                    (*long || !digits.bytes().all(plain)).then_some("only decimal numbers are supported")
                }
                Token::Word(_)
                    if last
                        .is_some_and(|last| is_number(&last.token) && last.span.end == token.span.start) =>
                {
                    Some("a number must not be followed by a letter")
                }
                text if is_text(text) && last.is_some_and(|last| is_text(&last.token)) => {
                    Some("adjacent string literals are not supported")
                }
                Token::EscapedStringLiteral(text) | Token::SingleQuotedString(text)
                    if text.contains('\0') =>
                {
                    Some("a string must not contain a zero byte")
                }
                _ => None,
            };
            last = Some(token);
            if let Some((message, hint)) = advice::for_token(&token.token) {
                let place = self.place(token.span);
                self.add(place, message, Some(hint.to_owned()));
            }
            if let Some(wrong) = wrong {
                let place = self.place(token.span);
                let hint = is_text(&token.token) && wrong.starts_with("adjacent");
                self.add(place, wrong, hint.then(|| "write one literal or join them with ||".to_owned()));
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
                let at = item.tokens.iter().position(|token| token.span == next.span).unwrap_or_default();
                let beside = |at: Option<usize>| Some(&item.tokens.get(at?)?.token);
                let around = (beside(at.checked_sub(1)), &next.token, beside(at.checked_add(1)));
                let all: Vec<&Token> = item.tokens.iter().map(|token| &token.token).collect();
                let hint = advice::for_rest(around, &all);
                let place = self.place(next.span);
                self.add(place, format!("\"{}\" is unexpected here", next.token), Some(hint));
                None
            }
            Ok(expression) => Some(expression),
            Err(error) => {
                let tokens: Vec<&Token> = item.tokens.iter().map(|token| &token.token).collect();
                let (message, hint) = match error {
                    ParserError::RecursionLimitExceeded => {
                        ("the expression is nested too deeply".to_owned(), None)
                    }
                    ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                        advice::for_parser(message.split(" at Line:").next().unwrap_or_default(), &tokens)
                    }
                };
                let place = if next.token == Token::EOF { item.place } else { self.place(next.span) };
                self.add(place, message, hint);
                None
            }
        }
    }

    /// Position of a subtree; `outer` if the parser does not know it.
    pub(super) fn place_of(&self, expression: &ast::Expr, outer: SourceSpan) -> SourceSpan {
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

/// A name as PostgreSQL folds it: lower case unless quoted.
pub(super) fn identifier(name: &str, quoted: Option<char>) -> String {
    if quoted.is_some() { name.to_owned() } else { name.to_ascii_lowercase() }
}

/// The default name of a field: that of its column.
pub(super) fn own_name(expression: &ast::Expr) -> Option<String> {
    match expression {
        ast::Expr::Identifier(name) => Some(identifier(&name.value, name.quote_style)),
        ast::Expr::CompoundIdentifier(parts) => {
            parts.last().map(|name| identifier(&name.value, name.quote_style))
        }
        _ => None,
    }
}

/// Precedence of a construct in PostgreSQL's grammar (gram.y); atoms bind tightest.
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
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. } => 5,
        Expr::Between { .. } | Expr::InList { .. } | Expr::Like { .. } | Expr::ILike { .. } => 6,
        Expr::BinaryOp { op: B::Plus | B::Minus, .. } => 8,
        Expr::BinaryOp { op: B::Multiply | B::Divide | B::Modulo, .. } => 9,
        Expr::BinaryOp { .. } | Expr::UnaryOp { op: U::BitwiseNot, .. } => 7,
        Expr::AtTimeZone { .. } => 11,
        Expr::Collate { .. } => 12,
        Expr::UnaryOp { .. } => 13,
        Expr::Cast { kind: ast::CastKind::DoubleColon, .. } => 15,
        _ => 20,
    }
}

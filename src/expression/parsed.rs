//! The parsed form of an expression, for contracts: two texts with the same form mean the same, whatever
//! their layout.
//!
//! Columns are numbered, so that a form stays the same when a column is renamed. Types are named without what
//! differs between databases, and an implicit cast that changes no value is left out.

use std::fmt::Write as _;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::types::{Base, SqlType};

use super::Expression;
use super::parse::identifier;
use super::tree::{Cast, Datum, Function, How, Node, Op, Side};
use super::value;

/// The parsed form of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedForm {
    /// The tree, with columns as `$1`, `$2`, ….
    pub text: String,
    /// The columns, in the order of their numbers.
    pub reads: Vec<ReadColumn>,
    /// The form without defaults that the present table never needs: `coalesce(x, 0)` where `x` is NOT NULL.
    pub plain: Option<String>,
    /// Whether it consists of one column, with or without casts.
    pub is_cast: bool,
}

/// A column that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadColumn {
    /// Its name.
    pub name: String,
    /// The row it is read from: `old`, `new`, or empty for the row as it is after the change.
    pub row: &'static str,
    /// Its type.
    pub data_type: SqlType,
    /// Whether the result depends on how PostgreSQL prints its values.
    pub printed: bool,
}

impl Expression {
    /// The parsed form. `printed`: the result is used as text, as in a key.
    pub fn parsed(&self, printed: bool) -> ParsedForm {
        let mut printer = Printer::default();
        printer.node(self.node(), printed);
        let mut inner = self.node();
        while let Op::Cast { value, .. } = &inner.op {
            inner = value;
        }
        let is_cast = matches!(&inner.op, Op::Column(column) if column.side != Side::Old);
        let plain = self.without_default().map(|node| {
            let mut printer = Printer::default();
            printer.node(node, printed);
            printer.text
        });
        ParsedForm { text: printer.text, reads: printer.reads, plain, is_cast }
    }
}

impl Expression {
    /// The first value of `coalesce`, if it is never NULL and the others are constants.
    fn without_default(&self) -> Option<&Node> {
        let Op::Coalesce(items) = &self.node().op else { return None };
        let (first, rest) = items.split_first()?;
        let constant = rest.iter().all(super::check::is_constant);
        (!first.nullable && constant).then_some(first)
    }
}

/// SQL without comments and layout, in one spelling: the tokens, separated by single blanks where needed.
pub fn tidied(sql: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).with_unescape(false).tokenize() else {
        return sql.split_whitespace().collect::<Vec<_>>().join(" ");
    };
    let mut text = String::with_capacity(sql.len());
    let mut before: Option<&Token> = None;
    let significant = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF));
    for token in significant {
        if before.is_some_and(|before| is_apart(before, token)) {
            text.push(' ');
        }
        match token {
            Token::Word(word) => text.push_str(&spelled(&word.value, word.quote_style)),
            other => put(&mut text, format_args!("{other}")),
        }
        before = Some(token);
    }
    text
}

/// Whether a blank stands between two tokens.
const fn is_apart(before: &Token, token: &Token) -> bool {
    let opens = matches!(before, Token::LParen | Token::LBracket | Token::Period | Token::DoubleColon);
    let closes =
        matches!(token, Token::RParen | Token::RBracket | Token::Period | Token::DoubleColon | Token::Comma);
    let calls = matches!(before, Token::Word(_)) && matches!(token, Token::LParen | Token::LBracket);
    !opens && !closes && !calls
}

/// A word in lower case, and in quotes only where it needs them.
fn spelled(word: &str, quoted: Option<char>) -> String {
    let name = identifier(word, quoted);
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match quoted {
        Some(_) if !is_plain || is_reserved(&name) => format!("\"{}\"", name.replace('"', "\"\"")),
        _ => name,
    }
}

/// Whether a quoted name would mean something else without its quotes.
fn is_reserved(name: &str) -> bool {
    const WORDS: [&str; 24] = [
        "all", "and", "any", "array", "as", "between", "case", "cast", "collate", "else", "end", "false",
        "in", "is", "like", "new", "not", "null", "old", "op", "or", "then", "true", "when",
    ];
    WORDS.contains(&name)
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

#[derive(Default)]
struct Printer {
    text: String,
    reads: Vec<ReadColumn>,
}

impl Printer {
    fn node(&mut self, node: &Node, printed: bool) {
        match &node.op {
            Op::Constant(datum) => self.constant(datum, &node.data_type.base),
            Op::Column(column) => {
                let row = match column.side {
                    Side::Current => "",
                    Side::New => "new",
                    Side::Old => "old",
                };
                self.column(&column.name, row, &node.data_type, printed);
            }
            Op::Operation => self.text.push_str("op"),
            Op::Changed(_) => self.text.push_str("changed()"),
            Op::Not(value) => self.list("not", [&**value], false),
            Op::And(nodes) => self.list("and", nodes, false),
            Op::Or(nodes) => self.list("or", nodes, false),
            Op::Is { asked, negated, value } => {
                self.list(&format!("is{} {asked:?}", not(*negated)), [&**value], false);
            }
            Op::Compare { how, test, sides } => {
                self.list(&format!("{test:?} {}", kind(how)), &**sides, false);
            }
            Op::Distinct { how, negated, sides } => {
                self.list(&format!("distinct{} {}", not(*negated), kind(how)), &**sides, false);
            }
            Op::In { how, value, items } => {
                self.list(&format!("in {}", kind(how)), std::iter::once(&**value).chain(items), false);
            }
            Op::AnyOf { how, test, every, value, array, .. } => {
                let quantity = if *every { "all" } else { "any" };
                self.list(&format!("{test:?} {quantity} {}", kind(how)), [&**value, &**array], false);
            }
            Op::Shared { how, test, sides, .. } => {
                self.list(&format!("{test:?} {}", kind(how)), &**sides, false);
            }
            Op::Run { def, arguments } => self.list(def.name, arguments, printed),
            Op::Case { arms, otherwise } => {
                let arms = arms.iter().flat_map(|(when, then)| [(when, false), (then, printed)]);
                let all = arms.chain(otherwise.as_deref().map(|node| (node, printed)));
                self.open("case");
                for (node, printed) in all {
                    self.text.push(' ');
                    self.node(node, printed);
                }
                self.text.push(')');
            }
            Op::Coalesce(items) => self.list("coalesce", items, printed),
            Op::Extreme { how, greatest, items } => {
                let name = if *greatest { "greatest" } else { "least" };
                self.list(&format!("{name} {}", kind(how)), items, printed);
            }
            Op::NullIf { how, sides, result } => {
                self.list(&format!("nullif {}", kind(how)), sides.iter().chain([&**result]), printed);
            }
            Op::Cast { cast, value } => self.cast(cast, value, printed),
            Op::Call { function, arguments } => {
                let prints = printed || matches!(function, Function::Hmac { .. } | Function::Md5 { .. });
                self.list(&name_of(function), arguments, prints);
            }
            Op::Concat { separator, items } => {
                self.list(if *separator { "concat_ws" } else { "concat" }, items, true);
            }
        }
    }

    fn open(&mut self, name: &str) {
        self.text.push('(');
        self.text.push_str(name);
    }

    fn list<'n>(&mut self, name: &str, nodes: impl IntoIterator<Item = &'n Node>, printed: bool) {
        self.open(name);
        for node in nodes {
            self.text.push(' ');
            self.node(node, printed);
        }
        self.text.push(')');
    }

    fn column(&mut self, name: &str, row: &'static str, data_type: &SqlType, printed: bool) {
        let known = self.reads.iter().position(|read| read.name == name && read.row == row);
        let at = known.unwrap_or_else(|| {
            let (name, data_type) = (name.to_owned(), data_type.clone());
            self.reads.push(ReadColumn { name, row, data_type, printed: false });
            self.reads.len() - 1
        });
        if let Some(read) = self.reads.get_mut(at) {
            read.printed |= printed;
        }
        put(&mut self.text, format_args!("${}", at + 1));
    }

    fn constant(&mut self, datum: &Datum<'_>, base: &Base) {
        if matches!(datum, Datum::Null | Datum::Unavailable) {
            return self.text.push_str("null");
        }
        let mut text = String::new();
        value::write(&mut text, base, datum);
        put(&mut self.text, format_args!("'{}'::{}", text.replace('\'', "''"), base_name(base)));
    }

    fn cast(&mut self, cast: &Cast, value: &Node, printed: bool) {
        match cast {
            Cast::Relabel => self.node(value, printed),
            Cast::ToText(_) => self.list("text", [value], true),
            Cast::Output(_) => self.list("output", [value], true),
            Cast::FromText(base) => self.list(&format!("read {}", base_name(base)), [value], true),
            Cast::ToJsonb(_) => self.list("to_jsonb", [value], printed),
            Cast::Elements { casts, to, .. } => {
                let prints = casts.iter().any(|cast| matches!(cast, Cast::ToText(_) | Cast::Output(_)));
                self.list(&format!("elements {}", base_name(to)), [value], printed || prints);
            }
            other => self.list(&format!("{other:?}"), [value], printed),
        }
    }
}

const fn not(negated: bool) -> &'static str {
    if negated { " not" } else { "" }
}

/// How values are compared, without the description of an enum.
fn kind(how: &How) -> String {
    if let How::Enum(_) = how { "Enum".to_owned() } else { format!("{how:?}") }
}

fn name_of(function: &Function) -> String {
    match function {
        Function::Element(base) => format!("Element {}", base_name(base)),
        Function::Hmac { domain, previous } => {
            let name = if *previous { "HmacPrevious" } else { "Hmac" };
            // Without a domain, the form is the same as in builds that had no domains.
            if domain.shown.is_empty() {
                name.to_owned()
            } else {
                format!("{name} '{}'", domain.shown.replace('\'', "''"))
            }
        }
        other => format!("{other:?}"),
    }
}

/// The name of a type. An enum is written as the word `enum`, because its name and labels are described with
/// the column.
fn base_name(base: &Base) -> String {
    match base {
        Base::Enum(_) => "enum".to_owned(),
        Base::Array(element) => format!("{}[]", base_name(element)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Meaning, Name, PseudonymOrigin, Scope, ScopeColumn};
    use crate::types::Kind;

    fn scope() -> Scope {
        let column = |(at, (name, kind, base)): (usize, (&str, Kind, Base))| Name {
            name: name.to_owned(),
            meaning: Meaning::Column(ScopeColumn {
                index: Some(at),
                kind,
                data_type: SqlType::plain(base),
                not_null: false,
                in_identity: true,
                tagged: false,
            }),
        };
        let columns = [
            ("id", Kind::Number, Base::Int8),
            ("name", Kind::Text, Base::Varchar),
            ("note", Kind::Text, Base::Text),
            ("amount", Kind::Number, Base::Numeric),
            ("a", Kind::Number, Base::Int4),
        ];
        Scope {
            of: "s.t".into(),
            names: columns.into_iter().enumerate().map(column).collect(),
            origin: PseudonymOrigin::default(),
        }
    }

    fn form(text: &str) -> ParsedForm {
        Expression::parse(text, &scope()).unwrap().parsed(false)
    }

    #[test]
    fn layout_and_spelling_do_not_change_the_form() {
        for (one, other) in [
            ("lower(name)", "LOWER( \"name\" )"),
            ("a <> 1", "( a != 1 )"),
            ("a::text", "cast(a as text)"),
            ("a + 1 -- one", "a+1"),
            ("case when a > 1 then 'x' end", "CASE WHEN (a>1) THEN 'x' END"),
            ("name = 'x'", "name::text = 'x'"),
        ] {
            assert_eq!(form(one), form(other), "{one} | {other}");
        }
    }

    /// Builds without domains wrote the same form as an `hmac()` without a domain, so their locks show the
    /// difference.
    #[test]
    fn domain_of_a_pseudonym_is_in_its_form() {
        let mut scope = scope();
        scope.origin = PseudonymOrigin { source: "urn:a".to_owned(), table: "s.t".to_owned() };
        for (text, expected) in [
            ("hmac(name)", "(Hmac '~/s.t.name' $1)"),
            ("hmac(name, domain => 'urn:a/s.t.name')", "(Hmac '~/s.t.name' $1)"),
            ("hmac(name, domain => 'urn:abc')", "(Hmac 'urn:abc' $1)"),
            ("hmac(name, domain => '')", "(Hmac $1)"),
            ("hmac(name, weak => true)", "(Hmac '~/s.t.name' $1)"),
        ] {
            assert_eq!(Expression::parse(text, &scope).unwrap().parsed(false).text, expected, "{text}");
        }
    }

    #[test]
    fn other_meaning_has_another_form() {
        for (one, other) in [
            ("lower(name)", "upper(name)"),
            ("a > 1", "a >= 1"),
            ("hmac(name)", "hmac(note)"),
            ("hmac(name)", "hmac(name, domain => 'person')"),
            ("hmac(name)", "hmac(name, domain => '')"),
            ("a + 1", "a + 2"),
            ("old.a", "a"),
            ("name = 'A'", "name = 'a'"),
        ] {
            assert_ne!(form(one), form(other), "{one} | {other}");
        }
        let printed = |text: &str| form(text).reads.iter().map(|read| read.printed).collect::<Vec<_>>();
        assert_eq!(printed("amount::text"), [true]);
        assert_eq!(printed("amount * 2"), [false]);
        assert_eq!(printed("concat(name, amount)"), [true, true]);
    }

    #[test]
    fn tidied_text_keeps_only_tokens() {
        for (text, expected) in [
            ("LOWER( name )", "lower(name)"),
            ("a,  -- what\n  \"b\" as \"B c\"", "a, b as \"B c\""),
            ("old . a::TEXT || 'It''s  so'", "old.a::text || 'It''s  so'"),
            ("\"old\".x", "\"old\".x"),
        ] {
            assert_eq!(tidied(text), expected);
        }
    }
}

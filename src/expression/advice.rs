//! Hints for SQL of other dialects, unknown names, and errors of the parser.

mod signs;
mod types;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use self::signs::for_letters;
pub(super) use self::signs::for_pair;
pub(super) use self::types::for_type;

/// Functions of other databases and languages, and what PostgreSQL has for them.
const FOREIGN: &[(&[&str], &str)] = &[
    (&["ifnull", "nvl", "isnull", "zeroifnull"], "write coalesce(x, y)"),
    (&["nvl2", "if", "iif", "iff", "decode_oracle"], "write case when … then … else … end"),
    (&["len", "strlen", "char_len", "str_length"], "write length(x)"),
    (&["ucase", "toupper", "to_upper", "touppercase"], "write upper(x)"),
    (&["lcase", "tolower", "to_lower", "tolowercase"], "write lower(x)"),
    (&["instr", "charindex", "locate", "indexof"], "write strpos(text, part)"),
    (&["mid", "slice", "substring_index"], "write substring(x, from, count) or split_part(x, ',', 1)"),
    (&["contains", "includes", "endswith", "ends_with"], "write x like '%part%'"),
    (&["startswith"], "write starts_with(x, 'part')"),
    (&["split", "string_split"], "write string_to_array(x, ',') or split_part(x, ',', 1)"),
    (&["array_join", "implode", "join"], "write array_to_string(x, ',')"),
    (&["array_contains"], "write 'a' = any (x)"),
    (&["array_size", "size"], "write cardinality(x)"),
    (&["strip", "trimall"], "write trim(x)"),
    (&["space", "replicate"], "write repeat(' ', n)"),
    (&["power2", "square"], "write x * x"),
    (&["truncate"], "write trunc(x, 2)"),
    (
        &[
            "convert",
            "try_cast",
            "safe_cast",
            "to_int",
            "toint",
            "int",
            "str",
            "string",
            "tostring",
            "number",
            "tonumber",
            "parseint",
            "parsefloat",
            "bool",
            "boolean",
            "decimal",
            "money",
            "bigint",
            "integer",
        ],
        "write x::type or cast(x as type)",
    ),
    (&["datediff", "timestampdiff", "months_between"], "write b - a, or age(b, a)"),
    (
        &["dateadd", "date_add", "date_sub", "adddate", "add_months", "timestampadd"],
        "write x + interval '1 day'",
    ),
    (&["date_format", "strftime", "format_date", "format_datetime"], "write to_char(x, 'YYYY-MM-DD')"),
    (&["unix_timestamp", "to_unixtime", "epoch"], "write extract(epoch from x)"),
    (&["from_unixtime", "timestamp_seconds"], "write to_timestamp(x)"),
    (&["year", "datepart"], "write extract(year from x)"),
    (&["month"], "write extract(month from x)"),
    (&["day", "dayofmonth"], "write extract(day from x)"),
    (&["hour"], "write extract(hour from x)"),
    (&["minute"], "write extract(minute from x)"),
    (&["second"], "write extract(second from x)"),
    (&["quarter"], "write extract(quarter from x)"),
    (&["week", "weekofyear"], "write extract(week from x)"),
    (&["dayofweek", "weekday"], "write extract(isodow from x), where 1 is Monday"),
    (&["any", "some", "all"], "write it behind the operator: x = any (array)"),
    (
        &[
            "getdate",
            "sysdate",
            "curdate",
            "getutcdate",
            "utc_timestamp",
            "curtime",
            "today",
            "utcnow",
            "sysdatetime",
        ],
        "the clock is not available: use a column, or the event's own time",
    ),
    (
        &[
            "json_extract",
            "json_value",
            "json_query",
            "get_json_object",
            "jsonb_extract_path_text",
            "json_extract_path_text",
            "jsonb_extract_path",
            "json_extract_path",
        ],
        "write x ->> 'a' or x #>> '{a,b}'",
    ),
    (&["json_build_object", "json_object", "struct", "object_construct"], "write jsonb_build_object('a', x)"),
    (&["json_build_array", "json_array"], "write jsonb_build_array(a, b)"),
    (&["to_json", "row_to_json"], "write to_jsonb(x)"),
    (&["md5sum", "sha1"], "write md5(x), or sha256(convert_to(x, 'UTF8'))"),
    (&["hex"], "write encode(x, 'hex') or to_hex(n)"),
    (&["unhex", "from_base64"], "write decode(x, 'hex') or decode(x, 'base64')"),
    (&["host", "abbrev", "masklen"], "publish the address, and let consumers take it apart"),
    (
        &["isdate", "isnumeric", "is_number", "is_numeric", "regexp_contains", "rlike", "match"],
        "write x ~ '^[0-9]+$'",
    ),
    (&["isempty", "is_empty", "empty", "isblank"], "write x = '' or x is null"),
    (
        &["date", "to_datetime", "parse_date", "str_to_date", "strptime", "to_date"],
        "write x::date, which reads ISO 8601",
    ),
    (&["to_number", "val", "parse_int"], "write x::numeric"),
    (&["format", "printf", "sprintf"], "join texts with ||, and pad with lpad()"),
    (
        &["lag", "lead", "row_number", "rank", "first_value", "last_value"],
        "a rule sees one row: its value before the change is old.x",
    ),
    (&["last_day", "eomonth"], "write (date_trunc('month', x) + interval '1 mon -1 day')::date"),
    (&["convert_tz", "from_utc_timestamp", "to_utc_timestamp"], "write x at time zone 'UTC'"),
    (&["json_length", "json_array_size"], "write jsonb_array_length(x)"),
    (
        &["json_keys", "jsonb_object_keys", "jsonb_array_elements", "unnest", "explode", "flatten"],
        "an event is about one row: publish the document or the array as a whole",
    ),
    (&["jsonb_set", "json_set", "json_insert", "json_modify"], "write x || jsonb_build_object('a', y)"),
    (&["array_append", "array_prepend", "array_cat", "array_concat"], "write a || b"),
    (
        &["array_position", "array_positions", "list_contains", "find_in_set", "member_of"],
        "write x = any (a)",
    ),
    (&["bitand", "bit_and"], "write a & b"),
    (&["chr", "char", "nchar"], "write the character into a literal: E'\\t'"),
    (
        &["uuid", "newid", "generate_uuid", "rand", "uuid_generate"],
        "a repeat must give the same event: use a column",
    ),
    (&["stuff", "overlay"], "join the parts with ||"),
    (&["elt", "choose", "switch"], "write case x when 1 then 'a' … end"),
    (&["greater", "max_of"], "write greatest(a, b)"),
    (&["lesser", "min_of"], "write least(a, b)"),
];

/// Words that other dialects write without quotes or parentheses.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["sysdate", "systimestamp", "getdate", "today", "now", "curdate"],
        "the clock is not available: use a column, or the event's own time",
    ),
    (
        &["rownum", "rowid", "ctid", "xmin", "oid", "tableoid"],
        "rows are published without system columns: use a key",
    ),
    (&["nil", "none", "undefined", "nothing"], "write null"),
    (
        &[
            "text",
            "varchar",
            "int",
            "integer",
            "bigint",
            "numeric",
            "boolean",
            "timestamp",
            "timestamptz",
            "char",
            "signed",
        ],
        "for a cast write cast(x as type) or x::type",
    ),
    (&["yes", "on"], "write true"),
    (&["no", "off"], "write false"),
    (
        &["year", "month", "week", "day", "hour", "minute", "second"],
        "the name of a unit is a text: date_trunc('day', x)",
    ),
];

/// What PostgreSQL has for a word of another dialect.
pub(super) fn for_word(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, advice)| *advice)
}

/// How to call the functions that the code handles outside the table in `function`.
const USAGE: &[(&str, &str)] = &[
    ("coalesce", "coalesce(x, y)"),
    ("greatest", "greatest(a, b)"),
    ("least", "least(a, b)"),
    ("nullif", "nullif(x, y)"),
    ("concat", "concat(a, b)"),
    ("concat_ws", "concat_ws(', ', a, b)"),
    ("length", "length(x)"),
    ("char_length", "char_length(x)"),
    ("character_length", "char_length(x)"),
    ("round", "round(x) or round(x, 2)"),
    ("trunc", "trunc(x) or trunc(x, 2)"),
    ("ceil", "ceil(x)"),
    ("ceiling", "ceiling(x)"),
    ("floor", "floor(x)"),
    ("sign", "sign(x)"),
    ("abs", "abs(x)"),
    ("mod", "mod(a, b)"),
    ("date_trunc", "date_trunc('day', x)"),
    ("date_part", "date_part('year', x)"),
    ("to_char", "to_char(x, 'YYYY-MM-DD')"),
    ("md5", "md5(x)"),
    ("encode", "encode(x, 'hex')"),
    ("decode", "decode(x, 'hex')"),
    ("convert_to", "convert_to(x, 'UTF8')"),
    ("cardinality", "cardinality(x)"),
    ("array_length", "array_length(x, 1)"),
    ("to_jsonb", "to_jsonb(x)"),
    ("hmac_previous", "hmac_previous(x)"),
    ("hmac", "hmac(x) or hmac(x, domain => 'person')"),
    ("lower", "lower(x)"),
    ("upper", "upper(x)"),
    ("left", "left(x, n)"),
    ("right", "right(x, n)"),
    ("substr", "substr(x, from, count)"),
    ("substring", "substring(x, from, count)"),
    ("replace", "replace(x, old, new)"),
    ("split_part", "split_part(x, ',', 1)"),
    ("btrim", "trim(x) or btrim(x, ' -')"),
    ("ltrim", "ltrim(x) or ltrim(x, '0')"),
    ("rtrim", "rtrim(x) or rtrim(x, '0')"),
];

/// What PostgreSQL has for a function of another dialect.
pub(super) fn for_function(name: &str) -> Option<&'static str> {
    FOREIGN.iter().find(|(names, _)| names.contains(&name)).map(|(_, advice)| *advice)
}

/// How a function is called.
pub(super) fn usage(name: &str) -> Option<&'static str> {
    USAGE.iter().find(|(known, _)| *known == name).map(|(_, usage)| *usage)
}

/// Names of functions that are not in the table.
pub(super) fn known_functions() -> impl Iterator<Item = &'static str> {
    USAGE.iter().map(|(name, _)| *name)
}

/// An error that the parser found: the message, and how to fix it.
pub(super) fn for_parser(error: &str, tokens: &[&Token]) -> (String, Option<String>) {
    let error = error.strip_prefix("sql parser error: ").unwrap_or(error);
    let found = error.split_once(", found: ").map_or("", |(_, found)| found);
    let shown = if found == "EOF" { "the end".to_owned() } else { format!("\"{found}\"") };
    let wanted = error.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: "));
    let expected = wanted.map(|(wanted, _)| wanted).unwrap_or_default();
    let word = |keyword: Keyword| tokens.iter().any(|token| is_word(token, keyword));
    let fixed = |message: &str, hint: &str| (message.to_owned(), Some(hint.to_owned()));
    if error.starts_with("No infix parser") {
        let known = tokens.iter().find_map(|token| match token {
            Token::Word(word) => Some((word.value.as_str(), infix(&word.value)?)),
            _ => None,
        });
        return match known {
            Some((word, advice)) => (format!("{word} is not an operator"), Some(advice.to_owned())),
            None => ("an operator is not known".to_owned(), Some("write one of PostgreSQL's".to_owned())),
        };
    }
    if error.starts_with("Expected 'FROM'") {
        return fixed("extract without from", "write extract(day from x)");
    }
    if expected == "an expression"
        && let Some((message, hint)) = signs::in_place_of_expression(found, tokens)
    {
        return fixed(message, hint);
    }
    match expected {
        "END" if follows(tokens, "else", "if") => {
            fixed("else if is not SQL", "write another when … then … before else")
        }
        "END" => fixed("case without end", "write end after the last branch"),
        "WHEN" => fixed("case without when", "write case when … then … else … end"),
        "THEN" => fixed("when without then", "write case when … then … else … end"),
        "AND" if word(Keyword::BETWEEN) => fixed("between without and", "write x between a and b"),
        ")" if [Keyword::BOTH, Keyword::LEADING, Keyword::TRAILING].into_iter().any(word) => fixed(
            "trim takes the text alone",
            "write trim(x), ltrim(x) or rtrim(x); characters stand behind: trim(x, '-')",
        ),
        ")" => {
            (format!("a parenthesis is not closed before {shown}"), Some("close it, or remove it".to_owned()))
        }
        ":" => fixed("a subscript needs parentheses here", "write a[(i + 1)]"),
        "]" => (format!("a bracket is not closed before {shown}"), Some("close it".to_owned())),
        "(" if word(Keyword::IN) => fixed("in without a list", "write x in ('a', 'b'), or x = any (array)"),
        "(" => (format!("a parenthesis is missing before {shown}"), None),
        "AS" => fixed("cast without as", "write cast(x as type) or x::type"),
        _ if expected.contains("[NOT] NULL") => {
            fixed("is is only for null, true and false", "compare with =, or write is null")
        }
        _ if found.starts_with('{') => fixed(
            "an object has no literal of this form",
            "write jsonb_build_object('a', x) or '{\"a\": 1}'::jsonb",
        ),
        "an expression" if found == ":" => {
            fixed("parameters are not supported", "write the value, or a column as x, new.x or old.x")
        }
        "an expression" if found == "*" => fixed("** is not an operator", "multiply: x * x"),
        "an expression" if found == "/" => fixed("// begins no comment", "write -- before a comment"),
        "an expression" if matches!(found, "=" | "<" | ">" | "<=" | ">=" | "<>") => {
            fixed("a comparison has no left side", "repeat it: case when x > 1 then …, or x > 1 and x < 5")
        }
        "an expression" if found == "EOF" => {
            fixed("the expression ends too early", "write what is missing after the operator")
        }
        "an expression" => (format!("{shown} is not an expression"), None),
        "" => (error.to_owned(), None),
        _ => (format!("{} is missing before {shown}", expected.to_lowercase()), None),
    }
}

/// The message for text that follows a complete expression.
pub(super) fn for_rest(
    (before, next, after): (Option<&Token>, &Token, Option<&Token>),
    all: &[&Token],
) -> String {
    let is_number = |token: Option<&Token>| matches!(token, Some(Token::Number(..)));
    let is_case = before.is_some_and(|token| is_word(token, Keyword::CASE));
    let compares = |token: &Token| {
        matches!(token, Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq)
    };
    match next {
        // The parser takes an incomplete CASE for a column named `case`.
        _ if is_case && follows(all, "else", "if") => {
            "else if is not SQL: write another when … then … before else".to_owned()
        }
        _ if is_case
            && all
                .windows(2)
                .any(|pair| matches!(pair, [when, next] if is_named(when, "when") && compares(next))) =>
        {
            "a branch has a whole condition: write case when x > 1 then …".to_owned()
        }
        _ if is_case && all.iter().any(|token| is_word(token, Keyword::END)) => {
            "write case when x > 1 then 'a' else 'b' end: each branch needs when, a condition, then and a value"
                .to_owned()
        }
        _ if is_case => {
            "case without end: write case when … then … else … end, with end after the last branch".to_owned()
        }
        Token::Comma if is_number(before) && is_number(after) => "a decimal point is a dot: 1.5".to_owned(),
        Token::Comma => "write one expression; for two conditions write and".to_owned(),
        Token::RParen => "remove this parenthesis, or open it".to_owned(),
        Token::Word(word)
            if matches!(word.keyword, Keyword::FROM | Keyword::WHERE | Keyword::ORDER | Keyword::LIMIT) =>
        {
            "write the expression alone: the table is `from` of the rule, the condition its `when`".to_owned()
        }
        _ if before.is_some_and(|token| is_named(token, "if")) => {
            "write case when … then … else … end".to_owned()
        }
        _ if before.is_some_and(|token| is_named(token, "distinct")) => {
            "an event describes one row: leave it out".to_owned()
        }
        Token::Word(word) if word.keyword == Keyword::AS => {
            "a name follows as, in double quotes or none: as \"name\"".to_owned()
        }
        Token::Word(word) if infix(&word.value).is_some() => {
            infix(&word.value).unwrap_or_default().to_owned()
        }
        Token::Word(_) => "an alias needs `as`, and a comma separates two fields".to_owned(),
        Token::DoubleEq => "write =".to_owned(),
        Token::RArrow => "write >= for at least".to_owned(),
        Token::Colon => {
            "write case when … then … else … end for a choice, x::type for a cast, x ->> 'a' for a key"
                .to_owned()
        }
        Token::LBrace => "write jsonb_build_object('a', x)".to_owned(),
        _ => "an operator or a comma is missing".to_owned(),
    }
}

/// The message for a token that no expression can contain.
pub(super) fn for_token(token: &Token) -> Option<(&'static str, &'static str)> {
    Some(match token {
        Token::DoubleEq => ("== is not an operator", "write ="),
        Token::SemiColon => ("unexpected semicolon", "remove it, and write one expression"),
        Token::Placeholder(_) => ("parameters are not supported", "write the value, or a column"),
        Token::Char('`') => ("` is not a quote", "write a name in double quotes, or without any"),
        Token::NationalStringLiteral(_) => ("N'…' is not supported", "write '…'"),
        Token::Assignment => (":= is not an operator", "write ="),
        Token::Word(word) if word.quote_style.is_none() => return for_letters(&word.value),
        Token::AtSign => ("variables are not supported", "write the value, or a column"),
        Token::ExclamationMark => ("! is not an operator", "write not"),
        Token::LBrace | Token::RBrace => (
            "an object has no literal of this form",
            "write jsonb_build_object('a', x) or '{\"a\": 1}'::jsonb",
        ),
        _ => return None,
    })
}

/// The hint for a text that cannot be split into tokens.
pub(super) fn for_tokenizer(error: &str) -> Option<String> {
    let error = error.to_ascii_lowercase();
    if error.contains("unterminated string") {
        return Some("close the quote; a quote inside a text is doubled: 'it''s'".to_owned());
    }
    if error.contains("multi-line comment") {
        return Some("close the comment: */".to_owned());
    }
    if error.contains("unterminated") || error.contains("expected close delimiter") {
        return Some("close the quote or the comment".to_owned());
    }
    None
}

/// The message for a select list that begins as a whole statement or contains `*`.
pub(super) fn for_list(tokens: &[&Token]) -> Option<(&'static str, &'static str)> {
    match tokens {
        [first, ..] if is_word(first, Keyword::SELECT) => Some((
            "a rule has the select list alone",
            "leave out select and from: the table is `from` of the rule, the condition its `when`",
        )),
        [Token::Mul] | [.., Token::Period, Token::Mul] => {
            Some(("* is not supported", "list the columns: their names are part of the event's contract"))
        }
        _ => None,
    }
}

/// What PostgreSQL has for an operator that is a word.
fn infix(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "mod" => "write x % y",
        "div" => "write x / y for whole numbers, or div(x, y)",
        "contains" | "includes" | "has" => "write x like '%part%', 'a' = any (array) or document ? 'key'",
        "matches" | "regexp" | "rlike" | "glob" => "write x ~ 'pattern' or x like 'a%'",
        "isnull" => "write x is null",
        "xor" => "write a <> b for two conditions",
        "eq" | "equals" => "write =",
        "ne" => "write <>",
        "gt" | "ge" | "lt" | "le" => "write >, >=, < or <=",
        "over" => "an event describes one row: window functions are not available",
        "if" | "unless" => "write case when … then … else … end",
        _ => return None,
    })
}

fn is_named(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
}

/// Whether two words follow each other.
fn follows(tokens: &[&Token], first: &str, second: &str) -> bool {
    tokens.windows(2).any(|pair| matches!(pair, [a, b] if is_named(a, first) && is_named(b, second)))
}

fn is_word(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_for_what_is_not_known() {
        for (names, _) in FOREIGN {
            for name in *names {
                assert!(usage(name).is_none(), "{name} is a function");
                assert!(super::super::function::called(name).next().is_none(), "{name} is a function");
            }
        }
    }
}

//! Each frequent error has a message that says what to write instead.

use super::*;

/// Expressions, and a part of the message for each.
const MISTAKES: [(&str, &str); 53] = [
    ("status == 'empty'", "write ="),
    ("status = \"completed\"", "single quotes: 'completed'"),
    ("barcode = \"it's\"", "'it''s'"),
    ("barcod", "did you mean barcode?"),
    ("barcode = null", "write x is null"),
    ("barcode <> null", "write x is not null"),
    ("null = n", "write x is null"),
    ("ifnull(n, 0)", "write coalesce(x, y)"),
    ("nvl(n, 0)", "write coalesce(x, y)"),
    ("isnull(n, 0)", "write coalesce(x, y)"),
    ("len(barcode)", "write length(x)"),
    ("iif(n > 1, 1, 2)", "write case when"),
    ("if(n > 1, 1, 2)", "write case when"),
    ("datediff(at, at)", "write b - a"),
    ("year(at)", "write extract(year from x)"),
    ("json_build_object('a', n)", "write jsonb_build_object"),
    ("rond(n, 1)", "did you mean round()?"),
    ("lpda('a', 2)", "did you mean lpad()?"),
    ("left(barcode)", "write left(x, n)"),
    ("nullif(n)", "write nullif(x, y)"),
    ("round(n, 1, 2)", "write round(x) or round(x, 2)"),
    ("replace(barcode, 'a')", "write replace(x, old, new)"),
    ("lpad(barcode)", "lpad(text, integer, [text])"),
    ("make_interval(dayz => 1)", "years, months, weeks, days"),
    ("case when n > 1 then 'a'", "case without end"),
    ("case n > 1 end", "write case when"),
    ("n between 1", "write x between a and b"),
    ("status in 'empty'", "write x in ('a', 'b')"),
    ("status is 'empty'", "compare with ="),
    ("(n + 1", "close it"),
    ("n + 1)", "remove this parenthesis"),
    ("n +", "after the operator"),
    ("volume_ul > 1,5", "a decimal point is a dot"),
    ("n > 1 && ok", "write and"),
    ("ok || ok", "write or"),
    ("!ok", "write not"),
    ("'a' + barcode", "write ||"),
    ("barcode + n", "write ||"),
    ("doc.a", "write doc ->> 'a'"),
    ("doc->a", "write -> 'a'"),
    ("n; ", "remove it"),
    ("'it's'", "doubled"),
    ("{'a': 1}", "jsonb_build_object"),
    ("[1, 2]", "write array[a, b]"),
    ("n from plates", "the table is `from` of the rule"),
    ("any (tags) = 'a'", ""),
    ("(n, id) = (1)", "another row"),
    ("(n, id)", "compared with another row"),
    ("n between symmetric 1 and 2", ""),
    ("doc -> 'a' || 'x'::text", "(…)::text"),
    ("to_char(at, 'Month')", "double quotes"),
    ("to_char(n, '999')", "round(x, 2)::text"),
    ("power(n, 2)", "depends on the machine"),
];

/// Expressions in other dialects and languages.
const FOREIGN: &[(&str, &str)] = &[
    ("n <=> 1", "is not distinct from"),
    ("n ** 2", "x * x"),
    ("n ^ 2", "multiply"),
    ("n mod 2 = 1", "write x % y"),
    ("n div 2", "div(x, y)"),
    ("n = 1 or 2", "x in (1, 2)"),
    ("n = ''", "write x is null"),
    ("n = '1,5'", "a dot before decimals"),
    ("ok = 'maybe'", "true or false"),
    ("if n > 1 then 'a' else 'b' end", "write case when"),
    ("n > 1 ? 'a' : 'b'", "write case when"),
    ("case when n = 1 then 'a' else if n = 2 then 'b' end", "another when"),
    ("case n when > 1 then 'a' end", "case when x > 1"),
    ("decode(n, 1, 'a', 'b')", "case x when"),
    ("isnumeric(barcode)", "write x ~ '^[0-9]+$'"),
    ("regexp_like(barcode, 'a')", "write x ~ 'pattern'"),
    ("barcode rlike 'a'", "write x ~ 'pattern'"),
    ("barcode regexp 'a'", "write x ~ 'pattern'"),
    ("barcode similar to 'a%'", "write a regular expression"),
    ("barcode contains 'a'", "like '%part%'"),
    ("barcode glob 'a*'", "like 'a%'"),
    ("isempty(barcode)", "write x = ''"),
    ("to_date(barcode, 'YYYY-MM-DD')", "write x::date"),
    ("format('%s', barcode)", "join texts with ||"),
    ("lag(n)", "old.x"),
    ("deleted.n", "write old.n"),
    ("inserted.n", "write new.n"),
    ("plates.n", "only the changed row"),
    (":new.n", "new.x or old.x"),
    ("$1", "write the value"),
    ("@limit", "write the value"),
    ("`status`", "double quotes"),
    ("[status]", "a name has double quotes"),
    ("N'abc'", "write '…'"),
    ("n::string", "write text"),
    ("n::varchar2", "write text"),
    ("n::number", "write numeric"),
    ("at::datetime", "write timestamp"),
    ("n::tinyint", "write smallint"),
    ("n::int64", "write bigint"),
    ("doc::variant", "write jsonb"),
    ("barcode::blob", "write bytea"),
    ("cast(n, text)", "write cast(x as type)"),
    ("at + 7", "interval '7 days'"),
    ("at + interval 1 day", "interval '1 day"),
    ("at > '01.10.2026'", "write it as 2026-10-01"),
    ("date_trunc(day, at)", "date_trunc('day', x)"),
    ("sysdate", "the clock is not available"),
    ("barcode = nil", "write null"),
    ("rowid", "use a key"),
    ("doc['a']", "write ->"),
    ("doc:a", "x ->> 'a'"),
    ("'a' in tags", "= any (array)"),
    ("array_append(tags, 'a')", "write a || b"),
    ("tags || 'a'", "array['x']"),
    ("unnest(tags)", "as a whole"),
    ("jsonb_set(doc, '{a}', '1')", "jsonb_build_object"),
    ("barcode // the code", "write --"),
    ("at at time zone 'Europe/Berlin'", "only UTC"),
    ("at at time zone '+02'", "interval '2 hours'"),
    ("barcode ~ status", "must be a literal"),
    ("barcode ~ '\\w+'", "[A-Za-z0-9_]"),
    ("regexp_replace(barcode, '(a|b)', '')", "which of several matches"),
    ("regexp_replace(barcode, 'a', '\\1')", "literal without"),
    ("upper(n)", "write a cast"),
    ("coalesce(n, 'none')", "without quotes"),
    ("uuid()", "same event"),
    ("distinct barcode", "one row"),
    ("chr(10)", "literal"),
    ("n > 1 && barcode = 'x'", "for two conditions write and"),
    ("n = 1 || n = 2", "for two conditions write and, or"),
    ("doc ->> 'a' + 1", "(x ->> 'a')::int"),
    ("date_trunc('fortnight', at)", "'week'"),
    ("status::int", "write x::text"),
    ("coalesce(status, 'unknown')", "write x::text"),
    ("where_at * 2", "can only be published"),
    ("where_at << 1", "can only be published"),
    ("lab.plates.n", "leave out schema and table"),
    ("upper(n)", "(…)::text"),
];

/// Select lists, and a part of the message for each.
const LIST_MISTAKES: [(&str, &str); 10] = [
    ("id,", "remove the comma"),
    ("id,\n  n, -- the last one\n", "remove the comma"),
    ("id,, n", "remove one comma"),
    ("select id from plates", "leave out select and from"),
    ("*", "list the columns"),
    ("new.*", "list the columns"),
    ("id n", "an alias needs `as`, and a comma"),
    ("id, n as totalCount", "write \"totalCount\" in double quotes, or totalcount"),
    ("id, n + 1", "add `as name`"),
    ("id, n as 'total'", "double quotes or none"),
];

#[test]
fn frequent_mistakes_say_the_fix() {
    for (text, said) in MISTAKES {
        let mistakes = Expression::parse(text, &scope(true)).expect_err(text);
        assert!(mistakes.to_string().contains(said), "{text}:\n{mistakes}");
    }
    let mut silent = Vec::new();
    for (text, said) in FOREIGN {
        match Expression::parse(text, &scope(true)) {
            Err(mistakes) if mistakes.to_string().contains(said) => {}
            Err(mistakes) => silent.push(format!("{text}: {said}?\n{mistakes}")),
            Ok(_) => silent.push(format!("{text} is accepted")),
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    for (text, said) in LIST_MISTAKES {
        let mistakes = Expression::parse_list(text, &scope(true)).expect_err(text);
        assert!(mistakes.to_string().contains(said), "{text}:\n{mistakes}");
    }
    let fields = Expression::parse_list("id, n as \"totalCount\", n as TOTAL", &scope(true)).unwrap();
    assert_eq!(
        fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
        ["id", "totalCount", "total"]
    );
}

/// Forms of other languages, of word processors and of unfinished edits have a hint that says what to write.
#[test]
fn foreign_forms_are_answered_with_what_to_write() {
    let mut others = Vec::new();
    for (text, said, hint) in [
        ("n in (1, null)", "equal to null", "leave it out"),
        ("n not in (1, null)", "never true", "leave it out"),
        ("case barcode when null then 1 end", "never true", "case when x is null"),
        ("n between null and 5", "never true", "is null"),
        ("n > null", "never true", "is not null"),
        ("barcode like null", "never matches", "is null"),
        ("barcode ?? 'x'", "?? is not an operator", "coalesce"),
        ("barcode =~ 'x'", "=~ is not", "x ~ 'pattern'"),
        ("n =< 5", "=< is not", "<="),
        ("n => 5", "unexpected", ">="),
        ("n =! 5", "=! is not", "<>"),
        ("n := 5", ":= is not", "write ="),
        ("barcode isnull", "unexpected", "x is null"),
        ("month(at)", "not a function", "extract(month from x)"),
        ("today()", "not a function", "clock is not available"),
        ("any(tags) = 'a'", "not a function", "behind the operator"),
        ("barcode.upper()", "not a function", "upper(barcode)"),
        ("barcode.toUpperCase()", "not a function", "upper(x)"),
        ("extract(day of at)", "extract without from", "extract(day from x)"),
        ("trim(both from barcode)", "text alone", "ltrim(x)"),
        ("n in ()", "in without a value", "x in ('a', 'b')"),
        ("case when n > 1 'a' end", "unexpected", "each branch needs"),
        ("case n > 1 then 'a' end", "unexpected", "each branch needs"),
        ("ok = 1", "cannot be compared", "x or not x"),
        ("at > 2026-10-01", "cannot be compared", "in quotes: '2026-10-01'"),
        ("barcode = 5", "cannot be compared", "a text has quotes"),
        ("status = new", "no column new", "'new'"),
        ("status = ‘completed’", "typographic quote", "straight single quotes"),
        ("n – 1", "typographic sign", "write -"),
        ("n\u{a0}", "invisible", "plain blank"),
        ("n\u{200b}", "invisible", "plain blank"),
        ("n，1", "full-width", "plain comma"),
        ("/* n", "comment", "*/"),
        (":n", "parameters are not", "a column"),
        ("?", "parameters are not", "a column"),
    ] {
        let mistakes = Expression::parse(text, &scope(true)).unwrap_err();
        let first = mistakes.0.first().unwrap();
        let given = first.hint.as_deref().unwrap_or_default();
        if !first.message.contains(said) || !given.contains(hint) {
            others.push(format!("{text}: {said}, {hint}?\n{mistakes}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

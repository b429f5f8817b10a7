//! Each frequent mistake has a message that says what to write instead.

use super::*;

/// Expressions, and what the message says.
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

/// Lists of expressions, and what the message says.
const LIST_MISTAKES: [(&str, &str); 9] = [
    ("id,", "remove the comma"),
    ("id,\n  n, -- the last one\n", "remove the comma"),
    ("id,, n", "remove one comma"),
    ("select id from plates", "leave out select and from"),
    ("*", "list the columns"),
    ("new.*", "list the columns"),
    ("id n", "an alias needs `as`, and a comma"),
    ("id, n as totalCount", "write \"totalCount\" in double quotes, or totalcount"),
    ("id, n + 1", "add `as name`"),
];

#[test]
fn frequent_mistakes_say_the_fix() {
    for (text, said) in MISTAKES {
        let mistakes = Expression::parse(text, &scope(true)).expect_err(text);
        assert!(mistakes.to_string().contains(said), "{text}:\n{mistakes}");
    }
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

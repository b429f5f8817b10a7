//! A table with a column of every type that expressions know, rows for it, and random expressions: templates whose holes
//! are filled with expressions of the type they name, now and then of another.

use std::fmt::Write as _;

use crate::json::generate::Random;

pub(super) const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad', 'a b');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN code AS varchar(5);";

/// Name, SQL type, the type's name in templates, values.
pub(super) const COLUMNS: &[(&str, &str, &str, &[&str])] = &[
    ("b1", "bool", "bool", &["t", "f"]),
    ("b2", "bool NOT NULL DEFAULT true", "bool", &["t", "f"]),
    ("s1", "int2", "int2", &["0", "1", "-1", "7", "32767", "-32768", "150"]),
    ("i1", "int4", "int4", &["0", "1", "-1", "2", "3", "10", "2147483647", "-2147483648", "46341"]),
    ("i2", "int4 NOT NULL DEFAULT 5", "int4", &["0", "1", "-3", "4", "1000"]),
    ("p1", "positive", "int4", &["1", "2", "99"]),
    ("l1", "int8", "int8", &["0", "5", "-9", "9223372036854775807", "-9223372036854775808", "3000000000"]),
    (
        "n1",
        "numeric",
        "numeric",
        &[
            "0",
            "1",
            "-1",
            "0.5",
            "12.500",
            "-7.25",
            "1e10",
            "NaN",
            "Infinity",
            "0.000001",
            "99999999999999999999.99",
            "123456789012345678901234567890123456789012345.678",
            "2.5",
            "-2.5",
            "1e-20",
            "32767.5",
            "10000",
            "9999.9999",
        ],
    ),
    ("n2", "numeric(10,2)", "numeric", &["0.00", "1.10", "-99999999.99", "3.33", "1000.00"]),
    (
        "r1",
        "float4",
        "float4",
        &["0", "0.1", "-2.5", "1e30", "3.4e38", "NaN", "Infinity", "1e-40", "16777217", "1.1"],
    ),
    (
        "d1",
        "float8",
        "float8",
        &[
            "0",
            "0.1",
            "-2.5",
            "1e300",
            "1e-300",
            "NaN",
            "-Infinity",
            "5e-324",
            "1e23",
            "123456789.123",
            "2147483647.5",
            "-0",
        ],
    ),
    (
        "t1",
        "text",
        "text",
        &[
            "",
            "a",
            "abc",
            "a,b,c",
            "é",
            "日本 x",
            " pad ",
            "12",
            "-7.5",
            "true",
            "a%b_c",
            "xyzzy",
            "1e3",
            "back\\slash",
            "AbC",
        ],
    ),
    ("t2", "text NOT NULL DEFAULT 'q'", "text", &["", "b", "abcabc", "Ünï", "%", "a_", "\\", "99999999999"]),
    ("v1", "varchar(10)", "varchar", &["", "abc", "abc  ", "a,b", "5"]),
    ("v2", "code", "varchar", &["", "abc", "xy"]),
    ("c1", "char(6)", "bpchar", &["", "abc", "ab c", "7"]),
    ("m1", "name", "name", &["abc", "public", "Z"]),
    (
        "day",
        "date",
        "date",
        &[
            "2026-10-01",
            "2024-02-29",
            "0044-03-15 BC",
            "1999-12-31",
            "infinity",
            "-infinity",
            "0001-01-01",
            "2000-01-01",
            "2021-01-03",
        ],
    ),
    ("clock", "time", "time", &["00:00", "12:34:56.789", "23:59:59.999999", "24:00:00"]),
    (
        "ts1",
        "timestamp",
        "timestamp",
        &[
            "2026-10-01 10:00:00.5",
            "2024-02-29 23:59:59.999999",
            "1969-12-31 23:59:59",
            "0044-03-15 12:00:00 BC",
            "infinity",
            "280000-12-31 23:00:00",
            "2001-01-01",
        ],
    ),
    (
        "tz1",
        "timestamptz",
        "timestamptz",
        &["2026-10-01 10:00:00.123456+00", "2000-01-01 00:00:00+00", "-infinity", "1900-06-15 05:06:07+00"],
    ),
    (
        "iv1",
        "interval",
        "interval",
        &[
            "1 day",
            "-1 mon",
            "1 year 2 mons -3 days +04:05:06.7",
            "-00:00:01.5",
            "30 days",
            "720:00:00",
            "00:00:00",
            "13 mons -5 days",
        ],
    ),
    ("u1", "uuid", "uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    (
        "j1",
        "json",
        "json",
        &[
            "{\"a\": 1, \"a\": [2, {\"b\": null}]}",
            "[1, \"x\", {\"a\":true}]",
            "\"s\"",
            "1.50",
            "null",
            "{}",
            "{\"b\":\"\\u00e9\\n\"}",
        ],
    ),
    (
        "jb1",
        "jsonb",
        "jsonb",
        &[
            "{\"a\": 1, \"b\": [2, {\"c\": null}], \"bb\": \"x\\ny\"}",
            "[1, \"a\", {\"a\": true}]",
            "\"a\"",
            "1.50",
            "-7",
            "false",
            "{}",
            "[]",
        ],
    ),
    (
        "jb2",
        "jsonb",
        "jsonb",
        &[
            "{\"a\": 1.0, \"b\": [2, {\"c\": null}], \"bb\": \"x\\ny\"}",
            "1.5",
            "100000",
            "true",
            "{\"a\": {\"b\": \"c\"}}",
        ],
    ),
    ("by1", "bytea", "bytea", &["\\x", "\\x6869", "\\x00ff10"]),
    ("e1", "mood", "mood", &["sad", "ok", "glad", "a b"]),
    ("e2", "mood", "mood", &["sad", "glad"]),
    ("ia1", "int4[]", "int4[]", &["{}", "{1,2,3}", "{NULL,5}", "[0:1]={7,8}", "{{1,2},{3,4}}"]),
    ("ta1", "text[]", "text[]", &["{}", "{a,NULL,\"b c\"}", "{\"\",abc}", "{\"q\\\"\\\\\"}"]),
    ("ea1", "mood[]", "mood[]", &["{sad,glad}", "{\"a b\",NULL}", "{}"]),
    ("pt", "point", "point", &["(1,2)"]),
    ("net", "inet", "inet", &["10.0.0.1"]),
];

/// Statements that make the table `r` and fill it.
pub(super) fn table(random: &mut Random, rows: usize) -> String {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, sql, ..)| format!("{name} {sql}")).collect();
    let mut out = format!("CREATE TABLE r (id int PRIMARY KEY, {});", columns.join(", "));
    for id in 0..rows {
        let values: Vec<_> = COLUMNS
            .iter()
            .map(|(_, sql, _, values)| {
                if random.one_in(7) && !sql.contains("NOT NULL") {
                    "NULL".to_owned()
                } else {
                    format!("'{}'", random.pick(values).replace('\'', "''"))
                }
            })
            .collect();
        write!(out, "INSERT INTO r VALUES ({id}, {});", values.join(", ")).unwrap();
    }
    out
}

const NUMBERS: &[&str] = &["int2", "int4", "int8", "numeric", "float4", "float8"];
const ALL: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float4",
    "float8",
    "text",
    "varchar",
    "bpchar",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "bytea",
    "mood",
    "int4[]",
    "text[]",
];

/// Literals by type.
fn literals(kind: &str) -> &'static [&'static str] {
    match kind {
        "int2" => &["3::int2", "int2 '-2'", "32767::smallint"],
        "int4" => &["0", "1", "2", "7", "-3", "100", "2147483647", "int '12'"],
        "int8" => &["3000000000", "5::int8", "-9223372036854775808", "bigint '4'"],
        "numeric" => &[
            "0.5",
            "1.10",
            "2.0",
            "1000",
            "1e3",
            ".5",
            "123456789.123456789",
            "0.0",
            "-7.5",
            "numeric '3.14'",
        ],
        "float4" => &["1.5::real", "'0.1'::float4", "real '1e20'"],
        "float8" => &["2.5::float8", "'1e-5'::double precision", "float8 '0.1'", "1e15::float8"],
        "text" => &[
            "''", "'a'", "'abc'", "','", "'b'", "'é'", "E'x\\ty'", "$$it's$$", "'%b%'", "'a_c%'", "'12'",
            "text 'b'",
        ],
        "varchar" => &["'abc'::varchar(2)", "'x'::varchar", "varchar 'abc'"],
        "bpchar" => &["'abc'::char(5)", "'ab'::bpchar", "'xyz'::char(2)"],
        "date" => &["date '2026-10-01'", "'2024-02-29'::date", "date 'infinity'"],
        "time" => &["time '12:34:56'", "'00:00:01.5'::time"],
        "timestamp" => &["timestamp '2026-10-01 10:00:00'", "'2000-02-29T12:30'::timestamp"],
        "timestamptz" => {
            &["timestamptz '2026-10-01 10:00:00+02'", "timestamp with time zone '2001-01-01 00:00:00Z'"]
        }
        "interval" => &[
            "interval '1 day'",
            "interval '-2 mons 3 days'",
            "'36:00:00'::interval",
            "interval '1.5 seconds'",
        ],
        "uuid" => {
            &["uuid 'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'{00000000-0000-0000-0000-000000000001}'::uuid"]
        }
        "json" => &["'{\"a\": [1, 2]}'::json"],
        "jsonb" => &["'{\"b\": 1, \"a\": 2}'::jsonb", "jsonb '[1, 2.0]'", "'1.5'::jsonb"],
        "bytea" => &["'\\x6869'::bytea"],
        "mood" => &["'glad'::mood", "'a b'::mood"],
        "int4[]" => &["'{1,2,NULL}'::int[]", "'{}'::int4[]"],
        "text[]" => &["'{a,b}'::text[]", "'{\"x y\",NULL}'::text[]"],
        _ => &["true", "false"],
    }
}

/// Result, and templates for it. A hole names a type; `N` is one numeric type throughout, `A` any one type throughout.
const TEMPLATES: &[(&str, &[&str])] = &[
    (
        "bool",
        &[
            "{N} = {N}",
            "{N} <> {N}",
            "{N} < {N}",
            "{N} >= {N}",
            "{int4} = {numeric}",
            "{int8} > {float8}",
            "{float4} < {float8}",
            "{float4} = {int4}",
            "{int2} <= {int8}",
            "{numeric} > {float4}",
            "{text} = {text}",
            "{varchar} = {text}",
            "{bpchar} = {bpchar}",
            "{bpchar} = {text}",
            "{varchar} <> {bpchar}",
            "{bpchar} = {varchar}",
            "m1 = {text}",
            "{text} < {text} collate \"C\"",
            "{varchar} >= {text} collate \"C\"",
            "{bpchar} < {bpchar} collate \"C\"",
            "{date} < {date}",
            "{date} >= {timestamp}",
            "{timestamptz} > {date}",
            "{timestamp} <> {timestamptz}",
            "{time} < {time}",
            "{interval} > {interval}",
            "{time} < {interval}",
            "{uuid} = {uuid}",
            "{uuid} < {uuid}",
            "{bytea} >= {bytea}",
            "{mood} < {mood}",
            "{mood} = 'ok'",
            "{jsonb} = {jsonb}",
            "{jsonb} <> {jsonb}",
            "{bool} = {bool}",
            "{bool} and {bool}",
            "{bool} or {bool}",
            "not {bool}",
            "{bool} and {bool} or {bool}",
            "{bool} is true",
            "{bool} is not false",
            "{bool} is unknown",
            "{A} is null",
            "{A} is not null",
            "{N} is distinct from {N}",
            "{text} is not distinct from {text}",
            "{mood} is distinct from {mood}",
            "{int4} in ({int4}, {int4}, 5)",
            "{int4} in (1, 2.5, 3000000000)",
            "{float4} in (0.1, 1.1)",
            "{float4} in (1.1)",
            "{text} not in ('a', {text}, 'b')",
            "{bpchar} in ('abc', 'x ')",
            "{mood} in ('sad', 'glad')",
            "{varchar} in ('abc', {text})",
            "{date} in ('2026-10-01', {date})",
            "{int2} not in (1, 7)",
            "{N} between {N} and {N}",
            "{date} not between {date} and {date}",
            "{timestamp} between {date} and {timestamp}",
            "{text} like {text}",
            "{text} not like 'a%'",
            "{bpchar} like 'abc%'",
            "{varchar} ilike {text}",
            "{text} like '%!_%' escape '!'",
            "{text} ilike '%B%'",
            "{text} like '\\'",
            "{int4} = any ({int4[]})",
            "{text} <> any ({text[]})",
            "'a' = any ({text[]})",
            "{int4} = any ('{1,2,3}')",
            "{mood} = any (ea1)",
            "{int4} > any ({int4[]})",
            "{text}::bool",
            "({int4})::bool",
            "{jsonb} ? 'a'",
            "{jsonb} ? {text}",
            "({jsonb} -> 'x')::bool",
            "case when {bool} then {bool} else {bool} end",
            "coalesce({bool}, {bool})",
            "{int4} + 1 > {int4}",
            "{int4} = 1 is true",
            "- {int4} < i1 * 2 + 1",
            "not {int4} = 1",
            "{text} || 'x' like {text} || '%'",
            "({text})::text = {bpchar}::text",
            "greatest({bool}, {bool})",
            "nullif({bool}, {bool})",
        ],
    ),
    (
        "int2",
        &[
            "{int2} + {int2}",
            "{int2} - {int2}",
            "{int2} * {int2}",
            "{int2} / {int2}",
            "{int2} % {int2}",
            "- {int2}",
            "abs({int2})",
            "({int4})::int2",
            "({float4})::int2",
            "({numeric})::smallint",
            "{text}::int2",
            "mod({int2}, {int2})",
            "coalesce({int2}, {int2})",
            "nullif({int2}, {int4})",
            "greatest({int2}, {int2})",
            "{int2} + '1'",
            "({jsonb})::int2",
        ],
    ),
    (
        "int4",
        &[
            "{int4} + {int4}",
            "{int4} - {int2}",
            "{int4} * {int4}",
            "{int4} / {int4}",
            "{int4} % {int4}",
            "- {int4}",
            "- {int4} + {int4} * {int4}",
            "abs({int4})",
            "mod({int4}, {int2})",
            "({int8})::int4",
            "({numeric})::int",
            "({float8})::integer",
            "({float4})::int",
            "{text}::int",
            "({bool})::int",
            "length({text})",
            "char_length({varchar})",
            "length({bpchar})",
            "length({bytea})",
            "({jsonb} -> 'a')::int",
            "({jsonb})::int",
            "cardinality({int4[]})",
            "array_length({int4[]}, 1)",
            "array_length({int4[]}, 2)",
            "({int4[]})[{int4}]",
            "ia1[1]",
            "{date} - {date}",
            "case when {bool} then {int4} else {int2} end",
            "case {int4} when 1 then {int4} when {int4} then 3 end",
            "coalesce({int4}, {int2}, 0)",
            "nullif({int4}, {int8})",
            "nullif({int4}, 1)",
            "{int4} + {date} - {date}",
            "greatest({int4}, {int2}, {int4})",
            "least({int4}, {int4})",
            "{int2} + {int4}",
            "{int4} / '2'",
            "cast({text} as int)",
            "{int4} - {int4} - {int4}",
            "{int4} / {int4} * {int4}",
            "{int4} % {int4} + {int4}",
            "(- {int4})::int2 + 1",
        ],
    ),
    (
        "int8",
        &[
            "{int8} + {int4}",
            "{int8} - {int8}",
            "{int8} * {int2}",
            "{int8} / {int4}",
            "{int4} % {int8}",
            "- {int8}",
            "abs({int8})",
            "({numeric})::bigint",
            "({float8})::int8",
            "({int4})::bigint",
            "{text}::bigint",
            "coalesce({int8}, {int4})",
            "case when {bool} then {int4} else {int8} end",
            "greatest({int4}, {int8})",
            "({jsonb} ->> 'a')::int8",
            "mod({int8}, {int4})",
            "({jsonb})::bigint",
            "nullif({int8}, {int2})",
        ],
    ),
    (
        "numeric",
        &[
            "{numeric} + {numeric}",
            "{numeric} - {int4}",
            "{numeric} * {numeric}",
            "{numeric} / {numeric}",
            "{numeric} % {numeric}",
            "{int4} / {numeric}",
            "{numeric} / {int8}",
            "{int8} % {numeric}",
            "- {numeric}",
            "abs({numeric})",
            "round({numeric})",
            "round({numeric}, {int4} % 30)",
            "round({numeric}, -2)",
            "round({int4}, 1)",
            "trunc({numeric})",
            "trunc({numeric}, 2)",
            "ceil({numeric})",
            "floor({numeric})",
            "sign({numeric})",
            "mod({numeric}, {int4})",
            "({int8})::numeric",
            "({float8})::numeric",
            "({float4})::numeric",
            "{text}::numeric",
            "({numeric})::numeric(8,2)",
            "({float8})::numeric(5)",
            "({jsonb})::numeric",
            "({jsonb} -> 'a')::numeric(6,1)",
            "extract(epoch from {timestamp})",
            "extract(year from {date})",
            "extract(second from {timestamptz})",
            "extract(dow from {date})",
            "extract(week from {date})",
            "extract(isoyear from {timestamp})",
            "extract(decade from {date})",
            "extract(century from {timestamp})",
            "extract(millennium from {date})",
            "extract(doy from {timestamp})",
            "extract(isodow from {timestamptz})",
            "extract(quarter from {date})",
            "extract(epoch from {date})",
            "extract(epoch from {interval})",
            "extract(day from {interval})",
            "extract(hour from {time})",
            "extract(milliseconds from {time})",
            "extract(microseconds from {timestamp})",
            "extract(month from {interval})",
            "extract(minute from {interval})",
            "extract(year from {interval})",
            "case when {bool} then {numeric} else {int4} end",
            "coalesce({numeric}, {int4}, 0.0)",
            "nullif({numeric}, {int4})",
            "greatest({numeric}, {int8})",
            "least({numeric}, {numeric})",
            "{numeric} * {int4} + {numeric} / 3",
            "{numeric} / 1000",
            "{numeric} - {numeric} - {numeric}",
        ],
    ),
    (
        "float4",
        &[
            "{float4} + {float4}",
            "{float4} - {float4}",
            "{float4} * {float4}",
            "{float4} / {float4}",
            "- {float4}",
            "abs({float4})",
            "({float8})::real",
            "({numeric})::float4",
            "({int4})::float4",
            "{text}::float4",
            "coalesce({float4}, {int4})",
            "({int8})::real",
            "nullif({float4}, {float8})",
            "({jsonb})::float4",
        ],
    ),
    (
        "float8",
        &[
            "{float8} + {float8}",
            "{float8} - {float4}",
            "{float8} * {int4}",
            "{float8} / {float8}",
            "{float4} + {int4}",
            "{float4} * {numeric}",
            "{numeric} / {float8}",
            "- {float8}",
            "abs({float8})",
            "round({float8})",
            "trunc({float8})",
            "ceil({float8})",
            "floor({float8})",
            "sign({float8})",
            "round({int4})",
            "floor({int8})",
            "ceil({float4})",
            "({numeric})::float8",
            "({float4})::float8",
            "({int8})::float8",
            "{text}::float8",
            "date_part('epoch', {timestamp})",
            "date_part('second', {timestamptz})",
            "date_part('year', {date})",
            "date_part('milliseconds', {time})",
            "date_part('epoch', {interval})",
            "date_part('hour', {timestamp})",
            "case when {bool} then {int4} else {float8} end",
            "coalesce({float8}, {numeric})",
            "greatest({float8}, {float4})",
            "least({float8}, {float8})",
            "({jsonb})::float8",
            "nullif({float8}, {float8})",
        ],
    ),
    (
        "text",
        &[
            "{text} || {text}",
            "{text} || {int4}",
            "{bool} || {text}",
            "{numeric} || {text}",
            "{bpchar} || {text}",
            "{varchar} || {varchar}",
            "{text} || {date}",
            "{text} || {float8}",
            "{mood} || ''",
            "{text} || 'x' || {int4}",
            "{uuid} || {text}",
            "{interval} || {text}",
            "{timestamptz} || ''",
            "concat({A}, {text}, {bool})",
            "concat_ws(',', {text}, {int4}, {bpchar})",
            "concat_ws({text}, {text}, {A})",
            "lower({text})",
            "upper({text})",
            "lower({bpchar})",
            "btrim({text})",
            "trim(both 'a' from {text})",
            "trim({text})",
            "ltrim({text}, {text})",
            "rtrim({text}, 'bc')",
            "trim(leading 'x ' from {text})",
            "left({text}, {int4} % 5)",
            "right({text}, {int4} % 5)",
            "left({bpchar}, 2)",
            "substring({text} from {int4} % 4 for {int4} % 4)",
            "substring({text}, {int4} % 4)",
            "substr({text}, 2, 1)",
            "substring({text} for 2)",
            "replace({text}, {text}, {text})",
            "replace({text}, 'a', 'xy')",
            "split_part({text}, ',', {int4} % 4)",
            "split_part({text}, {text}, 1)",
            "({A})::text",
            "cast({A} as text)",
            "({varchar})::text",
            "({bpchar})::text",
            "({jsonb})::text",
            "({float4})::text",
            "pt::text",
            "concat(net)",
            "{jsonb} ->> 'a'",
            "{jsonb} ->> {int4}",
            "{json} ->> 'a'",
            "{json} ->> 0",
            "{jsonb} #>> '{b,1,c}'",
            "{json} #>> '{a,1}'",
            "{jsonb} -> 'b' -> 1 ->> 'c'",
            "{jsonb} ->> {text}",
            "md5({text})",
            "md5({bytea})",
            "encode({bytea}, 'hex')",
            "encode({bytea}, 'base64')",
            "({text[]})[2]",
            "ta1[1]",
            "case when {bool} then {text} else 'x' end",
            "case {text} when 'a' then 'A' else {varchar} end",
            "coalesce({text}, {varchar}, 'none')",
            "coalesce({varchar}, {text})",
            "nullif({text}, {text})",
            "nullif({text}, 'abc')",
            "({text}::int)::text",
            "'lit'",
            "coalesce({bpchar}, {text})",
        ],
    ),
    (
        "varchar",
        &[
            "({text})::varchar",
            "({text})::varchar(3)",
            "({int4})::varchar(2)",
            "coalesce({varchar}, {varchar})",
            "case when {bool} then {varchar} end",
            "nullif({varchar}, {varchar})",
            "({bpchar})::varchar(4)",
        ],
    ),
    (
        "bpchar",
        &[
            "({text})::char(4)",
            "({text})::bpchar",
            "({varchar})::char",
            "coalesce({bpchar}, 'x')",
            "({int4})::char(3)",
            "case when {bool} then {bpchar} else 'ab  ' end",
            "nullif({bpchar}, 'abc')",
        ],
    ),
    (
        "date",
        &[
            "{date} + {int4} % 1000",
            "{date} - {int2} % 100",
            "({timestamp})::date",
            "({timestamptz})::date",
            "coalesce({date}, {date})",
            "greatest({date}, {date})",
            "nullif({date}, {timestamp})",
            "case when {bool} then {date} end",
            "{date} + {int4}",
        ],
    ),
    (
        "time",
        &[
            "{time} + {interval}",
            "{time} - {interval}",
            "({timestamp})::time",
            "({interval})::time",
            "coalesce({time}, {time})",
            "least({time}, {time})",
        ],
    ),
    (
        "timestamp",
        &[
            "{timestamp} + {interval}",
            "{timestamp} - {interval}",
            "{date} + {interval}",
            "{interval} + {date}",
            "{time} + {date}",
            "{interval} + {timestamp}",
            "{date} - {interval}",
            "{date} + {time}",
            "({date})::timestamp",
            "({timestamptz})::timestamp",
            "{timestamptz} at time zone 'UTC'",
            "date_trunc('month', {timestamp})",
            "date_trunc('week', {timestamp})",
            "date_trunc('century', {timestamp})",
            "date_trunc('hour', {timestamp})",
            "date_trunc('milliseconds', {timestamp})",
            "date_trunc('decade', {timestamp})",
            "date_trunc('quarter', {timestamp})",
            "date_trunc('millennium', {timestamp})",
            "coalesce({timestamp}, {date})",
            "greatest({timestamp}, {timestamp})",
            "case when {bool} then {date} else {timestamp} end",
            "date_trunc('year', {timestamp})",
        ],
    ),
    (
        "timestamptz",
        &[
            "{timestamptz} + {interval}",
            "{timestamptz} - {interval}",
            "({date})::timestamptz",
            "({timestamp})::timestamptz",
            "{timestamp} at time zone 'utc'",
            "date_trunc('day', {timestamptz})",
            "date_trunc('month', {date})",
            "{interval} + {timestamptz}",
            "coalesce({timestamptz}, {timestamp})",
            "greatest({timestamptz}, {date})",
            "least({timestamptz}, {timestamptz})",
            "date_trunc('second', {timestamptz})",
        ],
    ),
    (
        "interval",
        &[
            "{interval} + {interval}",
            "{interval} - {interval}",
            "- {interval}",
            "{timestamp} - {timestamp}",
            "{timestamptz} - {timestamptz}",
            "{timestamp} - {date}",
            "{time} - {time}",
            "({time})::interval",
            "coalesce({interval}, {interval})",
            "greatest({interval}, {interval})",
            "{timestamptz} - {date}",
            "nullif({interval}, {interval})",
        ],
    ),
    (
        "uuid",
        &[
            "coalesce({uuid}, {uuid})",
            "nullif({uuid}, {uuid})",
            "least({uuid}, {uuid})",
            "{text}::uuid",
            "(({uuid})::text)::uuid",
        ],
    ),
    ("json", &["{json} -> 'a'", "{json} -> 0", "{json} #> '{a,1}'", "({jsonb})::json", "{json} -> -1"]),
    (
        "jsonb",
        &[
            "{jsonb} -> 'a'",
            "{jsonb} -> {int4} % 3",
            "{jsonb} #> '{b,1}'",
            "({json})::jsonb",
            "coalesce({jsonb}, {jsonb})",
            "case when {bool} then {jsonb} end",
            "{jsonb} -> {text}",
            "nullif({jsonb}, {jsonb})",
            "{text}::jsonb",
        ],
    ),
    (
        "bytea",
        &[
            "coalesce({bytea}, {bytea})",
            "nullif({bytea}, {bytea})",
            "decode(md5({text}), 'hex')",
            "decode(encode({bytea}, 'base64'), 'base64')",
            "greatest({bytea}, {bytea})",
        ],
    ),
    (
        "mood",
        &[
            "coalesce({mood}, 'ok')",
            "case when {bool} then {mood} else 'glad' end",
            "greatest({mood}, {mood})",
            "nullif({mood}, 'sad')",
            "{text}::mood",
            "(ea1)[1]",
            "least({mood}, {mood})",
        ],
    ),
    ("int4[]", &["coalesce({int4[]}, {int4[]})", "case when {bool} then {int4[]} end"]),
    ("text[]", &["coalesce({text[]}, {text[]})", "case when {bool} then {text[]} else '{}' end"]),
];

pub(super) struct Generator<'r> {
    pub(super) random: &'r mut Random,
}

impl Generator<'_> {
    pub(super) fn expression(&mut self) -> String {
        let kind = self.random.pick(ALL);
        let depth = 1 + self.random.below(3);
        self.of(kind, depth)
    }

    fn of(&mut self, kind: &str, depth: u64) -> String {
        let templates = TEMPLATES.iter().find(|(result, _)| *result == kind).map(|(_, templates)| *templates);
        match templates {
            Some(templates) if depth > 0 => {
                let template = self.random.pick(templates);
                self.filled(template, depth)
            }
            _ => self.leaf(kind),
        }
    }

    /// Columns mostly: what consists of constants is computed by the server's planner, whether it is needed or not.
    fn leaf(&mut self, kind: &str) -> String {
        let columns: Vec<&str> =
            COLUMNS.iter().filter(|(_, _, of, _)| *of == kind).map(|(name, ..)| *name).collect();
        if columns.is_empty() || kind != "bool" && self.random.one_in(4) {
            return self.random.pick(literals(kind)).to_owned();
        }
        let name = self.random.pick(&columns);
        if self.random.one_in(5) { format!("new.{name}") } else { name.to_owned() }
    }

    fn filled(&mut self, template: &str, depth: u64) -> String {
        let (number, any) = (self.random.pick(NUMBERS), self.random.pick(ALL));
        let mut out = String::new();
        let mut rest = template;
        let mut first = true;
        while let Some((before, hole)) = rest.split_once('{') {
            out.push_str(before);
            // `'{a,b}'` is no hole.
            let Some((name, after)) = hole.split_once('}').filter(|_| !before.ends_with('\'')) else {
                out.push('{');
                rest = hole;
                continue;
            };
            let kind = match name {
                "N" => number,
                "A" => any,
                name => name,
            };
            let kind = if self.random.one_in(60) { self.random.pick(ALL) } else { kind };
            // The first hole reads the row.
            let inner =
                if first && depth == 1 { self.column_or_leaf(kind) } else { self.of(kind, depth - 1) };
            first = false;
            let simple = inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if simple || self.random.one_in(8) {
                out.push_str(&inner);
            } else {
                out.push('(');
                out.push_str(&inner);
                out.push(')');
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn column_or_leaf(&mut self, kind: &str) -> String {
        let columns: Vec<&str> =
            COLUMNS.iter().filter(|(_, _, of, _)| *of == kind).map(|(name, ..)| *name).collect();
        if columns.is_empty() { self.leaf(kind) } else { self.random.pick(&columns).to_owned() }
    }
}

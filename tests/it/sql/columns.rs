//! A table with a column of every type that expressions support, with rows and literals.

use std::fmt::Write as _;

use crate::json::generate::Random;

pub(super) const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad', 'a b');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN code AS varchar(5);
    CREATE DOMAIN price AS numeric(8,2);
    CREATE TYPE address AS (street text, no int);";

/// Name, SQL type, the type's name in templates, values.
pub(super) const COLUMNS: &[(&str, &str, &str, &[&str])] = &[
    ("b1", "bool", "bool", &["t", "f"]),
    ("b2", "bool NOT NULL DEFAULT true", "bool", &["t", "f"]),
    (
        "l2",
        "int8",
        "int8",
        &["-1", "4611686018427387904", "9223372036854775806", "10", "-9223372036854775807"],
    ),
    ("s2", "int2", "int2", &["-32767", "2", "181", "-1"]),
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
    ("n3", "price", "numeric", &["0", "-0.05", "999999.99", "-999999.99", "12.345"]),
    ("n4", "numeric(18,0)", "numeric", &["999999999999999999", "-999999999999999999", "5", "0"]),
    (
        "n5",
        "numeric(30,10)",
        "numeric",
        &["0.0000000001", "-123456789.0123456789", "12345678901234567890.0123456789", "2.5", "-0.5"],
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
            "A B",
            "AB CD",
            "aGk=aG k=",
            "aG=k",
            "2026-10-01T10:00:00.123456789Z",
            "2026-10-01T10:00:00.1234565+0200",
            "20261001T100000.5Z",
            "2026-10-01t23:59:59.9999999z",
            "20261001",
            "0x1.8p1",
            "{a,NULL}",
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
            "4714-11-24 00:00:00 BC",
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
            "2147483647 days",
            "-2147483647 days",
            "178956970 years 7 mons",
            "1000000000:00:54.775807",
            "-9000000 days 17:00:00.000001",
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
            "{\"a\":{\"b\":1},\"a\":{\"c\":[1,2]},\"a\":{\"b\":{\"b\":2}}, \"a\":5}",
            " [[1,2],[3], {\"a\": [[4],[5,6]]}] ",
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
    ("na1", "numeric[]", "numeric[]", &["{}", "{1.50,NULL,-7}", "{NaN,1e10}", "[-1:0]={2.5,3}"]),
    ("da1", "date[]", "date[]", &["{}", "{2026-10-01,NULL}", "{infinity,0001-01-01}"]),
    ("za1", "timestamptz[]", "timestamptz[]", &["{\"2026-10-01 10:00:00+00\",NULL}", "{}"]),
    ("ba1", "bool[]", "bool[]", &["{t,f,NULL}", "{}", "{f}"]),
    ("fa1", "float8[]", "float8[]", &["{0.1,NaN,NULL}", "{1e300}", "{}"]),
    ("va1", "varchar(4)[]", "varchar[]", &["{a,\"b c\"}", "{}", "{NULL,abc}"]),
    ("ca1", "code[]", "code[]", &["{abc,NULL}", "{}", "{abc,xy}"]),
    ("ad1", "address", "address", &["(a,3)", "(,)", "(a,)", "(\"x, \"\"y\",)", "(\"\",1)"]),
    ("aa1", "address[]", "address[]", &["{\"(a,3)\",NULL}", "{}", "{\"(,)\",\"(b,)\"}"]),
    ("bx1", "box[]", "box[]", &["{(1,1),(0,0);(2,2),(1,1)}", "{}"]),
    ("vec", "int2vector", "int2vector", &["1 2 3", ""]),
    ("pt", "point", "point", &["(1,2)"]),
    ("net", "inet", "inet", &["10.0.0.1"]),
];

/// Statements that create and fill the table `r`.
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

pub(super) const NUMBERS: &[&str] = &["int2", "int4", "int8", "numeric", "float4", "float8"];
pub(super) const ALL: &[&str] = &[
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
pub(super) fn literals(kind: &str) -> &'static [&'static str] {
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

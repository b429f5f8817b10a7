//! Every type of `pg_catalog` that a column can have: chosen values, and a generator of random ones.

use super::generate::Random;

/// A type, named as in SQL (and `regtype`).
pub(super) struct Sample {
    pub(super) sql: &'static str,
    pub(super) edges: &'static [&'static str],
    pub(super) random: fn(&mut Random) -> String,
}

const fn sample(
    sql: &'static str,
    edges: &'static [&'static str],
    random: fn(&mut Random) -> String,
) -> Sample {
    Sample { sql, edges, random }
}

/// Types without input: they exist for the server's own tables and indexes.
pub(super) const NOT_COLUMNS: &[&str] = &[
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "gtsvector",
];

/// User-defined types.
pub(super) const SCHEMA: &str = r#"
    CREATE EXTENSION IF NOT EXISTS hstore;
    CREATE EXTENSION IF NOT EXISTS citext;
    CREATE TYPE mood AS ENUM ('glad', 'a "b"', 'NULL', 'with, comma', '');
    CREATE TYPE textrange AS RANGE (subtype = text, multirange_type_name = textmulti);
    CREATE TYPE nothing AS ();
    CREATE TYPE one AS (a text);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN ones AS one;
    CREATE TABLE plain (id int, gone int, t text, at timestamptz);
    ALTER TABLE plain DROP COLUMN gone;
    CREATE SCHEMA other;
    CREATE TYPE other.hstore AS ENUM ('not the extension');
"#;

pub(super) const SPECIALS: &[(&str, &[&str])] = &[
    ("mood", &["glad", "a \"b\"", "NULL", "with, comma", ""]),
    ("mood[]", &["{glad,NULL,\"NULL\",\"\",\"with, comma\"}"]),
    ("positive", &["1", "2147483647"]),
    ("textrange", &["[a,b)", "empty", "[\"a \\\"q\\\" \",)"]),
    ("textrange[]", &["{\"[a,b)\",NULL,\"[\\\"a b\\\",)\"}"]),
    ("textmulti", &["{}", "{[a,b),[c,\"d e\"]}"]),
    ("nothing", &["()"]),
    ("nothing[]", &["{\"()\",NULL,()}", "{}"]),
    ("one", &["()", "(\"\")", "(NULL)", "( )", "(\"a\nb\")"]),
    ("ones[]", &["{\"()\",\"(\\\"\\\")\",NULL,(x)}"]),
    ("plain", &["(1,\"a b\",\"2026-01-01 00:00:00+00\")", "(,,)"]),
    ("plain[]", &["{\"(1,NULL,infinity)\",NULL}"]),
    ("hstore", &["", "a=>b,c=>NULL", "\"\"=>\"\"", "\"x \\\"y\\\" \\\\ => , \"=>\"NULL\"", "é=>\"\n\""]),
    ("hstore[]", &["{}", "{\"a=>b\",NULL,\"\",\"\\\"q \\\\\\\"\\\"=>NULL\"}"]),
    ("other.hstore", &["not the extension"]),
    ("citext", &["", "MiXed \"\\"]),
    ("citext[]", &["{A,\"b c\"}"]),
    ("numeric(20,5)", &["1.5", "-0.00001"]),
    ("char(5)", &["a", ""]),
    ("varchar(5)[]", &["{a,\"  b\"}"]),
    ("timestamptz(0)", &["2026-10-01 10:00:00.6+02"]),
    ("interval year to month", &["1-2"]),
    ("bit(5)", &["10101"]),
    ("information_schema.sql_identifier", &["x"]),
    ("information_schema.cardinal_number[]", &["{1,2}"]),
    ("pg_catalog.pg_am", &["(2,heap,heap_tableam_handler,t)"]),
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "NULL",
    "null",
    "\"",
    "\\",
    "\\\\",
    "{",
    "}",
    "(",
    ")",
    ",",
    ";",
    "a b",
    "\n",
    "\r\n",
    "\t",
    "\u{1}",
    "\u{1f}",
    "\u{7f}",
    "'",
    "é",
    "日本",
    "🦀",
    "\u{2028}",
    "\u{feff}",
    "\\n",
    "=>",
    "[1:2]={1}",
    "t",
    "1e5",
    " lead",
    "\u{b}",
    "\u{c}",
    "\u{8}",
    "\u{a0}",
    "\u{85}",
];

fn text(random: &mut Random) -> String {
    (0..random.below(6)).map(|_| random.pick(TEXTS)).collect()
}

fn word(random: &mut Random) -> String {
    (0..=random.below(8)).map(|_| random.pick(&["a", "b", "x", "1", "_", "é"])).collect()
}

fn int(random: &mut Random) -> String {
    let wide = random.signed();
    i32::try_from(wide).unwrap_or((wide >> 32) as i32).to_string()
}

fn oid(random: &mut Random) -> String {
    ((random.next() >> 32) >> random.below(32)).to_string()
}

fn float(random: &mut Random) -> String {
    if random.one_in(2) {
        return format!("{}.{}", random.signed() % 1000, random.below(1000));
    }
    let value = f64::from_bits(random.next());
    // Subnormal values included, but sums and products inside geometric types stay finite.
    if value.is_finite() && value.abs() < 1e150 { format!("{value:e}") } else { "0.1".to_owned() }
}

fn float4(random: &mut Random) -> String {
    let value = f32::from_bits((random.next() >> 32) as u32);
    if value.is_finite() { format!("{value:e}") } else { "NaN".to_owned() }
}

fn float8(random: &mut Random) -> String {
    let value = f64::from_bits(random.next());
    if value.is_finite() && random.one_in(2) { format!("{value:e}") } else { float(random) }
}

fn digits(random: &mut Random, most: u64) -> String {
    (0..=random.below(most)).map(|_| random.below(10).to_string()).collect()
}

fn numeric(random: &mut Random) -> String {
    let sign = random.pick(&["", "-"]);
    let whole = digits(random, 40);
    if random.one_in(2) { format!("{sign}{whole}.{}", digits(random, 30)) } else { format!("{sign}{whole}") }
}

/// A Julian day: the whole range of timestamps, or of recent days.
fn day(random: &mut Random) -> String {
    let day = if random.one_in(2) { random.below(109_203_000) } else { 2_440_000 + random.below(30_000) };
    format!("J{day}")
}

fn clock(random: &mut Random) -> String {
    let micros = if random.one_in(3) { 0 } else { random.below(1_000_000) };
    format!("{:02}:{:02}:{:02}.{micros:06}", random.below(24), random.below(60), random.below(60))
}

fn timestamp(random: &mut Random) -> String {
    format!("{} {}", day(random), clock(random))
}

fn zone(random: &mut Random) -> &'static str {
    random.pick(&["", "+00", "+02", "-05:30", "+13:45", "-11"])
}

fn interval(random: &mut Random) -> String {
    format!("{} mons {} days {}", random.signed() % 10_000, random.signed() % 10_000, clock(random))
}

fn bytes(random: &mut Random) -> String {
    let length = random.below(40) * random.below(20);
    (0..length).fold("\\x".to_owned(), |hex, _| format!("{hex}{:02x}", random.below(256)))
}

fn bits(random: &mut Random) -> String {
    (0..random.below(20)).map(|_| random.pick(&["0", "1"])).collect()
}

fn json(random: &mut Random) -> String {
    document(random, 3)
}

fn document(random: &mut Random, depth: u64) -> String {
    let blank = |random: &mut Random| random.pick(&["", " ", "\n", "\t \r"]);
    let (before, after) = (blank(random), blank(random));
    let length = random.below(4);
    let body = match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => random
            .pick(&["true", "false", "null", "-0", "0.10", "1E5", "-1.50e-7", "12345678901234567890"])
            .to_owned(),
        1 => serde_json::to_string(&text(random)).unwrap(),
        2 => random.pick(&[r#""\u00e9\/\b""#, r#""\ud83e\udd80""#, "\"\"", r#""\\\"""#]).to_owned(),
        3 => random.signed().to_string(),
        4 => {
            let items: Vec<_> = (0..length).map(|_| document(random, depth - 1)).collect();
            format!("[{before}{}]", items.join(","))
        }
        _ => {
            let member = |nth: u64| {
                let key = serde_json::to_string(&format!("{nth}{}", text(random))).unwrap();
                format!("{before}{key}{after}:{}", document(random, depth - 1))
            };
            let members: Vec<_> = (0..length).map(member).collect();
            format!("{{{}{after}}}", members.join(","))
        }
    };
    format!("{before}{body}{after}")
}

fn point(random: &mut Random) -> String {
    format!("({},{})", float(random), float(random))
}

fn box_(random: &mut Random) -> String {
    format!("{},{}", point(random), point(random))
}

fn path(random: &mut Random) -> String {
    let points: Vec<_> = (0..=random.below(3)).map(|_| point(random)).collect();
    if random.one_in(2) { format!("[{}]", points.join(",")) } else { format!("({})", points.join(",")) }
}

fn polygon(random: &mut Random) -> String {
    format!("({},{})", point(random), point(random))
}

fn circle(random: &mut Random) -> String {
    format!("<{},{}>", point(random), random.below(1000))
}

fn line(random: &mut Random) -> String {
    format!("{{{},{},{}}}", 1 + random.below(9), float(random), float(random))
}

fn uuid(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}

fn mac(random: &mut Random) -> String {
    format!("{:012x}", random.next() >> 16)
}

fn inet(random: &mut Random) -> String {
    if random.one_in(2) {
        return format!("10.{}.0.{}/{}", random.below(256), random.below(256), random.below(33));
    }
    format!("2001:db8::{:x}", random.below(65_536))
}

/// The bounds in order: `low` and a larger value.
fn range(low: &str, high: &str, random: &mut Random) -> String {
    match random.below(6) {
        0 => "empty".to_owned(),
        1 => format!("({low},)"),
        2 => format!("(,{high}]"),
        3 => format!("({low},{high}]"),
        _ => format!("[{low},{high})"),
    }
}

fn number_range(random: &mut Random) -> String {
    let low = random.signed() % 1_000_000;
    let high = low + 2 + random.signed().abs() % 1_000_000;
    range(&low.to_string(), &high.to_string(), random)
}

fn day_range(random: &mut Random) -> String {
    let low = random.below(3_000_000);
    let high = low + 2 + random.below(1_000_000);
    range(&format!("J{low}"), &format!("J{high}"), random)
}

fn moment_range(random: &mut Random) -> String {
    let low = random.below(3_000_000);
    let high = low + 1 + random.below(1_000_000);
    let (low, high) = (format!("J{low} {}", clock(random)), format!("J{high} {}", clock(random)));
    range(&format!("\"{low}\""), &format!("\"{high}\""), random)
}

fn many(one: fn(&mut Random) -> String, random: &mut Random) -> String {
    let ranges: Vec<_> = (0..random.below(4)).map(|_| one(random)).collect();
    format!("{{{}}}", ranges.join(","))
}

fn vector(random: &mut Random) -> String {
    (0..random.below(5)).map(|_| random.below(30_000).to_string()).collect::<Vec<_>>().join(" ")
}

fn snapshot(random: &mut Random) -> String {
    let low = 1 + random.below(1000);
    let high = low + 3 + random.below(1000);
    format!("{low}:{high}:{},{}", low, low + 1)
}

const MOMENTS: &[&str] = &[
    "infinity",
    "-infinity",
    "4713-01-01 00:00:00 BC",
    "0044-03-15 12:00:00 BC",
    "0001-12-31 23:59:59.999999 BC",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999999",
    "2026-10-01 10:00:00.1",
    "2000-02-29 24:00:00",
    "epoch",
];

const FLOATS: &[&str] = &[
    "0",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e15",
    "1e14",
    "1e-4",
    "1e-5",
    "-1.5e-07",
    "123456.7",
    "0.1",
    "1e37",
    "1.17549435e-38",
    "3.4028235e38",
    "1e-37",
    "16777216",
    "99999990",
];

const DOUBLES: &[&str] = &[
    "0",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e20",
    "1e15",
    "1e16",
    "-1.5e-07",
    "5e-324",
    "1.7976931348623157e308",
    "123456789012345680",
    "0.1",
    "0.30000000000000004",
    "1.2345678901234567e+19",
    "2.2250738585072014e-308",
    "1e-5",
];

/// The samples.
#[rustfmt::skip]
pub(super) const SAMPLES: &[Sample] = &[
    sample("boolean", &["t", "f"], |random| random.pick(&["t", "f"]).to_owned()),
    sample("smallint", &["-32768", "32767", "0"], |random| ((random.signed() >> 48) as i16).to_string()),
    sample("integer", &["-2147483648", "2147483647", "0"], int),
    sample("bigint", &["-9223372036854775808", "9223372036854775807", "9007199254740993"], |random| random.signed().to_string()),
    sample("numeric", &["0", "0.00", "-0.0", "NaN", "Infinity", "-Infinity", "12.500", "1e30", "1e-20", "1e1000"], numeric),
    sample("real", FLOATS, float4),
    sample("double precision", DOUBLES, float8),
    sample("money", &["0", "-1234.56", "92233720368547758.07", "-92233720368547758.08"], |random| (random.signed() % 1_000_000_000).to_string()),
    sample("text", TEXTS, text),
    sample("character varying", TEXTS, text),
    sample("character", &["", " ", "é", "\""], |random| text(random).chars().take(1).collect()),
    sample("bpchar", &["", "a  ", "  a"], text),
    sample("name", TEXTS, |random| text(random).chars().take(10).collect()),
    sample("\"char\"", &["", "a", "\"", "\\", " ", "\n", ","], |random| random.pick(&["a", "{", "}", "(", "NULL"]).to_owned()),
    sample("refcursor", TEXTS, text),
    sample("xml", &["", "<a/>", "<a b=\"c\">d &amp; <![CDATA[e]]></a>\n"], |random| format!("<a>{}</a>", word(random))),
    sample("bytea", &["\\x", "\\x00", "\\xff0a", "\\x68690a"], bytes),
    sample("date", &["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01", "0044-03-15 BC", "10000-01-01"], day),
    sample("timestamp without time zone", MOMENTS, timestamp),
    sample("timestamp with time zone", MOMENTS, |random| format!("{}{}", timestamp(random), zone(random))),
    sample("time without time zone", &["00:00", "24:00:00", "12:34:56.789", "23:59:59.999999"], clock),
    sample("time with time zone", &["24:00:00-15:59", "00:00+05:30", "12:00:00.1+15:59"], |random| format!("{}{}", clock(random), zone(random))),
    sample("interval", &["0", "1 day 02:00", "-1 year -2 mons +3 days", "P1Y2M3DT4H5M6.000001S", "178000000 years", "-00:00:00.000001"], interval),
    sample("json", &["null", " 1 ", "\"\"", "{}", "[]", "{ \"a\" : [ ] }", "\"\\u00e9\"", "1e30", "-0.0", "[[[[]]]]"], json),
    sample("jsonb", &["null", "1", "\"NULL\"", "{}", "[]", "{\"b\":1.0,\"a\":[1e3,-0]}"], json),
    sample("jsonpath", &["$", "$.a[*] ? (@ > 1)", "strict $.\"a b\""], |random| format!("$.{}", word(random).replace(['1'], "c"))),
    sample("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"], uuid),
    sample("inet", &["0.0.0.0/0", "::", "::1/128", "::ffff:1.2.3.4", "10.0.0.1/32"], inet),
    sample("cidr", &["0.0.0.0/0", "10.1.0.0/16", "::/0"], |random| format!("10.{}.0.0/16", random.below(256))),
    sample("macaddr", &["08:00:2b:01:02:03"], mac),
    sample("macaddr8", &["08:00:2b:01:02:03:04:05"], mac),
    sample("bit", &["0", "1"], |random| random.pick(&["0", "1"]).to_owned()),
    sample("bit varying", &["", "101"], bits),
    sample("point", &["(0,0)", "(-0,1e300)", "(NaN,Infinity)"], point),
    sample("lseg", &["[(0,0),(1,1)]"], box_),
    sample("path", &["[(0,0)]", "((0,0),(1,1))"], path),
    sample("box", &["(1,1),(0,0)"], box_),
    sample("polygon", &["((0,0))"], polygon),
    sample("line", &["{1,-1,0}"], line),
    sample("circle", &["<(0,0),0>"], circle),
    sample("oid", &["0", "4294967295"], oid),
    sample("xid", &["0", "4294967295"], oid),
    sample("cid", &["0", "4294967295"], oid),
    sample("xid8", &["0", "18446744073709551615"], |random| random.next().to_string()),
    sample("tid", &["(0,1)", "(4294967295,65535)"], |random| format!("({},{})", oid(random), random.below(65_536))),
    sample("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"], |random| format!("{:X}/{:X}", random.below(1 << 32), random.below(1 << 32))),
    sample("regproc", &["0", "pg_sleep"], oid),
    sample("regprocedure", &["0", "pg_sleep(double precision)", "format(text)"], oid),
    sample("regoper", &["0", "pg_catalog.||/"], oid),
    sample("regoperator", &["0", "*(integer,integer)"], oid),
    sample("regclass", &["pg_class"], |random| random.pick(&["pg_type", "plain", "information_schema.tables"]).to_owned()),
    sample("regcollation", &["0", "\"C\""], oid),
    sample("regtype", &["0", "integer", "timestamp with time zone", "\"char\"", "integer[]"], oid),
    sample("regrole", &["0", "postgres"], oid),
    sample("regnamespace", &["0", "pg_catalog"], oid),
    sample("regconfig", &["0", "simple"], oid),
    sample("regdictionary", &["0", "simple"], oid),
    sample("aclitem", &["postgres=r/postgres", "=rw*/postgres"], |random| random.pick(&["postgres=arwdDxt/postgres", "=X/postgres"]).to_owned()),
    sample("tsvector", &["", "'a' 'b c':1A,2 'it''s'"], |random| format!("{}:{} {}", word(random), 1 + random.below(99), word(random))),
    sample("tsquery", &["", "'a' & !'b c' | 'd':*A", "'a' <2> 'b'"], |random| format!("{} | !{}", word(random), word(random))),
    sample("txid_snapshot", &["10:20:10,14,15", "1:1:"], snapshot),
    sample("pg_snapshot", &["10:20:10,14,15", "1:1:"], snapshot),
    sample("int2vector", &["", "1 -2 3"], vector),
    sample("oidvector", &["", "4294967295 0"], vector),
    sample("int4range", &["empty", "(,)", "[1,1]"], number_range),
    sample("int8range", &["empty", "(,)", "[1,9223372036854775806]"], number_range),
    sample("numrange", &["empty", "(,)", "(1.50,2]"], number_range),
    sample("daterange", &["empty", "(,)", "[infinity,infinity]", "[2026-01-01,2026-02-01)"], day_range),
    sample("tsrange", &["empty", "(,infinity]"], moment_range),
    sample("tstzrange", &["empty", "[2026-01-01 00:00:00+02,2026-02-01 00:00:00+00)"], moment_range),
    sample("int4multirange", &["{}", "{(,)}", "{[1,2),[4,5)}"], |random| many(number_range, random)),
    sample("int8multirange", &["{}"], |random| many(number_range, random)),
    sample("nummultirange", &["{}"], |random| many(number_range, random)),
    sample("datemultirange", &["{}"], |random| many(day_range, random)),
    sample("tsmultirange", &["{}"], |random| many(moment_range, random)),
    sample("tstzmultirange", &["{}", "{[2026-01-01 00:00:00+02,)}"], |random| many(moment_range, random)),
];

//! The language by example: accepted texts, their values, and the messages for refused ones.

mod composite;
mod many;
mod mistakes;
mod personal;

use crate::change::{Cell, OldRow, Operation, Tuple};
use crate::types::{Base, Enumeration, Kind, SqlType};

use super::*;

const COLUMNS: &[(&str, &str)] = &[
    ("id", "int8"),
    ("status", "enum"),
    ("volume_ul", "numeric"),
    ("barcode", "text"),
    ("n", "int4"),
    ("small", "int2"),
    ("at", "timestamptz"),
    ("doc", "jsonb"),
    ("tags", "text[]"),
    ("email", "text"),
    ("fixed", "bpchar"),
    ("f", "float8"),
    ("where_at", "point"),
    ("ok", "bool"),
];

fn base(name: &str) -> Base {
    match name {
        "int8" => Base::Int8,
        "int4" => Base::Int4,
        "int2" => Base::Int2,
        "numeric" => Base::Numeric,
        "timestamptz" => Base::TimestampTz,
        "jsonb" => Base::Jsonb,
        "text[]" => Base::Array(Base::Text.into()),
        "bpchar" => Base::Bpchar,
        "float8" => Base::Float8,
        "bool" => Base::Bool,
        "point" => Base::Other(crate::types::Named { oid: 600, name: "point".into() }.into()),
        "enum" => Base::Enum(
            Enumeration {
                oid: 0,
                name: "lab.plate_status".into(),
                labels: ["empty", "running", "completed"].map(str::to_owned).to_vec(),
            }
            .into(),
        ),
        _ => Base::Text,
    }
}

fn kind(base: &Base) -> Kind {
    match base {
        Base::Int8 | Base::Int4 | Base::Int2 | Base::Numeric => Kind::Number,
        Base::TimestampTz => Kind::TimestampTz,
        Base::Jsonb => Kind::Json,
        Base::Bool => Kind::Bool,
        Base::Float8 => Kind::Float,
        Base::Array(_) => Kind::Array { element: Kind::Text.into(), delimiter: b',' },
        _ => Kind::Text,
    }
}

/// A table with `REPLICA IDENTITY FULL` or `DEFAULT`, and one column of personal data.
fn scope(full: bool) -> Scope {
    let name = |(index, (name, data_type)): (usize, &(&str, &str))| Name {
        name: (*name).to_owned(),
        meaning: Meaning::Column(ScopeColumn {
            index: Some(index),
            kind: kind(&base(data_type)),
            data_type: SqlType::plain(base(data_type)),
            not_null: index == 0,
            in_identity: full || index == 0,
            tagged: *name == "email",
        }),
    };
    Scope {
        of: "lab.plates".to_owned(),
        names: COLUMNS.iter().enumerate().map(name).collect(),
        origin: PseudonymOrigin { source: "urn:forebay:lab".to_owned(), table: "lab.plates".to_owned() },
    }
}

/// `?` is an unchanged TOASTed value, `-` is NULL.
struct Message {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
}

fn message(values: &[&str]) -> Message {
    let mut bytes = Vec::new();
    let mut cells = Vec::new();
    for value in values {
        cells.push(match *value {
            "?" => Cell::Unchanged,
            "-" => Cell::Null,
            text => {
                let start = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(text.as_bytes());
                Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
            }
        });
    }
    Message { bytes, cells }
}

impl Message {
    fn tuple(&self) -> Tuple<'_> {
        Tuple::new(&self.bytes, &self.cells)
    }
}

const ROW: [&str; 14] = [
    "7",
    "completed",
    "12.500",
    "PLT1",
    "10",
    "-3",
    "2026-10-01 10:00:00.5+00",
    r#"{"a": [1, {"b": "x"}], "n": null}"#,
    "{a,\"b c\",NULL}",
    "ada@example.org",
    "ab   ",
    "0.1",
    "(1,2)",
    "t",
];

fn context() -> Context {
    Context::new(HmacKey::new(b"a key of sixteen or more bytes"))
}

fn json(text: &str, operation: &Operation<'_>) -> Result<String, String> {
    let expression = Expression::parse(text, &scope(true)).map_err(|mistakes| mistakes.to_string())?;
    let row = Row::of(operation).unwrap();
    let mut out = Vec::new();
    match expression.write_json(&row, &mut context(), &mut out) {
        Ok(EvalOutcome::Unavailable) => Ok("unavailable".to_owned()),
        Ok(_) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err(error.sqlstate.to_owned()),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of expressions")]
fn expression_values_match_postgres() {
    let new = message(&ROW);
    for (text, expected) in [
        ("volume_ul", "12.500"),
        ("volume_ul / 1000", "0.01250000000000000000"),
        ("round(volume_ul, 1)", "12.5"),
        ("n / 4", "2"),
        ("n * 1.5", "15.0"),
        ("-n % 3", "-1"),
        ("-2147483648", "-2147483648"),
        ("barcode || ':' || n", "\"PLT1:10\""),
        ("status = 'completed' and volume_ul > 12", "true"),
        ("status in ('empty', 'running')", "false"),
        ("status > 'running'", "true"),
        ("case when op = 'insert' then 'new' else 'old' end", "\"new\""),
        ("case n when 10 then 'ten' end", "\"ten\""),
        ("coalesce(old.status, 'empty')", "\"empty\""),
        ("doc -> 'a' -> 1 ->> 'b'", "\"x\""),
        ("doc #>> '{a,0}'", "\"1\""),
        ("doc -> 'n'", "null"),
        ("doc ->> 'n'", "null"),
        ("doc ? 'a'", "true"),
        ("'b c' = any (tags)", "true"),
        ("tags[1]", "\"a\""),
        ("new.tags[2]", "\"b c\""),
        ("cardinality(tags)", "3"),
        ("at + interval '1 day'", "\"2026-10-02T10:00:00.5Z\""),
        ("date_trunc('month', at)", "\"2026-10-01T00:00:00Z\""),
        ("extract(epoch from at)", "1790848800.500000"),
        ("at at time zone 'UTC'", "\"2026-10-01T10:00:00.5\""),
        ("at::date", "\"2026-10-01\""),
        ("fixed = 'ab'", "true"),
        ("length(fixed)", "2"),
        ("fixed || 'x'", "\"abx\""),
        ("f + 0.2", "0.30000000000000004"),
        ("f::numeric", "0.1"),
        ("round(2.5)", "3"),
        ("round(n)", "10"),
        ("concat(ok, n, null)", "\"t10\""),
        ("ok::text", "\"true\""),
        ("where_at", "\"(1,2)\""),
        ("where_at is not null", "true"),
        ("barcode like 'PLT%' and barcode not ilike '%x%'", "true"),
        ("'ab'::char(4) like 'ab'", "false"),
        ("'ab'::text like 'ab'::char(4)", "true"),
        ("barcode in ((barcode::int)::text, 'a', 'PLT1')", "true"),
        ("n between 1 and 10", "true"),
        ("null::int is distinct from n", "true"),
        ("(null and false) is false", "true"),
        ("not (n > 5 or ok)", "false"),
        ("E'a\\tb'", "\"a\\tb\""),
        ("$$it's$$", "\"it's\""),
        ("greatest(n, 3, null)", "10"),
        ("substring(barcode from 2 for 2)", "\"LT\""),
        ("barcode < 'Q' collate \"C\"", "true"),
        ("'{1,2}'::int[]", "[1,2]"),
        ("md5('a')", "\"0cc175b9c0f1b6a831c399e269772661\""),
        ("1e3", "1000"),
        ("nullif('{\"a\": null}'::jsonb -> 'a', 'null')::int", "null"),
        // Arguments at the limits of their range.
        ("right(barcode, -2147483648)", "\"PLT1\""),
        ("left(barcode, -2147483648)", "\"\""),
        ("substring(barcode, 2147483647, 2147483647)", "\"\""),
        ("length(round(n, 2147483647)::text)", "16386"),
        ("round(volume_ul, -2147483648)", "0"),
        ("interval '-1 days' - interval '-2147483648 days'", "\"2147483647 days\""),
        ("time '12:00:00' + interval '2562047788:00:54.775807'", "\"07:59:05.224191\""),
        ("at + time '01:00' - interval '1 day' * 2", "\"2026-09-29T11:00:00.5Z\""),
        ("make_interval(days => n, hours => 1) / 2", "\"5 days 00:30:00\""),
        ("lpad(n::text, 5, '0') || repeat('-', 2)", "\"00010--\""),
        (
            "jsonb_build_object('code', barcode, 'n', n, 'none', null)",
            r#"{"n":10,"code":"PLT1","none":null}"#,
        ),
        ("doc - 'n' || '{\"z\": 1}'", r#"{"a":[1,{"b":"x"}],"z":1}"#),
        ("doc @> '{\"a\": [{}]}' and doc ?| array['x', 'n']", "true"),
        ("(status, n) in (('empty', 10), ('completed', 10))", "true"),
        ("'x' <> all (tags)", "null"),
        ("'a' <> all (tags)", "false"),
        ("id = any ('{1,7}'::int[])", "true"),
        ("tags && array[barcode, 'a']", "true"),
        ("array_to_string(tags, ';', '?')", "\"a;b c;?\""),
        ("to_char(at, 'YYYY-MM-DD\"T\"HH24:MI')", "\"2026-10-01T10:00\""),
        ("greatest(barcode collate \"C\", 'a')", "\"a\""),
        ("(n & 6, n << 3, ~ n) = (2, 80, -11)", "true"),
        // Constants in a list are evaluated first.
        ("n in (1 / (n - 10), 10, 11)", "true"),
        ("n in (10, 1 / (n - 10), 11)", "true"),
    ] {
        assert_eq!(json(text, &Operation::Insert { new: new.tuple() }).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn failures_have_postgres_sqlstate_and_no_values() {
    let new = message(&ROW);
    for (text, sqlstate) in [
        ("n / (n - 10)", "22012"),
        ("small * 32767::int2", "22003"),
        ("n * 1000000000", "22003"),
        ("barcode::int", "22P02"),
        ("volume_ul::numeric(3, 2)", "22003"),
        ("left(barcode, 1)::bool", "22P02"),
        ("split_part(barcode, 'L', n - 10)", "22023"),
        ("at + interval '1 year' * n * 1000000", "22008"),
        ("repeat(barcode, n * 10000000)", "54000"),
        ("doc - n", "22023"),
        ("jsonb_build_object(nullif(barcode, 'PLT1'), n)", "22023"),
        ("sqrt(small)", "2201F"),
        ("at + time 'noon'", "mistake"),
    ] {
        match json(text, &Operation::Insert { new: new.tuple() }) {
            Err(found) if found.len() == 5 => assert_eq!(found, sqlstate, "{text}"),
            other => assert!(sqlstate == "mistake" && other.is_err(), "{text}: {other:?}"),
        }
    }
    let expression = Expression::parse("1 + barcode::int", &scope(true)).unwrap();
    let row = Row::of(&Operation::Insert { new: new.tuple() }).unwrap();
    let error = expression.write_json(&row, &mut context(), &mut Vec::new()).unwrap_err();
    assert!(!error.to_string().contains("PLT1") && error.place.column == 5, "{error}");
}

#[test]
fn unsent_value_is_unavailable() {
    let mut values = ROW;
    values[3] = "?";
    let (new, key) =
        (message(&values), message(&["7", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"]));
    let update = Operation::Update { old: Some(OldRow::Key(key.tuple())), new: new.tuple() };
    let value = |text: &str| {
        let expression = Expression::parse(text, &scope(false)).unwrap();
        let mut out = Vec::new();
        let outcome = expression.write_json(&Row::of(&update).unwrap(), &mut context(), &mut out).unwrap();
        (
            outcome == EvalOutcome::Unavailable,
            expression.may_be_unavailable(),
            String::from_utf8(out).unwrap(),
        )
    };
    for text in [
        "barcode",
        "barcode || 'x'",
        "barcode = 'a'",
        "coalesce(barcode, 'x')",
        "old.n",
        "ok and barcode = 'a'",
    ] {
        assert_eq!(value(text), (true, true, String::new()), "{text}");
    }
    for (text, expected) in [
        ("barcode is null", "false"),
        ("barcode = 'a' or ok", "true"),
        ("barcode = 'a' and not ok", "false"),
        ("coalesce(n, length(barcode))", "10"),
        ("barcode || null", "null"),
        ("old.id", "7"),
    ] {
        let (unavailable, _, out) = value(text);
        assert_eq!((unavailable, out.as_str()), (false, expected), "{text}");
    }
    let condition = Expression::parse_condition("barcode = 'a'", &scope(false)).unwrap();
    assert_eq!(condition.holds(&Row::of(&update).unwrap(), &mut context()), Ok(Truth::Unavailable));
}

#[test]
fn old_and_new_rows_are_distinguished() {
    let (mut before, mut after) = (ROW, ROW);
    (before[1], before[4], after[3]) = ("running", "9", "?");
    let (old, new) = (message(&before), message(&after));
    let update = Operation::Update { old: Some(OldRow::Full(old.tuple())), new: new.tuple() };
    for (text, expected) in [
        ("old.status", "\"running\""),
        ("new.n - old.n", "1"),
        ("barcode", "\"PLT1\""),
        ("changed()", "[\"status\",\"n\"]"),
        ("'n' = any (changed())", "true"),
        ("op", "\"update\""),
    ] {
        assert_eq!(json(text, &update).as_deref(), Ok(expected), "{text}");
    }
    let delete = Operation::Delete { old: OldRow::Full(old.tuple()) };
    for (text, expected) in [("n", "9"), ("new.n", "null"), ("old.n", "9"), ("changed()", "null")] {
        assert_eq!(json(text, &delete).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn pseudonym_is_stable() {
    let new = message(&ROW);
    let insert = Operation::Insert { new: new.tuple() };
    // HMAC-SHA256("a key of sixteen or more bytes", domain, NUL, "ada@example.org"), the first sixteen bytes.
    for (text, expected) in [
        ("hmac(email)", "\"p_2hA5Ptp5EjMSQYK7LuiUTA\""),
        ("hmac(old.email)", "null"),
        ("hmac(email, domain => 'person')", "\"p_z9xI4HYC7frHmlsoGIp9jw\""),
        ("hmac(email, domain => 'urn:forebay:lab/lab.plates.email')", "\"p_2hA5Ptp5EjMSQYK7LuiUTA\""),
        // Without a domain, as builds without domains computed it.
        ("hmac(email, domain => '')", "\"p_AInQz6dT4s6DxR3MFFD8gw\""),
        ("hmac_previous(email)", "null"),
    ] {
        assert_eq!(json(text, &insert).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(json("hmac(null)", &insert).as_deref(), Ok("null"));
    let expression = Expression::parse("hmac(email)", &scope(true)).unwrap();
    assert!(expression.uses_hmac());
    let row = Row::of(&insert).unwrap();
    let error = expression.write_json(&row, &mut Context::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.sqlstate, "55000");
}

#[test]
fn unsupported_syntax_is_refused_with_a_reason() {
    for (text, said) in [
        ("volme_ul > 0", "did you mean volume_ul?"),
        ("status = 'complete'", "did you mean 'completed'?"),
        ("barcode > 'a'", "collate \"C\""),
        ("barcode = n", "cannot be compared"),
        ("now()", "clock is not available"),
        ("current_date", "clock is not available"),
        ("user", "session functions"),
        ("barcode ~ '\\w'", "locale"),
        ("count(*)", "aggregates"),
        ("sum(n)", "aggregates are not"),
        ("(select 1)", "subquery"),
        ("n = 1 = ok", "parentheses"),
        ("a.b.c", "new.x or old.x"),
        ("lookup.x", "no row named"),
        ("timestamptz 'now'", "words such as now"),
        ("at at time zone 'Europe/Berlin'", "only UTC"),
        ("n::money", "not supported"),
        ("1 +", ""),
        ("'abc", ""),
        ("n; n", "semicolon"),
        ("0x10", "kind of literal"),
        ("10L", ""),
        ("'a' 'b'", "adjacent string"),
        ("$1", "parameters are not"),
        ("case when n then 1 end", "must be true or false"),
        ("coalesce(n, barcode)", "cannot be matched"),
        ("where_at = where_at", "cannot be compared"),
        ("round(f, 2)", "numeric"),
        ("decode('00', 'hex') || 'lit'", "'…'::text"),
        ("'lit' || decode('00', 'hex')", "'…'::text"),
        ("lower(barcode || left(barcode collate \"C\", 2))", "ASCII letters"),
        ("barcode collate \"C\" ilike 'ü'", "ASCII letters"),
        ("'x'::int", "integer: 'x'"),
        ("'a\u{0}b'", "zero byte"),
        ("", "missing expression"),
    ] {
        let mistakes = Expression::parse(text, &scope(true)).unwrap_err();
        assert!(mistakes.to_string().contains(said), "{text}:\n{mistakes}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Expression::parse(&deep, &scope(true)).is_err());
    assert!(Expression::parse("1+".repeat(900).trim_end_matches('+'), &scope(true)).is_err());
    assert!(Expression::parse(&"x".repeat(40_000), &scope(true)).is_err());
    let long = vec!["n = 1"; 400].join(" or ");
    assert!(Expression::parse(&long, &scope(true)).is_ok());
}

#[test]
fn error_shows_its_place() {
    let text = "id,\n  volme_ul as v,   -- how much\n  status = 'complete' as done";
    let mistakes = Expression::parse_list(text, &scope(true)).unwrap_err();
    assert_eq!(
        mistakes.to_string(),
        "line 2, column 3: lab.plates has no column volme_ul\n      \
           volme_ul as v,   -- how much\n      ^^^^^^^^\n    hint: did you mean volume_ul?\n\
         line 3, column 12: invalid input value for the enum (lab.plate_status: 'complete')\n      \
           status = 'complete' as done\n               ^^^^^^^^^^\n    hint: did you mean 'completed'?"
    );
}

#[test]
fn select_list_yields_names_and_comments() {
    let text = "id, -- Number of the plate\n\"barcode\" as code,\n old.status,\n n + 1 as next -- one more\n";
    let fields = Expression::parse_list(text, &scope(true)).unwrap();
    let actual: Vec<_> = fields
        .iter()
        .map(|field| (field.name.as_str(), field.comment.as_deref(), field.place.line))
        .collect();
    assert_eq!(
        actual,
        [
            ("id", Some("Number of the plate"), 1),
            ("code", None, 2),
            ("status", None, 3),
            ("next", Some("one more"), 4)
        ]
    );
    for (text, said) in [
        ("n + 1", "unnamed"),
        ("id, n as id", "duplicate name"),
        ("*", ""),
        ("id,,n", "before this comma"),
        ("", "empty list"),
    ] {
        let mistakes = Expression::parse_list(text, &scope(true)).unwrap_err();
        assert!(mistakes.to_string().contains(said), "{text}:\n{mistakes}");
    }
}

#[test]
fn field_of_source_event_expands_to_its_expression() {
    let fields =
        Expression::parse_list("id, round(volume_ul) as volume, hmac(email) as who", &scope(true)).unwrap();
    let of = |field: SelectField| Name { name: field.name, meaning: Meaning::Field(field.expression) };
    let scope = Scope {
        of: "lab.plate_completed.v2".to_owned(),
        names: fields.into_iter().map(of).collect(),
        origin: PseudonymOrigin::default(),
    };
    let expression = Expression::parse("volume * 2", &scope).unwrap();
    assert_eq!((expression.reads_new(), expression.tagged()), (&["volume_ul".to_owned()][..], None));
    let new = message(&ROW);
    let mut out = Vec::new();
    let row = Row::of(&Operation::Insert { new: new.tuple() }).unwrap();
    expression.write_json(&row, &mut context(), &mut out).unwrap();
    assert_eq!(out, b"26");
    assert!(Expression::parse("old.volume", &scope).is_err());
}

#[test]
fn expression_reports_type_and_columns_read() {
    for (text, data_type, nullable, constant, new, old) in [
        ("id", "bigint", false, false, "id", ""),
        ("n + small", "integer", true, false, "n,small", ""),
        ("1 + 1", "integer", false, true, "", ""),
        ("old.id", "bigint", true, false, "", "id"),
        ("id = 1 or ok is true", "boolean", false, false, "id,ok", ""),
        ("coalesce(n, 0)", "integer", false, false, "n", ""),
        ("barcode::varchar(3)", "character varying(3)", true, false, "barcode", ""),
        ("volume_ul * 2", "numeric", true, false, "volume_ul", ""),
        ("op", "text", false, false, "", ""),
    ] {
        let expression = Expression::parse(text, &scope(true)).unwrap();
        assert_eq!(expression.data_type().to_string(), data_type, "{text}");
        assert_eq!((expression.is_nullable(), expression.is_constant()), (nullable, constant), "{text}");
        assert_eq!(
            (expression.reads_new().join(","), expression.reads_old().join(",")),
            (new.into(), old.into()),
            "{text}"
        );
    }
}

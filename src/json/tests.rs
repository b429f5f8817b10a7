//! One table of examples per kind, and the property that no input breaks the line.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn array(element: Kind) -> Kind {
    Kind::Array { element: Arc::new(element), delimiter: b',' }
}

fn composite(fields: &[(&str, Kind)]) -> Kind {
    Kind::Composite { fields: fields.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect() }
}

fn json(kind: &Kind, text: &[u8]) -> Result<String, ValueError> {
    let mut out = b"before".to_vec();
    let written = write_value(&mut out, kind, text);
    let added = String::from_utf8(out).unwrap();
    let added = added.strip_prefix("before").unwrap();
    if written.is_err() {
        assert_eq!(added, "", "an error leaves the buffer as it was");
    }
    written.map(|()| added.to_owned())
}

fn check(kind: &Kind, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(json(kind, text.as_bytes()).as_deref(), Ok(*expected), "{kind:?} {text:?}");
    }
}

fn refuse(kind: &Kind, cases: &[&str]) {
    for text in cases {
        assert!(json(kind, text.as_bytes()).is_err(), "{kind:?} {text:?}");
    }
}

#[test]
fn strings_are_escaped_only_where_json_requires_it() {
    check(
        &Kind::Text,
        &[
            ("", r#""""#),
            ("plain ü €\u{2028}\u{7f}", "\"plain ü €\u{2028}\u{7f}\""),
            ("\"\\\u{8}\u{c}\n\r\t\u{1}\u{1f}/", r#""\"\\\b\f\n\r\t\u0001\u001f/""#),
        ],
    );
    assert_eq!(json(&Kind::Text, b"a\xff"), Err(ValueError::NotUtf8));
}

#[test]
fn numbers_keep_their_digits() {
    check(&Kind::Number, &[("12.500", "12.500"), ("-7", "-7"), ("0.00", "0.00"), ("NaN", "\"NaN\"")]);
    refuse(&Kind::Number, &["", "-", "01", ".5", "5.", "1e5", "0x1", "1 ", "1\n", "nan", "+1", "--1"]);
}

#[test]
fn exponents_are_expanded() {
    check(
        &Kind::Float,
        &[
            ("1e+20", "100000000000000000000"),
            ("-1.5e-07", "-0.00000015"),
            ("1.25e+01", "12.5"),
            ("12.5e-01", "1.25"),
            ("1.5e+00", "1.5"),
            ("-0", "0"),
            ("-Infinity", "\"-Infinity\""),
        ],
    );
    refuse(
        &Kind::Float,
        &["1e", "1e5", "e+5", "1e+9999", "1e+5e+5", "1.e+5", "1e+-5", "0e+2", "-0.5e+01", "0e-2"],
    );
}

#[test]
fn timestamps_are_rfc_3339() {
    check(&Kind::Date, &[("0044-03-15 BC", "\"0044-03-15 BC\""), ("infinity", "\"infinity\"")]);
    check(&Kind::Timestamp, &[("12345-01-02 03:04:05.6 BC", "\"12345-01-02T03:04:05.6 BC\"")]);
    check(
        &Kind::TimestampTz,
        &[
            ("2026-10-01 10:00:00.123456+00", "\"2026-10-01T10:00:00.123456Z\""),
            ("0044-03-15 12:00:00+00 BC", "\"0044-03-15T12:00:00Z BC\""),
            ("-infinity", "\"-infinity\""),
        ],
    );
}

#[test]
fn values_of_other_session_settings_are_refused() {
    refuse(&Kind::Date, &["10/01/2026", "01.10.2026", "26-10-01"]);
    refuse(&Kind::Timestamp, &["Thu Oct 01 10:00:00 2026", "2026-10-01", "2026-10-01 10:00:00\""]);
    refuse(
        &Kind::TimestampTz,
        &["2026-10-01 10:00:00+02", "2026-10-01 10:00:00", "2026-10-01 10:00:00+00:30"],
    );
    refuse(&Kind::Bytea, &["abc\\000", "\\x0", "\\x0g"]);
    refuse(&Kind::Bool, &["true", ""]);
}

#[test]
fn bytea_is_base64_across_chunks() {
    check(&Kind::Bytea, &[("\\x", "\"\""), ("\\x68", "\"aA==\""), ("\\x6869", "\"aGk=\"")]);
    for length in 180..400 {
        let raw: Vec<u8> = (0..=255).cycle().take(length).collect();
        let hex = raw.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let expected = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &raw);
        check(&Kind::Bytea, &[(&format!("\\x{hex}"), &format!("\"{expected}\""))]);
    }
}

#[test]
fn json_is_embedded_without_whitespace() {
    check(
        &Kind::Json,
        &[
            (" {\"a b\" : [ 1.50e+3 ,\n-0, true ] ,\t\"c\":{ } }\r\n", r#"{"a b":[1.50e+3,-0,true],"c":{}}"#),
            (r#""\u00e9 \" \\ \n é""#, r#""\u00e9 \" \\ \n é""#),
            ("[[],[null,{}],false]", "[[],[null,{}],false]"),
            (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        ],
    );
}

/// The replacement has as many bytes, so nothing can grow.
#[test]
fn lone_surrogate_becomes_replacement_character() {
    check(
        &Kind::Json,
        &[
            (r#""\ud83e\udd80 \uD83E\uDD80""#, r#""\ud83e\udd80 \uD83E\uDD80""#),
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""a\uDFFFb\u00e9""#, r#""a\ufffdb\u00e9""#),
            (r#""\ud800\ud83e\udd80\udd80""#, r#""\ufffd\ud83e\udd80\ufffd""#),
            (r#""\udd80\ud83e""#, r#""\ufffd\ufffd""#),
            (r#""\ud800\n\ud800\\ud800\u0000""#, r#""\ufffd\n\ufffd\\ud800\u0000""#),
            (r#"{"\ud800" : [ "\udc00" ]}"#, r#"{"\ufffd":["\ufffd"]}"#),
        ],
    );
    refuse(&Kind::Json, &[r#""\ud800"#, r#""\ud800\""#, r#""\ud800\u""#, r#""\ud800\udc0""#, r#""\ud80g""#]);
}

#[test]
fn broken_json_cannot_break_the_line() {
    refuse(
        &Kind::Json,
        &[
            "",
            " ",
            "{",
            "[",
            "]",
            "{]",
            "[}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "1 2",
            "1,2",
            "\"a",
            "\"\\",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "01",
            "1.",
            "-",
            "1e",
            ".5",
            "+1",
            "tru",
            "truex",
            "nul",
            "[1 2]",
            "{\"a\" 1}",
            "[1]]",
            "{\"a\":1}}",
            "\u{feff}1",
        ],
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    check(&Kind::Json, &[(&nested(900), &nested(900))]);
    assert_eq!(json(&Kind::Json, nested(901).as_bytes()), Err(ValueError::TooDeep(900)));
    assert_eq!(json(&Kind::Json, "[".repeat(1 << 20).as_bytes()), Err(ValueError::TooDeep(900)));
    assert_eq!(json(&array(Kind::Text), "{".repeat(1 << 20).as_bytes()), Err(ValueError::TooDeep(6)));
    let deep = (0..40).fold(Kind::Text, |inner, _| composite(&[("a", inner)]));
    assert_eq!(json(&deep, "(".repeat(40).as_bytes()).unwrap_err(), ValueError::Malformed("composite type"));
    let deep = (0..40).fold(Kind::Number, |inner, _| Kind::Vector { element: Arc::new(inner) });
    assert_eq!(json(&deep, b"1"), Err(ValueError::TooDeep(MAX_NESTING)));
}

#[test]
fn growth_is_bounded() {
    let name = "n".repeat(1000);
    let rows = array(composite(&[(&name, Kind::Text), ("b", Kind::Text)]));
    let text = format!("{{{}\"(,)\"}}", "\"(,)\",".repeat(MAX_LENGTH / 1000));
    assert_eq!(json(&rows, text.as_bytes()), Err(ValueError::TooLong));
}

#[test]
fn arrays_ignore_their_bounds() {
    check(
        &array(Kind::Text),
        &[
            ("{}", "[]"),
            (
                r#"{a,NULL,"NULL","",null,"a \"b\" \\ {,}"}"#,
                r#"["a",null,"NULL","","null","a \"b\" \\ {,}"]"#,
            ),
            ("{{a,b},{c,NULL}}", r#"[["a","b"],["c",null]]"#),
            ("[2:3]={a,b}", r#"["a","b"]"#),
            ("[-1:0][5:5]={{a},{b}}", r#"[["a"],["b"]]"#),
        ],
    );
    check(&array(array(Kind::Number)), &[(r#"{"{1,2}",NULL,"{}"}"#, "[[1,2],null,[]]")]);
    check(
        &array(Kind::Json),
        &[(r#"{"{\"a\": \"b \\\" c\"}","null",NULL}"#, r#"[{"a":"b \" c"},null,null]"#)],
    );
    let boxes = Kind::Array { element: Arc::new(Kind::Text), delimiter: b';' };
    check(&boxes, &[("{(1,1),(0,0);(2,2),(1,1)}", r#"["(1,1),(0,0)","(2,2),(1,1)"]"#)]);
    check(&Kind::Vector { element: Arc::new(Kind::Number) }, &[("", "[]"), ("1 -2 3", "[1,-2,3]")]);
    refuse(
        &array(Kind::Text),
        &[
            "",
            "{",
            "a",
            "{a",
            "{a,}",
            "{,a}",
            "{a}b",
            "{a\"b\"}",
            "{\"a\"b}",
            "{\"a}",
            "{a}}",
            "{{a}",
            "[1:1]{a}",
            "[1:1x]={a}",
            "{\"\\",
            "{a\\b}",
        ],
    );
    refuse(&array(Kind::Number), &["{a}", "{1,{2,x}}"]);
}

#[test]
fn composites_are_objects() {
    let inner = composite(&[("x", Kind::Number), ("t", Kind::Text)]);
    let outer = composite(&[("a \"q\"", array(inner.clone())), ("b", inner.clone()), ("c", Kind::Bool)]);
    check(&inner, &[("(,)", r#"{"x":null,"t":null}"#), (r#"(1,"")"#, r#"{"x":1,"t":""}"#)]);
    check(&inner, &[(r#"(1,"a ""b"" \\ (,)")"#, r#"{"x":1,"t":"a \"b\" \\ (,)"}"#)]);
    check(
        &outer,
        &[(
            r#"("{""(1,\\""a b\\"")"",NULL}","(2,""x """"y"""" z"")",t)"#,
            r#"{"a \"q\"":[{"x":1,"t":"a b"},null],"b":{"x":2,"t":"x \"y\" z"},"c":true}"#,
        )],
    );
    check(&composite(&[]), &[("()", "{}")]);
    check(&composite(&[("a", Kind::Text)]), &[("()", r#"{"a":null}"#)]);
    refuse(
        &inner,
        &["", "(", "(1,a", "1,a", "(1,a)x", "(1,\"a\"b)", "(1,\"a)", "(1,a(b)", "(1\n,a)", "(1,a\\b)"],
    );
    assert_eq!(json(&inner, b"(1)"), Err(ValueError::FieldCount { expected: 2, found: 1 }));
    assert_eq!(json(&inner, b"(1,a,)"), Err(ValueError::FieldCount { expected: 2, found: 3 }));
}

#[test]
fn hstore_is_an_object_of_strings() {
    let text = r#""a"=>"1", "b \" c"=>NULL, ""=>"NULL""#;
    check(&Kind::Hstore, &[("", "{}"), (text, r#"{"a":"1","b \" c":null,"":"NULL"}"#)]);
    refuse(
        &Kind::Hstore,
        &["a", "\"a\"", "\"a\"=>", "\"a\"=>b", "\"a\"=>\"b\",", "\"a\"=>\"b\", ", "NULL=>\"a\""],
    );
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let leaf = prop::sample::select(vec![
        Kind::Bool,
        Kind::Number,
        Kind::Float,
        Kind::Date,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Bytea,
        Kind::Json,
        Kind::Text,
        Kind::Hstore,
    ]);
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(array),
            inner.clone().prop_map(|element| Kind::Vector { element: Arc::new(element) }),
            prop::collection::vec(inner, 0..3).prop_map(|kinds| Kind::Composite {
                fields: kinds.into_iter().enumerate().map(|(n, kind)| (format!("f{n}\n"), kind)).collect()
            }),
        ]
    })
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\"",
        "\\",
        ",",
        ";",
        ":",
        "NULL",
        "=>",
        "=",
        "\n",
        " ",
        "1",
        "-",
        "0",
        ".",
        "e+2",
        "\\x68",
        "a",
        "t",
        "true",
        "null",
        "é",
        "2026-10-01",
        "12:00:00",
        "+00",
    ]);
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_one_json_value_on_one_line(
        kind in any_kind(),
        text in prop_oneof![any_text(), prop::collection::vec(any::<u8>(), 0..24)],
    ) {
        if let Ok(written) = json(&kind, &text) {
            prop_assert!(!written.contains('\n'));
            // Not `Value`: embedded documents may contain numbers that no f64 or u64 can hold.
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&written).is_ok(), "{}", written);
        }
    }
}

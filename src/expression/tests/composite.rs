//! Values of composite types, which are treated as opaque text except for IS NULL.

use super::*;

#[test]
fn composite_is_null_by_its_fields_and_stays_an_object() {
    let fields = [("street".to_owned(), Kind::Text), ("no".to_owned(), Kind::Number)];
    let composite = Kind::Composite { fields: fields.into() };
    let base = Base::Other(crate::types::Named { oid: 0, name: "address".into() }.into());
    let column = |index, base: Base, kind| {
        Meaning::Column(ScopeColumn {
            index: Some(index),
            kind,
            data_type: SqlType::plain(base),
            not_null: false,
            in_identity: true,
            tagged: false,
        })
    };
    let list = Kind::Array { element: composite.clone().into(), delimiter: b',' };
    let one = Name { name: "home".to_owned(), meaning: column(0, base.clone(), composite) };
    let several = Name { name: "all_of_them".to_owned(), meaning: column(1, Base::Array(base.into()), list) };
    let scope =
        Scope { of: "lab.people".to_owned(), names: vec![one, several], origin: PseudonymOrigin::default() };
    let json = |home: &str, text: &str| {
        let new = message(&[home, r#"{"(a,3)",NULL}"#]);
        let expression = Expression::parse(text, &scope).unwrap();
        let mut out = Vec::new();
        let insert = Operation::Insert { new: new.tuple() };
        expression.write_json(&Row::of(&insert).unwrap(), &mut context(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    for (home, is_null, is_not_null) in [
        ("-", "true", "false"),
        ("(,)", "true", "false"),
        ("(a,)", "false", "false"),
        ("(,3)", "false", "false"),
        ("(\"\",3)", "false", "true"),
        ("(\"x, \"\"y\"\"\",3)", "false", "true"),
        ("(\"x,,)\",)", "false", "false"),
    ] {
        assert_eq!(json(home, "home is null"), is_null, "{home}");
        assert_eq!(json(home, "home is not null"), is_not_null, "{home}");
    }
    for text in ["coalesce(all_of_them, '{}')", "case when true then all_of_them end"] {
        assert_eq!(json("-", text), r#"[{"street":"a","no":3},null]"#, "{text}");
    }
    assert_eq!(json("-", "all_of_them[1]"), r#"{"street":"a","no":3}"#);
    assert_eq!(json("-", "all_of_them[2] is null"), "true");
}

//! The personal-data mark of a column, and what removes it.

use super::*;

#[test]
fn personal_data_tag_follows_every_operator() {
    for (text, tagged) in [
        ("email", true),
        ("upper(email) || 'x'", true),
        ("email = 'a'", true),
        ("email is null", true),
        ("case when email like 'a%' then 1 else 2 end", true),
        ("coalesce(barcode, email)", true),
        ("hmac(email)", false),
        ("hmac(email) || email", true),
        ("hmac(email) || 'x'", true),
        ("hmac(email) = hmac('ada@example.org')", true),
        ("hmac(email) = hmac(barcode)", true),
        ("case when hmac(email) in (hmac('a'), hmac('b')) then 41 end", true),
        ("case when hmac(email) = 'p_x' then 1 else 2 end", true),
        ("left(hmac(email), 4)", true),
        ("hmac(email) is distinct from 'p_x'", true),
        ("nullif(hmac(email), 'p_x')", true),
        ("coalesce(hmac(email), 'none')", false),
        ("coalesce(hmac(email), 'none') = 'p_x'", true),
        ("coalesce(hmac(email), email)", true),
        ("hmac(email) is null", false),
        ("hmac(email) is not null", false),
        ("hmac(hmac(email))", false),
        ("hmac(hmac(email)) = 'p_x'", true),
        ("hmac(barcode) = 'p_x'", false),
        ("hmac(email)::text", false),
        ("hmac_previous(email)", false),
        ("hmac_previous(email) = hmac(email)", true),
        ("coalesce(hmac_previous(email), hmac(email))", false),
        ("coalesce(hmac_previous(email), email)", true),
        ("barcode", false),
    ] {
        let expression = Expression::parse(text, &scope(true)).unwrap();
        assert_eq!(expression.tagged().is_some(), tagged, "{text}");
    }
}

/// Every function and operator of the table, with personal data in one of its arguments.
#[test]
fn personal_data_tag_follows_every_function() {
    use crate::expression::def::Slot;
    use crate::expression::function::all;
    let of = |slot: Slot, column: &str| match slot {
        Slot::Bytea => format!("convert_to({column}, 'UTF8')"),
        Slot::Interval => format!("make_interval(days => {column}::int)"),
        Slot::TextArray | Slot::AnyArray => format!("array[{column}]"),
        slot => format!("({column}::{})", slot.base()),
    };
    let mut count = 0;
    for def in all() {
        for (tagged, _) in def.arguments.iter().enumerate() {
            let arguments = def.arguments.iter().enumerate();
            let arguments: Vec<_> = arguments
                .map(|(nth, slot)| of(*slot, if nth == tagged { "email" } else { "barcode" }))
                .collect();
            let is_word = def.name.starts_with(|letter: char| letter.is_ascii_alphabetic());
            let text = match arguments.as_slice() {
                _ if def.name == "position" => format!("position({} in {})", arguments[1], arguments[0]),
                [one] if !is_word => format!("{} {one}", def.name),
                [one, other] if !is_word => format!("{one} {} {other}", def.name),
                _ => format!("{}({})", def.name, arguments.join(", ")),
            };
            let expression =
                Expression::parse(&text, &scope(true)).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(expression.tagged().is_some(), "{text}");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
    for text in [
        "email ~ 'a'",
        "email !~* 'a'",
        "regexp_replace(email, 'a', '')",
        "substring(email from '[a-z]+')",
        "array[email]",
        "(array[email, barcode])[1]",
        "(array[barcode, email])[1:1]",
        "tags[length(email):2]",
        "tags || email",
        "email || tags",
        "tags || array[email]",
        "tags && array[email]",
        "array[email] @> tags",
        "jsonb_build_object('a', email)",
        "jsonb_build_object(email, 1)",
        "jsonb_build_array(barcode, email)",
        "to_jsonb(email)",
        "(barcode, email) = ('a', 'b')",
        "(email collate \"C\", barcode collate \"C\") < ('a', 'b')",
        "barcode in ('a', email)",
        "n = any (array[length(email)])",
        "at at time zone make_interval(hours => length(email))",
        "to_char(email::timestamptz, 'YYYY')",
    ] {
        let expression =
            Expression::parse(text, &scope(true)).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(expression.tagged().is_some(), "{text}");
    }
}

#[test]
fn pseudonym_of_a_few_values_is_refused() {
    for (text, refused) in [
        ("hmac(email = 'a')", true),
        ("hmac(email is null)", true),
        ("hmac((email like 'a%')::text)", true),
        ("hmac(case when email = 'a' then 'x' else 'y' end)", true),
        ("hmac(left(email, 1))", true),
        ("hmac(upper(left(email, 2)))", true),
        ("hmac(substring(email, 2, 1))", true),
        ("hmac(substring(email from '[a-z]'))", true),
        ("hmac(substring(email from '^[a-z]+'))", false),
        ("hmac(left(email, 9))", false),
        ("hmac(lower(email))", false),
        ("hmac(case when email = 'a' then barcode else email end)", false),
        ("hmac(barcode = 'a')", false),
        ("hmac(email::char(2))", true),
        ("hmac(email::varchar(1))", true),
        ("hmac(email::varchar(9))", false),
        ("hmac(length(email))", true),
        ("hmac(sign(email::int))", true),
        ("hmac(email::int % 7)", true),
        ("hmac(mod(email::int, 7))", true),
        ("hmac(email::int % 100000)", false),
        ("hmac(email::int)", false),
        ("hmac(extract(year from email::date))", true),
        ("hmac(extract(epoch from email::date))", false),
        ("hmac(email::date)", false),
        ("hmac(jsonb_typeof(email::jsonb))", true),
        ("hmac(nullif(left(email, 1), 'x'))", true),
        ("hmac(concat('x', left(email, 1)))", true),
        ("hmac(greatest(length(email), 5))", true),
        ("hmac(md5(left(email, 1)))", true),
        ("hmac('x' || left(email, 1))", true),
        ("hmac(concat(barcode, left(email, 1)))", false),
        ("hmac(hmac(email))", false),
        ("hmac(left(email, 1), weak => true)", false),
        ("hmac(email = 'a', weak => true)", false),
        ("hmac(hmac(email = 'a', weak => true))", true),
        ("hmac(left(email, 1), weak => false)", true),
        ("hmac(email, weak => 1)", true),
        ("hmac(email, weak => null)", true),
        ("hmac(email, true)", true),
        ("hmac(email, strong => true)", true),
        ("hmac(email, domain => 'person')", false),
        ("hmac(left(email, 1), domain => 'person')", true),
        ("hmac(left(email, 1), domain => 'person', weak => true)", false),
        ("hmac(email, domain => email)", true),
        ("hmac_previous(left(email, 1))", true),
        ("hmac(email, domain => 7)", true),
        ("hmac(email, domain => 'a\0b')", true),
        ("hmac(weak => true)", true),
        ("hmac()", true),
    ] {
        let refusal = Expression::parse(text, &scope(true)).err();
        assert_eq!(refusal.is_some(), refused, "{text}: {refusal:?}");
    }
}

/// A person who chooses a value in one column learns no pseudonym of another column.
#[test]
fn pseudonyms_of_other_columns_and_types_differ() {
    let values: Vec<&str> =
        COLUMNS.iter().map(|(name, _)| if ["n", "id"].contains(name) { "1" } else { "-" }).collect();
    let mut values = values;
    for (at, (name, _)) in COLUMNS.iter().enumerate() {
        if ["barcode", "email"].contains(name) {
            values[at] = "1";
        }
    }
    let new = message(&values);
    let insert = Operation::Insert { new: new.tuple() };
    let of = |text: &str| json(text, &insert).unwrap();
    let texts =
        ["hmac(n)", "hmac(id)", "hmac(email)", "hmac(barcode)", "hmac('1')", "hmac(1)", "hmac(n % 7)"];
    let pseudonyms: std::collections::BTreeSet<String> = texts.iter().map(|text| of(text)).collect();
    // The last three are over the same value: two without a column, and one of column n.
    assert_eq!(pseudonyms.len(), 5, "{pseudonyms:?}");
    assert_eq!(of("hmac(email, domain => 'one')"), of("hmac(n, domain => 'one')"));
    assert_ne!(of("hmac(email, domain => 'one')"), of("hmac(email, domain => 'other')"));
    assert_eq!(of("hmac(coalesce(email, barcode))"), of("hmac(coalesce(barcode, email))"));
    assert_ne!(of("hmac(coalesce(email, barcode))"), of("hmac(email)"));
}

/// After a change of the key, the new `hmac_previous()` equals the old `hmac()`.
#[test]
fn previous_key_makes_the_pseudonyms_of_before() {
    let new = message(&ROW);
    let insert = Operation::Insert { new: new.tuple() };
    let row = Row::of(&insert).unwrap();
    let (old, next) =
        (HmacKey::new(b"the key of the year before"), HmacKey::new(b"the key of this year, say"));
    let of = |text: &str, context: &mut Context| {
        let mut out = Vec::new();
        let expression = Expression::parse(text, &scope(true)).unwrap();
        expression.write_json(&row, context, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let mut before = Context::new(old.clone());
    let mut meanwhile = Context::new(next).with_previous(old);
    for arguments in ["(email)", "(email, domain => 'person')", "(left(email, 1), weak => true)"] {
        let (hmac, previous) = (format!("hmac{arguments}"), format!("hmac_previous{arguments}"));
        assert_eq!(of(&hmac, &mut before), of(&previous, &mut meanwhile));
        assert_ne!(of(&hmac, &mut before), of(&hmac, &mut meanwhile));
        assert_eq!(of(&previous, &mut before), "null");
        assert!(Expression::parse(&previous, &scope(true)).unwrap().is_nullable());
    }
}

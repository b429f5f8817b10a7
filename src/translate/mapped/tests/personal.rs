//! Rules never publish personal data, however the table changes.

use super::*;

#[test]
fn changed_omits_personal_columns() {
    let mut rules = translator(&rule("on = \"update\"\ndata = \"changed() as c\""), Automatic::Off);
    let new = ["7", "P8", "1.50", "another", "2026-10-01 10:00:00+00"];
    let actual = update(&mut rules, ReplicaIdentity::Full, Some(ROW), new);
    assert_eq!(actual, [r#"lab.a.v1 7 "7" {"c":["code"]}"#]);
}

/// An id that is a hash of the key is not a pseudonym: a guess of the key can be verified.
#[test]
fn id_of_personal_key_is_refused() {
    for (pii, rest, refused) in [
        ("id", "key = \"hmac(id)\"\nid = \"key\"\ndata = \"code\"", true),
        ("id", "key = \"hmac(id)\"\nid = \"hmac(id)\"\ndata = \"code\"", false),
        ("code", "key = \"hmac(id)\"\nid = \"key\"\ndata = \"id\"", false),
    ] {
        let mut settings = translator(&rule(rest), Automatic::Off).settings().clone();
        settings.pii.columns = vec![format!("*.*.{pii}")];
        settings.hmac_key = crate::expression::HmacKey::new(&[7; 16]);
        let checked =
            Translator::new("urn:forebay:lab", 0, settings).check(&plates(ReplicaIdentity::Default));
        let actual = checked.err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(actual.contains("the id is made from id, which holds personal data"), refused, "{actual}");
        assert_eq!(actual.is_empty(), !refused, "{actual}");
    }
}

#[test]
fn personal_data_is_refused_in_every_output() {
    for (rest, refused) in [
        ("data = \"note\"", true),
        ("data = \"length(note) as l\"", true),
        ("data = \"id\"\nkey = \"note\"", true),
        ("data = \"id\"\nsubject = \"note\"", true),
        ("data = \"id\"\nid = \"note\"", true),
        ("data = \"id\"\nwhen = \"note is not null\"", false),
        ("data = \"*\"", false),
        ("", false),
    ] {
        let checked = translator(&rule(rest), Automatic::Off).check(&plates(ReplicaIdentity::Default));
        let actual = checked.err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(actual.contains("personal data"), refused, "{rest}: {actual}");
    }
}

#[test]
fn renamed_personal_column_is_not_published_by_default_fields() {
    let mut renamed = Relation::clone(&plates(ReplicaIdentity::Default));
    renamed.columns[3].name = "remark".to_owned();
    for (rest, column, refused) in [
        ("", "lab.plates.note", true),
        ("data = \"id\"", "lab.plates.note", false),
        ("", "lab.plates.code", false),
    ] {
        let mut translator = translator(&rule(rest), Automatic::Off);
        translator.settings.pii.columns = vec![column.to_owned()];
        let actual = translator.check(&renamed).err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(
            actual.contains("no longer has the personal-data column note"),
            refused,
            "{rest}: {actual}"
        );
    }
}

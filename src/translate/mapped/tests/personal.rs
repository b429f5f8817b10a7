//! Personal data does not leave by rules, whatever becomes of the table.

use super::*;

#[test]
fn the_names_of_changed_columns_tell_nothing_of_personal_data() {
    let mut rules = translator(&rule("on = \"update\"\ndata = \"changed() as c\""), Automatic::Off);
    let new = ["7", "P8", "1.50", "another", "2026-10-01 10:00:00+00"];
    let told = update(&mut rules, ReplicaIdentity::Full, Some(ROW), new);
    assert_eq!(told, [r#"lab.a.v1 7 "7" {"c":["code"]}"#]);
}

/// An id that is a hash of the key is no pseudonym: who guesses the key can tell.
#[test]
fn an_id_is_not_made_of_a_key_that_is_personal_data() {
    for (pii, rest, refused) in [
        ("id", "key = \"hmac(id)\"\nid = \"key\"\ndata = \"code\"", true),
        ("id", "key = \"hmac(id)\"\nid = \"hmac(id)\"\ndata = \"code\"", false),
        ("code", "key = \"hmac(id)\"\nid = \"key\"\ndata = \"id\"", false),
    ] {
        let mut settings = translator(&rule(rest), Automatic::Off).settings().clone();
        settings.pii.columns = vec![format!("*.*.{pii}")];
        settings.hmac_key = crate::translate::sql::HmacKey::new(&[7; 16]);
        let checked =
            Translator::new("urn:forebay:lab", 0, settings).check(&plates(ReplicaIdentity::Default));
        let told = checked.err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(told.contains("the id would be made of id, which holds personal data"), refused, "{told}");
        assert_eq!(told.is_empty(), !refused, "{told}");
    }
}

#[test]
fn personal_data_is_refused_wherever_it_would_leave() {
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
        let told = checked.err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(told.contains("personal data"), refused, "{rest}: {told}");
    }
}

#[test]
fn a_renamed_column_of_personal_data_does_not_leave_by_a_rule_that_names_no_fields() {
    let mut renamed = Relation::clone(&plates(ReplicaIdentity::Default));
    renamed.columns[3].name = "remark".to_owned();
    for (rest, column, refused) in [
        ("", "lab.plates.note", true),
        ("data = \"id\"", "lab.plates.note", false),
        ("", "lab.plates.code", false),
    ] {
        let mut translator = translator(&rule(rest), Automatic::Off);
        translator.settings.pii.columns = vec![column.to_owned()];
        let told = translator.check(&renamed).err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(told.contains("[pii] names note"), refused, "{rest}: {told}");
    }
}

//! Files of contracts that are missing, edited or older than this version, and what was accepted.

use std::fs;
use std::path::Path;

use super::tests::{RULE, TODAY, lock, table};
use super::*;
use crate::config::Automatic;
use crate::contracts::lock::put;
use crate::contracts::locking::{LockRequest, files};
use crate::contracts::model::tests::{model, settings};
use crate::contracts::snapshot;
use crate::rules::Rules;
use crate::translate::TranslateSettings;

const MEANING: &str = "lab.plate_filled/1.meaning.json";

fn published() -> Model {
    model(RULE, Automatic::Off, &table())
}

/// The findings after a change of the locked files.
fn after(change: impl FnOnce(&Path)) -> Vec<FindingKind> {
    let folder = tempfile::tempdir().unwrap();
    lock(folder.path(), &published(), false);
    let wider = model(&RULE.replace("barcode,", "barcode, 1 as one,"), Automatic::Off, &table());
    lock(folder.path(), &wider, false);
    change(folder.path());
    let lock = Lock::read(folder.path()).unwrap().unwrap();
    check(&wider, &lock, TODAY).into_iter().map(|finding| finding.what).collect()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn edited_or_deleted_contract_file_is_noticed() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 5] = [
        (|folder| fs::remove_file(folder.join("lab.plate_filled/1.0.json")).unwrap(), "1.0.json is missing"),
        (|folder| fs::remove_file(folder.join("lab.plate_filled/1.1.json")).unwrap(), "1.1.json is missing"),
        (
            |folder| edit(&folder.join("lab.plate_filled/1.0.json"), "A plate is full.", "Another"),
            "1.0.json has another content",
        ),
        (|folder| edit(&folder.join(MEANING), "insert", "delete"), "1.meaning.json has another content"),
        (
            |folder| {
                let text = fs::read_to_string(folder.join("lab.plate_filled/1.1.json")).unwrap();
                let file = folder.join("lab.plate_filled/1.2.json");
                put(&file, &text.replace("\"1.1\"", "\"1.2\"")).unwrap();
            },
            "1.2.json was added",
        ),
    ];
    for (change, expected) in changes {
        let found = after(change);
        let is_reported = |kind: &FindingKind| matches!(kind, FindingKind::Tampered(files) if files.iter().any(|file| file.ends_with(expected)));
        assert!(found.iter().any(is_reported), "{expected}: {found:#?}");
    }
    assert_eq!(after(|_| {}), []);
}

/// If no type has a meaning, an older version may have locked the types. If only some have none, a file was
/// deleted.
#[test]
fn missing_meaning_is_a_warning_only_if_no_type_has_one() {
    let alone = after(|folder| fs::remove_file(folder.join(MEANING)).unwrap());
    assert_eq!(alone, [FindingKind::NoMeaning]);
    let folder = tempfile::tempdir().unwrap();
    let both = model(&format!("{RULE}{}", RULE.replace("filled", "emptied")), Automatic::Off, &table());
    lock(folder.path(), &both, false);
    fs::remove_file(folder.path().join(MEANING)).unwrap();
    let known = Lock::read(folder.path()).unwrap().unwrap();
    let found = check(&both, &known, TODAY);
    assert!(matches!(&found[..], [ContractFinding { what: FindingKind::Tampered(_), .. }]), "{found:#?}");
    for file in ["1.0.json", "1.meaning.json"] {
        fs::remove_file(folder.path().join("lab.plate_emptied").join(file)).unwrap();
        let read = Lock::read(folder.path());
        assert_eq!(read.is_err(), file == "1.0.json", "a meaning without its schemas");
    }
}

#[test]
fn accepted_meaning_begins_a_minor_version() {
    let folder = tempfile::tempdir().unwrap();
    let known = lock(folder.path(), &published(), false);
    let other = model(&RULE.replace("on =", "when = \"volume > 1\"\non ="), Automatic::Off, &table());
    let found = check(&other, &known, TODAY);
    let [finding @ ContractFinding { what: FindingKind::Meaning { differences }, .. }] = &found[..] else {
        panic!("{found:#?}")
    };
    assert_eq!(differences, &["it was made always, and is now made when volume > 1"]);
    assert!(finding.is_for_accept() && !finding.is_for_lock() && !finding.is_warning());
    assert!(to_lock(&other, &known, false, false).is_empty());
    let request = LockRequest { automatic: false, accepted: Some(("small ones are noise", TODAY)) };
    let written = files(&other, &known, &request).unwrap();
    let names: Vec<_> = written.iter().map(|(file, _)| file.display().to_string()).collect();
    assert_eq!(names, ["lab.plate_filled/1.1.json", MEANING]);
    for (file, text) in written {
        put(&folder.path().join(file), &text).unwrap();
    }
    let known = Lock::read(folder.path()).unwrap().unwrap();
    assert!(check(&other, &known, TODAY).is_empty());
    let accepted = &known.of("lab.plate_filled.v1").unwrap().meaning.as_ref().unwrap().accepted;
    let [accepted] = &accepted[..] else { panic!("{accepted:?}") };
    assert_eq!((accepted.version.as_str(), accepted.on.as_str()), ("1.1", TODAY));
    assert_eq!(&accepted.changes, differences);
    let page = crate::contracts::catalog::build::page("lab", "lab-events", &other, &known);
    let notes: Vec<_> =
        page.domains[0].events[0].versions.iter().map(|version| version.note.clone()).collect();
    assert!(notes[0].contains("small ones are noise") && notes[1].is_empty(), "{notes:?}");
    // A second lock writes nothing.
    assert!(files(&other, &known, &LockRequest::default()).unwrap().is_empty());
}

/// Giving the pseudonym key a name does not change it; another name means another key.
#[test]
fn replaced_key_of_pseudonyms_must_be_accepted() {
    let named = |rule: &str, key: Option<&str>| {
        let mut settings = settings(rule, Automatic::Off);
        settings.pii.hmac_key_id = key.map(str::to_owned);
        Model::new("urn:forebay:lab", None, &settings, &[table()]).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let unnamed = lock(folder.path(), &named(RULE, None), false);
    assert!(check(&named(RULE, Some("2026")), &unnamed, TODAY).is_empty());
    let known = lock(folder.path(), &named(RULE, Some("2026")), false);
    assert!(check(&named(RULE, Some("2026")), &known, TODAY).is_empty());
    for (key, expected) in
        [(Some("2027"), "are now made with the key 2027"), (None, "now the key has no name")]
    {
        let found = check(&named(RULE, key), &known, TODAY);
        let [ContractFinding { what: FindingKind::Meaning { differences }, .. }] = &found[..] else {
            panic!("{found:#?}")
        };
        assert!(matches!(&differences[..], [one] if one.contains(expected)), "{differences:?}");
    }
    let request = LockRequest { automatic: false, accepted: Some(("key replaced", TODAY)) };
    for (file, text) in files(&named(RULE, Some("2027")), &known, &request).unwrap() {
        put(&folder.path().join(file), &text).unwrap();
    }
    let known = Lock::read(folder.path()).unwrap().unwrap();
    assert!(check(&named(RULE, Some("2027")), &known, TODAY).is_empty());
    let page = crate::contracts::catalog::build::page("lab", "l", &named(RULE, Some("2027")), &known);
    let event = &page.domains[0].events[0];
    assert!(event.versions[0].note.contains("key replaced"), "{}", event.versions[0].note);
    assert!(event.fields.iter().any(|field| field.personal == "pseudonym, key 2027"));
    // An event without pseudonyms has no key.
    let folder = tempfile::tempdir().unwrap();
    let plain = RULE.replace(", hmac(operator) as who", "");
    let known = lock(folder.path(), &named(&plain, Some("2026")), false);
    assert!(check(&named(&plain, Some("2027")), &known, TODAY).is_empty());
}

/// A directory as the version before locked it.
#[test]
fn contracts_without_meaning_open_and_get_one() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contracts-1");
    let lock = Lock::read(&fixture.join("events.lock")).unwrap().unwrap();
    let tables = snapshot::read(&fixture.join("events.lock")).unwrap();
    let settings = TranslateSettings {
        rules: std::sync::Arc::new(Rules::load("events/*.toml", &fixture).unwrap()),
        pii: crate::config::Pii { columns: vec!["lab.plates.operator_email".into()], ..Default::default() },
        ..TranslateSettings::default()
    };
    let model = Model::new("urn:forebay:lab", None, &settings, &tables).unwrap();
    let found = check(&model, &lock, TODAY);
    assert!(
        !found.is_empty() && found.iter().all(|finding| finding.what == FindingKind::NoMeaning),
        "{found:#?}"
    );
    let written = files(&model, &lock, &LockRequest::default()).unwrap();
    assert_eq!(written.len(), lock.locked.len());
    assert!(written.iter().all(|(file, _)| file.to_string_lossy().ends_with(".meaning.json")), "{written:?}");
}

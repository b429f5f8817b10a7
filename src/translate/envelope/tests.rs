//! The envelope, byte by byte.

use uuid::Uuid;

use super::*;
use crate::position::{CommitSeq, Transaction};
use crate::translate::id::write_integer;

#[test]
fn numbers_are_written_in_decimal() {
    for value in [0, -1, 1_790_848_800_123_456, i64::MIN, i64::MAX] {
        let mut out = Vec::new();
        write_integer(&mut out, value);
        assert_eq!(out, value.to_string().as_bytes());
    }
}

#[test]
fn long_or_empty_subject_becomes_hashed_partition_key() {
    let mut scratch = String::new();
    assert_eq!(partition_key("PLT-7", &mut scratch), "PLT-7");
    let long = "é".repeat(256);
    assert_eq!(partition_key(&long, &mut scratch), long);
    assert_eq!(
        partition_key("", &mut scratch),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(partition_key(&"x".repeat(257), &mut String::new()).len(), 64);
}

#[test]
fn envelope_is_written_as_documented() {
    let place = ChangePlace {
        transaction: Transaction {
            commit: CommitSeq::new(0x1_A2B3_C4D8),
            xid: 742,
            time: 1_790_848_800_123_456,
        },
        index: 3,
        record: CommitSeq::new(0x1_A2B3_C000),
        nth: 1,
    };
    let attributes = type_attributes("urn:forebay:lab", "lab.plates.inserted.v1", None);
    let head = Head { attributes: &attributes, subject: Some("PLT-7"), time: None, place, part: 0 };
    let mut envelope = Envelope::new("urn:forebay:lab", 2);
    let id = envelope.ids().of_change("lab.plates.inserted.v1", &place, 0);
    // python3: uuid5(uuid5(NAMESPACE_URL, "urn:forebay:lab"),
    // "lab.plates.inserted.v1|wal|…|742|00000001A2B3C000|1")
    let name = "lab.plates.inserted.v1|wal|1790848800123456|742|00000001A2B3C000|1";
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:forebay:lab");
    assert_eq!(id.text().as_str(), Uuid::new_v5(&namespace, name.as_bytes()).to_string());
    let mut out = Vec::new();
    envelope.write(&mut out, &head, &Rest { id: EventId::Made(id), key: "PLT-7", unavailable: "note" });
    let expected = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":\"urn:forebay:lab\",\"type\":\"lab.plates.inserted.v1\",\
         \"subject\":\"PLT-7\",\"time\":\"2026-10-01T10:00:00.123456Z\",\"recordedtime\":\"2026-10-01T10:00:00.123456Z\",\
         \"partitionkey\":\"PLT-7\",\"sequence\":\"000200000001A2B3C4D8000000030000\",\"unavailable\":\"note\",\"data\":",
        id.text().as_str()
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn empty_key_has_its_hash_as_subject() {
    let place =
        ChangePlace { transaction: Transaction::default(), index: 0, record: CommitSeq::ZERO, nth: 0 };
    let head = Head { attributes: b",\"subject\":", subject: Some(""), time: None, place, part: 0 };
    let (mut out, mut scratch) = (Vec::new(), String::new());
    let key = partition_key("", &mut scratch);
    Envelope::new("s", 0).write(&mut out, &head, &Rest { id: EventId::Given("i"), key, unavailable: "" });
    let line = String::from_utf8(out).unwrap();
    assert!(line.contains(&format!("\"subject\":\"{key}\"")), "{line}");
    assert!(line.contains(&format!("\"partitionkey\":\"{key}\"")), "{line}");
}

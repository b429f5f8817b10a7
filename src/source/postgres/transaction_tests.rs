//! Transactions assembled from messages, also in a wrong order.

use super::super::pgoutput::tests::{Bytes, relation};
use super::super::tables::Sheet;
use super::*;

const OID: u32 = 5;

fn assembler() -> Assembler {
    let mut assembler = Assembler::default();
    let Ok(Step::LookUp(announced)) = feed(&mut assembler, 0x10, &relation(OID, &["id", "name"])) else {
        panic!("a relation is looked up");
    };
    let sheet = Sheet::new(announced, Some(vec!["id".to_owned()]), |_| false, Vec::new());
    assembler.learn(Arc::new(sheet.relation().clone()));
    assembler
}

fn feed(assembler: &mut Assembler, lsn: u64, message: &[u8]) -> Result<Step, StreamError> {
    assembler.assemble(Received { lsn: Lsn::new(lsn), bytes: message, size: message.len() as u64 })
}

fn begin(commit: u64) -> Vec<u8> {
    Bytes::tag(b'B').u64(commit).u64(1_000_000).u32(42).0
}

fn commit(commit: u64) -> Vec<u8> {
    Bytes::tag(b'C').raw(&[0]).u64(commit).u64(commit + 0x30).u64(7).0
}

fn insert() -> Vec<u8> {
    Bytes::tag(b'I').u32(OID).tuple(b'N', &[Some("1"), Some("a")]).0
}

fn delete() -> Vec<u8> {
    Bytes::tag(b'D').u32(OID).tuple(b'K', &[Some("1"), None]).0
}

fn truncate() -> Vec<u8> {
    Bytes::tag(b'T').u32(3).raw(&[1]).u32(OID).u32(OID).u32(OID).0
}

fn logical(transactional: u8) -> Vec<u8> {
    Bytes::tag(b'M').raw(&[transactional]).u64(0x55).text("p").u32(0).0
}

/// Index, LSN and ordinal of a step with a position.
fn place(step: &Step) -> Option<(u32, u64, u32)> {
    let (Step::Row(place, ..)
    | Step::Truncate { place, .. }
    | Step::Unreadable(place)
    | Step::Message(place)) = step
    else {
        return None;
    };
    Some((place.index, place.record.get(), place.nth))
}

#[test]
fn change_index_counts_everything_delivered() {
    let mut assembler = assembler();
    let began = feed(&mut assembler, 0x100, &begin(0x100)).unwrap();
    let expected = Transaction { commit: Lsn::new(0x100), xid: 42, time: 946_684_801_000_000 };
    assert_eq!(began, Step::Begin(expected));
    let mut places = Vec::new();
    for (lsn, message) in [
        (0x50, insert()),
        (0x50, insert()),
        (0x50, delete()),
        (0x50, insert()),
        (0x55, logical(0)),
        (0x55, logical(1)),
        (0x60, insert()),
        (0x70, truncate()),
    ] {
        let step = feed(&mut assembler, lsn, &message).unwrap();
        places.extend(place(&step));
    }
    while let Some(step) = assembler.next_truncated().unwrap() {
        places.extend(place(&step));
    }
    assert_eq!(
        places,
        [
            (0, 0x50, 0),
            (1, 0x50, 1),
            (2, 0x50, 0),
            (3, 0x50, 2),
            (4, 0x55, 0),
            (5, 0x60, 0),
            (6, 0x70, 0),
            (7, 0x70, 1),
            (8, 0x70, 2)
        ]
    );
    assert_eq!(feed(&mut assembler, 0x130, &commit(0x100)), Ok(Step::Commit(Lsn::new(0x130))));
    feed(&mut assembler, 0x200, &begin(0x200)).unwrap();
    let first = feed(&mut assembler, 0x150, &insert()).unwrap();
    assert_eq!(place(&first), Some((0, 0x150, 0)));
}

#[test]
fn out_of_order_message_is_an_error() {
    let cases: [(&str, Vec<Vec<u8>>); 7] = [
        ("a change outside a transaction", vec![insert()]),
        ("a transactional message outside", vec![logical(1)]),
        ("Commit without Begin", vec![commit(0x100)]),
        ("Commit of another", vec![begin(0x100), commit(0x101)]),
        ("Begin twice", vec![begin(0x100), begin(0x200)]),
        ("an unknown table", vec![begin(0x100), Bytes::tag(b'I').u32(9).tuple(b'N', &[]).0]),
        ("an unknown kind", vec![begin(0x100), b"Z".to_vec()]),
    ];
    for (what, messages) in cases {
        let mut assembler = assembler();
        let (last, first) = messages.split_last().unwrap();
        for message in first {
            feed(&mut assembler, 0x50, message).unwrap();
        }
        assert!(feed(&mut assembler, 0x50, last).is_err(), "{what}");
    }
}

#[test]
fn unreadable_row_is_delivered_and_counted() {
    let cases = [
        (Bytes::tag(b'I').u32(OID).tuple(b'N', &[Some("1")]).0, "1 columns"),
        (Bytes::tag(b'D').u32(OID).tuple(b'K', &[None, None, None]).0, "3 columns"),
        (Bytes::tag(b'U').u32(OID).tuple(b'K', &[None]).tuple(b'N', &[None, None]).0, "columns"),
        (Bytes::tag(b'I').u32(OID).raw(b"N").u16(2).raw(b"t").u32(1000).0, "too early"),
    ];
    let mut assembler = assembler();
    feed(&mut assembler, 0x100, &begin(0x100)).unwrap();
    for (nth, (message, why)) in cases.iter().enumerate() {
        let received = Received { lsn: Lsn::new(0x50), bytes: message, size: message.len() as u64 };
        let step = assembler.assemble(received).unwrap();
        let Some(Delivery::Unreadable(unreadable)) = assembler.view(&step, received) else {
            panic!("{why}: {step:?}");
        };
        assert_eq!(unreadable.table, Some("lab.plates"));
        assert!(unreadable.reason.contains(why), "{}", unreadable.reason);
        assert_eq!(unreadable.place.index as usize, nth);
    }
}

#[test]
fn only_oversize_row_is_delivered_as_unreadable() {
    let mut assembler = assembler();
    feed(&mut assembler, 0x100, &begin(0x100)).unwrap();
    let mut cut =
        |message: &[u8]| assembler.assemble(Received { lsn: Lsn::new(0x50), bytes: message, size: 1 << 30 });
    assert!(matches!(cut(&insert()), Ok(Step::Unreadable(ChangePlace { index: 0, .. }))));
    assert!(matches!(cut(&logical(1)), Ok(Step::Message(ChangePlace { index: 1, .. }))));
    assert_eq!(cut(&logical(0)), Ok(Step::Nothing));
    assert!(cut(&relation(OID, &["id"])).is_err());
    assert!(cut(b"").is_err());
}

//! What the window does alone; what it does against a service is in `tests/it/lanes.rs`.

use bytes::Bytes;

use super::*;
use crate::event::{KeyHash, RecordKind};

#[test]
fn a_dead_letter_that_is_put_back_holds_its_key_and_no_other() {
    let mut lanes = Lanes::new(&Start::default(), Limits::default(), 1);
    let letters =
        [(RecordKind::DeadLetter, "poisoned"), (RecordKind::Event, "poisoned"), (RecordKind::Event, "other")];
    for (number, (kind, key)) in (1..).zip(letters) {
        let frame = Frame { number: FrameNo(number), ..Frame::default() };
        let (hash, event_type) = (KeyHash::of(key), "t");
        let (key, line) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"line\n"));
        lanes.admit(&frame, [Admission { kind, hash, event_type, key, line }]);
    }
    let now = Instant::now();
    for _ in 0..2 {
        let dead = lanes.next_dead_letter().unwrap();
        assert_eq!((dead.frame, lanes.next_dead_letter().map(|_| ())), (FrameNo(1), None));
        lanes.put_back(dead.frame, dead.part);
    }
    let request = lanes.fill(now).unwrap();
    let keys: Vec<_> = request.records.iter().map(|record| &record.key[..]).collect();
    assert_eq!(keys, [b"other"]);
    let dead = lanes.next_dead_letter().unwrap();
    lanes.finish(dead.frame, dead.part);
    assert_eq!(lanes.low().frame, FrameNo(1));
}

//! The bytes on disk, written by hand from the specification in the headers of `src/buffer/log.rs` and
//! `src/buffer/checkpoint/file.rs`. Whoever makes this test fail makes a new version of the format.

use std::fs;

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile, Phase, SLOT_SIZE};
use forebay::buffer::frame::FrameKind;
use forebay::event::{KeyHash, RecordKind};
use forebay::identity::{Identity, ReplicationIdentity, SourceIdentity};
use forebay::position::{CommitSeq, Position, Transaction};

use super::{Content, new_log, opened, quick_directory, segments, tiny};

fn number<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&bytes);
}

#[test]
fn log_bytes_match_specification() {
    let directory = quick_directory();
    let (log, mut writer) = new_log(tiny(directory.path(), 10_000));
    let content = Content {
        kind: FrameKind::Change,
        position: Position {
            epoch: 0x0102,
            commit: CommitSeq::new(0x0304_0506_0708_090A),
            index: 0x0B0C_0D0E,
        },
        transaction: Transaction {
            commit: CommitSeq::new(0x1112_1314_1516_1718),
            xid: 0x191A_1B1C,
            time: -2,
        },
        records: vec![
            (RecordKind::Event, "t.v1".to_owned(), "ключ".to_owned(), b"{}\n".to_vec()),
            (RecordKind::DeadLetter, String::new(), "k".to_owned(), Vec::new()),
        ],
    };
    content.append(&mut writer).unwrap();
    writer.flush().unwrap();
    let mut expected = b"FOREBAYL".to_vec();
    number(&mut expected, 2_u32.to_le_bytes());
    number(&mut expected, 1_u64.to_le_bytes());
    let checksum = crc32c::crc32c(&expected);
    number(&mut expected, checksum.to_le_bytes());
    let mut body = 1_u64.to_le_bytes().to_vec();
    body.push(0);
    number(&mut body, 0x0102_u16.to_le_bytes());
    number(&mut body, 0x0304_0506_0708_090A_u64.to_le_bytes());
    number(&mut body, 0x0B0C_0D0E_u32.to_le_bytes());
    number(&mut body, 0x1112_1314_1516_1718_u64.to_le_bytes());
    number(&mut body, 0x191A_1B1C_u32.to_le_bytes());
    number(&mut body, (-2_i64).to_le_bytes());
    number(&mut body, 2_u16.to_le_bytes());
    for (kind, event_type, key, line) in [(0, "t.v1", "ключ", "{}\n"), (1, "", "k", "")] {
        body.push(kind);
        number(&mut body, KeyHash::of(key).0.to_le_bytes());
        number(&mut body, u16::try_from(event_type.len()).unwrap().to_le_bytes());
        number(&mut body, u16::try_from(key.len()).unwrap().to_le_bytes());
        number(&mut body, u32::try_from(line.len()).unwrap().to_le_bytes());
        body.extend_from_slice(format!("{event_type}{key}{line}").as_bytes());
    }
    number(&mut expected, u32::try_from(body.len()).unwrap().to_le_bytes());
    number(&mut expected, crc32c::crc32c(&body).to_le_bytes());
    expected.extend_from_slice(&body);
    let paths = segments(directory.path());
    assert_eq!(paths[0].file_name().unwrap(), "00000000000000000001.log");
    assert_eq!((fs::read(&paths[0]).unwrap(), paths.len()), (expected, 1));
    drop(log);
}

#[test]
fn checkpoint_bytes_match_specification() {
    let directory = quick_directory();
    let identity = Identity {
        source: SourceIdentity::Replication(ReplicationIdentity {
            system_id: "7".to_owned(),
            timeline: 1,
            database: "d".to_owned(),
            slot: "s".to_owned(),
            publication: "p".to_owned(),
        }),
        name: "urn:forebay:x".to_owned(),
        stream: None,
        lane_hash: "md5/256".to_owned(),
    };
    let checkpoint = Checkpoint::fresh(identity, Phase::Creating, 3, CommitSeq::new(9));
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    let slot = |sequence: u64| {
        let payload = [
            r#"{"identity":{"source":{"kind":"replication","system_id":"7","timeline":1,"database":"d","slot":"s","#,
            r#""publication":"p"},"name":"urn:forebay:x","stream":null,"lane_hash":"md5/256"},"phase":"creating","#,
            r#""epoch":3,"ever_confirmed":"0/9","last_seen":null,"watermark":{"frame":0,"position":null},"#,
            r#""durable":{"frame":0,"position":null},"lanes":[],"acknowledged":[],"injections":[],"event_counts":{},"#,
            r#""counted_by_lane":true,"clean":false}"#,
        ]
        .concat()
        .into_bytes();
        let mut slot = b"FOREBAYC".to_vec();
        number(&mut slot, 2_u32.to_le_bytes());
        number(&mut slot, sequence.to_le_bytes());
        number(&mut slot, u32::try_from(payload.len()).unwrap().to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&slot), &payload);
        number(&mut slot, checksum.to_le_bytes());
        slot.extend_from_slice(&payload);
        slot
    };
    file.write(&checkpoint).unwrap();
    let mut expected = vec![0; 2 * SLOT_SIZE];
    expected[..slot(1).len()].copy_from_slice(&slot(1));
    let path = directory.path().join("checkpoint");
    assert!(fs::read(&path).unwrap() == expected, "the first write");
    file.write(&checkpoint).unwrap();
    expected[SLOT_SIZE..SLOT_SIZE + slot(2).len()].copy_from_slice(&slot(2));
    assert!(fs::read(&path).unwrap() == expected, "the second one");
}

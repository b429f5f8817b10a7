//! The checkpoint file: whatever is torn, the last whole checkpoint counts.

use std::collections::BTreeMap;
use std::fs;

use forebay::buffer::checkpoint::{
    Checkpoint, CheckpointError, CheckpointFile, Mark, Phase, SLOT_SIZE, Totals,
};
use forebay::failure::Problem;
use forebay::identity::{Identity, ReplicationIdentity, SourceIdentity};
use forebay::position::{CommitSeq, FrameNo};

use super::{opened, quick_directory};

pub(super) fn checkpoint(ever_confirmed: u64) -> Checkpoint {
    let text = |text: &str| text.to_owned();
    Checkpoint {
        identity: Identity {
            source: SourceIdentity::Replication(ReplicationIdentity {
                system_id: text("7000000000000000001"),
                timeline: 1,
                database: text("lab"),
                slot: text("forebay_lab"),
                publication: text("forebay_lab"),
            }),
            name: text("urn:forebay:lab"),
            stream: None,
            lane_hash: text("md5/256"),
        },
        phase: Phase::Running,
        epoch: 1,
        ever_confirmed: CommitSeq::new(ever_confirmed).into(),
        last_seen: None,
        watermark: Mark { frame: FrameNo(ever_confirmed), position: None },
        durable: Mark::default(),
        lane_parts: vec![],
        lanes: vec![(3, FrameNo(ever_confirmed))],
        acknowledged: Vec::new(),
        injections: Vec::new(),
        lag: forebay::buffer::checkpoint::LagRecord { number: 3, exceeded_at: Some(5) },
        letters_from: 7,
        event_counts: BTreeMap::new(),
        counted_by_lane: true,
        clean: true,
    }
}

fn reopened(directory: &std::path::Path) -> Result<Option<u64>, CheckpointError> {
    CheckpointFile::open(&opened(directory))
        .map(|(_, checkpoint)| checkpoint.map(|checkpoint| checkpoint.ever_confirmed.seq().get()))
}

#[test]
fn last_written_checkpoint_is_read() {
    let directory = quick_directory();
    assert_eq!(reopened(directory.path()).unwrap(), None);
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file before the first checkpoint");
    for ever_confirmed in 1..=5 {
        file.write(&checkpoint(ever_confirmed)).unwrap();
        let (mut other, read) = CheckpointFile::open(&opened(directory.path())).unwrap();
        assert_eq!(read, Some(checkpoint(ever_confirmed)));
        other.write(&checkpoint(ever_confirmed + 100)).unwrap();
        (file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    }
    assert_eq!(fs::metadata(directory.path().join("checkpoint")).unwrap().len(), 2 * SLOT_SIZE as u64);
}

#[test]
fn torn_slot_leaves_the_other_one() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    let mut states = Vec::new();
    for ever_confirmed in 1..=3 {
        file.write(&checkpoint(ever_confirmed)).unwrap();
        states.push(fs::read(&path).unwrap());
    }
    // The second write went to an empty slot, the third one over the first.
    for (before, after, old, new) in [(&states[0], &states[1], 1, 2), (&states[1], &states[2], 2, 3)] {
        let differs: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let (first, last) = (*differs.first().unwrap(), *differs.last().unwrap());
        assert!(last - first < SLOT_SIZE, "one slot is written");
        let mut torn = before.clone();
        for at in first..last {
            assert!(torn[at] == after[at] || at >= first);
            torn[at] = after[at];
            overwrite(&path, &torn);
            assert_eq!(reopened(directory.path()).unwrap(), Some(old), "torn after byte {at}");
        }
        torn[last] = after[last];
        overwrite(&path, &torn);
        assert_eq!(reopened(directory.path()).unwrap(), Some(new));
    }
}

/// In place, as the page cache would leave it; only the beginnings of the slots are used here.
fn overwrite(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    for start in [0, SLOT_SIZE] {
        file.write_all_at(&bytes[start..start + 4096], start as u64).unwrap();
    }
}

#[test]
fn flipped_bit_in_one_slot_is_survived_and_in_both_refused() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    for ever_confirmed in 1..=2 {
        file.write(&checkpoint(ever_confirmed)).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let used = 28 + u32::from_le_bytes(whole[20..24].try_into().unwrap()) as usize;
    for byte in 0..used {
        let bit = 1 << (byte % 8);
        // The first slot has 1, the second one 2.
        for (slots, counts) in [(&[SLOT_SIZE][..], Some(1)), (&[0], Some(2)), (&[0, SLOT_SIZE], None)] {
            let mut damaged = whole.clone();
            for slot in slots {
                damaged[slot + byte] ^= bit;
            }
            overwrite(&path, &damaged);
            match (reopened(directory.path()), counts) {
                (Ok(ever_confirmed), Some(_)) => {
                    assert_eq!(ever_confirmed, counts, "byte {byte} of {slots:?}");
                }
                (Err(CheckpointError::NoValidSlot { .. }), None) => {}
                (other, _) => panic!("byte {byte} of {slots:?}: {other:?}"),
            }
        }
    }
    // What is behind the payload does not count.
    let mut damaged = whole.clone();
    damaged[used] ^= 1;
    damaged[SLOT_SIZE + used] ^= 1;
    overwrite(&path, &damaged);
    assert_eq!(reopened(directory.path()).unwrap(), Some(2));
}

#[test]
fn file_without_valid_slot_is_refused() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    for bytes in [Vec::new(), vec![0; 100], vec![0; 2 * SLOT_SIZE], vec![0xFF; 2 * SLOT_SIZE]] {
        fs::write(&path, &bytes).unwrap();
        let error = reopened(directory.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::NoValidSlot { .. }), "{error}");
        let said = Problem::from(error).lines();
        assert!(said.contains("forebay adopt") && said.contains("checkpoint"), "{said}");
    }
}

#[test]
fn newer_format_is_refused_even_with_one_readable_slot() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    file.write(&checkpoint(1)).unwrap();
    file.write(&checkpoint(2)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let slot = &mut bytes[SLOT_SIZE..];
    slot[8] = 3;
    let length = u32::from_le_bytes(slot[20..24].try_into().unwrap()) as usize;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&slot[..24]), &slot[28..28 + length]);
    slot[24..28].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = reopened(directory.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { version: 3, .. }), "{error}");
}

#[test]
fn oversize_checkpoint_changes_nothing() {
    let directory = quick_directory();
    let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
    file.write(&checkpoint(1)).unwrap();
    let mut large = checkpoint(2);
    large.event_counts = (0..50_000).map(|n| (format!("event type number {n}"), Totals::default())).collect();
    let error = file.write(&large).unwrap_err();
    assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    assert_eq!(reopened(directory.path()).unwrap(), Some(1));
    file.write(&checkpoint(3)).unwrap();
    assert_eq!(reopened(directory.path()).unwrap(), Some(3));
}

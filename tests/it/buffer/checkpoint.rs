//! The checkpoint file: whatever is torn, the last whole checkpoint counts.

use std::collections::BTreeMap;
use std::fs;

use forebay::buffer::checkpoint::{
    Checkpoint, CheckpointError, CheckpointFile, Identity, Mark, Phase, SLOT_SIZE, Totals,
};
use forebay::position::{FrameNo, Lsn};

use super::quick_directory;

fn checkpoint(told: u64) -> Checkpoint {
    let text = |text: &str| text.to_owned();
    Checkpoint {
        identity: Identity {
            system_id: text("7000000000000000001"),
            timeline: 1,
            database: text("lab"),
            slot: text("forebay_lab"),
            publication: text("forebay_lab"),
            source: text("urn:forebay:lab"),
            stream: None,
            lane_hash: text("md5/256"),
        },
        phase: Phase::Running,
        epoch: 1,
        told: Lsn::new(told),
        tip: None,
        low: Mark { frame: FrameNo(told), position: None },
        held: Mark::default(),
        lanes: vec![(3, FrameNo(told))],
        answered: Vec::new(),
        injections: Vec::new(),
        books: BTreeMap::new(),
    }
}

fn reopened(directory: &std::path::Path) -> Result<Option<u64>, CheckpointError> {
    CheckpointFile::open(directory).map(|(_, checkpoint)| checkpoint.map(|checkpoint| checkpoint.told.get()))
}

#[test]
fn the_last_checkpoint_written_is_the_one_that_is_read() {
    let directory = quick_directory();
    assert_eq!(reopened(directory.path()).unwrap(), None);
    let (mut file, _) = CheckpointFile::open(directory.path()).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file before the first checkpoint");
    for told in 1..=5 {
        file.write(&checkpoint(told)).unwrap();
        let (mut other, read) = CheckpointFile::open(directory.path()).unwrap();
        assert_eq!(read, Some(checkpoint(told)));
        other.write(&checkpoint(told + 100)).unwrap();
        (file, _) = CheckpointFile::open(directory.path()).unwrap();
    }
    assert_eq!(fs::metadata(directory.path().join("checkpoint")).unwrap().len(), 2 * SLOT_SIZE as u64);
}

#[test]
fn a_slot_torn_at_any_byte_leaves_the_other_one() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(directory.path()).unwrap();
    let mut states = Vec::new();
    for told in 1..=3 {
        file.write(&checkpoint(told)).unwrap();
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
fn a_flipped_bit_in_a_slot_leaves_the_other_one_and_in_both_is_refused() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(directory.path()).unwrap();
    for told in 1..=2 {
        file.write(&checkpoint(told)).unwrap();
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
                (Ok(told), Some(_)) => assert_eq!(told, counts, "byte {byte} of {slots:?}"),
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
fn a_file_without_a_valid_slot_is_refused() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    for bytes in [Vec::new(), vec![0; 100], vec![0; 2 * SLOT_SIZE], vec![0xFF; 2 * SLOT_SIZE]] {
        fs::write(&path, &bytes).unwrap();
        let error = reopened(directory.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::NoValidSlot { .. }), "{error}");
        assert!(error.to_string().contains("forebay adopt") && error.to_string().contains("checkpoint"));
    }
}

#[test]
fn a_newer_format_is_refused_even_if_the_other_slot_is_ours() {
    let directory = quick_directory();
    let path = directory.path().join("checkpoint");
    let (mut file, _) = CheckpointFile::open(directory.path()).unwrap();
    file.write(&checkpoint(1)).unwrap();
    file.write(&checkpoint(2)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let slot = &mut bytes[SLOT_SIZE..];
    slot[8] = 2;
    let length = u32::from_le_bytes(slot[20..24].try_into().unwrap()) as usize;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&slot[..24]), &slot[28..28 + length]);
    slot[24..28].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = reopened(directory.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { version: 2, .. }), "{error}");
}

#[test]
fn what_does_not_fit_into_a_slot_changes_nothing() {
    let directory = quick_directory();
    let (mut file, _) = CheckpointFile::open(directory.path()).unwrap();
    file.write(&checkpoint(1)).unwrap();
    let mut large = checkpoint(2);
    large.books = (0..50_000).map(|n| (format!("event type number {n}"), Totals::default())).collect();
    let error = file.write(&large).unwrap_err();
    assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    assert_eq!(reopened(directory.path()).unwrap(), Some(1));
    file.write(&checkpoint(3)).unwrap();
    assert_eq!(reopened(directory.path()).unwrap(), Some(3));
}

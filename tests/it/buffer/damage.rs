//! Whatever happens to the bytes: a prefix is a prefix, and damage is found where it counts.

use std::fs;
use std::path::Path;

use forebay::buffer::frame::{Decoded, decode};
use forebay::buffer::log::{Log, OpenError};
use forebay::buffer::reader::{ReadError, Reader};
use forebay::buffer::scan::ScanError;
use forebay::position::FrameNo;

use super::{Content, filled, mark, opened, quick_directory, read_all, segments, tiny};

fn copy(from: &Path, to: &Path) {
    for path in segments(from) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Scans up to `durable` and opens what is good.
fn reopen(directory: &Path, durable: u64) -> Vec<(FrameNo, Content)> {
    let scan = Log::scan(&opened(directory), mark(0), FrameNo(durable)).unwrap();
    let good = scan.good.frame;
    assert_eq!(scan.damage.is_none(), good == FrameNo(durable));
    let (log, mut writer) = Log::open(tiny(directory, 300), good, scan).unwrap();
    assert_eq!(Content::simple(good.0 + 1).append(&mut writer).unwrap(), good.next());
    writer.flush().unwrap();
    read_all(&mut Reader::new(&log, FrameNo(0)))
}

#[test]
fn log_byte_prefix_opens_as_frame_prefix() {
    let original = quick_directory();
    drop(filled(original.path(), 300, 9));
    let paths = segments(original.path());
    assert!(paths.len() >= 3);
    let mut longest = 0;
    for (index, path) in paths.iter().enumerate() {
        let whole = fs::read(path).unwrap();
        for length in 0..=whole.len() {
            let directory = quick_directory();
            copy(original.path(), directory.path());
            fs::write(directory.path().join(path.file_name().unwrap()), &whole[..length]).unwrap();
            for later in &paths[index + 1..] {
                fs::remove_file(directory.path().join(later.file_name().unwrap())).unwrap();
            }
            let read = reopen(directory.path(), 9);
            for (number, content) in &read {
                assert_eq!(*content, Content::simple(number.0), "segment {index} cut to {length}");
            }
            let count = read.len() as u64;
            assert_eq!(read.last().unwrap().0, FrameNo(count), "in a row from 1");
            assert!(count >= longest, "a longer prefix has no fewer frames");
            longest = count;
        }
    }
    assert_eq!(longest, 10, "all of them and the one appended");
}

#[test]
fn flipped_bit_counts_only_in_unpublished_range() {
    let (watermark, durable, count) = (3, 7, 9);
    let original = quick_directory();
    drop(filled(original.path(), 300, count));
    let clean = Log::scan(&opened(original.path()), mark(watermark), FrameNo(durable)).unwrap();
    assert_eq!(clean.damage, None);
    let (mut found, mut ignored) = (0, 0);
    for path in segments(original.path()) {
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            fs::write(&path, &bytes).unwrap();
            let scan = Log::scan(&opened(original.path()), mark(watermark), FrameNo(durable)).unwrap();
            let Some(damage) = scan.damage else {
                assert_eq!(scan.good.frame, FrameNo(durable));
                ignored += 1;
                continue;
            };
            found += 1;
            assert_eq!(damage.frame, scan.good.frame.next());
            assert_eq!(damage.path, path);
            assert!(damage.offset <= byte as u64, "{damage}");
            if damage.frame.0 < durable {
                assert_eq!(damage.beyond, Some(damage.frame.next()), "the next frame is whole: {damage}");
            }
            if byte % 16 != 0 {
                continue;
            }
            // What is good is good: open there and read it.
            let directory = quick_directory();
            copy(original.path(), directory.path());
            let scan = Log::scan(&opened(directory.path()), mark(watermark), FrameNo(durable)).unwrap();
            let good = scan.good.frame;
            let (log, _writer) = Log::open(tiny(directory.path(), 300), good, scan).unwrap();
            let read = read_all(&mut Reader::new(&log, FrameNo(watermark)));
            assert_eq!(read.len() as u64, good.0 - watermark);
            assert!(read.iter().all(|(number, content)| *content == Content::simple(number.0)));
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(found > 300 && ignored > 300, "{found} found, {ignored} ignored");
}

#[test]
fn missing_segment_is_damage_and_names_frames_beyond() {
    let directory = quick_directory();
    drop(filled(directory.path(), 300, 9));
    let paths = segments(directory.path());
    fs::remove_file(&paths[1]).unwrap();
    let scan = Log::scan(&opened(directory.path()), mark(0), FrameNo(9)).unwrap();
    let beyond: u64 = paths[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let damage = scan.damage.unwrap();
    assert_eq!(damage.frame, scan.good.frame.next());
    assert_eq!(damage.beyond, Some(FrameNo(beyond)));
    // A person adopts: what is readable beyond the damage is published.
    let scan = Log::scan(&opened(directory.path()), mark(beyond - 1), FrameNo(9)).unwrap();
    assert_eq!((scan.good.frame, &scan.damage), (FrameNo(9), &None));
    let (log, _writer) = Log::open(tiny(directory.path(), 300), FrameNo(9), scan).unwrap();
    assert_eq!(read_all(&mut Reader::new(&log, FrameNo(beyond - 1))).len() as u64, 10 - beyond);
}

#[test]
fn reader_starts_after_damage_below_watermark() {
    let directory = quick_directory();
    drop(filled(directory.path(), 10_000, 9));
    let path = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 0xFF;
    fs::write(&path, &bytes).unwrap();
    let scan = Log::scan(&opened(directory.path()), mark(4), FrameNo(9)).unwrap();
    assert_eq!(scan.damage, None);
    let (log, _writer) = Log::open(tiny(directory.path(), 10_000), FrameNo(9), scan).unwrap();
    let numbers: Vec<u64> = read_all(&mut Reader::new(&log, FrameNo(4))).iter().map(|(n, _)| n.0).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9]);
}

#[test]
fn damage_under_reader_is_never_read_as_data() {
    let directory = quick_directory();
    let (log, _writer) = filled(directory.path(), 10_000, 9);
    let path = segments(directory.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    for byte in 24..whole.len() {
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let mut reader = Reader::new(&log, FrameNo(0));
        let error = loop {
            match reader.next_chunk() {
                Ok(Some(chunk)) => {
                    for (number, content) in super::contents(&chunk) {
                        assert_eq!(content, Content::simple(number.0));
                    }
                }
                Ok(None) => panic!("byte {byte}: not found"),
                Err(error) => break error,
            }
        };
        match error {
            ReadError::Damaged { frame, offset, .. } => {
                assert_eq!(frame, reader.last().next());
                assert!(offset <= byte as u64);
            }
            other => panic!("byte {byte}: {other}"),
        }
    }
}

#[test]
fn only_readable_frames_can_be_kept() {
    let directory = quick_directory();
    drop(filled(directory.path(), 300, 9));
    for truncate_after in [2, 8] {
        let scan = Log::scan(&opened(directory.path()), mark(3), FrameNo(7)).unwrap();
        let error = Log::open(tiny(directory.path(), 300), FrameNo(truncate_after), scan).unwrap_err();
        assert!(matches!(error, OpenError::Cut { .. }), "{error}");
    }
}

#[test]
fn newer_format_is_refused_and_unchanged() {
    let directory = quick_directory();
    drop(filled(directory.path(), 300, 9));
    let path = segments(directory.path()).remove(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    let checksum = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = Log::scan(&opened(directory.path()), mark(0), FrameNo(0)).unwrap_err();
    assert!(matches!(error, ScanError::Newer { version: 3, .. }), "{error}");
}

/// Whole frames, each with its right checksum, but not the right ones in a row.
#[test]
fn frame_out_of_sequence_is_damage() {
    let directory = quick_directory();
    let (log, writer) = filled(directory.path(), 10_000, 3);
    let path = segments(directory.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut ends = vec![24];
    while let Decoded::Whole { length, .. } = decode(&whole[*ends.last().unwrap()..]) {
        ends.push(ends.last().unwrap() + length);
    }
    let frame = |number: usize| &whole[ends[number - 1]..ends[number]];
    for (row, good) in [([1, 3, 2], 1), ([1, 1, 2], 1), ([2, 1, 3], 0), ([1, 2, 2], 2)] {
        let mut bytes = whole[..24].to_vec();
        for number in row {
            bytes.extend_from_slice(frame(number));
        }
        assert_eq!(bytes.len(), whole.len());
        fs::write(&path, &bytes).unwrap();
        let scan = Log::scan(&opened(directory.path()), mark(0), FrameNo(3)).unwrap();
        assert_eq!(scan.good.frame, FrameNo(good), "{row:?}");
        assert_eq!(scan.damage.unwrap().offset, ends[good as usize] as u64);
        let mut reader = Reader::new(&log, FrameNo(0));
        let read = std::iter::from_fn(|| reader.next_chunk().transpose()).find(Result::is_err).unwrap();
        assert!(
            matches!(read, Err(ReadError::Damaged { frame, .. }) if frame == FrameNo(good + 1)),
            "{row:?}"
        );
    }
    drop(writer);
}

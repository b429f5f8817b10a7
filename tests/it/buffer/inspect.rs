//! What `forebay buffer` reads: every damage in its place, with what it means; a log that grows and is released meanwhile.

use std::fs;
use std::path::Path;

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile, Phase};
use forebay::buffer::stat::stat;
use forebay::buffer::verify::{Zone, verify};
use forebay::identity::{Identity, ReplicationIdentity, SourceIdentity};
use forebay::position::{CommitSeq, FrameNo};

use super::{Content, filled, mark, opened, quick_directory, segments};

const LOW: u64 = 3;
const DURABLE: u64 = 7;
const COUNT: u64 = 9;

fn note(directory: &Path, watermark: u64, durable: u64) {
    let identity = Identity {
        source: SourceIdentity::Replication(ReplicationIdentity {
            system_id: "1".into(),
            timeline: 1,
            database: "lab".into(),
            slot: "s".into(),
            publication: "p".into(),
        }),
        name: "urn:forebay:lab".into(),
        stream: None,
        lane_hash: "md5".into(),
    };
    let (mut file, found) = CheckpointFile::open(&opened(directory)).unwrap();
    let fresh = Checkpoint::fresh(identity, Phase::Running, 1, CommitSeq::ZERO);
    let checkpoint = found.unwrap_or(fresh);
    file.write(&Checkpoint { watermark: mark(watermark), durable: mark(durable), ..checkpoint }).unwrap();
}

#[test]
fn intact_log_has_no_damage() {
    let directory = quick_directory();
    drop(filled(directory.path(), 300, COUNT));
    note(directory.path(), LOW, DURABLE);
    let verified = verify(&opened(directory.path())).unwrap();
    assert_eq!((verified.frames, verified.last, verified.torn), (COUNT, FrameNo(COUNT), 0));
    assert!(verified.findings.is_empty() && verified.segments >= 3 && verified.slots.len() == 2);
    let stat = stat(&opened(directory.path())).unwrap();
    assert_eq!(
        (stat.tail, stat.kept(), stat.segments),
        (FrameNo(COUNT), FrameNo(DURABLE), verified.segments)
    );
    let oldest = Content::simple(LOW + 1).transaction;
    assert_eq!(stat.oldest, Some(oldest));
    let bytes: u64 = segments(directory.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(stat.bytes, bytes);
    assert!(stat.cut_bytes > 0 && stat.cut_bytes < bytes);
}

#[test]
fn flipped_bit_is_found_and_classified_everywhere() {
    let directory = quick_directory();
    drop(filled(directory.path(), 300, COUNT));
    note(directory.path(), LOW, DURABLE);
    let mut zones = [0; 3];
    for path in segments(directory.path()) {
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            fs::write(&path, &bytes).unwrap();
            let Ok(verified) = verify(&opened(directory.path())) else { panic!("{path:?}, byte {byte}") };
            if verified.torn > 0 {
                assert!(verified.findings.is_empty() && verified.last >= FrameNo(DURABLE));
                zones[2] += 1;
                continue;
            }
            let [finding] = &verified.findings[..] else { panic!("byte {byte}: {:#?}", verified.findings) };
            assert_eq!(finding.path, path);
            assert!(finding.offset <= byte as u64);
            let lost = finding.last.0 + 1 - finding.first.0;
            assert_eq!(verified.frames + lost, COUNT, "byte {byte}: {finding:?}");
            let zone = match finding.zone {
                Zone::Published => 0,
                Zone::Durable => 1,
                Zone::Beyond => 2,
            };
            zones[zone] += 1;
            if lost > 0 {
                let expected =
                    if finding.last.0 <= LOW { 0 } else { usize::from(finding.first.0 > DURABLE) + 1 };
                assert_eq!(zone, expected, "{finding:?}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(zones.iter().all(|count| *count > 100), "{zones:?}");
}

#[test]
fn reclaimed_segment_is_no_damage() {
    let directory = quick_directory();
    drop(filled(directory.path(), 150, COUNT));
    note(directory.path(), LOW, DURABLE);
    for (path, number) in segments(directory.path()).iter().zip(1..) {
        let whole = fs::read(path).unwrap();
        fs::write(path, b"").unwrap();
        let verified = verify(&opened(directory.path())).unwrap();
        // The last one has nothing that was promised.
        let expected = number <= LOW || number == COUNT;
        assert_eq!(verified.findings.is_empty(), expected, "segment {number}: {:#?}", verified.findings);
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn missing_segments_are_reported_by_their_frames() {
    let directory = quick_directory();
    drop(filled(directory.path(), 150, COUNT));
    note(directory.path(), LOW, DURABLE);
    let paths = segments(directory.path());
    assert_eq!(paths.len() as u64, COUNT, "one frame a segment");
    for (path, number) in paths.iter().zip(1..) {
        let whole = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let findings = verify(&opened(directory.path())).unwrap().findings;
        match (number, &findings[..]) {
            // The first was released, the last was never promised.
            (1 | COUNT, []) => {}
            (_, [finding]) => {
                assert_eq!((finding.first.0, finding.last.0), (number, number));
                let zone = if number <= LOW {
                    Zone::Published
                } else if number <= DURABLE {
                    Zone::Durable
                } else {
                    Zone::Beyond
                };
                assert_eq!(finding.zone, zone);
            }
            (_, findings) => panic!("segment {number}: {findings:#?}"),
        }
        fs::write(path, whole).unwrap();
    }
    for path in paths.iter().skip(5) {
        fs::remove_file(path).unwrap();
    }
    let findings = verify(&opened(directory.path())).unwrap().findings;
    assert_eq!(
        findings.iter().map(|one| (one.first.0, one.last.0, one.zone)).collect::<Vec<_>>(),
        [(6, 7, Zone::Durable)]
    );
}

#[test]
fn log_changing_during_verify_is_intact() {
    let directory = quick_directory();
    let (log, mut writer) = filled(directory.path(), 300, COUNT);
    note(directory.path(), 0, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in COUNT + 1..COUNT + 3_000 {
                Content::simple(number).append(&mut writer).unwrap();
                writer.flush().unwrap();
                if number % 50 == 0 {
                    note(directory.path(), number - 20, 0);
                    log.reclaim(FrameNo(number - 20)).unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut looks = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) || looks == 0 {
            let verified = verify(&opened(directory.path())).unwrap();
            assert!(verified.findings.is_empty(), "{:#?}", verified.findings);
            stat(&opened(directory.path())).unwrap();
            looks += 1;
        }
        println!("{looks} looks");
    });
}

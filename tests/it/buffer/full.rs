//! No room: nothing is lost, nothing is half written, and it goes on when there is room.

use std::fs;
use std::process::Command;
use std::time::Duration;

use forebay::buffer::disk::DiskError;
use forebay::buffer::log::LogConfig;
use forebay::buffer::reader::{ReadError, Reader};
use forebay::buffer::writer::WriteError;
use forebay::event::RecordKind;
use forebay::position::FrameNo;

use super::{Content, filled, new_log, read_all, segments, tiny};

fn large(number: u64, size: usize) -> Content {
    let record = (RecordKind::Event, "t".to_owned(), "k".to_owned(), vec![b'x'; size]);
    Content { records: vec![record], ..Content::simple(number) }
}

#[test]
fn full_log_refuses_and_continues_after_reclaim() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { max_size: 2_000, ..tiny(directory.path(), 500) };
    let (log, mut writer) = new_log(config);
    let mut number = 0;
    let error = loop {
        number += 1;
        Content::simple(number).append(&mut writer).unwrap();
        if let Err(error) = writer.flush() {
            break error;
        }
    };
    assert!(matches!(error, WriteError::LogFull { .. }), "{error}");
    assert!(writer.staged() > 0);
    assert!(log.bytes() <= 2_000);
    assert_eq!(log.tail().frame, FrameNo(number - 1));
    let mut reader = Reader::new(&log, FrameNo(0));
    assert_eq!(read_all(&mut reader).len() as u64, number - 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    log.reclaim(FrameNo(number - 1)).unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), writer.room())
            .await
            .expect("the writer learns of a release");
    });
    writer.flush().unwrap();
    assert_eq!(read_all(&mut reader), [(FrameNo(number), Content::simple(number))]);
}

#[test]
fn full_log_bounds_staged_memory() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { max_size: 10_000, ..tiny(directory.path(), 5_000) };
    let (_log, mut writer) = new_log(config);
    // The first refusals may come with some progress; then the log is full and nothing moves.
    let (mut taken, mut refused_in_a_row) = (0, 0);
    while refused_in_a_row < 3 {
        match large(taken + 1, 5_000).append(&mut writer) {
            Ok(number) => {
                (taken, refused_in_a_row) = (taken + 1, 0);
                assert_eq!(number, FrameNo(taken));
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused_in_a_row += 1;
            }
        }
        let staged = writer.staged();
        assert!(staged < (64 << 10) + 6_000, "{staged} bytes staged");
    }
    assert_eq!(writer.tail().frame, FrameNo(taken), "a refused frame has no number");
}

#[test]
fn frame_larger_than_log_is_distinguished_from_full_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = new_log(LogConfig { max_size: 10_000, ..tiny(directory.path(), 5_000) });
    let error = large(1, 10_000).append(&mut writer).unwrap_err();
    assert!(matches!(error, WriteError::TooLargeForLog { .. }) && !error.is_full(), "{error}");
    // The largest that fits goes through even if the rest of the log must go first.
    Content::simple(1).append(&mut writer).unwrap();
    writer.flush().unwrap();
    large(2, 9_800).append(&mut writer).unwrap();
    assert!(writer.flush().unwrap_err().is_full());
    log.reclaim(FrameNo(1)).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_all(&mut Reader::new(&log, FrameNo(1))), [(FrameNo(2), large(2, 9_800))]);
}

#[test]
fn drained_small_segment_is_deleted_after_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) =
        new_log(LogConfig { rotate_after: Duration::ZERO, ..tiny(directory.path(), 1 << 20) });
    for number in 1..=20 {
        Content::simple(number).append(&mut writer).unwrap();
        writer.flush().unwrap();
        log.reclaim(FrameNo(number)).unwrap();
        assert_eq!(segments(directory.path()).len(), 1);
    }
    assert!(segments(directory.path())[0].ends_with("00000000000000000020.log"));
}

const CHILD: &str = "FOREBAY_TEST_SMALL_FILES";

/// The disk is full for a process whose files may not grow: the test starts itself under `ulimit -f`.
#[test]
fn full_disk_leaves_whole_frames_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    if let Ok(path) = std::env::var(CHILD) {
        return on_a_full_disk(path.as_ref());
    }
    let child = Command::new("bash")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact buffer::full::full_disk_leaves_whole_frames_and_loses_nothing")
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    // Through pipes: where our own output goes to a file, that may have outgrown the child's limit already.
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(directory.path().join("done").exists(), "the child has run the test to its end");
}

/// Runs where no file may have more than 8 KiB.
fn on_a_full_disk(directory: &std::path::Path) {
    let config = LogConfig { rotate_after: Duration::ZERO, ..tiny(directory, 1 << 20) };
    let (log, mut writer) = new_log(config);
    let mut number = 0;
    let error = loop {
        number += 1;
        large(number, 1_000).append(&mut writer).unwrap();
        if let Err(error) = writer.flush() {
            break error;
        }
    };
    assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
    let path = segments(directory).remove(0);
    assert_eq!(fs::metadata(&path).unwrap().len(), log.bytes(), "cut back to the last whole frame");
    assert!(writer.flush().unwrap_err().is_full(), "still full");
    assert_eq!(log.sync().unwrap().frame, FrameNo(number - 1), "the rest is whole and can become durable");
    let read = read_all(&mut Reader::new(&log, FrameNo(0)));
    assert_eq!(read.len() as u64, number - 1);
    // A smaller frame would fit, but order comes first: it waits behind the one that does not.
    Content::simple(number + 1).append(&mut writer).unwrap();
    assert!(writer.flush().unwrap_err().is_full());
    assert_eq!(log.tail().frame, FrameNo(number - 1));
    // Once all is published, a new file is begun, and there is room.
    log.reclaim(FrameNo(number - 1)).unwrap();
    writer.flush().unwrap();
    let rest = [(FrameNo(number), large(number, 1_000)), (FrameNo(number + 1), Content::simple(number + 1))];
    assert_eq!(read_all(&mut Reader::new(&log, FrameNo(number - 1))), rest);
    fs::write(directory.join("done"), "").unwrap();
}

/// A failure that is not for want of room: here, the directory is gone.
#[test]
fn unexplained_io_error_disables_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = filled(directory.path(), 300, 3);
    let mut reader = Reader::new(&log, FrameNo(0));
    fs::remove_dir_all(directory.path()).unwrap();
    Content::simple(4).append(&mut writer).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(matches!(error, WriteError::Disk(DiskError::Io { .. })) && !error.is_full(), "{error}");
    fs::create_dir(directory.path()).unwrap();
    let poisoned = |error: DiskError| matches!(error, DiskError::Poisoned { .. });
    assert!(poisoned(log.sync().unwrap_err()));
    assert!(poisoned(log.reclaim(FrameNo(3)).unwrap_err()));
    assert!(matches!(writer.flush(), Err(WriteError::Disk(DiskError::Poisoned { .. }))));
    assert!(matches!(Content::simple(4).append(&mut writer), Err(WriteError::Disk(_))));
    assert!(matches!(reader.next_chunk(), Err(ReadError::Disk(DiskError::Poisoned { .. }))));
}

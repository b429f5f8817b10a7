//! Writer, reader and checkpointer on threads of their own.

use std::time::Duration;

use forebay::buffer::demand::Demand;
use forebay::buffer::log::LogConfig;
use forebay::buffer::reader::{ReadError, Reader};
use forebay::position::FrameNo;

use super::{Content, contents, filled, new_log, read_all, tiny};

const FRAMES: u64 = 20_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn concurrent_reader_sees_every_frame_once_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { max_size: 60_000, ..tiny(directory.path(), 4_000) };
    let (log, mut writer) = new_log(config);
    let mut reader = Reader::new(&log, FrameNo(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime().block_on(async {
                for number in 1..=FRAMES {
                    Content::simple(number).append(&mut writer).unwrap();
                    if number % 7 != 0 && number != FRAMES {
                        continue;
                    }
                    while let Err(error) = writer.flush() {
                        assert!(error.is_full(), "{error}");
                        let room = tokio::time::timeout(Duration::from_secs(30), writer.room());
                        room.await.expect("the reader makes room");
                    }
                }
            });
        });
        let mut last = 0;
        runtime().block_on(async {
            while last < FRAMES {
                let grown = tokio::time::timeout(Duration::from_secs(30), reader.grown(Demand::ANY));
                grown.await.expect("the reader learns of growth");
                let chunk = reader.next_chunk().unwrap().expect("there is more after grown()");
                for (number, content) in contents(&chunk) {
                    last += 1;
                    assert_eq!((number, &content), (FrameNo(last), &Content::simple(last)));
                }
                if last % 3 == 0 {
                    assert!(log.sync().unwrap().frame >= FrameNo(last));
                }
                log.reclaim(FrameNo(last)).unwrap();
            }
        });
    });
}

#[test]
fn read_during_append_gets_whole_frame_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = new_log(tiny(directory.path(), 4_000_000));
    let mut reader = Reader::new(&log, FrameNo(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=FRAMES {
                Content::simple(number).append(&mut writer).unwrap();
                writer.flush().unwrap();
            }
        });
        let mut last = 0;
        while last < FRAMES {
            for (number, _) in reader.next_chunk().unwrap().iter().flat_map(contents) {
                last += 1;
                assert_eq!(number, FrameNo(last));
            }
        }
    });
}

#[test]
fn reader_waits_for_frames_beyond_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = filled(directory.path(), 300, 3);
    let mut reader = Reader::new(&log, FrameNo(0));
    let waits = |reader: &Reader| {
        runtime().block_on(async {
            tokio::time::timeout(Duration::ZERO, reader.grown(Demand::ANY)).await.is_err()
        })
    };
    assert!(!waits(&reader));
    assert_eq!(read_all(&mut reader).len(), 3);
    assert!(waits(&reader));
    Content::simple(4).append(&mut writer).unwrap();
    assert!(waits(&reader), "a staged frame is not there yet");
    assert!(reader.next_chunk().unwrap().is_none());
    writer.flush().unwrap();
    assert!(!waits(&reader));
}

#[test]
fn reader_survives_reclaim_of_read_segments_only() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _writer) = filled(directory.path(), 300, 9);
    let (mut ahead, mut behind) = (Reader::new(&log, FrameNo(0)), Reader::new(&log, FrameNo(0)));
    let chunk = ahead.next_chunk().unwrap().unwrap();
    log.reclaim(chunk.last()).unwrap();
    assert_eq!(chunk.frames().count() as u64, chunk.last().0, "a chunk outlives its segment");
    assert_eq!(read_all(&mut ahead).len() as u64, 9 - chunk.last().0);
    assert!(matches!(behind.next_chunk(), Err(ReadError::Reclaimed { frame: FrameNo(1), .. })));
}

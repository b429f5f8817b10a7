//! Whatever stands in a segment of the log: a summary, a finding or an error, never a panic.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::buffer::checkpoint::Mark;
use forebay::buffer::disk::Directory;
use forebay::buffer::log::{Log, LogConfig};
use forebay::buffer::reader::Reader;
use forebay::buffer::stat::stat;
use forebay::buffer::verify::verify;
use forebay::position::FrameNo;
use libfuzzer_sys::fuzz_target;

const NAME: &str = "00000000000000000001.log";

/// A directory, and the header of its first segment.
fn directory() -> &'static (PathBuf, Directory, Vec<u8>) {
    static MADE: OnceLock<(PathBuf, Directory, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/forebay-fuzz-log-{}", std::process::id()));
        let directory = Directory::create(&path).unwrap();
        // Magic, version 2, first frame 1, checksum.
        let mut header = b"FOREBAYL".to_vec();
        header.extend(2_u32.to_le_bytes());
        header.extend(1_u64.to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        (path, directory, header)
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let (path, directory, header) = directory();
    let bytes = if kind % 4 == 0 { data.to_vec() } else { [header, data].concat() };
    std::fs::write(path.join(NAME), bytes).unwrap();
    drop(stat(directory));
    drop(verify(directory));
    drop(Log::last_seen(directory));
    let durable = FrameNo(u64::from(kind / 4 % 4));
    let Ok(scan) = Log::scan(directory, Mark::default(), durable) else { return };
    if scan.damage.is_some() {
        return;
    }
    let end = scan.good.frame;
    let Ok((log, _writer)) = Log::open(LogConfig::new(directory.clone(), 1 << 30), end, scan) else { return };
    let mut reader = Reader::new(&log, FrameNo(0));
    while let Ok(Some(chunk)) = reader.next_chunk() {
        for frame in chunk.frames() {
            assert!(frame.records().all(|record| record.line.len() <= data.len()));
        }
    }
});

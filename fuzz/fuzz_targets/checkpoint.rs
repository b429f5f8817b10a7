//! Whatever stands in the checkpoint file: a checkpoint or an error, never a panic.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::buffer::checkpoint::CheckpointFile;
use forebay::buffer::disk::Directory;
use libfuzzer_sys::fuzz_target;

/// A directory of this process, in memory where there is such a file system.
fn directory() -> &'static (PathBuf, Directory) {
    static MADE: OnceLock<(PathBuf, Directory)> = OnceLock::new();
    MADE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("forebay-fuzz-{}", std::process::id()));
        let directory = Directory::create(&path).unwrap();
        (path, directory)
    })
}

fuzz_target!(|data: &[u8]| {
    let (path, directory) = directory();
    std::fs::write(path.join("checkpoint"), data).unwrap();
    if let Ok((mut file, Some(checkpoint))) = CheckpointFile::open(directory) {
        file.write(&checkpoint).unwrap();
        let (_, again) = CheckpointFile::open(directory).unwrap();
        assert_eq!(again, Some(checkpoint));
    }
    drop(CheckpointFile::peek(directory));
});

//! Whatever stands in the file of table descriptions: it is read or left out, never a panic, and what is written is read again.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::buffer::disk::Directory;
use forebay::config::Pii;
use forebay::source::postgres::tables::TableHistory;
use libfuzzer_sys::fuzz_target;

fn directory() -> &'static (PathBuf, Directory) {
    static MADE: OnceLock<(PathBuf, Directory)> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/forebay-fuzz-tables-{}", std::process::id()));
        let directory = Directory::create(&path).unwrap();
        (path, directory)
    })
}

fuzz_target!(|data: &[u8]| {
    let (path, directory) = directory();
    std::fs::write(path.join("tables"), data).unwrap();
    let history = TableHistory::open(directory, ("lab", 1), &Pii::default());
    history.save();
    let once = std::fs::read(path.join("tables")).unwrap();
    TableHistory::open(directory, ("lab", 1), &Pii::default()).save();
    assert_eq!(once, std::fs::read(path.join("tables")).unwrap());
});

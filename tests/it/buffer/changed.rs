//! Files that something else deletes, renames, replaces or resizes while they are open: an fsync of them succeeds, and nothing
//! in them is durable.

use std::fs;
use std::path::Path;

use forebay::buffer::checkpoint::{CheckpointError, CheckpointFile};
use forebay::buffer::disk::DiskError;

use super::checkpoint::checkpoint;
use super::{filled, opened, quick_directory, segments};

type FileChange = fn(&Path);

/// What others do to a file, and what the error calls it.
const CHANGES: [(&str, FileChange); 5] = [
    ("deleted or renamed", |path| fs::remove_file(path).unwrap()),
    ("deleted or renamed", |path| rename(path, &path.with_extension("moved"))),
    ("replaced", |path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::remove_file(path).unwrap();
        rename(&path.with_extension("copy"), path);
    }),
    ("replaced", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("elsewhere", path).unwrap();
    }),
    ("truncated", |path| fs::File::options().write(true).open(path).unwrap().set_len(30).unwrap()),
];

fn rename(from: &Path, to: &Path) {
    fs::hard_link(from, to).unwrap();
    fs::remove_file(from).unwrap();
}

#[track_caller]
fn is_changed(error: &DiskError, change: &str) {
    assert!(matches!(error, DiskError::ChangedByOthers { .. }), "{error}");
    assert!(error.to_string().contains(&format!("was {change} ")), "{error}");
}

/// Closed or being written, with an open handle or without.
#[test]
fn changed_segment_is_not_durable() {
    for (change, make) in CHANGES {
        for last in [false, true] {
            let directory = quick_directory();
            let (log, writer) = filled(directory.path(), 300, 9);
            let paths = segments(directory.path());
            assert!(paths.len() >= 3);
            make(if last { paths.last() } else { paths.first() }.unwrap());
            is_changed(&log.sync().unwrap_err(), change);
            assert!(matches!(log.sync(), Err(DiskError::Poisoned { .. })), "nothing is durable later either");
            drop(writer);
        }
    }
}

#[test]
fn changed_checkpoint_is_not_written() {
    for (change, make) in CHANGES {
        let directory = quick_directory();
        let (mut file, _) = CheckpointFile::open(&opened(directory.path())).unwrap();
        for ever_confirmed in 1..=2 {
            file.write(&checkpoint(ever_confirmed)).unwrap();
        }
        make(&directory.path().join("checkpoint"));
        match file.write(&checkpoint(3)) {
            Err(CheckpointError::Disk(error)) => is_changed(&error, change),
            // The slot that is written is whole, whatever became of the other one.
            Ok(()) if change == "truncated" => {
                let (_, read) = CheckpointFile::open(&opened(directory.path())).unwrap();
                assert_eq!(read, Some(checkpoint(3)));
            }
            other => panic!("{change}: {other:?}"),
        }
    }
}

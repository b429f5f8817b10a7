//! Recognizes file systems whose data is lost with the machine or the container.

use std::fs::File;

/// The name of the file system of an opened directory, if its data does not survive the machine or the
/// container.
pub(super) fn kind(directory: &File) -> Option<&'static str> {
    file_system_magic(directory).and_then(volatile_name)
}

#[cfg(target_os = "linux")]
fn file_system_magic(directory: &File) -> Option<u64> {
    rustix::fs::fstatfs(directory).ok().and_then(|facts| u64::try_from(facts.f_type).ok())
}

/// Only Linux identifies file systems by a number. Elsewhere every directory counts as a disk.
#[cfg(not(target_os = "linux"))]
fn file_system_magic(_directory: &File) -> Option<u64> {
    None
}

/// Names by the magic numbers of statfs(2).
fn volatile_name(magic: u64) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58F6 => Some("ramfs"),
        0x794C_7630 => Some("overlay"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_storage_is_recognised() {
        assert_eq!(volatile_name(0xEF53), None, "ext4");
        assert_eq!(volatile_name(0x794C_7630), Some("overlay"));
        if cfg!(target_os = "linux")
            && let Ok(memory) = tempfile::tempdir_in("/dev/shm")
        {
            assert_eq!(kind(&File::open(memory.path()).unwrap()), Some("tmpfs"));
        }
    }
}

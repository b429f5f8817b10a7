//! File-system access: fsync rules, file modes, the directory lock and the classes of disk errors.
//!
//! The rules:
//!
//! - A new file exists after a power loss only if the file *and then* its directory were fsynced.
//! - A replaced file is either the old or the new one only if the new file is fsynced before the rename, and
//!   the directory after it.
//! - After a failed fsync the kernel marks the lost pages clean, so a second fsync "succeeds". A process
//!   whose fsync failed must not retry: it stops, and starts from what was durable before.
//! - `fdatasync` writes the data and the metadata needed to read it (the size), but not the timestamps.
//! - Each call resolves a path again, so another user can replace a file in between. Files are opened
//!   relative to one descriptor, the [`Directory`], without following links.
//!
//! This module only recognizes a full disk ([`is_full`]). Its callers decide what to do about it.

mod create;
mod directory;
mod error;
mod lock;
mod room;
mod volatile;

pub use self::directory::Directory;
pub use self::error::{DiskError, failed, if_exists, is_full, why_full};
pub use self::lock::{DirectoryLock, LockError};
pub use self::room::{DirectoryRoom, DiskSpace};

//! Forecasts when the log and the disk of the buffer are full, from the growth of the last minutes.
//!
//! It requests the free space from the operating system, which may block: run it on a thread that nothing
//! waits for.

use crate::buffer::disk::Directory;
use crate::daemon::forecast::{Foreseen, Growth};
use crate::diagnosis::Severity;
use crate::pipeline::status::Status;
use crate::time;

/// The growth of the log and of its disk.
#[derive(Debug, Default)]
pub struct FillForecast {
    log: Growth,
    /// Growth of the used space, by any process.
    disk: Growth,
    log_foreseen: Foreseen,
    disk_foreseen: Foreseen,
}

impl FillForecast {
    /// Measures both, and reports when they will be full. Call it about once a minute.
    pub fn look(&mut self, directory: &Directory, status: &Status) {
        let now = time::now();
        let log_left = status.log_room().and_then(|(bytes, max)| {
            self.log.look(now, bytes);
            self.log.reaches(max.saturating_sub(bytes))
        });
        let space = directory.space().ok();
        let disk_left = space.and_then(|space| {
            self.disk.look(now, space.used);
            self.disk.reaches(space.free)
        });
        status.fill(|part| {
            part.log_growth = self.log.per_second();
            part.log_full_at = log_left.and_then(|left| now.checked_add(left));
            part.disk_free = space.map(|space| space.free);
            part.disk_full_at = disk_left.and_then(|left| now.checked_add(left));
        });
        if let Some((severity, minutes)) = self.log_foreseen.take(log_left) {
            log_full(severity, minutes);
        }
        if let Some((severity, minutes)) = self.disk_foreseen.take(disk_left) {
            disk_full(severity, minutes);
        }
    }
}

fn log_full(severity: Severity, minutes: u64) {
    const HINT: &str =
        "Find out what keeps events from being published (forebay status), or raise buffer.max_size.";
    if severity == Severity::Blocker {
        tracing::error!(
            event = "log_full_foreseen",
            minutes,
            hint = HINT,
            "the log grows; it is full soon, and the source pauses"
        );
    } else {
        tracing::warn!(
            event = "log_full_foreseen",
            minutes,
            hint = HINT,
            "the log grows; it is full within a day"
        );
    }
}

fn disk_full(severity: Severity, minutes: u64) {
    const HINT: &str = "Find out what fills the file system of buffer.dir, or enlarge it.";
    if severity == Severity::Blocker {
        tracing::error!(
            event = "disk_full_foreseen",
            minutes,
            hint = HINT,
            "the disk of buffer.dir fills; it is full soon"
        );
    } else {
        tracing::warn!(
            event = "disk_full_foreseen",
            minutes,
            hint = HINT,
            "the disk of buffer.dir fills; it is full within a day"
        );
    }
}

//! The audit file: each epoch that `forebay adopt` or a start has begun, with the reason.

use crate::buffer::checkpoint::{Checkpoint, Injection};
use crate::buffer::disk::{self, Directory, DiskError};

/// Name of the audit file in the buffer directory. Each line is one adoption in JSON.
pub(super) const AUDIT_FILE: &str = "adoptions.jsonl";

/// The highest epoch in the audit file, in case the checkpoint is lost. If an epoch were used twice, new
/// events would sort before old ones.
pub(super) fn audited_epoch(directory: &Directory) -> Result<u16, DiskError> {
    let Some(bytes) = disk::if_exists(directory.read(AUDIT_FILE))? else { return Ok(0) };
    let text = String::from_utf8_lossy(&bytes);
    let epoch = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        u16::try_from(entry.get("epoch")?.as_u64()?).ok()
    };
    Ok(text.lines().filter_map(epoch).max().unwrap_or(0))
}

/// Records in the audit file that a start has begun an epoch by itself.
pub(super) fn audit_epoch(directory: &Directory, begun: &Checkpoint) -> Result<(), DiskError> {
    for injection in &begun.injections {
        if let Injection::Gap { epoch, from, to, reason, at, .. } = injection
            && *epoch == begun.epoch
        {
            let line = serde_json::json!({
                "at": at,
                "reason": reason,
                "epoch": epoch,
                "last_position": from.map(|position| position.to_string()),
                "resumes_at": to.to_string(),
            });
            directory.append_line(AUDIT_FILE, &line.to_string())?;
        }
    }
    Ok(())
}

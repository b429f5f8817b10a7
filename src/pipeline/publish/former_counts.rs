//! Completes the event counts of a checkpoint that an earlier version wrote: see [`FormerCounts`].

use std::sync::Arc;

use crate::buffer::checkpoint::Totals;
use crate::buffer::log::Log;
use crate::buffer::reader::{ReadError, Reader};
use crate::sink::lanes::{Admission, FormerCounts, Start};

/// Counts the events that lanes have published beyond the watermark of this start. Reads that part of the
/// log, and yields to other tasks after each chunk.
pub(super) async fn count(
    log: &Arc<Log>,
    start: &Start,
    max_record_size: usize,
) -> Result<Vec<(String, Totals)>, ReadError> {
    let mut counts = FormerCounts::new(start, max_record_size);
    let last = counts.last();
    let mut reader = Reader::new(log, start.watermark.frame);
    while reader.last() < last
        && let Some(chunk) = reader.next_chunk_until(last)?
    {
        for frame in chunk.frames() {
            let records = frame.records().map(|record| Admission {
                kind: record.kind,
                hash: record.hash,
                event_type: record.event_type,
                key: record.key,
                line: record.line,
            });
            counts.count(frame.head().number, records);
        }
        tokio::task::yield_now().await;
    }
    Ok(counts.into_counts())
}

//! Reads frames from the log into the windows. Each reader of the lanes has a log reader of its own.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::timeout_at;

use crate::buffer::demand::Demand;
use crate::buffer::frame::{FrameKind, LentRecord};
use crate::buffer::log::Log;
use crate::buffer::reader::{Chunk, ReadError, Reader};
use crate::event::RecordKind;
use crate::pipeline::dead_letter::AlreadyWritten;
use crate::position::FrameNo;
use crate::sink::lanes::{Admission, Frame, Lanes, ReaderId};
use crate::sink::pacing::Hold;

/// Most bytes that a reader reads in one step. Records of lanes that other readers serve do not stay in its
/// window. Without the limit, a reader that lags far behind and has little to send would read the whole log
/// in one step, and delay requests, responses and a stop.
const SHARE: usize = 512 << 10;

/// The readers of one attempt.
#[derive(Debug)]
pub(super) struct LogReaders {
    log: Arc<Log>,
    main: Reader,
    /// Log readers of the catch-up readers.
    catch_up: HashMap<ReaderId, Reader>,
    /// The current epoch. Transactions of earlier epochs belong to another history, so none of them is the
    /// last seen one.
    epoch: u16,
}

impl LogReaders {
    /// Starts with only the main reader, at the position where the lanes begin.
    pub(super) fn new(log: &Arc<Log>, lanes: &Lanes, epoch: u16) -> Self {
        Self { log: Arc::clone(log), main: Reader::new(log, lanes.head()), catch_up: HashMap::new(), epoch }
    }

    /// Waits until the log has frames that the main reader has not read. With `hold` it waits longer, until a
    /// request is full or the time has come, so that a burst of single events costs one wake-up. Cancel-safe.
    pub(super) async fn grown(&self, hold: Option<Hold>) {
        if let Some(Hold { until, records, bytes }) = hold {
            // Each frame has at least one record.
            let much = self.main.grown(Demand { frames: records as u64, bytes: bytes as u64 });
            if timeout_at(until, much).await.is_ok() {
                return;
            }
        }
        self.main.grown(Demand::ANY).await;
    }

    /// Lets each reader read as much as its window has space for, at most [`SHARE`] bytes. Returns whether a
    /// reader could read more. Events that are in the dead-letter file (`already_written`) are admitted as
    /// dead letters. Blocks on the disk.
    pub(super) fn read(
        &mut self,
        lanes: &mut Lanes,
        already_written: &mut AlreadyWritten,
    ) -> Result<bool, ReadError> {
        let ids = lanes.readers();
        self.catch_up.retain(|id, _| ids.contains(id));
        let mut more = false;
        for id in ids {
            let mut read = 0;
            while let Some((after, until)) = lanes.wants(id) {
                if read >= SHARE {
                    more = true;
                    break;
                }
                let Some(chunk) = self.reader(id, after).next_chunk_until(until)? else { break };
                read += chunk.size();
                admit(lanes, id, &chunk, self.epoch, already_written);
            }
        }
        Ok(more)
    }

    fn reader(&mut self, id: ReaderId, after: FrameNo) -> &mut Reader {
        if id == ReaderId::MAIN {
            return &mut self.main;
        }
        let reader = self.catch_up.entry(id).or_insert_with(|| Reader::new(&self.log, after));
        // The reader may have ended, and a new one with the same number may begin at a later frame.
        if reader.last() != after {
            *reader = Reader::new(&self.log, after);
        }
        reader
    }
}

fn admit(lanes: &mut Lanes, id: ReaderId, chunk: &Chunk, epoch: u16, already_written: &mut AlreadyWritten) {
    for frame in chunk.frames() {
        let head = frame.head();
        let change = head.kind == FrameKind::Change;
        let admitted = Frame {
            number: head.number,
            position: change.then_some(head.position),
            transaction: (change && head.position.epoch == epoch).then_some(head.transaction),
            bytes: frame.size(),
        };
        let mut kind = |part: u16, record: &LentRecord<'_>| match record.kind {
            // It takes the place of the event among the records of its key.
            RecordKind::Event if already_written.has(head, part, &record.line) => RecordKind::DeadLetter,
            kind => kind,
        };
        let records = (0..).zip(frame.records()).map(|(part, record)| Admission {
            kind: kind(part, &record),
            hash: record.hash,
            event_type: record.event_type,
            key: record.key,
            line: record.line,
        });
        lanes.admit_to(id, &admitted, records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::checkpoint::Mark;
    use crate::buffer::disk::Directory;
    use crate::buffer::log::LogConfig;
    use crate::event::Records;
    use crate::position::{CommitSeq, Position, Transaction};
    use crate::sink::lanes::Start;
    use crate::sink::pacing::Limits;

    fn log(directory: &std::path::Path, frames: u64, size: usize) -> Arc<Log> {
        let watermark = Mark::default();
        let directory = Directory::open(directory).unwrap();
        let scan = Log::scan(&directory, watermark, watermark.frame).unwrap();
        let (log, mut writer) = Log::open(LogConfig::new(directory, 1 << 30), watermark.frame, scan).unwrap();
        for number in 1..=frames {
            let mut records = Records::default();
            let write = |out: &mut Vec<u8>| {
                out.resize(out.len() + size, b'x');
                Ok::<(), ()>(())
            };
            records.push(RecordKind::Event, "t", &format!("key {number}"), write).unwrap();
            let commit = CommitSeq::new(number);
            let position = Position { epoch: 1, commit, index: 0 };
            let transaction = Transaction { commit, xid: 1, time: 0 };
            writer.append(FrameKind::Change, position, transaction, &records).unwrap();
        }
        writer.flush().unwrap();
        log
    }

    #[test]
    fn fully_published_log_is_read_in_bounded_steps() {
        let directory = tempfile::tempdir().unwrap();
        let (frames, size) = (100, 100_000);
        let log = log(directory.path(), frames, size);
        let lanes = (0..=u8::MAX).map(|lane| (lane, FrameNo(frames))).collect();
        let start = Start { lanes, ..Start::default() };
        let mut lanes = Lanes::new(&start, Limits::default(), 1);
        let mut readers = LogReaders::new(&log, &lanes, 1);
        let mut watermark = lanes.watermark().frame;
        while readers.read(&mut lanes, &mut AlreadyWritten::default()).unwrap() {
            let step = lanes.watermark().frame.0 - watermark.0;
            assert!(step > 0 && step * size as u64 <= 2 * SHARE as u64, "{step} frames at once");
            watermark = lanes.watermark().frame;
        }
        assert_eq!(lanes.watermark().frame, FrameNo(frames));
    }

    #[test]
    fn recount_reader_starts_at_its_first_frame() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path(), 40, 10);
        let lanes = (0..=u8::MAX).map(|lane| (lane, FrameNo(if lane == 7 { 15 } else { 30 }))).collect();
        let start =
            Start { watermark: Mark { frame: FrameNo(5), position: None }, lanes, ..Start::default() };
        let limits = Limits { window_bytes: 8 << 10, ..Limits::default() };
        let mut lanes = Lanes::new(&start, limits, 1);
        assert!(lanes.readers().contains(&ReaderId::AUDIT));
        let mut readers = LogReaders::new(&log, &lanes, 1);
        readers.catch_up.insert(ReaderId::AUDIT, Reader::new(&log, FrameNo(2)));
        readers.read(&mut lanes, &mut AlreadyWritten::default()).unwrap();
        assert!(lanes.watermark().frame >= FrameNo(15));
    }
}

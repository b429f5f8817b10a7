//! From the log into the windows: each feed of the lanes has a reader of its own.

use std::sync::Arc;

use crate::buffer::frame::{FrameKind, LentRecord};
use crate::buffer::log::Log;
use crate::buffer::reader::{Chunk, ReadError, Reader};
use crate::event::RecordKind;
use crate::pipeline::poison::PutAside;
use crate::position::FrameNo;
use crate::sink::lanes::{Admission, FeedId, Frame, Lanes};

/// Bytes that a feed is given at once. What is nobody's affair leaves a window as it enters: without this, a feed that is far
/// behind and has little to send would go through all of the log in one step, while nobody sends, settles or stops.
const SHARE: usize = 512 << 10;

/// The readers of one attempt.
#[derive(Debug)]
pub(super) struct Readers {
    log: Arc<Log>,
    front: Reader,
    behind: Vec<(FeedId, Reader)>,
    /// Transactions of earlier epochs are of another history and never the tip.
    epoch: u16,
}

impl Readers {
    /// A front reader where the lanes' front begins.
    pub(super) fn new(log: &Arc<Log>, lanes: &Lanes, epoch: u16) -> Self {
        Self { log: Arc::clone(log), front: Reader::new(log, lanes.head()), behind: Vec::new(), epoch }
    }

    /// Waits until there is more than the front has read. Cancel-safe.
    pub(super) async fn grown(&self) {
        self.front.grown().await;
    }

    /// Gives each feed what it has room for, but no more than [`SHARE`] at once. Whether some of them want more, which is to be
    /// read soon. What was put `aside` enters as a dead letter. Blocks for the disk.
    pub(super) fn read(&mut self, lanes: &mut Lanes, aside: &mut PutAside) -> Result<bool, ReadError> {
        let feeds = lanes.feeds();
        self.behind.retain(|(id, _)| feeds.contains(id));
        let mut more = false;
        for id in feeds {
            let mut read = 0;
            while let Some((after, until)) = lanes.wants(id) {
                if read >= SHARE {
                    more = true;
                    break;
                }
                let Some(chunk) = self.reader(id, after).next_chunk_until(until)? else { break };
                read += chunk.size();
                admit(lanes, id, &chunk, self.epoch, aside);
            }
        }
        Ok(more)
    }

    fn reader(&mut self, id: FeedId, after: FrameNo) -> &mut Reader {
        if id == FeedId::FRONT {
            return &mut self.front;
        }
        let at = self.behind.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            self.behind.push((id, Reader::new(&self.log, after)));
            self.behind.len() - 1
        });
        let Some((_, reader)) = self.behind.get_mut(at) else { return &mut self.front };
        // The books may have been closed and begun anew, further on, since they were read last.
        if reader.last() != after {
            *reader = Reader::new(&self.log, after);
        }
        reader
    }
}

fn admit(lanes: &mut Lanes, id: FeedId, chunk: &Chunk, epoch: u16, aside: &mut PutAside) {
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
            // It takes the way of a dead letter, and keeps its place among the records of its key.
            RecordKind::Event if aside.has(head, part, &record.line) => RecordKind::DeadLetter,
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
    use crate::buffer::log::LogConfig;
    use crate::event::Records;
    use crate::position::{Lsn, Position, Transaction};
    use crate::sink::lanes::Start;
    use crate::sink::request::Limits;

    fn log(directory: &std::path::Path, frames: u64, size: usize) -> Arc<Log> {
        let low = Mark::default();
        let scan = Log::scan(directory, low, low.frame).unwrap();
        let (log, mut writer) = Log::open(LogConfig::new(directory, 1 << 30), low.frame, scan).unwrap();
        for number in 1..=frames {
            let mut records = Records::default();
            let write = |out: &mut Vec<u8>| {
                out.resize(out.len() + size, b'x');
                Ok::<(), ()>(())
            };
            records.push(RecordKind::Event, "t", &format!("key {number}"), write).unwrap();
            let commit = Lsn::new(number);
            let position = Position { epoch: 1, commit, index: 0 };
            let transaction = Transaction { commit, xid: 1, time: 0 };
            writer.append(FrameKind::Change, position, transaction, &records).unwrap();
        }
        writer.flush().unwrap();
        log
    }

    #[test]
    fn a_log_of_which_nothing_is_to_be_sent_is_gone_through_in_steps() {
        let directory = tempfile::tempdir().unwrap();
        let (frames, size) = (100, 100_000);
        let log = log(directory.path(), frames, size);
        let lanes = (0..=u8::MAX).map(|lane| (lane, FrameNo(frames))).collect();
        let start = Start { lanes, ..Start::default() };
        let mut lanes = Lanes::new(&start, Limits::default(), 1);
        let mut readers = Readers::new(&log, &lanes, 1);
        let mut low = lanes.low().frame;
        while readers.read(&mut lanes, &mut PutAside::default()).unwrap() {
            let step = lanes.low().frame.0 - low.0;
            assert!(step > 0 && step * size as u64 <= 2 * SHARE as u64, "{step} frames at once");
            low = lanes.low().frame;
        }
        assert_eq!(lanes.low().frame, FrameNo(frames));
    }

    #[test]
    fn books_that_are_begun_anew_are_read_from_where_they_begin() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path(), 40, 10);
        let lanes = (0..=u8::MAX).map(|lane| (lane, FrameNo(if lane == 7 { 15 } else { 30 }))).collect();
        let start = Start { low: Mark { frame: FrameNo(5), position: None }, lanes, ..Start::default() };
        let limits = Limits { window_bytes: 8 << 10, ..Limits::default() };
        let mut lanes = Lanes::new(&start, limits, 1);
        assert!(lanes.feeds().contains(&FeedId::BOOKS));
        let mut readers = Readers::new(&log, &lanes, 1);
        readers.behind.push((FeedId::BOOKS, Reader::new(&log, FrameNo(2))));
        readers.read(&mut lanes, &mut PutAside::default()).unwrap();
        assert!(lanes.low().frame >= FrameNo(15));
    }
}

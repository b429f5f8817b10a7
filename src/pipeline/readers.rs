//! From the log into the windows: each feed of the lanes has a reader of its own.

use std::sync::Arc;

use crate::buffer::frame::FrameKind;
use crate::buffer::log::Log;
use crate::buffer::reader::{Chunk, ReadError, Reader};
use crate::position::FrameNo;
use crate::sink::lanes::{Admission, FeedId, Frame, Lanes};

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

    /// Gives each feed what it has room for. Blocks for the disk.
    pub(super) fn read(&mut self, lanes: &mut Lanes) -> Result<(), ReadError> {
        let feeds = lanes.feeds();
        self.behind.retain(|(id, _)| feeds.contains(id));
        for id in feeds {
            while let Some((after, until)) = lanes.wants(id) {
                let Some(chunk) = self.reader(id, after).next_chunk_until(until)? else { break };
                admit(lanes, id, &chunk, self.epoch);
            }
        }
        Ok(())
    }

    fn reader(&mut self, id: FeedId, after: FrameNo) -> &mut Reader {
        if id == FeedId::FRONT {
            return &mut self.front;
        }
        let at = self.behind.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            self.behind.push((id, Reader::new(&self.log, after)));
            self.behind.len() - 1
        });
        self.behind.get_mut(at).map_or(&mut self.front, |(_, reader)| reader)
    }
}

fn admit(lanes: &mut Lanes, id: FeedId, chunk: &Chunk, epoch: u16) {
    for frame in chunk.frames() {
        let head = frame.head();
        let change = head.kind == FrameKind::Change;
        let admitted = Frame {
            number: head.number,
            position: change.then_some(head.position),
            transaction: (change && head.position.epoch == epoch).then_some(head.transaction),
            bytes: frame.size(),
        };
        let records = frame.records().map(|record| Admission {
            kind: record.kind,
            hash: record.hash,
            event_type: record.event_type,
            key: record.key,
            line: record.line,
        });
        lanes.admit_to(id, &admitted, records);
    }
}

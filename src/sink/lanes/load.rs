//! A request while it is filled.

use super::feed::{Feed, Rules};
use crate::sink::Outgoing;
use crate::sink::request::{Allowance, Sent};

/// What is in it so far.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) sent: Vec<Sent>,
    pub(super) records: Vec<Outgoing>,
    pub(super) bytes: usize,
    pub(super) allowance: Allowance,
}

impl Load {
    /// Takes the oldest ready records of a feed, as many as fit; of several feeds, only one's share. Whether a record was left
    /// because it did not fit.
    pub(super) fn take_from(&mut self, feed: &mut Feed, share: Option<usize>, rules: Rules<'_>) -> bool {
        let (records_before, bytes_before) = (self.records.len(), self.bytes);
        while let Some(seq) = feed.ready.oldest() {
            let Some(entry) = feed.window.entry(seq) else { break };
            let (size, lane) = (entry.size(), entry.hash.lane());
            let too_large = size > rules.max_record_size;
            if too_large || rules.pauses.is_paused(lane) || feed.is_held(lane) {
                // The limit has fallen, or the lane has been paused, since the record became ready.
                feed.unready(seq, size);
                feed.make_ready(seq, rules);
                continue;
            }
            let (records, bytes) = (self.records.len(), self.bytes);
            if !self.allowance.fits(records, bytes, size) {
                return true;
            }
            let enough =
                |share| self.allowance.is_share(records - records_before, bytes - bytes_before, share);
            if share.is_some_and(enough) {
                break;
            }
            self.records.push(Outgoing { key: entry.key.clone(), data: entry.line.clone() });
            feed.send(seq, size);
            self.sent.push(Sent { feed: feed.id, seq });
            self.bytes += size;
        }
        false
    }
}

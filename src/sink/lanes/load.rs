//! Fills one request with ready records, oldest first.

use tokio::time::Instant;

use super::reader::{Reader, Rules};
use super::suspects::Suspects;
use super::ticket::Sent;
use super::window::State;
use crate::sink::Outgoing;
use crate::sink::pacing::{Allowance, Limits};
use crate::sink::shards::Shards;
use crate::sink::throttle::Pauses;

/// What decides which records are sent.
#[derive(Debug)]
pub(super) struct LoadRules<'a> {
    pub(super) limits: &'a Limits,
    pub(super) pauses: &'a Pauses,
    pub(super) shards: &'a mut Shards,
    pub(super) suspects: &'a mut Suspects,
    pub(super) now: Instant,
}

/// The request that is being filled.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) sent: Vec<Sent>,
    pub(super) records: Vec<Outgoing>,
    pub(super) bytes: usize,
    pub(super) allowance: Allowance,
    /// Largest size of a record that lines of one key share.
    pub(super) pack_bytes: usize,
    /// Whether a record was moved to another queue, from where it may be sent at once.
    pub(super) moved: bool,
}

impl Load {
    /// Adds the oldest ready records of a reader, as many as fit; with `share`, only the reader's share.
    /// Returns whether a record did not fit.
    pub(super) fn take_from(
        &mut self,
        reader: &mut Reader,
        share: Option<usize>,
        rules: &mut LoadRules<'_>,
    ) -> bool {
        let (records_before, bytes_before) = (self.records.len(), self.bytes);
        while let Some((seq, place)) = reader.oldest() {
            let Some(entry) = reader.window.entry(seq) else { break };
            let (size, hash, id) = (entry.size(), entry.hash, (entry.frame, entry.part));
            let section = entry.section;
            let too_large = entry.is_too_large(rules.limits.max_record_size);
            let waits = rules.pauses.is_paused(section) || reader.is_suspended(section);
            let strays = rules.shards.limited(hash) != place;
            if too_large || waits || strays {
                self.moved |= strays;
                // Since the record became ready, the size limit was lowered, its section was paused, or
                // another shard serves it.
                reader.remove_ready(seq, size);
                if place.is_some() {
                    reader.paced.next(true);
                }
                reader.make_ready(seq, Rules::new(rules.limits, rules.pauses, rules.shards));
                continue;
            }
            if rules.suspects.has_evidence(|| id) {
                // The record failed alone before its section was read again.
                reader.remove_ready(seq, size);
                if place.is_some() {
                    reader.paced.next(true);
                }
                if let Some(entry) = reader.window.entry_mut(seq) {
                    entry.state = State::Suspect;
                }
                rules.suspects.add_alone(Sent { reader: reader.id, seq }, rules.now);
                self.moved = true;
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
            // Another reader may have used the tokens.
            if place.is_some_and(|place| !rules.shards.take(place, size, rules.now)) {
                reader.paced.next(false);
                continue;
            }
            reader.send(seq, size);
            if place.is_some() {
                reader.paced.next(true);
            }
            let room = self.pack_bytes.min(self.allowance.room(bytes));
            let alone = size;
            let (record, size) = reader.pack(seq, room);
            if let Some(place) = place {
                rules.shards.spend(place, size.saturating_sub(alone));
            }
            self.records.extend(record);
            self.sent.push(Sent { reader: reader.id, seq });
            self.bytes += size;
        }
        false
    }
}

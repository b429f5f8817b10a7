//! Progress of the buffer: received, durable, published, settled. Does no I/O; the checkpointer does that.
//!
//! - *received*: appended to the log, up to `tail`.
//! - *durable*: fsynced in the log *and* noted in the checkpoint.
//! - *published*: acknowledged by the stream *and* noted in the checkpoint.
//! - *settled*: published or durable (with `confirm_after = "never"`: published).
//!
//! A `Marker` maps a frame to the [`ResumePoint`] that may be confirmed once the frame is settled. It is
//! valid on its own connection only. [`Ledger::prepare`] creates the next checkpoint. [`Ledger::written`],
//! called after its fsync, returns the [`Settled`].

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::config::ConfirmAfter;
use crate::letter_id::LetterId;
use crate::position::{CommitSeq, FrameNo, ResumePoint, Transaction};

use super::checkpoint::{Checkpoint, Injection, LagFacts, Retry, Totals};
use crate::identity::StreamIdentity;

mod boundary;
mod injections;
mod lag;
mod letters;
mod progress;
mod reports;
mod retries;
mod shared;
mod unclean_stop;

use self::boundary::Boundaries;
use self::letters::LetterOffsets;
use self::reports::{ProgressCounts, Reports, uncount};
use self::unclean_stop::UncleanStop;
pub use progress::{Behind, Published, Reached};
pub use reports::{EVENT_TYPES_MAX, OTHER_TYPES};
pub use shared::SharedLedger;

/// Proof that everything received before this point on this connection is settled in the written checkpoint.
/// Only the buffer can create one, so a premature confirmation does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    resume: ResumePoint,
    connection: u64,
}

impl Settled {
    /// The point that may be confirmed.
    pub const fn resume(&self) -> &ResumePoint {
        &self.resume
    }

    /// The connection that delivered it. The proof is not valid on another connection.
    pub const fn connection(&self) -> u64 {
        self.connection
    }
}

/// The resume point that may be confirmed once the frame is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Marker {
    frame: FrameNo,
    resume: ResumePoint,
}

/// Most markers kept. Beyond that, every second one is dropped. Positions are then confirmed in larger steps.
const MARKERS_MAX: usize = 4_096;

/// Resolution of the tail's age, as a fraction of `confirm_after`.
const AGE_STEPS: u32 = 32;

/// The state of the buffer, shared by the two loops and the checkpointer.
#[derive(Debug)]
pub struct Ledger {
    confirm_after: ConfirmAfter,
    /// The last written checkpoint.
    written: Checkpoint,
    tail: Reached,
    synced: Reached,
    /// Only for a source that does not send a change again by itself.
    boundaries: Option<Boundaries>,
    reports: Reports,
    /// Whether lanes stay ahead of the watermark: they have been since the previous report.
    lanes_ahead: bool,
    stream: Option<StreamIdentity>,
    timeline: u32,
    injected: Vec<(FrameNo, Injection)>,
    /// Requested retries that are not in the checkpoint yet.
    requested: Vec<Retry>,
    /// Settled retries whose result is in the dead-letter file.
    closed: Vec<LetterId>,
    letters: LetterOffsets,
    /// The last change of state of the lag; `None` if lag events are off.
    lag: Option<LagFacts>,
    markers: VecDeque<Marker>,
    connection: u64,
    /// Whether an earlier process, which did not stop cleanly, may have published records beyond `last_seen`.
    unclean_stop: UncleanStop,
    /// Nothing more is received. The next checkpoint notes that.
    stopped: bool,
    /// Earlier positions of the tail with their times, oldest first.
    ages: VecDeque<(Instant, FrameNo)>,
}

impl Ledger {
    /// The state after recovery has truncated the log as the checkpoint requires.
    pub fn new(written: Checkpoint, confirm_after: ConfirmAfter) -> Self {
        let reached = |mark| Reached { mark, transaction: None };
        let tail =
            if written.durable.frame > written.watermark.frame { written.durable } else { written.watermark };
        Self {
            confirm_after,
            tail: reached(tail),
            synced: reached(written.durable),
            boundaries: None,
            reports: Reports::new(&written),
            lanes_ahead: false,
            stream: written.identity.stream.clone(),
            timeline: written.identity.source.timeline(),
            injected: written.injections_in_the_log(tail.frame),
            requested: Vec::new(),
            closed: Vec::new(),
            letters: LetterOffsets::starting_at(written.letters_from),
            lag: None,
            markers: VecDeque::new(),
            connection: 0,
            unclean_stop: UncleanStop::None,
            stopped: false,
            ages: VecDeque::new(),
            written,
        }
    }

    /// Stores resume points that belong to exactly the last durable frame, for a source that does not send a
    /// change again by itself.
    #[must_use]
    pub fn resuming_exactly(self) -> Self {
        Self { boundaries: Some(Boundaries::default()), ..self }
    }

    /// The last written checkpoint.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.written
    }

    /// The last frame received.
    pub const fn tail(&self) -> Reached {
        self.tail
    }

    /// The watermark: everything up to it is published.
    pub const fn watermark(&self) -> Reached {
        self.published().watermark
    }

    /// The last report of the publish loop.
    pub const fn published(&self) -> &Published {
        self.reports.latest()
    }

    /// The progress from which a publish attempt begins: that of the last report of the previous attempt.
    pub fn resume(&mut self) -> &Published {
        self.reports.resume()
    }

    /// The event counts, including those that are not in the checkpoint yet.
    pub fn event_counts(&self) -> BTreeMap<String, Totals> {
        self.reports.event_counts()
    }

    /// Per event type, events that the watermark has passed without an outcome. It is empty unless Forebay
    /// has lost events. `None` while the counts include events beyond the watermark.
    pub fn unaccounted(&self) -> Option<Vec<(&str, u64)>> {
        self.reports.unaccounted()
    }

    /// Whether the event counts include what lanes have published beyond the watermark. If not, an earlier
    /// version has written the checkpoint, and those events must be [counted](Self::count_by_lane) before the
    /// first report.
    pub const fn is_counted_by_lane(&self) -> bool {
        self.reports.counted_by_lane()
    }

    /// Adds what lanes have published beyond the watermark to the counts of an earlier version.
    pub fn count_by_lane(&mut self, ahead: Vec<(String, Totals)>) {
        self.reports.count_by_lane(ahead);
    }

    /// The stream; `None` until its first description.
    pub const fn stream(&self) -> Option<&StreamIdentity> {
        self.stream.as_ref()
    }

    /// The highest transaction that must be in the server's history: that of the checkpoint, or of this
    /// process's own tail.
    pub fn last_seen(&self) -> Option<Transaction> {
        highest(self.written.last_seen, self.tail.transaction)
    }

    /// The checkpoint that a reconnect compares the server with. It has the last transaction of this
    /// process's tail and the timeline of its last connection. With the written checkpoint alone, a promoted
    /// server would seem to lack what was received since.
    #[must_use]
    pub fn known(&self) -> Checkpoint {
        let mut known = self.written.clone();
        known.last_seen = self.last_seen();
        known.identity.source.set_timeline(self.timeline);
        known.clean = self.unclean_stop == UncleanStop::None;
        known
    }

    /// Notes that the last stop was not clean. Published records may be newer than `last_seen`, until
    /// everything has been received again that the server had then.
    pub fn note_unclean_stop(&mut self) {
        self.unclean_stop = UncleanStop::UntilConnected;
    }

    /// Notes a clean stop: nothing more is received or published.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Begins a new connection to a source whose log ends at `end`, and returns its number. Deliveries of
    /// earlier connections are no longer confirmed.
    pub fn connect(&mut self, timeline: u32, end: CommitSeq) -> u64 {
        self.timeline = timeline;
        if self.unclean_stop == UncleanStop::UntilConnected {
            self.unclean_stop = UncleanStop::UntilReceived(end);
        }
        self.markers.clear();
        self.connection += 1;
        self.connection
    }

    /// Notes that the server of this connection is on a later timeline: a connection to a standby survives
    /// its promotion. Without this note, the next start would be refused. An earlier timeline is ignored,
    /// because the control file may lag.
    pub fn promoted(&mut self, timeline: u32) {
        self.timeline = self.timeline.max(timeline);
    }

    /// Notes that the log has grown to `tail`.
    pub fn received(&mut self, tail: Reached) {
        debug_assert!(tail.mark.frame >= self.tail.mark.frame, "the tail went back");
        let tail = self.of_epoch(tail);
        self.tail = Reached { transaction: tail.transaction.or(self.tail.transaction), ..tail };
    }

    /// Notes that `tail` is the end of everything received, and that no transaction is open.
    pub fn complete(&mut self, tail: Reached) {
        if let (Some(boundaries), Some(marker)) = (&mut self.boundaries, self.markers.back()) {
            boundaries.complete(tail, &marker.resume);
        }
    }

    /// Adds a marker: everything that this connection delivered before `resume` is in frames up to `frame`,
    /// which may still be staged.
    pub fn mark(&mut self, frame: FrameNo, resume: ResumePoint) {
        if let UncleanStop::UntilReceived(end) = self.unclean_stop
            && resume.seq() >= end
        {
            self.unclean_stop = UncleanStop::None;
        }
        if let Some(last) = self.markers.back_mut() {
            if resume <= last.resume {
                return;
            }
            if last.frame == frame {
                last.resume = resume;
                return;
            }
        }
        if self.markers.len() >= MARKERS_MAX {
            let mut keep = false;
            self.markers.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.markers.push_back(Marker { frame, resume });
    }

    /// Handles a report of the publish loop.
    pub fn publish(&mut self, mut report: Published) {
        debug_assert!(report.watermark.mark.frame >= self.watermark().mark.frame, "the watermark went back");
        report.highest = highest(report.highest, self.published().highest);
        report.watermark = self.of_epoch(report.watermark);
        report.watermark.transaction = report.watermark.transaction.or(self.watermark().transaction);
        let before = self.published().ahead();
        self.lanes_ahead = report.behind.is_some()
            || report.counted_beyond_watermark
            || before.is_some_and(|ahead| ahead > report.watermark.mark.frame);
        self.reports.publish(report, self.lanes_ahead, self.synced.mark.frame);
    }

    /// Whether lanes have published records that the next start would send again, because they are not
    /// durable.
    pub fn has_loose_progress(&self) -> bool {
        self.published().ahead().is_some_and(|ahead| ahead > self.synced.mark.frame)
    }

    /// Notes the identity of the stream.
    pub fn note_stream(&mut self, stream: StreamIdentity) {
        self.stream = Some(stream);
    }

    /// Whether the log must be fsynced now: a frame has waited for `confirm_after`, or lanes stay ahead of
    /// the watermark. After a crash, their progress is valid only as far as the log is durable. Without the
    /// fsync, the crash would repeat their events.
    pub fn wants_sync(&mut self, now: Instant) -> bool {
        let lanes_ahead = self.lanes_ahead && self.has_loose_progress();
        let ConfirmAfter::Waited(after) = self.confirm_after else { return lanes_ahead };
        let unsettled = |frame: FrameNo| frame > self.watermark().mark.frame.max(self.synced.mark.frame);
        if after.is_zero() {
            return unsettled(self.tail.mark.frame);
        }
        let due =
            self.ages.iter().take_while(|(since, _)| now.duration_since(*since) >= after).last().copied();
        let waited_too_long = due.is_some_and(|(_, frame)| unsettled(frame));
        self.note_age(now, after);
        waited_too_long || lanes_ahead
    }

    fn note_age(&mut self, now: Instant, after: Duration) {
        while self.ages.get(1).is_some_and(|(since, _)| now.duration_since(*since) >= after) {
            self.ages.pop_front();
        }
        let finely_enough =
            self.ages.back().is_some_and(|(since, _)| now.duration_since(*since) < after / AGE_STEPS);
        if !finely_enough {
            self.ages.push_back((now, self.tail.mark.frame));
        }
    }

    /// The frame up to which an fsync that begins now may make the log durable; `None`: up to its tail.
    pub fn begin_sync(&mut self) -> Option<Reached> {
        let synced = self.synced;
        self.boundaries.as_mut().map(|boundaries| boundaries.begin_sync().unwrap_or(synced))
    }

    /// Notes that the log is fsynced up to `tail`: the result of [`begin_sync`](Self::begin_sync), or the
    /// tail before the fsync.
    pub fn synced(&mut self, tail: Reached) {
        if let Some(boundaries) = &mut self.boundaries {
            boundaries.synced();
        }
        if tail.mark.frame > self.synced.mark.frame {
            self.synced = self.of_epoch(tail);
            self.reports.synced(tail.mark.frame);
        }
    }

    /// The next checkpoint; `None` if it equals the written one.
    pub fn prepare(&self) -> Option<Checkpoint> {
        let ProgressCounts { progress, event_counts } = self.reports.eligible();
        let watermark = progress.watermark;
        let mut next = self.written.clone();
        next.watermark = watermark.mark;
        next.letters_from = self.letters.first_beyond(&next.watermark);
        if self.synced.mark.frame > next.durable.frame {
            next.durable = self.synced.mark;
        }
        next.last_seen = [watermark.transaction, self.published().highest, self.synced.transaction]
            .into_iter()
            .fold(self.written.last_seen, highest);
        if self.stopped && self.unclean_stop == UncleanStop::None {
            next.last_seen = highest(next.last_seen, self.tail.transaction);
            next.clean = true;
        }
        next.lanes.clone_from(&progress.lanes);
        next.lane_parts.clone_from(&progress.lane_parts);
        next.acknowledged.clone_from(&progress.acknowledged);
        next.event_counts.clone_from(event_counts);
        next.counted_by_lane = self.reports.counted_by_lane();
        next.identity.stream.clone_from(&self.stream);
        next.identity.source.set_timeline(self.timeline);
        let settled = self.settled_frame(&next);
        // The frame must be published, not only durable. Recovery may truncate a damaged durable frame, and
        // the source sends changes again, but not injections.
        let next_watermark = next.watermark.frame;
        next.injections.extend(self.requested.iter().cloned().map(Injection::Retry));
        next.injections.retain_mut(|injection| {
            let appended =
                self.injected.iter().find(|(_, other)| other.is(injection)).map(|(frame, _)| *frame);
            match injection {
                Injection::Gap { .. } | Injection::Lag(_) => {
                    appended.is_none_or(|frame| frame > next_watermark)
                }
                Injection::Retry(retry) if retry.settled => !self.closed.contains(&retry.letter),
                Injection::Retry(retry) => {
                    retry.frame = appended.filter(|frame| *frame <= next.durable.frame.max(next_watermark));
                    retry.settled = appended.is_some_and(|frame| frame <= next_watermark);
                    if retry.settled {
                        uncount(&mut next.event_counts, &retry.event_type);
                    }
                    true
                }
            }
        });
        self.note_lag(&mut next);
        let resume = match &self.boundaries {
            Some(boundaries) => boundaries.resume(next.durable.frame),
            None => self.confirmable(settled),
        };
        if let Some(resume) = resume
            && *resume > next.ever_confirmed
        {
            next.ever_confirmed = resume.clone();
        }
        (next != self.written).then_some(next)
    }

    /// Notes that this checkpoint is fsynced. Returns the position that may be confirmed now.
    pub fn written(&mut self, checkpoint: Checkpoint) -> Option<Settled> {
        for retry in checkpoint.injections.iter().filter_map(Injection::settled) {
            if !self.retries().any(|before| before.settled && before.letter == retry.letter) {
                self.reports.uncount(&retry.event_type);
            }
        }
        self.injected.retain(|(_, injection)| {
            checkpoint.injections.iter().any(|kept| kept.is(injection) && kept.settled().is_none())
        });
        self.requested.retain(|request| {
            !checkpoint.injections.iter().any(|kept| kept.is(&Injection::Retry(request.clone())))
        });
        self.written = checkpoint;
        self.letters.passed(&self.written.watermark);
        let closed = std::mem::take(&mut self.closed);
        self.closed = closed.into_iter().filter(|letter| self.retrying(letter).is_some()).collect();
        self.settled()
    }

    /// The position that the written checkpoint allows to confirm. It can increase without a new checkpoint:
    /// a slot that was set back delivers changes again that are settled already.
    pub fn settled(&mut self) -> Option<Settled> {
        // Progress since `prepare` is not in this checkpoint, so nothing beyond its `ever_confirmed` may be
        // confirmed. A marker may have moved beyond that point since then (a keepalive), but everything
        // before the point is settled all the same. Waiting for such a marker to be settled would confirm
        // nothing while other databases of the server write all the time.
        let settled = self.settled_frame(&self.written);
        while self.markers.get(1).is_some_and(|next| next.frame <= settled) {
            self.markers.pop_front();
        }
        let reached = &self.markers.front().filter(|first| first.frame <= settled)?.resume;
        let resume = reached.min(&self.written.ever_confirmed).clone();
        Some(Settled { resume, connection: self.connection })
    }

    /// Removes the transaction if it is of an earlier epoch: positions of another history cannot be compared.
    fn of_epoch(&self, reached: Reached) -> Reached {
        let now = reached.mark.position.is_some_and(|position| position.epoch == self.written.epoch);
        Reached { transaction: reached.transaction.filter(|_| now), ..reached }
    }

    fn settled_frame(&self, checkpoint: &Checkpoint) -> FrameNo {
        match self.confirm_after {
            ConfirmAfter::Never => checkpoint.watermark.frame,
            ConfirmAfter::Waited(_) => checkpoint.watermark.frame.max(checkpoint.durable.frame),
        }
    }

    fn confirmable(&self, settled: FrameNo) -> Option<&ResumePoint> {
        self.markers.iter().take_while(|marker| marker.frame <= settled).last().map(|marker| &marker.resume)
    }
}

/// The transaction that committed later. Both must be of the same epoch.
pub fn highest(one: Option<Transaction>, other: Option<Transaction>) -> Option<Transaction> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.commit > one.commit { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;

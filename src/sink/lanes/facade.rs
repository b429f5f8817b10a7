//! The public interface of the lanes. Each method calls one part, and moves the watermarks if a record may be
//! finished.

use std::sync::Arc;

use tokio::time::Instant;

use crate::buffer::checkpoint::{Mark, Totals};
use crate::position::{FrameNo, Transaction};
use crate::sink::pacing::{Hold, Limits};
use crate::sink::rate::Summary;
use crate::sink::shards::ShardLoad;
use crate::sink::throttle::Pass;
use crate::sink::{HashRange, PutError, RecordResult};

use super::counts::EventCounts;
use super::dispatch::Dispatch;
use super::finished::Start;
use super::hot::HotKey;
use super::isolation::Isolation;
use super::progress::{Detail, Progress};
use super::readers::Readers;
use super::ticket::{Request, Ticket};
use super::types::{Admission, Change, DeadLetter, Frame, Lag, ReaderId, Settlement};

/// The four parts of the window, connected, as the [module](super) describes.
#[derive(Debug)]
pub struct Lanes {
    pub(super) readers: Readers,
    pub(super) dispatch: Dispatch,
    pub(super) isolation: Isolation,
    pub(super) counts: EventCounts,
}

impl Lanes {
    /// An empty window after `start.watermark`. The seed is only for jitter.
    pub fn new(start: &Start, limits: Limits, seed: u64) -> Self {
        let limits = limits.clamped();
        Self {
            readers: Readers::new(start, limits.window_bytes),
            dispatch: Dispatch::new(limits, seed),
            isolation: Isolation::default(),
            counts: EventCounts::starting_at(start.covered()),
        }
    }

    /// Adds the records of the main reader's next frame, in the order of the log. Records that were finished
    /// before the start are skipped.
    ///
    /// # Panics
    /// If the frame does not follow the last one. The log reader checks that before.
    pub fn admit<'a>(&mut self, frame: &Frame, records: impl IntoIterator<Item = Admission<'a>>) {
        self.admit_to(ReaderId::MAIN, frame, records);
    }

    /// Like [`admit`](Self::admit), for any reader. Does nothing if the reader no longer exists.
    ///
    /// # Panics
    /// If the frame does not follow the last one.
    pub fn admit_to<'a>(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
    ) {
        self.readers.admit(reader, frame, records, &mut self.counts, self.dispatch.rules());
        self.advance();
    }

    /// The next request, if one should be sent now: oldest records first, without records of keys and
    /// sections that must wait. Call it until it returns `None`, after every admission and settlement, and at
    /// [`wake_at`](Self::wake_at).
    pub fn fill(&mut self, now: Instant) -> Option<Request> {
        self.dispatch.fill(&mut self.readers, now)
    }

    /// Handles the result of a request. Accepted records are finished. Rejected ones wait for their section.
    /// A request without a result for every record is sent again as a whole.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<RecordResult>, PutError>,
        now: Instant,
    ) -> Settlement {
        let (readers, detaching) = (&mut self.readers, self.isolation.detaching());
        let settlement = self.dispatch.settle(ticket, result, readers, &self.counts, detaching, now);
        self.advance();
        settlement
    }

    /// The next record for the dead-letter file, once it is the first of its key. Each is returned once.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        self.dispatch.next_dead_letter(&mut self.readers, &self.counts)
    }

    /// Returns a record to the queue: the dead-letter file has no space for it.
    /// [`next_dead_letter`](Self::next_dead_letter) will return it again, and its key stays blocked.
    pub fn put_back(&mut self, frame: FrameNo, part: u16) {
        self.readers.put_back(frame, part);
    }

    /// Sends a record again that was [returned](Self::next_dead_letter) as a dead letter, because the
    /// operator has decided so. Its earlier rejections no longer count. If it is still too large, it is
    /// returned again.
    pub fn send_again(&mut self, frame: FrameNo, part: u16) {
        self.readers.send_again(frame, part);
        self.dispatch.suspects.forget(|| (frame, part));
    }

    /// Notes that a record returned by [`next_dead_letter`](Self::next_dead_letter) is in the dead-letter
    /// file.
    ///
    /// # Panics
    /// If it was not returned: a record that only waits, or is in flight, must not be finished like this.
    pub fn finish(&mut self, frame: FrameNo, part: u16) {
        self.dispatch.finish(&mut self.readers, frame, part);
        self.advance();
    }

    /// Detaches sections that lag behind, and hands those back that have caught up. Call it when
    /// [`fill`](Self::fill) has just returned `None`, so that records that are still ready could not be sent.
    /// It acts at most four times a second. Returns whether there are [changes](Self::take_changes), and so
    /// perhaps something to read and to send.
    pub fn rebalance(&mut self, now: Instant) -> bool {
        self.isolation.rebalance(&mut self.readers, &mut self.dispatch, &mut self.counts, now)
    }

    /// The changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.isolation.take_changes()
    }

    /// Moves the watermarks over finished frames, and completes hand-overs.
    fn advance(&mut self) {
        self.isolation.advance(&mut self.readers, &mut self.counts, self.dispatch.rules());
    }

    /// The readers of the log, the main reader first, and [`ReaderId::AUDIT`] last.
    pub fn readers(&self) -> Vec<ReaderId> {
        self.readers.ids()
    }

    /// The frames that a reader wants next, as (after, up to); `None` if its window is full or nothing is
    /// left.
    pub fn wants(&self, id: ReaderId) -> Option<(FrameNo, FrameNo)> {
        self.readers.wants(id)
    }

    /// When [`fill`](Self::fill), which has just returned `None`, may return a request without any other
    /// event, never before `now`; `None` if it would not.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.dispatch.wake_at(&self.readers, now)
    }

    /// What new records would wait for, after [`fill`](Self::fill) has just returned `None`. Until then they
    /// need not be admitted. `None` if they may be sent at once.
    pub fn hold(&self, now: Instant) -> Option<Hold> {
        self.dispatch.hold(&self.readers, now)
    }

    /// Whether records wait and the gate admits a request now.
    pub fn could_send(&self, now: Instant) -> bool {
        self.dispatch.pass(now) != Pass::Shut && !self.is_empty()
    }

    /// When the next attempt may be sent while the service does not respond; `None` if one is in flight.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.dispatch.next_probe()
    }

    /// Bytes of log between the watermarks and the last admitted frames, and the memory that the windows need
    /// for them.
    pub fn window_bytes(&self) -> usize {
        self.readers.weight()
    }

    /// Everything up to this frame is finished.
    pub fn watermark(&self) -> Mark {
        self.readers.watermark()
    }

    /// The last transaction up to the watermark; `None` if none was read since the start.
    pub fn watermark_transaction(&self) -> Option<Transaction> {
        self.readers.watermark_transaction()
    }

    /// The last frame admitted.
    pub fn head(&self) -> FrameNo {
        self.readers.main().window.head()
    }

    /// Whether every record that was admitted to the main reader is finished, by any reader.
    pub fn is_empty(&self) -> bool {
        self.watermark().frame == self.head()
    }

    /// The progress for a checkpoint. Iterates over the windows, so call it about once a second.
    pub fn progress(&self, detail: Detail) -> Progress {
        self.readers.progress(detail)
    }

    /// Counts per event type since the last call, of records that have left the windows. If called at the
    /// same time, these and [`counts_ahead`](Self::counts_ahead) are the counts of
    /// [`progress`](Self::progress).
    pub fn take_counts(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.counts.take()
    }

    /// Counts per event type of records in the windows that progress covers. Each call returns all of them.
    /// Iterates over the windows.
    pub fn counts_ahead(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.readers.counts_ahead(&mut self.counts)
    }

    /// Whether the counts that were [taken](Self::take_counts) include records beyond the watermark. If not,
    /// they are exactly those up to the watermark.
    pub fn is_counted_beyond_watermark(&self) -> bool {
        self.counts.last_frame() > self.watermark().frame
    }

    /// How far detached lanes lag behind.
    pub fn behind(&self) -> Lag {
        self.readers.lag()
    }

    /// When the oldest unfinished change of all lanes was committed, microseconds since the Unix epoch;
    /// `None` if every admitted record is finished.
    pub fn oldest(&self) -> Option<i64> {
        self.readers.oldest()
    }

    /// The detached lanes, and the shard that accepted their last records, for messages.
    pub fn detached(&self) -> Option<(Vec<u8>, Option<String>)> {
        let (sections, detached) = (&self.readers.sections, self.readers.detached().collect::<Vec<_>>());
        let shard = self.dispatch.shard_of(sections, &detached);
        (!detached.is_empty()).then(|| (sections.lanes(detached), shard))
    }

    /// Sets the largest record, data and key, as the stream's settings have it now.
    pub fn set_max_record_size(&mut self, bytes: usize) {
        self.dispatch.set_max_record_size(&mut self.readers, bytes);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.dispatch.in_flight().0
    }

    /// Bytes of the requests in flight.
    pub fn in_flight_bytes(&self) -> usize {
        self.dispatch.in_flight().1
    }

    /// Sections that pause after a rejection.
    pub fn paused_lanes(&self) -> usize {
        self.dispatch.pauses.len()
    }

    /// Whether a response named a shard whose hash range is not known.
    pub fn wants_ranges(&self) -> bool {
        self.dispatch.shards.wants_ranges()
    }

    /// Handles a list of the stream's open shards.
    pub fn set_hash_ranges(&mut self, ranges: &[HashRange], now: Instant) {
        self.dispatch.shards.list(ranges, now);
    }

    /// The effective rates of the shards.
    pub fn rates(&mut self, now: Instant) -> Summary {
        self.dispatch.shards.summary(now)
    }

    /// What each shard has accepted and throttled since it became known.
    pub fn shard_loads(&self) -> Vec<ShardLoad> {
        self.dispatch.shards.loads()
    }

    /// The keys with the most accepted events of the last minutes, at most `most`, and the number of all
    /// events of that time.
    pub fn hot_keys(&mut self, most: usize, now: Instant) -> (Vec<HotKey>, u64) {
        self.dispatch.hot.hottest(most, now)
    }

    /// Whether the service responds, as far as known.
    pub fn is_available(&self) -> bool {
        self.dispatch.is_gate_open()
    }

    /// Whether a record waits for the service whose key and shard are not rejected anyway. Iterates over the
    /// windows, so call it about twice a second.
    pub fn waits_for_service(&self) -> bool {
        self.dispatch.waits_for_service(&self.readers)
    }

    /// Number of keys with a rejected record since one of their records was last accepted.
    pub fn rejected_keys(&self) -> usize {
        self.dispatch.rejected_keys()
    }
}

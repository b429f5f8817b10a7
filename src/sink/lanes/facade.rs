//! The face of the lanes: each method calls one part, and moves the watermarks where a record may be finished.

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
    /// An empty window after `start.watermark`. The seed is for jitter only.
    pub fn new(start: &Start, limits: Limits, seed: u64) -> Self {
        let limits = limits.clamped();
        Self {
            readers: Readers::new(start, limits.window_bytes),
            dispatch: Dispatch::new(limits, seed),
            isolation: Isolation::default(),
            counts: EventCounts::starting_at(start.covered()),
        }
    }

    /// Takes the records of the next frame, in log order. What was finished before the start is skipped.
    ///
    /// # Panics
    /// If the frame is not the one after the last: the reader checks that before.
    pub fn admit<'a>(&mut self, frame: &Frame, records: impl IntoIterator<Item = Admission<'a>>) {
        self.admit_to(ReaderId::MAIN, frame, records);
    }

    /// The same for any reader; nothing happens if it is gone.
    ///
    /// # Panics
    /// As [`admit`](Self::admit).
    pub fn admit_to<'a>(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
    ) {
        self.readers.admit(reader, frame, records, &mut self.counts, self.dispatch.rules());
        self.advance();
    }

    /// The next request, if one should leave now: oldest records first, none of a key or a section that must
    /// wait. To be called again until it returns none, after every admission and settlement, and at
    /// [`wake_at`](Self::wake_at).
    pub fn fill(&mut self, now: Instant) -> Option<Request> {
        self.dispatch.fill(&mut self.readers, now)
    }

    /// Takes the result of a request: accepted records are finished, rejected ones wait for their section,
    /// and a request without a result for every record is to be sent again as a whole.
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

    /// The next record for the dead-letter file, if one is the first of its key. Each is returned once.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        self.dispatch.next_dead_letter(&mut self.readers, &self.counts)
    }

    /// A record returned by [`next_dead_letter`](Self::next_dead_letter) found no room in the dead-letter
    /// file: it will be returned again, and its key waits.
    pub fn put_back(&mut self, frame: FrameNo, part: u16) {
        self.readers.put_back(frame, part);
    }

    /// The operator wants a record that was [returned](Self::next_dead_letter) as a dead letter to be sent
    /// again: it is, unless it is still too large, even if the service has rejected it before.
    pub fn send_again(&mut self, frame: FrameNo, part: u16) {
        self.readers.send_again(frame, part);
        self.dispatch.suspects.forget(|| (frame, part));
    }

    /// A record returned by [`next_dead_letter`](Self::next_dead_letter) is in the dead-letter file.
    ///
    /// # Panics
    /// If it was not returned: a record that only waits, or is in flight, must not be finished from
    /// elsewhere.
    pub fn finish(&mut self, frame: FrameNo, part: u16) {
        self.dispatch.finish(&mut self.readers, frame, part);
        self.advance();
    }

    /// Detaches sections that lag, and hands those back that have caught up. To be called when
    /// [`fill`](Self::fill) has just returned nothing, so that what is ready then could not be sent; it looks
    /// four times a second. Whether there are [changes](Self::take_changes), and then perhaps something to
    /// read and to send.
    pub fn rebalance(&mut self, now: Instant) -> bool {
        self.isolation.rebalance(&mut self.readers, &mut self.dispatch, &mut self.counts, now)
    }

    /// The changes since this was last called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.isolation.take_changes()
    }

    /// Moves the watermarks over what is finished, and ends hand-overs that have come to their end.
    fn advance(&mut self) {
        self.isolation.advance(&mut self.readers, &mut self.counts, self.dispatch.rules());
    }

    /// The readers that read the log, the main first, and [`ReaderId::AUDIT`] last.
    pub fn readers(&self) -> Vec<ReaderId> {
        self.readers.ids()
    }

    /// After which frame a reader reads on, and up to which, if it has room; `None` if it wants nothing now.
    pub fn wants(&self, id: ReaderId) -> Option<(FrameNo, FrameNo)> {
        self.readers.wants(id)
    }

    /// When [`fill`](Self::fill), which has just returned nothing, may return a request although nothing else
    /// happens until then, never before `now`; `None` if it would not.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.dispatch.wake_at(&self.readers, now)
    }

    /// What new records would wait for, after [`fill`](Self::fill) has just returned nothing: until then they
    /// need not be admitted. `None` if they might leave at once.
    pub fn hold(&self, now: Instant) -> Option<Hold> {
        self.dispatch.hold(&self.readers, now)
    }

    /// Whether [`fill`](Self::fill) may return a request now, as far as the service is concerned: requests
    /// are not paused.
    pub fn could_send(&self, now: Instant) -> bool {
        self.dispatch.pass(now) != Pass::Shut && !self.is_empty()
    }

    /// When the next attempt to send may be made while the service does not respond; `None` if one is in
    /// flight.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.dispatch.next_probe()
    }

    /// Bytes of log between the watermarks and the last admitted frames, and what the windows keep about
    /// them.
    pub fn window_bytes(&self) -> usize {
        self.readers.weight()
    }

    /// Everything up to this frame is finished.
    pub fn watermark(&self) -> Mark {
        self.readers.watermark()
    }

    /// The transaction at or before the watermark; `None` if none was read since the start.
    pub fn watermark_transaction(&self) -> Option<Transaction> {
        self.readers.watermark_transaction()
    }

    /// The last frame admitted.
    pub fn head(&self) -> FrameNo {
        self.readers.main().window.head()
    }

    /// Whether every record that the main was given is finished, by any reader.
    pub fn is_empty(&self) -> bool {
        self.watermark().frame == self.head()
    }

    /// What a checkpoint needs to know. Walks through the windows: meant for once a second.
    pub fn progress(&self, detail: Detail) -> Progress {
        self.readers.progress(detail)
    }

    /// Counts per event type since this was last called, of records that have left the windows. Together with
    /// [`counts_ahead`](Self::counts_ahead) they are those of [`progress`](Self::progress), if it is called
    /// at the same time.
    pub fn take_counts(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.counts.take()
    }

    /// Counts per event type of records in the windows that progress covers: all of them, each time. Walks
    /// through the windows.
    pub fn counts_ahead(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.readers.counts_ahead(&mut self.counts)
    }

    /// Whether the counts that were [taken](Self::take_counts) include records beyond the watermark. If not,
    /// they are those of the watermark.
    pub fn is_counted_beyond_watermark(&self) -> bool {
        self.counts.last_frame() > self.watermark().frame
    }

    /// How far detached lanes are behind.
    pub fn behind(&self) -> Lag {
        self.readers.lag()
    }

    /// When the oldest unfinished change of all lanes was committed, microseconds since the Unix epoch;
    /// `None` if everything that was read is finished.
    pub fn oldest(&self) -> Option<i64> {
        self.readers.oldest()
    }

    /// Which lanes are detached, and the shard that accepted the last records of them, for a message.
    pub fn detached(&self) -> Option<(Vec<u8>, Option<String>)> {
        let (sections, detached) = (&self.readers.sections, self.readers.detached().collect::<Vec<_>>());
        let shard = self.dispatch.shard_of(sections, &detached);
        (!detached.is_empty()).then(|| (sections.lanes(detached), shard))
    }

    /// The stream's settings have been read again: records up to this size, data and key, may be sent.
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

    /// Sections that wait after a rejection.
    pub fn paused_lanes(&self) -> usize {
        self.dispatch.pauses.len()
    }

    /// Whether a shard was named whose range is not known.
    pub fn wants_ranges(&self) -> bool {
        self.dispatch.shards.wants_ranges()
    }

    /// The stream has listed its open shards.
    pub fn set_hash_ranges(&mut self, ranges: &[HashRange], now: Instant) {
        self.dispatch.shards.list(ranges, now);
    }

    /// The rates of shards that are in force.
    pub fn rates(&mut self, now: Instant) -> Summary {
        self.dispatch.shards.summary(now)
    }

    /// What the shards have accepted and throttled since each is known.
    pub fn shard_loads(&self) -> Vec<ShardLoad> {
        self.dispatch.shards.loads()
    }

    /// The keys with the most accepted events of the last minutes, at most so many, and all events of that time.
    pub fn hot_keys(&mut self, most: usize, now: Instant) -> (Vec<HotKey>, u64) {
        self.dispatch.hot.hottest(most, now)
    }

    /// Whether the service responds, as far as is known.
    pub fn is_available(&self) -> bool {
        self.dispatch.is_gate_open()
    }

    /// Whether something waits for the service that is neither of a key nor of a shard that it rejects
    /// anyway. Walks through the windows: meant for twice a second.
    pub fn waits_for_service(&self) -> bool {
        self.dispatch.waits_for_service(&self.readers)
    }

    /// Keys of which a record was rejected since one was last accepted.
    pub fn rejected_keys(&self) -> usize {
        self.dispatch.rejected_keys()
    }
}

//! The publish loop's side of dead letters: it passes records that cannot be published to the writer thread,
//! and learns when they are durable. The loop never waits for the disk. Only the keys of these records are
//! blocked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::buffer::disk::Directory;
use crate::buffer::ledger::SharedLedger;
use crate::config::OnPoison;
use crate::failure::Failure;
use crate::letter_id::LetterId;
use crate::position::FrameNo;
use crate::sink::lanes::{DeadLetter, DeadReason};

use super::already_written::AlreadyWritten;

/// Most letters in a batch. A batch costs one fsync.
const BATCH_LETTERS: usize = 1024;
/// Once a batch has this many bytes, no letter is added to it.
const BATCH_BYTES: usize = 4 << 20;

/// A record to be written to the dead-letter file.
#[derive(Debug)]
pub struct ToWrite {
    /// The record.
    pub record: DeadLetter,
    /// Offset of its line if the file has it already. The line is written again, because its first fsync may
    /// have failed.
    pub written_at: Option<u64>,
    /// Whether publishing is halted before it (`on_poison = "stop"`).
    pub halts: bool,
}

/// The result for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its line is durable.
    Written,
    /// The file has no space or cannot be written now. The record must be submitted again later.
    NoRoom,
    /// Its line is durable, and publishing is halted before it.
    Halts(LetterId),
}

/// The results of a batch, in the order of its records.
pub type Report = Vec<(DeadLetter, Fate)>;

/// An operator's decision about the record that halts publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record stays in the dead-letter file, and publishing continues.
    Skip,
    /// The record is sent again, because the stream may accept it now.
    SendAgain,
}

/// The operator's decisions, passed from the worker to the publish loop. The lock is held only briefly.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    halted_at: Option<LetterId>,
    verdict: Option<Verdict>,
    /// The stream must be described now: whether a retry succeeds may depend on its settings.
    describe: bool,
}

impl Decisions {
    /// Decides about the record that halts publishing. Returns `false` if publishing is not halted before
    /// this record.
    pub fn decide(&self, id: &LetterId, verdict: Verdict) -> bool {
        let mut inner = self.lock();
        let is_it = inner.halted_at.as_ref() == Some(id);
        if is_it {
            inner.verdict = Some(verdict);
        }
        is_it
    }

    /// Requests a new description of the stream: before a retry, the operator may have raised the limit of
    /// the record size.
    pub fn describe_stream(&self) {
        self.lock().describe = true;
    }

    /// Sets the record that halts publishing; `None`: publishing is not halted.
    pub fn halt(&self, id: Option<LetterId>) {
        let mut inner = self.lock();
        (inner.halted_at, inner.verdict) = (id, None);
    }

    fn take(&self) -> (Option<Verdict>, bool) {
        let mut inner = self.lock();
        (inner.verdict.take(), std::mem::take(&mut inner.describe))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end of the channels.
#[derive(Debug)]
pub struct Inbox {
    /// Batches to write. The channel closes when the publish loop has ended.
    pub batches: mpsc::Receiver<Vec<ToWrite>>,
    /// The result for each record.
    pub reports: mpsc::Sender<Report>,
    /// Shared with the publish loop.
    pub decisions: Decisions,
}

/// The publish loop's end of the dead letters.
#[derive(Debug)]
pub struct Quarantine {
    directory: Directory,
    ledger: SharedLedger,
    on_poison: OnPoison,
    batches: mpsc::Sender<Vec<ToWrite>>,
    reports: mpsc::Receiver<Report>,
    decisions: Decisions,
    /// Whether a batch is being written. There is one at a time: the slower the disk, the larger the next
    /// batch.
    busy: bool,
    /// The record that halts publishing.
    halted_at: Option<(FrameNo, u16)>,
    /// The last record whose halt was logged.
    logged: Option<LetterId>,
    /// Letters that were in the file when the attempt began.
    already_written: AlreadyWritten,
}

impl Quarantine {
    /// Both ends of the channels, for a buffer directory.
    pub fn new(directory: Directory, ledger: SharedLedger, on_poison: OnPoison) -> (Self, Inbox) {
        let (batches, to_write) = mpsc::channel(1);
        let (reported, reports) = mpsc::channel(1);
        let decisions = Decisions::default();
        let inbox = Inbox { batches: to_write, reports: reported, decisions: decisions.clone() };
        let quarantine = Self {
            directory,
            ledger,
            on_poison,
            batches,
            reports,
            decisions,
            busy: false,
            halted_at: None,
            logged: None,
            already_written: AlreadyWritten::default(),
        };
        (quarantine, inbox)
    }

    /// Begins an attempt: ends the halt, and reads the dead-letter file. First waits for the batch of the
    /// previous attempt, because its letters must be among those that are read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        while self.busy {
            self.reported().await;
        }
        self.resume();
        self.decisions.halt(None);
        let (from, watermark) = {
            let ledger = self.ledger.lock();
            (ledger.letters_from(), ledger.published().watermark.mark)
        };
        let read = AlreadyWritten::read(&self.directory, from, &watermark);
        self.already_written = read.map_err(Failure::retry)?;
        Ok(())
    }

    /// Events that must not be sent, because they are in the dead-letter file.
    pub const fn already_written(&mut self) -> &mut AlreadyWritten {
        &mut self.already_written
    }

    /// Whether a batch is being written.
    pub const fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether nothing may be sent: publishing is halted before a record, or will be if the batch is written.
    pub fn halts(&self) -> bool {
        self.halted_at.is_some() || (self.busy && self.on_poison == OnPoison::Stop)
    }

    /// Passes a batch of records from `next` to the writer, unless one is being written. Never blocks.
    pub fn submit(&mut self, mut next: impl FnMut() -> Option<DeadLetter>) {
        if self.busy {
            return;
        }
        // With `on_poison = "stop"`, each record is a batch of its own.
        let most = if self.on_poison == OnPoison::Stop { 1 } else { BATCH_LETTERS };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most
            && bytes < BATCH_BYTES
            && let Some(record) = next()
        {
            bytes += record.line.len();
            let written_at = self.already_written.offset(record.frame, record.part);
            // A retry that failed again does not halt publishing.
            let halts = self.on_poison == OnPoison::Stop
                && written_at.is_none()
                && !self.ledger.lock().brings_retry(record.frame);
            batch.push(ToWrite { record, written_at, halts });
        }
        if batch.is_empty() {
            return;
        }
        self.busy = true;
        // If the writer has ended, it stops the process and reports why. So a closed channel is not reported
        // here.
        drop(self.batches.try_send(batch));
    }

    /// Waits for the result of the batch. It never returns if the writer has ended. Cancel-safe.
    pub async fn reported(&mut self) -> Report {
        let Some(report) = self.reports.recv().await else { return std::future::pending().await };
        self.busy = false;
        report
    }

    /// Halts publishing before this record.
    pub fn halt(&mut self, record: &DeadLetter, id: LetterId) {
        self.halted_at = Some((record.frame, record.part));
        if self.logged.as_ref() != Some(&id) {
            tracing::error!(
                event = "publishing_stopped", letter = %id, frame = %record.frame, event_type = &*record.event_type,
                reason = reason(record),
                detail = "on_poison is \"stop\"; changes are still received into the buffer",
                hint = "Fix the cause and run `forebay dlq retry ID`, or give the record up with `forebay dlq discard ID --reason \"…\"`.",
                "publishing halted before a record that cannot be published"
            );
        }
        self.logged = Some(id);
    }

    /// The operator's decision about the record that halts publishing. A record is sent again only after the
    /// stream was described, which any retry requests.
    pub fn verdict(&mut self) -> Option<Verdict> {
        let (verdict, describe) = self.decisions.take();
        if verdict.is_some() {
            // The result of the decision is logged too.
            self.logged = None;
            return verdict;
        }
        describe.then_some(Verdict::SendAgain)
    }

    /// Ends the halt, and returns the record before which publishing was halted.
    pub fn resume(&mut self) -> Option<(FrameNo, u16)> {
        if self.halted_at.is_some() {
            self.decisions.halt(None);
        }
        self.halted_at.take()
    }
}

/// Why a record cannot be published.
pub(super) fn reason(record: &DeadLetter) -> String {
    match record.reason {
        DeadReason::Untranslated => "the change could not be translated".to_owned(),
        DeadReason::Rejected => {
            let said = record.response.as_deref().unwrap_or("it gives no reason");
            format!("the stream rejects this record and accepts others: {said}")
        }
        DeadReason::TooLarge { size, limit } => {
            format!("the record has {size} bytes with its key, the stream accepts at most {limit}")
        }
    }
}

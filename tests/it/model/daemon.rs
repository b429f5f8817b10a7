//! The process of the model: it starts, stops, is killed, and a person adopts.

use forebay::buffer::Settled;
use forebay::buffer::checkpoint::{Checkpoint, Phase};
use forebay::buffer::ledger::{Ledger, Reached};
use forebay::daemon::recover::{self, StartRefusal};
use forebay::pipeline::start::recover::identity;
use forebay::position::{CommitSeq, FrameNo, Position};
use forebay::source::postgres::admit::SourceRefusal;

use super::checkpointer::Checkpointer;
use super::disk::Stored;
use super::ingest::Connection;
use super::planted::Fault;
use super::publish::Attempt;
use super::sim::{Sim, Violation};
use super::world::Slot;

/// Everything that is gone when the process is.
#[derive(Debug)]
pub struct Daemon {
    pub ledger: Ledger,
    pub epoch: u16,
    /// The last change appended or staged.
    pub last: Option<Position>,
    /// Once everything staged is written.
    pub tail: Reached,
    pub staged: Vec<Stored>,
    /// The last frame that the publisher sees, while what was received after it waits for a proof.
    pub withheld: Option<Reached>,
    pub connection: Option<Connection>,
    pub attempt: Option<Attempt>,
    pub checkpointer: Checkpointer,
    /// What the checkpointer has confirmed last.
    pub settled: Option<Settled>,
}

impl Sim {
    /// The first start, which is not what is walked through here.
    pub fn first_checkpoint(&mut self) {
        let server = self.world.facts();
        let identity = identity(self.wanted().identity(&server), self.wanted().source);
        let ever_confirmed = CommitSeq::new(self.world.created);
        self.disk.checkpoint = Some(Checkpoint::fresh(identity, Phase::Running, 0, ever_confirmed));
    }

    pub fn start(&mut self) -> Result<(), Violation> {
        let (server, slot) = (self.world.facts(), self.world.slot_facts());
        let found = self.disk.checkpoint.clone();
        let clean = found.as_ref().is_none_or(|found| found.clean);
        let started =
            recover::recover(&self.wanted(), found.as_ref(), &self.disk.state(), slot.as_ref(), &server);
        let start = match started {
            Ok(start) => start,
            Err(refusal) => return self.refuse(&refusal),
        };
        self.note(|| format!("start: cut after {}, expect {:?}", start.truncate_after, start.expect));
        self.refused = false;
        let (mut checkpoint, mut truncate_after) = (start.checkpoint, start.truncate_after);
        if self.has(Fault::LanesBeyondTheCut) {
            checkpoint.lanes = found.as_ref().map(|found| found.lanes.clone()).unwrap_or_default();
            checkpoint.lane_parts = found.as_ref().map(|found| found.lane_parts.clone()).unwrap_or_default();
        }
        if self.has(Fault::FoundTailIsHeld) {
            while let Some(frame) = self.disk.frame(truncate_after.next()).filter(|frame| !frame.damaged) {
                truncate_after = frame.number;
                checkpoint.durable.frame = truncate_after;
                checkpoint.durable.position = frame.position.or(checkpoint.durable.position);
            }
        }
        let fsynced = self.disk.fsynced;
        self.disk.checkpoint = Some(checkpoint.clone());
        self.disk.cut(truncate_after);
        if self.has(Fault::FoundTailIsHeld) {
            self.disk.fsynced = fsynced.min(truncate_after);
        }
        let epoch = checkpoint.epoch;
        if start.new_epoch {
            self.judge_new_epoch(found.as_ref(), server.timeline)?;
            self.begin_epoch(&checkpoint);
        }
        let mut ledger = Ledger::new(checkpoint, self.mode.confirm_after);
        if !clean {
            ledger.note_unclean_stop();
        }
        // As the writer finds it: the transaction of the last change in the log, of whatever epoch.
        let transaction = self.disk.frames.iter().rev().find_map(|frame| frame.transaction);
        let tail = Reached { transaction, ..ledger.tail() };
        self.daemon = Some(Daemon {
            ledger,
            epoch,
            last: tail.mark.position.filter(|position| position.epoch == epoch),
            tail,
            staged: Vec::new(),
            withheld: None,
            connection: None,
            attempt: None,
            checkpointer: Checkpointer::default(),
            settled: None,
        });
        Ok(())
    }

    /// A refusal must be right; one that does not pass ends the process.
    pub fn refuse(&mut self, refusal: &StartRefusal) -> Result<(), Violation> {
        self.note(|| format!("refused: {refusal}"));
        self.judge(refusal)?;
        if matches!(refusal, StartRefusal::Source(SourceRefusal::Unproven { .. })) {
            // The next start begins a new epoch by itself.
            return self.stop_or_exit();
        }
        if !refusal.passes() {
            self.refused = true;
            self.stop_or_exit()?;
        }
        Ok(())
    }

    /// Another end of a process that cannot go on: in order, or not.
    pub fn stop_or_exit(&mut self) -> Result<(), Violation> {
        if self.daemon.is_some() && self.random.one_in(2) {
            return self.stop();
        }
        self.kill();
        Ok(())
    }

    pub fn kill(&mut self) {
        self.note(|| "kill".into());
        if let Some(attempt) = self.daemon.take().and_then(|daemon| daemon.attempt) {
            self.stream.lose(attempt.out.into_iter().flat_map(|request| request.records));
        }
        if self.mode.wiped {
            self.disk = super::disk::Disk::default();
        }
    }

    pub fn power_cut(&mut self) {
        self.kill();
        self.disk.power_cut(&mut self.random);
        let Some(found) = &self.disk.checkpoint else { return };
        let last = self.disk.frames.iter().filter(|frame| !frame.damaged).filter_map(|frame| frame.position);
        let seen = found.last_seen.map(|seen| (found.epoch, seen.commit));
        let evidence = last.map(|last| (last.epoch, last.commit)).chain(seen).max();
        self.note(|| format!("power cut, which leaves {evidence:?}"));
        self.stream.forget(evidence);
    }

    /// In order: nothing more is received, answers are awaited, the log is fsynced, the last position is confirmed.
    pub fn stop(&mut self) -> Result<(), Violation> {
        self.await_answers()?;
        self.finish()?;
        self.confirm()?;
        self.kill();
        Ok(())
    }

    /// A bit of a frame in `(watermark, durable]` turns while nobody looks.
    pub fn damage(&mut self) {
        let Some(checkpoint) = &self.disk.checkpoint else { return };
        let (watermark, durable) = (checkpoint.watermark.frame.0, checkpoint.durable.frame.0);
        if self.daemon.is_some() || durable <= watermark {
            return;
        }
        let number = FrameNo(watermark + 1 + self.random.below(durable - watermark));
        if let Some(frame) = self.disk.frames.iter_mut().find(|frame| frame.number == number) {
            frame.damaged = true;
        }
    }

    /// What `forebay adopt` does, in one checkpoint write.
    pub fn adopt(&mut self) {
        let Some(mut checkpoint) = self.disk.checkpoint.clone() else { return };
        let damaged = self.heal();
        let missing = self.world.server.slot.is_none();
        let end = self.world.visible_end();
        let slot = *self.world.server.slot.get_or_insert(Slot { confirmed: end, persisted: end });
        let kept = checkpoint.watermark.frame.max(checkpoint.durable.frame);
        if missing || damaged || self.world.tampered {
            self.excuse(slot.confirmed, kept);
        }
        checkpoint.identity.source.set_timeline(self.world.facts().timeline);
        let (from, to) = (checkpoint.watermark.position, CommitSeq::new(slot.confirmed));
        checkpoint.begin_epoch(0, from, to, "model".into(), 0).unwrap();
        self.begin_epoch(&checkpoint);
        self.disk.checkpoint = Some(checkpoint);
        self.refused = false;
        self.world.tampered = false;
    }

    /// The directory accepts the history that the server has now.
    fn begin_epoch(&mut self, checkpoint: &Checkpoint) {
        let (epoch, to) = (checkpoint.epoch, checkpoint.ever_confirmed.seq());
        self.note(|| format!("epoch {epoch} begins at {to}"));
        self.stream.begin_epoch(to);
        self.adopts += 1;
        (self.world.seen, self.world.switched) = (to.get(), false);
    }

    /// Frames that cannot be read become holes; whether there were any among those that count.
    fn heal(&mut self) -> bool {
        let Some(checkpoint) = &self.disk.checkpoint else { return false };
        let (watermark, durable) = (checkpoint.watermark.frame, checkpoint.durable.frame);
        let mut found = false;
        for frame in self.disk.frames.iter_mut().filter(|frame| frame.damaged) {
            if frame.number > watermark && frame.number <= durable {
                found = true;
                // The notice of an earlier gap may be among them: the new one stands for it.
                self.gaps_lost += frame.records.iter().filter(|(key, _)| key == "gap").count();
            }
            (frame.damaged, frame.records) = (false, Vec::new());
            self.stream.give_up(frame.lines.drain(..));
        }
        found
    }
}

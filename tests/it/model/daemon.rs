//! The process of the model: it starts, stops, dies, and a person adopts.

use forebay::buffer::Settled;
use forebay::buffer::checkpoint::{Checkpoint, Injection, Phase};
use forebay::buffer::ledger::{Ledger, Reached};
use forebay::pipeline::recover::{self, Refusal};
use forebay::position::{FrameNo, Lsn, Position};

use super::disk::Stored;
use super::ingest::Connection;
use super::keeper::Keeper;
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
    pub connection: Option<Connection>,
    pub attempt: Option<Attempt>,
    pub keeper: Keeper,
    /// What the keeper has told last.
    pub settled: Option<Settled>,
}

impl Sim {
    /// The first start, which is not what is walked through here.
    pub fn first_checkpoint(&mut self) {
        let server = self.world.facts();
        let identity = self.wanted().identity(&server);
        let told = Lsn::new(self.world.created);
        self.disk.checkpoint = Some(Checkpoint::fresh(identity, Phase::Running, 0, told));
    }

    pub fn start(&mut self) -> Result<(), Violation> {
        let (server, slot) = (self.world.facts(), self.world.slot_facts());
        let found = self.disk.checkpoint.clone();
        let started =
            recover::recover(&self.wanted(), found.as_ref(), &self.disk.state(), slot.as_ref(), &server);
        let start = match started {
            Ok(start) => start,
            Err(refusal) => return self.refuse(&refusal),
        };
        self.note(|| format!("start: cut after {}, expect {:?}", start.cut_after, start.expect));
        self.refused = false;
        let (mut checkpoint, mut cut_after) = (start.checkpoint, start.cut_after);
        if self.has(Fault::LanesBeyondTheCut) {
            checkpoint.lanes = found.as_ref().map(|found| found.lanes.clone()).unwrap_or_default();
        }
        if self.has(Fault::FoundTailIsHeld) {
            while let Some(frame) = self.disk.frame(cut_after.next()).filter(|frame| !frame.damaged) {
                cut_after = frame.number;
                checkpoint.held.frame = cut_after;
                checkpoint.held.position = frame.position.or(checkpoint.held.position);
            }
        }
        let fsynced = self.disk.fsynced;
        self.disk.checkpoint = Some(checkpoint.clone());
        self.disk.cut(cut_after);
        if self.has(Fault::FoundTailIsHeld) {
            self.disk.fsynced = fsynced.min(cut_after);
        }
        let epoch = checkpoint.epoch;
        let ledger = Ledger::new(checkpoint, self.mode.confirm_after);
        // As the writer finds it: the transaction of the last change in the log, of whatever epoch.
        let transaction = self.disk.frames.iter().rev().find_map(|frame| frame.transaction);
        let tail = Reached { transaction, ..ledger.tail() };
        self.daemon = Some(Daemon {
            ledger,
            epoch,
            last: tail.mark.position.filter(|position| position.epoch == epoch),
            tail,
            staged: Vec::new(),
            connection: None,
            attempt: None,
            keeper: Keeper::default(),
            settled: None,
        });
        Ok(())
    }

    /// A refusal must be right; one that does not pass ends the process.
    pub fn refuse(&mut self, refusal: &Refusal) -> Result<(), Violation> {
        self.note(|| format!("refused: {refusal}"));
        self.judge(refusal)?;
        if !refusal.passes() {
            self.refused = true;
            self.stop_or_die()?;
        }
        Ok(())
    }

    /// Another end of a process that cannot go on: in order, or not.
    pub fn stop_or_die(&mut self) -> Result<(), Violation> {
        if self.daemon.is_some() && self.random.one_in(2) {
            return self.stop();
        }
        self.kill();
        Ok(())
    }

    pub fn kill(&mut self) {
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
    }

    /// In order: nothing more is received, answers are awaited, the log is held, the last word is confirmed.
    pub fn stop(&mut self) -> Result<(), Violation> {
        self.await_answers()?;
        self.finish()?;
        self.confirm()?;
        self.kill();
        Ok(())
    }

    /// A bit of a frame in `(low, held]` turns while nobody looks.
    pub fn damage(&mut self) {
        let Some(checkpoint) = &self.disk.checkpoint else { return };
        let (low, held) = (checkpoint.low.frame.0, checkpoint.held.frame.0);
        if self.daemon.is_some() || held <= low {
            return;
        }
        let number = FrameNo(low + 1 + self.random.below(held - low));
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
        let kept = checkpoint.low.frame.max(checkpoint.held.frame);
        if missing || damaged || self.world.tampered {
            self.excuse(slot.confirmed, kept);
        }
        checkpoint.epoch += 1;
        checkpoint.told = Lsn::new(slot.confirmed);
        checkpoint.tip = None;
        checkpoint.identity.timeline = self.world.facts().timeline;
        let from = checkpoint.low.position;
        let (epoch, to) = (checkpoint.epoch, checkpoint.told);
        checkpoint.injections.push(Injection::Gap { epoch, from, to, reason: "model".into(), at: 0 });
        self.disk.checkpoint = Some(checkpoint);
        self.note(|| format!("adopt: epoch {epoch} from {to}"));
        self.stream.begin_epoch(to);
        self.adopts += 1;
        self.refused = false;
        (self.world.seen, self.world.switched, self.world.tampered) = (slot.confirmed, false, false);
    }

    /// Frames that cannot be read become holes; whether there were any among those that count.
    fn heal(&mut self) -> bool {
        let Some(checkpoint) = &self.disk.checkpoint else { return false };
        let (low, held) = (checkpoint.low.frame, checkpoint.held.frame);
        let mut found = false;
        for frame in self.disk.frames.iter_mut().filter(|frame| frame.damaged) {
            if frame.number > low && frame.number <= held {
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

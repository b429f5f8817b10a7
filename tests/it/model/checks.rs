//! What must hold, computed from the truth that only the model knows.

use forebay::buffer::checkpoint::Checkpoint;
use forebay::daemon::recover::{self, StartRefusal};
use forebay::pipeline::start::recover::LogRefusal;
use forebay::position::{CommitSeq, FrameNo};
use forebay::source::postgres::admit::{self, SourceRefusal};

use super::sim::{Sim, Violation};
use super::world::Txn;

impl Sim {
    /// A refusal is right only if the world has really lost something, or something was really changed behind our back.
    pub fn judge(&self, refusal: &StartRefusal) -> Result<(), Violation> {
        let right = match refusal {
            StartRefusal::Source(SourceRefusal::StandbyBehind { .. }) => self.world.server.in_recovery,
            StartRefusal::Source(SourceRefusal::OtherHistory { .. }) => self.world.switched,
            StartRefusal::Source(SourceRefusal::SlotMissing { .. }) => self.world.server.slot.is_none(),
            StartRefusal::Source(SourceRefusal::SlotAhead { .. }) => self.world.tampered,
            StartRefusal::Log(LogRefusal::Damaged { first, last, .. }) => {
                self.disk.frames.iter().any(|frame| frame.damaged && (*first..=*last).contains(&frame.number))
            }
            StartRefusal::Source(SourceRefusal::Unproven { known, now }) => known != now,
            StartRefusal::Source(
                SourceRefusal::SlotInTheMaking { .. } | SourceRefusal::EpochBehind { .. },
            )
            | StartRefusal::Log(LogRefusal::LastEpoch(_)) => false,
            StartRefusal::Log(LogRefusal::CheckpointMissing)
            | StartRefusal::Source(
                SourceRefusal::UsedBefore { .. }
                | SourceRefusal::OnlySlotMissing { .. }
                | SourceRefusal::Identity { .. }
                | SourceRefusal::SlotUnusable { .. },
            ) => self.mode.wiped && self.world.server.slot.is_none(),
        };
        if right { Ok(()) } else { Err(format!("false refusal: {refusal}")) }
    }

    /// A new epoch costs every reader a gap: a start begins one only after a stop that was not clean, and a switch.
    pub fn judge_new_epoch(&self, found: Option<&Checkpoint>, timeline: u32) -> Result<(), Violation> {
        let unclean = found.is_some_and(|found| !found.clean);
        let switched =
            self.world.switched || found.is_some_and(|found| found.identity.source.timeline() != timeline);
        if unclean && switched { Ok(()) } else { Err("a new epoch for nothing".into()) }
    }

    /// What is confirmed must be published, or survive a power cut at this very moment.
    pub fn check_confirm(&self, lsn: u64) -> Result<(), Violation> {
        let connection = self.daemon.as_ref().and_then(|daemon| daemon.connection.as_ref());
        let delivered = connection.map_or(0, |connection| connection.delivered);
        if lsn > delivered {
            return Err(format!("confirmed {lsn}, but this connection delivered only up to {delivered}"));
        }
        let kept = match &self.disk.checkpoint {
            None if self.mode.wiped => FrameNo(0),
            None => return Err("confirmed without a checkpoint".into()),
            Some(found) if self.mode.wiped || found.ever_confirmed.seq().get() >= lsn => {
                self.kept_by_a_power_cut(lsn)?
            }
            Some(found) => {
                return Err(format!("confirmed {lsn}, but the checkpoint says {}", found.ever_confirmed));
            }
        };
        let end = |txn: &&Txn| txn.commit() < lsn;
        for txn in self.world.server.txns.iter().filter(end) {
            self.check_change(txn, Some(kept), &format!("confirmed {lsn}"))?;
        }
        Ok(())
    }

    fn kept_by_a_power_cut(&self, lsn: u64) -> Result<FrameNo, Violation> {
        if self.mode.wiped {
            return Ok(FrameNo(0));
        }
        let Some(found) = &self.disk.checkpoint else { return Err("confirmed without a checkpoint".into()) };
        let (watermark, durable) = (found.watermark.frame, found.durable.frame);
        if durable > watermark && durable > self.disk.fsynced {
            return Err(format!("durable is {durable}, but only {} is fsynced", self.disk.fsynced));
        }
        let slot = admit::ReplicationSlot { confirmed: CommitSeq::new(lsn), unusable: None };
        let (server, state) = (self.world.facts(), self.disk.state());
        match recover::recover(&self.wanted(), Some(found), &state, Some(&slot), &server) {
            Ok(start) => Ok(start.truncate_after),
            // What an earlier connection was about to confirm has been written since this one was admitted, and the server
            // has never had that much: a refusal is right, and loses nothing.
            Err(refusal) if self.judge(&refusal).is_ok() => Ok(watermark.max(durable)),
            Err(refusal) => Err(format!("after a confirm of {lsn}, recovery would refuse: {refusal}")),
        }
    }

    /// Every record of every change is in the stream, or in a frame up to `kept`.
    fn check_change(&self, txn: &Txn, kept: Option<FrameNo>, when: &str) -> Result<(), Violation> {
        if txn.commit() < self.world.created {
            return Ok(());
        }
        for (index, keys) in (0u32..).zip(&txn.changes) {
            let uid = (txn.uid, index);
            if self.world.excused.contains(&uid) {
                continue;
            }
            for (part, key) in (0u16..).zip(keys) {
                let lost = !self.stream.has(uid, part)
                    && kept.is_none_or(|kept| {
                        let here = |frame: &super::disk::Stored| {
                            frame.number <= kept && frame.lines.iter().any(|line| line.uid == uid)
                        };
                        !self.disk.frames.iter().any(here)
                    });
                if lost {
                    return Err(format!(
                        "{when}: lost change {index} (key {key}, part {part}) of {} (number {})",
                        txn.id, txn.uid
                    ));
                }
            }
        }
        Ok(())
    }

    /// A refusal has said that these are gone: neither published nor kept, and the slot does not have them any more.
    pub fn excuse(&mut self, confirmed: u64, kept: FrameNo) {
        let txns = self.world.server.txns.clone();
        for txn in txns.iter().filter(|txn| txn.commit() < confirmed) {
            for (index, keys) in (0u32..).zip(&txn.changes) {
                let one = Txn { changes: vec![Vec::new(); index as usize], ..txn.clone() };
                let mut changes = one.changes.clone();
                changes.push(keys.clone());
                if self.check_change(&Txn { changes, ..one }, Some(kept), "").is_err() {
                    self.world.excused.insert((txn.uid, index));
                }
            }
        }
    }

    /// Everything that the server has now was to be published.
    pub fn check_end(&self) -> Result<(), Violation> {
        for txn in &self.world.server.txns {
            self.check_change(txn, None, "at the end")?;
        }
        if self.stream.gaps() + self.gaps_lost < self.adopts {
            return Err(format!("{} adopted, but {} gaps published", self.adopts, self.stream.gaps()));
        }
        let last = self.world.server.txns.last().map_or(0, |txn| txn.end);
        let confirmed = self.world.server.slot.map_or(0, |slot| slot.confirmed);
        if confirmed < last {
            return Err(format!("all is published, but the slot stays at {confirmed}, before {last}"));
        }
        if self.disk.checkpoint.as_ref().is_some_and(|found| !found.injections.is_empty()) {
            return Err("an injection stays in the checkpoint".into());
        }
        Ok(())
    }
}

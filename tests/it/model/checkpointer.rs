//! The checkpointer's acts, one at a time, so that anything can happen between two of them.

use forebay::buffer::checkpoint::Checkpoint;
use forebay::buffer::ledger::Reached;
use forebay::position::FrameNo;

use super::planted::Fault;
use super::sim::{Sim, Violation};

/// What comes next.
#[derive(Debug, Default)]
pub enum Checkpointer {
    #[default]
    Look,
    Write(Checkpoint),
    Note(Checkpoint),
    Reclaim(FrameNo),
}

impl Sim {
    pub fn keep(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match std::mem::take(&mut daemon.checkpointer) {
            Checkpointer::Look => {
                if daemon.ledger.wants_sync(now) {
                    self.sync();
                }
                self.prepare()
            }
            Checkpointer::Write(next) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.checkpointer = Checkpointer::Note(next.clone());
                }
                self.note(|| {
                    format!(
                        "checkpoint: watermark {:?} durable {:?} confirmed {}",
                        next.watermark, next.durable, next.ever_confirmed
                    )
                });
                self.disk.checkpoint = Some(next);
                Ok(())
            }
            Checkpointer::Note(next) => {
                let watermark = next.watermark.frame;
                daemon.settled = daemon.ledger.written(next).or(daemon.settled.take());
                daemon.checkpointer = Checkpointer::Reclaim(watermark);
                Ok(())
            }
            Checkpointer::Reclaim(watermark) => {
                self.disk.reclaim(watermark, &mut self.random);
                Ok(())
            }
        }
    }

    fn prepare(&mut self) -> Result<(), Violation> {
        let early = self.has(Fault::ReleaseBeforeTheCheckpoint);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(mut next) = daemon.ledger.prepare() else { return Ok(()) };
        let ever_confirmed = next.ever_confirmed.clone();
        if early {
            self.disk.reclaim(next.watermark.frame, &mut self.random);
        }
        if self.fault == Some(Fault::ToldNotRaised) {
            next.ever_confirmed = daemon.ledger.checkpoint().ever_confirmed.clone();
        }
        let raised = ever_confirmed > next.ever_confirmed;
        daemon.checkpointer = Checkpointer::Write(next);
        if raised
            || (self.has(Fault::ConfirmBeforeTheCheckpoint)
                && self.disk.checkpoint.as_ref().is_some_and(|found| ever_confirmed > found.ever_confirmed))
        {
            return self.confirm_up_to(ever_confirmed.seq().get());
        }
        Ok(())
    }

    fn sync(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let before = self.disk.fsynced;
        let Some(last) = self.disk.frames.back() else { return };
        if let Some(withheld) = daemon.withheld {
            self.disk.fsynced = before.max(withheld.mark.frame);
            daemon.ledger.synced(withheld);
            return;
        }
        if last.number <= before {
            return;
        }
        let transaction = self.disk.frames.iter().rev().find_map(|frame| frame.transaction);
        self.disk.fsynced = last.number;
        daemon.ledger.synced(Reached { transaction, ..daemon.ledger.tail() });
    }

    /// The last acts of a clean stop.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.flush();
        while self.daemon.as_ref().is_some_and(|daemon| !matches!(daemon.checkpointer, Checkpointer::Look)) {
            self.keep()?;
        }
        let loose = self.daemon.as_ref().is_some_and(|daemon| daemon.ledger.has_loose_progress());
        if self.mode.confirm_after != forebay::config::ConfirmAfter::Never || loose {
            self.sync();
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.ledger.stop();
        }
        self.prepare()?;
        while self.daemon.as_ref().is_some_and(|daemon| !matches!(daemon.checkpointer, Checkpointer::Look)) {
            self.keep()?;
        }
        Ok(())
    }

    /// What the checkpointer has settled goes to the server, if it belongs to this connection.
    pub fn confirm(&mut self) -> Result<(), Violation> {
        let any = self.has(Fault::ConfirmOnAnyConnection);
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let (Some(settled), Some(connection)) = (&daemon.settled, &daemon.connection) else { return Ok(()) };
        if settled.connection() != connection.number && !any {
            return Ok(());
        }
        self.confirm_up_to(settled.resume().seq().get())
    }

    /// A status message; on a dead connection it is lost.
    fn confirm_up_to(&mut self, lsn: u64) -> Result<(), Violation> {
        let connected = self.daemon.as_ref().is_some_and(|daemon| daemon.connection.is_some());
        if !connected || self.is_cut_off() || self.random.one_in(8) {
            return Ok(());
        }
        self.check_confirm(lsn)?;
        self.note(|| format!("confirmed {lsn}"));
        if let Some(slot) = &mut self.world.server.slot {
            slot.confirmed = slot.confirmed.max(lsn);
        }
        Ok(())
    }
}

//! The keeper's acts, one at a time, so that anything can happen between two of them.

use forebay::buffer::checkpoint::Checkpoint;
use forebay::buffer::ledger::Reached;
use forebay::position::FrameNo;

use super::planted::Fault;
use super::sim::{Sim, Violation};

/// What comes next.
#[derive(Debug, Default)]
pub enum Keeper {
    #[default]
    Look,
    Write(Checkpoint),
    Note(Checkpoint),
    Release(FrameNo),
}

impl Sim {
    pub fn keep(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match std::mem::take(&mut daemon.keeper) {
            Keeper::Look => {
                if daemon.ledger.wants_sync(now) {
                    self.sync();
                }
                self.prepare()
            }
            Keeper::Write(next) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.keeper = Keeper::Note(next.clone());
                }
                self.note(|| {
                    format!("checkpoint: low {:?} held {:?} told {}", next.low, next.held, next.told)
                });
                self.disk.checkpoint = Some(next);
                Ok(())
            }
            Keeper::Note(next) => {
                let low = next.low.frame;
                daemon.settled = daemon.ledger.written(next).or(daemon.settled);
                daemon.keeper = Keeper::Release(low);
                Ok(())
            }
            Keeper::Release(low) => {
                self.disk.release(low, &mut self.random);
                Ok(())
            }
        }
    }

    fn prepare(&mut self) -> Result<(), Violation> {
        let early = self.has(Fault::ReleaseBeforeTheCheckpoint);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(mut next) = daemon.ledger.prepare() else { return Ok(()) };
        let told = next.told;
        if early {
            self.disk.release(next.low.frame, &mut self.random);
        }
        if self.fault == Some(Fault::ToldNotRaised) {
            next.told = daemon.ledger.checkpoint().told;
        }
        let raised = told > next.told;
        daemon.keeper = Keeper::Write(next);
        if raised
            || (self.has(Fault::ConfirmBeforeTheCheckpoint)
                && self.disk.checkpoint.as_ref().is_some_and(|found| told > found.told))
        {
            return self.tell(told.get());
        }
        Ok(())
    }

    fn sync(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let before = self.disk.fsynced;
        let Some(last) = self.disk.frames.back() else { return };
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
        while self.daemon.as_ref().is_some_and(|daemon| !matches!(daemon.keeper, Keeper::Look)) {
            self.keep()?;
        }
        if self.mode.confirm_after != forebay::config::ConfirmAfter::Never {
            self.sync();
        }
        self.prepare()?;
        while self.daemon.as_ref().is_some_and(|daemon| !matches!(daemon.keeper, Keeper::Look)) {
            self.keep()?;
        }
        Ok(())
    }

    /// What the keeper has settled goes to the server, if it belongs to this connection.
    pub fn confirm(&mut self) -> Result<(), Violation> {
        let any = self.has(Fault::ConfirmOnAnyConnection);
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let (Some(settled), Some(connection)) = (daemon.settled, &daemon.connection) else { return Ok(()) };
        if settled.connection() != connection.number && !any {
            return Ok(());
        }
        self.tell(settled.lsn().get())
    }

    /// A status message; on a dead connection it is lost.
    fn tell(&mut self, lsn: u64) -> Result<(), Violation> {
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

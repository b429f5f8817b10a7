//! One walk: random steps, then everything is let through, then the checks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use forebay::event::KeyHash;
use forebay::sink::lanes::Detail;

use super::planted::Fault;
use super::sim::{Sim, Violation};

const STEPS: u64 = 250;
/// Rounds after which what has not come will not come.
const DRAIN_ROUNDS: usize = 400;

/// Walks once. A broken invariant of the parts themselves (a panic) is a violation too.
pub fn walk(seed: u64, fault: Option<Fault>, trace: bool) -> Result<(), Violation> {
    let run = || {
        let mut sim = Sim::new(seed, fault, trace);
        sim.note(|| format!("{:?}", sim.mode));
        let steps = STEPS / 2 + sim.random.below(STEPS);
        for _ in 0..steps {
            sim.step()?;
        }
        sim.drain()?;
        sim.check_end()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    })
}

impl Sim {
    fn step(&mut self) -> Result<(), Violation> {
        if self.random.below(100) < self.rough {
            return self.mishap();
        }
        let passed = [1, 20, 300, 2_000][self.random.index(4)];
        self.pass_time(passed);
        match self.random.below(100) {
            0..9 => self.world.commit(&mut self.random),
            9..13 => {
                let bytes = 8 * self.random.below(4);
                self.world.foreign(bytes);
            }
            13..16 => self.world.replay(&mut self.random),
            16..40 => return self.receive(),
            40..48 => self.flush(),
            48..62 => return self.keep(),
            62..68 => return self.confirm(),
            68..80 => return self.send(),
            80..90 => return self.answer(),
            90..94 => self.report(Detail::Lanes),
            94 => {
                let pick = self.random.index(16);
                return self.stream.arrive(pick);
            }
            95..97 => self.keepalive_inside(),
            97 => self.world.persist_slot(),
            _ => {
                let key = format!("k{}", self.random.below(6));
                self.stuck = if self.random.one_in(2) { Some(KeyHash::of(&key).lane()) } else { None };
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Violation> {
        match &self.daemon {
            None if self.refused => {
                self.adopt_or_leave();
                Ok(())
            }
            None => self.start(),
            Some(daemon) if daemon.connection.is_none() => self.connect(),
            Some(_) => self.deliver(),
        }
    }

    fn adopt_or_leave(&mut self) {
        if self.mode.wiped {
            // There is nothing to adopt in; a person makes the slot again.
            self.world.recreate_slot();
            self.refused = false;
        } else {
            self.adopt();
        }
    }

    fn mishap(&mut self) -> Result<(), Violation> {
        match self.random.below(26) {
            0..4 => self.kill(),
            4..7 => self.power_cut(),
            7..9 => return self.stop(),
            9..12 => self.disconnect(),
            12..14 => self.publish_again(),
            14..16 => self.world.crash(&mut self.random),
            16..18 => self.world.copy(&mut self.random),
            18 => {
                self.kill();
                self.damage();
            }
            19..22 if !self.mode.wiped => {
                // What takes the database away may take the daemon with it: one machine, one zone.
                match self.random.below(4) {
                    0 => self.kill(),
                    1 => self.power_cut(),
                    _ => {}
                }
                self.replace_server();
            }
            22 if !self.mode.wiped && self.random.one_in(3) => self.world.drop_slot(),
            24..26 if !self.mode.wiped && self.world.server.in_recovery => self.promote(),
            23 if !self.mode.wiped && self.random.one_in(3) => self.world.steal(),
            _ => {}
        }
        Ok(())
    }

    /// The connection continues; the watchdog notes it in the ledger.
    fn promote(&mut self) {
        self.note(|| "promoted".into());
        self.world.promote();
        self.stream.switch(&self.world.server.txns, self.world.next_uid);
        if self.has(Fault::PromotionUnnoticed) || self.is_cut_off() {
            return;
        }
        let timeline = self.world.facts().timeline;
        if let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.connection.is_some()) {
            daemon.ledger.promoted(timeline);
        }
    }

    fn replace_server(&mut self) {
        self.world.replace(&mut self.random);
        self.note(|| {
            format!("another server, slot {:?}, ends at {}", self.world.server.slot, self.world.visible_end())
        });
        self.stream.switch(&self.world.server.txns, self.world.next_uid);
        // A copy of a later time than the one that was adopted last brings a slot that has gone further.
        let ever_confirmed =
            self.disk.checkpoint.as_ref().map_or(0, |found| found.ever_confirmed.seq().get());
        self.world.tampered |= self.world.server.slot.is_some_and(|slot| slot.confirmed > ever_confirmed);
    }

    /// No more faults: everything must come through, and the slot must follow, also while others write all the time.
    fn drain(&mut self) -> Result<(), Violation> {
        self.note(|| "drain".into());
        self.stuck = None;
        for round in 0..DRAIN_ROUNDS {
            self.pass_time(1_000);
            if round == 50 && self.world.server.in_recovery {
                // One that waits for a timeline that never comes is ended by its promotion.
                self.promote();
            }
            for _ in 0..4 {
                self.world.foreign(8);
                self.world.replay_all();
                self.receive()?;
                self.receive()?;
                self.flush();
                self.keep()?;
                self.send()?;
                self.accept()?;
            }
            self.report(Detail::Lanes);
            self.confirm()?;
            if round > 20 && self.check_end().is_ok() {
                break;
            }
        }
        Ok(())
    }
}

//! One connection and what the ingest loop does with it, in the order of the real loop.

use forebay::buffer::checkpoint::{Injection, Mark};
use forebay::buffer::ledger::Reached;
use forebay::pipeline::ingest::proof::{Proof, WithheldContradicted};
use forebay::position::{CommitSeq, FrameNo, Position, Transaction};
use forebay::source::postgres::admit::{self, SourceRefusal};
use forebay::source::postgres::history::{AnotherHistory, History};

use super::daemon::Daemon;
use super::disk::Stored;
use super::planted::Fault;
use super::sim::{Sim, Violation};
use super::stream::Line;
use super::world::Txn;

/// Frames in the log at most: beyond, the source waits.
const LOG_FRAMES_MAX: usize = 40;

/// A replication connection and its walsender.
#[derive(Debug)]
pub struct Connection {
    pub number: u64,
    pub generation: u64,
    history: History,
    /// What it must bring before what it brings is published.
    proof: Option<Proof>,
    /// The log has no room for what comes before the proof.
    skips: bool,
    /// Up to where the walsender has decoded.
    at: u64,
    /// The transaction that is being sent, and its next change.
    open: Option<(Txn, usize)>,
    /// Up to where it has delivered everything.
    pub delivered: u64,
}

impl Daemon {
    fn last_frame(&self) -> FrameNo {
        self.tail.mark.frame
    }

    fn append(&mut self, frame: Stored) {
        let position = frame.position.or(self.tail.mark.position);
        self.tail = Reached {
            mark: Mark { frame: frame.number, position },
            transaction: frame.transaction.or(self.tail.transaction),
        };
        self.staged.push(frame);
    }

    fn append_change(&mut self, txn: &Txn, index: usize) {
        let Some(keys) = txn.changes.get(index).filter(|keys| !keys.is_empty()) else { return };
        let ordinal = u32::try_from(index).unwrap();
        let position = Position { epoch: self.epoch, commit: txn.id.commit, index: ordinal };
        let line = |part| Line { uid: (txn.uid, ordinal), part, position };
        let lines: Vec<_> = (0u16..).zip(keys).map(|(part, _)| line(part)).collect();
        let records = lines.iter().zip(keys).map(|(line, key)| (format!("k{key}"), line.write())).collect();
        let number = self.last_frame().next();
        let transaction = Some(txn.id);
        self.append(Stored { number, position: Some(position), transaction, records, lines, damaged: false });
        self.last = Some(position);
    }

    /// Withholds what a connection brings, as the real loop does.
    fn withhold(&mut self, expect: Option<Transaction>) -> Option<Proof> {
        let Some(proof) = Proof::needed(expect, self.last) else {
            self.withheld = None;
            return None;
        };
        let visible = *self.withheld.get_or_insert(self.ledger.tail());
        let withheld = self.last.filter(|last| Some(*last) > visible.mark.position);
        Some(proof.and(withheld.and(self.tail.transaction)))
    }

    /// Whether room can come only from what waits for the proof.
    fn waits_for_proof(&self) -> bool {
        let proof = self.connection.as_ref().is_some_and(|connection| connection.proof.is_some());
        let published = self.ledger.checkpoint().watermark.frame;
        proof && self.withheld.is_none_or(|withheld| published >= withheld.mark.frame)
    }

    /// Injections that are not in the log yet.
    fn inject(&mut self) {
        for injection in self.ledger.to_inject() {
            let number = self.last_frame().next();
            let Injection::Gap { epoch, .. } = &injection else { panic!("the model retries nothing") };
            let records = vec![("gap".to_owned(), epoch.to_string().into_bytes())];
            let (position, transaction, lines) = (None, None, Vec::new());
            self.append(Stored { number, position, transaction, records, lines, damaged: false });
            self.ledger.injected(number, injection);
        }
    }
}

impl Sim {
    /// Writes what is staged to the log, which is not yet to the disk.
    pub fn flush(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        self.disk.frames.extend(daemon.staged.drain(..));
        daemon.ledger.received(daemon.tail);
    }

    /// Looks at the server as at a start, and opens a connection.
    pub fn connect(&mut self) -> Result<(), Violation> {
        if !self.has(Fault::StagedNotInTip) {
            self.flush();
        }
        let forgetful = self.has(Fault::StaleTimeline);
        let no_last_seen = self.has(Fault::TipIgnored);
        let unproven = self.has(Fault::PublishesUnproven);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        daemon.connection = None;
        let (server, slot) = (self.world.facts(), self.world.slot_facts());
        let found = if forgetful { daemon.ledger.checkpoint().clone() } else { daemon.ledger.known() };
        let last_seen = daemon.ledger.last_seen().filter(|_| !no_last_seen);
        let admitted = match admit::admit(&found, last_seen, slot.as_ref(), &server) {
            Ok(admitted) => admitted,
            // Since the process began, or was proven, it has followed this history itself.
            Err(refusal @ SourceRefusal::Unproven { .. }) if daemon.ledger.known().clean => {
                return Err(format!("a new epoch for what the process knows: {refusal}"));
            }
            Err(refusal) => return self.refuse(&refusal.into()),
        };
        let at = slot.map_or(0, |slot| slot.confirmed.get());
        let proof = if unproven { None } else { daemon.withhold(admitted.expect) };
        daemon.connection = Some(Connection {
            number: daemon.ledger.connect(server.timeline, server.wal_end),
            generation: self.world.generation,
            history: History::new(admitted.expect),
            proof,
            skips: false,
            at,
            open: None,
            delivered: 0,
        });
        daemon.inject();
        self.note(|| format!("connect at {at}, expect {:?}", admitted.expect));
        Ok(())
    }

    /// The server has ended this connection, or it breaks.
    pub fn is_cut_off(&self) -> bool {
        let connection = self.daemon.as_ref().and_then(|daemon| daemon.connection.as_ref());
        connection.is_some_and(|connection| connection.generation != self.world.generation)
    }

    pub fn disconnect(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.connection = None;
        }
    }

    /// The next message of the stream.
    pub fn deliver(&mut self) -> Result<(), Violation> {
        if self.is_cut_off() {
            self.disconnect();
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let full = self.disk.frames.len() + daemon.staged.len() >= LOG_FRAMES_MAX;
        let waits = full && daemon.waits_for_proof();
        let Some(connection) = &mut daemon.connection else { return Ok(()) };
        connection.skips |= waits;
        if full && !connection.skips {
            return Ok(());
        }
        let progress = match connection.open.take() {
            Some((txn, index)) if index < txn.changes.len() => {
                let position = Position {
                    epoch: daemon.epoch,
                    commit: txn.id.commit,
                    index: u32::try_from(index).unwrap(),
                };
                let known = if self.fault == Some(Fault::DedupeByLsn) {
                    daemon
                        .last
                        .is_some_and(|last| (position.epoch, position.commit) <= (last.epoch, last.commit))
                } else {
                    daemon.last.is_some_and(|last| position <= last)
                };
                connection.open = Some((txn.clone(), index + 1));
                if !known && !connection.skips {
                    daemon.append_change(&txn, index);
                }
                Ok(())
            }
            Some((txn, _)) => {
                connection.at = txn.end;
                connection.delivered = txn.end;
                self.world.seen = self.world.seen.max(txn.end);
                if connection.history.commit() {
                    daemon.ledger.mark(daemon.tail.mark.frame, CommitSeq::new(txn.end).into());
                }
                Ok(())
            }
            None => match self.world.next(connection.at).cloned() {
                Some(txn) if self.random.one_in(3) && txn.commit() > connection.at => {
                    self.keepalive(txn.commit())
                }
                Some(txn) => {
                    self.world.seen = self.world.seen.max(txn.commit() + 1);
                    let begun = connection.history.begin(txn.id);
                    let proven = match connection.proof.as_mut().filter(|_| begun.is_ok()) {
                        Some(proof) => proof.begin(txn.id),
                        None => Ok(false),
                    };
                    connection.open = Some((txn, 0));
                    match proven {
                        Ok(true) => self.proven(),
                        Ok(false) => {}
                        Err(contradicted) => return self.contradicted(&contradicted),
                    }
                    begun
                }
                None => self.keepalive(self.world.visible_end()),
            },
        };
        self.note_progress(progress)
    }

    /// What was withheld is of the known history; what was only read is received again.
    fn proven(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.withheld = None;
        let Some(connection) = &mut daemon.connection else { return };
        connection.proof = None;
        if connection.skips {
            daemon.connection = None;
        }
    }

    /// What was withheld is of another history: the next start truncates it.
    fn contradicted(&mut self, contradicted: &WithheldContradicted) -> Result<(), Violation> {
        self.note(|| format!("stopped: {contradicted}"));
        if !self.world.switched {
            return Err(format!("false refusal: {contradicted}"));
        }
        self.stop_or_exit()
    }

    /// A keepalive while a transaction is on its way says how far the walsender has read.
    pub fn keepalive_inside(&mut self) {
        let fault = self.has(Fault::KeepaliveInsideCounts);
        let Some(daemon) = &mut self.daemon else { return };
        let Some(connection) = &mut daemon.connection else { return };
        let Some((txn, _)) = &connection.open else { return };
        let at = CommitSeq::new(if fault { txn.end } else { connection.at });
        let may = connection.history.progress(at).unwrap_or(false);
        if may || fault {
            connection.delivered = connection.delivered.max(at.get());
            daemon.ledger.mark(daemon.tail.mark.frame, at.into());
        }
    }

    fn keepalive(&mut self, end: u64) -> Result<(), AnotherHistory> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(connection) = &mut daemon.connection else { return Ok(()) };
        if end < connection.at {
            return Ok(());
        }
        connection.at = end;
        connection.delivered = connection.delivered.max(end);
        self.world.seen = self.world.seen.max(end);
        if connection.history.progress(CommitSeq::new(end))? {
            daemon.ledger.mark(daemon.tail.mark.frame, CommitSeq::new(end).into());
        }
        Ok(())
    }

    fn note_progress(&mut self, progress: Result<(), AnotherHistory>) -> Result<(), Violation> {
        let Err(other) = progress else { return Ok(()) };
        self.note(|| format!("stopped: {other}"));
        if !self.world.switched {
            return Err(format!("false refusal: {other}"));
        }
        self.refused = true;
        self.stop_or_exit()
    }
}

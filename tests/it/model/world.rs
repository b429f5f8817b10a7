//! The database of the model: one server with its history, a slot, foreign traffic, copies to go back to.
//!
//! It never keeps a promise that Postgres does not keep: a crash may bring back an older confirmed position, a restored copy
//! uses log sequence numbers (and transaction ids) again, a connection sends what committed at or after the confirmed
//! position and nothing that is not flushed (on a standby: replayed).

use std::collections::HashSet;

use forebay::position::{CommitSeq, Transaction};
use forebay::source::postgres::admit;

use super::random::Random;

/// Tells a change from every other one that was ever made, in whatever history: transaction, ordinal.
pub type Uid = (u64, u32);

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Txn {
    pub id: Transaction,
    pub uid: u64,
    pub end: u64,
    /// Per change the keys of its records; a change that no rule wants has none.
    pub changes: Vec<Vec<u8>>,
}

impl Txn {
    pub fn commit(&self) -> u64 {
        self.id.commit.get()
    }
}

/// The slot: what is confirmed, and how much of that a crash of the server would keep.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub confirmed: u64,
    pub persisted: u64,
}

/// Everything that a copy of the server has.
#[derive(Clone, Debug)]
pub struct Server {
    pub txns: Vec<Txn>,
    pub wal_end: u64,
    pub slot: Option<Slot>,
    timeline: u32,
    switches: Vec<(u32, CommitSeq)>,
    next_xid: u32,
    pub in_recovery: bool,
    /// A standby: how far it has replayed, and the most it ever had.
    pub replayed: u64,
    flushed: u64,
    /// Who wrote its WAL: incarnations, and from where on.
    lineage: Vec<(u64, u64)>,
}

impl Server {
    /// What a crash would keep.
    fn end(&self) -> u64 {
        if self.in_recovery { self.flushed } else { self.wal_end }
    }

    /// Up to where both have the same history.
    fn common(&self, other: &Self) -> u64 {
        let same = self.lineage.iter().zip(&other.lineage).take_while(|(one, two)| one == two).count();
        let ends = |server: &Self| server.lineage.get(same).map_or(server.end(), |(_, start)| *start);
        ends(self).min(ends(other))
    }

    /// On a new timeline, with what it has.
    fn promote(&mut self) {
        let at = self.end();
        self.in_recovery = false;
        self.txns.retain(|txn| txn.end <= at);
        self.wal_end = at;
        self.switches.push((self.timeline, CommitSeq::new(at)));
        self.timeline += 1;
    }
}

/// The server that the name points to, and what it may be replaced by.
#[derive(Debug)]
pub struct World {
    pub server: Server,
    copies: Vec<Server>,
    pub next_uid: u64,
    incarnations: u64,
    /// Changes with each connection that the server has ended.
    pub generation: u64,
    /// Everything that begins before this address was there before the slot.
    pub created: u64,
    /// The highest address that Forebay has seen since it last accepted a history.
    pub seen: u64,
    /// The history was switched below `seen`.
    pub switched: bool,
    /// Somebody else has moved the slot.
    pub tampered: bool,
    /// Wanted changes that are really lost, and whose loss a refusal has named.
    pub excused: HashSet<Uid>,
}

impl World {
    pub fn new(standby: bool) -> Self {
        let server = Server {
            txns: Vec::new(),
            wal_end: 1_000,
            slot: Some(Slot { confirmed: 1_000, persisted: 1_000 }),
            timeline: 1,
            switches: Vec::new(),
            next_xid: 700,
            in_recovery: standby,
            replayed: 1_000,
            flushed: 1_000,
            lineage: vec![(0, 1_000)],
        };
        Self {
            server,
            copies: Vec::new(),
            next_uid: 0,
            incarnations: 0,
            generation: 0,
            created: 1_000,
            seen: 0,
            switched: false,
            tampered: false,
            excused: HashSet::new(),
        }
    }

    /// Addresses are coarse, so that another history often uses the very same ones.
    pub fn commit(&mut self, random: &mut Random) {
        let server = &mut self.server;
        let commit = server.wal_end + 8 * random.below(3);
        let end = commit + 8;
        self.next_uid += 1;
        let time = 1_000_000 + i64::try_from(self.next_uid).unwrap();
        let id = Transaction { commit: CommitSeq::new(commit), xid: server.next_xid, time };
        let count = if random.one_in(6) { 0 } else { 1 + random.below(4) };
        let keys_of = |random: &mut Random| {
            let records = [0, 1, 1, 1, 1, 2][random.index(6)];
            (0..records).map(|_| u8::try_from(random.below(6)).unwrap()).collect()
        };
        let changes = (0..count).map(|_| keys_of(random)).collect();
        server.txns.push(Txn { id, uid: self.next_uid, end, changes });
        server.next_xid += 1;
        server.wal_end = end + 8 * random.below(2);
    }

    pub fn foreign(&mut self, bytes: u64) {
        self.server.wal_end += bytes;
    }

    /// A standby replays some of what its primary has written.
    pub fn replay(&mut self, random: &mut Random) {
        let server = &mut self.server;
        let rest = server.wal_end - server.replayed;
        server.replayed += 8 * random.below(rest / 8 + 1);
        server.flushed = server.flushed.max(server.replayed);
    }

    pub fn replay_all(&mut self) {
        self.server.replayed = self.server.wal_end;
        self.server.flushed = self.server.wal_end;
    }

    /// Everything before this is flushed, or on a standby replayed.
    pub fn visible_end(&self) -> u64 {
        if self.server.in_recovery { self.server.replayed } else { self.server.wal_end }
    }

    /// The first transaction that is sent to a connection that has come to `from`.
    pub fn next(&self, from: u64) -> Option<&Txn> {
        let end = self.visible_end();
        self.server.txns.iter().find(|txn| txn.commit() >= from && txn.end <= end)
    }

    pub fn persist_slot(&mut self) {
        if let Some(slot) = &mut self.server.slot {
            slot.persisted = slot.confirmed;
        }
    }

    pub fn copy(&mut self, random: &mut Random) {
        if self.copies.len() >= 3 {
            let old = random.index(self.copies.len());
            self.copies.swap_remove(old);
        }
        self.copies.push(self.server.clone());
    }

    /// A crash of the server: flushed WAL stays, the slot may fall back. A standby replays again from further back.
    pub fn crash(&mut self, random: &mut Random) {
        self.generation += 1;
        if let Some(slot) = &mut self.server.slot {
            slot.confirmed = slot.persisted;
        }
        if self.server.in_recovery {
            let back = 8 * random.below(12);
            self.server.replayed = self.server.replayed.saturating_sub(back).max(1_000);
        }
    }

    /// A copy takes the server's place: on the same timeline (restored), or on a new one (promoted).
    pub fn replace(&mut self, random: &mut Random) {
        let promote = random.one_in(2);
        let copy = if promote && (self.copies.is_empty() || random.one_in(3)) {
            self.server.clone()
        } else if self.copies.is_empty() {
            return;
        } else {
            self.copies[random.index(self.copies.len())].clone()
        };
        let before = std::mem::replace(&mut self.server, copy);
        self.crash(random);
        let server = &mut self.server;
        if promote {
            server.promote();
            if random.one_in(8) {
                server.slot = None;
            }
        }
        let common = before.common(server);
        self.incarnations += 1;
        server.lineage.push((self.incarnations, server.end()));
        // An older timeline than the one that was seen is not in its history, even where nothing was written on the newer.
        self.switched |= common < self.seen || server.timeline < before.timeline;
    }

    /// The standby becomes the primary. Its connections go on.
    pub fn promote(&mut self) {
        self.incarnations += 1;
        self.server.promote();
        self.server.lineage.push((self.incarnations, self.server.wal_end));
        self.switched |= self.server.wal_end < self.seen;
    }

    pub fn recreate_slot(&mut self) {
        let end = self.visible_end();
        self.server.slot.get_or_insert(Slot { confirmed: end, persisted: end });
    }

    pub fn drop_slot(&mut self) {
        self.generation += 1;
        self.server.slot = None;
    }

    /// Somebody else consumes the slot. Only past what Forebay knows: a slot moved below that, in a history that was
    /// switched meanwhile, cannot be detected locally.
    pub fn steal(&mut self) {
        let end = self.visible_end();
        if let Some(slot) = &mut self.server.slot
            && end > self.seen
        {
            self.generation += 1;
            (slot.confirmed, slot.persisted) = (end, end);
            self.tampered = true;
        }
    }

    pub fn facts(&self) -> admit::Server {
        admit::Server {
            system_id: "7".into(),
            timeline: self.server.timeline,
            switches: self.server.switches.clone(),
            wal_end: CommitSeq::new(self.visible_end()),
            in_recovery: self.server.in_recovery,
            publication_exists: true,
        }
    }

    pub fn slot_facts(&self) -> Option<admit::ReplicationSlot> {
        let slot = self.server.slot?;
        Some(admit::ReplicationSlot { confirmed: CommitSeq::new(slot.confirmed), unusable: None })
    }
}

//! Packs several waiting events of one key into one record, line by line (`kinesis.pack = "lines"`).
//!
//! A record is accepted or rejected as a whole, so a packed one is one link of its key's chain. Its first
//! event is [`Sent`](State::Sent) and represents the others, which are [`Packed`](State::Packed). Those
//! follow it in the chain without a gap: packing ends before a dead letter, before an event that does not
//! fit, and before another key with the same hash. Event counts and progress are about events, not records.
//!
//! When the same events are sent again, they may be packed differently: alone as a probe, or with events that
//! arrived in the meantime. The order of the key holds all the same. When a record is sent, everything of its
//! key before its first event is finished, and the record has the next events of that key in order. So
//! whenever and however often it is stored, no event appears for the first time before an earlier one. The
//! event, its id and its line are the same in every repeat; the record may differ.

use bytes::{Bytes, BytesMut};

use super::reader::Reader;
use super::unacknowledged::Unacknowledged;
use super::window::{Entry, NONE, State};
use crate::event::RecordKind;
use crate::sink::Outgoing;
use crate::sink::pacing::PACK_EVENTS;

/// Size of a record in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) events: usize,
    /// Bytes of data and key.
    pub(super) bytes: usize,
}

impl Reader {
    /// The record of this event, which is [sent](Self::send), and its size. It includes as many of the
    /// following events as fit into `room` bytes. A single line is not copied.
    pub(super) fn pack(&mut self, first: u64, room: usize) -> (Option<Outgoing>, usize) {
        let Some(head) = self.window.entry(first) else { return (None, 0) };
        let (key, line, mut size) = (head.key.clone(), head.line.clone(), head.size());
        let (mut next, mut events) = (head.next, 1);
        while let Some(entry) = self.window.entry_mut(next).filter(|_| size < room && events < PACK_EVENTS)
            && may_follow(entry, &key, &line)
            && size + entry.line.len() <= room
        {
            entry.state = State::Packed;
            size += entry.line.len();
            next = entry.next;
            events += 1;
        }
        let data = if events == 1 { line } else { self.join(first, size - key.len()) };
        (Some(Outgoing { key, data }), size)
    }

    /// Joins the lines of a packed record. `length` is their total size in bytes.
    fn join(&self, first: u64, length: usize) -> Bytes {
        let mut data = BytesMut::with_capacity(length);
        self.lines(first).for_each(|entry| data.extend_from_slice(&entry.line));
        data.freeze()
    }

    /// Unpacks a record that was not accepted: its other events wait again behind the first one.
    pub(super) fn unpack(&mut self, first: u64) {
        let mut next = self.window.entry(first).map_or(NONE, |head| head.next);
        while let Some(entry) = self.window.entry_mut(next).filter(|entry| entry.state == State::Packed) {
            entry.state = State::Queued;
            next = entry.next;
        }
    }

    /// Marks the events of a record that may or may not have been stored.
    pub(super) fn mark_unacknowledged(&mut self, first: u64, all: &mut Unacknowledged) {
        let mut next = first;
        while let Some(entry) = self.window.entry_mut(next) {
            if next != first && entry.state != State::Packed {
                break;
            }
            entry.unacknowledged = true;
            all.note((entry.frame, entry.part));
            next = entry.next;
        }
    }

    /// The size of the record that begins with this event.
    pub(super) fn contents(&self, first: u64) -> Contents {
        let key = self.window.entry(first).map_or(0, |head| head.key.len());
        let none = Contents { events: 0, bytes: key };
        self.lines(first)
            .fold(none, |sum, entry| Contents { events: sum.events + 1, bytes: sum.bytes + entry.line.len() })
    }

    /// The events of a record.
    fn lines(&self, first: u64) -> impl Iterator<Item = &Entry> {
        let packed = |entry: &&Entry| entry.state == State::Packed;
        let head = self.window.entry(first);
        std::iter::successors(head, move |entry| self.window.entry(entry.next).filter(packed))
    }
}

/// Whether an event may share a record with an event of this key and line.
fn may_follow(entry: &Entry, key: &Bytes, line: &Bytes) -> bool {
    entry.kind == RecordKind::Event
        && line.ends_with(b"\n")
        && entry.line.ends_with(b"\n")
        && entry.key == *key
}

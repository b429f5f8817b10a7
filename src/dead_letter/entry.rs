//! The lines of the dead-letter file, version 2: the only code that knows their JSON.
//!
//! Two kinds of lines, each a JSON object. A *letter* is a record that could not be published:
//!
//! ```text
//! {"id":"<12 hex digits>","frame":N,"part":N,"type":"…","key":"…","reason":"…","hint":"…","at":"<time>",
//!  "halted":true,"change":{…} | "event":{…}}
//! ```
//!
//! `hint` and `halted` may be missing; `halted` means that publishing stopped before the letter (`standing`
//! in older lines). Lines of version 1 have no `id` and no `at`. If several rules failed at one change, the
//! first letter keeps the raw change and the table's description; the others have `"raw_in":"<id of the
//! first>"` in their `change` instead. A *decision* records the result of a letter:
//!
//! ```text
//! {"letter":"<id>","state":"retrying|published|waiting|discarded","at":"<time>","frame":N,"reason":"…"}
//! ```

mod change;
mod kept;

use serde::{Deserialize, Serialize};

use crate::json;
use crate::letter_id::{LetterId, position_of, position_of_sequence};
use crate::position::{FrameNo, Position};
use crate::time::{now_micros, write_rfc3339};

pub use self::change::{ChangeEntry, bounded_reason, one_line};
pub use self::kept::{Kept, NotKept};

/// The state of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written; no decision yet.
    Waiting,
    /// Publishing is halted before it (`on_poison = "stop"`).
    #[serde(alias = "standing")]
    Halted,
    /// It is being translated again, or its event is being sent.
    Retrying,
    /// Acknowledged by the stream.
    Published,
    /// Discarded by an operator.
    Discarded,
}

impl State {
    /// The name in the file and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Halted => "halted",
            Self::Retrying => "retrying",
            Self::Published => "published",
            Self::Discarded => "discarded",
        }
    }

    /// Whether an operator may decide about it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Halted)
    }

    /// The state after the first line of a letter.
    pub(super) const fn of_first_line(halted: bool) -> Self {
        if halted { Self::Halted } else { Self::Waiting }
    }

    /// The state after another line of the same letter. A decision is not overridden, and publishing is not
    /// halted twice before one letter.
    pub(super) const fn after_another_line(self, halted: bool) -> Self {
        match self {
            Self::Halted => Self::of_first_line(halted),
            Self::Waiting | Self::Retrying | Self::Published | Self::Discarded => self,
        }
    }

    /// The state according to the checkpoint: whether its frame is published, and whether its retry is known
    /// or requested.
    pub(super) fn settled(self, is_published: bool, is_pending: impl FnOnce() -> bool) -> Self {
        match self {
            // Only the record itself can have passed; a decision would have been written.
            Self::Halted if is_published => Self::Published,
            // The checkpoint no longer has the retry.
            Self::Retrying if !is_pending() => Self::Waiting,
            state => state,
        }
    }
}

/// The content of a record that becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// The record is a [`ChangeEntry`].
    Change,
    /// The record is an event that the stream does not accept.
    Event,
}

/// A record that is to be written to the file.
#[derive(Clone, Copy, Debug)]
pub struct LetterEntry<'a> {
    /// Its frame of the log.
    pub frame: FrameNo,
    /// Its index in the frame.
    pub part: u16,
    /// Event type; for a change, its table.
    pub event_type: &'a str,
    /// Partition key.
    pub key: &'a [u8],
    /// Why it cannot be published. The reason in a change is added.
    pub reason: &'a str,
    /// Content of `line`.
    pub kind: ContentKind,
    /// The record, one JSON line.
    pub line: &'a [u8],
    /// Whether publishing is halted before it.
    pub halted: bool,
}

/// The members of a record that identify it.
#[derive(Default, Deserialize)]
struct Named {
    position: Option<String>,
    rule: Option<String>,
    sequence: Option<String>,
    reason: Option<String>,
    hint: Option<String>,
}

impl Named {
    fn position(&self) -> Option<Position> {
        let sequence = || position_of_sequence(self.sequence.as_deref()?).map(|(position, _)| position);
        self.position.as_deref().and_then(position_of).or_else(sequence)
    }
}

impl LetterEntry<'_> {
    /// Its id, its position if known, and the beginning of its line. The record itself and [`END`] follow.
    pub fn head(&self) -> (LetterId, Option<Position>, Vec<u8>) {
        let named: Named = serde_json::from_slice(self.line).unwrap_or_default();
        let (id, position) = (self.id(&named), named.position());
        let mut out = format!("{{\"id\":\"{id}\",\"frame\":{},\"part\":{},\"type\":", self.frame, self.part)
            .into_bytes();
        json::write_string(&mut out, self.event_type);
        out.extend_from_slice(b",\"key\":");
        json::write_string(&mut out, &String::from_utf8_lossy(self.key));
        out.extend_from_slice(b",\"reason\":");
        match named.reason.as_ref().filter(|_| self.kind == ContentKind::Change) {
            Some(reason) => json::write_string(&mut out, &format!("{}: {reason}", self.reason)),
            None => json::write_string(&mut out, self.reason),
        }
        if let Some(hint) = named.hint.filter(|_| self.kind == ContentKind::Change) {
            out.extend_from_slice(b",\"hint\":");
            json::write_string(&mut out, &hint);
        }
        out.extend_from_slice(b",\"at\":\"");
        write_rfc3339(&mut out, now_micros());
        out.push(b'"');
        if self.halted {
            out.extend_from_slice(b",\"halted\":true");
        }
        out.extend_from_slice(match self.kind {
            ContentKind::Change => b",\"change\":",
            ContentKind::Event => b",\"event\":",
        });
        (id, position, out)
    }

    /// The record without its line feed.
    pub fn content(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(self.line)
    }

    /// The id is computed from the position, so it is the same whenever the record is written again.
    fn id(&self, named: &Named) -> LetterId {
        let found = match self.kind {
            ContentKind::Change => named.position.as_deref().and_then(position_of).map(|position| {
                named
                    .rule
                    .as_ref()
                    .map_or_else(|| LetterId::of(position, 0), |rule| LetterId::of_rule(position, rule))
            }),
            ContentKind::Event => named.sequence.as_deref().map(LetterId::of_sequence),
        };
        found.unwrap_or_else(|| LetterId::of_text(&String::from_utf8_lossy(self.line)))
    }
}

/// The reason of a change that is received again and was a dead letter before.
pub const ALREADY_QUARANTINED: &str =
    "it became a dead letter before a restart, and stays one until it is retried";

/// The end of a letter's line.
pub const END: &[u8] = b"}\n";

/// The line of a decision.
pub fn decision(id: &LetterId, state: State, frame: Option<FrameNo>, reason: Option<&str>) -> Vec<u8> {
    let mut line = format!("{{\"letter\":\"{id}\",\"state\":\"{}\",\"at\":\"", state.name()).into_bytes();
    write_rfc3339(&mut line, now_micros());
    line.push(b'"');
    if let Some(frame) = frame {
        line.extend_from_slice(format!(",\"frame\":{frame}").as_bytes());
    }
    if let Some(reason) = reason {
        line.extend_from_slice(b",\"reason\":");
        json::write_string(&mut line, reason);
    }
    line.extend_from_slice(b"}\n");
    line
}

/// The position of the change and the index of the event in it, from the `sequence` of an event.
pub fn sequence_of(event: &[u8]) -> Option<(Position, u16)> {
    let named: Named = serde_json::from_slice(event).ok()?;
    position_of_sequence(&named.sequence?)
}

/// The position of the change in a letter's line.
pub fn position_of_line(line: &[u8]) -> Option<Position> {
    Line::read(line).ok()?.position()
}

/// Whether the line of a letter holds this event, byte for byte.
pub fn holds_event(line: &[u8], event: &[u8]) -> bool {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    let before = line.strip_suffix(END).and_then(|line| line.strip_suffix(event));
    before.is_some_and(|before| before.ends_with(b",\"event\":"))
}

/// The content of a letter's line.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// An event, without its line feed.
    Event(&'a [u8]),
    /// The JSON that [`ChangeEntry`] wrote.
    Change(&'a [u8]),
}

/// The event or change in a letter's line, byte for byte. Quotes within texts are escaped, so the first
/// member with the name is the right one.
pub fn content(line: &[u8]) -> Option<Content<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line).strip_suffix(b"}")?;
    let after = |mark: &[u8]| {
        let at = line.windows(mark.len()).take(HEAD_MAX).position(|window| window == mark)?;
        line.get(at + mark.len()..)
    };
    after(b",\"event\":").map(Content::Event).or_else(|| after(b",\"change\":").map(Content::Change))
}

/// Longest head of a line in bytes: it has two names of at most 64 KiB, escaped, and a reason.
const HEAD_MAX: usize = 1 << 20;

/// Event type and partition key of a letter's line.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// Event type.
    #[serde(rename = "type", default)]
    pub event_type: String,
    /// Partition key.
    #[serde(default)]
    pub key: String,
}

impl Head {
    /// Parses both.
    ///
    /// # Errors
    /// The line is not a letter.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// The lines that a retry needs.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The letter's own line.
    pub letter: Vec<u8>,
    /// The line of the letter with its raw change, if that is another one.
    pub raw: Option<Vec<u8>>,
}

impl Lines {
    /// The letter's change, with the raw change from whichever line has it.
    ///
    /// # Errors
    /// A retry cannot succeed.
    pub fn kept(&self, change: &[u8]) -> Result<Kept, NotKept> {
        let raw = match self.raw.as_deref().and_then(content) {
            Some(Content::Change(raw)) => Some(raw),
            Some(Content::Event(_)) | None => None,
        };
        Kept::read(change, raw)
    }
}

/// A line of either kind, without the raw change and the event.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) id: Option<LetterId>,
    pub(super) letter: Option<LetterId>,
    pub(super) state: Option<State>,
    pub(super) at: Option<String>,
    #[serde(default)]
    pub(super) frame: FrameNo,
    #[serde(default)]
    pub(super) part: u16,
    #[serde(rename = "type", default)]
    pub(super) event_type: String,
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) reason: String,
    pub(super) hint: Option<String>,
    #[serde(default, alias = "standing")]
    pub(super) halted: bool,
    pub(super) change: Option<ChangeHead>,
    pub(super) event: Option<EventHead>,
}

#[derive(Deserialize)]
pub(super) struct ChangeHead {
    pub(super) position: Option<String>,
    pub(super) committed: Option<String>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) raw_kept: u64,
    pub(super) relation: Option<serde::de::IgnoredAny>,
    pub(super) raw_in: Option<LetterId>,
    /// Whether it is a logical message, which has no table.
    #[serde(default)]
    pub(super) message: bool,
}

#[derive(Deserialize)]
pub(super) struct EventHead {
    pub(super) sequence: Option<String>,
    pub(super) recordedtime: Option<String>,
}

impl Line {
    /// Position of its change; `None` for a decision, and for an event of the first release without a
    /// `sequence`.
    pub(super) fn position(&self) -> Option<Position> {
        let change = self.change.as_ref().and_then(|change| position_of(change.position.as_deref()?));
        change.or_else(|| self.sequence().map(|(position, _)| position))
    }

    /// The position and index in the `sequence` of its event.
    pub(super) fn sequence(&self) -> Option<(Position, u16)> {
        position_of_sequence(self.event.as_ref()?.sequence.as_deref()?)
    }

    /// Reads a line.
    pub(super) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// Its id. Lines of version 1 have none, so it is computed.
    pub(super) fn letter_id(&self) -> LetterId {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let change = self.change.as_ref().and_then(|change| position_of(change.position.as_deref()?));
        let event = self.event.as_ref().and_then(|event| event.sequence.as_deref());
        match (change, event) {
            (Some(position), _) => LetterId::of(position, 0),
            (None, Some(sequence)) => LetterId::of_sequence(sequence),
            (None, None) => LetterId::of_text(&format!("{} {} {}", self.frame, self.part, self.key)),
        }
    }

    /// Why a retry can never succeed; `None` if the line does not show a reason.
    pub(super) fn hopeless(&self) -> Option<&'static str> {
        match (&self.change, &self.event) {
            (Some(change), _) if change.raw_kept < change.size => {
                Some("only the beginning of its raw change was kept")
            }
            (Some(change), _) if change.relation.is_none() && !change.message && change.raw_in.is_none() => {
                Some(
                    "its table's description was not kept: release 0.1.0 wrote the line, or the table was not known",
                )
            }
            (None, None) => Some("neither a change nor an event was kept"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_behind_any_head() {
        let line = b"{\"id\":\"x\",\"reason\":\"a \\\",\\\"event\\\":\\\" b\",\"event\":{\"a\":\"}\"}}\n";
        assert!(matches!(content(line), Some(Content::Event(b"{\"a\":\"}\"}"))));
        let line = b"{\"reason\":\"r\",\"change\":{\"raw\":\"\"}}\n";
        assert!(matches!(content(line), Some(Content::Change(b"{\"raw\":\"\"}"))));
        assert!(content(b"{}\n").is_none() && content(b"").is_none());
    }

    #[test]
    fn written_event_is_found_again() {
        let event = b"{\"sequence\":\"000100000016B374D848000000030002\",\"data\":{}}\n";
        let entry = LetterEntry {
            frame: FrameNo(7),
            part: 1,
            event_type: "t.v1",
            key: b"k",
            reason: "too large",
            kind: ContentKind::Event,
            line: event,
            halted: true,
        };
        let (id, position, head) = entry.head();
        assert_eq!(position, sequence_of(event).map(|(position, _)| position));
        let line = [head.as_slice(), entry.content(), END].concat();
        assert!(holds_event(&line, event) && !holds_event(&line, b"{}\n"));
        let read = Line::read(&line).unwrap();
        assert_eq!((read.letter_id(), read.frame, read.part, read.halted), (id, FrameNo(7), 1, true));
        assert_eq!(sequence_of(event).map(|(_, part)| part), Some(2));
    }
}

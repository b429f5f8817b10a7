//! The name of a dead letter: short enough to be typed, the same after every crash.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::KeyHash;
use crate::position::{Lsn, Position};

/// Hex digits of a whole id: 48 bits, so that even a hundred thousand letters hardly ever share one.
const DIGITS: usize = 12;
/// Hex digits that a person must type at least.
const PREFIX_MIN: usize = 4;

/// Twelve hex digits made of the place of the change and the ordinal of the event: what comes again after a crash, or fails
/// again after a retry, has the id that it had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LetterId(String);

impl LetterId {
    /// Of the event with this ordinal among its change's; a change that was not translated counts as its first.
    pub fn of(position: Position, part: u16) -> Self {
        let Position { epoch, commit, index } = position;
        Self::of_text(&format!("{epoch:04X}{:016X}{index:08X}{part:04X}", commit.get()))
    }

    /// Of the change at which the rule of this event type failed, while its other events left.
    pub fn of_rule(position: Position, rule: &str) -> Self {
        let Position { epoch, commit, index } = position;
        Self::of_text(&format!("{epoch:04X}{:016X}{index:08X} {rule}", commit.get()))
    }

    /// Of an event that says its `sequence`: the same as [`of`](Self::of).
    pub fn of_sequence(sequence: &str) -> Self {
        Self::of_text(sequence)
    }

    /// Of a letter without a place, by its text.
    pub fn of_text(text: &str) -> Self {
        Self(format!("{:012x}", KeyHash::of(text).0 >> 16))
    }

    /// Whether a person who typed this can mean it.
    pub fn begins_with(&self, typed: &str) -> bool {
        (PREFIX_MIN..=DIGITS).contains(&typed.len()) && self.0.starts_with(&typed.to_ascii_lowercase())
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position that a dead letter says of itself, `epoch:LSN:index`.
pub fn position_of(text: &str) -> Option<Position> {
    let (epoch, rest) = text.split_once(':')?;
    let (commit, index) = rest.split_once(':')?;
    Some(Position { epoch: epoch.parse().ok()?, commit: commit.parse().ok()?, index: index.parse().ok()? })
}

/// The position and the ordinal that an event's `sequence` says.
pub fn position_of_sequence(text: &str) -> Option<(Position, u16)> {
    let digits = |from: usize, to: usize| {
        let digits =
            text.get(from..to).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let (epoch, commit, index, part) =
        (digits(0, 4)?, digits(4, 20)?, digits(20, 28)?, digits(28, text.len())?);
    let position =
        Position { epoch: epoch.try_into().ok()?, commit: Lsn::new(commit), index: index.try_into().ok()? };
    Some((position, part.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_its_change_have_one_id() {
        let position = Position { epoch: 1, commit: Lsn::new(0x16_B374_D848), index: 3 };
        let id = LetterId::of(position, 0);
        assert_eq!(id, LetterId::of_sequence("000100000016B374D848000000030000"));
        assert_eq!(position_of(&position.to_string()), Some(position));
        assert_ne!(id, LetterId::of(position, 1));
        assert_eq!(position_of_sequence("000100000016B374D848000000030002"), Some((position, 2)));
        let typed = id.to_string();
        assert_eq!(typed.len(), DIGITS);
        for (prefix, means) in [(4, true), (12, true), (3, false)] {
            let start: String = typed.chars().take(prefix).collect();
            assert_eq!(id.begins_with(&start.to_uppercase()), means, "{prefix} digits");
        }
        assert!(!id.begins_with("zzzz"));
    }

    #[test]
    fn what_is_no_position_is_none() {
        for text in ["", "1", "1:0/0", "x:0/0:1", "1:0:1", "1:0/0:x", "70000:0/0:1"] {
            assert_eq!(position_of(text), None, "{text}");
            assert_eq!(position_of_sequence(text), None, "{text}");
        }
    }
}

//! The id of a dead letter: short enough to be typed, and the same after every crash.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::KeyHash;
use crate::position::{CommitSeq, Position};

/// Hex digits of a whole id. With 48 bits, even a hundred thousand letters hardly ever share one.
const DIGITS: usize = 12;
/// Hex digits that must be typed at least.
const PREFIX_MIN: usize = 4;

/// Twelve hex digits, computed from the position of the change and the index of the event. If a letter is
/// written again after a crash or a failed retry, it has the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LetterId(u64);

impl LetterId {
    /// Id for the event with this index in its change. A change that was not translated counts as index 0.
    pub fn of(position: Position, part: u16) -> Self {
        let Position { epoch, commit, index } = position;
        Self::of_text(&format!("{epoch:04X}{:016X}{index:08X}{part:04X}", commit.get()))
    }

    /// Id for a change of which only the rule of this event type failed.
    pub fn of_rule(position: Position, rule: &str) -> Self {
        let Position { epoch, commit, index } = position;
        Self::of_text(&format!("{epoch:04X}{:016X}{index:08X} {rule}", commit.get()))
    }

    /// Id for the event with this `sequence`: the same as [`of`](Self::of).
    pub fn of_sequence(sequence: &str) -> Self {
        Self::of_text(sequence)
    }

    /// Id for a letter without a position, computed from its text.
    pub fn of_text(text: &str) -> Self {
        Self(KeyHash::of(text).0 >> 16)
    }

    /// Whether the id begins with the typed text, and the text is long enough.
    pub fn begins_with(&self, typed: &str) -> bool {
        (PREFIX_MIN..=DIGITS).contains(&typed.len())
            && self.to_string().starts_with(&typed.to_ascii_lowercase())
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl From<LetterId> for String {
    fn from(id: LetterId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LetterId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_id =
            text.len() == DIGITS && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_id.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        number.map(Self).ok_or("the id of a dead letter has 12 hex digits")
    }
}

/// The position in a dead letter, `epoch:LSN:index`.
pub fn position_of(text: &str) -> Option<Position> {
    let (epoch, rest) = text.split_once(':')?;
    let (commit, index) = rest.split_once(':')?;
    Some(Position { epoch: epoch.parse().ok()?, commit: commit.parse().ok()?, index: index.parse().ok()? })
}

/// The position and the index in an event's `sequence`.
pub fn position_of_sequence(text: &str) -> Option<(Position, u16)> {
    let digits = |from: usize, to: usize| {
        let digits =
            text.get(from..to).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let (epoch, commit, index, part) =
        (digits(0, 4)?, digits(4, 20)?, digits(20, 28)?, digits(28, text.len())?);
    let position = Position {
        epoch: epoch.try_into().ok()?,
        commit: CommitSeq::new(commit),
        index: index.try_into().ok()?,
    };
    Some((position, part.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_and_its_change_share_one_id() {
        let position = Position { epoch: 1, commit: CommitSeq::new(0x16_B374_D848), index: 3 };
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
    fn malformed_sequence_has_no_position() {
        for text in ["", "1", "1:0/0", "x:0/0:1", "1:0:1", "1:0/0:x", "70000:0/0:1"] {
            assert_eq!(position_of(text), None, "{text}");
            assert_eq!(position_of_sequence(text), None, "{text}");
        }
    }
}

//! A changed row, and the state that evaluation needs besides it.

use std::fmt;

use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

use crate::change::{OldRow, Operation, Tuple, Value};

/// A changed row, for `x`, `new.x` and `old.x`.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    operation: &'static str,
    new: Option<Tuple<'a>>,
    old: Option<OldRow<'a>>,
}

impl<'a> Row<'a> {
    /// The row of a change; `None` for TRUNCATE.
    pub fn of(operation: &Operation<'a>) -> Option<Self> {
        Some(match *operation {
            Operation::Insert { new } => Self { operation: "insert", new: Some(new), old: None },
            Operation::Update { old, new } => Self { operation: "update", new: Some(new), old },
            Operation::Delete { old } => Self { operation: "delete", new: None, old: Some(old) },
            Operation::Truncate { .. } => return None,
        })
    }

    /// `op`: `insert`, `update` or `delete`.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// `x`: from the new row; in a delete, from the old one.
    #[inline]
    pub fn current(&self, column: usize, in_identity: bool) -> Value<'a> {
        if self.new.is_some() { self.after(column, in_identity) } else { self.before(column, in_identity) }
    }

    /// `new.x`: NULL in a delete. An unchanged TOASTed value is taken from the old row if that has it.
    #[inline]
    pub fn after(&self, column: usize, in_identity: bool) -> Value<'a> {
        let Some(new) = self.new else { return Value::Null };
        match (new.get(column), self.old) {
            (Value::Unavailable, Some(OldRow::Full(old))) => old.get(column),
            (Value::Unavailable, Some(OldRow::Key(old))) if in_identity => old.get(column),
            (value, _) => value,
        }
    }

    /// Whether an update left this TOASTed value unchanged and did not send it. Such a value is not NULL.
    pub fn is_untouched(&self, column: usize) -> bool {
        self.new.is_some_and(|new| new.get(column) == Value::Unavailable)
    }

    /// `old.x`: NULL in an insert; unavailable if the replica identity does not provide it.
    #[inline]
    pub fn before(&self, column: usize, in_identity: bool) -> Value<'a> {
        match (self.old, self.new) {
            (Some(OldRow::Full(old)), _) => old.get(column),
            (Some(OldRow::Key(old)), _) if in_identity => old.get(column),
            // An update without an old row has not changed the replica identity.
            (None, Some(new)) if in_identity && self.operation == "update" => new.get(column),
            (None, _) if self.operation == "insert" => Value::Null,
            _ => Value::Unavailable,
        }
    }
}

/// The key of `hmac()`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey(Vec<u8>);

impl HmacKey {
    /// Shortest key, in bytes: half of the digest size of SHA-256.
    pub const LENGTH_MIN: usize = 16;

    /// A key of these bytes; `None` if they are too few.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::LENGTH_MIN).then(|| Self(bytes.to_vec()))
    }

    fn mac(&self) -> Option<Mac> {
        // HMAC takes keys of any length.
        Mac::new_from_slice(&self.0).ok()
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(..)")
    }
}

/// `hmac()`, with its key.
pub(super) type Mac = Hmac<Sha256>;

/// `hmac()` with its key, and `hmac_previous()` with the key before that.
#[derive(Clone, Default)]
pub(super) struct Macs {
    pub(super) current: Option<Mac>,
    pub(super) previous: Option<Mac>,
}

/// The state that evaluation needs besides the row, reused for every row.
#[derive(Default)]
pub struct Context {
    pub(super) macs: Macs,
    pub(super) text: String,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("has_key", &self.macs.current.is_some()).finish_non_exhaustive()
    }
}

impl Context {
    /// With an optional key of `hmac()`.
    pub fn new(key: Option<HmacKey>) -> Self {
        Self { macs: Macs { current: key.and_then(|key| key.mac()), previous: None }, text: String::new() }
    }

    /// The same with an optional key of `hmac_previous()`.
    #[must_use]
    pub fn with_previous(mut self, key: Option<HmacKey>) -> Self {
        self.macs.previous = key.and_then(|key| key.mac());
        self
    }
}

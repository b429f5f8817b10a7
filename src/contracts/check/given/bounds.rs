//! Bounds of numbers, lengths and counts. `maximum` and `exclusiveMaximum` can express the same bound.

use serde_json::{Map, Value};

/// A bound that was locked and no longer holds: its keyword and its value.
pub(super) fn loosened(was: &Map<String, Value>, now: &Map<String, Value>) -> Vec<(&'static str, f64)> {
    let number = |schema: &Map<String, Value>, keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let whole = now.get("type").and_then(Value::as_str) == Some("integer");
    let mut found = Vec::new();
    for (keyword, partner, sign) in VALUES {
        let Some(bound) = number(was, keyword) else { continue };
        let own = number(now, keyword).map(|value| Bound::of(keyword, value, sign, whole));
        let other = number(now, partner).map(|value| Bound::of(partner, value, sign, whole));
        let wanted = Bound::of(keyword, bound, sign, whole);
        if ![own, other].into_iter().flatten().any(|bound| bound.keeps(&wanted)) {
            found.push((keyword, bound));
        }
    }
    for (keyword, sign) in COUNTS {
        let Some(bound) = number(was, keyword) else { continue };
        if number(now, keyword).is_none_or(|now| now * sign < bound * sign) {
            found.push((keyword, bound));
        }
    }
    found
}

/// Bounds of values: the keyword, the keyword that can express the same bound, and 1 for lower bounds.
const VALUES: [(&str, &str, f64); 4] = [
    ("minimum", "exclusiveMinimum", 1.0),
    ("exclusiveMinimum", "minimum", 1.0),
    ("maximum", "exclusiveMaximum", -1.0),
    ("exclusiveMaximum", "maximum", -1.0),
];

/// Bounds of lengths and counts.
const COUNTS: [(&str, f64); 6] = [
    ("minLength", 1.0),
    ("minItems", 1.0),
    ("minProperties", 1.0),
    ("maxLength", -1.0),
    ("maxItems", -1.0),
    ("maxProperties", -1.0),
];

/// Whether a keyword is compared here.
pub(super) fn is_bound(keyword: &str) -> bool {
    VALUES.iter().any(|(known, ..)| *known == keyword) || COUNTS.iter().any(|(known, _)| *known == keyword)
}

/// A lower bound, or an upper bound with its sign changed.
struct Bound {
    value: f64,
    exclusive: bool,
}

impl Bound {
    /// `whole`: only integers are valid, so that an exclusive bound is the next inclusive one.
    fn of(keyword: &str, value: f64, sign: f64, whole: bool) -> Self {
        let (value, exclusive) = (value * sign, keyword.starts_with("exclusive"));
        match (whole, exclusive) {
            (true, true) => Self { value: value.floor() + 1.0, exclusive: false },
            (true, false) => Self { value: value.ceil(), exclusive: false },
            (false, exclusive) => Self { value, exclusive },
        }
    }

    /// Whether all values of this bound are within another one.
    fn keeps(&self, wanted: &Self) -> bool {
        self.value > wanted.value || (self.value >= wanted.value && (self.exclusive || !wanted.exclusive))
    }
}

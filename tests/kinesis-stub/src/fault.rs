//! What can be made to fail: a small vocabulary, each word aimed by a [`Rule`].

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The code of a refused entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// `ProvisionedThroughputExceededException`.
    #[default]
    Throttled,
    /// `InternalFailure`.
    InternalFailure,
}

/// One thing that can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing goes wrong: the filler of a script.
    Accept,
    /// Refuses the entries that the rule hits; the others are stored.
    Reject {
        /// With which code.
        #[serde(default)]
        code: Refusal,
    },
    /// Stores the entries where the pattern has `+`, refuses those where it has `-`; it repeats over the request's entries.
    AcceptSome {
        /// `+` and `-`, at least one.
        pattern: String,
        /// With which code the `-` are refused.
        #[serde(default)]
        code: Refusal,
    },
    /// Stores everything, then closes the connection without an answer.
    AcceptThenLoseAnswer,
    /// Closes the connection without an answer at once; stores everything after that many later put requests were stored.
    AcceptLate {
        /// How many newer requests overtake it; 0 counts as 1.
        after_requests: u32,
    },
    /// Keeps the request, not stored, until it is released.
    Hold,
    /// Stores, and keeps the answer until it is released.
    HoldAnswer,
    /// Stores at once and answers after this time.
    Slow {
        /// Milliseconds.
        millis: u64,
    },
    /// Stores the entries of the request in an order drawn from the seed; the answers stand in the request's order.
    Shuffle,
    /// Stores everything, and answers with sequence numbers that are lower than any before, and fall.
    FallingNumbers,
    /// Answers 500 `InternalFailure` and stores nothing.
    ServerErrorBefore,
    /// Stores everything and answers 500 `InternalFailure`.
    ServerErrorAfter,
    /// Resets the connection (RST) and stores nothing.
    Reset,
    /// Never answers and stores nothing.
    Hang,
    /// Refuses the whole request with `ProvisionedThroughputExceededException`.
    Throttle,
    /// Refuses the whole request with `ExpiredTokenException`. Hits every operation unless the rule names some.
    ExpiredCredentials,
    /// Refuses the whole request with any other error of the service.
    Error {
        /// HTTP status, 400 to 599.
        status: u16,
        /// As in `__type`, e.g. `AccessDeniedException`.
        code: String,
    },
}

impl Fault {
    /// Whether it acts on single entries.
    pub(crate) const fn is_per_entry(&self) -> bool {
        matches!(self, Self::Reject { .. } | Self::AcceptSome { .. })
    }

    fn default_operations(&self) -> &'static [&'static str] {
        if matches!(self, Self::ExpiredCredentials) { &["*"] } else { &["PutRecord", "PutRecords"] }
    }
}

const fn always() -> f64 {
    1.0
}

/// A fault and what it hits. Empty selections hit everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// Only these partition keys.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Only these shards, by id.
    #[serde(default)]
    pub shards: Vec<String>,
    /// Only these lanes (top byte of the key's MD5), first and last.
    #[serde(default)]
    pub lanes: Option<(u8, u8)>,
    /// Only these operations (`*`: all); when empty, `PutRecord` and `PutRecords`.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Only requests signed with this access key id.
    #[serde(default)]
    pub access_key: Option<String>,
    /// How often it strikes, 0.0 to 1.0, drawn from the stub's seed: per entry for [`Fault::Reject`] and
    /// [`Fault::AcceptSome`], else per request.
    #[serde(default = "always")]
    pub share: f64,
    /// Lets this many requests that it could hit pass first.
    #[serde(default)]
    pub skip: u64,
    /// Is used up after it has struck this many requests.
    #[serde(default)]
    pub times: Option<u64>,
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            keys: Vec::new(),
            shards: Vec::new(),
            lanes: None,
            operations: Vec::new(),
            access_key: None,
            share: always(),
            skip: 0,
            times: None,
        }
    }
}

impl Rule {
    /// The fault, always and everywhere.
    pub fn new(fault: Fault) -> Self {
        fault.into()
    }

    /// Only for these partition keys.
    #[must_use]
    pub fn keys<S: Into<String>>(mut self, keys: impl IntoIterator<Item = S>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Only for these shards.
    #[must_use]
    pub fn shards<S: Into<String>>(mut self, shards: impl IntoIterator<Item = S>) -> Self {
        self.shards = shards.into_iter().map(Into::into).collect();
        self
    }

    /// Only for these lanes.
    #[must_use]
    pub fn lanes(mut self, lanes: RangeInclusive<u8>) -> Self {
        self.lanes = Some((*lanes.start(), *lanes.end()));
        self
    }

    /// Only for these operations; `*` is all.
    #[must_use]
    pub fn operations<S: Into<String>>(mut self, operations: impl IntoIterator<Item = S>) -> Self {
        self.operations = operations.into_iter().map(Into::into).collect();
        self
    }

    /// Only for requests signed with this access key id.
    #[must_use]
    pub fn access_key(mut self, id: &str) -> Self {
        self.access_key = Some(id.to_owned());
        self
    }

    /// Strikes with this probability.
    #[must_use]
    pub const fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Lets that many requests pass first.
    #[must_use]
    pub const fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Strikes that many requests, then no more.
    #[must_use]
    pub const fn times(mut self, requests: u64) -> Self {
        self.times = Some(requests);
        self
    }

    /// Says what makes no sense in it.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err(format!("share must be 0.0 to 1.0, not {}", self.share));
        }
        match &self.fault {
            Fault::AcceptSome { pattern, .. }
                if pattern.is_empty() || !pattern.bytes().all(|b| b == b'+' || b == b'-') =>
            {
                Err(format!("a pattern is made of + and -, not '{pattern}'"))
            }
            Fault::Error { status, .. } if !(400..=599).contains(status) => {
                Err(format!("an error has a status of 400 to 599, not {status}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it has to do with this operation, asked for by this access key.
    pub(crate) fn hits_request(&self, operation: &str, caller: &str) -> bool {
        self.access_key.as_ref().is_none_or(|key| key == caller) && self.hits_operation(operation)
    }

    fn hits_operation(&self, operation: &str) -> bool {
        let named = |name: &str| name == "*" || name == operation;
        if self.operations.is_empty() {
            self.fault.default_operations().iter().any(|name| named(name))
        } else {
            self.operations.iter().any(|name| named(name))
        }
    }

    /// Whether it has to do with an entry of this key, on this shard.
    pub(crate) fn hits_entry(&self, key: &str, key_hash: u128, shard: &str) -> bool {
        let lane = key_hash.to_be_bytes()[0];
        (self.keys.is_empty() || self.keys.iter().any(|k| k == key))
            && (self.shards.is_empty() || self.shards.iter().any(|s| s == shard))
            && self.lanes.is_none_or(|(first, last)| (first..=last).contains(&lane))
    }
}

/// `SplitMix64`: small, fast, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The same seed throws the same.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Whether something of this probability happens now.
    pub(crate) fn hits(&mut self, share: f64) -> bool {
        let drawn = u32::try_from(self.next() >> 32).unwrap_or_default();
        f64::from(drawn) < share * 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_rule_is_json_and_misspelt_one_is_refused() {
        let rule: Rule = serde_json::from_str(
            r#"{"fault":{"accept_some":{"pattern":"+-"}},"lanes":[0,63],"share":0.5,"times":2}"#,
        )
        .unwrap();
        let expected = Rule::new(Fault::AcceptSome { pattern: "+-".into(), code: Refusal::Throttled });
        assert_eq!(rule, expected.lanes(0..=63).share(0.5).times(2));
        assert!(serde_json::from_str::<Rule>(r#"{"fault":"reset"}"#).is_ok());
        assert!(serde_json::from_str::<Rule>(r#"{"fault":"reset","shares":0.1}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"fault":{"slow":{"ms":1}}}"#).is_err());
    }

    #[test]
    fn invalid_rule_names_its_error() {
        for (rule, word) in [
            (Rule::new(Fault::Reset).share(1.5), "share"),
            (Rule::new(Fault::Reset).share(f64::NAN), "share"),
            (Rule::new(Fault::AcceptSome { pattern: "+x".into(), code: Refusal::Throttled }), "pattern"),
            (Rule::new(Fault::Error { status: 200, code: String::new() }), "status"),
        ] {
            assert!(rule.check().unwrap_err().contains(word), "{rule:?}");
        }
    }

    #[test]
    fn rule_targets_key_shard_lane_and_operation() {
        let hash = 0x0c_u128 << 120;
        let rule = Rule::new(Fault::Hold);
        for (rule, expected) in [
            (rule.clone(), true),
            (rule.clone().keys(["a"]), true),
            (rule.clone().keys(["b"]), false),
            (rule.clone().shards(["s"]), true),
            (rule.clone().shards(["t"]), false),
            (rule.clone().lanes(0x0c..=0x0c), true),
            (rule.clone().lanes(0x0d..=0xff), false),
            (rule.clone().keys(["a"]).lanes(0..=1), false),
        ] {
            assert_eq!(rule.hits_entry("a", hash, "s"), expected, "{rule:?}");
        }
        assert!(rule.hits_operation("PutRecord") && !rule.hits_operation("ListShards"));
        assert!(Rule::new(Fault::ExpiredCredentials).hits_operation("ListShards"));
        assert!(!rule.operations(["ListShards"]).hits_operation("PutRecord"));
    }

    #[test]
    fn fault_probability_is_kept_and_seeded() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| dice.hits(0.3)).collect::<Vec<_>>()
        };
        let hits = throws(1).iter().filter(|hit| **hit).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert_eq!(throws(1), throws(1));
        assert_ne!(throws(1), throws(2));
        assert!(!Dice::new(1).hits(0.0) && Dice::new(1).hits(1.0));
    }
}

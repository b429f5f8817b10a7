//! Explains the load of shards and keys in words.

use crate::pipeline::status::Traffic;

/// A key with at least this share of the events is hot.
const HOT: f64 = 0.2;
/// A shard with at least this multiple of its fair share is skewed.
const SKEWED: f64 = 1.8;
/// A shard with at least this multiple of the fair hash range is larger than others.
const LARGER: f64 = 1.3;
/// Fewer records than this are not significant.
const LEAST: u64 = 200;

/// One or two sentences.
#[expect(clippy::cast_precision_loss, reason = "shares for people")]
pub(super) fn advice(traffic: &Traffic, name: impl Fn(usize) -> String) -> String {
    let shards = &traffic.shards;
    let records: u64 = shards.iter().map(|shard| shard.records).sum();
    if records < LEAST {
        return "Too few records so far to judge shards and keys.".to_owned();
    }
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut advice = Vec::new();
    let hot = traffic.hot_keys.first().filter(|_| traffic.hot_total >= LEAST);
    let hot = hot.map(|key| key.events as f64 / traffic.hot_total as f64).filter(|share| *share >= HOT);
    if let Some(share) = hot {
        advice.push(format!(
            "Key {} has {} of the events of the last minutes. All events of a key go to one shard, so more shards do not help \
             it: choose a key that divides them, or accept that this key lags at its peaks.",
            name(0),
            percent(share)
        ));
    }
    let fair = 1.0 / shards.len().max(1) as f64;
    let fullest = shards.iter().max_by_key(|shard| shard.records);
    if let Some(shard) = fullest.filter(|_| shards.len() > 1) {
        let share = shard.records as f64 / records as f64;
        if share >= SKEWED * fair && hot.is_none() {
            let range = f64::from(shard.range) / 1_000.0;
            let why = if range >= LARGER * fair {
                format!("It serves {} of the hash range: split it (aws kinesis split-shard).", percent(range))
            } else {
                "Its range is not larger than others, so some of its keys have more events.".to_owned()
            };
            advice.push(format!(
                "Shard {} has {} of the records; {} would be even. {why}",
                shard.shard,
                percent(share),
                percent(fair)
            ));
        }
    }
    let limited = shards.iter().filter(|shard| shard.limited).count();
    if limited > 0 {
        advice.push(format!(
            "{limited} of {} shards throttle at the moment. A shard accepts 1,000 records and 1 MiB a second: add shards, \
             or set kinesis.pack = \"lines\".",
            shards.len()
        ));
    }
    if advice.is_empty() {
        let many = if shards.len() == 1 {
            "One shard takes".to_owned()
        } else {
            format!("{} shards share", shards.len())
        };
        return format!("{many} the records without skew; no key stands out.");
    }
    advice.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::KeyHash;
    use crate::sink::lanes::HotKey;
    use crate::sink::shards::ShardLoad;

    fn traffic(shards: &[(u64, u16, bool)], hot: u64, total: u64) -> Traffic {
        let shard = |(n, (records, range, limited)): (usize, &(u64, u16, bool))| ShardLoad {
            shard: format!("shardId-{n}"),
            range: *range,
            records: *records,
            bytes: 0,
            throttled: 0,
            limited: *limited,
            refusing: false,
        };
        Traffic {
            shards: shards.iter().enumerate().map(shard).collect(),
            hot_keys: vec![HotKey { hash: KeyHash(1), text: "k".to_owned(), events: hot }],
            hot_total: total,
            ..Traffic::default()
        }
    }

    #[test]
    fn advice_names_what_stands_out() {
        let even = [(100, 250, false), (110, 250, false), (95, 250, false), (105, 250, false)];
        for (shards, hot, total, expected) in [
            (&[(3, 1_000, false)][..], 1, 3, "Too few"),
            (&even, 10, 400, "without skew"),
            (&even, 200, 400, "Key k has 50 % of the events"),
            (&[(600, 500, false), (100, 250, false), (100, 250, false)], 10, 800, "split it"),
            (&[(600, 333, false), (100, 333, false), (100, 333, false)], 10, 800, "some of its keys"),
            (&[(600, 1_000, true)], 10, 600, "1 of 1 shards throttle"),
        ] {
            let found = advice(&traffic(shards, hot, total), |_| "k".to_owned());
            assert!(found.contains(expected), "{found} instead of {expected}");
        }
    }
}

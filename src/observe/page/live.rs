//! The live facts: the samples of the last hour once, then the state once a second, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value as Json, json};
use tokio::time::{Interval, MissedTickBehavior};

use super::advice::advice;
use crate::pipeline::status::{SAMPLED_EVERY, SAMPLES_MAX, Status};

/// Interval of the events.
const EVERY: Duration = Duration::from_secs(1);
/// Most event types that are shown: those with the most events.
const TYPES_MAX: usize = 40;
/// Most shards that are shown.
const SHARDS_MAX: usize = 64;
/// Most keys that are shown.
const KEYS_MAX: usize = 8;

/// The state.
fn facts(status: &Status) -> Json {
    let report = status.report();
    let traffic = status.traffic(|traffic| traffic.clone());
    let sample = status.samples(|samples| samples.latest().cloned());
    let mut types: Vec<(String, [u64; 4])> = status
        .event_counts()
        .into_iter()
        .map(|(name, counts)| {
            (name, [counts.received, counts.filtered, counts.published, counts.quarantined])
        })
        .collect();
    types.sort_by_key(|(_, counts)| std::cmp::Reverse(counts[0].max(counts[2])));
    let left_out = types.len().saturating_sub(TYPES_MAX);
    types.truncate(TYPES_MAX);
    types.sort();
    let of_type = |(name, [received, filtered, published, quarantined]): (String, [u64; 4])| {
        json!({
            "type": name, "received": received, "filtered": filtered, "published": published, "quarantined": quarantined,
        })
    };
    let shards = traffic.shards.iter().take(SHARDS_MAX).map(|shard| {
        json!({
            "shard": shard.shard, "records": shard.records, "bytes": shard.bytes, "throttled": shard.throttled,
            "limited": shard.limited, "refusing": shard.refusing,
        })
    });
    let key = |at: usize| {
        let hot = traffic.hot_keys.get(at);
        hot.map_or_else(String::new, |hot| {
            if status.shows_keys() { hot.text.clone() } else { format!("hash {:016x}", hot.hash.0) }
        })
    };
    let keys: Vec<Json> = traffic
        .hot_keys
        .iter()
        .enumerate()
        .take(KEYS_MAX)
        .map(|(at, hot)| json!({ "key": key(at), "hash": format!("{:016x}", hot.hash.0), "events": hot.events }))
        .collect();
    let rate = |of: fn(&crate::pipeline::status::Sample) -> f64| sample.as_ref().map_or(0.0, of);
    json!({
        "report": report,
        "received": rate(|sample| sample.received),
        "published": rate(|sample| sample.published),
        "types": types.into_iter().map(of_type).collect::<Vec<_>>(),
        "types_left_out": left_out,
        "shards": shards.collect::<Vec<_>>(),
        "keys": { "total": traffic.hot_total, "list": keys },
        "advice": advice(&traffic, key),
        "sample": sample,
    })
}

fn history(status: &Status) -> Json {
    status.samples(|samples| {
        json!({
            "every_seconds": SAMPLED_EVERY.as_secs(),
            "kept": SAMPLES_MAX,
            "samples": samples.all().collect::<Vec<_>>(),
        })
    })
}

/// The body for one client of `/live`. The client counts as connected as long as it exists.
#[derive(Debug)]
pub(in crate::observe) struct LiveBody {
    status: Status,
    tick: Interval,
    begun: bool,
    /// Cloned for each client, so that the server can count them.
    _counted: Rc<()>,
}

impl LiveBody {
    pub(in crate::observe) fn new(status: Status, counted: Rc<()>) -> Self {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { status, tick, begun: false, _counted: counted }
    }
}

impl Body for LiveBody {
    type Data = Bytes;
    type Error = Infallible;

    /// Called only while the client accepts data. A slow client misses states, and costs no memory.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.tick.poll_tick(context).is_pending() {
            return Poll::Pending;
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            text = format!("retry: 2000\nevent: history\ndata: {}\n\n", history(&self.status));
        }
        text.push_str("event: now\ndata: ");
        text.push_str(&facts(&self.status).to_string());
        text.push_str("\n\n");
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

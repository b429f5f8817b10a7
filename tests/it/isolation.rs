//! A stuck shard and a hot key delay only themselves.
//!
//! `ISOLATION_SECONDS=600` keeps one of four shards stuck for ten minutes under load; the line that begins with `{` is for
//! programs.

mod repeats;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile};
use forebay::buffer::disk::Directory;
use forebay::event::KeyHash;
use forebay::position::FrameNo;
use kinesis_stub::{Config, Fault, Latency, Refusal, Rule};

use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Plates of one load, each its own transaction.
const BATCH: u64 = 100;
/// The first shard of four.
const STUCK: std::ops::RangeInclusive<u8> = 0..=63;
/// Rows after the checkpoint that is waited for: what a kill may repeat.
const UNWRITTEN: u64 = 300;
/// As the other tests of memory; the goal is 64.
const RESIDENT_MAX: u64 = 96 << 20;

/// Plates of about 3 KiB, and how many of them belong to shards that take everything.
struct Load {
    plates: u64,
    healthy: u64,
}

impl Load {
    fn insert(&mut self, flow: &Flow, count: u64) {
        let (first, last) = (self.plates + 1, self.plates + count);
        flow.postgres.execute(&format!(
            "do $$ begin for n in {first}..{last} loop \
               insert into lab.plates (plate_id, barcode, notes) values (n, 'I' || n, repeat('x', 3000)); commit; \
               perform pg_sleep(0.001); end loop; end $$"
        ));
        let healthy = |plate: &u64| !STUCK.contains(&KeyHash::of(&plate.to_string()).lane());
        self.healthy += (first..=last).filter(healthy).count() as u64;
        self.plates = last;
    }

    /// Waits until the healthy shards have everything; `repeats` is what they have twice.
    #[track_caller]
    fn wait_until_the_healthy_have_all(&self, flow: &Flow) {
        let mut last = 0;
        let all = flow.stub.wait(DRAINED_WITHIN, |stats| {
            last = stats.records;
            last >= self.healthy
        });
        assert!(all, "{last} of {} came; log:\n{}", self.healthy, flow.daemon.log().join("\n"));
    }
}

/// Whether the checkpoint says that everything up to this frame is durable, and that the healthy lanes have reached it.
fn knows(flow: &Flow, frame: FrameNo) -> bool {
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::copy(flow.daemon.buffer_directory().join("checkpoint"), copy.path().join("checkpoint")).unwrap();
    // Copied while it is written, one slot of it may be torn.
    let Ok((_, Some(Checkpoint { durable, lanes, .. }))) =
        CheckpointFile::open(&Directory::open(copy.path()).unwrap())
    else {
        return false;
    };
    let healthy = |lane: &u8| !STUCK.contains(lane);
    durable.frame >= frame && lanes.iter().filter(|(lane, at)| healthy(lane) && *at >= frame).count() == 192
}

/// What the stub has measured since this was last asked.
fn measured(flow: &Flow) -> Option<Latency> {
    let latency = flow.stub.stats().latency;
    flow.stub.reset_latency();
    latency
}

/// Repairs the shard, and waits until everything is published and all lanes are together; how long the backlog took.
fn come_together(flow: &mut Flow, load: &mut Load) -> Duration {
    let let_go = Instant::now();
    flow.stub.heal();
    load.insert(flow, BATCH);
    flow.wait_until_published();
    let caught_up = let_go.elapsed();
    eventually("all lanes are together again", DRAINED_WITHIN, || {
        (flow.daemon.metric("forebay_lanes_detached") == Some(0.0)).then_some(())
    });
    caught_up
}

fn summary(what: &[(&str, u64)], latencies: &[(&str, Option<Latency>)]) -> String {
    let mut text = String::from("{");
    for (name, value) in what {
        write!(text, "\"{name}\":{value},").unwrap();
    }
    for (name, latency) in latencies {
        let Latency { p50_us, p99_us, max_us, .. } = latency.unwrap_or_default();
        write!(text, "\"{name}_p50_us\":{p50_us},\"{name}_p99_us\":{p99_us},\"{name}_max_us\":{max_us},")
            .unwrap();
    }
    text.trim_end_matches(',').to_owned() + "}"
}

#[test]
fn stuck_shard_delays_only_itself_even_across_kill() {
    let seconds = std::env::var("ISOLATION_SECONDS").map_or(15, |text| text.parse().expect("a number"));
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    let mut load = Load { plates: 0, healthy: 0 };
    load.insert(&flow, 5 * BATCH);
    flow.wait_until_published();
    measured(&flow);
    for _ in 0..20 {
        load.insert(&flow, BATCH);
    }
    flow.wait_until_published();
    let before = measured(&flow);
    load.healthy = load.plates;
    let refused = Fault::Reject { code: Refusal::Throttled };
    flow.stub.set(Rule::new(refused).lanes(STUCK)).unwrap();
    let (began, mut resident, mut lag, mut filling, mut apart) = (Instant::now(), 0, 0, None, None);
    while began.elapsed() < Duration::from_secs(seconds) || apart.is_none() {
        assert!(began.elapsed() < Duration::from_secs(seconds) + DRAINED_WITHIN, "no lane leaves the others");
        load.insert(&flow, BATCH);
        resident = resident.max(flow.daemon.highest_resident().unwrap_or_default());
        if apart.is_none() && flow.daemon.metric("forebay_lanes_detached").unwrap_or_default() >= 1.0 {
            (filling, apart) = (measured(&flow), Some(began.elapsed()));
        }
        // What is under way stays bounded, so that the load does not run away from a busy machine.
        let late = load.healthy.saturating_sub(20 * BATCH);
        assert!(flow.stub.wait(DRAINED_WITHIN, |stats| stats.records >= late), "the healthy shards stand");
        lag = lag.max(load.healthy.saturating_sub(flow.stub.stats().records));
    }
    flow.daemon.wait_for_event("lanes_detached");
    load.wait_until_the_healthy_have_all(&flow);
    let during = measured(&flow);
    let behind = flow.daemon.metric("forebay_lanes_behind_seconds").unwrap_or_default();
    assert!(behind >= 1.0 && behind <= began.elapsed().as_secs_f64() + 1.0, "the oldest is {behind} s old");
    eventually("the checkpoint knows it", SOON, || knows(&flow, FrameNo(load.plates)).then_some(()));
    load.insert(&flow, UNWRITTEN);
    load.wait_until_the_healthy_have_all(&flow);
    flow.daemon.kill9();
    flow.start();
    load.insert(&flow, 5 * BATCH);
    eventually("new plates of the healthy shards arrive", DRAINED_WITHIN, || {
        let published = flow.published();
        let new = (load.plates - 5 * BATCH + 1..=load.plates)
            .filter(|plate| !STUCK.contains(&KeyHash::of(&plate.to_string()).lane()));
        let keys: HashSet<&str> = published.iter().map(|change| change.key.as_str()).collect();
        new.into_iter().all(|plate| keys.contains(plate.to_string().as_str())).then_some(())
    });
    resident = resident.max(flow.daemon.highest_resident().unwrap_or_default());
    let repeats = flow.check().duplicates as u64;
    assert!(repeats <= UNWRITTEN, "{repeats} were sent again, {UNWRITTEN} were not in the checkpoint");
    let caught_up = come_together(&mut flow, &mut load);
    resident = resident.max(flow.daemon.highest_resident().unwrap_or_default());
    let report = flow.check();
    let numbers = [
        ("seed", seed),
        ("seconds", began.elapsed().as_secs()),
        ("events", load.plates),
        ("apart_after_ms", apart.unwrap_or_default().as_millis() as u64),
        ("most_under_way", lag),
        ("repeats", repeats),
        ("resident_bytes", resident),
        ("caught_up_ms", caught_up.as_millis() as u64),
    ];
    println!("{}", summary(&numbers, &[("before", before), ("filling", filling), ("during", during)]));
    report.assert_clean();
    assert!(resident <= RESIDENT_MAX, "{} MiB resident", resident >> 20);
    flow.daemon.assert_quiet(&["records_retried", "lanes_detached"]);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn shared_lane_of_stuck_shard_keeps_publishing() {
    share_a_lane_with_a_stuck_shard(&[]);
}

/// The right is optional: without it the boundaries are learned from responses.
#[test]
fn shared_lane_keeps_publishing_without_listing_shards() {
    let denied = Fault::Error { status: 400, code: "AccessDeniedException".to_owned() };
    share_a_lane_with_a_stuck_shard(&[Rule::new(denied).operations(["ListShards"])]);
}

/// Three equal shards: the boundary of the first is a third of the way through lane 85, which the second one shares.
fn share_a_lane_with_a_stuck_shard(rules: &[Rule]) {
    const BOUNDARY: u64 = u64::MAX / 3;
    const STUCK_SHARD: &str = "shardId-000000000000";
    let seed = seed();
    let config = Config { seed, measure: true, ..Config::default().stream("lab-events", 3) };
    let mut flow = Flow::between(Postgres::lab(Version::usual()), config, |_| {});
    for rule in rules {
        flow.stub.add(rule.clone()).unwrap();
    }
    flow.start();
    let mut load = Load { plates: 0, healthy: 0 };
    load.insert(&flow, 5 * BATCH);
    flow.wait_until_published();
    if !rules.is_empty() {
        let line = flow.daemon.wait_for_event("shards_not_listed");
        assert!(line.contains("INFO") && line.contains("kinesis:ListShards"), "{line}");
    }
    let refused = Fault::Reject { code: Refusal::Throttled };
    flow.stub.add(Rule::new(refused).shards([STUCK_SHARD])).unwrap();
    let shared = |plate: &u64| {
        let hash = KeyHash::of(&plate.to_string());
        hash.0 > BOUNDARY && hash.lane() == KeyHash(BOUNDARY).lane()
    };
    let arrive = |flow: &Flow, plates: std::ops::RangeInclusive<u64>| {
        let of_others = |plate: &u64| KeyHash::of(&plate.to_string()).0 > BOUNDARY;
        let expected: Vec<String> = plates.filter(of_others).map(|plate| plate.to_string()).collect();
        eventually("everything of the other shards arrives", DRAINED_WITHIN, || {
            let records = flow.stub.records();
            let keys: HashSet<&str> = records.iter().map(|record| record.key.as_str()).collect();
            expected.iter().all(|key| keys.contains(key.as_str())).then_some(())
        });
    };
    while flow.daemon.metric("forebay_lanes_detached").unwrap_or_default() < 1.0 {
        load.insert(&flow, 5 * BATCH);
    }
    // New keys, until some of them are in the shared lane: none of these was seen before.
    let first = load.plates + 1;
    while (first..=load.plates).filter(shared).count() < 5 {
        load.insert(&flow, BATCH);
    }
    arrive(&flow, 1..=load.plates);
    flow.daemon.kill9();
    flow.start();
    let first = load.plates + 1;
    while (first..=load.plates).filter(shared).count() < 5 {
        load.insert(&flow, BATCH);
    }
    arrive(&flow, first..=load.plates);
    come_together(&mut flow, &mut load);
    flow.check().assert_clean();
    flow.daemon.assert_quiet(&["records_retried", "lanes_detached"]);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn hot_key_delays_only_itself() {
    /// More than a window holds, of 20 KiB each, at 50 a second.
    const HOT: u64 = 1_000;
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'HOT')");
    flow.wait_until_published();
    flow.stub.set(Fault::Slow { millis: 20 }).unwrap();
    flow.postgres.execute(&format!(
        "do $$ begin for n in 1..{HOT} loop \
           update lab.plates set notes = repeat('x', 20000) || n where plate_id = 1; end loop; end $$"
    ));
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode) select n, 'O' || n from generate_series(2, 2001) n",
    );
    // A lane is what is isolated: a few plates share it with the hot key.
    let lane = |key: &str| KeyHash::of(key).lane();
    let expected = (2..=2_001).filter(|plate: &u64| lane(&plate.to_string()) != lane("1")).count();
    let mut hot = 0;
    eventually("the others arrive", DRAINED_WITHIN, || {
        let records = flow.stub.records();
        hot = records.iter().filter(|record| record.key == "1").count() as u64;
        let others = records.iter().filter(|record| lane(&record.key) != lane("1")).count();
        (others == expected).then_some(())
    });
    println!("when the others were there, the hot key had {hot} of {HOT}");
    assert!(hot < HOT / 2, "the others came only after the hot key");
    flow.daemon.wait_for_event("lanes_detached");
    flow.wait_until_published();
    flow.daemon.wait_for_event("lanes_reattached");
    flow.check().assert_clean();
    flow.daemon.assert_quiet(&["lanes_detached"]);
}

#[test]
fn many_key_backlog_detaches_no_lane() {
    /// About 18 MiB of log more than a window holds.
    const KEYS: u64 = 2_000;
    const ROUNDS: u64 = 20;
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode) select n, 'B' || n from generate_series(1, {KEYS}) n"
    ));
    flow.wait_until_published();
    flow.stub.stop();
    for round in 1..=ROUNDS {
        flow.postgres.execute(&format!("update lab.plates set notes = repeat('x', 800) || {round}"));
    }
    flow.stub.limit(true);
    flow.stub.set(Fault::Slow { millis: 20 }).unwrap();
    flow.stub.restart().unwrap();
    flow.wait_until_published();
    flow.check().assert_clean();
    flow.daemon.assert_quiet(&[
        "records_retried",
        "stream_unavailable",
        "stream_not_described",
        "stream_unverified",
    ]);
}

/// One record resets every connection that it is sent over. It is retried alone, and neither the gauge nor the log takes that for
/// trouble of the stream.
#[test]
fn lone_failures_leave_stream_available() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.stub.set(Rule::new(Fault::Reset).keys(["7"])).unwrap();
    let insert = |plate: u64| {
        let sql = format!("insert into lab.plates (plate_id, barcode) values ({plate}, 'L{plate}')");
        flow.postgres.execute(&sql);
    };
    insert(7);
    let mut plates = 7;
    // A plate each round, so that others are accepted meanwhile.
    let mut pass = |until: &str, failed: u64| {
        eventually(until, SOON, || {
            plates += 1;
            insert(plates);
            (flow.stub.requests().faults >= failed).then_some(())
        });
    };
    pass("the record has failed alone more than once", 3);
    let (mark, failed) = (flow.daemon.mark(), flow.stub.requests().faults);
    flow.daemon.wait_for_event("record_blocked");
    while flow.stub.requests().faults < failed + 5 {
        pass("it fails again", flow.stub.requests().faults);
        assert_eq!(flow.daemon.metric("forebay_kinesis_available"), Some(1.0), "{:?}", flow.daemon.ready());
    }
    let said = flow.daemon.log().split_off(mark);
    let wrong = |line: &&String| line.contains("sent again") || line.contains("everything again");
    assert_eq!(said.iter().filter(wrong).count(), 0, "{}", said.join("\n"));
    flow.stub.heal();
    flow.wait_until_published();
    flow.check().assert_clean();
    flow.daemon.assert_quiet(&["record_blocked", "records_retried"]);
}

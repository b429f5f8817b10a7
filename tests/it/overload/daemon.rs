//! The built daemon before the stub that enforces the limits of shards. A backlog overloads: what waits is more than the
//! shards take, however busy the machine is.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use kinesis_stub::{Config, Fault, Record, Requests, Rule};

use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::workload::Running;
use crate::support::{SOON, eventually};

/// What a provisioned shard takes.
const RECORDS_A_SECOND: f64 = 1_000.0;
/// Long enough for several turns of growth and cut.
const WINDOW: Duration = Duration::from_secs(6);

/// Before a stream of so many shards with limits; each answer takes 10 ms.
fn limited(seed: u64, shards: u32) -> Flow {
    let postgres = Postgres::lab(Version::usual());
    let stub = Config { seed, limits: true, latency: Duration::from_millis(10), ..Config::default() };
    let mut flow = Flow::between(postgres, stub.stream("lab-events", shards), |_| {});
    flow.start();
    flow
}

fn seconds() -> u64 {
    std::env::var("OVERLOAD_SECONDS").map_or(20, |text| text.parse().expect("a number"))
}

/// Commits so many plates, in one transaction, whose keys have their lanes in this range.
fn plates(flow: &Flow, count: u64, lanes: Range<u32>) {
    let (first, end) = (lanes.start, lanes.end);
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode) select n, 'O' || n from \
           (select nextval('public.marks') n from generate_series(1, {count} * 256 / ({end} - {first}) + 2000)) as all_of_them \
         where get_byte(decode(md5(n::text), 'hex'), 0) >= {first} and get_byte(decode(md5(n::text), 'hex'), 0) < {end} \
         limit {count}"
    ));
}

/// Most records a second that these shards together have taken over [`WINDOW`], among what arrived since `from`.
fn best_rate(records: &[Record], from: usize, shards: &[String]) -> f64 {
    let arrivals = records[from..].iter().filter(|record| shards.iter().any(|id| **id == *record.shard));
    let arrivals: Vec<Instant> = arrivals.map(|record| record.arrival).collect();
    let mut best = 0;
    let mut first = 0;
    for (place, arrival) in arrivals.iter().enumerate() {
        while *arrival - arrivals[first] > WINDOW {
            first += 1;
        }
        best = best.max(place - first);
    }
    best as f64 / WINDOW.as_secs_f64()
}

/// The shards that have taken something since.
fn shards(records: &[Record], from: usize) -> Vec<String> {
    let all: BTreeSet<_> = records[from..].iter().map(|record| record.shard.to_string()).collect();
    all.into_iter().collect()
}

fn refused_share(before: &Requests, after: &Requests) -> f64 {
    (after.throttled - before.throttled) as f64 / (after.entries - before.entries) as f64
}

#[track_caller]
fn wait_for(flow: &Flow, records: u64) -> Requests {
    let came = flow.stub.wait(DRAINED_WITHIN, |stats| stats.records >= records);
    assert!(came, "{records} records have not come: {:?}", flow.stub.stats());
    flow.stub.requests()
}

fn end(mut flow: Flow) {
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    // A key with more than its share may be detached while its shard is at its limit.
    flow.daemon.assert_quiet(&["records_retried", "lanes_detached"]);
    assert!(flow.daemon.terminate().success());
}

/// One try of overload: whether every shard settled. A busy machine may starve the daemon; then another try decides.
fn settles(flow: &Flow) -> bool {
    let (total, from) = (4_000 * seconds(), flow.stub.stats().records);
    plates(flow, total, 0..256);
    let settled = from + total / 3;
    let before = wait_for(flow, settled);
    // The end is no overload any more: the shards are not done at once.
    let after = wait_for(flow, from + total - total / 6);
    wait_for(flow, from + total);
    let records = flow.stub.records();
    let from = usize::try_from(settled).unwrap();
    let ids = shards(&records, from);
    assert_eq!(ids.len(), 4);
    let rates: Vec<f64> = ids.iter().map(|id| best_rate(&records, from, std::slice::from_ref(id))).collect();
    let share = refused_share(&before, &after);
    println!("{rates:.0?} records a second, {:.2} % refused", share * 100.0);
    rates.iter().all(|rate| *rate >= 0.9 * RECORDS_A_SECOND) && share < 0.05
}

#[test]
fn overloaded_shards_reach_90_percent_with_few_refusals() {
    let flow = limited(seed(), 4);
    assert!((0..4).any(|_| settles(&flow)), "not in four goes");
    eventually("the metrics show it", SOON, || {
        let limited = flow.daemon.metric("forebay_shards_limited")?;
        let lowest = flow.daemon.metric("forebay_shard_rate_lowest_records")?;
        (limited > 3.5 && (100.0..3_000.0).contains(&lowest)).then_some(())
    });
    end(flow);
}

#[test]
fn overloaded_shard_does_not_delay_others() {
    const HOT: u64 = 15_000;
    let mut flow = limited(seed(), 4);
    // The second of four shards, with some seconds of work.
    plates(&flow, HOT, 64..128);
    wait_for(&flow, 3_000);
    let mut left = Vec::new();
    for _ in 0..3 {
        plates(&flow, 100, 0..64);
        plates(&flow, 100, 128..256);
        let marker = flow.postgres.value("select max(plate_id) from lab.plates");
        eventually("the plates of the other keys are published", DRAINED_WITHIN, || {
            flow.published().iter().any(|change| change.key == marker).then_some(())
        });
        let of_the_hot =
            flow.stub.records().iter().filter(|one| &*one.shard == "shardId-000000000001").count();
        left.push(HOT - of_the_hot as u64);
    }
    println!("when the others were done, the overloaded shard had so much left: {left:?}");
    assert!(left[0] > 0, "they waited for the overloaded one");
    end(flow);
}

#[test]
fn reshard_under_overload_uses_new_capacity_in_order() {
    let seed = seed();
    let flow = limited(seed, 2);
    let load = Running::start(&flow.postgres, 2, 20, seed);
    plates(&flow, 14_000, 0..256);
    wait_for(&flow, 6_000);
    // Merged into one, split into three, into four, over boundaries that no lane has.
    flow.stub.reshard("lab-events", 1).unwrap();
    wait_for(&flow, 8_000);
    flow.stub.reshard("lab-events", 3).unwrap();
    wait_for(&flow, 14_000);
    load.stop();
    flow.stub.reshard("lab-events", 4).unwrap();
    // A busy machine may starve the daemon; then another try decides.
    let uses_all = || {
        let from = flow.stub.records().len();
        plates(&flow, 4_000 * seconds(), 0..256);
        wait_for(&flow, from as u64 + 4_000 * seconds() - 8_000);
        let records = flow.stub.records();
        let ids = shards(&records, from + 2_000);
        let rate = best_rate(&records, from, &ids);
        println!("{ids:?}: {rate:.0} records a second");
        ids.len() >= 4 && rate >= 0.9 * 4.0 * RECORDS_A_SECOND
    };
    assert!((0..4).any(|_| uses_all()), "not in four goes");
    end(flow);
}

/// How many probes may have left within `time`: the pauses are 0.1 s doubled up to 30 s, and each is at least half of that.
fn probes_within(time: Duration) -> u64 {
    let mut pauses = (0..).map(|step| Duration::from_millis(100).saturating_mul(1 << step.min(20)));
    let mut left = time;
    let mut probes = 1;
    while let Some(rest) = left.checked_sub(pauses.next().unwrap().min(Duration::from_secs(30)) / 2) {
        left = rest;
        probes += 1;
    }
    probes
}

/// Requests in flight when the service goes.
const IN_FLIGHT: u64 = 16;

/// While every put fails this way, single records try, ever more rarely.
fn one_probe_at_a_time(fault: Fault) {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    let load = Running::start(&flow.postgres, 2, 20, seed);
    flow.wait_until_it_moves("before");
    let (before, began) = (flow.stub.requests(), Instant::now());
    flow.stub.set(Rule::new(fault)).unwrap();
    let unavailable = || (flow.daemon.metric("forebay_kinesis_available")? == 0.0).then_some(());
    eventually("the daemon knows", SOON, unavailable);
    for _ in 0..6 {
        let last = flow.stub.requests();
        let asked = flow.stub.wait(SOON, |stats| stats.requests.puts > last.puts);
        assert!(asked, "nobody asks any more");
    }
    let after = flow.stub.requests();
    let (puts, time) = (after.puts - before.puts, began.elapsed());
    println!("{puts} requests of {} records within {time:?}", after.entries - before.entries);
    let most = IN_FLIGHT + probes_within(time);
    assert!(puts <= most, "{puts} requests within {time:?}, where {most} are possible");
    // By now nothing of the time before is under way.
    assert!(flow.stub.wait(SOON, |stats| stats.requests.puts > after.puts), "nobody asks any more");
    let one = flow.stub.requests();
    assert_eq!(one.entries - after.entries, one.puts - after.puts, "a probe is a single record");
    flow.stub.heal();
    flow.wait_until_it_moves("after");
    load.stop();
    end(flow);
}

#[test]
fn failing_service_is_probed_by_one_record() {
    one_probe_at_a_time(Fault::ServerErrorBefore);
}

#[test]
fn request_throttling_stream_is_probed_by_one_record() {
    one_probe_at_a_time(Fault::Throttle);
}

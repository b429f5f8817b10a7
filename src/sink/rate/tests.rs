//! The rate of one shard, response by response.

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

struct RateFixture {
    rate: Rate,
    now: Instant,
    jitter: Jitter,
}

impl RateFixture {
    /// A shard that accepts `accepted` records of 1,000 bytes every 100 ms for a second, and then rejects
    /// one.
    fn refused_at(accepted: f64) -> Self {
        let mut fixture = Self { rate: Rate::default(), now: Instant::now(), jitter: Jitter::new(3) };
        for _ in 0..10 {
            fixture.note_results(accepted, 0);
        }
        assert!(
            !fixture.rate.is_limited() && fixture.rate.take(1e9, fixture.now),
            "unlimited before any refusal"
        );
        fixture.note_results(0.0, 1);
        fixture
    }

    /// The response to a request that was sent just now.
    fn note_results(&mut self, accepted: f64, refused: u32) -> Option<Amount> {
        self.now += ms(100);
        let results =
            ShardResults { accepted: [accepted, accepted * 1000.0], refused, repeatedly_refused: 0 };
        self.rate.note_results(results, self.now, self.now, &mut self.jitter)
    }

    fn records(&self) -> f64 {
        self.rate.per_second().map_or(f64::INFINITY, |[records, _]| records)
    }

    /// Lets time pass while the shard accepts everything, and the rate delays more.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += ms(20);
            self.rate.advance(self.now);
            while self.rate.is_limited()
                && self.rate.may_start([1e6, 1e8], self.now)
                && self.rate.take(100.0, self.now)
            {}
        }
    }
}

#[test]
fn first_rate_is_recently_accepted_throughput() {
    for (each, least, most) in [(100.0, 800.0, 1000.0), (20.0, 160.0, 200.0), (1.0, 100.0, 100.0)] {
        let records = RateFixture::refused_at(each).records();
        assert!((least..=most).contains(&records), "{each}: {records}");
    }
}

#[test]
fn rate_is_reduced_at_most_once_a_second() {
    let mut fixture = RateFixture::refused_at(100.0);
    let first = fixture.records();
    for _ in 0..5 {
        fixture.note_results(90.0, 5);
    }
    assert!(fixture.records() >= first, "{first} then {}", fixture.records());
    for _ in 0..5 {
        fixture.note_results(90.0, 0);
    }
    let before = fixture.records();
    let results = ShardResults { accepted: [1.0, 1000.0], refused: 9, repeatedly_refused: 0 };
    let long_ago = fixture.now - Duration::from_secs(2);
    assert_eq!(
        fixture.rate.note_results(results, long_ago, fixture.now, &mut fixture.jitter),
        None,
        "sent long ago"
    );
    let after = fixture.note_results(90.0, 5).map_or(0.0, |[records, _]| records);
    assert!(after >= before * CUT_MOST && after <= before * CUT_LEAST, "{before} then {after}");
}

#[test]
fn rate_growth_accelerates_and_limit_expires() {
    let mut fixture = RateFixture::refused_at(100.0);
    let first = fixture.records();
    fixture.pass(Duration::from_secs(4));
    let four = fixture.records() / first;
    assert!((1.1..1.2).contains(&four), "{four} after 4 s");
    fixture.pass(Duration::from_secs(10));
    let fourteen = fixture.records() / first;
    assert!((1.8..2.8).contains(&fourteen), "{fourteen} after 14 s");
    fixture.pass(Duration::from_secs(15));
    assert!(fixture.rate.is_limited());
    fixture.pass(Duration::from_secs(2));
    assert!(!fixture.rate.is_limited());
}

#[test]
fn unused_rate_does_not_grow() {
    let mut fixture = RateFixture::refused_at(100.0);
    let first = fixture.records();
    for _ in 0..200 {
        fixture.now += ms(100);
        fixture.rate.advance(fixture.now);
        assert!(fixture.rate.may_start([1.0, 100.0], fixture.now) && fixture.rate.take(100.0, fixture.now));
    }
    assert!((fixture.records() - first).abs() < 1e-9, "{first} then {}", fixture.records());
}

#[test]
fn unused_dimension_is_not_reduced() {
    let mut fixture = RateFixture::refused_at(100.0);
    fixture.pass(Duration::from_secs(2));
    let before = fixture.rate.per_second().unwrap();
    // Few large records: bytes are at their limit, records far below.
    let results =
        |refused| ShardResults { accepted: [2.0, before[1] / 10.0], refused, repeatedly_refused: 0 };
    for step in 0..20 {
        fixture.now += ms(100);
        fixture.rate.note_results(
            results(u32::from(step % 5 == 0)),
            fixture.now,
            fixture.now,
            &mut fixture.jitter,
        );
    }
    // The first cut still includes the previous second.
    let after = fixture.rate.per_second().unwrap();
    assert!(after[1] < before[1] && after[0] >= before[0] * CUT_LEAST, "{before:?} then {after:?}");
}

#[test]
fn refusing_shard_is_probed_by_one_record_with_backoff() {
    let mut fixture = RateFixture::refused_at(100.0);
    let rate = fixture.records();
    let mut holds = Vec::new();
    for _ in 0..10 {
        let next = fixture.rate.next_start([100.0, 1e4], fixture.now);
        holds.push(next - fixture.now);
        fixture.now = next.max(fixture.now);
        fixture.rate.advance(fixture.now);
        if holds.len() > 2 {
            assert!(fixture.rate.is_stuck() && fixture.rate.may_start([100.0, 1e4], fixture.now));
            assert!(
                fixture.rate.take(100.0, fixture.now) && !fixture.rate.take(100.0, fixture.now),
                "one at a time"
            );
            fixture.now += ms(10);
        }
        fixture.note_results(0.0, 1);
    }
    assert!(holds.iter().all(|hold| *hold <= HOLD_CAP), "{holds:?}");
    assert!(holds[9] >= ms(2_400) && holds[9] > holds[1], "{holds:?}");
    assert!(fixture.records() > rate / 2.0, "that is no overload: {}", fixture.records());
    fixture.note_results(1.0, 0);
    assert!(!fixture.rate.is_limited(), "what it takes now must be found anew");
}

#[test]
fn repeated_lane_refusal_counts_only_for_refusing_shard() {
    let mut fixture = RateFixture::refused_at(100.0);
    let repeatedly_refused = ShardResults { repeatedly_refused: 1, ..ShardResults::default() };
    fixture.now += Duration::from_secs(2);
    let before = fixture.rate.next_start([1.0, 100.0], fixture.now);
    assert_eq!(
        fixture.rate.note_results(repeatedly_refused, fixture.now, fixture.now, &mut fixture.jitter),
        None
    );
    assert_eq!(fixture.rate.next_start([1.0, 100.0], fixture.now), before);
    fixture.note_results(0.0, 1);
    fixture.note_results(0.0, 1);
    assert!(fixture.rate.is_stuck());
    let before = fixture.rate.next_start([1.0, 100.0], fixture.now);
    fixture.now = before + ms(1);
    fixture.rate.note_results(repeatedly_refused, fixture.now, fixture.now, &mut fixture.jitter);
    assert!(fixture.rate.next_start([1.0, 100.0], fixture.now) > fixture.now + ms(100));
}

#[test]
fn record_larger_than_tokens_leaves_debt() {
    let mut fixture = RateFixture::refused_at(100.0);
    fixture.pass(Duration::from_secs(1));
    let wait = fixture.rate.next_start([1.0, 1e6], fixture.now) - fixture.now;
    assert!(wait < ms(100), "{wait:?}");
    fixture.now += wait;
    fixture.rate.advance(fixture.now);
    assert!(fixture.rate.may_start([1.0, 1e6], fixture.now) && fixture.rate.take(1e6, fixture.now));
    let [_, bytes] = fixture.rate.per_second().unwrap();
    let wait = (fixture.rate.next_start([1.0, 100.0], fixture.now) - fixture.now).as_secs_f64();
    assert!((wait + DEPTH - 1e6 / bytes).abs() < 0.2, "{wait} s at {bytes} bytes a second");
}

/// Other producers leave 60, 20 or 5 records a second. The share of rejections falls below 5 % in these cases
/// too.
#[test]
fn floor_follows_what_other_writers_leave() {
    for left in [60_u32, 20, 5] {
        let (mut rate, mut jitter) = (Rate::default(), Jitter::new(3));
        let began = Instant::now();
        let (mut now, mut second, mut room) = (began, 0, left);
        let (mut accepted_late, mut refused_late) = (0_u32, 0_u32);
        while now < began + Duration::from_mins(5) {
            now += ms(20);
            if (now - began).as_secs() > second {
                (second, room) = ((now - began).as_secs(), left);
            }
            rate.advance(now);
            let (mut accepted, mut refused) = (0, 0);
            let mut offered = 0;
            while offered < 20 && rate.may_start([500.0, 50_000.0], now) && rate.take(100.0, now) {
                offered += 1;
                if room > 0 {
                    room -= 1;
                    accepted += 1;
                } else {
                    refused += 1;
                }
            }
            if offered > 0 {
                let amount = [f64::from(accepted), f64::from(accepted) * 100.0];
                rate.note_results(
                    ShardResults { accepted: amount, refused, repeatedly_refused: 0 },
                    now,
                    now,
                    &mut jitter,
                );
            }
            if second >= 60 {
                (accepted_late, refused_late) = (accepted_late + accepted, refused_late + refused);
            }
        }
        let share = f64::from(refused_late) / f64::from(accepted_late + refused_late);
        let used = f64::from(accepted_late) / f64::from(left * 240);
        println!("{left} left: {:.1} % refused, {:.0} % used", share * 100.0, used * 100.0);
        assert!(share < 0.05, "{left}: {share}");
        assert!(used > 0.6, "{left}: {used}");
    }
}

//! The findings of each state over time.

use super::super::heartbeat::PendingHeartbeat;
use super::*;
use crate::position::CommitSeq;

/// A healthy process, 1,000 s after its start.
fn facts(start: Instant) -> Facts<'static> {
    let moment = |seconds| Moment { at: start + Duration::from_secs(seconds), micros: 0 };
    Facts {
        name: "lab",
        started: moment(0),
        ingest: IngestStatus {
            connected: Some(moment(1)),
            last_received: Some(start + Duration::from_secs(995)),
            confirmed: Some((CommitSeq::new(1), moment(999))),
            ..IngestStatus::default()
        },
        publish: PublishStatus { begun: true, described: true, ..PublishStatus::default() },
        source: SourceStatus::default(),
        lag: LagStatus::default(),
        heartbeat: HeartbeatStatus::default(),
        fill: FillStatus::default(),
        buffer: None,
    }
}

type Case = (&'static str, fn(&mut Facts<'_>, Instant), Option<&'static str>);

fn at(start: Instant, seconds: u64) -> Moment {
    Moment { at: start + Duration::from_secs(seconds), micros: 0 }
}

/// Changes the facts of each case, and expects one blocker with this text, or none.
fn expect(cases: &[Case]) {
    let start = Instant::now();
    for (name, change, expected) in cases {
        let mut facts = facts(start);
        change(&mut facts, start);
        let report = facts.report(start + Duration::from_secs(1_000));
        let blockers: Vec<_> =
            report.findings.iter().filter(|one| one.severity == Severity::Blocker).collect();
        assert_eq!(report.ready, expected.is_none(), "{name}: {blockers:?}");
        assert_eq!(blockers.len(), usize::from(expected.is_some()), "{name}: {blockers:?}");
        if let (Some(expected), Some(found)) = (expected, blockers.first()) {
            assert!(found.fact.contains(expected), "{name}: {found:?}");
        }
    }
}

#[test]
fn silent_source_is_a_blocker() {
    expect(&[
        ("well", |_, _| {}, None),
        ("not connected", |facts, _| facts.ingest.connected = None, Some("is not open")),
        (
            "silent",
            |facts, start| facts.ingest.last_received = Some(at(start, 980).at),
            Some("database for 20 s"),
        ),
        (
            "silent because paused",
            |facts, start| {
                facts.ingest.last_received = Some(at(start, 900).at);
                facts.ingest.paused = Some(at(start, 995));
            },
            None,
        ),
    ]);
}

#[test]
fn stream_without_progress_is_a_blocker() {
    expect(&[
        ("never described", |facts, _| facts.publish.begun = false, Some("not been described")),
        (
            "unavailable",
            |facts, _| facts.publish.unavailable = Some("no".to_owned()),
            Some("unavailable: no"),
        ),
        ("busy", |facts, start| facts.publish.waiting = Some(at(start, 990).at), None),
        (
            "refused",
            |facts, start| {
                facts.publish.waiting = Some(at(start, 985).at);
                facts.publish.refused = Some("throttled".to_owned());
            },
            Some("acknowledged nothing for 15 s: throttled"),
        ),
        (
            "some keys refused",
            |facts, _| (facts.publish.rejected_keys, facts.publish.oldest) = (1, Some(0)),
            None,
        ),
        ("halted", |facts, _| facts.publish.halted = true, Some("halted")),
        (
            "halted for long",
            |facts, start| {
                facts.publish.halted = true;
                facts.publish.waiting = Some(at(start, 0).at);
            },
            Some("halted"),
        ),
    ]);
}

#[test]
fn full_log_is_a_blocker_unless_it_drains() {
    expect(&[
        ("draining", |facts, start| facts.ingest.paused = Some(at(start, 10)), None),
        (
            "for a moment",
            |facts, start| {
                facts.ingest.paused = Some(at(start, 995));
                facts.ingest.confirmed = Some((CommitSeq::new(1), at(start, 10)));
            },
            None,
        ),
        (
            "stuck",
            |facts, start| {
                facts.ingest.paused = Some(at(start, 100));
                facts.ingest.confirmed = Some((CommitSeq::new(1), at(start, 10)));
            },
            Some("does not drain"),
        ),
        (
            "never confirmed",
            |facts, start| {
                facts.ingest.paused = Some(at(start, 100));
                facts.ingest.confirmed = None;
            },
            Some("does not drain"),
        ),
    ]);
}

#[test]
fn growth_to_the_loss_of_the_slot_is_a_warning() {
    let start = Instant::now();
    let now = start + Duration::from_secs(1_000);
    let found = |growth, retained, left: Option<u64>| {
        let mut facts = facts(start);
        facts.source.retained_bytes = Some((retained, 0));
        facts.source.growth = growth;
        facts.source.lost_at = left.map(|left| now + Duration::from_secs(left));
        let report = facts.report(now);
        assert!(report.ready);
        report.findings.first().map(|finding| (finding.severity, finding.fact.clone()))
    };
    assert_eq!(found(None, 5 << 30, None), None);
    assert_eq!(found(Some(1_024.0), 5 << 20, None), None, "little, and no limit");
    assert_eq!(found(Some(1_024.0), 5 << 30, Some(100_000)), None, "a day off");
    let (severity, fact) = found(Some(2_048.0), 5 << 30, Some(7_200)).unwrap();
    assert_eq!(severity, Severity::Warning);
    assert!(fact.contains("2.0 KiB a second") && fact.contains("lost in 120 min"), "{fact}");
    assert!(found(Some(2_048.0), 5 << 30, None).unwrap().1.contains("nothing limits it"));
}

fn pending(written: Instant) -> PendingHeartbeat {
    PendingHeartbeat { number: 3, written, since: written }
}

/// Growth and lag are warnings and never make the process unready.
#[test]
fn growth_and_lag_are_warnings() {
    type Change = fn(&mut Facts<'_>, Instant);
    let cases: [(Change, &str, Option<&str>); 7] = [
        (
            |facts, start| {
                facts.fill.log_growth = Some(2_048.0);
                facts.fill.log_full_at = Some(start + Duration::from_secs(1_000 + 7_260));
            },
            "buffer",
            Some("the log grows by 2.0 KiB a second; at this rate it is full in 121 min (buffer.max_size)"),
        ),
        (
            |facts, start| {
                facts.fill.log_growth = Some(2.0);
                facts.fill.log_full_at = Some(start + Duration::from_hours(30));
            },
            "buffer",
            None,
        ),
        (
            |facts, start| {
                facts.fill.disk_free = Some(1 << 20);
                facts.fill.disk_full_at = Some(start + Duration::from_secs(1_000 + 60));
            },
            "disk",
            Some("the disk of buffer.dir has 1.0 MiB left; at the present rate it is full in 1 min"),
        ),
        (
            |facts, _| {
                let lag = Duration::from_secs(400);
                facts.lag = LagStatus { max: Some(Duration::from_mins(5)), lag, exceeded_at: Some(0) };
            },
            "lag",
            Some(
                "catching up: events have been late by more than 5min since 1970-01-01T00:00:00.000000Z; now by 400 s",
            ),
        ),
        (|facts, _| facts.lag.max = Some(Duration::from_mins(5)), "lag", None),
        (
            |facts, start| {
                facts.heartbeat.every = Some(Duration::from_secs(10));
                facts.heartbeat.under_way = Some(pending(start + Duration::from_mins(16)));
            },
            "heartbeat",
            Some("the heartbeat written 40 s ago has not been published"),
        ),
        (
            |facts, start| {
                facts.heartbeat.every = Some(Duration::from_secs(10));
                facts.heartbeat.under_way = Some(pending(start + Duration::from_secs(990)));
            },
            "heartbeat",
            None,
        ),
    ];
    let start = Instant::now();
    for (nth, (change, subject, expected)) in cases.into_iter().enumerate() {
        let mut facts = facts(start);
        change(&mut facts, start);
        let report = facts.report(start + Duration::from_secs(1_000));
        let found = report.findings.iter().find(|finding| finding.subject == subject);
        assert_eq!(found.map(|finding| finding.fact.as_str()), expected, "{nth}");
        assert!(report.ready, "{nth}");
    }
}

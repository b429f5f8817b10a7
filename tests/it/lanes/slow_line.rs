//! A backlog over a line of so many bytes a second, in a time of its own: most of what the line carries must be of use.

#![expect(clippy::cast_precision_loss, reason = "counts and bytes of a test are far below 2^52")]

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use forebay::sink::PutError;
use forebay::sink::lanes::{Frame, Lanes, Request, Start};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::{accepted, event, frame};

const STEP: Duration = Duration::from_millis(10);

/// A request on the line: what is left of it, and when it is given up.
struct Out {
    request: Request,
    left: f64,
    until: Instant,
}

struct Trial {
    lanes: Lanes,
    line: f64,
    out: VecDeque<Out>,
    now: Instant,
    carried: f64,
    useful: f64,
    came: HashSet<Vec<u8>>,
    sent: usize,
    timed_out: usize,
}

/// Bytes of a request as it is sent.
fn encoded(request: &Request) -> f64 {
    request
        .records
        .iter()
        .map(|record| (record.data.len() * 4 / 3 + record.key.len() + 40) as f64)
        .sum::<f64>()
        + 600.0
}

impl Trial {
    fn new(line: f64, rows: usize, size: usize) -> Self {
        let mut lanes = Lanes::new(&Start::default(), Limits::default(), 1);
        for number in 1..=rows as u64 {
            let line = format!("{number} {}\n", "x".repeat(size));
            lanes.admit(&Frame { bytes: size, ..frame(number) }, [event(&format!("k{number}"), &line)]);
        }
        let now = Instant::now();
        let (out, came) = (VecDeque::new(), HashSet::new());
        Self { lanes, line, out, now, carried: 0.0, useful: 0.0, came, sent: 0, timed_out: 0 }
    }

    /// Connections share the line evenly; one that is given up stops at once.
    fn step(&mut self) {
        self.now += STEP;
        let share = self.line * STEP.as_secs_f64() / self.out.len().max(1) as f64;
        for mut out in std::mem::take(&mut self.out) {
            let bytes = share.min(out.left);
            out.left -= bytes;
            self.carried += bytes;
            if out.left <= 0.0 {
                let size = encoded(&out.request);
                let count = out.request.records.len();
                let new =
                    out.request.records.iter().filter(|record| self.came.insert(record.key.to_vec())).count();
                self.useful += size * new as f64 / count as f64;
                drop(self.lanes.settle(out.request.ticket, Ok(vec![accepted(); count]), self.now));
            } else if out.until <= self.now {
                self.timed_out += 1;
                let error = Err(PutError::NoResponse("timed out".into()));
                drop(self.lanes.settle(out.request.ticket, error, self.now));
            } else {
                self.out.push_back(out);
            }
        }
        while let Some(request) = self.lanes.fill(self.now) {
            self.sent += request.records.len();
            let (left, until) = (encoded(&request), self.now + request.timeout);
            self.out.push_back(Out { request, left, until });
        }
    }
}

#[test]
fn slow_line_carries_each_record_once() {
    for (kbit, rows, size) in [
        (64, 12, 100_000),
        (64, 3000, 600),
        (128, 3000, 600),
        (1000, 60, 100_000),
        (1000, 12, 1_000_000),
        (1000, 3000, 3_000),
        (10_000, 3000, 4_000),
        (100_000, 10_000, 1_000),
    ] {
        let mut trial = Trial::new(f64::from(kbit) * 125.0, rows, size);
        let began = trial.now;
        while !trial.lanes.is_empty() {
            trial.step();
            assert!(
                trial.now - began < Duration::from_hours(2),
                "no end in sight: {} came",
                trial.came.len()
            );
        }
        let seconds = (trial.now - began).as_secs_f64();
        let goodput = trial.useful / (trial.line * seconds);
        let repeats = trial.sent as f64 / rows as f64 - 1.0;
        println!(
            "{kbit} kbit/s, {rows} of {size}: {seconds:.1} s, goodput {:.0} %, repeats {:.1} %, {} timed out",
            goodput * 100.0,
            repeats * 100.0,
            trial.timed_out
        );
        assert!(goodput >= 0.8, "{goodput}");
        assert!(repeats <= 0.05, "{repeats}");
    }
}

/// A line that becomes slower while much is in flight is found out after a few requests.
#[test]
fn line_that_becomes_slow_is_noticed() {
    let mut trial = Trial::new(12_500_000.0, 12_000, 1_000);
    for _ in 0..20 {
        trial.step();
    }
    let before = trial.came.len();
    trial.line = 125_000.0;
    let (began, sent) = (trial.now, trial.sent - before);
    while !trial.lanes.is_empty() {
        trial.step();
    }
    let seconds = (trial.now - began).as_secs_f64();
    let goodput = (12_000 - before) as f64 * 1_390.0 / (trial.line * seconds);
    println!(
        "{before} before; {sent} out; {seconds:.0} s, goodput {:.0} %, {} timed out",
        goodput * 100.0,
        trial.timed_out
    );
    assert!(goodput >= 0.7, "{goodput}");
}

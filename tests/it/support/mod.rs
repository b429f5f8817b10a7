//! The workshop of the integration tests: real servers, the built daemon, a workload and a checker.
//!
//! Synchronous on purpose: a test reads from top to bottom. Whatever is started is stopped when its value is dropped,
//! also when a test fails. Waiting is always for a condition, with a deadline ([`eventually`]).

pub mod checker;
pub mod daemon;
pub mod fixture;
pub mod flow;
pub mod history;
pub mod hostile;
pub mod kinesis;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod python;
pub mod random;
pub mod session;
pub mod standby;
pub mod stopwatch;
pub mod tls;
pub mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough for any single thing that should happen at once, on a machine that does ten other things.
pub const SOON: Duration = Duration::from_mins(1);

/// Waits until `condition` gives something, and panics with `what` when the deadline has passed.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll(deadline, condition).unwrap_or_else(|| panic!("waited {deadline:?} in vain: {what}"))
}

/// Waits until `condition` gives something; `None` when the deadline has passed.
pub fn poll<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        nap(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only pause: between two looks at a condition with a deadline"
)]
fn nap(pause: Duration) {
    std::thread::sleep(pause);
}

/// Where `scripts/setup` puts what it installs: `$FOREBAY_CACHE`, else `.cache` in the repository.
pub fn cache() -> PathBuf {
    std::env::var_os("FOREBAY_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from)
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a test does without something it needs: fails, unless the developer asked to skip, which CI never does.
#[track_caller]
pub fn missing(what: &str) {
    let skip = std::env::var("FOREBAY_SKIP_MISSING").is_ok_and(|value| value == "1");
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        skip && !ci,
        "{what} is missing: run scripts/setup (or skip what needs it: FOREBAY_SKIP_MISSING=1)"
    );
    eprintln!("SKIPPED: {what} is missing");
}

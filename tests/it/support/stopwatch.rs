//! Time that something took, without the moments in which this process had no processor: a machine that stalls for seconds
//! says nothing about a daemon that must end within some.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How often the thread looks at the clock.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Shared {
    /// How long the thread was late, together; `None`: it ends.
    stalled: Mutex<Option<Duration>>,
    ended: Condvar,
}

/// A running stopwatch.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    shared: Arc<Shared>,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        let shared = Arc::new(Shared { stalled: Mutex::new(Some(Duration::ZERO)), ended: Condvar::new() });
        let ticking = Arc::clone(&shared);
        std::thread::spawn(move || tick(&ticking));
        Self { began: Instant::now(), shared }
    }

    /// The time since the start, without the stalls.
    pub fn elapsed(&self) -> Duration {
        let stalled = self.shared.stalled.lock().unwrap().unwrap_or_default();
        self.began.elapsed().saturating_sub(stalled)
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        *self.shared.stalled.lock().unwrap() = None;
        self.shared.ended.notify_all();
    }
}

/// Adds up by how much each pause was longer than asked for.
fn tick(shared: &Shared) {
    let mut stalled = shared.stalled.lock().unwrap();
    while let Some(sum) = *stalled {
        let before = Instant::now();
        stalled = shared.ended.wait_timeout(stalled, TICK).unwrap().0;
        let late = before.elapsed().saturating_sub(TICK);
        *stalled = stalled.map(|_| sum + late);
    }
}

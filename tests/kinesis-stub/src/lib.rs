//! A scriptable Amazon Kinesis, for tests, benches and demos.
//!
//! It speaks the real wire protocol (awsJson1.1 over HTTP/1.1, any `SigV4` is accepted) to any AWS SDK, routes by MD5 hash
//! ranges, keeps shards and their children, enforces the limits that no emulator does, and fails on demand:
//!
//! ```
//! use kinesis_stub::{Config, Fault, Rule, Stub};
//!
//! let stub = Stub::start(Config::default().stream("events", 4)).unwrap();
//! stub.add(Rule::new(Fault::AcceptThenLoseAnswer).keys(["plate-7"]).times(1)).unwrap();
//! assert!(stub.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(stub.records().is_empty());
//! ```
//!
//! Rooms: `server` (HTTP, acts on a course) · `control` (`/_stub/…`) · `state` (all that is known, pure) · `puts`, `reads`,
//! `manage` (the operations) · `stream`, `shard`, `sequence`, `throughput` (the model) · `fault` (the vocabulary) · `null`
//! (the short way of the null sink) · `latency`, `stats`.
//!
//! It never listens on anything but 127.0.0.1, never writes to disk, and never checks a signature.

mod config;
mod control;
mod error;
mod fault;
mod latency;
mod manage;
mod null;
mod puts;
mod reads;
mod sequence;
mod server;
mod shard;
mod signature;
mod state;
mod stats;
mod stream;
mod throughput;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::error::ApiError;

pub use crate::config::Config;
pub use crate::fault::{Fault, Refusal, Rule};
pub use crate::latency::Latency;
pub use crate::state::Record;
use crate::state::{Now, State};
pub use crate::stats::{Requests, Stats};
pub use crate::stream::Status;

/// What the tests' thread and the server's thread share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// For those who wait in async code.
    ticks: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let result = act(&mut self.lock());
        self.changed.notify_all();
        self.ticks.send_replace(());
        result
    }
}

/// How long a restart waits for its port, and how often it tries.
const PORT_WITHIN: Duration = Duration::from_secs(30);
const PORT_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Running {
    /// Dropped to stop.
    stop: oneshot::Sender<Infallible>,
    thread: JoinHandle<io::Result<()>>,
}

/// A running Kinesis on a loopback port, in its own thread. Dropping it stops it.
#[derive(Debug)]
pub struct Stub {
    shared: Arc<Shared>,
    port: u16,
    running: Mutex<Option<Running>>,
}

impl Stub {
    /// Starts one. Fails if the port is taken or the configuration makes no sense.
    pub fn start(config: Config) -> io::Result<Self> {
        let port = config.port;
        let state = State::new(config).map_err(|error| io::Error::other(error.message))?;
        let (ticks, _) = watch::channel(());
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), ticks });
        let mut stub = Self { shared, port, running: Mutex::new(None) };
        stub.port = stub.launch()?;
        Ok(stub)
    }

    fn launch(&self) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("kinesis-stub".to_owned())
            .spawn(move || server::serve(listener, &shared, stopped))?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running { stop, thread });
        Ok(port)
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port, which stays over [`Stub::restart`].
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection and the port: connecting is refused. What was stored stays.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread }) = running {
            drop(stop);
            drop(thread.join());
        }
    }

    /// Serves again on the same port, with everything that was stored, held back and scripted. Stops first if it runs.
    #[expect(clippy::disallowed_methods, reason = "its caller waits for it anyway")]
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        let give_up = Instant::now() + PORT_WITHIN;
        loop {
            match self.launch() {
                // A program that another thread starts just now has a copy of the socket until it is that program.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                    std::thread::sleep(PORT_AGAIN);
                }
                launched => return launched.map(drop),
            }
        }
    }

    /// Replaces all rules (and the script) by this one.
    pub fn set(&self, rule: impl Into<Rule>) -> Result<(), String> {
        let rule = rule.into();
        rule.check()?;
        self.shared.change(|state| {
            state.rules = vec![rule.into()];
            state.script.clear();
        });
        Ok(())
    }

    /// Adds a rule. All rules act together; of those that decide a request's course the first one wins.
    pub fn add(&self, rule: impl Into<Rule>) -> Result<(), String> {
        let rule = rule.into();
        rule.check()?;
        self.shared.change(|state| state.rules.push(rule.into()));
        Ok(())
    }

    /// Adds a rule before all others: no other one decides the course of what it hits.
    pub fn add_first(&self, rule: impl Into<Rule>) -> Result<(), String> {
        let rule = rule.into();
        rule.check()?;
        self.shared.change(|state| state.rules.insert(0, rule.into()));
        Ok(())
    }

    /// Each of the next put requests takes one of these; [`Fault::Accept`] lets one pass. Goes before the rules.
    pub fn script<R: Into<Rule>>(&self, steps: impl IntoIterator<Item = R>) -> Result<(), String> {
        let steps: Vec<Rule> = steps.into_iter().map(Into::into).collect();
        steps.iter().try_for_each(Rule::check)?;
        self.shared.change(|state| state.script.extend(steps));
        Ok(())
    }

    /// Forgets all rules and the script. What is held stays held, what is late stays late.
    pub fn heal(&self) {
        self.shared.change(|state| {
            state.rules.clear();
            state.script.clear();
        });
    }

    /// Lets go all that [`Fault::Hold`] and [`Fault::HoldAnswer`] hold, in the order it came; returns how many.
    pub fn release(&self) -> usize {
        self.shared.change(|state| state.release(Now::read()))
    }

    /// Reshards a stream to equal shards, at once.
    pub fn reshard(&self, stream: &str, shards: u32) -> Result<(), String> {
        self.shared
            .change(|state| state.stream(Some(stream), None)?.reshard(shards))
            .map_err(|error| error.message)
    }

    /// Splits the open shard that has this hash: the second child begins there. One that begins there already is not split.
    pub fn split(&self, stream: &str, hash: u128) -> Result<(), String> {
        self.set_up(stream, |stream| {
            let next = stream.bump();
            stream.shards.split_at(hash, next)
        })
    }

    /// Merges the open shard that has this hash with the next one; the last one stays.
    pub fn merge(&self, stream: &str, hash: u128) -> Result<(), String> {
        self.set_up(stream, |stream| {
            let next = stream.bump();
            stream.shards.merge_at(hash, next)
        })
    }

    /// How many shards of the stream are open.
    pub fn open_shards(&self, stream: &str) -> Option<usize> {
        self.shared.lock().stream(Some(stream), None).ok().map(|stream| stream.shards.open_count())
    }

    /// Deletes a stream at once. Its records are still in [`Stub::records`].
    pub fn delete_stream(&self, stream: &str) -> Result<(), String> {
        self.shared.change(|state| state.delete(stream)).map_err(|error| error.message)
    }

    /// Makes a stream. One that was deleted under this name is older by at least a second.
    pub fn create_stream(&self, stream: &str, shards: u32) -> Result<(), String> {
        let now = Now::read().system;
        self.shared.change(|state| state.make(stream, shards, now).map(drop)).map_err(|error| error.message)
    }

    /// Sets what the stream says of itself: while it is [`Status::Creating`], puts do not find it.
    pub fn set_status(&self, stream: &str, status: Status) -> Result<(), String> {
        self.set_up(stream, |stream| {
            stream.status = status;
            Ok(())
        })
    }

    /// `UpdateMaxRecordSize`.
    pub fn set_max_record_kib(&self, stream: &str, kib: u32) -> Result<(), String> {
        self.set_up(stream, |stream| stream.set_max_record_kib(kib))
    }

    /// `UpdateStreamRecordDistributionStrategy`: `AUTO` or `USER_PARTITION_KEY`.
    pub fn set_strategy(&self, stream: &str, strategy: &str) -> Result<(), String> {
        self.set_up(stream, |stream| stream.set_strategy(strategy))
    }

    fn set_up(
        &self,
        stream: &str,
        change: impl FnOnce(&mut stream::Stream) -> Result<(), ApiError>,
    ) -> Result<(), String> {
        let changed = self.shared.change(|state| change(state.stream(Some(stream), None)?));
        changed.map_err(|error| error.message)
    }

    /// All stored records, in the order of their storing.
    pub fn records(&self) -> Vec<Record> {
        self.shared.lock().records.clone()
    }

    /// The stored records from a place on, in the order of their storing.
    pub fn records_from(&self, place: usize) -> Vec<Record> {
        self.shared.lock().records.get(place..).unwrap_or_default().to_vec()
    }

    /// All stored records, which the stub forgets: for a test that runs for hours. Sequence numbers go on.
    pub fn take_records(&self) -> Vec<Record> {
        self.shared.change(State::take)
    }

    /// From now on a shard takes no more than 1,000 records and 1 MiB a second, or as much as comes.
    pub fn limit(&self, limits: bool) {
        self.shared.change(|state| state.config.limits = limits);
    }

    /// Forgets the records; sequence numbers go on.
    pub fn forget_records(&self) {
        self.shared.change(State::forget);
    }

    /// The counters.
    pub fn requests(&self) -> Requests {
        self.shared.lock().requests.clone()
    }

    /// Counters, what is held, and the latency if it is measured.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Begins to measure anew.
    pub fn reset_latency(&self) {
        self.shared.change(|state| state.latency = latency::Histogram::default());
    }

    /// Blocks until the condition holds, at most so long; returns whether it does. Must not be called where the thread also
    /// runs the client: see [`Stub::until`].
    pub fn wait(&self, timeout: Duration, mut done: impl FnMut(&Stats) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while !done(&state.stats()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Waits, in async code, until the condition holds. Bound it with a timeout.
    pub async fn until(&self, mut done: impl FnMut(&Stats) -> bool) {
        let mut ticks = self.shared.ticks.subscribe();
        while !done(&self.stats()) {
            if ticks.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}

//! Log lines on their way to standard error: a bounded queue, and a thread that writes it.
//!
//! No other thread waits for the reader of the log. While the reader hangs (a full pipe, a stopped terminal),
//! lines wait in the queue. Lines that do not fit are dropped and counted, and a line reports their number
//! once the reader continues. Lines stay whole and in order.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::io::Errno;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::pipeline::meters;

/// Most bytes of waiting lines: some thousands of lines.
const QUEUED_MAX: usize = 1 << 20;
/// Additional bytes for lines of level ERROR only. One of these reports why the process stops.
const RESERVED_FOR_ERRORS: usize = 256 << 10;
/// Largest buffer that is kept between two batches, in bytes.
const KEEP: usize = 64 << 10;
/// Pause before another write to a non-blocking standard error.
const RETRY: Duration = Duration::from_millis(20);
/// How long a panic waits for its message to be written.
const PANIC_FLUSH: Duration = Duration::from_secs(1);

/// The queue. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LogQueue(Arc<SharedQueue>);

#[derive(Debug, Default)]
struct SharedQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Lines that were dropped since the last batch was taken.
    dropped: u64,
    /// Whether a batch is being written.
    writing: bool,
    writer: Option<ThreadId>,
}

impl LogQueue {
    /// A queue with a new thread that writes its lines to standard error.
    ///
    /// # Errors
    /// The operating system provides no file descriptor or thread.
    pub fn to_stderr() -> io::Result<Self> {
        // The standard library's handle is not used: a hung write would hold its lock.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Self::to(stderr)
    }

    fn to(output: OwnedFd) -> io::Result<Self> {
        let queue = Self::default();
        let queued = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || queued.write_to(&output))?;
        Ok(queue)
    }

    /// Adds a line, or drops it if there is no space. Never waits.
    pub fn push(&self, line: &[u8], level: Level) {
        let mut state = self.state();
        let max = if level == Level::ERROR { QUEUED_MAX + RESERVED_FOR_ERRORS } else { QUEUED_MAX };
        if state.writer == Some(thread::current().id()) {
            // Dropped lines are reported before the lines that were queued since.
            state.bytes.splice(0..0, line.iter().copied());
        } else if state.bytes.len().saturating_add(line.len()) <= max {
            state.bytes.extend_from_slice(line);
        } else {
            state.dropped += 1;
            drop(state);
            meters::log_line_dropped();
            return;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all queued lines are written, at most for `within`.
    pub fn flush(&self, within: Duration) {
        let is_unwritten = |state: &mut QueueState| state.writing || !state.bytes.is_empty();
        // Lines that are not written by then are lost, because nothing reads them.
        drop(self.0.changed.wait_timeout_while(self.state(), within, is_unwritten));
    }

    /// Makes panics write their message through the queue. A panic that waited for the reader of the log
    /// would not end the process.
    pub fn take_panics(&self) {
        let queue = self.clone();
        panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            let thread = thread::current();
            let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("?"));
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                text.push_str(&backtrace.to_string());
            }
            queue.push(text.as_bytes(), Level::ERROR);
            queue.flush(PANIC_FLUSH);
        }));
    }

    fn write_to(&self, output: &OwnedFd) {
        let mut batch = Vec::new();
        self.state().writer = Some(thread::current().id());
        loop {
            let dropped = self.next_batch(&mut batch);
            write_all(output, &batch);
            if dropped > 0 {
                tracing::warn!(
                    event = "log_lines_dropped",
                    lines = dropped,
                    "log lines dropped: the reader of standard error did not keep up"
                );
            }
        }
    }

    /// Waits for lines and takes all of them. Returns how many were dropped after them.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        batch.shrink_to(KEEP);
        let mut state = self.state();
        state.writing = false;
        self.0.changed.notify_all();
        while state.bytes.is_empty() && state.dropped == 0 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        std::mem::swap(batch, &mut state.bytes);
        std::mem::take(&mut state.dropped)
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes bytes, however long that takes. If the reader has closed, they are lost.
fn write_all(output: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(output, bytes) {
            Ok(0) => return,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that shares the terminal or the pipe may have made it non-blocking.
            Err(Errno::AGAIN) => thread::park_timeout(RETRY),
            Err(_) => return,
        }
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { queue: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> LogLine<'a> {
        LogLine { queue: self, level: *of.level() }
    }
}

/// One line, which is written whole in one call.
#[derive(Debug)]
pub struct LogLine<'a> {
    queue: &'a LogQueue,
    level: Level,
}

impl io::Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.level);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// The reader hangs from the beginning. No thread waits for it, memory is bounded, and errors have space.
    /// Once it reads, it receives whole lines in order, and the number of missing ones.
    #[test]
    fn hung_reader_delays_nobody_and_learns_what_was_dropped() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = LogQueue::to(writer.into()).unwrap();
        let line = |number: usize, length: usize| format!("{number} {}\n", "x".repeat(length));
        // More than fits into a pipe. Once the thread has taken it, the thread hangs, however late it was
        // scheduled.
        queue.push(line(0, 100_000).as_bytes(), Level::INFO);
        while !queue.state().bytes.is_empty() {
            thread::yield_now();
        }
        for number in 1..5_000 {
            queue.push(line(number, 1_000).as_bytes(), Level::INFO);
        }
        queue.push(b"last\n", Level::ERROR);
        queue.flush(Duration::ZERO);
        assert!(queue.state().bytes.len() <= QUEUED_MAX + RESERVED_FOR_ERRORS);
        assert!(queue.state().dropped > 0);
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let mut read = 0;
        let last = loop {
            let next = lines.next().unwrap();
            let Some((number, _)) = next.split_once(' ') else { break next };
            assert_eq!(number.parse::<usize>().unwrap(), read, "whole lines in order");
            read += 1;
        };
        assert_eq!(last, "last");
        assert!((1_000..4_999).contains(&read), "{read}");
        queue.push(b"later\n", Level::INFO);
        assert_eq!(lines.next().unwrap(), "later");
        queue.flush(Duration::from_mins(1));
    }

    #[test]
    fn reader_that_is_gone_ends_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = LogQueue::to(writer.into()).unwrap();
        for _ in 0..3 {
            queue.push(b"line\n", Level::INFO);
            queue.flush(Duration::from_mins(1));
            assert!(queue.state().bytes.is_empty());
        }
    }
}

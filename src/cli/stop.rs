//! Handles the signals that end the daemon, on a thread of its own. It works even while the main thread is
//! blocked in a system call, for example on a disk.

use std::io;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::observe::log::LogQueue;

/// When the process exits in any case: after the supervisor's own limit (`supervise::STOP_MAX`) and within 5
/// s of the signal.
const EXIT_AFTER: Duration = Duration::from_millis(4_900);

/// How long this exit waits for the last log lines to be written. The process still exits within 5 s.
const LAST_LINES_WITHIN: Duration = Duration::from_millis(50);

/// Exit code of a process that a second SIGINT ends.
const INTERRUPTED: i32 = 130;

/// Resolves at the first SIGTERM or SIGINT. From then on, a SIGINT ends the process at once, and the process
/// exits after `EXIT_AFTER` even if its threads are blocked. As after a crash, changes that were not in the
/// last checkpoint are then published again.
///
/// # Errors
/// The system refuses a signal handler or a thread.
pub(super) fn signalled(log: LogQueue) -> io::Result<impl Future<Output = ()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (terminate, interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let stop = Arc::new(Notify::new());
    let noticed = Arc::clone(&stop);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(exit_in_time((terminate, interrupt), &noticed, &log)))?;
    Ok(async move { stop.notified().await })
}

async fn exit_in_time((mut terminate, mut interrupt): (Signal, Signal), stop: &Notify, log: &LogQueue) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.notify_one();
    let code = tokio::select! {
        _ = interrupt.recv() => INTERRUPTED,
        () = sleep(EXIT_AFTER) => 0,
    };
    log.flush(LAST_LINES_WITHIN);
    process::exit(code)
}

//! The daemon as a process among others: signals, what its error stream holds, and what others do to its directory.

use std::io::{BufRead as _, BufReader, PipeReader, Write as _};

use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;

use crate::support::daemon::{Daemon, Settings, is_event};
use crate::support::fixture::Fixture;
use crate::support::flow::Flow;
use crate::support::postgres::Version;
use crate::support::process::Signal;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Fault D10: a terminal that closed, or a tool that expected a reload, ended the daemon.
#[test]
fn hangup_is_logged_and_ignored() {
    let mut fixture = Fixture::start(Version::OLDEST);
    fixture.daemon.signal(Signal::HUP);
    fixture.daemon.wait_for_event("hangup_ignored");
    fixture.plates(1..2);
    fixture.wait_until_published();
    assert_eq!(fixture.daemon.terminate().code(), Some(0));
}

/// Fault D10: JSON logs ended in a plain line when the process had to stop.
#[test]
fn json_log_has_no_plain_line_after_a_failure() {
    let mut fixture = Fixture::prepare(Version::OLDEST);
    let settings = fixture.daemon.settings();
    settings.more.push(("log".to_owned(), "format = \"json\"".to_owned()));
    settings.tables = vec!["lab.missing".to_owned()];
    fixture.daemon.start_again();
    assert_eq!(fixture.daemon.wait().code(), Some(1));
    let log = fixture.daemon.log();
    let lines: Vec<Value> =
        log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["event"]), (&"ERROR".into(), &"stopping".into()), "{last}");
}

/// Unpublished changes that are not durable yet, in a segment.
fn with_changes_in_the_log() -> Flow {
    // They become durable with the last checkpoint of a stop.
    let mut flow = Flow::prepare(seed(), |settings| settings.confirm_after = Some("1h".to_owned()));
    flow.start();
    flow.wait_until_it_moves("before");
    let unpublished = || flow.daemon.metric("forebay_log_frames_unpublished");
    eventually("all is published", SOON, || unpublished().filter(|frames| *frames < 0.5));
    flow.stub.stop();
    flow.mark();
    eventually("the change is in the log", SOON, || unpublished().filter(|frames| *frames > 0.5));
    flow
}

/// A second daemon that locked a new file would truncate the first one's log, whose changes would then be confirmed and lost. With
/// the same configuration it waits for its turn; with another one, it is refused.
#[test]
fn deleted_lock_file_keeps_others_out() {
    let mut flow = with_changes_in_the_log();
    std::fs::remove_file(flow.daemon.buffer_directory().join("lock")).unwrap();
    let settings = flow.daemon.settings().clone();
    let mut second = Daemon::prepare_on(settings.clone(), &flow.daemon.buffer_directory());
    second.start_again();
    second.wait_for_event("waiting_to_take_over");
    assert!(second.terminate().success());
    let mut other = Daemon::prepare_on(
        Settings { name: "other".to_owned(), ..settings },
        &flow.daemon.buffer_directory(),
    );
    other.start_again();
    assert_eq!(other.wait().code(), Some(1));
    other.wait_for_event_with(0, "stopping", "directory_in_use");
    assert!(flow.daemon.terminate().success());
    flow.stub.restart().unwrap();
    flow.start();
    flow.wait_until_published();
    assert!(flow.daemon.terminate().success());
}

/// The same with the segment: its fsync succeeds although nobody can read it any more.
#[test]
fn changes_in_a_deleted_segment_are_not_confirmed() {
    let mut flow = with_changes_in_the_log();
    for entry in std::fs::read_dir(flow.daemon.buffer_directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(flow.daemon.terminate().code(), Some(1));
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("was deleted or renamed while Forebay used it"), "{log}");
    flow.stub.restart().unwrap();
    flow.start();
    flow.wait_until_published();
    assert!(flow.daemon.terminate().success());
}

/// A daemon that a failing test does not leave behind.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

impl Child {
    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    #[track_caller]
    fn code(&mut self) -> Option<i32> {
        eventually("it ends", SOON, || self.0.try_wait().unwrap()).code()
    }
}

/// The daemon, which has a slot, with a full pipe behind its standard error.
fn with_a_full_pipe(daemon: &Daemon) -> (Child, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write_all(b".\n").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (Child(daemon.command(&["run"]).stderr(writer).spawn().unwrap()), reader)
}

/// Third fault of the second review: with a pipe behind standard error that nobody reads, nothing was received any more.
#[test]
fn hung_log_reader_delays_nothing() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    assert!(flow.daemon.terminate().success());
    let (mut child, reader) = with_a_full_pipe(&flow.daemon);
    flow.wait_until_it_moves("nobody reads the log");
    // Each hangup that it receives is a line.
    eventually("lines are dropped", SOON, || {
        for _ in 0..2_000 {
            child.signal(Signal::HUP);
            std::thread::yield_now();
        }
        flow.daemon.metric("forebay_stderr_lines_dropped_total").filter(|lines| *lines > 0.0)
    });
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let line = lines.find(|line| is_event(line, "log_lines_dropped")).unwrap();
    assert!(line.contains(" lines="), "{line}");
    child.terminate();
    assert!(lines.any(|line| is_event(&line, "clean_shutdown")), "the last lines are written");
    assert_eq!(child.code(), Some(0));
    flow.wait_until_published();
}

/// A stop, and an error at the start, end the process although nobody reads why.
#[test]
fn hung_log_reader_does_not_hold_the_exit() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    assert!(flow.daemon.terminate().success());
    let (mut child, _reader) = with_a_full_pipe(&flow.daemon);
    flow.wait_until_it_moves("nobody reads the log");
    child.terminate();
    assert_eq!(child.code(), Some(0));
    flow.daemon.settings().slot = "another".to_owned();
    let (mut child, _reader) = with_a_full_pipe(&flow.daemon);
    assert_eq!(child.code(), Some(1));
}

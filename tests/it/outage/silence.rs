//! SIGTERM ends the process within 5 s whatever is silent: a name server, a connection, TLS, a credentials process, the
//! database's catalogue, the disk; at the start, too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

use crate::disk::tracer::{self, Injection};
use crate::support::flow::Flow;
use crate::support::process::Signal;
use crate::support::random::seed;
use crate::support::stopwatch::Stopwatch;
use crate::support::{SOON, eventually};

/// What is promised, and what a busy machine may add.
const STOPS_WITHIN: Duration = Duration::from_secs(6);
/// Longer than any stop. In microseconds, as strace takes it.
const DELAY: &str = "delay_enter=30000000";

#[track_caller]
fn stops_in_time(flow: &mut Flow, what: &str) {
    let watch = Stopwatch::start();
    let status = flow.daemon.terminate();
    let took = watch.elapsed();
    let log = flow.daemon.log().join("\n");
    assert!(status.success(), "{what}: {status}\n{log}");
    assert!(took < STOPS_WITHIN, "{what}: it took {took:?}\n{log}");
    println!("{what}: stopped in {took:?}");
}

/// The same under a tracer, which keeps the thread that it delays: the process has exited when no other thread lives.
#[track_caller]
fn exits_in_time(flow: &mut Flow, what: &str) {
    /// Looks in a row that find no thread running.
    const LOOKS: u32 = 5;
    let process = PathBuf::from(format!("/proc/{}", flow.daemon.id()));
    let tracer = status(&process).lines().find_map(|line| line.strip_prefix("TracerPid:\t")?.parse().ok());
    let watch = Stopwatch::start();
    flow.daemon.signal(Signal::TERM);
    let mut looks = 0;
    let exited = || {
        let mut threads = std::fs::read_dir(process.join("task")).ok()?.flatten();
        let ended =
            |status: &str| ["State:\tZ", "State:\tX", "State:\tt"].iter().any(|state| status.contains(state));
        let all = threads.all(|thread| ended(&status(&thread.path())));
        // A thread to which the tracer delivers the signal is stopped as well, but for a moment.
        looks = if all { looks + 1 } else { 0 };
        (looks >= LOOKS).then_some(())
    };
    eventually(&format!("{what}: it exits"), SOON, exited);
    let took = watch.elapsed();
    assert!(took < STOPS_WITHIN, "{what}: it took {took:?}");
    // What it delays it never lets go.
    let tracer = tracer.and_then(Pid::from_raw).expect("it is traced");
    kill_process(tracer, Signal::KILL).unwrap();
    assert!(flow.daemon.wait().success(), "{what}");
}

/// What the system says of a process or a thread.
fn status(path: &Path) -> String {
    std::fs::read_to_string(path.join("status")).unwrap_or_default()
}

/// A server that takes connections and says nothing.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A thread of this name is held by the tracer: seen twice, because other calls are traced for moments.
#[track_caller]
fn wait_until_held(flow: &Flow, name: &str) {
    let tasks = format!("/proc/{}/task", flow.daemon.id());
    let held = || {
        let mut threads = std::fs::read_dir(&tasks).ok()?.flatten().map(|thread| status(&thread.path()));
        threads.find(|status| status.starts_with(&format!("Name:\t{name}")) && status.contains("State:\tt"))
    };
    let mut before = None;
    eventually(&format!("thread {name} is held"), SOON, || {
        let now = held();
        let same = now.is_some() && now == before;
        before = now;
        same.then_some(())
    });
}

/// Names are resolved on a thread that nobody can interrupt.
#[test]
fn silent_name_server_does_not_delay_a_stop() {
    if !tracer::is_here() {
        return;
    }
    let mut flow = Flow::prepare(seed(), |settings| {
        settings.endpoint = "http://kinesis.nowhere.example:4566".to_owned();
    });
    let injection = Injection { calls: "openat", answer: DELAY.to_owned(), paths: vec!["/etc/hosts".into()] };
    let report = flow.daemon.home().join("strace");
    flow.daemon.settings().through = injection.through(&report);
    flow.start();
    wait_until_held(&flow, "tokio-rt-worker");
    exits_in_time(&mut flow, "the stream's name, while it runs");
    // The last checkpoint and the last confirm need no name server.
    flow.daemon.wait_for_event("clean_shutdown");
    flow.wait_until_slot_is_free();
    let url = flow.daemon.settings().url.replace("127.0.0.1", "db.nowhere.example");
    flow.daemon.wipe();
    flow.daemon.settings().url = url;
    flow.daemon.start_again();
    flow.daemon.wait_for_event("starting");
    wait_until_held(&flow, "tokio-rt-worker");
    exits_in_time(&mut flow, "the database's name, at the start");
}

#[test]
fn silent_stream_does_not_delay_a_stop() {
    let mut flow = Flow::prepare(seed(), |_| {});
    for scheme in ["http", "https"] {
        let (listener, address) = silent_server();
        flow.daemon.settings().endpoint = format!("{scheme}://{address}");
        flow.start();
        let _connection = listener.accept().unwrap();
        stops_in_time(&mut flow, scheme);
        flow.daemon.wait_for_event("clean_shutdown");
        flow.wait_until_slot_is_free();
    }
}

#[test]
fn silent_credentials_process_does_not_delay_a_stop() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let (config, started) = (flow.daemon.home().join("aws"), flow.daemon.home().join("started"));
    let process = format!("sh -c \": > '{}'; exec sleep 30\"", started.display());
    std::fs::write(&config, format!("[default]\ncredential_process = {process}\n")).unwrap();
    flow.daemon.settings().environment = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    flow.start();
    eventually("the process is started", SOON, || started.exists().then_some(()));
    stops_in_time(&mut flow, "a credentials process");
    flow.daemon.wait_for_event("clean_shutdown");
}

/// Silent after the connection, after the request for TLS, and after TLS was offered.
#[test]
fn silent_database_does_not_delay_a_stop() {
    let mut flow = Flow::prepare(seed(), |_| {});
    for (mode, answer) in [("disable", &b""[..]), ("require", b""), ("require", b"S")] {
        let (listener, address) = silent_server();
        flow.daemon.settings().url = format!("postgres://forebay@{address}/lab?sslmode={mode}");
        flow.daemon.start_again();
        let (mut connection, _): (TcpStream, _) = listener.accept().unwrap();
        connection.read_exact(&mut [0; 8]).unwrap();
        connection.write_all(answer).unwrap();
        stops_in_time(&mut flow, &format!("sslmode={mode}, after {} bytes", answer.len()));
    }
}

/// A lock on the catalogue, on a table that is published, and a transaction that the slot waits for.
#[test]
fn locks_during_a_start_do_not_delay_a_stop() {
    let mut flow = Flow::prepare(seed(), |_| {});
    for (what, lock) in [
        ("the catalogue", "begin; lock table pg_catalog.pg_publication in access exclusive mode"),
        ("making the publication", "begin; lock table lab.plates in access exclusive mode"),
        ("making the slot", "begin; insert into lab.plates (plate_id, barcode) values (1, 'open')"),
    ] {
        let mut other = flow.postgres.session("postgres");
        other.execute(lock);
        flow.daemon.start_again();
        eventually("a session waits", SOON, || {
            let waiting = "select count(*) from pg_locks where not granted";
            (flow.postgres.value(waiting) != "0").then_some(())
        });
        stops_in_time(&mut flow, what);
        other.execute("rollback");
        eventually("nothing waits any more", SOON, || {
            let waiting = "select count(*) from pg_locks where not granted";
            (flow.postgres.value(waiting) == "0").then_some(())
        });
    }
    flow.start();
    flow.mark();
    flow.wait_until_published();
    stops_in_time(&mut flow, "afterwards");
    flow.check().assert_clean();
}

/// fsync hangs while it runs (the checkpointer's thread), and at the start: the probe for liveness is answered.
#[test]
fn hanging_disk_does_not_delay_a_stop() {
    if !tracer::is_here() {
        return;
    }
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_it_moves("before");
    let report = flow.daemon.home().join("strace");
    let injection = Injection { calls: "fsync,fdatasync", answer: DELAY.to_owned(), paths: Vec::new() };
    let _traced = injection.attach(flow.daemon.id(), &report);
    flow.mark();
    wait_until_held(&flow, "checkpointer");
    exits_in_time(&mut flow, "while it runs");
    flow.daemon.wait_for_event("shutdown_timed_out");
    flow.daemon.settings().through = injection.through(&report);
    flow.daemon.start_again();
    flow.daemon.wait_for_event("starting");
    wait_until_held(&flow, "start");
    assert_eq!(flow.daemon.get("/health/live").as_deref(), Some("live\n"));
    exits_in_time(&mut flow, "at the start");
    flow.daemon.settings().through.clear();
    flow.start();
    flow.mark();
    flow.wait_until_published();
    stops_in_time(&mut flow, "afterwards");
    flow.check().assert_clean();
}

/// Fourth fault of the second review: a start reads its backlog and its dead letters, which took seconds or minutes in which no
/// probe was answered and no signal was seen. Here the reads hang.
#[test]
fn start_that_reads_for_long_is_alive() {
    if !tracer::is_here() {
        return;
    }
    let mut flow = Flow::prepare(seed(), |settings| settings.confirm_after = Some("1s".to_owned()));
    flow.start();
    flow.wait_until_it_moves("before");
    flow.stub.stop();
    for _ in 0..3 {
        flow.mark();
    }
    eventually("the backlog is in the log", SOON, || (flow.daemon.log_bytes() > 1_000).then_some(()));
    flow.daemon.terminate();
    let directory = flow.daemon.buffer_directory();
    std::fs::write(directory.join("dead_letters.jsonl"), "{}\n").unwrap();
    let segments = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let segments = segments.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let report = flow.daemon.home().join("strace");
    for (paths, ready) in [
        (segments.collect(), "the start reads the buffer directory"),
        (vec![directory.join("dead_letters.jsonl")], ""),
    ] {
        let injection = Injection { calls: "read,pread64", answer: DELAY.to_owned(), paths };
        flow.daemon.settings().through = injection.through(&report);
        flow.daemon.start_again();
        flow.daemon.wait_for_event("starting");
        wait_until_held(&flow, "start");
        assert_eq!(flow.daemon.get("/health/live").as_deref(), Some("live\n"));
        let why = flow.daemon.ready().unwrap_err();
        assert!(why.contains(ready), "{why}");
        exits_in_time(&mut flow, "while it reads");
    }
    flow.daemon.settings().through.clear();
    flow.stub.restart().unwrap();
    flow.start();
    flow.wait_until_published();
    stops_in_time(&mut flow, "afterwards");
    flow.check().assert_clean();
}

//! The status page: what a browser shows of a healthy daemon and of an outage, on a screen and on a phone, in the light and in
//! the dark; and that its clients do not keep others from the port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use kinesis_stub::{Fault, Refusal};
use serde_json::Value;

use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, cache, eventually};

/// Sends a request for a path, and returns the open connection.
fn open(flow: &Flow, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, flow.daemon.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// The next data of a kind in a stream of server-sent events.
fn next(stream: &mut BufReader<TcpStream>, kind: &str) -> Value {
    let mut line = String::new();
    let mut is_next = false;
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        is_next |= line.trim_end() == format!("event: {kind}");
        if let Some(data) = line.strip_prefix("data: ").filter(|_| is_next) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

fn browser() -> PathBuf {
    let names = ["chromium-headless-shell", "chromium", "google-chrome"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).flat_map(|folder| names.map(|name| folder.join(name)));
    found.into_iter().find(|path| path.is_file()).expect("no browser: run scripts/setup")
}

/// What the browser shows in each view.
fn seen(flow: &Flow) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/page/drive.cjs");
    let url = format!("http://127.0.0.1:{}/", flow.daemon.port());
    let mut command = Command::new("node");
    command.arg(script).arg(url).arg(browser()).arg(cache().join("browser"));
    // Screenshots for docs/, if a folder for them is named.
    command.args(std::env::var_os("SCREENSHOTS"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let views: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for view in &views {
        let name = &view["name"];
        for trouble in ["errors", "foreign", "violations"] {
            assert_eq!(view[trouble], Value::Array(Vec::new()), "{trouble} in {name}");
        }
        assert_eq!(view["overflow"], 0, "{name} scrolls sideways");
        assert_eq!(view["stops"][0], "#now", "{name}");
        let stops = view["stops"].as_array().unwrap();
        assert!(
            stops.iter().any(|stop| stop.as_str().is_some_and(|stop| stop.starts_with("Backlog: now"))),
            "{stops:?}"
        );
        assert_eq!(view["plots"].as_array().unwrap().len(), 6);
    }
    assert_ne!(views[0]["background"], views[1]["background"], "dark is not light");
    views
}

#[test]
fn page_shows_flow_outage_and_recovery_in_a_browser() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_it_moves("all is well");
    flow.wait_until_ready();
    let mut live = open(&flow, "/live");
    assert!(next(&mut live, "history")["samples"].is_array());
    let two_samples = |live: &mut BufReader<TcpStream>| {
        let first = next(live, "now")["sample"]["at"].clone();
        eventually("another sample", SOON, || (next(live, "now")["sample"]["at"] != first).then_some(()));
    };
    two_samples(&mut live);
    let views = seen(&flow);
    for view in &views {
        assert_eq!(
            (&view["state"], &view["source"], &view["stream"]),
            (&"healthy".into(), &"connected".into(), &"available".into())
        );
        let row =
            view["types"].as_array().unwrap().iter().find(|row| row[0] == "lab.plates.inserted.v1").unwrap();
        assert_eq!((&row[1], &row[3]), (&"1".into(), &"1".into()));
        assert!(view["shards"].as_u64() >= Some(1), "{view}");
    }
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    eventually("it is not ready", SOON, || flow.daemon.ready().err());
    // What was sent meanwhile comes first.
    let sampled = || (next(&mut live, "now")["sample"]["ready"] == false).then_some(());
    eventually("a sample of the outage", SOON, sampled);
    for view in seen(&flow) {
        assert_eq!(
            (&view["state"], &view["stream"], &view["log"]),
            (&"not ready".into(), &"not available".into(), &"1 waiting".into())
        );
        assert!(view["findings"][0].as_str().unwrap().contains("acknowledged nothing"), "{view}");
        assert_eq!(view["outage"], 1, "the outage is marked in the plots");
    }
    flow.stub.heal();
    flow.wait_until_published();
    flow.wait_until_ready();
    eventually("it is over", SOON, || (next(&mut live, "now")["report"]["ready"] == true).then_some(()));
    clients_are_bounded(&flow);
}

/// Eight browsers may look; a ninth is refused, and the probes still respond.
fn clients_are_bounded(flow: &Flow) {
    let mut clients: Vec<_> = (0..7).map(|_| open(flow, "/live")).collect();
    for client in &mut clients {
        next(client, "now");
    }
    let mut refused = String::new();
    open(flow, "/live").read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 30"), "{refused}");
    assert_eq!(flow.daemon.get("/health/live").as_deref(), Some("live\n"));
    drop(clients);
    eventually("there is room again", SOON, || {
        let mut line = String::new();
        open(flow, "/live").read_line(&mut line).unwrap();
        line.contains(" 200 ").then_some(())
    });
    let mut page = String::new();
    open(flow, "/").read_to_string(&mut page).unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let policy = head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for part in ["http://", "https://", "src=\"", "@import"] {
        let text = body.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains(part), "the page loads something: {part}");
    }
    for part in [
        "forebay_commit_to_acknowledged_seconds_bucket{le=\"+Inf\"} 2",
        "forebay_event_age_at_publish_seconds_count 2",
        "forebay_events_total{type=\"lab.plates.inserted.v1\",outcome=\"published\"} 2",
        "forebay_shard_throttled_total{shard=",
    ] {
        // Events are counted when the progress of their lane passes them, after the acknowledgement.
        eventually(part, SOON, || flow.daemon.get("/metrics")?.contains(part).then_some(()));
    }
}

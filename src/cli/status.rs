//! `forebay status`: prints the `/status` page of a running daemon in a terminal.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::config::units::ByteAmount;
use crate::visible::visible;

/// A daemon on this machine responds at once. One that does not respond in this time is reported as hanging.
const RESPONSE_WITHIN: Duration = Duration::from_secs(5);
/// Largest page, in bytes. A typical page has a few kilobytes.
const PAGE_MAX: u64 = 1 << 20;
/// Interval of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and moves the cursor to the first line.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusOptions {
    #[command(flatten)]
    common: super::Common,
    /// Look again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print the page as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints the status of the daemon that the configuration describes.
///
/// # Errors
/// No daemon responds. `None`: it is not ready, and the reasons were printed.
pub fn run(options: &StatusOptions) -> Result<(), Option<String>> {
    let address = local(super::load(&options.common)?.http.listen);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        if !options.watch {
            let page = page(address).await.map_err(Some)?;
            show(&page, options.json);
            return if page.get("ready") == Some(&Json::Bool(true)) { Ok(()) } else { Err(None) };
        }
        tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Some(format!("cannot wait for signals: {error}")))
            }
            never = watch(address, options.json) => match never {},
        }
    })
}

/// Prints the status every [`WATCH_EVERY`]. A daemon that does not respond is shown as such.
async fn watch(address: SocketAddr, json: bool) -> std::convert::Infallible {
    use io::IsTerminal as _;
    let clear = !json && io::stdout().is_terminal();
    loop {
        let page = page(address).await;
        if clear {
            clear_terminal();
        }
        match page {
            Ok(page) => show(&page, json),
            Err(error) => super::complain(&error),
        }
        sleep(WATCH_EVERY).await;
    }
}

fn clear_terminal() {
    use io::Write as _;
    // The screen is cleared only for looks, so an error does not matter.
    drop(io::stdout().lock().write_all(CLEAR.as_bytes()));
}

fn show(page: &Json, json: bool) {
    if json {
        super::say_exactly(&format!("{page}\n"));
    } else {
        super::say(&text(page));
    }
}

/// The address at which a daemon that listens on all addresses of this machine is reached.
const fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn page(address: SocketAddr) -> Result<Json, String> {
    let no_daemon = |error: &dyn std::fmt::Display| {
        format!(
            "no daemon responds at http://{address}/status: {error}\n  hint: Start `forebay run` with this configuration, or correct \
             http.listen."
        )
    };
    let text = timeout(RESPONSE_WITHIN, get(address))
        .await
        .map_err(|_| no_daemon(&format!("no response within {} s", RESPONSE_WITHIN.as_secs())))?
        .map_err(|error| no_daemon(&error))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body)
        .map_err(|error| no_daemon(&format!("its response is not that of Forebay ({error})")))
}

async fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(PAGE_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

/// One line for each stage between source and stream, and one for each finding.
fn text(page: &Json) -> String {
    let word = |path: &str| match page.pointer(path) {
        None | Some(Json::Null) => "unknown".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let is = |path: &str| page.pointer(path) == Some(&Json::Bool(true));
    let number = |path: &str| page.pointer(path).and_then(Json::as_f64).unwrap_or_default();
    let amount = |path: &str| {
        let bytes = page.pointer(path).and_then(Json::as_u64);
        bytes.map_or_else(|| "unknown".to_owned(), |bytes| ByteAmount(bytes).to_string())
    };
    let state = if is("/ready") { "ready" } else { "NOT READY" };
    let mut out = String::new();
    let mut add = |label: &str, line: String| {
        let written = writeln!(out, "{label:<11}{}", visible(&line));
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    };
    add(
        &word("/name"),
        format!("{state}; Forebay {}, up {}", word("/version"), age(number("/uptime_seconds"))),
    );
    let source = match (is("/ingest/connected"), is("/ingest/paused")) {
        (_, true) => "paused: the log is full".to_owned(),
        (true, false) => format!("connected since {}", word("/ingest/connected_at")),
        (false, false) => "not connected".to_owned(),
    };
    add("source", format!("{source}; confirmed {}", word("/ingest/confirmed_lsn")));
    let (retained, unconfirmed) = (amount("/slot/retained_wal_bytes"), amount("/slot/unconfirmed_wal_bytes"));
    add("slot", format!("retains {retained} of WAL, {unconfirmed} of it unconfirmed"));
    add(
        "log",
        format!(
            "{} of {}; {} changes unpublished",
            amount("/buffer/bytes"),
            amount("/buffer/max_bytes"),
            word("/buffer/unpublished_frames")
        ),
    );
    let full = [("/buffer/full_in_seconds", "log"), ("/buffer/disk_full_in_seconds", "disk")];
    for (path, what) in full.into_iter().filter(|(path, _)| number(path) > 0.0) {
        add("", format!("at the present rate the {what} is full in {}", age(number(path))));
    }
    let stream = if is("/publish/available") { "available" } else { "not available" };
    add(
        "stream",
        format!(
            "{stream}; oldest unpublished change {}; {} requests in flight; last acknowledged {}",
            age(number("/publish/oldest_unpublished_seconds")),
            word("/publish/requests_in_flight"),
            word("/publish/acknowledged_at"),
        ),
    );
    for (label, line) in timeliness(page) {
        add(label, line);
    }
    let (limited, detached) = (word("/publish/shards_limited"), word("/publish/lanes_detached"));
    if limited != "0" || detached != "0" {
        add("", format!("{limited} shards limited, {detached} lanes detached"));
    }
    for finding in page.pointer("/findings").and_then(Json::as_array).into_iter().flatten() {
        let part = |name: &str| finding.get(name).and_then(Json::as_str).unwrap_or_default();
        add(part("severity"), format!("{}: {}", part("subject"), part("fact")));
        for (name, indent) in [("hint", "  "), ("command", "    ")] {
            if !part(name).is_empty() {
                add("", format!("{indent}{}", part(name)));
            }
        }
    }
    out
}

/// The age of the oldest event and the heartbeat, if they are configured.
fn timeliness(page: &Json) -> Vec<(&'static str, String)> {
    let number = |path: &str| page.pointer(path).and_then(Json::as_f64);
    let mut lines = Vec::new();
    if let (Some(lag), Some(max)) = (number("/lag/seconds"), number("/lag/max_seconds")) {
        let since = page.pointer("/lag/exceeded_at").and_then(Json::as_str);
        let state = since.map_or_else(|| "on time".to_owned(), |since| format!("catching up since {since}"));
        lines.push(("lag", format!("{}, {state}; limit {}", age(lag), age(max))));
    }
    if let Some(every) = number("/heartbeat/every_seconds") {
        let took = number("/heartbeat/loop_seconds");
        let took = took.map_or_else(|| "none published yet".to_owned(), |took| format!("loop {}", age(took)));
        lines.push(("heartbeat", format!("{took}; every {}", age(every))));
    }
    lines
}

/// A time in its two largest units.
fn age(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match time.as_secs() {
        ..60 => format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn page_is_a_line_for_each_part_and_finding() {
        let page = json!({
            "name": "lab", "version": "0.1.0", "uptime_seconds": 3_723.0, "ready": false,
            "findings": [{ "severity": "blocker", "subject": "stream", "fact": "a\u{1b}b", "hint": "Do.", "command": "x" }],
            "ingest": { "connected": true, "connected_at": "2026-10-01", "paused": false, "confirmed_lsn": "0/1" },
            "buffer": { "bytes": 1_536, "max_bytes": 1_u64 << 30, "unpublished_frames": 3,
                        "full_in_seconds": 7_300.0, "disk_full_in_seconds": null },
            "publish": { "available": true, "oldest_unpublished_seconds": 1.25, "requests_in_flight": 2,
                         "shards_limited": 1, "lanes_detached": 0, "acknowledged_at": null },
            "slot": { "retained_wal_bytes": null, "unconfirmed_wal_bytes": 5 },
            "lag": { "seconds": 400.5, "max_seconds": 300.0, "exceeded": true, "exceeded_at": "2026-10-02" },
            "heartbeat": { "every_seconds": 10.0, "loop_seconds": 1.5 },
        });
        assert_eq!(
            text(&page),
            "lab        NOT READY; Forebay 0.1.0, up 1 h 2 min\n\
             source     connected since 2026-10-01; confirmed 0/1\n\
             slot       retains unknown of WAL, 5 B of it unconfirmed\n\
             log        1.5 KiB of 1.0 GiB; 3 changes unpublished\n           \
             at the present rate the log is full in 2 h 1 min\n\
             stream     available; oldest unpublished change 1.2 s; 2 requests in flight; last acknowledged unknown\n\
             lag        6 min 40 s, catching up since 2026-10-02; limit 5 min 0 s\n\
             heartbeat  loop 1.5 s; every 10.0 s\n           \
             1 shards limited, 0 lanes detached\n\
             blocker    stream: a\\u{1b}b\n             Do.\n               x\n"
        );
        // A daemon that has just started has no facts yet.
        assert!(text(&json!({})).contains("not connected"));
    }

    #[test]
    fn daemon_on_every_address_is_reached_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:9187", "127.0.0.1:9187"), ("[::]:9187", "[::1]:9187"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(local(listen.parse().unwrap()), expected.parse().unwrap());
        }
    }
}

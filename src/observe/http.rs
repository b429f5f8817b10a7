//! The HTTP server: `/` (the status page), `/live`, `/metrics`, `/health/live`, `/health/ready`, `/status`,
//! `/events`. Listens on loopback unless configured otherwise.
//!
//! A client that reaches the port must not be able to stop the daemon. Each connection has one request
//! without a body, at most `HEADER_MAX` bytes and `HEADER_TIMEOUT` for its header, and `CONNECTION_TIMEOUT`
//! in all. There are at most `CONNECTIONS_MAX` connections: a new one closes the oldest, so that idle ones
//! cannot block a probe. File descriptors for the log and the database are reserved. No error ends the
//! server.
//!
//! `/live` lasts longer, for at most `LIVE_MAX` clients. Further ones are rejected.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::contracts;
use crate::contracts::catalog::{build, html};
use crate::contracts::lock::Lock;
use crate::diagnosis::Severity;
use crate::failure::Explain;
use crate::observe::page::{LiveBody, StatusPage};
use crate::pipeline::meters;
use crate::pipeline::status::{Report, SAMPLED_EVERY, Status};

/// Most connections at a time. Probes and scrapers need a handful.
const CONNECTIONS_MAX: u64 = 64;
/// Fewest connections, however few file descriptors there are.
const CONNECTIONS_MIN: u64 = 4;
/// Largest request line and header, in bytes.
const HEADER_MAX: usize = 8 << 10;
/// How long a client may take to send its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Most clients of `/live` at a time.
const LIVE_MAX: usize = 8;
/// How long a client of `/live` is served. A browser then reconnects by itself.
const LIVE_TIMEOUT: Duration = Duration::from_mins(10);
/// Pause after a failed accept, for instance because no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// File descriptors for the rest of the process: 64 unsynced segments, 16 requests to Kinesis, readers,
/// sessions, credentials, five runtimes, and some spare ones.
const DESCRIPTORS_RESERVED: u64 = 192;

/// A text, or the stream of live facts.
type Answer = Response<Either<String, LiveBody>>;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NO_CATALOGUE: &str = "no contracts are locked: run forebay events lock, and start again\n";

/// What the pages show.
struct Views {
    metrics: PrometheusHandle,
    status: Status,
    page: StatusPage,
    /// The event catalogue, if contracts are locked.
    catalogue: Option<String>,
    /// Cloned for each client of `/live`, to count them.
    live: Rc<()>,
}

impl Views {
    fn metrics(&self) -> String {
        meters::show(&self.status.report());
        meters::show_events(&self.status.event_counts());
        let by_hand = self
            .status
            .traffic(|traffic| meters::throttled_shards(&traffic.shards) + &meters::histograms(traffic));
        self.metrics.render() + &by_hand
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {address} (http.listen): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The metrics recorder is already installed.
    #[error("cannot install the metrics recorder: {0}")]
    Recorder(String),
}

impl Explain for HttpError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => {
                Some("Choose another address, or stop the process that uses it.".to_owned())
            }
            Self::Recorder(_) => None,
        }
    }
}

/// Binds the address and installs the metrics recorder. The returned future serves until it is dropped.
///
/// # Errors
/// See [`HttpError`].
pub fn serve(
    config: &Config,
    status: &Status,
) -> Result<impl Future<Output = Infallible> + use<>, HttpError> {
    let address = config.http.listen;
    let failed = |source| HttpError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| HttpError::Recorder(error.to_string()))?;
    meters::describe();
    let connections = connections_for(raise_descriptor_limit());
    let (page, catalogue) = (StatusPage::new(), catalogue(config));
    let views = Views { metrics, status: status.clone(), page, catalogue, live: Rc::new(()) };
    Ok(async move {
        tokio::select! {
            never = accept(&listener, connections, &views) => never,
            never = sample(&views.status) => never,
        }
    })
}

/// Takes the samples for the status page.
async fn sample(status: &Status) -> Infallible {
    let mut tick = tokio::time::interval(SAMPLED_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        status.sample();
    }
}

/// The page of `forebay events catalog`, if the configuration has contracts. It shows the contracts at the
/// start, because those are published.
fn catalogue(config: &Config) -> Option<String> {
    let lock = Lock::read(&config.events.lock_directory()).ok()??;
    let model = contracts::load(config).ok()?;
    html(&build::page(&config.name, &config.kinesis.stream, &model, &lock)).ok()
}

/// Raises the soft limit of open files to what the process may need, as far as the hard limit allows, and
/// returns it.
fn raise_descriptor_limit() -> Option<u64> {
    let needed = DESCRIPTORS_RESERVED + CONNECTIONS_MAX;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        limit.current = Some(raised);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(event = "descriptor_limit_not_raised", %error, "cannot raise the limit of open files");
        }
    }
    let current = getrlimit(Resource::Nofile).current;
    if let Some(open_files) = current.filter(|current| *current < needed) {
        tracing::warn!(
            event = "descriptor_limit_low",
            open_files,
            needed,
            hint = "Raise it with ulimit -n or LimitNOFILE=.",
            "limit of open files is low; fewer HTTP connections are accepted"
        );
    }
    current
}

/// Number of connections that leaves enough file descriptors to the log and the database.
fn connections_for(descriptors: Option<u64>) -> usize {
    let spare = descriptors.map_or(CONNECTIONS_MAX, |all| all.saturating_sub(DESCRIPTORS_RESERVED));
    usize::try_from(spare.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

/// Accepts and serves, at most `most` connections at a time.
async fn accept(listener: &TcpListener, most: usize, views: &Views) -> Infallible {
    let mut served = FuturesUnordered::new();
    // Open connections, oldest first.
    let mut open: VecDeque<(u64, AbortHandle)> = VecDeque::new();
    let mut last = 0_u64;
    loop {
        let accepted = tokio::select! {
            biased;
            Some(ended) = served.next(), if !served.is_empty() => {
                open.retain(|(number, _)| *number != ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        if open.len() >= most
            && let Some((_, oldest)) = open.pop_front()
        {
            oldest.abort();
        }
        last += 1;
        let (number, (connection, handle)) = (last, abortable(connection(stream, views)));
        open.push_back((number, handle));
        served.push(async move {
            // It does not matter whether it was closed to make room or has ended by itself.
            connection.await.unwrap_or_default();
            number
        });
    }
}

/// Serves one request.
async fn connection(stream: TcpStream, views: &Views) {
    let live = Cell::new(false);
    let service = service_fn(async |request| {
        let response = answer(&request, views);
        live.set(matches!(response.body(), Either::Right(_)));
        Ok::<_, Infallible>(response)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // Errors of a client are ignored.
    let ended = tokio::time::timeout(CONNECTION_TIMEOUT, &mut serving).await.is_ok();
    if !ended && live.get() {
        drop(tokio::time::timeout(LIVE_TIMEOUT, serving).await);
    }
}

/// The response to a request. Its body is never read.
fn answer(request: &Request<Incoming>, views: &Views) -> Answer {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    const NOT_FOUND: &str = "not found; see /, /metrics, /health/live, /health/ready, /status\n";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is allowed\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => status_page(&views.page),
        "/live" if *request.method() == Method::GET => live(views),
        "/events" => match &views.catalogue {
            Some(html) => page(StatusCode::OK, HTML, html.clone()),
            None => page(StatusCode::NOT_FOUND, TEXT, NO_CATALOGUE.to_owned()),
        },
        "/metrics" => page(
            StatusCode::OK,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
            views.metrics(),
        ),
        "/health/live" => page(StatusCode::OK, TEXT, "live\n".to_owned()),
        "/health/ready" => {
            let (status, text) = readiness(&views.status.report());
            page(status, TEXT, text)
        }
        "/status" => {
            page(StatusCode::OK, HeaderValue::from_static("application/json"), json(&views.status.report()))
        }
        _ => page(StatusCode::NOT_FOUND, TEXT, NOT_FOUND.to_owned()),
    }
}

fn status_page(shown: &StatusPage) -> Answer {
    let mut response = page(StatusCode::OK, HTML, shown.html.clone());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, shown.policy.clone());
    response
}

/// The live facts, unless too many clients receive them.
fn live(views: &Views) -> Answer {
    if Rc::strong_count(&views.live) > LIVE_MAX {
        let mut response = page(
            StatusCode::SERVICE_UNAVAILABLE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
            "too many clients have the live page open\n".to_owned(),
        );
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
        return response;
    }
    let body = LiveBody::new(views.status.clone(), Rc::clone(&views.live));
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page(status: StatusCode, content_type: HeaderValue, text: String) -> Answer {
    let mut response = Response::new(Either::Left(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether the process is ready; if not, one line for each reason.
fn readiness(report: &Report) -> (StatusCode, String) {
    if report.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let blockers = report.findings.iter().filter(|finding| finding.severity == Severity::Blocker);
    // A reason may quote a server, so line breaks are removed.
    let lines = blockers.map(|finding| format!("{}\n", finding.fact.replace(['\n', '\r'], " ")));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report);
    debug_assert!(text.is_ok(), "a report has text keys only");
    text.unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_mean_few_connections() {
        for (descriptors, connections) in
            [(None, 64), (Some(1024), 64), (Some(256), 64), (Some(200), 8), (Some(64), 4), (Some(0), 4)]
        {
            assert_eq!(connections_for(descriptors), connections, "{descriptors:?}");
        }
    }
}

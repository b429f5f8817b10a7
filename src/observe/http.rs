//! The http server: `/metrics`, `/health/live`, `/health/ready`. Listens on loopback unless told otherwise.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::pipeline::health::{self, End};
use crate::pipeline::meters;

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {address} (http.listen): {source}. Choose another address, or stop what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Metrics are installed twice.
    #[error("cannot install the metrics recorder: {0}")]
    Recorder(String),
}

/// Binds the address and installs the metrics; the future serves.
///
/// # Errors
/// See [`HttpError`].
pub fn serve(config: &Config) -> Result<impl Future<Output = std::io::Result<()>> + use<>, HttpError> {
    let address = config.http.listen;
    let failed = |source| HttpError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| HttpError::Recorder(error.to_string()))?;
    meters::describe();
    Ok(async move { axum::serve(listener, routes(metrics)).await })
}

fn routes(metrics: PrometheusHandle) -> Router {
    let ready = metrics.clone();
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
            }),
        )
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(move || async move { readiness(&ready) }))
}

/// Ready: changes are received, Kinesis takes records, and Postgres can forget. A full log alone is not "not ready", as long
/// as it drains; one that stays full makes Postgres keep its write-ahead log.
fn readiness(metrics: &PrometheusHandle) -> (StatusCode, String) {
    let rendered = metrics.render();
    let is_one = |name: &str| rendered.lines().any(|line| line.split(' ').eq([name, "1"]));
    let with_reason = |what: &str, end: End| match health::reason(end) {
        reason if reason.is_empty() => what.to_owned(),
        reason => format!("{what}: {}", reason.replace('\n', " ")),
    };
    let mut missing = Vec::new();
    if !is_one(meters::CONNECTED) {
        missing.push(with_reason("the replication stream is not open", End::Database));
    }
    if !is_one(meters::SERVICE) {
        missing.push(with_reason("Kinesis takes nothing", End::Kinesis));
    }
    if is_one(meters::HALTED) {
        missing.push("publishing stands before a record that cannot leave (on_poison = \"stop\")".to_owned());
    }
    if health::is_stuck() {
        missing.push("the log has no room, and Postgres keeps its write-ahead log".to_owned());
    }
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}

//! HTTP/1.1 around the state: reads a request whole, asks for its course, does it.
//!
//! One thread, one runtime. A client that goes away takes its request's future with it, not what the state holds.

use std::convert::Infallible;
use std::future::pending;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::Shared;
use crate::error::{ApiError, Reply};
use crate::signature;
use crate::state::{Course, Now};

/// 10 MiB of data in base64, with room for keys.
const MAX_BODY: usize = 20 << 20;

/// Why a connection ends without an answer.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scripted to give no answer")
    }
}

impl std::error::Error for NoAnswer {}

/// Serves until `stop` is dropped or sent; then every connection is closed.
pub(crate) fn serve(
    listener: StdListener,
    shared: &Arc<Shared>,
    stop: oneshot::Receiver<Infallible>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        let mut stop = stop;
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return Ok(()),
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    // A client that vanished between connecting and being accepted is no trouble of ours.
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(connection(stream, Arc::clone(shared)));
                    }
                }
            }
        }
    })
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it an answer may wait 40 ms for the client's ACK; failing costs only time.
    drop(stream.set_nodelay(true));
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| handle(request, Arc::clone(&shared), Arc::clone(&reset)));
    let mut connection =
        http1::Builder::new().max_buf_size(1 << 20).serve_connection(TokioIo::new(stream), service);
    let ended = (&mut connection).await;
    if ended.is_err() && reset.load(Ordering::Relaxed) {
        let stream = connection.into_parts().io.into_inner();
        // Closing with no linger time sends RST instead of FIN.
        drop(stream.set_zero_linger());
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    let path = parts.uri.path();
    let course = if path.starts_with("/_stub/") {
        Course::answer(Reply::from(
            shared.change(|state| state.control(parts.method.as_str(), path, &body, Now::read())),
        ))
    } else {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let operation = header("x-amz-target").and_then(|target| target.strip_prefix("Kinesis_20131202."));
        let signed = header(AUTHORIZATION.as_str()).is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 "));
        match (operation, signed, body.len() <= MAX_BODY) {
            (None, ..) => {
                Course::answer(ApiError::new(400, "UnknownOperationException", "no x-amz-target of Kinesis"))
            }
            (_, false, _) => Course::answer(ApiError::new(
                400,
                "MissingAuthenticationTokenException",
                "not signed with SigV4",
            )),
            (.., false) => {
                Course::answer(ApiError::new(413, "RequestEntityTooLargeException", "body too large"))
            }
            (Some(operation), true, true) => shared.change(|state| {
                if let Some(secret) = &state.config.secret
                    && let Err(error) = signature::check(&parts, &body, secret, state.config.time())
                {
                    state.requests.forged += 1;
                    return Course::answer(error);
                }
                header(AUTHORIZATION.as_str())
                    .and_then(access_key)
                    .unwrap_or_default()
                    .clone_into(&mut state.caller);
                state.call(operation, &body, Now::read())
            }),
        }
    };
    let ahead = shared.change(|state| (state.config.clock_ahead != 0).then(|| state.config.time()));
    let response = |reply| response(reply, ahead);
    match course {
        Course::Answer(reply, delay) => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(response(reply))
        }
        Course::Wait(reply) => reply.await.map(response).map_err(|_| NoAnswer),
        Course::Close => Err(NoAnswer),
        Course::Reset => {
            reset.store(true, Ordering::Relaxed);
            Err(NoAnswer)
        }
        Course::Hang => pending().await,
    }
}

/// The access key id of a `SigV4` header.
fn access_key(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split_once('/').map(|(id, _)| id)
}

/// The whole body; one that is too long is read no further and is longer than [`MAX_BODY`].
async fn read(mut body: Incoming) -> Result<Bytes, NoAnswer> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(expected.min(MAX_BODY));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| NoAnswer)?.into_data() {
            whole.extend_from_slice(&data);
        }
        if whole.len() > MAX_BODY {
            break;
        }
    }
    Ok(whole.freeze())
}

fn response(reply: Reply, time: Option<SystemTime>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-amz-json-1.1"));
    headers.insert(
        "x-amzn-requestid",
        hyper::header::HeaderValue::from_static("00000000-0000-0000-0000-000000000000"),
    );
    // Else hyper writes this machine's.
    if let Some(date) = time.and_then(|time| httpdate::fmt_http_date(time).parse().ok()) {
        headers.insert(DATE, date);
    }
    if let Some(kind) = reply.error.and_then(|kind| kind.parse().ok()) {
        headers.insert("x-amzn-errortype", kind);
    }
    response
}

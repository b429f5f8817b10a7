//! `PutRecords` over connections of our own: signs and sends the request, and reads the response.
//!
//! The SDK spends several hundred microseconds on a request, nearly all of it on work that is the same for
//! each put. It is still used to resolve addresses and to find credentials. Neither happens during a put.

use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::Credentials as Identity;
use aws_smithy_async::time::TimeSource as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tokio::time::Instant;

use super::address::{AddressRules, ServiceAddress};
use super::clock::ServiceClock;
use super::connect::{ConnectError, Dialer};
use super::credentials::Credentials;
use super::pool::{ExchangeError, HttpConnection, Pool, PutRequest, PutResponse};
use super::sign::{self, DayKey, SignedParts, sign};

/// Value of the header `x-amz-target`.
const PUT_RECORDS: &str = "Kinesis_20131202.PutRecords";

/// Why a put has no response.
#[derive(Debug)]
pub(super) enum SendError {
    /// There are no credentials to sign with.
    Credentials(String),
    /// There is no address, or a value does not fit into a request.
    Request(String),
    /// No connection could be opened.
    Connect(ConnectError),
    /// The connection broke while the request was in flight.
    Broken(String),
}

/// Parts of a request that change only when the credentials do.
#[derive(Debug)]
struct SigningSession {
    identity: Identity,
    address: Arc<ServiceAddress>,
    token: Option<HeaderValue>,
    key: Mutex<Option<DayKey>>,
}

/// Sends puts.
#[derive(Debug)]
pub(super) struct PutClient {
    pub(super) credentials: Credentials,
    pub(super) clock: ServiceClock,
    pub(super) rules: AddressRules,
    pub(super) region: String,
    pub(super) agent: HeaderValue,
    pub(super) dialer: Dialer,
    pub(super) pool: Pool,
    session: Mutex<Option<Arc<SigningSession>>>,
}

/// What a client is made of.
#[derive(Debug)]
pub(super) struct PutClientParts {
    pub(super) credentials: Credentials,
    pub(super) clock: ServiceClock,
    pub(super) rules: AddressRules,
    pub(super) region: String,
    /// The application id that the AWS environment sets.
    pub(super) app: Option<String>,
    pub(super) dialer: Dialer,
}

impl PutClient {
    pub(super) fn new(parts: PutClientParts) -> Self {
        let PutClientParts { credentials, clock, rules, region, app, dialer } = parts;
        let app = app.map(|app| format!(" app/{app}")).unwrap_or_default();
        let agent = HeaderValue::try_from(format!("forebay/{}{app}", env!("CARGO_PKG_VERSION")));
        let agent = agent.unwrap_or(HeaderValue::from_static("forebay"));
        let (pool, session) = (Pool::default(), Mutex::new(None));
        Self { credentials, clock, rules, region, agent, dialer, pool, session }
    }

    /// Sends a body once, and reads the response.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn put_records(&self, body: Bytes) -> Result<PutResponse, SendError> {
        let identity = self.credentials.identity().await.map_err(SendError::Credentials)?;
        let session = self.session(identity).await.map_err(SendError::Request)?;
        let mut kept = self.pool.take(&session.address).await;
        loop {
            let was_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(&session.address).await?,
            };
            let request = self.request(&session, body.clone()).map_err(SendError::Request)?;
            match connection.exchange(request).await {
                Ok(response) => {
                    self.pool.give(connection).await;
                    return Ok(response);
                }
                // Nothing was written, because the server closed the connection while it was idle. Another
                // one is used.
                Err(ExchangeError::Unsent) if was_kept => kept = self.pool.take(&session.address).await,
                Err(ExchangeError::Unsent) => {
                    return Err(SendError::Broken("the connection was closed".to_owned()));
                }
                Err(ExchangeError::Broken(why)) => return Err(SendError::Broken(why)),
            }
        }
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn prune(&self) {
        self.pool.prune(Instant::now());
    }

    async fn connect(&self, address: &Arc<ServiceAddress>) -> Result<HttpConnection, SendError> {
        let stream = self.dialer.connect(address).await.map_err(SendError::Connect)?;
        let connection = HttpConnection::new(stream, Arc::clone(address)).await;
        connection.map_err(|error| SendError::Broken(error.to_string()))
    }

    async fn session(&self, identity: Identity) -> Result<Arc<SigningSession>, String> {
        let kept = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = kept.filter(|session| session.identity == identity) {
            return Ok(session);
        }
        let account = identity.account_id().map(|id| id.as_str().to_owned());
        let address = Arc::new(self.rules.resolve(account.as_deref()).await?);
        let token = match identity.session_token().map(HeaderValue::from_str).transpose() {
            Ok(token) => token.map(|mut token| {
                token.set_sensitive(true);
                token
            }),
            Err(_) => return Err("the session token has a character that cannot be sent".to_owned()),
        };
        let session = Arc::new(SigningSession { identity, address, token, key: Mutex::default() });
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        Ok(session)
    }

    fn request(&self, session: &SigningSession, body: Bytes) -> Result<PutRequest, String> {
        let address = &session.address;
        let parts = SignedParts {
            region: &self.region,
            host: address.host.to_str().map_err(|error| error.to_string())?,
            path: &address.signed_path,
            operation: PUT_RECORDS,
        };
        let mut key = session.key.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = sign(parts, &session.identity, &mut key, (&body, self.clock.now()));
        drop(key);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address.path.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, address.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(sign::CONTENT_TYPE));
        headers.insert("x-amz-target", HeaderValue::from_static(PUT_RECORDS));
        headers.insert(USER_AGENT, self.agent.clone());
        if let Some(token) = &session.token {
            headers.insert("x-amz-security-token", token.clone());
        }
        let unfit = |_| "the access key id has a character that cannot be sent".to_owned();
        headers.insert("x-amz-date", signature.date.try_into().map_err(unfit)?);
        let mut authorization = HeaderValue::try_from(signature.authorization).map_err(unfit)?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(request)
    }
}

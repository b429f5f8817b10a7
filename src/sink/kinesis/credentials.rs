//! Credentials for signing requests, from the AWS environment.
//!
//! One task looks them up before they expire, so a slow or unavailable provider delays no request while the
//! current ones are valid. There is at most one look-up at a time, and a pause after each that brought
//! nothing new.
//!
//! The SDK reads profiles and files once and keeps credentials without an expiry, so replaced credentials
//! would need a restart. Here, a rejection by the service starts another look-up.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::{
    Credentials as Signer, ProvideCredentials, SharedCredentialsProvider, SharedHttpClient,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::Backoff;

use super::connect::chain;
use super::environment::missing_credentials;
use super::network::fits_header;

/// Credentials are renewed this long before they expire, if their lifetime is longer.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// Credentials without an expiry are looked up again after this time, as the SDK does.
const LOOK_AGAIN: Duration = Duration::from_mins(15);
/// Time limit of a look-up. A credential process that waits for a person cannot serve a daemon.
const LOOK_MAX: Duration = Duration::from_secs(15);
/// Shortest and longest pause after look-ups that brought nothing new.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The credentials that all requests share.
#[derive(Clone)]
pub(super) struct Credentials(Arc<Shared>);

struct Shared {
    http: SharedHttpClient,
    region: Region,
    use_fips: Option<bool>,
    use_dual_stack: Option<bool>,
    state: Mutex<State>,
    /// Wakes the task before its look-up is due.
    wake: Arc<Notify>,
    /// Number of look-ups that have ended.
    looked: watch::Sender<u64>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Does not start a look-up yet.
    pub(super) fn new(http: SharedHttpClient, region: Region, shared: &SdkConfig) -> Self {
        Self(Arc::new(Shared {
            http,
            region,
            use_fips: shared.use_fips(),
            use_dual_stack: shared.use_dual_stack(),
            state: Mutex::new(State::new(Instant::now())),
            wake: Arc::new(Notify::new()),
            looked: watch::Sender::new(0),
        }))
    }

    /// Notes that the service rejected the credentials, so that they are looked up again.
    pub(super) fn distrust(&self) {
        self.0.state().distrust(Instant::now());
        self.0.wake.notify_one();
    }

    /// Credentials for our own signatures. Waits until valid ones are found.
    ///
    /// # Errors
    /// Why none are found.
    pub(super) async fn identity(&self) -> Result<Signer, String> {
        let ready = self.0.state().usable(Instant::now(), SystemTime::now());
        match ready {
            Usable::Signer(signer) => Ok(signer),
            Usable::Wait | Usable::Failed(_) => {
                Arc::clone(&self.0).provide().await.map_err(|error| chain(&error))
            }
        }
    }

    /// The same credentials for the SDK.
    pub(super) fn provider(&self) -> SharedCredentialsProvider {
        let shared = Arc::clone(&self.0);
        SharedCredentialsProvider::new(provide_credentials_fn(move || {
            let shared = Arc::clone(&shared);
            async move { shared.provide().await }
        }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn provide(self: Arc<Self>) -> Result<Signer, CredentialsError> {
        let mut looked = self.looked.subscribe();
        if self.state().begin() {
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends with the credentials, and nothing waits for it at a stop"
            )]
            drop(tokio::spawn(renew(Arc::downgrade(&self), Arc::clone(&self.wake))));
        }
        loop {
            match self.state().usable(Instant::now(), SystemTime::now()) {
                Usable::Signer(signer) => return Ok(signer),
                Usable::Failed(error) => return Err(CredentialsError::provider_error(error)),
                Usable::Wait => {}
            }
            // While it waits, the task holds no reference, and the sender lives as long as `self`.
            if looked.changed().await.is_err() {
                return Err(CredentialsError::not_loaded("nobody looks for credentials any more"));
            }
        }
    }

    async fn look(&self) -> Result<Signer, String> {
        // A new chain for each look-up, because a chain keeps the profile files that it has read.
        let environment = ProviderConfig::default()
            .with_region(Some(self.region.clone()))
            .with_use_fips(self.use_fips)
            .with_use_dual_stack(self.use_dual_stack)
            .with_http_client(self.http.clone());
        let mut chain = DefaultCredentialsChain::builder().configure(environment);
        chain.set_region(Some(self.region.clone()));
        let look = async { chain.build().await.provide_credentials().await };
        match timeout(LOOK_MAX, look).await {
            Ok(Ok(signer)) => sendable(&signer),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("the source of credentials has not responded within {LOOK_MAX:?}")),
        }
    }
}

/// The task: looks up credentials whenever that is due, as long as a client exists.
async fn renew(shared: Weak<Shared>, wake: Arc<Notify>) {
    while let Some(shared_) = shared.upgrade() {
        let due = shared_.state().due;
        if due <= Instant::now() {
            shared_.state().is_looking = true;
            let found = shared_.look().await;
            shared_.state().looked(found, Instant::now(), SystemTime::now());
            shared_.looked.send_modify(|looked| *looked += 1);
            continue;
        }
        drop(shared_);
        tokio::select! {
            () = sleep_until(due) => {}
            () = wake.notified() => {}
        }
    }
}

/// The current credentials, and when to look them up. Does no I/O; the time is a parameter.
struct State {
    signer: Option<Signer>,
    /// Why the last look-up failed.
    error: Option<String>,
    /// Whether the service has rejected them.
    is_distrusted: bool,
    has_begun: bool,
    is_looking: bool,
    /// When the next look-up is due.
    due: Instant,
    /// When the last look-up ended.
    last: Option<Instant>,
    backoff: Backoff,
}

/// What a request can use.
#[derive(Debug)]
enum Usable {
    Signer(Signer),
    /// Nothing yet: a look-up runs or is about to begin.
    Wait,
    Failed(String),
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            signer: None,
            error: None,
            is_distrusted: false,
            has_begun: false,
            is_looking: false,
            due: now,
            last: None,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
        }
    }

    /// Marks the task as started. Returns whether the caller must start it.
    const fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    fn usable(&self, now: Instant, clock: SystemTime) -> Usable {
        let will_look = self.is_looking || self.due <= now;
        let good = self.signer.as_ref().filter(|signer| is_good(signer.expiry(), clock));
        match (good, &self.error) {
            (Some(signer), _) if !(self.is_distrusted && will_look) => Usable::Signer(signer.clone()),
            (None, Some(error)) if !will_look => Usable::Failed(error.clone()),
            // Neither credentials nor an error are known: the look-up is not finished.
            _ => Usable::Wait,
        }
    }

    fn distrust(&mut self, now: Instant) {
        if self.is_distrusted {
            return;
        }
        self.is_distrusted = true;
        // Credentials that are rejected repeatedly are not looked up for each request.
        let pause = if self.backoff.failures() == 0 { PAUSE_MIN } else { PAUSE_MAX };
        self.due = self.last.map_or(now, |last| (last + pause).max(now)).min(self.due.max(now));
    }

    fn looked(&mut self, found: Result<Signer, String>, now: Instant, clock: SystemTime) {
        self.is_looking = false;
        self.last = Some(now);
        let found = found.and_then(|signer| match signer.expiry() {
            Some(expiry) if expiry <= clock => {
                Err("the source gives credentials that have expired".to_owned())
            }
            _ => Ok(signer),
        });
        let was_distrusted = std::mem::take(&mut self.is_distrusted);
        match found {
            Ok(signer) => {
                let same = |old: &Signer| {
                    old.access_key_id() == signer.access_key_id()
                        && old.session_token() == signer.session_token()
                };
                let is_new = !self.signer.as_ref().is_some_and(same);
                if was_distrusted && !is_new {
                    // The next rejection starts a look-up, but only after a pause.
                    self.backoff.failed();
                } else {
                    if self.error.is_some() {
                        tracing::info!(event = "credentials_renewed", "credentials renewed");
                    }
                    self.backoff.reset();
                }
                self.due = now + renew_in(signer.expiry(), clock);
                self.error = None;
                self.signer = Some(signer);
            }
            Err(error) => {
                let pause = self.backoff.failed();
                self.due = now + pause;
                if self.backoff.failures().is_power_of_two()
                    && let Some(signer) = &self.signer
                {
                    let left = signer.expiry().and_then(|expiry| expiry.duration_since(clock).ok());
                    tracing::warn!(
                        event = "credentials_not_renewed",
                        error,
                        expires_in = left.map(tracing::field::debug),
                        retry_in = ?pause,
                        "credentials cannot be renewed; the ones at hand stay in use until they expire"
                    );
                }
                self.error = Some(error);
            }
        }
    }
}

/// Time until credentials are looked up again. Short-lived ones are used for half of their remaining time.
fn renew_in(expiry: Option<SystemTime>, now: SystemTime) -> Duration {
    let Some(expiry) = expiry else { return LOOK_AGAIN };
    let left = expiry.duration_since(now).unwrap_or_default();
    match left.checked_sub(RENEW_BEFORE) {
        Some(early) if early > RENEW_BEFORE => early,
        _ => (left / 2).max(PAUSE_MIN),
    }
}

/// Whether credentials with this expiry are still valid.
fn is_good(expiry: Option<SystemTime>, now: SystemTime) -> bool {
    expiry.is_none_or(|expiry| expiry > now)
}

/// The credentials without leading and trailing white space, which files and secrets often have. The SDK
/// would panic on it.
fn sendable(signer: &Signer) -> Result<Signer, String> {
    let (id, secret) = (signer.access_key_id().trim(), signer.secret_access_key().trim());
    let token = signer.session_token().map(str::trim).filter(|token| !token.is_empty());
    for (part, value) in
        [("access key id", id), ("secret access key", secret), ("session token", token.unwrap_or("-"))]
    {
        let why = match value {
            "" => "is empty",
            value if !fits_header(value) => "has a character that cannot be sent, such as a line end",
            _ => continue,
        };
        return Err(format!("the {part} from {} {why}; correct it there", source_of(signer)));
    }
    let mut made = Signer::builder()
        .access_key_id(id)
        .secret_access_key(secret)
        // The SDK requires a literal here. Our own errors name the real provider.
        .provider_name("forebay");
    made.set_session_token(token.map(str::to_owned));
    made.set_expiry(signer.expiry());
    made.set_account_id(signer.account_id().cloned());
    Ok(made.build())
}

/// The provider of the credentials as the SDK names it. Only the `Debug` output has that name (without the
/// secret).
fn source_of(signer: &Signer) -> String {
    let shown = format!("{signer:?}");
    let name = shown.split_once("provider_name: \"").and_then(|(_, rest)| rest.split('"').next());
    match name {
        Some("EnvironmentVariable") => {
            "the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN".to_owned()
        }
        Some("ProfileFile") => "the AWS profile".to_owned(),
        Some("CredentialProcess") => "the credential_process of the AWS profile".to_owned(),
        Some("EcsContainer") => "the container's credentials endpoint".to_owned(),
        Some("IMDSv2") => "the instance's metadata service".to_owned(),
        Some(name) => name.to_owned(),
        None => "the AWS environment".to_owned(),
    }
}

/// Why a look-up failed, and what in the environment explains it.
fn explain(error: &CredentialsError) -> String {
    let mut text = chain(error);
    if text.contains("cargo feature") {
        text.push_str("; this kind of AWS profile is not supported");
    }
    match missing_credentials() {
        Some(reason) => format!("{reason} ({text})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(id: &str, expiry: Option<SystemTime>) -> Signer {
        Signer::new(id, "secret", None, expiry, "EcsContainer")
    }

    fn id(usable: &Usable) -> &str {
        match usable {
            Usable::Signer(signer) => signer.access_key_id(),
            Usable::Wait => "wait",
            Usable::Failed(_) => "failed",
        }
    }

    #[test]
    fn credentials_are_renewed_ahead_of_their_end() {
        let now = SystemTime::now();
        for (left, renewed) in [(3_600, 3_300), (601, 301), (600, 300), (100, 50), (1, 1), (0, 1)] {
            let expiry = Some(now + Duration::from_secs(left));
            assert_eq!(renew_in(expiry, now), Duration::from_secs(renewed), "{left}");
        }
        assert_eq!(renew_in(None, now), LOOK_AGAIN);
    }

    #[test]
    fn good_credentials_outlive_failing_look_ups() {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut state = State::new(now);
        assert_eq!(id(&state.usable(now, clock)), "wait", "the first look-up");
        state.looked(Ok(signer("A", Some(clock + Duration::from_secs(100)))), now, clock);
        let later = |seconds| (now + Duration::from_secs(seconds), clock + Duration::from_secs(seconds));
        let (at, wall) = later(60);
        state.is_looking = true;
        assert_eq!(id(&state.usable(at, wall)), "A", "a look-up that hangs delays nobody");
        state.looked(Err("gone".to_owned()), at, wall);
        let (at, wall) = later(99);
        assert_eq!(id(&state.usable(at, wall)), "A");
        let (at, wall) = later(100);
        assert_eq!(id(&state.usable(at, wall)), "wait", "expired, and a look-up is due");
        state.looked(Err("gone".to_owned()), at, wall);
        assert_eq!(id(&state.usable(at, wall)), "failed", "until the next one");
        state.looked(Ok(signer("B", Some(wall))), at, wall);
        assert_eq!(id(&state.usable(at, wall)), "failed", "expired ones are none");
    }

    #[test]
    fn refused_credentials_are_looked_for_with_pauses() {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut state = State::new(now);
        state.looked(Ok(signer("A", None)), now, clock);
        let minute = now + Duration::from_mins(1);
        state.distrust(minute);
        assert_eq!(id(&state.usable(minute, clock)), "wait", "looked for at once");
        state.looked(Ok(signer("A", None)), minute, clock);
        state.distrust(minute);
        assert_eq!(
            id(&state.usable(minute, clock)),
            "A",
            "the same credentials again: they are used until the pause is over"
        );
        assert_eq!(state.due, minute + PAUSE_MAX);
        state.looked(Ok(signer("B", None)), state.due, clock);
        assert_eq!(id(&state.usable(state.due - PAUSE_MIN, clock)), "B");
        assert_eq!(state.backoff.failures(), 0);
    }

    #[test]
    fn credentials_are_trimmed_or_refused_with_their_source() {
        let made =
            sendable(&Signer::new("AKID\n", "secret\r\n", Some("token\r".to_owned()), None, "x")).unwrap();
        assert_eq!((made.access_key_id(), made.secret_access_key()), ("AKID", "secret"));
        assert_eq!(made.session_token(), Some("token"));
        for (id, token) in [("AK\nID", None), ("AKID\u{c4}", None), ("", None), ("AKID", Some("to\u{0}ken"))]
        {
            let given = Signer::new(id, "secret", token.map(str::to_owned), None, "EcsContainer");
            let error = sendable(&given).unwrap_err();
            assert!(error.contains("the container's credentials endpoint"), "{error}");
        }
    }
}

//! What requests are signed with, from the AWS environment: kept while it is good, looked for again when the service says it
//! is not.
//!
//! The SDK reads profiles and files once and keeps what has no expiry. Credentials that a person or another process renews in
//! place would then need a restart; here a refusal makes the next request look again. One look at a time, and what is still
//! good is used when a look fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_sdk_kinesis::config::{
    Credentials as Signer, ProvideCredentials, SharedCredentialsProvider, SharedHttpClient,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Credentials that end are renewed this long before.
const RENEW_BEFORE: Duration = Duration::from_mins(2);
/// Credentials without an end are looked for again after this long, as the SDK does.
const LOOK_AGAIN: Duration = Duration::from_mins(15);

/// Shared by all requests.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    http: SharedHttpClient,
    region: Option<Region>,
    /// The last ones, and when they were found.
    found: Mutex<Option<(Signer, Instant)>>,
    distrusted: AtomicBool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Looks for nothing yet.
    pub fn new(http: SharedHttpClient, region: Option<Region>) -> Self {
        Self(Arc::new(Shared { http, region, found: Mutex::new(None), distrusted: AtomicBool::new(false) }))
    }

    /// The service does not take them: the next request looks again.
    pub fn distrust(&self) {
        self.0.distrusted.store(true, Ordering::Relaxed);
    }

    /// For the SDK.
    pub fn provider(&self) -> SharedCredentialsProvider {
        let shared = Arc::clone(&self.0);
        SharedCredentialsProvider::new(provide_credentials_fn(move || {
            let shared = Arc::clone(&shared);
            async move {
                let mut found = shared.found.lock().await;
                let distrusted = shared.distrusted.swap(false, Ordering::Relaxed);
                if let Some((signer, since)) = found.as_ref()
                    && !distrusted
                    && is_fresh(signer.expiry(), since.elapsed(), SystemTime::now())
                {
                    return Ok(signer.clone());
                }
                let environment = ProviderConfig::default()
                    .with_region(shared.region.clone())
                    .with_http_client(shared.http.clone());
                let mut chain = DefaultCredentialsChain::builder().configure(environment);
                chain.set_region(shared.region.clone());
                match (chain.build().await.provide_credentials().await, found.as_ref()) {
                    (Ok(signer), _) => {
                        *found = Some((signer.clone(), Instant::now()));
                        Ok(signer)
                    }
                    (Err(_), Some((signer, _))) if is_good(signer.expiry(), SystemTime::now()) => {
                        Ok(signer.clone())
                    }
                    (Err(error), _) => Err(error),
                }
            }
        }))
    }
}

/// Whether nothing better is to be looked for.
fn is_fresh(expiry: Option<SystemTime>, age: Duration, now: SystemTime) -> bool {
    match expiry {
        Some(expiry) => is_good(Some(expiry), now + RENEW_BEFORE),
        None => age < LOOK_AGAIN,
    }
}

/// Whether they have not ended.
fn is_good(expiry: Option<SystemTime>, now: SystemTime) -> bool {
    expiry.is_none_or(|expiry| expiry > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_looked_for_again_before_they_end() {
        let now = SystemTime::now();
        let ends_in = |seconds| Some(now + Duration::from_secs(seconds));
        for (expiry, fresh, good) in [
            (ends_in(3600), true, true),
            (ends_in(60), false, true),
            (ends_in(0), false, false),
            (None, true, true),
        ] {
            assert_eq!(
                (is_fresh(expiry, Duration::ZERO, now), is_good(expiry, now)),
                (fresh, good),
                "{expiry:?}"
            );
        }
        assert!(!is_fresh(None, LOOK_AGAIN, now) && is_fresh(ends_in(3600), LOOK_AGAIN, now));
    }
}

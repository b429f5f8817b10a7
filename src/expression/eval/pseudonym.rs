//! The value of `hmac()`. docs/EVENTS.md describes how others can compute it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;

use super::super::fault::{Computed, NO_KEY};
use super::super::row::Macs;
use super::super::tree::Datum;

/// Bytes of the digest that are published. 128 bits make a chance collision negligible.
const PSEUDONYM: usize = 16;

/// The pseudonym of a text in a domain. NULL if it uses the previous key and there is none.
pub(super) fn made<'a>(text: &str, macs: &Macs, domain: &str, previous: bool) -> Computed<Datum<'a>> {
    let mac = if previous { &macs.previous } else { &macs.current };
    let mut mac = match mac {
        Some(mac) => mac.clone(),
        None if previous => return Ok(Datum::Null),
        None => return Err(NO_KEY),
    };
    if !domain.is_empty() {
        mac.update(domain.as_bytes());
        // The separator: PostgreSQL's texts cannot contain this byte.
        mac.update(b"\0");
    }
    mac.update(text.as_bytes());
    let digest = mac.finalize().into_bytes();
    let text = format!("p_{}", URL_SAFE_NO_PAD.encode(digest.get(..PSEUDONYM).unwrap_or(&digest)));
    Ok(Datum::Text(Cow::Owned(text)))
}

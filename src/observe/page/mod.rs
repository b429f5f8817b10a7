//! The status page at `/`: one self-contained page, and the live facts that it displays, as server-sent
//! events at `/live`.
//!
//! The page loads nothing from other servers. Its Content-Security-Policy allows exactly its own style and
//! script, and a connection to this server. All facts arrive as JSON and are set as text, so nothing in them
//! is ever interpreted as markup.

mod advice;
mod live;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

pub(super) use self::live::LiveBody;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, rendered once.
#[derive(Clone, Debug)]
pub(super) struct StatusPage {
    /// Its HTML.
    pub(super) html: String,
    /// Its Content-Security-Policy.
    pub(super) policy: HeaderValue,
}

impl StatusPage {
    pub(super) fn new() -> Self {
        let (style, script) = (STYLE.trim(), SCRIPT.trim());
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src \
             data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(style),
            hash(script)
        );
        Self {
            html: TEMPLATE.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script),
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

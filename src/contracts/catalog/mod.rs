//! The catalogue: one HTML page for the consumers of the stream. It loads nothing, so it opens from a file or
//! any bucket. It can be read without JavaScript, and equal contracts give equal bytes.
//!
//! Rules and column comments are untrusted input: the template escapes every text, and the page's
//! Content-Security-Policy allows exactly its own style and script.

pub mod build;
pub mod differences;
mod fields;
mod outboxes;
pub mod view;
pub mod words;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior, context};
use sha2::{Digest as _, Sha256};

use self::view::Page;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page as HTML.
///
/// # Errors
/// The template uses a name that the page lacks. That is a bug, which every test that renders a page finds.
pub fn html(page: &Page) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The file extension enables HTML escaping.
    environment.add_template("page.html", TEMPLATE)?;
    let (style, script) = (STYLE.trim(), SCRIPT.trim());
    environment.get_template("page.html")?.render(context! {
        page => Value::from(Serde(page)),
        version => env!("CARGO_PKG_VERSION"),
        style => style,
        style_hash => hash(style),
        script => script,
        script_hash => hash(script),
    })
}

/// The hash of an inline text for a Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests;

//! The catalogue: one page for the people who read the stream. It is self-contained (nothing is loaded, so it opens from
//! a file and from any bucket), can be read without JavaScript, and is the same bytes for the same contracts.
//!
//! Rules and comments of columns are input: every text goes through the template's escaping, and the page's own
//! Content-Security-Policy allows exactly the style and the script that are written here.

pub mod build;
pub mod differences;
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
/// The template names what the page does not have: a mistake of ours, found by every test that writes a page.
pub fn html(page: &Page) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The name's end decides that everything is escaped as HTML.
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

/// What a Content-Security-Policy calls an inline text.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests;

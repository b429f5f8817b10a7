//! The texts of a configuration that `forebay init` writes.

use std::fmt::Write as _;

use crate::config::TableName;
use crate::config::units::ByteAmount;
use crate::json;
use crate::source::postgres::publication::survey::SurveyedTable;

/// Most characters of `name`.
pub(super) const NAME_MAX: usize = 40;

/// Whether the name has a form in the configuration.
pub(super) fn is_writable(name: &TableName) -> bool {
    TableName::parse(&name.to_string()).is_ok_and(|parsed| parsed == *name)
}

/// Key, size and rate of change of a table, for a comment.
pub(super) fn facts(table: &SurveyedTable, counted_for: u64) -> String {
    let key =
        if table.key.is_empty() { "no key".to_owned() } else { format!("key {}", table.key.join(", ")) };
    let identity = if table.is_full { ", REPLICA IDENTITY FULL" } else { "" };
    let a_day = table.changes.saturating_mul(86_400) / counted_for.max(86_400);
    format!("{key}{identity}; {} rows, {}; {a_day} changes a day", table.rows, ByteAmount(table.bytes))
}

/// A comment of one line, whatever the text contains.
pub(super) fn comment(text: &str) -> String {
    let mut line = "# ".to_owned();
    let written = write!(line, "{}", crate::visible::visible(text));
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    line
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = Vec::new();
    json::write_string(&mut quoted, text);
    // JSON does not escape DEL, but TOML requires it.
    String::from_utf8_lossy(&quoted).replace('\u{7f}', "\\u007F")
}

/// A name for the configuration: lower-case letters, digits and underscores, beginning with a letter.
pub(super) fn name_of(database: &str) -> String {
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = database.chars().map(fitting).collect();
    let first = name.find(|c: char| c.is_ascii_lowercase());
    let name = first.and_then(|at| name.get(at..)).unwrap_or("db");
    name.chars().take(NAME_MAX).collect()
}

/// The URL without its password.
pub(super) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let address = match address.split_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => address.to_owned(),
    };
    let is_secret =
        |pair: &&str| ["password", "sslpassword"].contains(&pair.split('=').next().unwrap_or_default());
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_secret(pair)).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("{scheme}://{address}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_made_of_the_database() {
        for (database, name) in
            [("lab", "lab"), ("My-Shop", "my_shop"), ("2nd", "nd"), ("表", "db"), ("", "db")]
        {
            assert_eq!(name_of(database), name);
        }
        assert_eq!(name_of(&"x".repeat(63)).len(), 40);
    }
}

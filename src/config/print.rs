//! `forebay config`: what is in force, as a file that could be used again, without its secrets.

use std::fmt;

use super::units::{Size, Span};
use super::{Config, ConfirmAfter, OnPoison, Pack};

/// A text as a TOML basic string: the JSON form of a string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// The URL with its password, in the user part or as a parameter, replaced.
fn without_password(url: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, None), |(head, query)| (head, Some(query)));
    let first = query.and_then(|query| query.split(['&', '=']).next()).unwrap_or_default();
    if !head.contains('@') && first.contains('@') {
        // A password with a `?` that is not escaped: where it ends is anybody's guess.
        return "(hidden)".to_owned();
    }
    let authority = head.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = head.split_at_checked(authority).unwrap_or(("", head));
    let shown = match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:(hidden)"));
            format!("{scheme}{user}@{host}")
        }
        None => format!("{scheme}{rest}"),
    };
    let Some(query) = query else { return shown };
    let hide = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=(hidden)"),
        _ => parameter.to_owned(),
    };
    format!("{shown}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = {}", quoted(&self.name))?;
        let on_poison = if self.on_poison == OnPoison::Stop { "stop" } else { "quarantine" };
        writeln!(f, "on_poison = {}", quoted(on_poison))?;
        self.print_source(f)?;
        writeln!(f, "\n[kinesis]\nstream = {}", quoted(&self.kinesis.stream))?;
        match &self.kinesis.region {
            Some(region) => writeln!(f, "region = {}", quoted(region))?,
            None => writeln!(f, "# region: from the AWS environment")?,
        }
        if let Some(endpoint) = &self.kinesis.endpoint {
            writeln!(f, "endpoint = {}", quoted(endpoint))?;
        }
        let pack = if self.kinesis.pack == Pack::Lines { "lines" } else { "off" };
        writeln!(f, "pack = {}", quoted(pack))?;
        writeln!(f, "\n[buffer]\ndir = {}", quoted(&self.buffer.dir.to_string_lossy()))?;
        writeln!(f, "max_size = {}", quoted(&Size(self.buffer.max_size).to_string()))?;
        match self.buffer.confirm_after_written {
            Some(ConfirmAfter::Never) => writeln!(f, "confirm_after = \"never\"")?,
            Some(ConfirmAfter::Waited(time)) => {
                writeln!(f, "confirm_after = {}", quoted(&Span(time).to_string()))?;
            }
            None => writeln!(f, "# confirm_after: \"5s\" on a disk, \"never\" on tmpfs or overlay")?,
        }
        writeln!(f, "\n[http]\nlisten = {}", quoted(&self.http.listen.to_string()))?;
        writeln!(f, "\n[tables]\ninclude = {}", list(&self.tables.include))?;
        writeln!(f, "exclude = {}\ndrop = {}", list(&self.tables.exclude), list(&self.tables.drop))?;
        self.print_events(f)?;
        let format = if self.log.json { "json" } else { "human" };
        write!(f, "\n[log]\nformat = {}\nfilter = {}", quoted(format), quoted(&self.log.filter))
    }
}

impl Config {
    fn print_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[events]")?;
        match &self.events.rules {
            Some(rules) => writeln!(f, "rules = {}", quoted(rules))?,
            None => writeln!(f, "# rules: none")?,
        }
        writeln!(f, "automatic = {}", quoted(self.events.automatic.as_str()))?;
        writeln!(f, "lock = {}", quoted(&self.events.lock))?;
        if let Some(schemas) = &self.events.schemas {
            writeln!(f, "schemas = {}", quoted(schemas))?;
        }
        writeln!(f, "\n[pii]\ncolumns = {}", list(&self.pii.columns))?;
        if self.pii.hmac_key.is_some() {
            writeln!(f, "hmac_key = \"(hidden)\"")?;
        }
        match &self.pii.hmac_key_file {
            Some(file) => writeln!(f, "hmac_key_file = {}", quoted(&file.to_string_lossy())),
            None => Ok(()),
        }
    }

    fn print_source(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[source]\nurl = {}", quoted(&without_password(self.source.url.expose())))?;
        if self.source.password.is_some() {
            writeln!(f, "password = \"(hidden)\"")?;
        }
        if let Some(file) = &self.source.password_file {
            writeln!(f, "password_file = {}", quoted(&file.to_string_lossy()))?;
        }
        writeln!(f, "slot = {}", quoted(&self.source.slot))?;
        writeln!(f, "publication = {}", quoted(&self.source.publication))?;
        match &self.source.tables {
            Some(tables) => writeln!(f, "tables = {}", list(tables))?,
            None => writeln!(f, "# tables: every table with a key")?,
        }
        writeln!(f, "epoch = {}", self.source.epoch)?;
        writeln!(f, "max_row_size = {}", quoted(&Size(self.source.max_row_size).to_string()))?;
        writeln!(f, "failover = {}", self.source.failover)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_never_printed() {
        for (url, shown) in [
            ("postgres://u:p%40ss@h/d", "postgres://u:(hidden)@h/d"),
            ("postgres://u:p@ss@h/d", "postgres://u:(hidden)@h/d"),
            (
                "postgres://u@h/d?sslmode=require&password=x",
                "postgres://u@h/d?sslmode=require&password=(hidden)",
            ),
            ("postgres://h/d?sslpassword=x", "postgres://h/d?sslpassword=(hidden)"),
            ("postgres:///d", "postgres:///d"),
            ("postgres://u:p?ss@h/d", "(hidden)"),
            ("postgres://h/d?user=a@b", "postgres://h/d?user=a@b"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}

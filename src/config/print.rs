//! `forebay config`: the effective configuration as a valid file, without secrets.

use std::fmt::{self, Write as _};

use super::units::{Size, Span};
use crate::visible::visible;

use super::{Config, ConfirmAfter, OnPoison, Pack, Polling, PollingStart};

/// A TOML basic string: a JSON string in which invisible characters are escaped with TOML's escapes.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut toml = String::with_capacity(json.len());
    for character in json.chars() {
        if visible(character.encode_utf8(&mut [0; 4])).len() == character.len_utf8() {
            toml.push(character);
        } else {
            let written = write!(toml, "\\U{:08X}", u32::from(character));
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    toml
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// Parameters whose values are shown.
const SHOWN: [&str; 13] = [
    "host",
    "port",
    "user",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "require_auth",
    "application_name",
    "connect_timeout",
    "passfile",
];
/// Parameters whose values are hidden. The names of all others are hidden too: they may be the rest of a
/// password.
const NAMED: [&str; 3] = ["password", "sslpassword", "options"];
/// Shown in place of a secret.
const HIDDEN: &str = "(hidden)";

/// The URL without secrets. If the password cannot be delimited safely, nothing is shown.
fn without_password(url: &str) -> String {
    shown(url).unwrap_or_else(|| HIDDEN.to_owned())
}

fn shown(url: &str) -> Option<String> {
    let (scheme, rest) =
        url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))?;
    let (address, query) =
        rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let (authority, path) =
        address.split_once('/').map_or((address, None), |(host, path)| (host, Some(path)));
    let (user, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    // After the authority, these characters may belong to an unescaped password.
    let path_is_plain = !path.is_some_and(|path| path.contains(['@', ':', '#']));
    if !path_is_plain || query.is_some_and(|query| query.split('&').any(is_rest)) {
        return None;
    }
    if !hosts.split(',').all(host_is_plain) {
        return None;
    }
    let mut text = format!("{scheme}://");
    if let Some(user) = user {
        let (name, has_password) = user.split_once(':').map_or((user, false), |(name, _)| (name, true));
        if name.to_ascii_lowercase().contains("%3a") {
            return None;
        }
        text = format!("{text}{name}{}@", if has_password { format!(":{HIDDEN}") } else { String::new() });
    }
    text.push_str(hosts);
    if let Some(path) = path {
        text = format!("{text}/{path}");
    }
    if let Some(query) = query {
        let parameters: Vec<_> = query.split('&').map(parameter).collect();
        text = format!("{text}?{}", parameters.join("&"));
    }
    Some(text)
}

/// Whether a parameter may be the rest of an unescaped password: it has no name and contains an `@`.
fn is_rest(parameter: &str) -> bool {
    let is_known =
        parameter.split_once('=').is_some_and(|(name, _)| SHOWN.contains(&name) || NAMED.contains(&name));
    !is_known && parameter.contains('@')
}

/// Whether a text is a host with an optional numeric port. `user:secret` without an `@` looks similar.
fn host_is_plain(host: &str) -> bool {
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    !host.contains('#')
        && !host.to_ascii_lowercase().contains("%3a")
        && behind.split_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parameter(text: &str) -> String {
    match text.split_once('=') {
        Some((name, _)) if SHOWN.contains(&name) => text.to_owned(),
        Some((name, _)) if NAMED.contains(&name) => format!("{name}={HIDDEN}"),
        None if text.is_empty() => String::new(),
        Some(_) | None => HIDDEN.to_owned(),
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = {}", quoted(&self.name))?;
        let on_poison = if self.on_poison == OnPoison::Stop { "stop" } else { "quarantine" };
        writeln!(f, "on_poison = {}", quoted(on_poison))?;
        let max_lag = self.max_lag.map_or_else(|| "off".to_owned(), |lag| Span(lag).to_string());
        writeln!(f, "max_lag = {}", quoted(&max_lag))?;
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
        let letters = Size(self.buffer.max_dead_letter_size).to_string();
        writeln!(f, "max_dead_letter_size = {}", quoted(&letters))?;
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
        writeln!(f, "lag = {}", self.events.lag)?;
        if let Some(schemas) = &self.events.schemas {
            writeln!(f, "schemas = {}", quoted(schemas))?;
        }
        writeln!(f, "\n[pii]\ncolumns = {}", list(&self.pii.columns))?;
        if self.pii.hmac_key.is_some() {
            writeln!(f, "hmac_key = \"(hidden)\"")?;
        }
        if let Some(file) = &self.pii.hmac_key_file {
            writeln!(f, "hmac_key_file = {}", quoted(&file.to_string_lossy()))?;
        }
        if let Some(id) = &self.pii.hmac_key_id {
            writeln!(f, "hmac_key_id = {}", quoted(id))?;
        }
        if self.pii.hmac_key_previous.is_some() {
            writeln!(f, "hmac_key_previous = \"(hidden)\"")?;
        }
        match &self.pii.hmac_key_previous_file {
            Some(file) => writeln!(f, "hmac_key_previous_file = {}", quoted(&file.to_string_lossy())),
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
        match &self.source.polling {
            None => {
                writeln!(f, "mode = \"replication\"")?;
                writeln!(f, "slot = {}", quoted(&self.source.slot))?;
                writeln!(f, "publication = {}", quoted(&self.source.publication))?;
            }
            Some(Polling { interval, start, grace, .. }) => {
                let start = match start {
                    PollingStart::Now => "now",
                    PollingStart::Beginning => "beginning",
                };
                writeln!(f, "mode = \"polling\"\ninterval = \"{}\"", Span(*interval))?;
                writeln!(f, "start = \"{start}\"\ngrace = \"{}\"", Span(*grace))?;
            }
        }
        match &self.source.tables {
            Some(tables) => writeln!(f, "tables = {}", list(tables))?,
            None => writeln!(f, "# tables: every table with a key")?,
        }
        writeln!(f, "epoch = {}", self.source.epoch)?;
        writeln!(f, "max_row_size = {}", quoted(&Size(self.source.max_row_size).to_string()))?;
        let Some(polling) = &self.source.polling else {
            let heartbeat =
                self.source.heartbeat.map_or_else(|| "off".to_owned(), |every| Span(every).to_string());
            match self.source.failover {
                Some(failover) => writeln!(f, "failover = {failover}")?,
                None => writeln!(f, "# failover: true on a primary of PostgreSQL 17 or later")?,
            }
            return writeln!(f, "heartbeat = {}", quoted(&heartbeat));
        };
        writeln!(f, "\n[source.cursors]")?;
        for (table, cursor) in &polling.cursors {
            let (table, column) = (quoted(&table.to_string()), quoted(cursor.column()));
            writeln!(f, "{table} = {{ {} = {column} }}", cursor.kind())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn url_password_is_never_printed() {
        for (url, shown) in [
            ("postgres://u:p%40ss@h/d", "postgres://u:(hidden)@h/d"),
            ("postgres://u:p@ss@h/d", "postgres://u:(hidden)@h/d"),
            (
                "postgres://u@h/d?sslmode=require&password=x",
                "postgres://u@h/d?sslmode=require&password=(hidden)",
            ),
            ("postgres://h/d?sslpassword=x", "postgres://h/d?sslpassword=(hidden)"),
            ("postgres://h/d?options=-c%20x=y", "postgres://h/d?options=(hidden)"),
            ("postgres:///d", "postgres:///d"),
            ("postgres://[::1]:5432,h:5433/d", "postgres://[::1]:5432,h:5433/d"),
            ("postgres://u:secret", "(hidden)"),
            ("postgres://u:p?ss@h/d", "(hidden)"),
            ("postgres://h/d?user=a@b", "postgres://h/d?user=a@b"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    proptest! {
        /// A secret in every place of every URL form, between any characters.
        #[test]
        fn no_form_of_a_url_shows_its_secret(
            form in proptest::sample::select(vec![
                "postgres://u:{}@h/d",
                "postgresql://u:{}@h:5432/d?sslmode=require",
                "postgres://:{}@h/d",
                "postgres://u:{}@[::1]:5432,g/d",
                "postgres://u@h/d?password={}",
                "postgres://u@h/d?PASSWORD={}",
                "postgres://u@h/d?pasword={}&sslmode=require",
                "postgres://u@h/d?p%61ssword={}",
                "postgres://u@h/d?options=-c%20x.password={}",
                "host=h user=u password={} dbname=d",
                "postgresql+psycopg2://u:{}@h/d",
                "jdbc:postgresql://h/d?user=u&password={}",
                "u:{}@h/d",
                "postgres:/u:{}@h/d",
                "postgres://u%3A{}@h/d",
                "{}",
            ]),
            before in "[a-z/?#@:&=%+ ]{0,4}",
            after in "[a-z/?#@:&=%+ ]{0,4}",
        ) {
            // A secret inside a text that parses as another part, such as `?user=…`, is not a password.
            let secret = format!("{before}SEKRET{after}");
            prop_assume!(!SHOWN.iter().any(|name| secret.contains(&format!("{name}="))));
            let shown = without_password(&form.replace("{}", &secret));
            prop_assert!(!shown.contains("SEKRET"), "{shown}");
        }
    }
}

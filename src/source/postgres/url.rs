//! Parses `postgres://user:password@host:port/database?name=value&…`.
//!
//! An ambiguous URL is rejected, and no part of it is repeated: a URL in which `@`, `/`, `?`, `#` or `:`
//! makes it unclear which part is the password. libpq would treat the rest of such a password as a host name
//! and send it to the DNS server.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::conninfo::{ChannelBinding, Host, Password, RootCert, Settings, SettingsError, SslMode};
use super::require_auth::RequireAuth;

/// Default of `connect_timeout`: long enough for a DNS retry, short enough to appear in the log soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KNOWN: [&str; 15] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "require_auth",
    "application_name",
    "connect_timeout",
    "options",
    "passfile",
];
/// Parameters whose values may contain an unescaped `@`.
const NAMES_WITH_AT: [&str; 2] = ["user", "password"];
/// Longest value that an error message repeats, in characters.
const SHOWN_MAX: usize = 20;
const FORM: &str = "Write it as postgres://user@host:5432/database?sslmode=verify-full.";
const ESCAPES: &str = "In user, password and database, write %40 for @, %2F for /, %3F for ?, %23 for #, %3A for :, %3B for ;, %25 for % \
                       and %20 for a blank. Or give the password apart: FOREBAY_SOURCE__PASSWORD, source.password_file or PGPASSFILE.";

impl Settings {
    /// Reads a URL.
    ///
    /// # Errors
    /// The URL is malformed or has an unknown parameter. The message contains nothing that may be a password.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        parse(url)
    }
}

impl FromStr for Settings {
    type Err = SettingsError;

    fn from_str(url: &str) -> Result<Self, SettingsError> {
        parse(url)
    }
}

fn parse(url: &str) -> Result<Settings, SettingsError> {
    let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
        return Err(wrong("does not begin with postgres:// or postgresql://", FORM));
    };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = address.split_once('/').unwrap_or((address, ""));
    refuse_ambiguous(authority, path, query)?;
    let (userinfo, address) = match authority.split_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    };
    let mut draft = Draft::default();
    if let Some(userinfo) = userinfo {
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (userinfo, None),
        };
        draft.user = non_empty(decode(user, "the user")?);
        draft.password = password.map(decode_password).transpose()?.flatten();
    }
    draft.address(address)?;
    draft.database = non_empty(decode(path, "the database")?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        draft.parameter(&decode(name, "a parameter")?, value)?;
    }
    draft.finish()
}

/// Rejects a URL that can be parsed in two ways, because it is then unclear which part is the password.
fn refuse_ambiguous(authority: &str, path: &str, query: &str) -> Result<(), SettingsError> {
    let parts = [authority, path, query];
    let is_odd = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '#';
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let may_have_at =
        |pair: &str| pair.split_once('=').is_some_and(|(name, _)| NAMES_WITH_AT.contains(&name));
    let ambiguous = parts.iter().any(|part| part.contains(is_odd))
        || authority.matches('@').count() > 1
        || path.contains(['@', '/', ':', '[', ']', ';'])
        || query.split('&').any(|pair| pair.contains(';') || pair.contains('@') && !may_have_at(pair))
        || !is_host_and_port(host);
    if ambiguous {
        let problem = "can be read in more than one way: a character in it must be escaped";
        return Err(wrong(problem, ESCAPES));
    }
    Ok(())
}

/// Whether the text is `host`, `host:5432`, `[::1]:5432`, or several of them with commas. The host may be
/// escaped.
fn is_host_and_port(text: &str) -> bool {
    text.split(',').all(|text| {
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) if host.chars().all(|c| c.is_ascii_hexdigit() || ":.%".contains(c)) => {
                ("", rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            Some(_) => return false,
            None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port))),
        };
        host.chars().all(|c| c.is_alphanumeric() || "-._%".contains(c))
            && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// The parameters read so far.
#[derive(Default)]
struct Draft {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<Password>,
    database: Option<String>,
    ssl_mode: Option<SslMode>,
    root_cert: Option<RootCert>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    channel_binding: ChannelBinding,
    require_auth: RequireAuth,
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
    options: Option<String>,
    passfile: Option<PathBuf>,
}

impl Draft {
    fn address(&mut self, address: &str) -> Result<(), SettingsError> {
        if address.contains(',') {
            return Err(wrong("names several hosts", "Name one: a replication slot lives on one server."));
        }
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let host = decode(host, "the host")?;
        if !host.starts_with('/') && host.contains(['@', '/', '?', '#', ' ']) {
            return Err(wrong("has a host that is neither a name nor an address", FORM));
        }
        self.host = non_empty(host);
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    /// Sets a parameter. The value is still escaped.
    fn parameter(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        if name == "password" {
            self.password = decode_password(value)?;
            return Ok(());
        }
        let value = decode(value, "a parameter")?;
        let path = || non_empty(value.clone()).map(PathBuf::from);
        match name {
            "host" => self.host = non_empty(value),
            "port" => self.port = Some(parse_port(&value)?),
            "user" => self.user = non_empty(value),
            "dbname" => self.database = non_empty(value),
            "sslmode" => self.ssl_mode = Some(parse_ssl_mode(&value)?),
            "sslrootcert" if value == "system" => self.root_cert = Some(RootCert::System),
            "sslrootcert" => self.root_cert = path().map(RootCert::File),
            "sslcert" => self.cert = path(),
            "sslkey" => self.key = path(),
            "passfile" => self.passfile = path(),
            "channel_binding" => self.channel_binding = parse_channel_binding(&value)?,
            "require_auth" => {
                self.require_auth = value.parse().map_err(|()| {
                    refused(
                        name,
                        &value,
                        "Use a list of password, md5, scram-sha-256, gss, sspi, oauth and none, or of the same each with an \
                         exclamation mark before it.",
                    )
                })?;
            }
            "application_name" => self.application_name = non_empty(value),
            "connect_timeout" => self.connect_timeout = Some(parse_timeout(&value)?),
            "options" => self.options = non_empty(value),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Settings, SettingsError> {
        let client_cert = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("has sslcert but no sslkey", "Name the key with sslkey=….")),
            (None, Some(_)) => {
                return Err(wrong("has sslkey but no sslcert", "Name the certificate with sslcert=…."));
            }
        };
        let user = self.user.or_else(login_name).unwrap_or_default();
        let host = match self.host {
            Some(host) if host.starts_with('/') => Host::Socket(host.into()),
            Some(host) => Host::Tcp(host),
            None => Host::Tcp("localhost".to_owned()),
        };
        Ok(Settings {
            ssl_mode: verification(self.ssl_mode, self.root_cert.as_ref(), &host)?,
            host,
            port: self.port.unwrap_or(5432),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            root_cert: self.root_cert,
            client_cert,
            channel_binding: self.channel_binding,
            require_auth: self.require_auth,
            application_name: self.application_name.unwrap_or_else(|| "forebay".to_owned()),
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            options: self.options,
            passfile: self.passfile,
            passfile_problem: None,
        })
    }
}

/// The effective `sslmode`. If only the certificate authority is checked and not the host name, it must not
/// be a public one, because anybody can get a certificate from those.
fn verification(
    mode: Option<SslMode>,
    root_cert: Option<&RootCert>,
    host: &Host,
) -> Result<SslMode, SettingsError> {
    match (mode, root_cert) {
        (None, Some(RootCert::System)) => Ok(SslMode::VerifyFull),
        (Some(mode), Some(RootCert::System)) if mode != SslMode::VerifyFull => Err(wrong(
            "has sslrootcert=system with a weaker sslmode than verify-full: anybody can get a certificate from a public authority",
            "Use sslmode=verify-full.",
        )),
        (Some(SslMode::VerifyCa), None) if matches!(host, Host::Tcp(_)) => Err(wrong(
            "has sslmode=verify-ca but no sslrootcert: any certificate of any public authority would be accepted",
            "Name the file with your server's authority in sslrootcert=…, or use sslmode=verify-full.",
        )),
        (mode, _) => Ok(mode.unwrap_or_default()),
    }
}

fn login_name() -> Option<String> {
    std::env::var("USER").ok().and_then(non_empty)
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn decode_bytes(text: &str) -> Result<Vec<u8>, SettingsError> {
    let malformed = text.split('%').skip(1).any(|after| {
        let digits = after.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if malformed {
        return Err(wrong("has a % that is not followed by two hex digits", "Write %25 for %."));
    }
    Ok(percent_decode_str(text).collect())
}

/// Decodes the password. An empty one counts as none, as in libpq.
fn decode_password(text: &str) -> Result<Option<Password>, SettingsError> {
    let bytes = decode_bytes(text)?;
    Ok((!bytes.is_empty()).then(|| Password::new(bytes)))
}

fn decode(text: &str, what: &str) -> Result<String, SettingsError> {
    String::from_utf8(decode_bytes(text)?)
        .ok()
        .filter(|decoded| !decoded.contains('\0'))
        .ok_or_else(|| wrong(&format!("is not valid UTF-8 in {what}"), FORM))
}

fn wrong(problem: &str, hint: &str) -> SettingsError {
    SettingsError::Url { problem: problem.to_owned(), hint: hint.to_owned() }
}

/// The error about an invalid value of a parameter. The value is repeated only if it cannot be a secret by
/// accident.
fn refused(name: &str, value: &str, hint: &str) -> SettingsError {
    let plain =
        value.len() <= SHOWN_MAX && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let problem = if plain {
        format!("has {name}={value:?}")
    } else {
        format!("has a value of {name} that is not known")
    };
    wrong(&problem, hint)
}

/// The error about an unknown parameter. Its name may be the rest of a password after an unescaped `&`, so it
/// is repeated only if it looks like a typing error.
fn unknown(name: &str) -> SettingsError {
    let known = format!("Known are {}.", KNOWN.join(", "));
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, &name.to_lowercase());
    match KNOWN.iter().min_by_key(distance).filter(|near| distance(near) <= 2) {
        Some(near) => {
            wrong(&format!("has an unknown parameter {name:?}"), &format!("Did you mean {near}? {known}"))
        }
        None => wrong("has a parameter that is not known", &format!("{known} In a value, write %26 for &.")),
    }
}

fn parse_port(text: &str) -> Result<u16, SettingsError> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(wrong("has a port that is not a number from 1 to 65535", FORM)),
    }
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, SettingsError> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            let hint = "Use disable, allow, prefer, require, verify-ca or verify-full.";
            return Err(refused("sslmode", text, hint));
        }
    })
}

fn parse_channel_binding(text: &str) -> Result<ChannelBinding, SettingsError> {
    Ok(match text {
        "disable" => ChannelBinding::Disable,
        "prefer" => ChannelBinding::Prefer,
        "require" => ChannelBinding::Require,
        _ => return Err(refused("channel_binding", text, "Use disable, prefer or require.")),
    })
}

/// Parses `connect_timeout`. In libpq, 0 means no limit; here it means an hour.
fn parse_timeout(text: &str) -> Result<Duration, SettingsError> {
    match text.parse::<u16>() {
        Ok(0) => Ok(Duration::from_hours(1)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(refused("connect_timeout", text, "Use whole seconds.")),
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;

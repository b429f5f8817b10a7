//! Connection settings, from a `postgres://` URL with libpq's meanings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::passfile;

/// Default of `connect_timeout`: long enough for a name server's second try, short enough to be seen in the log soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the database is and how to get in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Machine or socket directory.
    pub host: Host,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// Role.
    pub user: String,
    /// From the URL, or given later by [`with_password`](Self::with_password) or the password file.
    pub password: Option<Password>,
    /// Database.
    pub database: String,
    /// How much TLS is asked for. Never used on a socket.
    pub ssl_mode: SslMode,
    /// Which authorities may sign the server's certificate.
    pub root_cert: Option<RootCert>,
    /// Our own certificate and its key, PEM files.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Whether the password exchange must be bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Shown in `pg_stat_activity` and `pg_stat_replication`.
    pub application_name: String,
    /// For the whole of connecting: TCP, TLS and log-in.
    pub connect_timeout: Duration,
    /// Further command-line options for the session; what Forebay relies on is set after them.
    pub options: Option<String>,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of a Unix socket.
    Socket(PathBuf),
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server refuses without.
    Allow,
    /// TLS if the server has it; nothing is verified unless a root certificate is given.
    #[default]
    Prefer,
    /// TLS; nothing is verified unless a root certificate is given.
    Require,
    /// TLS, and an authority that we trust has signed the certificate.
    VerifyCa,
    /// As `VerifyCa`, and the certificate is for this host.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The operating system's authorities (`system`).
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If both sides can.
    #[default]
    Prefer,
    /// Refuse a server that does not prove that it knows the password over this very TLS connection.
    Require,
}

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// A password of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The password itself, for the log-in.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why connection settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not such a URL. The URL itself may hold a password and is not repeated.
    #[error(
        "the database URL {0}; it should look like postgres://user@host:5432/database?sslmode=verify-full"
    )]
    Url(String),
    /// A parameter that we do not know.
    #[error("the database URL has the parameter {0:?}, which Forebay does not know; known are {KNOWN}")]
    UnknownParameter(String),
    /// A parameter with a value it cannot have.
    #[error("the database URL's parameter {name}={value:?}: {wanted}")]
    Parameter {
        /// Its name.
        name: String,
        /// What was written.
        value: String,
        /// What can be written.
        wanted: String,
    },
    /// A file that the settings name cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

const KNOWN: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey, channel_binding, \
                     application_name, connect_timeout, options, passfile";

impl Settings {
    /// Reads a URL.
    ///
    /// # Errors
    /// The URL is malformed, or names what we do not know; the password is never part of the message.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(
            || SettingsError::Url("does not begin with postgres:// or postgresql://".to_owned()),
        )?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let first = query.split(['&', '=']).next().unwrap_or_default();
        if !authority.contains('@') && (path.contains('@') || first.contains('@')) {
            // Most likely a password with `/` or `?` in it: what follows must not be repeated as a port or a parameter.
            let text = "has an `@` behind its first `/` or `?`; in user and password write %2F for `/` and %3F for `?`, elsewhere \
                        %40 for `@`";
            return Err(SettingsError::Url(text.to_owned()));
        }
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let mut draft = Draft::default();
        if let Some(userinfo) = userinfo {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            draft.user = non_empty(decode(user, "user")?);
            draft.password = password.map(decode_bytes).transpose()?.map(Password::new);
        }
        draft.address(address)?;
        draft.database = non_empty(decode(path, "database")?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            draft.parameter(&decode(name, "a parameter")?, &decode(value, "a parameter")?)?;
        }
        draft.finish()
    }

    /// With this password, if the URL had none: the environment's or the password file's.
    #[must_use]
    pub fn with_password(mut self, password: Option<Password>) -> Self {
        self.password = self.password.or(password);
        self
    }

    /// With the password from `path`, else `$PGPASSFILE`, else `~/.pgpass`, if there is none yet.
    ///
    /// # Errors
    /// A password file that others can read, or that was named and cannot be read.
    pub fn with_passfile(mut self, path: Option<&Path>) -> Result<Self, SettingsError> {
        if self.password.is_none() {
            self.password = passfile::find(&self, path)?;
        }
        Ok(self)
    }

    /// `host:port` or the socket's path, for messages.
    pub fn target(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Socket(_) => self.socket_path().unwrap_or_default().display().to_string(),
        }
    }

    /// The socket's path, if it is one.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Tcp(_) => None,
            Host::Socket(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
        }
    }
}

impl FromStr for Settings {
    type Err = SettingsError;

    fn from_str(url: &str) -> Result<Self, SettingsError> {
        Self::from_url(url)
    }
}

/// What has been read so far.
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
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
    options: Option<String>,
    passfile: Option<PathBuf>,
}

impl Draft {
    fn address(&mut self, address: &str) -> Result<(), SettingsError> {
        if address.contains(',') {
            return Err(SettingsError::Url("names several hosts; a slot lives on one".to_owned()));
        }
        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) = rest
                .split_once(']')
                .ok_or_else(|| SettingsError::Url("has an IPv6 address without its `]`".to_owned()))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(SettingsError::Url("has something after the IPv6 address".to_owned())),
            }
        } else {
            match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        self.host = non_empty(decode(host, "host")?);
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let path = || non_empty(value.to_owned()).map(PathBuf::from);
        match name {
            "host" => self.host = non_empty(value.to_owned()),
            "port" => self.port = Some(parse_port(value)?),
            "user" => self.user = non_empty(value.to_owned()),
            "password" => self.password = Some(Password::new(value)),
            "dbname" => self.database = non_empty(value.to_owned()),
            "sslmode" => self.ssl_mode = Some(parse_ssl_mode(value)?),
            "sslrootcert" if value == "system" => self.root_cert = Some(RootCert::System),
            "sslrootcert" => self.root_cert = path().map(RootCert::File),
            "sslcert" => self.cert = path(),
            "sslkey" => self.key = path(),
            "passfile" => self.passfile = path(),
            "channel_binding" => self.channel_binding = parse_channel_binding(value)?,
            "application_name" => self.application_name = non_empty(value.to_owned()),
            "connect_timeout" => self.connect_timeout = Some(parse_timeout(value)?),
            "options" => self.options = non_empty(value.to_owned()),
            _ => return Err(SettingsError::UnknownParameter(name.to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Settings, SettingsError> {
        let ssl_mode = match (self.ssl_mode, &self.root_cert) {
            (None, Some(RootCert::System)) => SslMode::VerifyFull,
            (Some(mode), Some(RootCert::System)) if mode != SslMode::VerifyFull => {
                return Err(wrong(
                    "sslrootcert",
                    "system",
                    "anybody can get a certificate from a public authority, so it needs sslmode=verify-full",
                ));
            }
            (mode, _) => mode.unwrap_or_default(),
        };
        let client_cert = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(SettingsError::Url("has sslcert but no sslkey".to_owned())),
            (None, Some(_)) => return Err(SettingsError::Url("has sslkey but no sslcert".to_owned())),
        };
        let Some(user) = self.user.or_else(login_name) else {
            return Err(SettingsError::Url("names no user, and $USER is not set".to_owned()));
        };
        let host = match self.host {
            Some(host) if host.starts_with('/') => Host::Socket(host.into()),
            Some(host) => Host::Tcp(host),
            None => Host::Tcp("localhost".to_owned()),
        };
        let settings = Settings {
            host,
            port: self.port.unwrap_or(5432),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            ssl_mode,
            root_cert: self.root_cert,
            client_cert,
            channel_binding: self.channel_binding,
            application_name: self.application_name.unwrap_or_else(|| "forebay".to_owned()),
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            options: self.options,
        };
        match self.passfile {
            Some(path) => settings.with_passfile(Some(&path)),
            None => Ok(settings),
        }
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
        return Err(SettingsError::Url(
            "has a `%` that is not followed by two hex digits; write %25 for `%`".to_owned(),
        ));
    }
    Ok(percent_decode_str(text).collect())
}

fn decode(text: &str, what: &str) -> Result<String, SettingsError> {
    String::from_utf8(decode_bytes(text)?)
        .ok()
        .filter(|decoded| !decoded.contains('\0'))
        .ok_or_else(|| SettingsError::Url(format!("is not valid UTF-8 in {what}")))
}

fn wrong(name: &str, value: &str, wanted: &str) -> SettingsError {
    SettingsError::Parameter { name: name.to_owned(), value: value.to_owned(), wanted: wanted.to_owned() }
}

fn parse_port(text: &str) -> Result<u16, SettingsError> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(wrong("port", text, "a number from 1 to 65535 is needed")),
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
            return Err(wrong(
                "sslmode",
                text,
                "use disable, allow, prefer, require, verify-ca or verify-full",
            ));
        }
    })
}

fn parse_channel_binding(text: &str) -> Result<ChannelBinding, SettingsError> {
    Ok(match text {
        "disable" => ChannelBinding::Disable,
        "prefer" => ChannelBinding::Prefer,
        "require" => ChannelBinding::Require,
        _ => return Err(wrong("channel_binding", text, "use disable, prefer or require")),
    })
}

/// libpq waits for ever at 0; nothing here does, so 0 means an hour.
fn parse_timeout(text: &str) -> Result<Duration, SettingsError> {
    match text.parse::<u16>() {
        Ok(0) => Ok(Duration::from_hours(1)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(wrong("connect_timeout", text, "whole seconds are needed")),
    }
}

#[cfg(test)]
#[path = "conninfo_tests.rs"]
mod tests;

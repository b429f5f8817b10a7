//! Connection settings, with libpq's semantics.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Explain, Problem};

use super::require_auth::RequireAuth;

/// Address, credentials and options of a connection. `Debug` prints no secret.
#[derive(Clone)]
pub struct Settings {
    /// Host or socket directory.
    pub host: Host,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// Role; empty if neither the URL nor `$USER` names one.
    pub user: String,
    /// Password from the URL, or set later by [`with_password`](Self::with_password) or from the password
    /// file.
    pub password: Option<Password>,
    /// Database.
    pub database: String,
    /// TLS mode. Ignored on a Unix socket.
    pub ssl_mode: SslMode,
    /// Trusted certificate authorities for the server's certificate.
    pub root_cert: Option<RootCert>,
    /// PEM files of the client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Whether SCRAM must be bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Allowed authentication methods.
    pub require_auth: RequireAuth,
    /// Shown in `pg_stat_activity` and `pg_stat_replication`.
    pub application_name: String,
    /// Time limit of TCP connection, TLS handshake and log-in together.
    pub connect_timeout: Duration,
    /// Further command-line options of the session. Options that Forebay needs are set after them.
    pub options: Option<String>,
    /// `passfile`: the file with the password.
    pub passfile: Option<PathBuf>,
    /// Why the default password file cannot be used. Reported only if a password is needed.
    pub passfile_problem: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("target", &self.target())
            .field("user", &self.user)
            .field("database", &self.database)
            .field("ssl_mode", &self.ssl_mode)
            .finish_non_exhaustive()
    }
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
    /// TLS only if the server rejects a connection without it.
    Allow,
    /// TLS if the server offers it. Nothing is verified unless a root certificate is given.
    #[default]
    Prefer,
    /// TLS. Nothing is verified unless a root certificate is given.
    Require,
    /// TLS with a certificate that a trusted authority has signed.
    VerifyCa,
    /// Like `VerifyCa`, and the certificate must be for this host.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The operating system's certificate authorities (`system`).
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If both sides support it.
    #[default]
    Prefer,
    /// Reject a server that does not prove over this TLS connection that it knows the password.
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

    /// The password in clear text, for the log-in.
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
    /// Invalid URL. The URL may contain a password and is not repeated.
    #[error("the database URL {problem}")]
    Url {
        /// The error.
        problem: String,
        /// Advice for the operator.
        hint: String,
    },
    /// A file that the settings name cannot be used.
    #[error("{}: {}", path.display(), problem.primary())]
    File {
        /// The file.
        path: PathBuf,
        /// The error, without the file's name.
        problem: Problem,
    },
}

impl Explain for SettingsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Url { hint, .. } => Some(hint.clone()),
            Self::File { problem, .. } => problem.hint().map(str::to_owned),
        }
    }
}

impl Settings {
    /// Sets the password if the URL has none. An empty password counts as none.
    #[must_use]
    pub fn with_password(mut self, password: Option<Password>) -> Self {
        self.password = self.password.or(password.filter(|password| !password.reveal().is_empty()));
        self
    }

    /// `host:port` or the socket's path, for messages.
    pub fn target(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Socket(_) => self.socket_path().unwrap_or_default().display().to_string(),
        }
    }

    /// The path of the Unix socket; `None` for TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Tcp(_) => None,
            Host::Socket(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
        }
    }
}

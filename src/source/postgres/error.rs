//! Errors of a database connection, and which of them are retried.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::backend::{ErrorFields, Message};
use tokio_postgres::error::DbError;

use crate::config::TableName;
use crate::failure::{Explain, Failure, Problem};
use crate::position::Transaction;
use crate::visible::visible;

use super::conninfo::SettingsError;
use super::tls::TlsError;

/// Replaces a message that may quote row values.
const WITHHELD: &str = "(message withheld: it may quote row values)";
const RECREATE_PUBLICATION: &str = "Create the publication again, or give it its name back; then run \
     `forebay adopt --reason \"…\" --recreate-slot <slot>`: no slot can read the changes that were committed while no publication had this name.";
/// Error code if the server rejects a log-in.
pub const LOG_IN_REFUSED: &str = "log_in_refused";
/// SQLSTATE `undefined_file`.
const UNDEFINED_FILE: &str = "58P01";
/// Digits in the name of a WAL segment.
const SEGMENT_DIGITS: usize = 24;

/// Why a connection to the database could not be opened, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address does not accept connections, or the connection broke.
    #[error("connection to PostgreSQL at {target} failed: {cause}")]
    Network {
        /// Host and port, or the socket's path.
        target: String,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// No TLS connection could be established.
    #[error("TLS connection to PostgreSQL at {target} failed: {cause}")]
    Tls {
        /// Host and port.
        target: String,
        /// The error.
        cause: Box<TlsError>,
    },
    /// Another kind of server listens at the address.
    #[error("{target} does not speak PostgreSQL's protocol")]
    NotPostgres {
        /// Host and port, or the socket's path.
        target: String,
        /// The first bytes of its response, escaped.
        seen: String,
    },
    /// The server requests an authentication method that is unsupported or not allowed, or fails to
    /// authenticate itself.
    #[error("authentication with PostgreSQL failed: {}", .0.primary())]
    Authentication(Box<Problem>),
    /// The server reports an error.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The server failed to send a change, and will fail again.
    #[error("PostgreSQL cannot send a change{}{}", of_table(table.as_deref()), in_transaction(transaction.as_ref()))]
    Unsendable {
        /// The table, if the server announced it just before.
        table: Option<String>,
        /// The transaction, if it had begun.
        transaction: Option<Transaction>,
        /// The server's error.
        cause: Box<ServerError>,
    },
    /// The server violated the protocol.
    #[error("PostgreSQL violated its protocol: {0}")]
    Protocol(String),
    /// The server did not respond to keepalive requests.
    #[error("PostgreSQL at {target} has sent nothing for {} s", after.as_secs())]
    Silent {
        /// Host and port, or the socket's path.
        target: String,
        /// Time since the first request without a reply.
        after: Duration,
    },
    /// The server no longer sends changes of the publication, but continues the stream without them.
    #[error("PostgreSQL skips publication {publication:?}")]
    PublicationSkipped {
        /// The requested publication.
        publication: String,
        /// The server's warning.
        notice: Box<ServerError>,
    },
}

impl Explain for Error {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Unsendable { .. } => Some("change_unsendable"),
            Self::Server(error) if error.refuses_log_in() => Some(LOG_IN_REFUSED),
            _ => None,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Authentication(problem) => problem.detail().map(str::to_owned),
            Self::Tls { cause, .. } => cause.detail(),
            Self::NotPostgres { seen, .. } => Some(format!("its response begins with \"{seen}\"")),
            Self::Settings(error) => error.detail(),
            Self::Server(error) => error.detail(),
            Self::Unsendable { cause, .. } => {
                Some(cause.detail().map_or_else(|| cause.to_string(), |detail| format!("{cause}: {detail}")))
            }
            Self::Silent { .. } => Some("it does not respond to keepalive requests".to_owned()),
            Self::PublicationSkipped { notice, .. } => {
                Some(format!("{notice}. Changes committed since then are not sent."))
            }
            Self::Network { .. } | Self::Protocol(_) => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Authentication(problem) => problem.hint().map(str::to_owned),
            Self::Tls { cause, .. } => cause.hint(),
            Self::NotPostgres { .. } => Some("Check host and port in the URL.".to_owned()),
            Self::Settings(error) => error.hint(),
            Self::Server(error) => error.hint(),
            Self::Unsendable { transaction, cause, .. } => Some(
                cause
                    .hint()
                    .into_iter()
                    .chain([skip_hint(transaction.as_ref())])
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            Self::PublicationSkipped { .. } => Some(RECREATE_PUBLICATION.to_owned()),
            Self::Network { cause, .. } => Some(unreachable_hint(cause).to_owned()),
            Self::Protocol(_) | Self::Silent { .. } => None,
        }
    }
}

/// Hint for a connection that could not be opened, or broke.
fn unreachable_hint(cause: &io::Error) -> &'static str {
    let text = cause.to_string();
    if text.contains("UnknownCA") || text.contains("fatal alert: BadCertificate") {
        return "The server does not trust the certificate of sslcert: name the one that it expects.";
    }
    match cause.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "Check host and port in the URL, and that PostgreSQL listens there (listen_addresses)."
        }
        io::ErrorKind::PermissionDenied => "Let the user of this process use the socket.",
        _ if text.contains("lookup address") => {
            "Check the host in the URL, and the name server of this machine."
        }
        _ => "Check the network, and the log of PostgreSQL.",
    }
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;
        if let Some(error) = error.as_db_error() {
            return ServerError::from(error).into();
        }
        let broken = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        if let Some(broken) = broken.filter(|broken| broken.kind() == io::ErrorKind::InvalidData) {
            return Self::Protocol(broken.to_string());
        }
        let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let cause = io::Error::other(format!("{error}{reason}"));
        Self::Network { target: "the SQL connection".to_owned(), cause }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let stop = match &error {
            Error::Network { .. } | Error::Silent { .. } => false,
            Error::Tls { cause, .. } => cause.needs_a_person(),
            Error::Server(error) | Error::Unsendable { cause: error, .. } => !error.passes_by_itself(),
            Error::Settings(_)
            | Error::NotPostgres { .. }
            | Error::Authentication(_)
            | Error::Protocol(_)
            | Error::PublicationSkipped { .. } => true,
        };
        if stop { Self::stop(error) } else { Self::retry(error) }
    }
}

fn of_table(table: Option<&str>) -> String {
    table.map_or_else(String::new, |table| format!(" of table {table}"))
}

fn in_transaction(transaction: Option<&Transaction>) -> String {
    transaction.map_or_else(String::new, |transaction| {
        format!(" in transaction {}, which commits at {}", transaction.xid, transaction.commit)
    })
}

fn skip_hint(transaction: Option<&Transaction>) -> String {
    let (position, which) = transaction.map_or_else(
        || ("<LSN>".to_owned(), " The server's log names the position of the change; the LSN must be that of the commit, or a later one."),
        |transaction| (transaction.commit.to_string(), ""),
    );
    format!(
        "If this stays and cannot be corrected on the server, stop Forebay and give up this whole transaction: `forebay adopt --reason \"…\" \
         --skip-transaction {position}`.{which}"
    )
}

/// The error of an operation that exceeded its time limit.
pub(super) fn timed_out(target: &str, what: &str) -> Error {
    let cause = io::Error::new(io::ErrorKind::TimedOut, format!("took too long {what}"));
    Error::Network { target: target.to_owned(), cause }
}

/// The error of a stream that cannot be decoded.
pub(super) fn broken(error: impl fmt::Display) -> Error {
    Error::Protocol(error.to_string())
}

/// The error of a stream message of an unknown kind.
pub(super) fn cut_short(body: &[u8]) -> Error {
    Error::Protocol(format!("a stream message of {} bytes that is neither data nor a keepalive", body.len()))
}

/// The error of a stream that the server has ended without an error.
pub(super) fn ended(target: &str) -> Error {
    let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the stream");
    Error::Network { target: target.to_owned(), cause }
}

/// Parses one complete message of the server, header included.
pub(super) fn parse(bytes: &[u8], target: &str) -> Result<Message, Error> {
    let parsed = Message::parse(&mut BytesMut::from(bytes)).map_err(|error| garbled(&error, target))?;
    parsed.ok_or_else(|| Error::Protocol("a truncated message".to_owned()))
}

/// The error of a message that cannot be decoded.
pub(super) fn garbled(error: &io::Error, target: &str) -> Error {
    Error::Protocol(format!("{error} (from {target})"))
}

/// Logs a notice without its detail, which may quote row values.
pub(super) fn log_notice(notice: &ServerError) {
    let ServerError { severity, code, message, .. } = notice;
    let text = if notice.withheld { WITHHELD } else { message };
    if severity == "WARNING" {
        tracing::warn!(event = "server_warning", code, text, "warning from PostgreSQL");
    } else {
        tracing::info!(event = "server_notice", code, text, "notice from PostgreSQL");
    }
}

/// An error or a notice of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING`, …; not translated.
    pub severity: String,
    /// SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The server's detail.
    pub detail: Option<String>,
    /// The server's hint.
    pub hint: Option<String>,
    /// The table that the server names.
    pub table: Option<String>,
    /// Whether message, detail and hint were removed, because they may quote row values.
    pub withheld: bool,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse` or `NoticeResponse`.
    ///
    /// # Errors
    /// The message is truncated.
    pub(super) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        use fallible_iterator::FallibleIterator as _;
        let mut read = Self::default();
        let mut schema = None;
        while let Some(field) = fields.next()? {
            // The text may quote names and values of users. It must not fake a log line or control a
            // terminal.
            let value = visible(&String::from_utf8_lossy(field.value_bytes())).into_owned();
            match field.type_() {
                b'V' => read.severity = value,
                b'S' if read.severity.is_empty() => read.severity = value,
                b'C' => read.code = value,
                b'M' => read.message = value,
                b'D' => read.detail = Some(value),
                b'H' => read.hint = Some(value),
                b's' => schema = Some(value),
                b't' => read.table = Some(value),
                _ => {}
            }
        }
        if let (Some(schema), Some(table)) = (schema, &mut read.table) {
            let name = TableName { schema, table: std::mem::take(table) };
            *table = name.to_string();
        }
        Ok(read)
    }

    /// The parts of an error on the replication stream that may be shown. There the server evaluates row
    /// filters and output functions, whose errors quote row values. Only errors about the connection, the
    /// slot or the server are kept whole.
    #[must_use]
    pub(super) fn of_stream(self) -> Self {
        let class = self.code.get(..2).unwrap_or_default();
        let about_the_server =
            matches!(class, "08" | "0A" | "28" | "3D" | "42" | "53" | "54" | "55" | "57" | "58" | "XX");
        if about_the_server || self.says_publication_skipped() {
            return self;
        }
        let Self { severity, code, table, .. } = self;
        Self { severity, code, table, withheld: true, ..Self::default() }
    }

    /// Whether the server failed because of the content of a change: it could not decode, filter or print it.
    pub(super) fn is_about_content(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        let by_content = matches!(class, "21" | "22" | "23" | "2F" | "38" | "39" | "42" | "54" | "P0" | "XX");
        // 42704: a publication is missing, which is no fault of the change. 53200: the server is out of
        // memory, which the change causes.
        (by_content && self.code != "42704") || self.code == "53200"
    }

    /// Whether a later connection attempt can succeed. Unknown errors are retried; each attempt is logged.
    pub fn passes_by_itself(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        match self.code.as_str() {
            // Slot in use, lock not available, transaction timeout of the server.
            "55006" | "55P03" | "25P03" | "25P04" => true,
            // A removed WAL segment does not return; a missing library may.
            UNDEFINED_FILE => !self.names_wal_segment(),
            // During the log-in: the database accepts no connections now.
            "55000" if self.severity == "FATAL" => true,
            // The database was dropped.
            "57P04" => false,
            "08P01" => !self.is_from_pooler(),
            _ => !matches!(class, "0A" | "22" | "25" | "26" | "28" | "34" | "3D" | "3F" | "42" | "54" | "55"),
        }
    }

    /// Whether this is the warning that a publication is skipped (PostgreSQL 18), or that a named object is
    /// missing. Decided by SQLSTATE, because messages are translated.
    pub(super) fn says_publication_skipped(&self) -> bool {
        self.severity == "WARNING" && matches!(self.code.as_str(), "55000" | "42704")
    }

    /// Whether the server rejects this role in this database now: no LOGIN, CONNECT or REPLICATION, another
    /// password or `pg_hba.conf`, or the database has another name.
    pub(crate) fn refuses_log_in(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        self.severity == "FATAL" && (class == "28" || matches!(self.code.as_str(), "42501" | "3D000"))
    }

    /// Whether the message has the name of a WAL file. Messages are translated, file names are not.
    fn names_wal_segment(&self) -> bool {
        let words = self.message.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .into_iter()
            .any(|word| word.len() == SEGMENT_DIGITS && word.chars().all(|c| c.is_ascii_hexdigit()))
    }

    /// Whether the message has the name of a library: `$libdir/…`, or a file with the system's extension.
    fn names_library(&self) -> bool {
        ["$libdir", ".so", ".dll", ".dylib", "/lib/"].iter().any(|part| self.message.contains(part))
            // A library of a setting may have any name, but is in no directory of the cluster.
            || !["/", "pg_", "base", "global"].iter().any(|part| self.message.contains(part))
    }

    /// Whether a connection pooler refused a startup parameter. `PgBouncer`'s messages are not translated.
    fn is_from_pooler(&self) -> bool {
        self.code == "08P01" && self.message.contains("startup parameter")
    }

    /// Forebay's hint, besides the server's own.
    fn advice(&self) -> Option<&'static str> {
        if self.withheld {
            return Some(
                "Read the message in the server's log. A row filter of the publication, or an output function of a column type, failed \
                 for a row: check rowfilter in pg_publication_tables and correct it with ALTER PUBLICATION.",
            );
        }
        Some(match self.code.as_str() {
            "28P01" => {
                "Check the user, the password (URL, FOREBAY_SOURCE__PASSWORD, source.password_file or PGPASSFILE), and \
                 that it has not expired (VALID UNTIL)."
            }
            "08P01" if self.is_from_pooler() => {
                "Connect to PostgreSQL directly, not through a pooler: poolers support neither options nor replication."
            }
            "28000" => "Check pg_hba.conf, sslmode, and that the role has LOGIN.",
            "42704" => RECREATE_PUBLICATION,
            "3D000" => "Check the database in the URL.",
            "0A000" if self.message.contains("MULE_INTERNAL") => {
                "PostgreSQL cannot convert this database to UTF-8. Dump it and restore it into one with encoding UTF8."
            }
            "55006" => "Stop the other process that reads the slot, or wait until its connection ends.",
            "55000" if self.severity == "FATAL" => "Run ALTER DATABASE … ALLOW_CONNECTIONS true.",
            "55000" => {
                "If the slot is lost, run `forebay adopt --reason \"…\" --recreate-slot <slot>` to create a new one."
            }
            "53300" if self.message.contains("for role") => {
                "Close other connections of the role, or run ALTER ROLE … CONNECTION LIMIT with a higher one."
            }
            "53300" if self.message.contains("for database") => {
                "Close other connections, or run ALTER DATABASE … CONNECTION LIMIT with a higher one."
            }
            "53300" => "Raise max_connections or max_wal_senders, or close other connections.",
            UNDEFINED_FILE if self.names_wal_segment() => {
                "The slot is lost: run `forebay adopt --reason \"…\" --recreate-slot <slot>` to create a new one."
            }
            UNDEFINED_FILE if self.severity == "FATAL" && self.names_library() => {
                "Correct session_preload_libraries and local_preload_libraries of the role, the database and the server."
            }
            UNDEFINED_FILE if self.names_library() => {
                "Install this library on the server, in the version that the server needs."
            }
            UNDEFINED_FILE => {
                "A file of the server is missing: read the server's log, and restore it. If it belongs to the replication slot and cannot be \
                 restored, run `forebay adopt --reason \"…\" --recreate-slot <slot>` to create a new one."
            }
            "42501" if self.severity == "FATAL" => {
                "Grant the role CONNECT on the database, and REPLICATION: GRANT CONNECT ON DATABASE … TO …; ALTER ROLE … REPLICATION;"
            }
            _ => return None,
        })
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        let shown = |text: &str| visible(text).into_owned();
        Self {
            severity: shown(error.severity()),
            code: shown(error.code().code()),
            message: shown(error.message()),
            detail: error.detail().map(shown),
            hint: error.hint().map(shown),
            table: error.table().map(shown),
            withheld: false,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.withheld { WITHHELD } else { &self.message };
        write!(f, "PostgreSQL reports {} {}: {shown}", self.severity, self.code)?;
        match self.table.as_ref().filter(|_| self.withheld) {
            Some(table) => write!(f, " at table {table}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

impl Explain for ServerError {
    fn detail(&self) -> Option<String> {
        self.detail.clone()
    }

    /// The server's hint, and Forebay's own.
    fn hint(&self) -> Option<String> {
        let hints: Vec<&str> = self.hint.as_deref().into_iter().chain(self.advice()).collect();
        (!hints.is_empty()).then(|| hints.join(" "))
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;

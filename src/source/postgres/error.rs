//! What can go wrong between us and the server, and whether it passes by itself.

use std::fmt;
use std::io;
use std::time::Duration;

use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::DbError;

use crate::failure::Failure;

use super::conninfo::SettingsError;
use super::tls::TlsError;

/// Why a connection to the database could not be made or has ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used as they are.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nobody answers at the address, or the connection broke.
    #[error("the connection to PostgreSQL at {target}: {cause}")]
    Network {
        /// Host and port, or the socket's path.
        target: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// TLS could not be agreed on.
    #[error("TLS with PostgreSQL at {target}: {cause}")]
    Tls {
        /// Host and port.
        target: String,
        /// What is wrong.
        cause: Box<TlsError>,
    },
    /// The server asks for a kind of authentication that we cannot or must not give.
    #[error("PostgreSQL's authentication request: {0}")]
    Authentication(String),
    /// The server reports an error.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The server sent what the protocol does not allow.
    #[error("PostgreSQL sent what its protocol does not allow: {0}")]
    Protocol(String),
    /// The server has not been heard of for too long.
    #[error("PostgreSQL at {target} has sent nothing for {} s, although it was asked to", after.as_secs())]
    Silent {
        /// Host and port, or the socket's path.
        target: String,
        /// How long we waited.
        after: Duration,
    },
    /// The server has stopped to send changes of our publication, and goes on without them.
    #[error(
        "the server skips publication {publication:?}: {notice}. Changes committed meanwhile are not sent. \
         Make the publication again, then run `forebay adopt --reason \"…\" --recreate-slot <slot>`: this slot cannot read past them"
    )]
    PublicationSkipped {
        /// The publication we asked for.
        publication: String,
        /// What the server said.
        notice: Box<ServerError>,
    },
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) => ServerError::from(error).into(),
            None => Self::Network { target: "the SQL connection".to_owned(), cause: io::Error::other(error) },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let stop = match &error {
            Error::Network { .. } | Error::Silent { .. } => false,
            Error::Tls { cause, .. } => cause.needs_a_person(),
            Error::Server(error) => !error.passes_by_itself(),
            Error::Settings(_)
            | Error::Authentication(_)
            | Error::Protocol(_)
            | Error::PublicationSkipped { .. } => true,
        };
        if stop { Self::stop(error) } else { Self::retry(error) }
    }
}

/// An error or a notice as the server worded it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING`, …: never translated.
    pub severity: String,
    /// SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server suggests.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse` or `NoticeResponse`.
    ///
    /// # Errors
    /// The message is cut short.
    pub(super) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        use fallible_iterator::FallibleIterator as _;
        let mut read = Self::default();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => read.severity = value,
                b'S' if read.severity.is_empty() => read.severity = value,
                b'C' => read.code = value,
                b'M' => read.message = value,
                b'D' => read.detail = Some(value),
                b'H' => read.hint = Some(value),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether waiting and connecting again can help. What we do not know is tried again, and each try is logged.
    pub fn passes_by_itself(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        match self.code.as_str() {
            // Slot in use, lock not to be had: both end.
            "55006" | "55P03" => true,
            // The database was dropped, a file (often: a removed WAL segment) is gone.
            "57P04" | "58P01" => false,
            _ => !matches!(class, "0A" | "22" | "25" | "26" | "28" | "34" | "3D" | "3F" | "42" | "54" | "55"),
        }
    }

    /// Whether the server says that it leaves out a publication (PostgreSQL 18), or that something we named is gone.
    /// By SQLSTATE, because messages are translated.
    pub(super) fn says_publication_skipped(&self) -> bool {
        self.severity == "WARNING" && matches!(self.code.as_str(), "55000" | "42704")
    }

    /// What a person can do about it, beside the server's own hint.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "28P01" => {
                "check the password (URL, FOREBAY_SOURCE__PASSWORD, password_file or PGPASSFILE) and the user"
            }
            "28000" => "check pg_hba.conf, sslmode and that the role may log in",
            "42501" => {
                "ALTER ROLE … REPLICATION for the stream, GRANT SELECT for the tables, ownership for a publication"
            }
            "42704" => "the slot or publication is missing: `forebay check` says which",
            "3D000" => "check the database in the URL",
            "55006" => "another process reads the slot; it is free when that one has gone",
            "55000" => "`forebay check` says what is wrong with the slot; a lost slot needs `forebay adopt`",
            "53300" => "raise max_connections or max_wal_senders, or close other connections",
            "58P01" => {
                "a file that the server needs is gone; if it is a WAL segment, the slot needs `forebay adopt`"
            }
            _ => return None,
        })
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL says {} {}: {}", self.severity, self.code, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, ". {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, ". {hint}")?;
        }
        match self.advice() {
            Some(advice) => write!(f, ". What to do: {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again_and_the_rest_stops() {
        let passes =
            ["57P01", "57P02", "57P03", "53300", "55006", "08006", "40001", "57014", "58030", "XX000"];
        let stops =
            ["28P01", "28000", "42501", "42704", "55000", "3D000", "0A000", "57P04", "58P01", "42P17"];
        for (codes, passing) in [(passes, true), (stops, false)] {
            for code in codes {
                let error = ServerError { code: code.to_owned(), ..ServerError::default() };
                assert_eq!(error.passes_by_itself(), passing, "{code}");
                assert_eq!(matches!(Failure::from(Error::from(error)), Failure::Retry(_)), passing, "{code}");
            }
        }
    }

    #[test]
    fn only_a_warning_of_a_missing_object_says_that_the_publication_is_skipped() {
        let notice = |severity: &str, code: &str| ServerError {
            severity: severity.to_owned(),
            code: code.to_owned(),
            ..ServerError::default()
        };
        assert!(notice("WARNING", "55000").says_publication_skipped());
        assert!(!notice("NOTICE", "55000").says_publication_skipped());
        assert!(!notice("WARNING", "01000").says_publication_skipped());
    }
}

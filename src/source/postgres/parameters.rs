//! Server parameters that each of our sessions sets, whatever `postgresql.conf`, the database and the role
//! set.
//!
//! Options of the startup packet override all of those. A server rejects an option that it does not know. So
//! only parameters that every supported version has are sent before the version is known.
//! `transaction_timeout` (PostgreSQL 17 and later) is set after the log-in; once a log-in has shown that the
//! server has it, it is an option too.
//!
//! An event trigger at log-in (PostgreSQL 17 and later) runs after the options and can change every one of
//! them. In this case all are set again.
//!
//! These are left unchanged: `role`, because credential brokers use it to grant permissions to a session;
//! parameters that only a superuser may set; and parameters that only affect speed (`work_mem`,
//! `logical_decoding_work_mem`, planner switches).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::conninfo::Settings;
use super::error::Error;

/// The purpose of a connection, which decides the kind of server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A walsender, which also accepts SQL.
    Replication,
    /// An ordinary backend.
    Sql,
}

/// The text forms of values, the meaning of our statements, and time limits that would end a session.
/// WARNINGs must arrive, because PostgreSQL 18 only warns when a publication is missing. An output format
/// that is missing here would change the bytes of events. `lc_monetary` is left unchanged, because it places
/// the decimal point in an amount of type money: with another locale, 100 yen would become $1.00.
const EVERY_SESSION: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("client_min_messages", "warning"),
    ("search_path", "pg_catalog"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("standard_conforming_strings", "on"),
    ("row_security", "on"),
    ("exit_on_error", "off"),
    (AT_START_ONLY, ""),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("jit", "off"),
    ("tcp_user_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Cannot be set any more once a session has begun.
const AT_START_ONLY: &str = "local_preload_libraries";

/// A stream and the commands of its connection may take any time.
const STREAM: &[(&str, &str)] = &[("statement_timeout", "0"), ("lock_timeout", "0")];

/// The server's time limits are shorter than ours ([`super::session`]), so that no backend keeps waiting
/// without a client. Our statements need no lock on a user's table, except when the server checks an
/// expression.
const SQL: &[(&str, &str)] = &[("statement_timeout", "25s"), ("lock_timeout", "1s")];

/// This limit would end a session whose transaction is too old, including a stream that decodes a large one.
/// PostgreSQL 17 and later.
const TRANSACTION_TIMEOUT: (&str, &str) = ("transaction_timeout", "0");

/// The first version with this parameter and with event triggers at log-in.
const TRANSACTION_TIMEOUT_SINCE: u32 = 17;

/// With a shorter timeout a stream could not send its status in time. With 0 the server would never detect
/// that the client is gone.
pub(super) const SENDER_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The value that is set instead: the server's default.
pub(super) const SENDER_TIMEOUT: Duration = Duration::from_mins(1);

/// SQLSTATE `undefined_object`: an option that the server does not know.
const UNKNOWN_OPTION: &str = "42704";

/// Whether the last server had `transaction_timeout`. If it is wrong, one more attempt is needed.
static HAS_TRANSACTION_TIMEOUT: AtomicBool = AtomicBool::new(false);

/// A parameter that only polled servers may lack: it exists since PostgreSQL 14, and polling works with 12.
const IDLE_SESSION_TIMEOUT: &str = "idle_session_timeout";
/// The first version with this parameter.
const IDLE_SESSION_TIMEOUT_SINCE: u32 = 14;

/// Whether the last server lacked `idle_session_timeout`. If it is wrong, one more attempt is needed.
static IS_OLD: AtomicBool = AtomicBool::new(false);

/// The parameters that a session of this kind sets.
fn settings_of(purpose: Purpose) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let more = match purpose {
        Purpose::Replication => STREAM,
        Purpose::Sql => SQL,
    };
    EVERY_SESSION.iter().chain(more)
}

/// The options of a session: the user's, then ours, which override them.
pub fn options(settings: &Settings, purpose: Purpose) -> String {
    let mut options = settings.options.clone().unwrap_or_default();
    let has_timeout = HAS_TRANSACTION_TIMEOUT.load(Ordering::Relaxed);
    let is_old = IS_OLD.load(Ordering::Relaxed);
    let known = settings_of(purpose).filter(|(name, _)| !is_old || *name != IDLE_SESSION_TIMEOUT);
    for (name, value) in known.chain(has_timeout.then_some(&TRANSACTION_TIMEOUT)) {
        options.push_str(" -c ");
        options.push_str(name);
        options.push('=');
        options.push_str(&value.replace(' ', "\\ "));
    }
    options
}

/// The statement to run right after the log-in to a server of this `server_version`, such as `17.5 (Debian
/// 17.5-1)`; `None` if the options are enough. An event trigger at log-in may have changed any of them, so
/// all are set again. The limit that could end this statement is set first. It is one statement, because a
/// walsender accepts only one at a time.
pub(super) fn after_log_in(server_version: &str, purpose: Purpose) -> Option<String> {
    let digits = server_version.split(|character: char| !character.is_ascii_digit()).next()?;
    let major = digits.parse::<u32>().ok()?;
    IS_OLD.store(major < IDLE_SESSION_TIMEOUT_SINCE, Ordering::Relaxed);
    let has = major >= TRANSACTION_TIMEOUT_SINCE;
    HAS_TRANSACTION_TIMEOUT.store(has, Ordering::Relaxed);
    let settings = settings_of(purpose).filter(|(name, _)| *name != AT_START_ONLY);
    let calls: Vec<String> = [&TRANSACTION_TIMEOUT]
        .into_iter()
        .chain(settings)
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', false)"))
        .collect();
    has.then(|| format!("SELECT {}", calls.join(", ")))
}

/// Whether a log-in failed because of an option that the server does not know, so that another attempt
/// without it is worthwhile.
pub(super) fn was_wrong_hint(error: &Error) -> bool {
    let unknown = matches!(error, Error::Server(error) if error.code == UNKNOWN_OPTION);
    unknown
        && (HAS_TRANSACTION_TIMEOUT.swap(false, Ordering::Relaxed) | !IS_OLD.swap(true, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for all cases, because the static variable belongs to the process.
    #[test]
    fn hint_follows_the_server_version() {
        let settings: Settings = "postgres://u@h/d?options=-c%20geqo%3Doff".parse().unwrap();
        assert_eq!(after_log_in("16.4 (Debian 16.4-1)", Purpose::Sql), None);
        assert_eq!(after_log_in("devel", Purpose::Sql), None);
        assert!(
            options(&settings, Purpose::Sql).starts_with("-c geqo=off -c client_encoding=UTF8"),
            "ours win"
        );
        assert!(!options(&settings, Purpose::Replication).contains("transaction_timeout"));
        let statement = after_log_in("17beta1", Purpose::Sql).unwrap();
        assert!(statement.starts_with("SELECT pg_catalog.set_config('transaction_timeout', '0', false)"));
        assert!(options(&settings, Purpose::Replication).contains("transaction_timeout=0"));
        let statement = after_log_in("18.1", Purpose::Replication).unwrap();
        assert!(
            statement.contains("('statement_timeout', '0', false)"),
            "a trigger at log-in may have changed it"
        );
        let unknown =
            super::super::error::ServerError { code: UNKNOWN_OPTION.to_owned(), ..Default::default() };
        assert!(was_wrong_hint(&Error::from(unknown.clone())));
        assert!(!was_wrong_hint(&Error::from(unknown)), "only once");
        assert!(!options(&settings, Purpose::Sql).contains("transaction_timeout"));
    }
}

//! Which errors are retried, and their texts.

use super::*;
use crate::source::postgres::lsn::Lsn;

#[test]
fn transient_errors_are_retried_and_others_stop() {
    let passes = [
        "25P04", "55P03", "57P01", "57P02", "57P03", "53300", "55006", "08006", "40001", "57014", "58030",
        "XX000",
    ];
    let stops = ["28P01", "28000", "42501", "42704", "55000", "3D000", "0A000", "57P04", "42P17"];
    for (codes, passing) in [(&passes[..], true), (&stops[..], false)] {
        for code in codes {
            let error = ServerError { code: (*code).to_owned(), ..ServerError::default() };
            assert_eq!(error.passes_by_itself(), passing, "{code}");
            assert_eq!(matches!(Failure::from(Error::from(error)), Failure::Retry(_)), passing, "{code}");
        }
    }
}

/// A failed log-in does not mean that the slot is lost.
#[test]
fn obstacle_at_login_is_waited_for() {
    let failed = |severity: &str, code: &str| {
        let (severity, code) = (severity.to_owned(), code.to_owned());
        ServerError { severity, code, ..ServerError::default() }
    };
    for (severity, passes) in [("FATAL", true), ("ERROR", false)] {
        let error = failed(severity, "55000");
        assert_eq!(error.passes_by_itself(), passes, "{severity}");
        let hint = Problem::from(error).hint().map(str::to_owned);
        assert_eq!(hint.is_some_and(|hint| hint.contains("adopt")), !passes, "{severity}");
    }
    for (severity, code, refuses) in [
        ("FATAL", "28000", true),
        ("FATAL", "28P01", true),
        ("FATAL", "42501", true),
        ("FATAL", "3D000", true),
        ("ERROR", "42501", false),
        ("FATAL", "57P03", false),
    ] {
        assert_eq!(failed(severity, code).refuses_log_in(), refuses, "{severity} {code}");
    }
}

/// A missing file may be a WAL segment, a library, or any other file. Only a WAL segment never returns.
#[test]
fn missing_file_is_named_for_what_it_is() {
    for (severity, message, passes, advice) in [
        (
            "ERROR",
            "requested WAL segment 00000001000000000000000A has already been removed",
            false,
            "--recreate-slot",
        ),
        (
            "FATAL",
            "das angeforderte WAL-Segment 0000000200000000000000FF wurde schon entfernt",
            false,
            "--recreate-slot",
        ),
        ("FATAL", "could not access file \"nothing\": No such file or directory", true, "preload_libraries"),
        (
            "FATAL",
            "could not access file \"$libdir/plugins/x\": No such file or directory",
            true,
            "preload_libraries",
        ),
        (
            "ERROR",
            "could not access file \"$libdir/postgis-3\": No such file or directory",
            true,
            "Install this library",
        ),
        (
            "FATAL",
            "could not open file \"global/pg_filenode.map\": No such file or directory",
            true,
            "read the server's log",
        ),
        (
            "ERROR",
            "could not open file \"pg_replslot/forebay/xid-7-lsn-0-1.spill\": No such file",
            true,
            "read the server's log",
        ),
    ] {
        let (severity, code, message) = (severity.to_owned(), "58P01".to_owned(), message.to_owned());
        let error = ServerError { severity, code, message, ..ServerError::default() };
        assert_eq!(error.passes_by_itself(), passes, "{error}");
        let hint = Problem::from(error.clone()).hint().unwrap_or_default().to_owned();
        assert!(hint.contains(advice), "{error}: {hint}");
    }
}

/// The position in the command is that of the commit record.
#[test]
fn unsendable_change_names_table_transaction_and_command() {
    let cause = |code: &str| ServerError {
        code: code.to_owned(),
        message: "invalid memory alloc".to_owned(),
        ..Default::default()
    };
    assert!(
        ["XX000", "54000", "22P05", "P0001", "42883", "53200"]
            .iter()
            .all(|code| cause(code).is_about_content())
    );
    assert!(
        ["57P01", "42704", "55000", "53300", "08006", "58P01"]
            .iter()
            .all(|code| !cause(code).is_about_content())
    );
    let transaction = Some(Transaction { commit: Lsn::new(0x1_0000_00A0), xid: 742, time: 0 });
    let unsendable = |table: Option<&str>, transaction| Error::Unsendable {
        table: table.map(str::to_owned),
        transaction,
        cause: Box::new(cause("XX000")),
    };
    let text = Problem::from(unsendable(Some("public.b"), transaction)).to_string();
    for part in ["of table public.b in transaction 742", "XX000", "--skip-transaction 1/A0`"] {
        assert!(text.contains(part), "{text}");
    }
    let unknown = Problem::from(unsendable(None, None)).to_string();
    assert!(
        unknown.contains("cannot send a change. ") && unknown.contains("--skip-transaction <LSN>"),
        "{unknown}"
    );
}

/// `PgBouncer` rejects `options` at every attempt.
#[test]
fn pooler_is_refused_with_the_way_out() {
    let pooler = ServerError {
        severity: "FATAL".to_owned(),
        code: "08P01".to_owned(),
        message: "unsupported startup parameter: options".to_owned(),
        ..ServerError::default()
    };
    assert!(!pooler.passes_by_itself());
    assert!(pooler.hint().is_some_and(|hint| hint.contains("not through a pooler")), "{pooler}");
    let other = ServerError { message: "invalid frontend message type 0".to_owned(), ..pooler };
    assert!(other.passes_by_itself());
}

#[test]
fn message_on_the_stream_that_may_quote_rows_is_withheld() {
    let error = |code: &str| {
        let (message, hint) = ("time zone \"secret\" not recognized".to_owned(), Some("secret".to_owned()));
        let table = Some("lab.t".to_owned());
        let code = code.to_owned();
        ServerError { code, message, hint, table, ..ServerError::default() }.of_stream()
    };
    for code in ["22023", "23514", "21000", "P0001", "38000", "ZZ001", "01000", "00000", ""] {
        let text = Problem::from(error(code)).to_string();
        assert!(!text.contains("secret") && text.contains(code) && text.contains("lab.t"), "{text}");
    }
    for code in ["57P01", "55000", "58P01", "42704", "XX000"] {
        let text = Problem::from(error(code)).to_string();
        assert_eq!(text.matches("secret").count(), 2, "message and hint of {code}: {text}");
    }
}

#[test]
fn only_missing_object_warning_means_skipped_publication() {
    let notice = |severity: &str, code: &str| ServerError {
        severity: severity.to_owned(),
        code: code.to_owned(),
        ..ServerError::default()
    };
    assert!(notice("WARNING", "55000").says_publication_skipped());
    assert!(!notice("NOTICE", "55000").says_publication_skipped());
    assert!(!notice("WARNING", "01000").says_publication_skipped());
}

/// Each cause has the hint that removes it.
#[test]
fn refused_connection_has_the_advice_for_its_cause() {
    for (code, message, advice) in [
        ("53300", "too many connections for role \"lim\"", "ALTER ROLE"),
        ("53300", "too many connections for database \"lab\"", "ALTER DATABASE"),
        ("53300", "sorry, too many clients already", "max_connections"),
        ("28P01", "password authentication failed for user \"exp\"", "VALID UNTIL"),
    ] {
        let error = ServerError {
            severity: "FATAL".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            ..ServerError::default()
        };
        let hint = Problem::from(error).hint().unwrap_or_default().to_owned();
        assert!(hint.contains(advice), "{message}: {hint}");
    }
    for (cause, advice) in [
        (io::Error::from(io::ErrorKind::ConnectionRefused), "host and port"),
        (io::Error::from(io::ErrorKind::NotFound), "host and port"),
        (io::Error::other("failed to lookup address information: unknown"), "name server"),
        (io::Error::other("received fatal alert: UnknownCA"), "sslcert"),
        (io::Error::from(io::ErrorKind::TimedOut), "network"),
    ] {
        let error = Error::Network { target: "h:5432".to_owned(), cause };
        assert!(error.hint().unwrap_or_default().contains(advice), "{error}");
    }
}

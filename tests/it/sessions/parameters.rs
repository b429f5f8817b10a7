//! Parameters of the role and of the database that would end our sessions or change what they read.

use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};
use crate::support::session::{Session, runtime};
use forebay::source::postgres::connection::Connection;
use forebay::source::postgres::conninfo;

/// Not ours to overrule, or nothing that a role could sensibly have.
const LEFT_ALONE: &[&str] = &[
    // Names what must exist, or takes rights away: a broken log-in for everybody.
    "session_authorization",
    "role",
    "default_tablespace",
    "temp_tablespaces",
    "default_table_access_method",
    "default_text_search_config",
    "session_preload_libraries",
    "dynamic_library_path",
    "createrole_self_grant",
    // State of one transaction, or of the random numbers.
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "seed",
    // Named below.
    "application_name",
    "event_triggers",
    "allow_system_table_mods",
    "allow_in_place_tablespaces",
];

/// Texts, which have no least value.
const TEXTS: &[(&str, &str)] = &[
    ("client_encoding", "latin1"),
    ("datestyle", "German"),
    ("local_preload_libraries", "no_such_library"),
    ("search_path", ""),
    ("timezone", "Asia/Tokyo"),
    ("timezone_abbreviations", "India"),
];

/// Values that hurt more than the least one.
const WORSE: &[(&str, &str)] = &[
    ("bytea_output", "escape"),
    ("client_min_messages", "error"),
    ("default_transaction_isolation", "serializable"),
    ("extra_float_digits", "-15"),
    ("intervalstyle", "sql_standard"),
    ("xmlbinary", "hex"),
    ("xmloption", "document"),
];

/// Those whose default cannot be written for a role that keeps it.
pub const NO_DEFAULT: &[&str] = &["local_preload_libraries"];

/// Every parameter that a role can be given, with a value that is not its default: the other boolean, the other end of an
/// enumeration, the least number (a millisecond for a time limit).
pub fn hostile(session: &mut Session) -> Vec<(String, String, String)> {
    let rows = session.query(
        "select name, vartype, boot_val, min_val, array_to_json(enumvals)::text, reset_val from pg_settings
         where context in ('user', 'superuser') order by name",
    );
    let mut found = Vec::new();
    for row in rows {
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let (name, boot) = (text(0), text(2));
        if LEFT_ALONE.contains(&name.as_str()) {
            continue;
        }
        let named = |list: &[(&str, &str)]| {
            list.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let value = match text(1).as_str() {
            "string" => named(TEXTS),
            _ if named(WORSE).is_some() => named(WORSE),
            "bool" => Some(if boot == "on" { "off" } else { "on" }.to_owned()),
            "enum" => {
                let values: Vec<String> = serde_json::from_str(&text(4)).unwrap();
                values.into_iter().find(|value| *value != boot)
            }
            _ if name.ends_with("_timeout") => Some("1".to_owned()),
            _ => Some(text(3)),
        };
        if let Some(value) = value {
            found.push((name, value, text(5)));
        }
    }
    assert!(found.len() > 100, "{found:?}");
    found
}

/// One row with everything that has an output format, and a larger transaction that takes longer than any limit.
fn write_and_check(fixture: &Fixture) {
    fixture.postgres.execute(
        "insert into lab.plates (plate_id, barcode, sealed_at, volume_ul, notes) \
         values (1, 'PLT-1', '2026-01-02 03:04:05.678901+00', 1.250, 'ä€😀')",
    );
    fixture.postgres.execute(
        "insert into lab.samples (sample_code, plate_id, well, concentration) values ('S', 1, 'A1', 0.1::float8 + 0.2)",
    );
    fixture.postgres.execute(
        "insert into lab.plates (plate_id, barcode) select n, 'PLT-' || n from generate_series(2, 3000) n",
    );
    fixture.wait_until_published();
    let events = fixture.events();
    let data = |about: fn(&serde_json::Value) -> bool| {
        events.iter().map(|event| &event["data"]).find(|data| about(data)).unwrap().clone()
    };
    let plate = data(|data| data["barcode"] == "PLT-1");
    assert_eq!(plate["sealed_at"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(plate["notes"], "ä€😀");
    assert_eq!(data(|data| data["sample_code"] == "S")["concentration"].to_string(), "0.30000000000000004");
}

/// A role with every parameter that it can have at a hostile value starts, streams, reconnects.
#[test]
fn hostile_role_parameters_change_nothing() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let mut fixture = Fixture::prepare(version);
        let mut session = fixture.postgres.session("postgres");
        for (name, value, _) in hostile(&mut session) {
            session.execute(&format!("alter role forebay set {name} = '{value}'"));
        }
        fixture.go_on();
        write_and_check(&fixture);
        let mark = fixture.daemon.mark();
        super::end_stream(&fixture.postgres);
        fixture.daemon.wait_for_event_since(mark, "receiving");
        fixture.plates(4000..4003);
        fixture.wait_until_published();
    }
}

/// With another `lc_monetary` than the database's, an amount would have its decimal point elsewhere.
#[test]
fn money_is_printed_under_the_setting_of_the_database() {
    let postgres = Postgres::lab(Version::usual());
    postgres.execute("alter database lab set lc_monetary = 'C.UTF-8'");
    let settings: conninfo::Settings = postgres.url("forebay").parse().unwrap();
    runtime().block_on(async {
        let mut stream = Connection::connect(&settings, 1 << 20).await.unwrap();
        assert_eq!(stream.show("lc_monetary").await.unwrap(), "C.UTF-8");
    });
}

/// The same for a database; the superuser of the test keeps what it had.
#[test]
fn hostile_database_parameters_change_nothing() {
    for version in [Version(17), Version::OLDEST] {
        let postgres = Postgres::lab(version);
        let mut session = postgres.session("postgres");
        for (name, value, before) in hostile(&mut session) {
            if NO_DEFAULT.contains(&name.as_str()) {
                continue;
            }
            session.execute(&format!("alter role postgres set {name} = '{}'", before.replace('\'', "''")));
            session.execute(&format!("alter database lab set {name} = '{value}'"));
        }
        let mut fixture = Fixture::prepare_with(postgres);
        fixture.go_on();
        write_and_check(&fixture);
    }
}

/// An event trigger at log-in runs after the options of a session, and can change every one of them.
#[test]
fn login_trigger_changes_nothing() {
    let mut fixture = Fixture::prepare(Version::NEWEST);
    let hostile = [
        ("extra_float_digits", "-3"),
        ("intervalstyle", "sql_standard"),
        ("datestyle", "German"),
        ("timezone", "Asia/Tokyo"),
        ("bytea_output", "escape"),
        ("client_encoding", "latin1"),
        ("client_min_messages", "error"),
        ("search_path", "lab"),
        ("statement_timeout", "10s"),
        ("default_transaction_read_only", "on"),
    ];
    let set =
        hostile.map(|(name, value)| format!("perform set_config('{name}', '{value}', false);")).concat();
    fixture.postgres.execute(&format!(
        "create function lab.at_login() returns event_trigger language plpgsql as
             $$ begin if session_user = 'forebay' then {set} end if; end $$;
         create event trigger at_login on login execute function lab.at_login();
         alter event trigger at_login enable always"
    ));
    fixture.go_on();
    write_and_check(&fixture);
}

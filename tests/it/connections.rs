//! Every way into the database that the configuration offers, through the daemon itself: sockets, TCP, TLS, passwords.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::daemon::Daemon;
use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};

/// What no log may ever hold.
const PASSWORD: &str = "p/ss%wörd:1 @x";
/// The same in a URL.
const ENCODED: &str = "p%2Fss%25w%C3%B6rd%3A1%20%40x";

/// A lab that asks everybody for a password over TLS, with SCRAM.
fn guarded(method: &str) -> Fixture {
    let mut postgres = Postgres::builder(Version::usual())
        .without_fsync()
        .with_tls()
        .setting(&format!("password_encryption='{method}'"))
        .hba(&format!("hostssl all forebay 127.0.0.1/32 {method}"))
        .hba(&format!("hostssl replication forebay 127.0.0.1/32 {method}"))
        .hba("host all forebay 127.0.0.1/32 reject")
        .hba("host replication forebay 127.0.0.1/32 reject")
        .start();
    postgres.create_lab();
    postgres.execute(&format!("alter role forebay password '{PASSWORD}'"));
    Fixture::prepare_with(postgres)
}

fn publishes(fixture: &mut Fixture, ids: std::ops::Range<u32>) {
    fixture.daemon.settings().more.push(("log".to_owned(), "filter = \"trace\"".to_owned()));
    fixture.go_on();
    fixture.plates(ids);
    fixture.wait_until_published().assert_clean();
    assert!(fixture.daemon.terminate().success());
    assert_no_secret(&fixture.daemon);
    fixture.daemon.settings().more.retain(|(section, _)| section != "log");
}

/// Not even at trace level.
fn assert_no_secret(daemon: &Daemon) {
    for line in daemon.log() {
        for secret in [PASSWORD, ENCODED, "PASSWORD_OF_TEST", "p/ss", "p%2Fss"] {
            assert!(!line.contains(secret), "a secret in the log: {line}");
        }
    }
}

fn verified(fixture: &Fixture, user: &str) -> String {
    let ca = fixture.postgres.tls().ca.display().to_string();
    format!("{}?sslmode=verify-full&sslrootcert={ca}&channel_binding=require", fixture.postgres.url(user))
}

fn private_file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn unix_socket_and_plain_tcp_connect() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.daemon.settings().url = fixture.postgres.socket_url("forebay");
    publishes(&mut fixture, 0..3);
    fixture.daemon.settings().url = fixture.postgres.url("forebay");
    publishes(&mut fixture, 3..6);
    let directory = fixture.postgres.socket_directory().display().to_string();
    let port = fixture.postgres.port();
    fixture.daemon.settings().url = format!("postgresql:///lab?host={directory}&port={port}&user=forebay");
    publishes(&mut fixture, 6..9);
}

#[test]
fn verify_full_with_scram_takes_password_from_any_place() {
    let mut fixture = guarded("scram-sha-256");
    let files = tempfile::tempdir().unwrap();
    let url = verified(&fixture, "forebay");

    fixture.daemon.settings().url = url.replace("forebay@", &format!("forebay:{ENCODED}@"));
    publishes(&mut fixture, 0..2);

    fixture.daemon.settings().url.clone_from(&url);
    fixture.daemon.settings().environment =
        vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    publishes(&mut fixture, 2..4);

    let passfile = format!("# all of them\n*:*:*:forebay:{}\n", PASSWORD.replace(':', "\\:"));
    let passfile = private_file(files.path(), "pgpass", &passfile);
    fixture.daemon.settings().environment = vec![("PGPASSFILE".to_owned(), passfile.display().to_string())];
    publishes(&mut fixture, 4..6);

    fixture.daemon.settings().environment.clear();
    let file = private_file(files.path(), "password", &format!("{PASSWORD}\n"));
    let line = format!("password_file = \"{}\"", file.display());
    fixture.daemon.settings().more.push(("source".to_owned(), line));
    publishes(&mut fixture, 6..8);
    let printed = fixture.daemon.run(&["config"]);
    assert!(printed.status.success());
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("p/ss"));
}

/// A role that needs no password does not need the file of passwords; one that needs it is given the reason why it has none.
#[test]
fn unusable_pgpass_stops_only_who_needs_it() {
    let home = tempfile::tempdir().unwrap();
    let pgpass = private_file(home.path(), ".pgpass", "*:*:*:*:x\n");
    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o644)).unwrap();
    let environment = vec![("HOME".to_owned(), home.path().display().to_string())];
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.daemon.settings().environment.clone_from(&environment);
    publishes(&mut fixture, 0..2);
    let mut fixture = guarded("scram-sha-256");
    fixture.daemon.settings().url = verified(&fixture, "forebay");
    fixture.daemon.settings().environment = environment;
    fixture.refuses(&["none is configured", ".pgpass", "chmod 0600"]);
    let empty = private_file(home.path(), "password", "\n");
    let line = format!("password_file = \"{}\"", empty.display());
    fixture.daemon.settings().more.push(("source".to_owned(), line));
    fixture.refuses(&["is empty", "source.password_file"]);
}

#[test]
fn md5_over_tls_connects() {
    let mut fixture = guarded("md5");
    fixture.daemon.settings().url = verified(&fixture, "forebay").replace("&channel_binding=require", "");
    fixture.daemon.settings().environment =
        vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    publishes(&mut fixture, 0..2);
}

#[test]
fn rejected_login_or_certificate_is_explained() {
    type Case = (String, Vec<(String, String)>, &'static [&'static str]);
    let mut fixture = guarded("scram-sha-256");
    let good = verified(&fixture, "forebay");
    let other = tempfile::tempdir().unwrap();
    let other = crate::support::tls::Tls::generate(other.path());
    let others = other.ca.display().to_string();
    let ca = fixture.postgres.tls().ca.display().to_string();
    let right = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    let wrong = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), "PASSWORD_OF_TEST".to_owned())];
    let cases: [Case; 6] = [
        (good.clone(), wrong, &["28P01", "password authentication failed", "Check the user, the password"]),
        (good.clone(), vec![], &["password", "FOREBAY_SOURCE__PASSWORD"]),
        (fixture.postgres.url("forebay") + "?sslmode=disable", right.clone(), &["pg_hba.conf", "28000"]),
        (good.replace(&ca, &others), right.clone(), &["TLS", "certificate"]),
        (
            good.replace("lab?", "nosuch?"),
            right.clone(),
            &["3D000", "nosuch", "Check the database in the URL"],
        ),
        (good.replace("verify-full", "verify-ful"), right, &["sslmode", "verify-full"]),
    ];
    for (url, environment, texts) in cases {
        fixture.daemon.settings().url = url;
        fixture.daemon.settings().environment = environment;
        fixture.refuses(texts);
        assert_no_secret(&fixture.daemon);
        assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    }
}

#[test]
fn certificate_must_match_url_host() {
    let mut fixture = guarded("scram-sha-256");
    // 127.0.0.2 is the same machine, but not in the certificate.
    fixture.postgres.execute("alter system set listen_addresses = '*'");
    fixture.postgres.stop(crate::support::postgres::Stop::Fast);
    fixture.postgres.start_again();
    let url = verified(&fixture, "forebay").replace("@127.0.0.1", "@127.0.0.2");
    fixture.daemon.settings().environment =
        vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    fixture.daemon.settings().url.clone_from(&url);
    fixture.refuses(&["TLS", "certificate", "127.0.0.2"]);
    assert_no_secret(&fixture.daemon);
}

#[test]
fn readme_grants_are_enough() {
    for version in Version::all() {
        // First way: the owner makes the publication; the role only replicates. It can read no table.
        let mut fixture = Fixture::prepare(version);
        fixture.postgres.execute(
            "create role cdc login replication; \
             create publication forebay_lab for table lab.plates, lab.samples, lab.transfers",
        );
        assert_eq!(fixture.postgres.value("select has_table_privilege('cdc', 'lab.plates', 'select')"), "f");
        fixture.daemon.settings().url = fixture.postgres.url("cdc");
        fixture.go_on();
        fixture.plates(0..3);
        fixture.wait_until_published();
        fixture.daemon.assert_quiet(&[]);
    }
    for version in [Version::OLDEST, Version::NEWEST] {
        // Second way: Forebay makes it, as a member of the tables' owner who may create in the database.
        let mut fixture = Fixture::prepare(version);
        fixture.postgres.execute(
            "create role cdc login replication; grant lab to cdc; grant create on database lab to cdc",
        );
        fixture.daemon.settings().url = fixture.postgres.url("cdc");
        fixture.go_on();
        fixture.plates(0..3);
        fixture.wait_until_published().assert_clean();
        fixture.daemon.assert_quiet(&[]);
    }
}

#[test]
fn role_settings_do_not_change_events() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute(
        "alter role forebay set client_min_messages = 'error'; alter role forebay set datestyle = 'German'; \
         alter role forebay set intervalstyle = 'sql_standard'; alter role forebay set bytea_output = 'escape'; \
         alter role forebay set extra_float_digits = '-15'; alter role forebay set timezone = 'Asia/Tokyo'; \
         alter role forebay set search_path = ''; alter role forebay set statement_timeout = '100ms'; \
         alter role forebay set default_transaction_read_only = on; alter role forebay set idle_session_timeout = '500ms'; \
         alter role forebay set client_encoding = 'latin1'; alter role forebay set lock_timeout = '10ms'",
    );
    fixture.go_on();
    fixture.postgres.execute(
        "insert into lab.plates (plate_id, barcode, sealed_at, volume_ul, notes) \
         values (1, 'PLT-1', '2026-01-02 03:04:05.678901+00', 1.250, 'ä€😀')",
    );
    fixture.postgres.execute(
        "insert into lab.samples (sample_code, plate_id, well, concentration) values ('S', 1, 'A1', 0.1::float8 + 0.2)",
    );
    fixture.wait_until_published();
    let events = fixture.events();
    let data = |name: &str| events.iter().find(|event| event["type"] == name).unwrap()["data"].clone();
    let plate = data("lab.plates.inserted.v1");
    let lines: Vec<_> =
        fixture.records().into_iter().map(|record| String::from_utf8(record.data).unwrap()).collect();
    assert!(lines.iter().any(|line| line.contains("\"volume_ul\":1.250,")), "{lines:?}");
    assert_eq!(plate["sealed_at"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(plate["notes"], "ä€😀");
    assert_eq!(data("lab.samples.inserted.v1")["concentration"].to_string(), "0.30000000000000004");
    fixture.daemon.assert_quiet(&[]);
}

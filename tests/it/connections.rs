//! Every way into the database that the configuration offers, through the daemon itself: sockets, TCP, TLS, passwords.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Version};
use crate::support::scene::Scene;

/// What no log may ever hold.
const PASSWORD: &str = "p/ss%wörd:1 @x";
/// The same in a URL.
const ENCODED: &str = "p%2Fss%25w%C3%B6rd%3A1%20%40x";

/// A lab that asks everybody for a password over TLS, with SCRAM.
fn guarded(method: &str) -> Scene {
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
    Scene::prepare_with(postgres)
}

fn tells(scene: &mut Scene, ids: std::ops::Range<u32>) {
    scene.daemon.settings().more.push(("log".to_owned(), "filter = \"trace\"".to_owned()));
    scene.go_on();
    scene.plates(ids);
    scene.wait_until_told().assert_clean();
    assert!(scene.daemon.terminate().success());
    assert_no_secret(&scene.daemon);
    scene.daemon.settings().more.retain(|(section, _)| section != "log");
}

/// Not even at trace level.
fn assert_no_secret(daemon: &Daemon) {
    for line in daemon.log() {
        for secret in [PASSWORD, ENCODED, "PASSWORD_OF_TEST", "p/ss", "p%2Fss"] {
            assert!(!line.contains(secret), "a secret in the log: {line}");
        }
    }
}

fn verified(scene: &Scene, user: &str) -> String {
    let ca = scene.postgres.tls().ca.display().to_string();
    format!("{}?sslmode=verify-full&sslrootcert={ca}&channel_binding=require", scene.postgres.url(user))
}

fn private_file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_unix_socket_and_plain_tcp() {
    let mut scene = Scene::prepare(Version::usual());
    scene.daemon.settings().url = scene.postgres.socket_url("forebay");
    tells(&mut scene, 0..3);
    scene.daemon.settings().url = scene.postgres.url("forebay");
    tells(&mut scene, 3..6);
    let directory = scene.postgres.socket_directory().display().to_string();
    let port = scene.postgres.port();
    scene.daemon.settings().url = format!("postgresql:///lab?host={directory}&port={port}&user=forebay");
    tells(&mut scene, 6..9);
}

#[test]
fn tls_verified_in_full_with_scram_and_the_password_from_everywhere() {
    let mut scene = guarded("scram-sha-256");
    let files = tempfile::tempdir().unwrap();
    let url = verified(&scene, "forebay");

    scene.daemon.settings().url = url.replace("forebay@", &format!("forebay:{ENCODED}@"));
    tells(&mut scene, 0..2);

    scene.daemon.settings().url.clone_from(&url);
    scene.daemon.settings().environment = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    tells(&mut scene, 2..4);

    let passfile = format!("# all of them\n*:*:*:forebay:{}\n", PASSWORD.replace(':', "\\:"));
    let passfile = private_file(files.path(), "pgpass", &passfile);
    scene.daemon.settings().environment = vec![("PGPASSFILE".to_owned(), passfile.display().to_string())];
    tells(&mut scene, 4..6);

    scene.daemon.settings().environment.clear();
    let file = private_file(files.path(), "password", &format!("{PASSWORD}\n"));
    let line = format!("password_file = \"{}\"", file.display());
    scene.daemon.settings().more.push(("source".to_owned(), line));
    tells(&mut scene, 6..8);
    let printed = scene.daemon.run(&["config"]);
    assert!(printed.status.success());
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("p/ss"));
}

#[test]
fn md5_over_tls() {
    let mut scene = guarded("md5");
    scene.daemon.settings().url = verified(&scene, "forebay").replace("&channel_binding=require", "");
    scene.daemon.settings().environment = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    tells(&mut scene, 0..2);
}

#[test]
fn what_the_server_or_the_certificate_does_not_allow_is_refused_clearly() {
    type Case = (String, Vec<(String, String)>, &'static [&'static str]);
    let mut scene = guarded("scram-sha-256");
    let good = verified(&scene, "forebay");
    let other = tempfile::tempdir().unwrap();
    let other = crate::support::tls::Tls::generate(other.path());
    let others = other.ca.display().to_string();
    let ca = scene.postgres.tls().ca.display().to_string();
    let right = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    let wrong = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), "PASSWORD_OF_TEST".to_owned())];
    let cases: [Case; 6] = [
        (good.clone(), wrong, &["28P01", "password authentication failed", "check the password"]),
        (good.clone(), vec![], &["password", "FOREBAY_SOURCE__PASSWORD"]),
        (scene.postgres.url("forebay") + "?sslmode=disable", right.clone(), &["pg_hba.conf", "28000"]),
        (good.replace(&ca, &others), right.clone(), &["TLS", "certificate"]),
        (
            good.replace("lab?", "nosuch?"),
            right.clone(),
            &["3D000", "nosuch", "check the database in the URL"],
        ),
        (good.replace("verify-full", "verify-ful"), right, &["sslmode", "verify-full"]),
    ];
    for (url, environment, texts) in cases {
        scene.daemon.settings().url = url;
        scene.daemon.settings().environment = environment;
        scene.refuses(texts);
        assert_no_secret(&scene.daemon);
        assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
    }
}

#[test]
fn the_certificate_must_be_for_the_host_of_the_url() {
    let mut scene = guarded("scram-sha-256");
    // 127.0.0.2 is the same machine, but not in the certificate.
    scene.postgres.execute("alter system set listen_addresses = '*'");
    scene.postgres.stop(crate::support::postgres::Stop::Fast);
    scene.postgres.start_again();
    let url = verified(&scene, "forebay").replace("@127.0.0.1", "@127.0.0.2");
    scene.daemon.settings().environment = vec![("FOREBAY_SOURCE__PASSWORD".to_owned(), PASSWORD.to_owned())];
    scene.daemon.settings().url.clone_from(&url);
    scene.refuses(&["TLS", "certificate", "127.0.0.2"]);
    assert_no_secret(&scene.daemon);
}

#[test]
fn a_role_with_the_grants_of_the_readme_and_no_more() {
    for version in Version::all() {
        // First way: the owner makes the publication; the role only replicates. It can read no table.
        let mut scene = Scene::prepare(version);
        scene.postgres.execute(
            "create role cdc login replication; \
             create publication forebay_lab for table lab.plates, lab.samples, lab.transfers",
        );
        assert_eq!(scene.postgres.value("select has_table_privilege('cdc', 'lab.plates', 'select')"), "f");
        scene.daemon.settings().url = scene.postgres.url("cdc");
        scene.refuses(&["publication forebay_lab (without its slot)", "forebay adopt --reason"]);
        scene.adopt(&[]);
        scene.go_on();
        scene.plates(0..3);
        scene.wait_until_told();
        scene.daemon.assert_quiet(&[]);
    }
    for version in [Version::OLDEST, Version::NEWEST] {
        // Second way: Forebay makes it, as a member of the tables' owner who may create in the database.
        let mut scene = Scene::prepare(version);
        scene.postgres.execute(
            "create role cdc login replication; grant lab to cdc; grant create on database lab to cdc",
        );
        scene.daemon.settings().url = scene.postgres.url("cdc");
        scene.go_on();
        scene.plates(0..3);
        scene.wait_until_told().assert_clean();
        scene.daemon.assert_quiet(&[]);
    }
}

#[test]
fn no_settings_of_the_role_change_what_is_published() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute(
        "alter role forebay set client_min_messages = 'error'; alter role forebay set datestyle = 'German'; \
         alter role forebay set intervalstyle = 'sql_standard'; alter role forebay set bytea_output = 'escape'; \
         alter role forebay set extra_float_digits = '-15'; alter role forebay set timezone = 'Asia/Tokyo'; \
         alter role forebay set search_path = ''; alter role forebay set statement_timeout = '100ms'; \
         alter role forebay set default_transaction_read_only = on; alter role forebay set idle_session_timeout = '500ms'; \
         alter role forebay set client_encoding = 'latin1'; alter role forebay set lock_timeout = '10ms'",
    );
    scene.go_on();
    scene.postgres.execute(
        "insert into lab.plates (plate_id, barcode, sealed_at, volume_ul, notes) \
         values (1, 'PLT-1', '2026-01-02 03:04:05.678901+00', 1.250, 'ä€😀')",
    );
    scene.postgres.execute(
        "insert into lab.samples (sample_code, plate_id, well, concentration) values ('S', 1, 'A1', 0.1::float8 + 0.2)",
    );
    scene.wait_until_told();
    let events = scene.events();
    let data = |name: &str| events.iter().find(|event| event["type"] == name).unwrap()["data"].clone();
    let plate = data("lab.plates.inserted.v1");
    let lines: Vec<_> =
        scene.records().into_iter().map(|record| String::from_utf8(record.data).unwrap()).collect();
    assert!(lines.iter().any(|line| line.contains("\"volume_ul\":1.250,")), "{lines:?}");
    assert_eq!(plate["sealed_at"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(plate["notes"], "ä€😀");
    assert_eq!(data("lab.samples.inserted.v1")["concentration"].to_string(), "0.30000000000000004");
    scene.daemon.assert_quiet(&[]);
}

//! What cannot work is refused at start, before anything is made, with the command that mends it; and it mends it.

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Version};
use crate::support::scene::Scene;

#[test]
fn a_server_without_logical_decoding_is_refused() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("wal_level=replica").start();
    postgres.create_lab();
    let mut scene = Scene::prepare_with(postgres);
    scene.refuses(&["wal_level is \"replica\"", "ALTER SYSTEM SET wal_level = 'logical';", "restart"]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
}

#[test]
fn a_role_that_may_not_replicate_is_refused_until_the_named_command_is_run() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute("alter role forebay noreplication");
    let said = scene.refuses(&["may not replicate", "ALTER ROLE \"forebay\" REPLICATION;"]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
    scene.postgres.execute(&mending_command(&said));
    scene.go_on();
}

#[test]
fn a_role_that_may_not_make_the_publication_is_refused_with_the_statement_for_its_owner() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute("create role reader login replication");
    scene.daemon.settings().url = scene.postgres.url("reader");
    let said =
        scene.refuses(&["cannot be made", "CREATE PUBLICATION \"forebay_lab\" FOR TABLE \"lab\".\"plates\""]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
    let from = said.find("CREATE PUBLICATION").unwrap();
    let statement = said[from..].split_inclusive(';').next().unwrap().replace("\\\"", "\"");
    scene.postgres.execute(&statement);
    // The intent to make it was noted before: a publication without its slot is no mystery here.
    scene.go_on();
    scene.plates(0..3);
    scene.wait_until_told().assert_clean();
}

#[test]
fn a_publication_that_would_break_the_applications_own_updates_is_refused() {
    for (version, made) in [
        (Version::OLDEST, "create publication forebay_lab for all tables"),
        (Version::usual(), "create publication forebay_lab for all tables"),
        (Version::NEWEST, "create publication forebay_lab for tables in schema lab"),
    ] {
        let mut scene = Scene::prepare(version);
        scene.postgres.execute("create table lab.keyless (t text); alter table lab.keyless owner to lab");
        scene.postgres.execute(made);
        let said = scene.refuses(&[
            "\"lab\".\"keyless\" has no replica identity",
            "UPDATE and DELETE on it fails",
            "ALTER TABLE \"lab\".\"keyless\" REPLICA IDENTITY FULL;",
        ]);
        assert_eq!(scene.slots_and_publications(), "/forebay_lab", "nothing was created");
        scene.postgres.execute(&mending_command(&said));
        scene.adopt(&[]);
        scene.go_on();
        scene.postgres.execute("insert into lab.keyless values ('a'); update lab.keyless set t = 'b'");
        scene.plates(0..3);
        scene.wait_until_all_told(&scene.postgres.history());
    }
}

#[test]
fn a_keyless_leaf_of_a_partitioned_table_is_refused_too() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute(
        "create table lab.runs (run int not null, t text) partition by range (run); \
         create table lab.runs_1 partition of lab.runs for values from (0) to (100); \
         create publication forebay_lab for table lab.runs with (publish_via_partition_root = true)",
    );
    let failing = scene
        .postgres
        .session("postgres")
        .try_execute("insert into lab.runs values (1, 'a'); update lab.runs set t = 'b'");
    assert!(failing.is_err(), "Postgres itself refuses the update");
    scene.refuses(&["no replica identity", "REPLICA IDENTITY FULL;"]);
}

#[test]
fn an_empty_publication_is_refused() {
    for version in [Version::OLDEST, Version::usual(), Version::NEWEST] {
        let mut scene = Scene::prepare(version);
        scene.postgres.execute("create publication forebay_lab");
        scene.refuses(&[
            "publication \"forebay_lab\" is empty",
            "ALTER PUBLICATION \"forebay_lab\" ADD TABLE",
        ]);
        assert_eq!(scene.slots_and_publications(), "/forebay_lab", "nothing was created");
    }
}

#[test]
fn a_table_of_the_configuration_that_does_not_exist_is_refused() {
    let mut scene = Scene::prepare(Version::usual());
    scene.daemon.settings().tables = vec!["lab.plates".to_owned(), "lab.pltaes".to_owned()];
    scene.refuses(&["lab.pltaes", "source.tables"]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
    scene.daemon.settings().tables = vec!["lab.plates".to_owned()];
    scene.go_on();
}

#[test]
fn a_table_of_the_configuration_without_a_key_is_refused_before_its_updates_fail() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute("create table lab.keyless (t text); alter table lab.keyless owner to lab");
    scene.daemon.settings().tables = vec!["lab.plates".to_owned(), "lab.keyless".to_owned()];
    scene.refuses(&[
        "\"lab\".\"keyless\" has no replica identity",
        "ALTER TABLE \"lab\".\"keyless\" REPLICA IDENTITY FULL;",
    ]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
    scene.postgres.execute("insert into lab.keyless values ('a'); update lab.keyless set t = 'b'");
}

#[test]
fn a_database_without_a_single_keyed_table_is_refused() {
    let postgres = Postgres::builder(Version::usual()).without_fsync().start();
    postgres.execute("create table keyless (t text)");
    postgres.execute("create role forebay login superuser");
    let mut scene = Scene::prepare_with(postgres);
    scene.daemon.settings().tables.clear();
    scene.refuses(&["would be empty", "primary key"]);
    assert_eq!(scene.slots_and_publications(), "/", "nothing was created");
}

#[test]
fn all_findings_are_told_at_once() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("wal_level=replica").start();
    postgres.create_lab();
    let mut scene = Scene::prepare_with(postgres);
    scene.postgres.execute("alter role forebay noreplication; create publication forebay_lab");
    scene.refuses(&["wal_level", "may not replicate", "is empty"]);
}

#[test]
fn no_free_slot_is_refused_with_the_setting() {
    let postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_replication_slots=1").start();
    let mut postgres = postgres;
    postgres.create_lab();
    postgres.query("select pg_create_physical_replication_slot('taken')");
    let mut scene = Scene::prepare_with(postgres);
    scene.daemon.start_again();
    // It may pass by itself (somebody drops one), so it is tried again, and each try says what to do.
    scene.daemon.wait_for_log("max_replication_slots");
    scene.postgres.query("select pg_drop_replication_slot('taken')");
    scene.wait_until_receiving();
}

#[test]
fn a_taken_http_address_is_refused() {
    let mut scene = Scene::prepare(Version::usual());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    scene.daemon.settings().environment.push(("FOREBAY_HTTP__LISTEN".to_owned(), address.clone()));
    scene.refuses(&["cannot listen on", &address, "http.listen"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let mut scene = Scene::prepare(Version::usual());
    let file = scene.daemon.buffer_directory();
    std::fs::write(&file, "not a directory").unwrap();
    scene.refuses(&[&file.display().to_string()]);
}

#[test]
fn nobody_at_the_address_is_waited_for() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.stop(crate::support::postgres::Stop::Fast);
    scene.daemon.start_again();
    let daemon: &Daemon = &scene.daemon;
    daemon.wait_for_log("cannot start yet");
    scene.postgres.start_again();
    scene.wait_until_receiving();
    scene.plates(0..3);
    scene.wait_until_told().assert_clean();
}

/// What stands behind `mend it with:` in a log or on the error stream.
fn mending_command(said: &str) -> String {
    let (_, rest) = said.rsplit_once("mend it with: ").unwrap();
    rest.lines().next().unwrap().to_owned()
}

//! What cannot work is refused at start, before anything is made, with the command that fixes it; and the command does fix it.

use crate::support::daemon::Daemon;
use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};

#[test]
fn server_without_logical_decoding_is_refused() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("wal_level=replica").start();
    postgres.create_lab();
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.refuses(&["wal_level is \"replica\"", "ALTER SYSTEM SET wal_level = 'logical';", "restart"]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
}

#[test]
fn role_without_replication_is_refused_with_command() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute("alter role forebay noreplication");
    let said = fixture.refuses(&["may not replicate", "ALTER ROLE \"forebay\" REPLICATION;"]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    fixture.postgres.execute(&mending_command(&said));
    fixture.go_on();
}

/// What is advised can be pasted, whatever the role is called; and its name begins no line of the terminal.
#[test]
fn advice_quotes_the_name_of_the_role() {
    let mut fixture = Fixture::prepare(Version::usual());
    let role = "We\"ird; drop";
    fixture.postgres.execute("create role \"We\"\"ird; drop\" login in role lab");
    fixture.daemon.settings().url = fixture.postgres.url("We%22ird%3B%20drop");
    let said = fixture.refuses(&["may not replicate"]);
    let command = mending_command(&said);
    assert_eq!(command, format!("ALTER ROLE \"{}\" REPLICATION;", role.replace('"', "\"\"")));
    fixture.postgres.execute(&command);
    // Only the right that is missing is named.
    fixture
        .postgres
        .execute("revoke create on database lab from public; revoke create on database lab from lab");
    let said = fixture.refuses(&["may not create objects in database \"lab\""]);
    assert!(!said.contains("does not own"), "{said}");
    let (_, grant) = said.rsplit_once("a superuser: ").unwrap();
    fixture.postgres.execute(grant.lines().next().unwrap());
    fixture.go_on();
}

#[test]
fn server_without_slots_is_refused_with_setting() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_replication_slots=0").start();
    postgres.create_lab();
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.refuses(&[
        "max_replication_slots is 0",
        "ALTER SYSTEM SET max_replication_slots = 10;",
        "restart",
    ]);
}

#[test]
fn role_without_publish_right_is_refused_with_statement() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute("create role reader login replication");
    fixture.daemon.settings().url = fixture.postgres.url("reader");
    let said = fixture.refuses(&[
        "cannot be made",
        "role \"reader\": does not own lab.plates",
        "CREATE PUBLICATION \"forebay_lab\" FOR TABLE \"lab\".\"plates\"",
    ]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    let from = said.find("CREATE PUBLICATION").unwrap();
    let statement = said[from..].split_inclusive(';').next().unwrap().replace("\\\"", "\"");
    fixture.postgres.execute(&statement);
    // The intent to make it was noted before: a publication without its slot is no mystery here.
    fixture.go_on();
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
}

#[test]
fn publication_breaking_application_updates_is_refused() {
    for (version, made) in [
        (Version::OLDEST, "create publication forebay_lab for all tables"),
        (Version::usual(), "create publication forebay_lab for all tables"),
        (Version::NEWEST, "create publication forebay_lab for tables in schema lab"),
    ] {
        let mut fixture = Fixture::prepare(version);
        fixture.postgres.execute("create table lab.keyless (t text); alter table lab.keyless owner to lab");
        fixture.postgres.execute(made);
        let said = fixture.refuses(&[
            "table \"lab\".\"keyless\": no replica identity",
            "UPDATE and DELETE on it fails",
            "ALTER TABLE \"lab\".\"keyless\" REPLICA IDENTITY FULL;",
        ]);
        assert_eq!(fixture.slots_and_publications(), "/forebay_lab", "nothing was created");
        fixture.postgres.execute(&mending_command(&said));
        fixture.adopt(&[]);
        fixture.go_on();
        fixture.postgres.execute("insert into lab.keyless values ('a'); update lab.keyless set t = 'b'");
        fixture.plates(0..3);
        fixture.wait_until_all_published(&fixture.postgres.history());
    }
}

#[test]
fn keyless_partition_is_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute(
        "create table lab.runs (run int not null, t text) partition by range (run); \
         create table lab.runs_1 partition of lab.runs for values from (0) to (100); \
         create publication forebay_lab for table lab.runs with (publish_via_partition_root = true)",
    );
    let failing = fixture
        .postgres
        .session("postgres")
        .try_execute("insert into lab.runs values (1, 'a'); update lab.runs set t = 'b'");
    assert!(failing.is_err(), "Postgres itself refuses the update");
    fixture.refuses(&["no replica identity", "REPLICA IDENTITY FULL;"]);
}

#[test]
fn empty_publication_is_refused() {
    for version in [Version::OLDEST, Version::usual(), Version::NEWEST] {
        let mut fixture = Fixture::prepare(version);
        fixture.postgres.execute("create publication forebay_lab");
        fixture.refuses(&[
            "publication \"forebay_lab\": it is empty",
            "ALTER PUBLICATION \"forebay_lab\" ADD TABLE",
        ]);
        assert_eq!(fixture.slots_and_publications(), "/forebay_lab", "nothing was created");
    }
}

#[test]
fn missing_configured_table_is_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.daemon.settings().tables = vec!["lab.plates".to_owned(), "lab.pltaes".to_owned()];
    fixture.refuses(&["lab.pltaes", "source.tables"]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    fixture.daemon.settings().tables = vec!["lab.plates".to_owned()];
    fixture.go_on();
}

#[test]
fn keyless_configured_table_is_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute("create table lab.keyless (t text); alter table lab.keyless owner to lab");
    fixture.daemon.settings().tables = vec!["lab.plates".to_owned(), "lab.keyless".to_owned()];
    fixture.refuses(&[
        "table \"lab\".\"keyless\": no replica identity",
        "ALTER TABLE \"lab\".\"keyless\" REPLICA IDENTITY FULL;",
    ]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    fixture.postgres.execute("insert into lab.keyless values ('a'); update lab.keyless set t = 'b'");
}

#[test]
fn database_without_keyed_table_is_refused() {
    let postgres = Postgres::builder(Version::usual()).without_fsync().start();
    postgres.execute("create table keyless (t text)");
    postgres.execute("create role forebay login superuser");
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.daemon.settings().tables.clear();
    fixture.refuses(&["would be empty", "primary key"]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
}

#[test]
fn all_blockers_are_reported_at_once() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("wal_level=replica").start();
    postgres.create_lab();
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.postgres.execute("alter role forebay noreplication; create publication forebay_lab");
    fixture.refuses(&["wal_level", "may not replicate", "is empty"]);
}

#[test]
fn no_free_slot_is_refused_with_setting() {
    let postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_replication_slots=1").start();
    let mut postgres = postgres;
    postgres.create_lab();
    postgres.query("select pg_create_physical_replication_slot('taken')");
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.daemon.start_again();
    // It may pass by itself (somebody drops one), so it is tried again, and each try says what to do.
    fixture.daemon.wait_for_event_with(0, "start_retried", "max_replication_slots");
    fixture.postgres.query("select pg_drop_replication_slot('taken')");
    fixture.wait_until_receiving();
}

#[test]
fn occupied_http_address_is_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fixture.daemon.settings().environment.push(("FOREBAY_HTTP__LISTEN".to_owned(), address.clone()));
    fixture.refuses(&["cannot listen on", &address, "http.listen"]);
}

#[test]
fn unwritable_directory_is_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    let file = fixture.daemon.buffer_directory();
    std::fs::write(&file, "not a directory").unwrap();
    fixture.refuses(&[&file.display().to_string()]);
}

#[test]
fn unreachable_server_is_waited_for() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.stop(crate::support::postgres::Stop::Fast);
    fixture.daemon.start_again();
    let daemon: &Daemon = &fixture.daemon;
    daemon.wait_for_event("start_retried");
    fixture.postgres.start_again();
    fixture.wait_until_receiving();
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
}

/// What follows the last `Run:` on the error stream.
fn mending_command(said: &str) -> String {
    let (_, rest) = said.rsplit_once("Run: ").unwrap();
    rest.lines().next().unwrap().to_owned()
}

/// Each selector of `[tables]` and `[pii]` with a typo, all refused together; `?` marks those that may match nothing.
#[test]
fn selectors_that_match_nothing_are_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    let more = |include: &str, exclude: &str, drop: &str, pii: &str| {
        [("tables", format!("include = [{include}]")), ("tables", format!("exclude = [{exclude}]"))]
            .into_iter()
            .chain([("tables", format!("drop = [{drop}]")), ("pii", format!("columns = [{pii}]"))])
            .map(|(section, line)| (section.to_owned(), line))
            .collect::<Vec<_>>()
    };
    fixture.daemon.settings().more = more(
        "\"lab.plates\", \"lab.plate\"",
        "\"Lab.*\"",
        "\"lab.plates.Notes\", \"lab.plates.notes\", \"*.*.pasword\"",
        "\"*.*.operator_emial\"",
    );
    fixture.refuses(&[
        "tables.include: \"lab.plate\" matches no published table; did you mean \"lab.plates\"?",
        "tables.exclude: \"Lab.*\" matches no table; did you mean \"lab.*\"?",
        "tables.drop: \"lab.plates.Notes\" matches no column; did you mean \"lab.plates.notes\"?",
        "tables.drop: \"*.*.pasword\" matches no column",
        "pii.columns: \"*.*.operator_emial\" matches no column; did you mean \"*.*.operator_email\"?",
        "?lab.plate",
    ]);
    assert_eq!(fixture.slots_and_publications(), "/", "nothing was created");
    let rule =
        "[[event]]\ntype = \"lab.made.v1\"\nfrom = \"LAB.Plates\"\non = \"insert\"\ndata = \"plate_id\"\n";
    std::fs::write(fixture.daemon.home().join("rules.toml"), rule).unwrap();
    fixture.daemon.settings().more = vec![("events".to_owned(), "rules = \"rules.toml\"".to_owned())];
    fixture.refuses(&["there is no table LAB.Plates", "did you mean lab.plates?"]);
    fixture.daemon.settings().more =
        more("\"lab.*\"", "\"?lab.later\"", "\"?*.*.pasword\"", "\"?*.*.emial\"");
    fixture.go_on();
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
}

#[test]
fn selector_that_ceases_to_match_is_a_warning() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.daemon.settings().more.push(("tables".to_owned(), "drop = [\"lab.plates.notes\"]".to_owned()));
    fixture.daemon.settings().more.push(("events".to_owned(), "lock = \"nowhere\"".to_owned()));
    fixture.go_on();
    fixture.daemon.wait_for_event("contracts_missing");
    fixture.postgres.execute("alter table lab.plates rename column notes to remarks");
    let line = fixture.daemon.wait_for_event("selector_matches_nothing");
    assert!(line.contains("lab.plates.notes"), "{line}");
    fixture.plates(0..3);
    fixture.wait_until_published();
}

/// A child has the columns of its table, and leaves under its own name. So do partitions that are not sent as their root.
#[test]
fn selectors_that_miss_a_descendant_are_refused() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute(
        "create table lab.users (id bigint primary key, password text);
         create table lab.users_vip (primary key (id)) inherits (lab.users);
         create publication forebay_lab for table lab.users, lab.plates",
    );
    let drop = |columns: &str| vec![("tables".to_owned(), format!("drop = [{columns}]"))];
    fixture.daemon.settings().more = drop("\"lab.users.password\"");
    fixture.refuses(&[
        "published tables descend from selected tables",
        "tables.drop: \"lab.users.password\" selects lab.users, but not lab.users_vip",
        "Add \"lab.users_vip.password\" to tables.drop",
    ]);
    fixture.daemon.settings().more = drop("\"lab.users.password\", \"lab.users_vip.password\"");
    fixture.go_on();
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
    // A new child is published once somebody adds it.
    fixture.postgres.execute(
        "create table lab.users_new (primary key (id)) inherits (lab.users);
         alter publication forebay_lab add table lab.users_new",
    );
    fixture.gives_up(&["tables.drop: \"lab.users.password\" selects lab.users, but not lab.users_new"]);
}

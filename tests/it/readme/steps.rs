//! The five steps of the README, taken as written by a role that may do nothing else, up to an event in a stream.

use std::process::{Command, Output};

use forebay::source::postgres::slot::server_facts;
use kinesis_stub::{Config, Stub};
use serde_json::Value;
use tempfile::TempDir;

use super::python;
use super::{blocks, document, quoted, table};
use crate::support::daemon::is_event;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::process::{Process, Signal};
use crate::support::session::runtime;
use crate::support::{SOON, eventually, port};

/// The statements of the README and of the page on the configuration, by what they are for.
struct Statements {
    wal_level: String,
    role: String,
    publication: String,
    grants: String,
    revokes: String,
    removal: String,
}

impl Statements {
    fn read() -> Self {
        let [wal_level, role, publication, removal] =
            <[String; 4]>::try_from(blocks(&document("README.md"), "sql")).unwrap();
        let [grants, revokes] =
            <[String; 2]>::try_from(blocks(&document("docs/CONFIGURATION.md"), "sql")).unwrap();
        Self { wal_level, role, publication, grants, revokes, removal }
    }
}

/// Both ends, and a directory with the README's `forebay.toml`.
struct Fixture {
    // First: it ends before its directory goes.
    daemon: Option<Process>,
    stub: Stub,
    postgres: Postgres,
    home: TempDir,
    listen: u16,
    statements: Statements,
}

impl Fixture {
    /// A database as somebody might have it, after steps 1 and 2.
    fn start() -> Self {
        let statements = Statements::read();
        let mut postgres = Postgres::builder(Version::usual())
            .without_fsync()
            .setting("wal_level=replica")
            .hba("host lab forebay 127.0.0.1/32 scram-sha-256")
            .start();
        postgres.create_lab();
        // The tests' own role may too much.
        postgres.execute(
            "revoke lab from forebay; revoke create on database lab from forebay; drop role forebay",
        );
        postgres.execute(&statements.wal_level);
        postgres.stop(Stop::Fast);
        postgres.start_again();
        assert_eq!(postgres.value("show wal_level"), "logical");
        postgres.execute(&statements.role);
        let stub = Stub::start(Config::default().stream("lab-events", 2)).unwrap();
        let home =
            tempfile::Builder::new().prefix("fb-readme-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let [toml] = <[String; 1]>::try_from(blocks(&document("README.md"), "toml")).unwrap();
        std::fs::write(home.path().join("forebay.toml"), toml).unwrap();
        Self { daemon: None, stub, postgres, home, listen: port::free(), statements }
    }

    /// A line of the README in a shell. The file is the README's; only the addresses and the directory are a test's own.
    fn shell(&self, line: &str) -> Command {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_forebay"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let password = self.statements.role.split('\'').nth(1).unwrap();
        let mut command = Command::new("bash");
        command.arg("-c").arg(line).current_dir(self.home.path()).env_clear().env("PATH", path);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("NO_COLOR", "1");
        command.env("FOREBAY_SOURCE__URL", format!("{}?sslmode=disable", self.postgres.url("forebay")));
        command.env("FOREBAY_SOURCE__PASSWORD", password);
        command.env("FOREBAY_KINESIS__ENDPOINT", self.stub.endpoint());
        command.env("FOREBAY_BUFFER__DIR", self.home.path().join("buffer"));
        command.env("FOREBAY_HTTP__LISTEN", format!("127.0.0.1:{}", self.listen));
        command
    }

    fn run(&mut self, line: &str, variable: Option<(&str, &str)>) {
        let mut command = self.shell(&format!("exec {line}"));
        command.envs(variable);
        let daemon = Process::spawn("forebay", &mut command);
        let ready = daemon.log().wait(0, SOON, |line| is_event(line, "receiving") || line.contains("ERROR"));
        assert!(
            ready.as_ref().is_some_and(|line| is_event(line, "receiving")),
            "{ready:?}\n{}",
            daemon.tail()
        );
        self.daemon = Some(daemon);
    }

    fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        assert!(daemon.wait(SOON).success());
    }

    /// Inserts a plate and waits for its event.
    fn plate(&self, id: u32) -> Value {
        self.postgres
            .execute(&format!("insert into lab.plates (plate_id, barcode) values ({id}, 'PLT-{id}')"));
        eventually(&format!("the event of plate {id}"), SOON, || {
            self.events().into_iter().find(|event| event["subject"] == id.to_string().as_str())
        })
    }

    /// Each metric of docs/METRICS.md is there before anything has gone wrong, so that an alert sees it change.
    fn shows_every_metric(&self) {
        for row in table(&document("docs/METRICS.md"), "metric") {
            let name = quoted(&row[0])[0];
            eventually(&format!("{name} is shown"), SOON, || {
                let page = super::get(self.listen, "/metrics");
                page.lines()
                    .any(|line| {
                        [" ", "{", "_bucket{"].iter().any(|next| line.starts_with(&format!("{name}{next}")))
                    })
                    .then_some(())
            });
        }
        assert!(super::get(self.listen, "/health/live").starts_with("HTTP/1.1 200"));
        let curl = blocks(&document("README.md"), "sh")
            .join("")
            .lines()
            .find(|line| line.starts_with("curl "))
            .unwrap()
            .to_owned();
        let ready = self.shell(&curl.replace("9187", &self.listen.to_string())).output().unwrap();
        assert_eq!(said(&ready), "ready\n");
    }

    /// Step 7: the rule at the top of the README, as the step says.
    fn makes_events_of_the_rule(&mut self, run: &str) {
        let rules =
            blocks(&document("README.md"), "text").into_iter().filter(|block| block.contains("[[event]]"));
        let [rule] = <[String; 1]>::try_from(rules.collect::<Vec<_>>()).unwrap();
        std::fs::create_dir(self.home.path().join("events")).unwrap();
        std::fs::write(self.home.path().join("events/lab.toml"), rule).unwrap();
        self.postgres.execute("alter table lab.plates replica identity full");
        self.run(run, Some(("FOREBAY_EVENTS__RULES", "events/*.toml")));
        self.postgres.execute("update lab.plates set status = 'completed' where plate_id = 7");
        let completed = || self.events().into_iter().find(|event| event["type"] == "lab.plate_completed.v1");
        let event = eventually("the event of the rule", SOON, completed);
        assert_eq!(event["data"]["barcode"], "PLT-7");
        self.stop();
    }

    fn events(&self) -> Vec<Value> {
        let parse = |record: kinesis_stub::Record| serde_json::from_slice(&record.data).unwrap();
        self.stub.records().into_iter().map(parse).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// The lines of the README that begin with `forebay`.
fn commands() -> [String; 2] {
    let blocks = blocks(&document("README.md"), "sh");
    let lines: Vec<_> = blocks.iter().flat_map(|block| block.lines()).map(str::to_owned).collect();
    let ours: Vec<_> = lines.into_iter().filter(|line| line.starts_with("forebay ")).collect();
    ours.try_into().unwrap()
}

#[test]
fn readme_steps_lead_to_an_event() {
    let [check, run] = commands();
    let mut fixture = Fixture::start();
    // Step 3, as the owner of the tables.
    fixture.postgres.execute("grant create on database lab to lab");
    fixture.postgres.execute(&format!("set role lab; {}", fixture.statements.publication));
    let shown = fixture.shell(&check).output().unwrap();
    assert!(shown.status.success(), "{}", said(&shown));
    assert!(said(&shown).contains("`forebay run` can start") && !said(&shown).contains("change me"));
    fixture.postgres.query("select pg_create_logical_replication_slot('beside', 'pgoutput')");
    fixture.run(&run, None);
    let event = fixture.plate(7);
    assert_eq!(event["type"], "lab.plates.inserted.v1");
    assert_eq!(event["source"], "urn:forebay:lab");
    assert_eq!(event["data"]["barcode"], "PLT-7");
    assert_eq!(event["id"], recomputed(&fixture.postgres).as_str());
    fixture.shows_every_metric();
    fixture.stop();
    let adopted = fixture.shell("forebay adopt --config forebay.toml --reason \"a test\"").output().unwrap();
    assert!(adopted.status.success() && said(&adopted).contains("Epoch 1 begins"), "{}", said(&adopted));
    fixture.run(&run, None);
    let published = || fixture.events().into_iter().find(|event| event["type"] == "forebay.gap.v1");
    let gap = eventually("the gap event is published", SOON, published);
    let [documented] = <[String; 1]>::try_from(blocks(&document("docs/EVENTS.md"), "json")).unwrap();
    let documented: Value = serde_json::from_str(&documented).unwrap();
    assert_eq!(gap["type"], "forebay.gap.v1");
    assert_eq!(
        gap["data"].as_object().unwrap().keys().collect::<Vec<_>>(),
        documented.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    fixture.stop();
    fixture.makes_events_of_the_rule(&run);
    // As the README removes it; the test's own slot stays.
    let active = "select active from pg_replication_slots where slot_name = 'forebay_lab'";
    eventually("the slot is free", SOON, || (fixture.postgres.value(active) == "f").then_some(()));
    fixture.postgres.execute(&fixture.statements.removal);
    assert_eq!(
        fixture.postgres.value("select string_agg(slot_name, ',') from pg_replication_slots"),
        "beside"
    );
    assert_eq!(fixture.postgres.value("select count(*) from pg_publication"), "0");
}

/// The id of the only insert that another slot has seen, by the recipe of docs/EVENTS.md.
fn recomputed(postgres: &Postgres) -> String {
    let messages = postgres.query(
        "select lsn::text, xid::text, encode(data, 'hex') from pg_logical_slot_peek_binary_changes('beside', null, null, \
         'proto_version', '1', 'publication_names', 'forebay_lab')",
    );
    let cell = |row: &Vec<Option<String>>, column: usize| row[column].clone().unwrap();
    let with_tag =
        |tag: &str| messages.iter().filter(|row| cell(row, 2).starts_with(tag)).collect::<Vec<_>>();
    // B: tag, LSN (8 bytes), commit time in microseconds since 2000 (8 bytes), xid. I: the insert.
    let (begin, insert) = (with_tag("42"), with_tag("49"));
    assert_eq!((begin.len(), insert.len()), (1, 1));
    let commit = i64::from_str_radix(&cell(begin[0], 2)[18..34], 16).unwrap() + 946_684_800_000_000;
    let (lsn, xid) = (cell(insert[0], 0), cell(insert[0], 1));
    python::print(&format!("event_id('urn:forebay:lab', 'lab.plates.inserted.v1', {commit}, {xid}, '{lsn}')"))
}

#[test]
fn publication_grants_are_needed_only_for_first_start() {
    let [_, run] = commands();
    let mut fixture = Fixture::start();
    let tables = ("FOREBAY_SOURCE__TABLES", "lab.plates, lab.samples");
    let refused = fixture.shell(&run).envs([tables]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("CREATE PUBLICATION \"forebay_lab\" FOR TABLE"), "{}", said(&refused));
    fixture.postgres.execute(&fixture.statements.grants);
    fixture.run(&run, Some(tables));
    fixture.plate(1);
    fixture.stop();
    fixture.postgres.execute(&fixture.statements.revokes);
    fixture.run(&run, None);
    fixture.plate(2);
    fixture.stop();
    let types: Vec<_> = fixture.events().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["lab.plates.inserted.v1"; 2], "no gap, and no repeat after a clean stop");
}

#[test]
fn rds_replication_membership_allows_replication() {
    let postgres = Postgres::start(Version::usual());
    postgres.execute("create role forebay login; create role rds_replication");
    let may_replicate = || {
        runtime().block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&postgres.url("forebay"), tokio_postgres::NoTls).await.unwrap();
            let facts = async move { server_facts(&client).await.unwrap().may_replicate };
            tokio::join!(facts, async { connection.await.unwrap() }).0
        })
    };
    assert!(!may_replicate());
    postgres.execute("grant rds_replication to forebay");
    assert!(may_replicate());
}

#[test]
fn runbook_statement_runs() {
    let postgres = Postgres::start(Version::usual());
    postgres.query("select pg_create_logical_replication_slot('s', 'pgoutput')");
    let [statement] = <[String; 1]>::try_from(blocks(&document("docs/OPERATIONS.md"), "sql")).unwrap();
    assert_eq!(postgres.query(&statement).len(), 1);
}

#[test]
fn documented_sql_yields_same_id() {
    let postgres = Postgres::start(Version::usual());
    if postgres.value("select 1 from pg_available_extensions where name = 'uuid-ossp'").is_empty() {
        crate::support::missing("the extension uuid-ossp");
        return;
    }
    postgres.execute("create extension \"uuid-ossp\"");
    let blocks = blocks(&document("docs/EVENTS.md"), "sql");
    let statement = blocks.into_iter().find(|block| block.contains("uuid_generate_v5")).unwrap();
    let id = postgres.value(&statement);
    let recipe = python::blocks_of_events().concat();
    assert!(!id.is_empty() && recipe.contains(&id), "{id} is not the id that the Python recipe asserts");
}

/// The statement and the Python recipe give the same pseudonym. `personal_data_is_published_only_as_stable_pseudonym`
/// has it from the daemon.
#[test]
fn documented_sql_yields_same_pseudonym() {
    let postgres = Postgres::start(Version::usual());
    if postgres.value("select 1 from pg_available_extensions where name = 'pgcrypto'").is_empty() {
        crate::support::missing("the extension pgcrypto");
        return;
    }
    postgres.execute("create extension pgcrypto");
    let blocks = blocks(&document("docs/EVENTS.md"), "sql");
    let statement = blocks.into_iter().find(|block| block.contains("'p_'")).unwrap();
    let pseudonym = postgres.value(&statement);
    let of_python =
        "pseudonym('0123456789abcdef', 'urn:forebay:lab/lab.plates.operator_email', 'ada@lab.example')";
    assert_eq!(python::print(of_python), pseudonym);
    assert!(document("docs/EVENTS.md").contains(&format!("== \"{pseudonym}\"")), "{pseudonym}");
}

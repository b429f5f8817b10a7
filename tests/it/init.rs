//! `forebay init`: the file that it writes is right for the database, checks, and runs.

use std::path::Path;
use std::process::{Command, Output};

use kinesis_stub::{Config, Stub};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::is_event;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::Process;
use crate::support::{SOON, eventually, port};

fn home() -> TempDir {
    tempfile::Builder::new().prefix("fb-init-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The program in a folder, as a person calls it.
fn forebay(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).current_dir(folder).env_clear().env("HOME", folder).env("NO_COLOR", "1");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_REGION", "eu-central-1").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Commands against what `check --json` finds.
fn blockers(check: &mut Command) -> Vec<Value> {
    let output = check.output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let findings = report["findings"].as_array().unwrap().iter();
    findings.filter(|one| one["severity"] == "blocker").map(|one| one["command"].clone()).collect()
}

#[test]
fn written_file_checks_and_runs() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let (postgres, home) = (Postgres::lab(version), home());
        postgres.execute("alter table audit.changes owner to lab");
        let stub = Stub::start(Config::default().stream("lab-events", 2)).unwrap();
        let url = postgres.url("forebay").replace("forebay@", "forebay:sekret@");
        let init = ["init", "--source", &url, "--stream", "lab-events"];
        let output = forebay(home.path(), &init).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let file = home.path().join("forebay.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("sekret") && text.contains("\"lab.plates\""), "{text}");
        // Nothing is overwritten.
        let again = forebay(home.path(), &init).output().unwrap();
        assert_eq!(again.status.code(), Some(1), "{}", said(&again));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        let environment = [
            ("FOREBAY_KINESIS__ENDPOINT", stub.endpoint()),
            ("FOREBAY_BUFFER__DIR", home.path().join("buffer").display().to_string()),
            ("FOREBAY_HTTP__LISTEN", format!("127.0.0.1:{}", port::free())),
        ];
        // The role owns a table in a schema that it may not use.
        let missing = blockers(forebay(home.path(), &["check", "--json"]).envs(environment.clone()));
        let [Value::String(command)] = &missing[..] else { panic!("{missing:?}") };
        postgres.execute(command);
        let missing = blockers(forebay(home.path(), &["check", "--json"]).envs(environment.clone()));
        assert_eq!(missing, Vec::<Value>::new());
        let daemon = Process::spawn("forebay", forebay(home.path(), &["run"]).envs(environment));
        let receiving = daemon.log().wait(0, SOON, |line| is_event(line, "receiving"));
        assert!(receiving.is_some(), "{}", daemon.tail());
    }
}

#[test]
fn tables_that_cannot_be_published_are_named_with_reason() {
    let (postgres, home) = (Postgres::lab(Version::usual()), home());
    postgres.execute(
        "create table public.keyless (t text);
         create unlogged table public.scratch (id int primary key);
         create materialized view public.report as select 1 as one;
         create table public.customer (id int primary key, email text, first_name text);
         create table public.visits (id int, day date, primary key (id, day)) partition by range (day);
         create table public.visits_1 partition of public.visits for values from ('2026-01-01') to ('2027-01-01');
         create publication dba_made for table public.customer",
    );
    let url = postgres.url("forebay");
    let output = forebay(home.path(), &["init", "--source", &url, "--name", "shop", "--output", "-"])
        .output()
        .unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for (line, reason) in [
        ("# public.keyless: ", "no primary key"),
        ("# public.scratch: ", "UNLOGGED"),
        ("# public.report: ", "materialized view"),
        ("    \"public.customer\",", "key id"),
        ("    \"public.visits\",", "key id, day"),
        ("#     \"public.customer.email\",", ""),
        ("#     \"public.customer.first_name\",", ""),
        ("# Publications of this database: ", "dba_made"),
        ("stream = ", "\"shop-events\""),
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line) && found.contains(reason)),
            "{line}: {text}"
        );
    }
    assert!(!text.contains("visits_1"), "a partition is published with its table: {text}");
    assert!(!home.path().join("forebay.toml").exists());
}

/// A role without the right to replicate polls: the cursors are those that a start chooses, and the file runs.
#[test]
fn role_without_replication_polls() {
    for version in [Version(12), Version::usual()] {
        let (postgres, home) = (Postgres::lab(version), home());
        postgres.execute(
            "create role reader login password 'sekret';
             create schema shop; grant usage on schema shop to reader;
             create table shop.orders (id bigint generated always as identity primary key, total numeric);
             create table shop.customers (id uuid primary key, email text, updated_at timestamptz not null default now());
             create index on shop.customers (updated_at);
             create table shop.notes (id uuid primary key);
             create table shop.secrets (id int primary key);
             grant select on shop.orders, shop.customers, shop.notes to reader;
             grant select on sequence shop.orders_id_seq to reader",
        );
        let stub = Stub::start(Config::default().stream("lab-events", 2)).unwrap();
        let url = postgres.url("reader").replace("reader@", "reader:sekret@");
        let init = ["init", "--source", &url, "--stream", "lab-events"];
        let output = forebay(home.path(), &init).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("2 tables to publish"), "{}", said(&output));
        let text = std::fs::read_to_string(home.path().join("forebay.toml")).unwrap();
        for (line, reason) in [
            if version < Version::OLDEST {
                ("# PostgreSQL 12: ", "14 or later")
            } else {
                ("# Role \"reader\" may not replicate.", "ALTER ROLE \"reader\" REPLICATION")
            },
            ("mode = \"polling\"", ""),
            ("    \"shop.orders\",", "serial cursor id"),
            ("    \"shop.customers\",", "updated_at cursor updated_at"),
            ("# shop.notes: ", "xid8"),
            ("# shop.secrets: ", "GRANT SELECT"),
            ("#     \"shop.customers.email\",", ""),
        ] {
            let is_there = |found: &str| found.starts_with(line) && found.contains(reason);
            assert!(text.lines().any(is_there), "{line}: {text}");
        }
        let environment = [
            ("FOREBAY_SOURCE__PASSWORD", "sekret".to_owned()),
            ("FOREBAY_KINESIS__ENDPOINT", stub.endpoint()),
            ("FOREBAY_BUFFER__DIR", home.path().join("buffer").display().to_string()),
            ("FOREBAY_HTTP__LISTEN", format!("127.0.0.1:{}", port::free())),
        ];
        let missing = blockers(forebay(home.path(), &["check", "--json"]).envs(environment.clone()));
        assert_eq!(missing, Vec::<Value>::new());
        let daemon = Process::spawn("forebay", forebay(home.path(), &["run"]).envs(environment));
        let receiving = daemon.log().wait(0, SOON, |line| is_event(line, "receiving"));
        assert!(receiving.is_some(), "{}", daemon.tail());
        postgres.execute("insert into shop.orders (total) values (7)");
        eventually("the row is in the stream", SOON, || (!stub.records().is_empty()).then_some(()));
        // The mode can be chosen.
        let chosen =
            forebay(home.path(), &["init", "--source", &url, "--mode", "replication", "--output", "-"]);
        let text = said(&{ chosen }.output().unwrap());
        assert!(!text.contains("mode = \"polling\"") && text.contains("\"shop.notes\","), "{text}");
    }
}

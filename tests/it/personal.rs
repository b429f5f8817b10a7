//! Personal data never leaves under another name: each way that a column or a table can be renamed, moved, copied or inherited,
//! with values ("canaries") that must never be found in the stream.

mod walk;

use crate::outbox::{events, letters};
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// In each value of personal data.
const CANARY: &str = "CANARY";

/// A database whose publication takes every table of two schemas, partitions under their own names, and a daemon that is not started.
fn prepare(version: Version, ddl: &str, entries: &[&str]) -> Flow {
    let postgres = Postgres::lab(version);
    postgres.execute(&format!(
        "create schema hr; grant all on schema lab, hr to forebay; set search_path = lab; {ddl};
         create publication forebay_lab for tables in schema lab, hr"
    ));
    Flow::over(postgres, seed(), |settings: &mut Settings| {
        settings.tables = Vec::new();
        settings.more.push(("pii".to_owned(), columns(entries)));
    })
}

fn columns(entries: &[&str]) -> String {
    format!("columns = {entries:?}")
}

fn sql(flow: &Flow, text: &str) {
    flow.postgres.execute(&format!("set search_path = lab; {text}"));
}

/// Waits until everything that was committed is an event or a dead letter, and looks for canaries in the stream.
#[track_caller]
fn assert_no_canary(flow: &mut Flow) {
    look_for_canaries(flow);
    flow.wait_until_drained();
    look_for_canaries(flow);
}

/// Waits until a later event is in the stream, and looks for canaries there and in the log.
#[track_caller]
fn look_for_canaries(flow: &mut Flow) {
    let marker = flow.mark();
    eventually("the marker", SOON, || {
        flow.published().iter().any(|change| change.key == marker).then_some(())
    });
    for record in flow.stub.records() {
        let text = String::from_utf8_lossy(&record.data);
        assert!(!text.contains(CANARY) && !record.key.contains(CANARY), "it has left: {text}");
    }
    let log = flow.daemon.log();
    let quoted = log.iter().find(|line| line.contains(CANARY));
    assert_eq!(quoted, None, "it is in the log");
}

/// The daemon must refuse to start, with each of these texts.
#[track_caller]
fn refused(flow: &mut Flow, texts: &[&str]) {
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    for text in texts {
        assert!(log.contains(text), "not said: {text:?}\n{log}");
    }
}

/// The types of events of a table.
fn types(flow: &Flow, table: &str) -> Vec<String> {
    let of = |kind: &String| kind.starts_with(&format!("{table}."));
    events(flow, 0).iter().map(|event| event["type"].as_str().unwrap().to_owned()).filter(of).collect()
}

#[test]
fn renamed_column_is_a_dead_letter_until_somebody_says() {
    let ddl = "create table people (id bigint primary key, email text, note text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1', 'n')");
    sql(&flow, "alter table people rename email to email_old; alter table people add column email text");
    sql(&flow, "insert into people values (2, 'CANARY2', 'n', 'CANARY3')");
    flow.daemon.wait_for_event_with(0, "personal_column_renamed", "email_old");
    assert_no_canary(&mut flow);
    let found = letters(&flow);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["reason"].as_str().unwrap().contains("email_old was lab.people.email"), "{found:?}");
    assert!(flow.daemon.terminate().success());
    refused(&mut flow, &["lab.people.email_old was lab.people.email, which holds personal data"]);

    // The advice as it is given.
    let entries = ["lab.people.email", "lab.people.email_old"];
    flow.daemon.settings().more = vec![("pii".to_owned(), columns(&entries))];
    flow.start();
    let id = found[0]["id"].as_str().unwrap();
    assert!(flow.daemon.run(&["dlq", "retry", id]).status.success());
    eventually("the retried event", SOON, || (types(&flow, "lab.people").len() == 2).then_some(()));
    assert_no_canary(&mut flow);

    // Somebody says that it holds none any more.
    sql(
        &flow,
        "update people set email_old = 'plain'; insert into people values (3, 'harmless', 'n', 'CANARY4')",
    );
    assert_no_canary(&mut flow);
    assert!(flow.daemon.terminate().success());
    let entries = ["lab.people.email", "!lab.people.email_old"];
    flow.daemon.settings().more = vec![("pii".to_owned(), columns(&entries))];
    flow.start();
    sql(&flow, "insert into people values (4, 'published', 'n', 'CANARY5')");
    assert_no_canary(&mut flow);
    let last = events(&flow, 0).pop().unwrap();
    let all = events(&flow, 0);
    let fourth = all.iter().find(|event| event["data"]["id"] == 4).unwrap_or(&last);
    assert_eq!(fourth["data"], serde_json::json!({"id": 4, "email_old": "published", "note": "n"}));
    assert!(flow.daemon.terminate().success());
}

/// What happens while nobody looks is found at the next start, by the numbers of the columns.
#[test]
fn column_renamed_while_stopped_is_refused() {
    let ddl = "create table people (id bigint primary key, email text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1')");
    assert_no_canary(&mut flow);
    assert!(flow.daemon.terminate().success());
    sql(
        &flow,
        "alter table people rename email to mail; alter table people add column email text;
         insert into people values (2, 'CANARY2', 'CANARY3')",
    );
    refused(&mut flow, &["lab.people.mail was lab.people.email"]);
    // An adoption begins a new epoch. The numbers stay.
    let adopted = flow.daemon.run(&["adopt", "--reason", "a test"]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    refused(&mut flow, &["lab.people.mail was lab.people.email"]);
    let entries = ["lab.people.email", "lab.people.mail"];
    flow.daemon.settings().more = vec![("pii".to_owned(), columns(&entries))];
    flow.start();
    assert_no_canary(&mut flow);
    assert_eq!(types(&flow, "lab.people").len(), 2);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn moved_table_keeps_its_tags() {
    let ddl = "create table people (id bigint primary key, email text);
               create table staff (id bigint primary key, email text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email", "lab.*.email"]);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1'); insert into staff values (1, 'CANARY2')");
    sql(&flow, "alter table people rename to persons; insert into persons values (2, 'CANARY3')");
    sql(&flow, "alter table staff set schema hr; insert into hr.staff values (2, 'CANARY4')");
    assert_no_canary(&mut flow);
    assert_eq!(types(&flow, "lab.persons"), ["lab.persons.inserted.v1"], "lab.*.email names its column");
    let reasons: Vec<_> = letters(&flow).iter().map(|letter| letter["reason"].to_string()).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("email was lab.staff.email"), "{reasons:?}");
    assert!(flow.daemon.terminate().success());
}

/// A partition leaves under its own name, also after it was detached; a child does so always.
#[test]
fn descendants_have_the_tags_of_their_table() {
    let ddl = "create table parts (id bigint, email text, primary key (id)) partition by range (id);
               create table parts_1 partition of parts for values from (0) to (100);
               create table parts_2 partition of parts for values from (100) to (200);
               create table people (id bigint primary key, email text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.parts.email", "lab.people.email"]);
    flow.start();
    sql(&flow, "insert into parts values (1, 'CANARY1'), (101, 'CANARY2')");
    sql(
        &flow,
        "create table kids (primary key (id), age int) inherits (people); insert into kids values (1, 'CANARY3', 5)",
    );
    assert_no_canary(&mut flow);
    sql(&flow, "alter table parts detach partition parts_1; insert into parts_1 values (2, 'CANARY4')");
    sql(
        &flow,
        "alter table kids no inherit people; alter table kids rename email to mail; insert into kids values (2, 'CANARY5', 6)",
    );
    sql(
        &flow,
        "alter table people rename email to mail; create table more (primary key (id)) inherits (people)",
    );
    sql(&flow, "insert into more values (1, 'CANARY6')");
    assert_no_canary(&mut flow);
    for (table, count) in [("lab.parts_1", 2), ("lab.parts_2", 1), ("lab.kids", 2), ("lab.more", 1)] {
        assert_eq!(types(&flow, table).len(), count, "{table}");
    }
    assert!(flow.daemon.terminate().success());
}

#[test]
fn copied_table_holds_its_columns_back() {
    let ddl = "create table people (id bigint primary key, email text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1')");
    sql(&flow, "create table copied (like people including all); insert into copied select * from people");
    flow.daemon.wait_for_event_with(0, "personal_table_copied", "lab.copied");
    sql(&flow, "create table copied_again as table people; alter table copied_again add primary key (id)");
    sql(&flow, "insert into copied_again values (2, 'CANARY2')");
    // A child that nobody has seen with its table.
    sql(
        &flow,
        "create table kids (primary key (id), age int) inherits (people); insert into kids values (3, 'CANARY3', 5);
         alter table kids no inherit people",
    );
    assert_no_canary(&mut flow);
    assert!(flow.daemon.terminate().success());
    // Somebody says that the copy holds none.
    sql(&flow, "update copied set email = 'plain'");
    flow.daemon.settings().more =
        vec![("pii".to_owned(), columns(&["lab.people.email", "!lab.copied.email"]))];
    flow.start();
    sql(&flow, "insert into copied values (7, 'harmless')");
    assert_no_canary(&mut flow);
    let all = events(&flow, 0);
    assert!(all.iter().any(|event| event["data"]["email"] == "harmless"), "{all:?}");
    assert!(flow.daemon.terminate().success());
}

/// PostgreSQL 18 publishes generated columns.
#[test]
fn column_computed_from_a_tagged_one_is_tagged() {
    let ddl = "create table people (id bigint primary key, email text, upper_email text generated always as (upper(email)) stored);
               alter table people replica identity full";
    let mut flow = prepare(Version::NEWEST, ddl, &["lab.people.email"]);
    flow.postgres.execute("alter publication forebay_lab set (publish_generated_columns = stored)");
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1'); update people set email = 'CANARY2'");
    sql(&flow, "alter table people add column more text generated always as (email || '!') stored");
    sql(&flow, "insert into people values (2, 'CANARY3')");
    assert_no_canary(&mut flow);
    assert_eq!(types(&flow, "lab.people").len(), 3);
    assert!(flow.daemon.terminate().success());
}

/// Rows that were written before Forebay could look at their table: which of the columns was which is not known.
#[test]
fn rows_between_two_renames_are_dead_letters() {
    let ddl = "create table people (id bigint primary key, email text, note text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1', 'n')");
    assert_no_canary(&mut flow);
    assert!(flow.daemon.terminate().success());
    sql(
        &flow,
        "alter table people rename email to x; alter table people rename note to email; alter table people rename x to note;
         insert into people values (2, 'CANARY2', 'plain');
         alter table people rename email to x; alter table people rename note to email; alter table people rename x to note;
         alter table people rename email to y; insert into people values (3, 'CANARY3', 'n'); alter table people rename y to email",
    );
    flow.start();
    assert_no_canary(&mut flow);
    let reasons: Vec<_> = letters(&flow).iter().map(|letter| letter["reason"].to_string()).collect();
    assert!(
        reasons.len() == 2 && reasons.iter().all(|reason| reason.contains("altered more than once")),
        "{reasons:?}"
    );
    assert!(flow.daemon.terminate().success());
}

/// A rule names a column that is dropped, and a tagged one takes its name: as the rule, so the lock would see nothing.
#[test]
fn rule_publishes_no_tagged_column_under_a_dropped_name() {
    let ddl = "create table people (id bigint primary key, email text, note text, more text)";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    flow.daemon.settings().more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
    let rule = |name: &str, data: &str| {
        format!(
            "[[event]]\ntype = \"lab.{name}.v1\"\nfrom = \"lab.people\"\non = \"insert, update\"\n{data}\n"
        )
    };
    let rules =
        rule("noted", "data = \"id, note\"") + &rule("seen", "") + &rule("had", "data = \"id, more\"");
    crate::rules::write(&flow, &rules);
    flow.start();
    sql(&flow, "insert into people values (1, 'CANARY1', 'plain', 'plain')");
    assert_no_canary(&mut flow);
    assert!(letters(&flow).is_empty());
    // Dropped, and the tagged one takes the name: between two transactions, and in the transaction that inserts.
    sql(&flow, "alter table people drop column note; alter table people rename email to note");
    sql(&flow, "insert into people values (2, 'CANARY2', 'plain')");
    sql(
        &flow,
        "begin; alter table people drop column more; alter table people rename note to more;
         insert into people values (3, 'CANARY3'); update people set more = 'CANARY4' where id = 1; commit",
    );
    sql(&flow, "alter table people add column email text, add column note text");
    sql(&flow, "insert into people values (4, 'CANARY5', 'CANARY6', 'plain')");
    // Two columns change names.
    sql(
        &flow,
        "begin; alter table people rename more to x; alter table people rename note to more;
         alter table people rename x to note; commit; insert into people values (5, 'CANARY7', 'CANARY8', 'plain')",
    );
    assert_no_canary(&mut flow);
    assert!(letters(&flow).len() >= 4, "{:?}", letters(&flow));
    assert!(flow.daemon.terminate().success());
    refused(&mut flow, &["this reveals note, which holds personal data"]);
}

/// Entries that name nothing, however they came about.
#[test]
fn entries_that_name_nothing_are_refused() {
    let ddl = "create table people (id bigint primary key, email text)";
    let mut flow = prepare(Version::usual(), ddl, &[]);
    for (entry, text) in [
        ("lab.people.emial", "has no published column emial"),
        ("lab.people.Email", "has no published column Email"),
        ("lab.people.\"EMAIL\"", "has no published column EMAIL"),
        ("LAB.people.email", "did you mean \"lab.people.email\"?"),
        ("lab.poeple.email", "did you mean \"lab.people.email\"?"),
        ("lab.people. email", "surrounding blanks"),
        ("lab.people.email ", "surrounding blanks"),
        ("lab.peo*.email", "* inside a name"),
        ("lab.people.em*", "* inside a name"),
        ("people.email", "2 of 3 parts"),
        ("*.*.mail", "matches no column"),
        ("!lab.people.mail", "matches no column"),
    ] {
        flow.daemon.settings().more = vec![("pii".to_owned(), columns(&[entry]))];
        flow.daemon.start_again();
        assert!(!flow.daemon.wait().success(), "{entry}");
        let log = flow.daemon.log().join("\n");
        assert!(log.contains(text), "{entry}: {log}");
    }
}

/// A preview shows what would be published, and no more.
#[test]
fn preview_shows_no_personal_data() {
    let ddl =
        "create table people (id bigint primary key, email text); insert into people values (1, 'CANARY1');
               create table kids (primary key (id)) inherits (people); insert into kids values (2, 'CANARY2');
               create table copied (like people including all); insert into copied values (3, 'CANARY3');
               grant select on all tables in schema lab to forebay; grant usage on schema lab to forebay";
    let mut flow = prepare(Version::usual(), ddl, &["lab.people.email"]);
    let shown = flow.daemon.run(&["events", "preview", "--last", "5"]);
    let text = String::from_utf8_lossy(&[shown.stdout, shown.stderr].concat()).into_owned();
    assert!(shown.status.success() && text.contains("lab.kids.inserted.v1"), "{text}");
    assert!(!text.contains(CANARY), "{text}");
    flow.start();
    assert_no_canary(&mut flow);
    assert!(flow.daemon.terminate().success());
}

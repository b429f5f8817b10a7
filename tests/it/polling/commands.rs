//! The commands beside `run`, with a polled source; and what a role or an operator may set.

use crate::polling::{database, events_of, prepare, wait_for};
use crate::support::daemon::Daemon;
use crate::support::postgres::Version;
use crate::support::{SOON, eventually};

#[track_caller]
fn says(daemon: &Daemon, arguments: &[&str], succeeds: bool, texts: &[&str]) -> String {
    let output = daemon.run(arguments);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.success(), succeeds, "{arguments:?}: {said}");
    for text in texts {
        assert!(said.contains(text), "{arguments:?} does not say {text:?}: {said}");
    }
    said
}

/// check, preview, lock, contracts and dead letters work as they do with a slot.
#[test]
fn commands_work_with_a_polled_source() {
    let postgres = database(Version::usual());
    postgres.execute("insert into p.facts (writer, note) values (7, 'there')");
    let mut fixture = prepare(postgres, None, &["p.facts", "p.messages"]);
    let rules = fixture.daemon.home().join("events");
    std::fs::create_dir_all(&rules).unwrap();
    let rule = |expression: &str| {
        format!(
            "[[event]]\ntype = \"p.noted.v1\"\nfrom = \"p.facts\"\non = \"insert\"\nabout = \"A note.\"\n\
             owner = \"lab\"\nkey = \"id\"\ndata = \"id, {expression} as share\"\n"
        )
    };
    std::fs::write(rules.join("facts.toml"), rule("10 / writer")).unwrap();
    fixture
        .daemon
        .settings()
        .more
        .push(("events".to_owned(), format!("rules = \"{}/*.toml\"", rules.display())));
    let daemon = &fixture.daemon;
    says(
        daemon,
        &["check"],
        true,
        &[
            "serial cursor",
            "xid8 cursor",
            "deletes and TRUNCATE are not seen",
            "a first start: it publishes rows that are written from then on",
            "rules, selectors",
        ],
    );
    says(daemon, &["events", "preview", "--last", "1"], true, &["\"share\":1"]);
    says(daemon, &["events", "preview", "--live", "1"], false, &["polled"]);
    fixture.postgres.execute("revoke select on p.messages from reader");
    says(daemon, &["check"], false, &["GRANT SELECT ON"]);
    fixture.postgres.execute("grant select on p.messages to reader");
    // Divided by zero: a dead letter of the rule, which is published after the rule is corrected.
    fixture.go_on();
    fixture.postgres.execute("insert into p.facts (writer) values (0), (5)");
    wait_for(&fixture, "p.noted.v1", "3");
    eventually("a dead letter", SOON, || {
        let listed = fixture.daemon.run(&["dlq", "list", "--json"]).stdout;
        (!listed.is_empty()).then_some(())
    });
    assert!(fixture.daemon.terminate().success());
    std::fs::write(rules.join("facts.toml"), rule("10 / (writer + 1)")).unwrap();
    says(&fixture.daemon, &["check"], true, &["continues where it stopped, in epoch 0"]);
    fixture.daemon.settings().name = "other".to_owned();
    says(&fixture.daemon, &["check"], false, &["blocker", "urn:forebay:lab"]);
    fixture.daemon.settings().name = "lab".to_owned();
    fixture.go_on();
    says(&fixture.daemon, &["dlq", "retry", "--all"], true, &[]);
    assert_eq!(wait_for(&fixture, "p.noted.v1", "2")["data"]["share"], 10);
}

/// A key that holds personal data would be in the id of each event; another tagged column is left out.
#[test]
fn personal_key_is_refused_and_other_column_left_out() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts"]);
    let pii = |column: &str| ("pii".to_owned(), format!("columns = [\"p.facts.{column}\"]"));
    fixture.daemon.settings().more.push(pii("id"));
    says(&fixture.daemon, &["check"], false, &["key column id holds personal data"]);
    fixture.refuses(&["key column id holds personal data"]);
    fixture.daemon.settings().more.pop();
    fixture.daemon.settings().more.push(pii("note"));
    fixture.go_on();
    fixture.postgres.execute("insert into p.facts (writer, note) values (1, 'secret')");
    let event = wait_for(&fixture, "p.facts.inserted.v1", "1");
    assert!(event["data"]["writer"] == 1 && !event.to_string().contains("secret"), "{event}");
}

/// A cache for the sequence, while it runs: polling waits until it is gone, whichever session has cached numbers.
#[test]
fn altered_sequence_is_waited_for() {
    let postgres = database(Version::usual());
    // What a role or a database sets does not end a poll.
    postgres.execute("alter role reader set statement_timeout = '2s'; alter role reader set idle_in_transaction_session_timeout = '1s'");
    let mut fixture = prepare(postgres, None, &["p.facts"]);
    fixture.go_on();
    for settings in ["cache 20", "cycle", "increment 2"] {
        let mark = fixture.daemon.mark();
        fixture.postgres.execute(&format!("alter sequence p.facts_id_seq {settings}"));
        fixture.daemon.wait_for_event_since(mark, "source_disconnected");
        fixture.postgres.execute("alter sequence p.facts_id_seq cache 1 no cycle increment 1");
        let id = fixture.postgres.value("insert into p.facts (writer) values (1) returning id");
        wait_for(&fixture, "p.facts.inserted.v1", &id);
    }
    assert_eq!(events_of(&fixture, "p.facts.inserted.v1").len(), 3);
    // A dropped table, made again: its rows are new.
    fixture.postgres.execute(
        "drop table p.facts; create table p.facts (id bigserial primary key, writer int not null, note text);
         grant select on p.facts, p.facts_id_seq to reader; insert into p.facts (writer) values (99)",
    );
    eventually("the row of the new table", SOON, || {
        let mut versions = events_of(&fixture, "p.facts.inserted.v1").remove("1")?;
        versions.pop().filter(|event| event["data"]["writer"] == 99)
    });
}

/// A standby cancels polls that need what it removes: each page is read again, and no row is lost.
#[test]
fn recovery_conflict_loses_no_row() {
    let postgres = database(Version::usual());
    let standby = postgres.standby();
    standby.execute("alter system set max_standby_streaming_delay = 0");
    standby.execute("alter system set hot_standby_feedback = off");
    standby.execute("select pg_reload_conf()");
    postgres.execute(
        "insert into p.facts (writer, note) select 1, repeat('x', 200) from generate_series(1, 8000)",
    );
    postgres.wait_for(&standby);
    let mut fixture = prepare(postgres, Some(&standby), &["p.facts"]);
    fixture.daemon.settings().more.push(("source".to_owned(), "start = \"beginning\"".to_owned()));
    fixture.go_on();
    let mut rounds = 0;
    eventually("a poll is cancelled", SOON, || {
        rounds += 1;
        fixture.postgres.execute("update p.facts set writer = writer + 1 where id <= 100");
        fixture.postgres.execute("vacuum p.facts");
        fixture.daemon.log().iter().any(|line| line.contains("conflict with recovery")).then_some(())
    });
    println!("cancelled in round {rounds}");
    fixture.postgres.execute("insert into p.facts (writer, note) values (1, 'last')");
    wait_for(&fixture, "p.facts.inserted.v1", "8001");
    eventually("all rows", SOON * 3, || {
        (events_of(&fixture, "p.facts.inserted.v1").len() == 8001).then_some(())
    });
}

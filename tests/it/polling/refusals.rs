//! What polling refuses, with the way forward, and what it waits for.

use crate::polling::{database, events_of, prepare, wait_for};
use crate::support::postgres::Version;

/// A table without a usable cursor is refused with the statements that make one; after them the daemon starts.
#[test]
fn table_without_cursor_is_refused_with_its_ddl() {
    let postgres = database(Version::usual());
    postgres.execute(
        "create table p.outbox (tenant int, number int, body text, primary key (tenant, number));
         grant select on p.outbox to reader",
    );
    let mut fixture = prepare(postgres, None, &["p.outbox"]);
    let said = fixture.refuses(&["p.outbox"]);
    let begin = said.rfind("ALTER TABLE").unwrap();
    let ddl = said[begin..].split(" For updates").next().unwrap();
    for statement in ddl.split_inclusive(';') {
        fixture.postgres.execute(statement);
    }
    fixture.go_on();
    fixture.postgres.execute("insert into p.outbox values (1, 2, 'x')");
    wait_for(&fixture, "p.outbox.inserted.v1", "1/2");
}

/// What cannot be read safely is refused before anything is published.
#[test]
fn unsafe_settings_are_refused() {
    let postgres = database(Version::usual());
    postgres.execute("alter sequence p.facts_id_seq cache 20; revoke select on p.messages from reader");
    let mut fixture = prepare(postgres, None, &["p.facts", "p.messages", "p.none"]);
    fixture.refuses(&["CACHE 20", "ALTER SEQUENCE", "GRANT SELECT ON", "p.none"]);
    fixture.daemon.settings().confirm_after = Some("never".to_owned());
    fixture.refuses(&["buffer.confirm_after"]);
    fixture.daemon.settings().confirm_after = None;
    fixture.postgres.execute("alter sequence p.facts_id_seq cache 1; grant select on p.messages to reader");
    fixture.daemon.settings().tables.pop();
    fixture.go_on();
    // A directory of another kind of source.
    assert!(fixture.daemon.terminate().success());
    fixture.daemon.settings().more.clear();
    "forebay_lab".clone_into(&mut fixture.daemon.settings().slot);
    fixture.daemon.settings().url = fixture.postgres.url("postgres");
    fixture.refuses(&["source.mode"]);
}

/// While a table is away or the right to read it, nothing is lost: the daemon waits, and continues.
#[test]
fn missing_table_or_right_is_waited_for() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts", "p.messages"]);
    fixture.go_on();
    for (away, back) in [
        ("revoke select on p.messages from reader", "grant select on p.messages to reader"),
        ("alter table p.messages rename to elsewhere", "alter table p.elsewhere rename to messages"),
    ] {
        let mark = fixture.daemon.mark();
        fixture.postgres.execute(&format!("{away}; insert into p.facts (writer) values (1)"));
        fixture.daemon.wait_for_event_since(mark, "source_disconnected");
        fixture.postgres.execute(&format!("{back}; insert into p.messages (body) values ('x')"));
        let last = fixture.postgres.value("select max(id) from p.facts");
        wait_for(&fixture, "p.facts.inserted.v1", &last);
        let last = fixture.postgres.value("select max(id) from p.messages");
        wait_for(&fixture, "p.messages.inserted.v1", &last);
    }
    assert_eq!(events_of(&fixture, "p.messages.inserted.v1").len(), 2);
}

//! A random walk over DDL: whatever happens to tables, a canary never leaves.

use super::{CANARY, assert_no_canary, columns, look_for_canaries, prepare};
use crate::outbox::{events, letters};
use crate::support::daemon::Daemon;
use crate::support::flow::Flow;
use crate::support::postgres::Version;
use crate::support::random::{Random, seed};
use crate::support::{SOON, eventually};

/// A table as the walk knows it.
#[derive(Clone, Debug)]
struct Table {
    name: String,
    /// Name, and whether its values are personal, in the order of a row.
    columns: Vec<(String, bool)>,
    /// Whether it was made from another table, and stays as it is.
    is_derived: bool,
}

impl Table {
    fn insert(&self, id: u64) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let value = |(_, personal): &(String, bool)| {
            let word = if *personal { CANARY } else { "plain" };
            format!("'{word}{id}'")
        };
        let values: Vec<_> = self.columns.iter().map(value).collect();
        format!("insert into {} (id, {}) values ({id}, {})", self.name, names.join(", "), values.join(", "))
    }
}

struct Walk {
    random: Random,
    tables: Vec<Table>,
    /// What must be looked at before the next step, and what follows then.
    before: Option<String>,
    after: Option<String>,
    /// For names and keys that are used once.
    next: u64,
    is_running: bool,
}

/// What `[pii]` names: every column of this name.
const EMAIL: &str = "email";

impl Walk {
    fn fresh(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}{}", self.next)
    }

    /// A DDL command, or an insert.
    fn step(&mut self) -> String {
        let at = self.random.below(self.tables.len());
        let is_derived = self.tables[at].is_derived;
        let name = self.tables[at].name.clone();
        let column = self.random.below(self.tables[at].columns.len());
        match self.random.below(12) {
            0 | 1 if !is_derived => {
                let to = self.fresh("c");
                let from = std::mem::replace(&mut self.tables[at].columns[column].0, to.clone());
                format!("alter table {name} rename {from} to {to}")
            }
            // A column is personal once Forebay has seen it under a name that is.
            2 if self.is_running
                && !is_derived
                && self.tables[at].columns.iter().all(|(name, _)| name != EMAIL) =>
            {
                self.tables[at].columns.push((EMAIL.to_owned(), true));
                self.next += 1;
                self.after = Some(self.tables[at].insert(self.next));
                format!("alter table {name} add column {EMAIL} text")
            }
            3 if !is_derived && self.tables[at].columns.len() < 8 => {
                let new = self.fresh("n");
                self.tables[at].columns.push((new.clone(), false));
                format!("alter table {name} add column {new} text")
            }
            4 if !is_derived && self.tables[at].columns.len() > 2 => {
                let (gone, _) = self.tables[at].columns.remove(column);
                format!("alter table {name} drop column {gone}")
            }
            5 => {
                let (schema, _) = name.split_once('.').unwrap();
                let to = self.fresh("t");
                self.tables[at].name = format!("{schema}.{to}");
                format!("alter table {name} rename to {to}")
            }
            6 => {
                let (schema, table) = name.split_once('.').unwrap();
                let to = if schema == "lab" { "hr" } else { "lab" };
                self.tables[at].name = format!("{to}.{table}");
                format!("alter table {name} set schema {to}")
            }
            // A copy is known by the columns of its table as Forebay has seen them.
            7 if self.is_running && self.tables.len() < 12 => {
                let copy = format!("lab.{}", self.fresh("copy"));
                self.before = Some(self.tables[at].insert(self.next));
                self.tables.push(Table { name: copy.clone(), is_derived: true, ..self.tables[at].clone() });
                format!("create table {copy} (like {name} including all)")
            }
            // A child is known by its table until Forebay has seen it.
            8 if self.is_running && !is_derived && self.tables.len() < 12 => {
                let child = format!("lab.{}", self.fresh("child"));
                let mut columns = self.tables[at].columns.clone();
                columns.push(("own".to_owned(), false));
                let table = Table { name: child.clone(), columns, is_derived: true };
                let insert = table.insert(self.next);
                self.tables.push(table);
                self.after = Some(format!("alter table {child} no inherit {name}"));
                format!("create table {child} (primary key (id), own text) inherits ({name}); {insert}")
            }
            _ => {
                self.next += 1;
                self.tables[at].insert(self.next)
            }
        }
    }
}

/// Starts the daemon. Where it refuses, the entries that it asks for are added, as a person would.
fn start(flow: &mut Flow, entries: &mut Vec<String>) {
    for _ in 0..40 {
        flow.daemon.settings().more =
            vec![("pii".to_owned(), columns(&entries.iter().map(String::as_str).collect::<Vec<_>>()))];
        flow.daemon.start_again();
        let is_decided = |daemon: &mut Daemon| daemon.count_events("receiving") > 0 || !daemon.is_running();
        eventually("it receives or has refused", SOON, || is_decided(&mut flow.daemon).then_some(()));
        if flow.daemon.is_running() {
            return;
        }
        assert!(!flow.daemon.wait().success());
        let log = flow.daemon.log().join("\n");
        let before = entries.len();
        for part in log.split("Add \"").skip(1) {
            entries.push(format!("?{}", part.split('"').next().unwrap()));
        }
        assert!(entries.len() > before, "no advice: {log}");
    }
    panic!("still refused: {entries:?}");
}

#[test]
fn random_ddl_lets_no_canary_leave() {
    let seed = seed();
    let steps: usize = std::env::var("STEPS").map_or(120, |text| text.parse().unwrap());
    let mut walk = Walk {
        random: Random::new(seed),
        before: None,
        after: None,
        next: 100,
        is_running: true,
        tables: ["lab.people", "lab.staff"]
            .map(|name| Table {
                name: name.to_owned(),
                columns: vec![("a".to_owned(), false), (EMAIL.to_owned(), true), ("b".to_owned(), false)],
                is_derived: false,
            })
            .to_vec(),
    };
    let ddl = "create table people (id bigint primary key, a text, email text, b text);
               create table staff (id bigint primary key, a text, email text, b text)";
    let mut entries = vec!["?*.*.email".to_owned()];
    let mut flow = prepare(Version::usual(), ddl, &["?*.*.email"]);
    start(&mut flow, &mut entries);
    for nth in 0..steps {
        let statement = walk.step();
        println!("{nth} {}: {statement}", if walk.is_running { "running" } else { "stopped" });
        if let Some(insert) = walk.before.take() {
            flow.postgres.execute(&insert);
            look_for_canaries(&mut flow);
        }
        flow.postgres.execute(&statement);
        if let Some(next) = walk.after.take() {
            look_for_canaries(&mut flow);
            flow.postgres.execute(&next);
            look_for_canaries(&mut flow);
        }
        if walk.is_running && walk.random.once_in(4) {
            look_for_canaries(&mut flow);
        }
        if walk.random.once_in(15) {
            if walk.is_running {
                look_for_canaries(&mut flow);
                assert!(flow.daemon.terminate().success());
            } else {
                start(&mut flow, &mut entries);
            }
            walk.is_running = !walk.is_running;
        }
    }
    if !walk.is_running {
        start(&mut flow, &mut entries);
    }
    assert_no_canary(&mut flow);
    println!("{} events, {} dead letters", events(&flow, 0).len(), letters(&flow).len());
    assert!(flow.daemon.terminate().success());
    let records = flow.stub.records();
    assert!(records.iter().all(|record| !String::from_utf8_lossy(&record.data).contains(CANARY)));
    assert!(
        records.iter().any(|record| String::from_utf8_lossy(&record.data).contains("plain")),
        "nothing was published"
    );
}

//! Locks of others: on published tables, and of transactions that a new slot must wait for.

use tokio_postgres::Client;

use forebay::source::postgres::error::Error;
use forebay::source::postgres::session::Session;

use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::{SOON, eventually};

use super::end_stream;

const RULE: &str = r#"
[[event]]
type = "lab.plate_seen.v1"
about = "A plate came."
owner = "lab"
from = "lab.plates"
on = "insert"
key = "plate_id::text"
data = "plate_id, length(barcode) as long"
"#;

/// Backends of the daemon that wait for a lock, and all that it has.
fn backends(postgres: &Postgres) -> (u32, u32) {
    let count = |condition: &str| {
        let sql = format!("select count(*) from pg_stat_activity where usename = 'forebay' and {condition}");
        postgres.value(&sql).parse().unwrap()
    };
    (count("wait_event_type = 'Lock'"), count("true"))
}

/// The stream, its catalogue session and the watchdog's are left. Those of a start, and of a daemon before, end soon.
#[track_caller]
fn wait_for_few_backends(postgres: &Postgres) {
    eventually("there are three backends at most", SOON, || (backends(postgres).1 <= 3).then_some(()));
}

#[track_caller]
fn wait_for_row(flow: &Flow, table: &str, id: u32) {
    eventually(&format!("row {id} of {table} is published"), SOON, || {
        let mut events = flow.records().into_iter().filter_map(|record| {
            serde_json::from_slice::<serde_json::Value>(record.data.trim_ascii_end()).ok()
        });
        events.find(|event| event["type"] == format!("{table}.inserted.v1") && event["data"]["id"] == id)
    });
}

/// A plain table, a partition of a FULL table and a table with rules are under ACCESS EXCLUSIVE. Other tables go on: in the
/// open stream, at a reconnect, and at a start. No backend waits.
#[test]
fn locked_tables_delay_no_others() {
    for version in [Version(15), Version(18)] {
        let postgres = Postgres::lab(version);
        postgres.execute(
            "create table lab.ev (id bigint, day int, primary key (id, day)) partition by list (day);
             create table lab.ev1 partition of lab.ev for values in (1);
             create table lab.ev2 partition of lab.ev for values in (2);
             create table lab.plain (id bigint primary key);
             create table lab.other (id bigint primary key);
             alter table lab.ev replica identity full; alter table lab.ev1 replica identity full;
             alter table lab.ev2 replica identity full;
             alter table lab.ev owner to lab; alter table lab.ev1 owner to lab; alter table lab.ev2 owner to lab;
             alter table lab.plain owner to lab; alter table lab.other owner to lab",
        );
        let mut flow = Flow::over(postgres, 0, |settings| {
            settings.tables = ["lab.ev", "lab.plain", "lab.other", "lab.plates"].map(str::to_owned).to_vec();
            settings.more.push(("events".to_owned(), "rules = \"rules.toml\"".to_owned()));
        });
        std::fs::write(flow.daemon.home().join("rules.toml"), RULE).unwrap();
        flow.start();
        flow.postgres.execute("insert into lab.ev values (1, 1), (2, 2); insert into lab.other values (1)");
        wait_for_row(&flow, "lab.other", 1);

        let mut locker = flow.postgres.session("postgres");
        locker.execute(
            "begin; lock table lab.ev1, lab.plain, lab.plates in access exclusive mode; select pg_current_xact_id()",
        );
        // The server announces a table again after ANALYZE.
        flow.postgres
            .execute("analyze lab.ev2; insert into lab.ev2 values (3, 2); insert into lab.other values (2)");
        wait_for_row(&flow, "lab.other", 2);
        wait_for_row(&flow, "lab.ev", 3);
        let mark = flow.daemon.mark();
        end_stream(&flow.postgres);
        flow.postgres.execute("insert into lab.ev2 values (4, 2); insert into lab.other values (3)");
        flow.daemon.wait_for_event_since(mark, "receiving");
        wait_for_row(&flow, "lab.other", 3);
        wait_for_row(&flow, "lab.ev", 4);
        flow.wait_until_ready();
        assert!(flow.daemon.terminate().success());
        flow.postgres.execute("insert into lab.other values (4)");
        flow.start();
        wait_for_row(&flow, "lab.other", 4);
        // The server could not be asked about the expressions of a locked table; that is said.
        flow.daemon.wait_for_event("rule_check_skipped");
        let (waiting, _) = backends(&flow.postgres);
        assert_eq!(waiting, 0, "a look takes no lock on a table");
        wait_for_few_backends(&flow.postgres);
        locker.execute("commit; insert into lab.plain values (1)");
        wait_for_row(&flow, "lab.plain", 1);
    }
}

/// A slot waits for every transaction that is running. Which ones is said, without the values in their statements.
#[test]
fn slot_that_waits_names_its_blockers() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_prepared_transactions=5").start();
    postgres.create_lab();
    let mut holder = postgres.session("postgres");
    let mut preparer = postgres.session("postgres");
    let mut flow = Flow::over(postgres, 0, |_| {});
    holder.execute("begin; insert into lab.plates (plate_id, barcode) values (1, 'SECRET')");
    let pid = &holder.query("select pg_backend_pid()")[0][0].clone().unwrap();
    preparer.execute("begin; insert into lab.plates (plate_id, barcode) values (2, 'P-2'); prepare transaction 'forgotten'");
    flow.daemon.start_again();
    let first = flow.daemon.wait_for_event("waiting_for_transaction");
    assert!(first.contains("WARN") && first.contains("replication slot"), "{first}");
    // It waits for one after the other, in no order that is promised.
    if first.contains("prepared transaction 'forgotten'") {
        preparer.execute("commit prepared 'forgotten'");
    }
    let line = flow.daemon.wait_for_event_with(
        0,
        "waiting_for_transaction",
        &format!("pid {pid}, role postgres, database lab"),
    );
    assert!(!line.contains("SECRET"), "{line}");
    holder.execute("commit");
    if !first.contains("prepared transaction 'forgotten'") {
        flow.daemon.wait_for_event_with(0, "waiting_for_transaction", "prepared transaction 'forgotten'");
        preparer.execute("commit prepared 'forgotten'");
    }
    flow.daemon.wait_for_event("receiving");
    wait_for_few_backends(&flow.postgres);
}

/// CREATE PUBLICATION waits for whoever has locked a table; a start that is given up leaves nothing behind that waits on.
#[test]
fn publication_that_waits_leaves_no_backend() {
    let mut flow = Flow::prepare(0, |_| {});
    // Without this right, the statements of others are hidden.
    flow.postgres.execute("grant pg_read_all_stats to forebay");
    let mut holder = flow.postgres.session("postgres");
    holder.execute("begin; lock table lab.samples in access exclusive mode; select pg_current_xact_id()");
    for _ in 0..2 {
        flow.daemon.start_again();
        let line = flow.daemon.wait_for_event("waiting_for_transaction");
        assert!(
            line.contains("creating the publication") && line.contains("lock table lab.samples"),
            "{line}"
        );
        let unready = flow.daemon.ready().unwrap_err();
        assert!(
            unready.contains("creating the publication waits for a transaction to end: pid ")
                && unready.contains("lock table lab.samples"),
            "{unready}"
        );
        assert!(flow.daemon.terminate().success());
        eventually("its backends are gone", SOON, || (backends(&flow.postgres).1 == 0).then_some(()));
    }
    holder.execute("commit");
    flow.start();
}

/// Where the server gives up nothing by itself, what we give up is cancelled.
#[test]
fn statement_given_up_leaves_no_backend() {
    let postgres = Postgres::lab(Version::usual());
    let settings = postgres.url("forebay").parse().unwrap();
    crate::support::session::runtime().block_on(async {
        let mut session = Session::open(&settings).await.unwrap();
        let endless = async |client: &Client| -> Result<(), Error> {
            client.batch_execute("set statement_timeout = 0").await?;
            Ok(client.batch_execute("select pg_sleep(3600)").await?)
        };
        session.run(endless).await.unwrap_err();
        assert!(!session.is_open());
    });
    eventually("the backend is gone", SOON, || (backends(&postgres).1 == 0).then_some(()));
}

/// The server's own limit is below ours: it says so, and the session lives on.
#[test]
fn locked_table_is_refused_not_waited_for() {
    let postgres = Postgres::lab(Version::usual());
    let mut holder = postgres.session("postgres");
    holder.execute("begin; lock table lab.plates in access exclusive mode");
    let settings = postgres.url("forebay").parse().unwrap();
    crate::support::session::runtime().block_on(async {
        let mut session = Session::open(&settings).await.unwrap();
        let table = async |client: &Client| client.batch_execute("table lab.plates").await;
        let error = session.run(table).await.unwrap_err();
        assert!(matches!(&error, Error::Server(error) if error.code == "55P03"), "{error}");
        assert!(session.is_open());
    });
}

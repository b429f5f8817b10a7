//! Each kind of cursor reads by its index.

use std::time::Duration;

use forebay::config::{CursorSetting, Polling, PollingStart, TableName};
use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::polling::plan;
use forebay::source::postgres::polling::progress::{PollWindow, TableProgress};
use forebay::source::postgres::polling::query::{self, Bounds};
use forebay::source::postgres::polling::table::PolledTable;
use forebay::source::postgres::session::Session;

use crate::polling::database;
use crate::support::postgres::{Postgres, Version};

fn describe(postgres: &Postgres, names: &[TableName]) -> Vec<PolledTable> {
    let settings: Settings = postgres.url("reader").parse().unwrap();
    let settings = settings.with_passfile(None).unwrap();
    let polling = Polling {
        interval: Duration::from_secs(1),
        start: PollingStart::Now,
        grace: Duration::from_secs(1),
        cursors: [(names[1].clone(), CursorSetting::UpdatedAt("changed".to_owned()))].into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = Session::open(&settings).await.unwrap();
        let described =
            session.run(async |client| plan::describe(client, names, (&polling, &|_| {})).await).await;
        let (tables, found) = described.unwrap();
        assert!(found.is_empty(), "{found:?}");
        tables
    })
}

/// A poll of a large table reads the rows of its window only, and a search of a whole one goes along the index, without a sort.
#[test]
fn each_cursor_is_read_by_its_index() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let postgres = database(version);
        postgres.execute(
            "insert into p.facts (writer) select n from generate_series(1, 60000) n;
             insert into p.things select n, n, now() - interval '1 day' + interval '1 second' * n from generate_series(1, 60000) n;
             insert into p.messages (body, txid) select n::text, (n / 10 + 1)::text::xid8 from generate_series(1, 60000) n;
             analyze p.facts, p.things, p.messages",
        );
        let names = ["p.facts", "p.things", "p.messages"].map(|name| TableName {
            schema: "p".to_owned(),
            table: name.trim_start_matches("p.").to_owned(),
        });
        let micros = postgres
            .value("select (extract(epoch from max(changed)) * 1000000)::bigint - 5000000 from p.things");
        for table in describe(&postgres, &names) {
            let name = table.name.to_string();
            let (low, index, after) = match name.as_str() {
                "p.facts" => (Some("59990".to_owned()), "facts_pkey", vec!["30000"]),
                "p.things" => {
                    (Some(micros.clone()), "things_changed_id_idx", vec!["2020-01-01 00:00:00+00", "7"])
                }
                _ => (None, "messages_txid_id_idx", vec!["5999", "59995"]),
            };
            let known = TableProgress { node: 0, by: table.cursor_column().to_owned(), low };
            let mut window = PollWindow {
                until: 6_010,
                rows: 0,
                pages: 1,
                table: name.clone(),
                by: known.by.clone(),
                after: Vec::new(),
            };
            let bounds = Bounds { horizon: Some(5_999), visible_end: 9_000 };
            let plan = |window: &PollWindow, known: &TableProgress| {
                let mut sql = "explain (costs off) ".to_owned();
                query::rows_of(&mut sql, &table, (window, bounds), Some(known));
                let lines = postgres.query(&sql);
                let plan: Vec<_> = lines.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
                let plan = plan.join("\n");
                println!("{version:?} {sql}\n{plan}");
                assert!(
                    plan.contains(index) && !plan.contains("Seq Scan") && !plan.contains("Sort"),
                    "{name}: {plan}"
                );
                plan
            };
            // The bound of the window is a condition of the index.
            assert!(plan(&window, &known).contains("Index Cond"), "{name}");
            // The rest of a search of the whole table.
            window.after = after.into_iter().map(str::to_owned).collect();
            assert!(plan(&window, &TableProgress { low: None, ..known }).contains("Index Cond"), "{name}");
        }
    }
}

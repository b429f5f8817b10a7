//! The names, types and comments of views.

use super::views::views;
use super::{ArchivePlace, Engine, ddl};
use crate::config::Automatic;
use crate::contracts::lock::{Lock, Locked};
use crate::contracts::model::tests::{model, plates};

const PLACE: ArchivePlace<'_> =
    ArchivePlace { location: "s3://it's", database: "forebay", since: "2026-01-01", daily: false };

fn gone() -> Lock {
    let schema = serde_json::json!({
        "title": "Was published\nonce; DROP TABLE x;",
        "properties": {"id": {"type": "integer"}, "Day": {"type": ["string", "null"], "description": "a\n-- b"}},
        "required": ["id"],
    });
    Lock {
        locked: vec![Locked {
            event_type: "lab.plates_inserted.v1".to_owned(),
            stem: "lab.plates_inserted".to_owned(),
            major: 1,
            versions: vec![(0, schema)],
            meaning: None,
        }],
    }
}

#[test]
fn views_have_distinct_names_and_typed_columns() {
    let model = model("", Automatic::Unmapped, &plates());
    let views = views(&model, &gone());
    let names: Vec<&str> = views.events.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "lab_plates_deleted_v1",
            "lab_plates_inserted_v1",
            "lab_plates_truncated_v1",
            "lab_plates_updated_v1",
            "lab_plates_inserted_v1_2"
        ]
    );
    let locked = views.events.last().unwrap();
    let columns: Vec<_> =
        locked.columns.iter().map(|column| (column.name.as_str(), column.nullable)).collect();
    assert_eq!(columns, [("data_day", true), ("id", false)]);
    assert_eq!(views.rows().map(|rows| rows.name).collect::<Vec<_>>(), ["lab_plates"]);
}

#[test]
fn texts_of_contracts_stay_in_comments_and_literals() {
    let model = model("", Automatic::Unmapped, &plates());
    for engine in [Engine::Duckdb, Engine::Athena, Engine::Snowflake] {
        let script = ddl(engine, PLACE, &model, &gone());
        assert!(script.contains("\n-- Was published once; DROP TABLE x;\n"), "{script}");
        assert!(script.contains("  -- a -- b\n"), "{script}");
        assert!(script.contains("s3://it''s"), "{script}");
        assert!(script.lines().all(|line| !line.starts_with("once;")), "{script}");
    }
}

#[test]
fn daily_views_partition_by_day() {
    let model = model("", Automatic::Off, &plates());
    let whole = ddl(Engine::Athena, PLACE, &model, &Lock::default());
    let daily = ddl(Engine::Athena, ArchivePlace { daily: true, ..PLACE }, &model, &Lock::default());
    assert!(whole.contains(r#"PARTITION BY "source", "type", "partitionkey", "sequence" ORDER"#), "{whole}");
    assert!(daily.contains(r#"PARTITION BY "source", "type", "partitionkey", "sequence", "day" ORDER"#));
}

//! Databases that are not UTF-8: every character, values and names without one, and names that no setting can write.

use forebay::source::postgres::encoding::Encoding;
use serde_json::Value;

use crate::dlq::{letters, wait_for_letters};
use crate::support::fixture::events;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::{SOON, eventually};

/// Every encoding that a database can have, beside UTF8, `SQL_ASCII` and `MULE_INTERNAL`.
const ENCODINGS: &str = "EUC_JP EUC_CN EUC_KR EUC_TW EUC_JIS_2004 LATIN1 LATIN2 LATIN3 LATIN4 LATIN5 LATIN6 LATIN7 LATIN8 \
    LATIN9 LATIN10 WIN1250 WIN1251 WIN1252 WIN1253 WIN1254 WIN1255 WIN1256 WIN1257 WIN1258 WIN866 WIN874 KOI8R KOI8U \
    ISO_8859_5 ISO_8859_6 ISO_8859_7 ISO_8859_8";

/// The server converts each sequence that its encoding may hold, or says that it has no character.
#[test]
fn every_sequence_converts_as_on_the_server() {
    for version in [Version::OLDEST, Version::usual(), Version::NEWEST] {
        let postgres = Postgres::builder(version).without_fsync().start();
        let mut session = postgres.session("postgres");
        session.execute(
            "create function converted(bytes bytea, encoding text) returns text language plpgsql as $$
             begin return convert_from(bytes, encoding); exception when others then return null; end $$",
        );
        for encoding in ENCODINGS.split_whitespace() {
            let ours = Encoding::named(encoding).unwrap();
            let (mut compared, mut different) = (0, Vec::new());
            for sequence in sequences(encoding) {
                let rows = session.query(&format!(
                    "select encode(bytes, 'hex'), converted(bytes, '{encoding}')
                     from generate_series(161, 254) a, generate_series(128, 255) b, decode({sequence}, 'hex') bytes"
                ));
                for row in rows {
                    let mut out = Vec::new();
                    ours.convert(&hex(row[0].as_deref().unwrap()), &mut out, usize::MAX);
                    let converted = String::from_utf8(out).ok();
                    compared += 1;
                    if converted != row[1] {
                        different.push((row[0].clone(), converted, row[1].clone()));
                    }
                }
            }
            let some = &different[..different.len().min(9)];
            assert!(
                different.is_empty(),
                "{version:?} {encoding}: {} of {compared}: {some:?}",
                different.len()
            );
        }
    }
}

/// What a sequence may be, as SQL for its hexadecimal form: `a` and `b` are its last bytes.
fn sequences(encoding: &str) -> Vec<&'static str> {
    match encoding {
        "EUC_TW" => vec![
            "to_hex(a) || to_hex(b)",
            "'8ea1' || to_hex(a) || to_hex(b)",
            "'8ea2' || to_hex(a) || to_hex(b)",
            "'8ea3' || to_hex(a) || to_hex(b)",
        ],
        _ if encoding.starts_with("EUC") => {
            vec!["to_hex(a) || to_hex(b)", "'8e' || to_hex(b)", "'8f' || to_hex(a) || to_hex(b)"]
        }
        _ => vec!["to_hex(b)"],
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A daemon over a lab in this encoding, not started yet.
fn prepare(version: Version, encoding: &str) -> Flow {
    let mut postgres = Postgres::builder(version).without_fsync().start();
    postgres.create_lab_in(encoding);
    Flow::over(postgres, crate::support::random::seed(), |_| {})
}

/// The events of a type, with the daemon running all the while.
fn wait_for_data(flow: &Flow, event_type: &str, count: usize) -> Vec<Value> {
    eventually(event_type, SOON, || {
        let events = events(&flow.records()).into_iter().filter(|event| event["type"] == event_type);
        let data: Vec<Value> = events.map(|mut event| event["data"].take()).collect();
        (data.len() == count).then_some(data)
    })
}

/// In the order of their keys: the stream keeps the order of one key only.
fn by_plate(mut data: Vec<Value>) -> Vec<Value> {
    data.sort_by_key(|plate| plate["plate_id"].as_u64());
    data
}

#[test]
fn value_without_a_character_is_a_dead_letter() {
    for (version, encoding) in
        [(Version::OLDEST, "WIN1252"), (Version::usual(), "SQL_ASCII"), (Version::NEWEST, "EUC_KR")]
    {
        let mut flow = prepare(version, encoding);
        flow.start();
        let good = match encoding {
            "WIN1252" => "'\u{20ac} é'",
            "EUC_KR" => "'\u{d55c}\u{ae00}'",
            _ => "'é'",
        };
        let bad = if encoding == "EUC_KR" { "c9a1" } else { "c381" };
        let bad = if encoding == "SQL_ASCII" { "fffe" } else { bad };
        flow.postgres.execute(&format!(
            "insert into lab.plates (plate_id, barcode, notes) values (1, 'P1', {good});
             insert into lab.plates (plate_id, barcode, notes) values (2, 'P2', convert_from('\\x61{bad}'::bytea, '{encoding}'));
             insert into lab.plates (plate_id, barcode, notes) values (3, 'P3', 'fine')"
        ));
        let data = by_plate(wait_for_data(&flow, "lab.plates.inserted.v1", 2));
        assert_eq!(format!("'{}'", data[0]["notes"].as_str().unwrap()), good, "{encoding}");
        assert_eq!(data[1]["notes"], "fine");
        let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.contains("notes") && reason.contains("encoding"), "{reason}");
        assert_eq!(flow.daemon.count_events("source_disconnected"), 0, "{encoding}");
        assert!(flow.daemon.terminate().success());
        flow.start();
        assert_eq!(letters(&flow).len(), 1);
        assert!(flow.daemon.terminate().success());
    }
}

/// Tables and columns whose names are no text, in the look at the catalogue, in the stream and after a restart.
#[test]
fn names_without_characters_are_escaped_and_distinct() {
    for (version, encoding) in [(Version::OLDEST, "SQL_ASCII"), (Version::NEWEST, "WIN1252")] {
        let mut flow = prepare(version, encoding);
        flow.start();
        // Names as bytes: 81 is no text in either.
        flow.postgres.execute(&format!(
            "do $$ begin
               execute convert_from('{statement}'::bytea, '{encoding}');
               execute 'create table lab.\"a\\x81\" (\"a\\x81\" int primary key)';
               comment on table lab.\"a\\x81\" is 'plain';
             end $$;
             alter publication forebay_lab add table lab.\"a\\x81\";
             do $$ begin execute convert_from('{publish}'::bytea, '{encoding}'); end $$",
            statement = bytes(
                b"create table lab.\"a\x81\" (\"a\x81\" int primary key, v text); comment on table lab.\"a\x81\" is '\x81'; \
                  create type lab.\"\x81\" as enum ('\x81'); alter table lab.\"a\x81\" add e lab.\"\x81\""
            ),
            publish = bytes(b"alter publication forebay_lab add table lab.\"a\x81\""),
        ));
        insert_both(&flow, encoding, 1);
        let first = wait_for_data(&flow, "lab.a\\x81.inserted.v1", 1);
        assert_eq!(first[0]["a\\x81"], 1);
        assert_eq!(first[0]["v"], "v");
        let literal = wait_for_data(&flow, "lab.a\\x5cx81.inserted.v1", 1);
        assert_eq!(literal[0], serde_json::json!({"a\\x5cx81": 1}));
        assert!(flow.daemon.terminate().success());
        flow.start();
        insert_both(&flow, encoding, 2);
        wait_for_data(&flow, "lab.a\\x81.inserted.v1", 2);
        wait_for_data(&flow, "lab.a\\x5cx81.inserted.v1", 2);
        assert_eq!(letters(&flow), Vec::<Value>::new());
        assert!(flow.daemon.terminate().success());
    }
}

/// Inserts a row with this key into both tables.
fn insert_both(flow: &Flow, encoding: &str, key: u8) {
    let row = [b"insert into lab.\"a\x81\" values (", key.to_string().as_bytes(), b", 'v')"].concat();
    flow.postgres.execute(&format!(
        "insert into lab.\"a\\x81\" values ({key});
         do $$ begin execute convert_from('{}'::bytea, '{encoding}'); end $$",
        bytes(&row)
    ));
}

/// A `bytea` in SQL.
fn bytes(statement: &[u8]) -> String {
    statement.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

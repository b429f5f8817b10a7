//! The program without a stream. It is also the reason why `cargo test --workspace` builds it: tests/it runs it over one.

use std::path::Path;
use std::process::Command;

const STATE: &str = r#"{"checkpoints":{}, "sequences":{}, "view":{"urn:forebay:lab":{
    "lab.plates":{"truncated":"", "rows":{
        "8":{"sequence":"02", "data":{"volume":1.50, "say \"hi\"":"<"}},
        "7":{"sequence":"01", "data":{"id":9007199254740993}},
        "9":{"sequence":"03", "data":null}}},
    "lab.old":{"truncated":"05", "rows":{
        "1":{"sequence":"04", "data":{}},
        "2":{"sequence":"06", "data":{"a":[1.0, null]}}}}}}}"#;

/// Deleted rows are left out, and those that are older than the last truncation. Numbers keep their digits.
#[test]
fn print_shows_current_rows_as_written() {
    let database = Path::new(env!("CARGO_TARGET_TMPDIR")).join("view.json");
    std::fs::write(&database, STATE).unwrap();
    let mut view = Command::new(env!("CARGO_BIN_EXE_forebay-example-view"));
    let output = view.arg("--print").arg("--database").arg(&database).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = [
        r#"["lab.old", "2", {"a":[1.0, null]}]"#,
        r#"["lab.plates", "7", {"id":9007199254740993}]"#,
        r#"["lab.plates", "8", {"say \"hi\"":"<","volume":1.50}]"#,
    ];
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}

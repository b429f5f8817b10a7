//! The views in languages other than Python. Each is killed on the way; in the end it has the tables, with all digits of the events.

use super::*;

use std::ffi::OsStr;

use serde_json::value::RawValue;

use crate::support::kinesis::REGION;
use crate::support::python::output;

/// A program that is not started yet. Nothing of the developer's own AWS settings reaches it.
pub(super) fn isolated(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_REGION", REGION);
    command
}

/// Whether the database of a view, a JSON file, has rows.
pub(super) fn has_state(database: &Path) -> bool {
    std::fs::read_to_string(database).unwrap_or_default().contains(r#""rows":{""#)
}

/// The columns of the rows of a view as they are written, by table and key.
pub(super) fn texts(view: &str) -> BTreeMap<(String, String), BTreeMap<String, String>> {
    let row = |line: &str| {
        let (table, key, row): (String, String, BTreeMap<String, Box<RawValue>>) =
            serde_json::from_str(line).unwrap();
        let columns = row.into_iter().map(|(column, value)| (column, value.get().to_owned()));
        ((table, key), columns.collect())
    };
    view.lines().map(row).collect()
}

/// Gives what the view writes to its log in its last run.
fn assert_view_of_disturbed_stream(view: impl Fn() -> Command) -> String {
    let fixture = ConsumerFixture::new();
    let target = Target::new();
    target.put_while_consumed(&mut target.consumer(view()), has_state, &fixture.disturbed());
    let last = output(target.consumer(view()).args(["--until-idle", "--print"]), "");
    let log = String::from_utf8(last.stderr).unwrap();
    assert!(last.status.success(), "{log}");
    let view = String::from_utf8(last.stdout).unwrap();
    fixture.assert_view_is_the_tables(&view);
    // Python leaves values as they are written. A parser that makes doubles of numbers would not.
    assert_eq!(texts(&view), texts(&view_of_archive(&fixture.archive())));
    log
}

/// The consumer in Node, copied to a folder from which Node finds the packages that `scripts/setup` installed.
#[test]
fn node_view_of_disturbed_stream_equals_the_tables() {
    let Ok(packages) = cache().join("consumers-node/node_modules").canonicalize() else {
        missing("the packages of the Node consumer");
        return;
    };
    if !Environment::Client.is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for entry in repository().join("examples/consumers/node").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
    assert_view_of_disturbed_stream(|| {
        let mut command = isolated("node", folder.path());
        command.arg(folder.path().join("view.js"));
        command
    });
}

/// `scripts/setup` builds it, again when its sources have changed.
#[test]
fn go_view_of_disturbed_stream_equals_the_tables() {
    let program = cache().join("consumers-go/view");
    if !program.exists() {
        missing("the Go consumer");
        return;
    }
    assert_compiled_view(&program);
}

/// `cargo test --workspace` builds it.
#[test]
fn rust_view_of_disturbed_stream_equals_the_tables() {
    let program = Path::new(env!("CARGO_BIN_EXE_forebay")).with_file_name("forebay-example-view");
    assert!(program.exists(), "{} is missing: run cargo test with --workspace", program.display());
    assert_compiled_view(&program);
}

/// A compiled view, which also warns of a gap.
fn assert_compiled_view(program: &Path) {
    if !Environment::Client.is_here() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let log = assert_view_of_disturbed_stream(|| isolated(program, home.path()));
    assert!(log.contains("forebay.gap.v1"), "{log}");
}

//! Commands in a buffer directory of another user, and in one that does not exist.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LETTER: &str = r#"{"id":"0123456789ab","frame":1,"part":0,"type":"t.v1","key":"k","reason":"r","at":"2026-01-01T00:00:00Z","event":{"sequence":"000000000000000000090000000000000"}}
"#;
/// Nobody.
const DAEMON: u32 = 65_534;

struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "name = \"lab\"\nsource.url = \"postgres://u@127.0.0.1:1/lab\"\nkinesis.stream = \"s\"\nbuffer.dir = \"{}\"\n",
            root.path().join("buffer").display()
        );
        fs::write(root.path().join("forebay.toml"), text).unwrap();
        Self { root }
    }

    fn buffer(&self) -> PathBuf {
        self.root.path().join("buffer")
    }

    fn forebay(&self, arguments: &[&str]) -> Output {
        let config = self.root.path().join("forebay.toml");
        Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(arguments)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap()
    }

    fn fails(&self, arguments: &[&str], says: &str) {
        let output = self.forebay(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }

    /// A directory of the daemon's user, with a dead letter.
    fn of_daemon() -> Self {
        let fixture = Self::new();
        fs::create_dir(fixture.buffer()).unwrap();
        fs::write(fixture.buffer().join("dead_letters.jsonl"), LETTER).unwrap();
        for path in [fixture.buffer(), fixture.buffer().join("dead_letters.jsonl")] {
            chown(path, Some(DAEMON), Some(DAEMON)).unwrap();
        }
        fixture
    }
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test}: only root can run in another user's directory");
    }
    root
}

#[test]
fn commands_in_a_missing_directory_fail() {
    let fixture = Fixture::new();
    for command in
        [&["dlq", "list"][..], &["dlq", "show", "0123"], &["buffer", "stat"], &["buffer", "verify"]]
    {
        fixture.fails(command, "does not exist");
    }
    assert!(!fixture.buffer().exists(), "looking makes nothing");
}

/// The daemon's user makes a link where root will write; what it leads to keeps its owner and its content.
#[test]
fn link_in_the_directory_is_not_followed_by_root() {
    if !is_root("link_in_the_directory_is_not_followed_by_root") {
        return;
    }
    let discard: &[&str] = &["dlq", "discard", "--reason", "cleaning up", "0123"];
    let adopt: &[&str] = &["adopt", "--reason", "taking over"];
    let run: &[&str] = &["run"];
    for (name, command) in [
        ("requests", discard),
        ("dead_letters.jsonl", &["dlq", "show", "0123"]),
        ("checkpoint", &["buffer", "stat"]),
        ("checkpoint", adopt),
        ("lock", adopt),
        ("lock", run),
        ("00000000000000000001.log", &["buffer", "verify"]),
    ] {
        let fixture = Fixture::of_daemon();
        let victim = fixture.root.path().join("victim");
        if name == "requests" {
            fs::create_dir(&victim).unwrap();
        } else {
            fs::write(&victim, LETTER).unwrap();
        }
        let link = fixture.buffer().join(name);
        drop(fs::remove_file(&link));
        symlink(&victim, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(DAEMON), Some(DAEMON)).unwrap();
        fixture.fails(command, "is refused");
        assert_eq!(fs::metadata(&victim).unwrap().uid(), 0, "{name}");
        if victim.is_dir() {
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
        } else {
            assert_eq!(fs::read_to_string(&victim).unwrap(), LETTER, "{name}");
        }
    }
}

#[test]
fn request_filed_by_root_belongs_to_the_daemon() {
    if !is_root("request_filed_by_root_belongs_to_the_daemon") {
        return;
    }
    let fixture = Fixture::of_daemon();
    assert!(fixture.forebay(&["dlq", "discard", "--reason", "cleaning up", "0123"]).status.success());
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    let folder = fixture.buffer().join("requests");
    assert_eq!(owner(&folder), DAEMON);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.iter().map(|file| owner(file)).collect::<Vec<_>>(), [DAEMON]);
}

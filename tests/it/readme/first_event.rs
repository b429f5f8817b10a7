//! The script at the top of docs/EVENTS.md, pasted block after block into a shell, up to the event in a stream.

use std::process::Command;

use kinesis_stub::{Config, Stub};
use serde_json::Value;
use tempfile::TempDir;

use super::{blocks, document};
use crate::support::daemon::is_event;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::{Process, Signal};
use crate::support::{SOON, eventually, port};

/// The script's section of the document.
fn section() -> String {
    let text = document("docs/EVENTS.md");
    let mut sections = text.split("\n## ");
    sections.find(|section| section.starts_with("How do I make my first event?")).unwrap().to_owned()
}

/// A shell of somebody who has a server, a stream and an empty directory.
struct Shell {
    postgres: Postgres,
    stub: Stub,
    home: TempDir,
    exports: String,
}

impl Shell {
    /// `exports` is the block that sets the addresses. The test's own port takes the place of the usual one.
    fn start(exports: &str) -> Self {
        let postgres = Postgres::builder(Version::usual()).without_fsync().start();
        let exports = exports.replace("PGPORT=5432", &format!("PGPORT={}", postgres.port()));
        let stub = Stub::start(Config::default().stream("lab-events", 1)).unwrap();
        let home =
            tempfile::Builder::new().prefix("fb-first-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { postgres, stub, home, exports }
    }

    fn command(&self, folder: &str, block: &str) -> Command {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_forebay"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-euc", &format!("{}{block}", self.exports)])
            .current_dir(self.home.path().join(folder));
        command.env_clear().env("PATH", path).env("NO_COLOR", "1");
        command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x");
        command.env("FOREBAY_KINESIS__ENDPOINT", self.stub.endpoint());
        command.env("FOREBAY_HTTP__LISTEN", format!("127.0.0.1:{}", port::free()));
        command
    }

    /// Runs a block to its end and returns what it printed.
    fn paste(&self, folder: &str, block: &str) -> String {
        let output = self.command(folder, block).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{block}\n{said}");
        said
    }

    /// The event of the rule, once the stream has it.
    fn completed(&self) -> Value {
        eventually("the event of the rule", SOON, || {
            let records = self.stub.records().into_iter();
            let mut events = records.map(|record| serde_json::from_slice::<Value>(&record.data).unwrap());
            events.find(|event| event["type"] == "lab.plate_completed.v1")
        })
    }
}

#[test]
fn pasted_first_steps_lead_to_documented_event() {
    let section = section();
    let [exports, database, files, tries, locks, runs, update, removal] =
        <[String; 8]>::try_from(blocks(&section, "sh")).unwrap();
    let shell = Shell::start(&exports);
    shell.paste("", &database);
    shell.paste("", &files);
    let tried = shell.paste("lab-events", &tries);
    assert!(tried.contains("2 passed; 0 failed"), "{tried}");
    assert!(tried.contains("\"type\":\"lab.plate_completed.v1\",\"subject\":\"6\""), "{tried}");
    let locked = shell.paste("lab-events", &locks);
    assert!(locked.contains("wrote ") && locked.contains("lab.plate_completed/1.0.json"), "{locked}");
    let mut daemon = Process::spawn("forebay", &mut shell.command("lab-events", &format!("exec {runs}")));
    let ready = daemon.log().wait(0, SOON, |line| is_event(line, "receiving") || line.contains("ERROR"));
    assert!(ready.is_some_and(|line| is_event(&line, "receiving")), "{}", daemon.tail());
    shell.paste("lab-events", &update);
    let event = shell.completed();
    let [documented] = <[String; 1]>::try_from(blocks(&section, "text")).unwrap();
    let documented: Value = serde_json::from_str(&documented).unwrap();
    let names = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&event), names(&documented));
    for (name, value) in documented.as_object().unwrap().iter().filter(|(_, value)| *value != "…") {
        assert_eq!(&event[name], value, "{name}");
    }
    daemon.signal(Signal::INT);
    assert!(daemon.wait(SOON).success(), "{}", daemon.tail());
    let left = "select (select count(*) from pg_replication_slots) + (select count(*) from pg_roles where rolname = 'forebay')";
    assert_eq!(shell.postgres.value(left), "2");
    shell.paste("", &removal);
    assert_eq!(shell.postgres.value(left), "0");
}

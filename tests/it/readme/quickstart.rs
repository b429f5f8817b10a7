//! docs/QUICKSTART.md, typed as it stands there: from a database that nobody prepared to the first event.

use std::process::Command;

use kinesis_stub::{Config, Stub};
use tempfile::TempDir;

use super::{blocks, document};
use crate::support::daemon::is_event;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::process::Process;
use crate::support::{SOON, eventually, port};

/// Like Pagila, and not ours.
const SCHEMA: &str = "create table customer (customer_id int primary key, email text not null, active boolean default true);
    create table film (film_id int primary key, title text not null, length int);
    create table rental (rental_id int primary key, customer_id int references customer, film_id int references film);
    create table audit_log (at timestamptz, entry text);
    insert into film values (1, 'ACADEMY DINOSAUR', 86);
    create role cdc login";

/// The machine of the transcript.
struct Machine {
    // First: it ends before its directory goes.
    daemon: Option<Process>,
    postgres: Postgres,
    stub: Stub,
    home: TempDir,
    listen: u16,
}

impl Machine {
    fn prepare() -> Self {
        let postgres =
            Postgres::builder(Version::usual()).without_fsync().setting("wal_level=replica").start();
        postgres.execute("create database shop");
        let mut machine = Self {
            daemon: None,
            postgres,
            stub: Stub::start(Config::default().stream("shop-events", 1)).unwrap(),
            home: tempfile::Builder::new()
                .prefix("fb-quick-")
                .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
                .unwrap(),
            listen: port::free(),
        };
        machine.postgres.use_database("shop");
        machine.postgres.execute(SCHEMA);
        machine
    }

    /// A command of ours in a shell. Only addresses and the directory are those of a test.
    fn forebay(&self, line: &str) -> Command {
        let url = self.postgres.url("cdc");
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_forebay"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg("-c").arg(line.replace("postgres://cdc@db.example/shop", &url));
        command.current_dir(self.home.path()).env_clear().env("PATH", path).env("NO_COLOR", "1");
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-central-1");
        command.env("FOREBAY_KINESIS__ENDPOINT", self.stub.endpoint());
        command.env("FOREBAY_BUFFER__DIR", self.home.path().join("buffer"));
        command.env("FOREBAY_HTTP__LISTEN", format!("127.0.0.1:{}", self.listen));
        command
    }

    /// Types a line, and gives what it prints.
    fn types(&mut self, line: &str) -> String {
        if let Some(statement) = line.strip_prefix("shop=# ") {
            self.postgres.execute(statement);
            return String::new();
        }
        let command = line.strip_prefix("$ ").unwrap();
        if command == "systemctl restart postgresql" {
            self.postgres.stop(Stop::Fast);
            self.postgres.start_again();
            return String::new();
        }
        if command.starts_with("aws kinesis get-records") {
            return eventually("the first event", SOON, || {
                let record = self.stub.records().into_iter().next()?;
                Some(String::from_utf8(record.data.to_vec()).unwrap())
            });
        }
        if let Some(command) = command.strip_suffix(" &") {
            let daemon = Process::spawn("forebay", &mut self.forebay(&format!("exec {command}")));
            let receiving = daemon.log().wait(0, SOON, |line| is_event(line, "receiving"));
            assert!(receiving.is_some(), "{}", daemon.tail());
            let said = daemon.log().lines().join("\n");
            self.daemon = Some(daemon);
            self.wait_until_ready();
            return said;
        }
        let output = self.forebay(command).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn wait_until_ready(&self) {
        eventually("it is ready", SOON, || {
            super::get(self.listen, "/health/ready").starts_with("HTTP/1.1 200").then_some(())
        });
    }
}

/// Whether the parts between the dots of `expected` stand in this order in `said`.
#[track_caller]
fn assert_printed(line: &str, expected: &str, said: &str) {
    let mut rest = said;
    for part in expected.split('…').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("{line}: not printed: {part:?}\n{said}");
        };
        rest = after;
    }
}

#[test]
fn quickstart_leads_to_the_first_event() {
    let mut machine = Machine::prepare();
    let mut typed = 0;
    for block in blocks(&document("docs/QUICKSTART.md"), "console") {
        let (mut line, mut expected) = (String::new(), String::new());
        // The end of the block is as good as the next command.
        for next in block.lines().chain(["$ "]) {
            if !next.starts_with("$ ") && !next.starts_with("shop=# ") {
                expected.push_str(next);
                expected.push('\n');
                continue;
            }
            if !line.is_empty() {
                let said = machine.types(&line);
                assert_printed(&line, &expected, &said);
                typed += 1;
            }
            (line, expected) = (next.to_owned(), String::new());
        }
    }
    assert!(typed >= 10, "{typed} commands were typed");
}

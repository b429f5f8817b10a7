//! The built daemon, run with a generated `forebay.toml`, its log watched.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::SOON;
use super::kinesis::{Kinesis, REGION};
use super::port;
use super::postgres::Postgres;
use super::process::{Process, Signal};

/// SIGTERM must have ended it by then. That it takes 5 s at most, `outage` shows; a busy machine may stall for as long.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// Alarms that any test may bring: of what other programs write to the disk, and of a machine so slow that a test takes minutes.
const OF_THE_MACHINE: [&str; 3] = ["disk_full_foreseen", "log_full_foreseen", "waiting_on_server"];

/// What goes into `forebay.toml`. The fields are public: a test changes what it is about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `name`.
    pub name: String,
    /// `source.url`.
    pub url: String,
    /// `source.slot` and, as its default, the publication; empty: the key is left out.
    pub slot: String,
    /// `source.tables`; empty: the key is left out.
    pub tables: Vec<String>,
    /// `kinesis.stream`.
    pub stream: String,
    /// `kinesis.endpoint`.
    pub endpoint: String,
    /// `buffer.max_size`.
    pub max_size: String,
    /// `buffer.confirm_after`; `None`: the key is left out.
    pub confirm_after: Option<String>,
    /// Further lines as section and line: `("buffer", "on_poison = \"stop\"")`; the section `""` is the top.
    pub more: Vec<(String, String)>,
    /// Further environment, such as `FOREBAY_SOURCE__PASSWORD`.
    pub environment: Vec<(String, String)>,
    /// The largest file it may write, in KiB (`ulimit -f`): a full disk without root.
    pub largest_file_kib: Option<u64>,
    /// How many files it may have open (`ulimit -n`).
    pub open_files: Option<u64>,
    /// A program with its arguments that runs it as its own process, such as `strace -D`; empty: none.
    pub through: Vec<String>,
}

impl Settings {
    /// The lab database into stream `lab-events` of a Kinesis.
    pub fn lab(postgres: &Postgres, kinesis: &Kinesis) -> Self {
        Self::new(postgres.url("forebay"), kinesis.endpoint())
    }

    /// The lab's tables from a database at `url` into stream `lab-events` at `endpoint`; either may be a proxy.
    pub fn new(url: String, endpoint: String) -> Self {
        Self {
            name: "lab".to_owned(),
            url,
            slot: "forebay_lab".to_owned(),
            tables: ["lab.plates", "lab.samples", "lab.transfers"].map(str::to_owned).to_vec(),
            stream: "lab-events".to_owned(),
            endpoint,
            max_size: "1 GiB".to_owned(),
            confirm_after: Some("1s".to_owned()),
            more: Vec::new(),
            environment: Vec::new(),
            largest_file_kib: None,
            open_files: None,
            through: Vec::new(),
        }
    }

    fn slot_line(&self) -> String {
        if self.slot.is_empty() { String::new() } else { format!("slot = {:?}\n", self.slot) }
    }

    /// The text of the file.
    pub fn toml(&self, buffer: &Path, listen: u16) -> String {
        let mut sections = vec![
            (String::new(), format!("name = {:?}\n", self.name)),
            ("source".to_owned(), format!("url = {:?}\n{}", self.url, self.slot_line())),
            (
                "kinesis".to_owned(),
                format!("stream = {:?}\nregion = {REGION:?}\nendpoint = {:?}\n", self.stream, self.endpoint),
            ),
            (
                "buffer".to_owned(),
                format!("dir = \"{}\"\nmax_size = {:?}\n", buffer.display(), self.max_size),
            ),
            ("http".to_owned(), format!("listen = \"127.0.0.1:{listen}\"\n")),
        ];
        if !self.tables.is_empty() {
            writeln!(sections[1].1, "tables = {:?}", self.tables).unwrap();
        }
        if let Some(confirm_after) = &self.confirm_after {
            writeln!(sections[3].1, "confirm_after = {confirm_after:?}").unwrap();
        }
        for (section, line) in &self.more {
            match sections.iter_mut().find(|(name, _)| name == section) {
                Some((_, text)) => writeln!(text, "{line}").unwrap(),
                None => sections.push((section.clone(), format!("{line}\n"))),
            }
        }
        sections.iter().fold(String::new(), |mut text, (section, lines)| {
            if !section.is_empty() {
                writeln!(text, "\n[{section}]").unwrap();
            }
            text + lines
        })
    }
}

/// The daemon with its directory, running or not.
#[derive(Debug)]
pub struct Daemon {
    // First: it ends before its directory goes.
    process: Option<Process>,
    settings: Settings,
    home: Home,
    /// `buffer.dir`; `None`: in its home.
    buffer: Option<PathBuf>,
    listen: u16,
}

/// A directory that goes with its value; `FOREBAY_KEEP=1` keeps that of a test that fails.
#[derive(Debug)]
struct Home(TempDir);

impl Home {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var("FOREBAY_KEEP").is_ok_and(|value| value == "1") {
            self.0.disable_cleanup(true);
            eprintln!("KEPT {}", self.path().display());
        }
    }
}

impl Daemon {
    /// Makes the directory and the file; starts nothing.
    pub fn prepare(settings: Settings) -> Self {
        // Not in /tmp: where that is a tmpfs, the daemon rightly keeps nothing there (`confirm_after` becomes `never`).
        let home = tempfile::Builder::new().prefix("fb-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { settings, home: Home(home), buffer: None, listen: port::free(), process: None }
    }

    /// As [`prepare`](Self::prepare), with the buffer directory of another one.
    pub fn prepare_on(settings: Settings, buffer: &Path) -> Self {
        Self { buffer: Some(buffer.to_owned()), ..Self::prepare(settings) }
    }

    /// Makes the directory and starts `forebay run`.
    pub fn start(settings: Settings) -> Self {
        let mut daemon = Self::prepare(settings);
        daemon.start_again();
        daemon
    }

    /// Starts `forebay run` on the same directory, with the settings as they are now.
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "it is running");
        let mut command = self.command(&["run"]);
        self.process = Some(Process::spawn("forebay", &mut command));
    }

    /// Runs another subcommand to its end, with `--config`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The settings, to change them before the next start.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// `buffer.dir`.
    pub fn buffer_directory(&self) -> PathBuf {
        self.buffer.clone().unwrap_or_else(|| self.home.path().join("buffer"))
    }

    /// Bytes of the log's segments.
    pub fn log_bytes(&self) -> u64 {
        let entries = std::fs::read_dir(self.buffer_directory()).into_iter().flatten().flatten();
        let segments =
            entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        // One that is released meanwhile has none.
        segments.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Where its file is, and what a failing test leaves there.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Throws the buffer away, as a container's end does.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.buffer_directory()).unwrap();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    /// Where its HTTP server listens, on loopback.
    pub const fn port(&self) -> u16 {
        self.listen
    }

    /// All lines of the log since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process().log().lines()
    }

    /// A place in the log from which to wait for later lines.
    pub fn mark(&self) -> usize {
        self.process().log().mark()
    }

    /// Waits for the first log line with this `event` field since the last start.
    #[track_caller]
    pub fn wait_for_event(&self, event: &str) -> String {
        self.wait_for_event_with(0, event, "")
    }

    /// The same, after a [`mark`](Self::mark).
    #[track_caller]
    pub fn wait_for_event_since(&self, mark: usize, event: &str) -> String {
        self.wait_for_event_with(mark, event, "")
    }

    /// The same, and `value` is in a field of the line: an error code, a name, a process id.
    #[track_caller]
    pub fn wait_for_event_with(&self, mark: usize, event: &str, value: &str) -> String {
        let is_it = |line: &str| is_event(line, event) && line.contains(value);
        let found = self.process().log().wait(mark, SOON, is_it);
        found.unwrap_or_else(|| panic!("no event {event:?} with {value:?} within {SOON:?}"))
    }

    /// How many log lines since the last start have this `event` field.
    pub fn count_events(&self, event: &str) -> usize {
        self.log().iter().filter(|line| is_event(line, event)).count()
    }

    /// Waits until it has ended by itself, such as by refusing to start.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.process_mut().wait(SOON);
        self.wait_for_last_words();
        status
    }

    /// Its end is known before all that it wrote has been read: two threads do that, each with the log in its hands.
    fn wait_for_last_words(&self) {
        let read = || (std::sync::Arc::strong_count(self.process().log()) == 1).then_some(());
        super::eventually("its last words are read", SOON, read);
    }

    /// Kills it at once.
    pub fn kill9(&mut self) {
        self.process_mut().kill9();
    }

    /// Sends SIGTERM; it must end within its grace period.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let process = self.process_mut();
        process.signal(Signal::TERM);
        let status = process.wait(STOPS_WITHIN);
        self.wait_for_last_words();
        status
    }

    /// Sends any signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process_mut().signal(signal);
    }

    /// Fails on every WARN or ERROR line whose `event` field is not expected. Those of a busy machine always are.
    #[track_caller]
    pub fn assert_quiet(&self, expected: &[&str]) {
        let unexpected: Vec<_> = self.log().into_iter().filter(|line| is_alarm(line)).collect();
        let unexpected: Vec<_> = unexpected.iter().filter(|line| !is_expected(line, expected)).collect();
        assert!(unexpected.is_empty(), "unexpected lines in the log:\n{unexpected:#?}");
    }

    /// The text of a page of its HTTP server, such as `/metrics`; `None` when it does not answer with 200.
    pub fn get(&self, path: &str) -> Option<String> {
        let (head, body) = self.page(path)?;
        head.starts_with("HTTP/1.1 200").then_some(body)
    }

    /// Whether it says that it is ready, or why not.
    #[track_caller]
    pub fn ready(&self) -> Result<(), String> {
        let (head, body) = self.page("/health/ready").expect("its HTTP server answers");
        if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(body) }
    }

    fn page(&self, path: &str) -> Option<(String, String)> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.listen)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }

    /// The value of a metric, with its labels as printed: `forebay_x_total{type="a"}`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:").expect("it is running")
    }

    /// The most that was resident since it was started; `None` if it has ended.
    pub fn highest_resident(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    }

    /// Another subcommand, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let file = self.home.path().join("forebay.toml");
        std::fs::write(&file, self.settings.toml(&self.buffer_directory(), self.listen)).unwrap();
        let program = env!("CARGO_BIN_EXE_forebay");
        let limits = [("f", self.settings.largest_file_kib), ("n", self.settings.open_files)];
        let limits: Vec<_> =
            limits.iter().filter_map(|(of, to)| to.map(|to| format!("ulimit -{of} {to}; "))).collect();
        let mut command = match self.settings.through.split_first() {
            _ if !limits.is_empty() => {
                let mut shell = Command::new("bash");
                shell.args(["-c", &format!("{}exec \"$0\" \"$@\"", limits.concat())]).arg(program);
                shell
            }
            Some((outer, arguments)) => {
                let mut command = Command::new(outer);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).arg("--config").arg(&file);
        // Nothing of the developer's own settings reaches it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("NO_COLOR", "1").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.envs(self.settings.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }
}

/// Events of changes and records that become dead letters.
pub const QUARANTINED: [&str; 5] = [
    "change_unreadable",
    "change_quarantined",
    "event_quarantined",
    "message_quarantined",
    "dead_letters_written",
];

/// Whether a log line, human or JSON, has this `event` field.
pub fn is_event(line: &str, event: &str) -> bool {
    line.contains(&format!(" event=\"{event}\"")) || line.contains(&format!("\"event\":\"{event}\""))
}

fn is_expected(line: &str, expected: &[&str]) -> bool {
    expected.iter().chain(&OF_THE_MACHINE).any(|event| is_event(line, event))
}

/// Whether a log line, human or JSON, is a warning or an error.
fn is_alarm(line: &str) -> bool {
    let json = ["\"level\":\"WARN\"", "\"level\":\"ERROR\""].iter().any(|level| line.contains(level));
    json || line.split_whitespace().take(3).any(|word| word == "WARN" || word == "ERROR")
        || line.contains("panicked")
}

#[test]
fn generated_file_holds_the_settings() {
    let mut settings = Settings::new("postgres://forebay@h/lab".to_owned(), "http://127.0.0.1:1".to_owned());
    settings.more.push(("source".to_owned(), "epoch = 3".to_owned()));
    settings.more.push(("log".to_owned(), "format = \"json\"".to_owned()));
    let expected = r#"name = "lab"

[source]
url = "postgres://forebay@h/lab"
slot = "forebay_lab"
tables = ["lab.plates", "lab.samples", "lab.transfers"]
epoch = 3

[kinesis]
stream = "lab-events"
region = "eu-central-1"
endpoint = "http://127.0.0.1:1"

[buffer]
dir = "/b"
max_size = "1 GiB"
confirm_after = "1s"

[http]
listen = "127.0.0.1:9"

[log]
format = "json"
"#;
    assert_eq!(settings.toml(Path::new("/b"), 9), expected);
}

#[test]
fn events_are_recognized_in_both_formats() {
    for (line, expected) in [
        ("2026-11-21T08:00:00Z  INFO receiving event=\"receiving\" slot=\"s\"", true),
        (r#"{"timestamp":"2026","level":"INFO","message":"x","event":"receiving"}"#, true),
        ("2026-11-21T08:00:00Z  INFO receiving event=\"stopping\"", false),
        ("2026-11-21T08:00:00Z  INFO receiving event=\"receiving_late\"", false),
    ] {
        assert_eq!(is_event(line, "receiving"), expected, "{line}");
    }
}

#[test]
fn warnings_are_distinguished() {
    for (line, alarm) in [
        ("2026-11-21T08:00:00Z  WARN forebay: no answer", true),
        ("2026-11-21T08:00:00Z ERROR forebay: stopping", true),
        ("2026-11-21T08:00:00Z  INFO forebay: table ERROR is published", false),
        (r#"{"timestamp":"2026","level":"WARN","message":"x"}"#, true),
        ("thread 'main' panicked at src/main.rs:1:1:", true),
    ] {
        assert_eq!(is_alarm(line), alarm, "{line}");
    }
}

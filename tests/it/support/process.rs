//! A child process whose lines are kept, and which never outlives its value.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::{SOON, eventually, poll};

/// Lines that a process wrote, stdout and stderr together, in the order they came.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Log {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// How many lines there are; a place from which to wait for later ones.
    pub fn mark(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// The first line from `mark` on that `wanted` likes; `None` when the deadline has passed.
    pub fn wait(&self, mark: usize, deadline: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + deadline;
        let mut next = mark;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().skip(next).find(|line| wanted(line)) {
                return Some(line.clone());
            }
            next = lines.len();
            let left = end.checked_duration_since(Instant::now())?;
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn keep(self: &Arc<Self>, output: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                log.lines.lock().unwrap().push(line);
                log.grown.notify_all();
                bytes.clear();
            }
        });
    }
}

/// A running (or ended) child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Starts it with its output captured and nothing on stdin.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}: {command:?}"));
        let log = Arc::new(Log::default());
        log.keep(child.stdout.take().unwrap());
        log.keep(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to the process itself, if it has not ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).unwrap();
        }
    }

    /// Waits until it ends by itself; panics when it does not.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) ends", self.name, self.id());
        eventually(&what, deadline, || self.child.try_wait().unwrap())
    }

    /// Asks it to end and gives it some seconds; never panics. What then still runs is killed when the value is dropped.
    pub fn ask_to_end(&mut self, signal: Signal) {
        self.signal(signal);
        poll(Duration::from_secs(10), || (!self.is_running()).then_some(())).unwrap_or_default();
    }

    /// Kills it and everything it started, at once, as a power cut would (but for the page cache).
    pub fn kill9(&mut self) {
        for pid in family(self.child.id()) {
            // One that has ended meanwhile is as good as killed.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        self.wait(SOON);
    }

    /// The last lines it wrote, for the message of a failing test.
    pub fn tail(&self) -> String {
        let lines = self.log.lines();
        let from = lines.len().saturating_sub(40);
        format!("--- the last lines of {}\n{}\n---", self.name, lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        // Once it has been waited for, its number may be somebody else's.
        if self.is_running() {
            for pid in family(self.child.id()) {
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
            self.child.wait().map_or_else(|error| eprintln!("{}: {error}", self.name), drop);
        }
    }
}

/// A process that has not been waited for, and all its descendants, parents first.
fn family(root: u32) -> Vec<Pid> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let parent = std::fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| {
            // The name in parentheses may hold spaces; the parent is the second field after it.
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
        if let (Some(pid), Some(parent)) = (pid, parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    all.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}

#[test]
fn kill_includes_children() {
    let mut shell = Process::spawn("sh", Command::new("sh").args(["-c", "sleep 1000 & echo child $!; wait"]));
    let line = shell.log().wait(0, SOON, |line| line.starts_with("child ")).unwrap();
    let child: u32 = line.trim_start_matches("child ").parse().unwrap();
    shell.kill9();
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    };
    eventually("the child is gone as well", SOON, gone);
}

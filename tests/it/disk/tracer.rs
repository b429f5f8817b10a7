//! Faults of the disk from outside: strace answers system calls in the kernel's stead. The daemon does not know of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::missing;
use crate::support::process::Process;
use crate::support::{SOON, eventually};

/// Whether strace is here and may trace. Where not, the test says so, and fails if it is only not installed.
pub fn is_here() -> bool {
    let answer = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    match answer {
        Err(_) => {
            missing("strace");
            false
        }
        Ok(output) => {
            let may = output.status.success();
            if !may {
                eprintln!("SKIPPED: nothing may be traced here: {}", String::from_utf8_lossy(&output.stderr));
            }
            may
        }
    }
}

/// What is answered instead of the truth.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Names of system calls, with commas.
    pub calls: &'static str,
    /// As strace has it: `error=EIO`, `retval=0`, with `:when=2`.
    pub answer: String,
    /// Only on these files; empty: on all.
    pub paths: Vec<PathBuf>,
}

impl Injection {
    /// An error, each time.
    pub fn error(name: &str, calls: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { calls, answer: format!("error={name}"), paths: vec![path.into()] }
    }

    /// Only the n-th of the calls of one thread.
    #[must_use]
    pub fn only(mut self, nth: usize) -> Self {
        self.answer = format!("{}:when={nth}", self.answer);
        self
    }

    /// fsync does nothing and says that it has done it.
    pub fn void_fsync(paths: Vec<PathBuf>) -> Self {
        Self { calls: "fsync,fdatasync", answer: "retval=0".to_owned(), paths }
    }

    fn arguments(&self) -> Vec<String> {
        let mut words =
            vec![format!("-etrace={}", self.calls), format!("-einject={}:{}", self.calls, self.answer)];
        words.extend(self.paths.iter().map(|path| format!("-P{}", path.display())));
        words
    }

    /// What runs the daemon so: for [`Settings::through`](crate::support::daemon::Settings::through). `report` has a line
    /// for each call.
    pub fn through(&self, report: &Path) -> Vec<String> {
        // -D: the daemon stays our child, with its own number.
        let fixed =
            ["strace", "-D", "-f", "-y", "-qq", "-esignal=none", "--seccomp-bpf", "-o"].map(str::to_owned);
        fixed.into_iter().chain([report.display().to_string()]).chain(self.arguments()).collect()
    }

    /// Begins with a daemon that runs already; ends with it, or when the value is dropped.
    pub fn attach(&self, id: u32, report: &Path) -> Process {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-esignal=none", "-o"]).arg(report).args(self.arguments());
        command.arg("-p").arg(id.to_string());
        let tracer = Process::spawn("strace", &mut command);
        eventually("the daemon is traced, all of its threads", SOON, || {
            let mut threads = std::fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten();
            let traced = |thread: std::fs::DirEntry| {
                let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            };
            threads.all(traced).then_some(())
        });
        tracer
    }
}

/// The lines of a report in which something was answered.
pub fn injected(report: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    text.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
}

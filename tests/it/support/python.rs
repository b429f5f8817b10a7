//! Python programs in the environments that `scripts/setup` makes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{cache, missing, repository};

/// An environment below the cache.
#[derive(Clone, Copy, Debug)]
pub enum Environment {
    /// boto3 and pg8000.
    Client,
    /// DuckDB, sqlglot, cfn-lint.
    Analysis,
}

impl Environment {
    const fn folder(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Analysis => "analysis",
        }
    }

    /// Whether it is installed. Where not, the test fails, unless skipping is allowed.
    pub fn is_here(self) -> bool {
        let found = cache().join(self.folder()).join("bin/python").exists();
        if !found {
            missing(&format!("the Python environment {self:?}"));
        }
        found
    }

    /// A program of it, such as `python` or `cfn-lint`.
    pub fn program(self, name: &str) -> Command {
        Command::new(cache().join(self.folder()).join("bin").join(name))
    }

    /// Its Python with a script of the repository, not started yet. Nothing of the developer's own AWS settings reaches it.
    pub fn script(self, path: &str) -> Command {
        let mut command = self.program("python");
        command.arg(repository().join(path)).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_DEFAULT_REGION", super::kinesis::REGION);
        command
    }
}

/// Runs a command with a text on its standard input; panics if it fails. Gives what it printed.
#[track_caller]
pub fn printed(command: &mut Command, input: &str) -> String {
    let output = output(command, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with a text on its standard input.
pub fn output(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // In a thread of its own: what it prints meanwhile must be read.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// A file below a folder that may not exist yet.
pub fn write(path: &Path, text: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

//! A temporary PostgreSQL server, removed at the end of the test.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

pub(crate) struct Server {
    directory: TempDir,
    programs: PathBuf,
}

/// Starts it; as the user `postgres` if the test runs as root, which PostgreSQL refuses.
pub(crate) fn start() -> Server {
    let programs =
        std::env::var_os("FOREBAY_PG_BIN").map_or("/usr/lib/postgresql/15/bin".into(), PathBuf::from);
    let server = Server { directory: tempfile::tempdir().unwrap(), programs };
    let path = server.directory.path().to_str().unwrap().to_owned();
    if is_root() {
        assert!(Command::new("chown").args(["postgres", &path]).status().unwrap().success());
    }
    let data = format!("{path}/data");
    server.run(
        "initdb",
        &[
            "-D",
            &data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-locale",
            "--lc-ctype=C.UTF-8",
            "-E",
            "UTF8",
            "-N",
        ],
    );
    let options = format!("-c listen_addresses= -c unix_socket_directories={path} -c fsync=off");
    server.run("pg_ctl", &["-D", &data, "-l", &format!("{path}/log"), "-o", &options, "-w", "start"]);
    server
}

impl Server {
    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let output =
            command.args(arguments).current_dir("/").stdout(std::process::Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) async fn connect(
        &self,
        user: &str,
        options: &str,
    ) -> (Client, Connection<Socket, NoTlsStream>) {
        let mut config = Config::new();
        config.host_path(self.directory.path()).user(user).dbname("postgres").options(options);
        config.connect(NoTls).await.unwrap()
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = format!("{}/data", self.directory.path().display());
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }
}

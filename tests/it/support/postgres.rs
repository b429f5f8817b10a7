//! A Postgres cluster of one test: its own directory, port and socket, as an ordinary user, gone at the end.
//!
//! `postgres` itself is the child (no `pg_ctl`), so that signals and kill -9 hit the real thing.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, Signal};
use super::tls::Tls;
use super::{SOON, cache, eventually, missing, port, repository};

/// A major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// The oldest that Forebay supports.
    pub const OLDEST: Self = Self(14);
    /// The newest that Forebay supports.
    pub const NEWEST: Self = Self(18);

    /// All supported versions. One that is not installed fails the test, or is left out where skipping is allowed.
    pub fn all() -> Vec<Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).map(Self).filter(|version| version.is_here()).collect()
    }

    /// The version for tests to which the version does not matter: 15, Debian 12's.
    pub fn usual() -> Self {
        Self(15)
    }

    /// Whether it is installed. Where not, the test fails, unless skipping is allowed.
    pub fn is_here(self) -> bool {
        let found = self.programs().is_some();
        if !found {
            missing(&format!("Postgres {}", self.0));
        }
        found
    }

    fn programs(self) -> Option<PathBuf> {
        let system = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", self.0));
        let cached = cache().join(format!("pg/{}/bin", self.0));
        let found = [system, cached].into_iter().find(|path| path.join("postgres").exists())?;
        Some(found.canonicalize().unwrap())
    }
}

/// How `Postgres::stop` stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for clients to go.
    Smart,
    /// Rolls back what is open, writes a checkpoint.
    Fast,
    /// Quits as after a crash; recovery at the next start.
    Immediate,
}

/// What a cluster is made with.
#[derive(Clone, Debug)]
pub struct Builder {
    version: Version,
    settings: Vec<String>,
    hba: Vec<String>,
    tls: bool,
}

impl Builder {
    /// A line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }

    /// No fsync: much faster; only for tests in which the machine does not lose power, not even in pretence.
    #[must_use]
    pub fn without_fsync(self) -> Self {
        self.setting("fsync=off").setting("full_page_writes=off")
    }

    /// A line of `pg_hba.conf` for TCP. With none, everybody is trusted. The superuser's socket is always open.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// TLS with a certificate of a test's own authority ([`Postgres::tls`]).
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes the cluster and starts it.
    pub fn start(self) -> Postgres {
        let home = home();
        let user = User::find();
        let mut postgres = Postgres {
            version: self.version,
            programs: self
                .version
                .programs()
                .unwrap_or_else(|| panic!("no Postgres {}: run scripts/setup", self.version.0)),
            data: home.path().join("data"),
            home,
            user,
            port: port::free(),
            tls: None,
            database: "postgres".to_owned(),
            process: None,
        };
        postgres.initdb();
        if self.tls {
            let directory = postgres.home.path().join("tls");
            std::fs::create_dir(&directory).unwrap();
            postgres.tls = Some(Tls::generate(&directory));
            postgres.user.own(&directory);
        }
        postgres.configure(&self);
        postgres.start_again();
        postgres
    }
}

/// The ordinary user who runs the server when the tests run as root.
#[derive(Clone, Copy, Debug)]
pub(super) struct User(Option<(u32, u32)>);

impl User {
    fn find() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("postgres:"));
        let line = line.expect("a user named postgres: run scripts/setup");
        let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
        Self(Some((ids.next().unwrap(), ids.next().unwrap())))
    }

    pub(super) fn own(self, path: &Path) {
        if let Self(Some((user, group))) = self {
            run(Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(path));
        }
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C");
        if let Self(Some((user, group))) = self {
            command.uid(user).gid(group);
        }
        command
    }
}

/// An older copy of a cluster's directory.
#[derive(Debug)]
pub struct Copy(TempDir);

/// A cluster, running or stopped.
#[derive(Debug)]
pub struct Postgres {
    // First: it ends before its directory goes.
    pub(super) process: Option<Process>,
    pub(super) version: Version,
    pub(super) programs: PathBuf,
    pub(super) data: PathBuf,
    pub(super) home: TempDir,
    pub(super) user: User,
    pub(super) port: u16,
    pub(super) tls: Option<Tls>,
    pub(super) database: String,
}

impl Postgres {
    /// A cluster with `wal_level=logical` and everybody trusted.
    pub fn start(version: Version) -> Self {
        Self::builder(version).start()
    }

    /// For more than [`start`](Self::start) gives.
    pub fn builder(version: Version) -> Builder {
        Builder { version, settings: Vec::new(), hba: Vec::new(), tls: false }
    }

    /// The usual cluster for tests of the daemon: no fsync, with the lab database ([`create_lab`](Self::create_lab)).
    pub fn lab(version: Version) -> Self {
        let mut postgres = Self::builder(version).without_fsync().start();
        postgres.create_lab();
        postgres
    }

    /// Creates database `lab` with the schema of `config/lab/schema.sql`, the role `forebay` who may replicate it, and
    /// makes it the database of [`execute`](Self::execute), [`query`](Self::query) and [`url`](Self::url).
    pub fn create_lab(&mut self) {
        self.create_lab_in("UTF8");
    }

    /// Makes an existing database that of [`execute`](Self::execute), [`query`](Self::query) and [`url`](Self::url).
    pub fn use_database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
    }

    /// As [`create_lab`](Self::create_lab), in another encoding.
    pub fn create_lab_in(&mut self, encoding: &str) {
        self.execute(&format!("create database lab template template0 encoding '{encoding}'"));
        "lab".clone_into(&mut self.database);
        let schema = repository().join("config/lab/schema.sql");
        self.execute(&std::fs::read_to_string(schema).unwrap());
        // As an owner of the tables it may make the publication, and as one who may create in the database as well.
        self.execute("create role forebay login replication; grant lab to forebay; grant create on database lab to forebay");
    }

    /// Its major version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its TCP port on 127.0.0.1, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.home.path()
    }

    /// Its data directory.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The certificates, when it was built with TLS.
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("built with_tls()")
    }

    /// The URL for a user, over TCP.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{}", self.port, self.database)
    }

    /// The URL for a user, over the unix socket.
    pub fn socket_url(&self, user: &str) -> String {
        let directory = self.socket_directory().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{directory}:{}/{}", self.port, self.database)
    }

    /// What the server wrote to its log since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(|process| process.log().lines()).unwrap_or_default()
    }

    /// Stops it and waits until it has stopped.
    pub fn stop(&mut self, how: Stop) {
        let signal = match how {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        if let Some(mut process) = self.process.take() {
            process.signal(signal);
            process.wait(SOON);
        }
    }

    /// Kills all its processes at once.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Starts it, and waits until it takes connections.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let mut command = self.user.command(&self.programs.join("postgres"));
        let mut process = Process::spawn("postgres", command.arg("-D").arg(&self.data));
        eventually(&format!("Postgres {} takes connections", self.version.0), SOON, || {
            assert!(process.is_running(), "postgres has ended\n{}", process.tail());
            self.try_session("postgres", "postgres").ok()
        });
        self.process = Some(process);
    }

    /// A copy of the data directory as it is now. The server is stopped for it, and runs afterwards.
    pub fn copy_data_dir(&mut self) -> Copy {
        self.stop(Stop::Fast);
        let copy = home();
        run(Command::new("cp").arg("-a").arg(&self.data).arg(copy.path()));
        self.start_again();
        Copy(copy)
    }

    /// Puts an older copy back, as a DBA does after a disaster, and starts the server on it.
    pub fn restore_data_dir(&mut self, copy: &Copy) {
        self.stop(Stop::Immediate);
        std::fs::remove_dir_all(&self.data).unwrap();
        run(Command::new("cp").arg("-a").arg(copy.0.path().join("data")).arg(&self.data));
        self.start_again();
    }

    fn initdb(&self) {
        self.user.own(self.home.path());
        let options = ["-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync"];
        run(self.user.command(&self.programs.join("initdb")).arg("-D").arg(&self.data).args(options));
    }

    fn configure(&self, builder: &Builder) {
        let mut conf = format!(
            "port={}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nwal_level=logical\n\
             max_wal_senders=20\nmax_replication_slots=20\nshared_buffers='32MB'\nmax_wal_size='4GB'\n\
             log_checkpoints=off\nautovacuum_naptime=5s\n",
            self.port,
            self.home.path().display()
        );
        let tls = self.tls.as_ref().map(|tls| {
            format!(
                "ssl=on\nssl_cert_file='{}'\nssl_key_file='{}'\n",
                tls.certificate.display(),
                tls.key.display()
            )
        });
        conf.push_str(&tls.unwrap_or_default());
        for line in &builder.settings {
            conf.push_str(line);
            conf.push('\n');
        }
        append(&self.data.join("postgresql.conf"), &conf);
        let trusted = ["host all all 127.0.0.1/32 trust".to_owned()];
        let lines = if builder.hba.is_empty() { &trusted[..] } else { &builder.hba[..] };
        let hba = format!(
            "local all all trust\nlocal replication all trust\n{}\nhost replication all 127.0.0.1/32 trust\n",
            lines.join("\n")
        );
        std::fs::write(self.data.join("pg_hba.conf"), hba).unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed with -9, it would leave its shared memory behind.
        if let Some(process) = &mut self.process {
            process.ask_to_end(Signal::QUIT);
        }
    }
}

/// A short path, which the server's user may enter: a unix socket's path holds at most 107 bytes.
pub(super) fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("fb-pg-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    home
}

pub(super) fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

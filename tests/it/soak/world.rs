//! The three and the line between two of them, to which the acts of a plan happen.

use std::net::{Ipv4Addr, SocketAddr};

use kinesis_stub::{Fault, Rule};

use super::figures::Figures;
use super::letters::RULES;
use super::plan::{Act, Owner};
use super::shapes::SCHEMA;
use crate::sessions::parameters::{NO_DEFAULT, hostile};
use crate::support::SOON;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::Signal;
use crate::support::proxy::{Direction, Proxy, Target};
use crate::support::random::Random;
use crate::support::session::Session;

/// The least that the configuration allows: a flood fills it.
const SMALL: &str = "16 MiB";
const SMALL_BYTES: u64 = 16 << 20;
/// What takes all of a round.
const LARGE: &str = "64 MiB";
const LARGE_BYTES: u64 = 64 << 20;
/// Rows of 4 kB in a flood: more than the small log holds.
const FLOOD: u32 = 5_000;
/// Open shards beyond which none is split.
const SHARDS_MAX: usize = 128;
const STREAM: &str = "lab-events";
const TABLES: [&str; 3] = ["lab.shapes", "lab.letters", "lab.poison"];

/// A database for hours: it keeps no more than it must on its disk, and soon notices a client that is gone.
pub fn lasting() -> Postgres {
    let builder = Postgres::builder(Version::usual()).without_fsync();
    let builder = builder.setting("max_wal_size='256MB'").setting("min_wal_size='32MB'");
    let mut postgres = builder.setting("wal_sender_timeout='2s'").start();
    postgres.create_lab();
    postgres
}

/// See the module.
pub struct World {
    pub flow: Flow,
    /// Line to Kinesis, which some daemons use.
    line: Proxy,
    /// Each holds a table.
    lockers: Vec<Session>,
    /// Names, hostile values, and what they are.
    parameters: Vec<(String, String, String)>,
    /// Keys whose events the stream refuses, until the end.
    refused: Vec<String>,
    proxy: Proxy,
    /// What the log of the running daemon may have.
    log_max: u64,
    frozen: bool,
    deaf: bool,
}

impl World {
    /// Everything but the daemon runs.
    pub fn prepare(seed: u64) -> Self {
        let postgres = lasting();
        postgres.execute(SCHEMA);
        let parameters = hostile(&mut postgres.session("postgres"));
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
        let proxy = Proxy::start(Target::Tcp(target)).unwrap();
        let through = format!("postgres://forebay@{}/lab", proxy.address());
        let flow = Flow::over(postgres, seed, |settings| {
            settings.url = through;
            settings.tables.extend(TABLES.map(str::to_owned));
            settings.more.push(("events".to_owned(), "rules = \"soak.toml\"".to_owned()));
        });
        std::fs::write(flow.daemon.home().join("soak.toml"), RULES).unwrap();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, flow.stub.port()));
        let line = Proxy::start(Target::Tcp(target)).unwrap();
        Self {
            flow,
            proxy,
            line,
            lockers: Vec::new(),
            parameters,
            refused: Vec::new(),
            log_max: 0,
            frozen: false,
            deaf: false,
        }
    }

    /// Other settings for the next start.
    pub fn choose(&mut self, random: &mut Random) -> String {
        let confirm_after = *random.pick(&["0s", "1s", "5s"]);
        let max_size = *random.pick(&[SMALL, LARGE]);
        let proxied = !random.once_in(3);
        let endpoint =
            if proxied { format!("http://{}", self.line.address()) } else { self.flow.stub.endpoint() };
        let settings = self.flow.daemon.settings();
        settings.confirm_after = Some(confirm_after.to_owned());
        max_size.clone_into(&mut settings.max_size);
        settings.endpoint = endpoint;
        format!("confirm_after {confirm_after}, max_size {max_size}, proxied {proxied}")
    }

    /// Does it.
    pub fn act(&mut self, act: &Act, figures: &mut Figures) {
        let Self { flow, proxy, .. } = self;
        match act {
            Act::Rule(rule) => flow.stub.add(rule.clone()).unwrap(),
            Act::Reshard(shards) => flow.stub.reshard(STREAM, *shards).unwrap(),
            Act::Split(hash) => {
                if flow.stub.open_shards(STREAM).is_some_and(|open| open < SHARDS_MAX) {
                    flow.stub.split(STREAM, *hash).unwrap();
                }
            }
            Act::Merge(hash) => flow.stub.merge(STREAM, *hash).unwrap(),
            Act::SlowLine(rate) => self.line.slow(Some(*rate)),
            Act::Limit => flow.stub.limit(true),
            Act::KinesisGone => flow.stub.stop(),
            Act::KinesisBack => flow.stub.restart().unwrap(),
            Act::Cut => proxy.cut(),
            Act::CutAfter(bytes) => proxy.truncate_after(*bytes),
            Act::Stall => proxy.stall(),
            Act::HalfOpen(direction) => self.go_deaf(*direction),
            Act::Slow(rate) => proxy.slow(Some(*rate)),
            Act::Refuse => {
                proxy.refuse(true);
                proxy.cut();
            }
            Act::Walsender => {
                flow.postgres.query("select pg_terminate_backend(pid) from pg_stat_replication");
            }
            Act::Restart(how) => {
                match how {
                    Some(how) => flow.postgres.stop(*how),
                    None => flow.postgres.kill9(),
                }
                flow.postgres.start_again();
            }
            Act::Flood => {
                unlock(&mut self.lockers);
                flood(flow);
            }
            Act::Lock(table) => self.lock(table),
            Act::Parameters { of, bits, cut } => self.hurt(*of, Random::new(*bits), *cut),
            Act::LetterFlood(rows) => {
                unlock(&mut self.lockers);
                flow.postgres.execute(&format!(
                    "insert into lab.letters select nextval('public.marks'), n % 3 / 2 from generate_series(1, {rows}) n"
                ));
            }
            Act::TooLarge => {
                flow.postgres.execute(
                    "insert into lab.poison select 'large-' || nextval('public.marks'), repeat('large ', 200000)",
                );
            }
            Act::Refused => {
                let key = format!("refused-{}", flow.postgres.value("select nextval('public.marks')"));
                self.refused.push(key.clone());
                self.flow.stub.add_first(self.refusal().unwrap()).unwrap();
                self.flow.postgres.execute(&format!("insert into lab.poison values ('{key}', 'refused')"));
            }
            Act::Kill => {
                self.kill(figures);
                self.start(figures);
            }
            Act::Stop => {
                self.stop(figures);
                self.start(figures);
            }
            Act::Freeze => {
                flow.daemon.signal(Signal::STOP);
                self.frozen = true;
            }
            Act::Thaw => self.thaw(),
        }
    }

    /// The stream refuses each request that has one of these keys.
    fn refusal(&self) -> Option<Rule> {
        let fault = Fault::Error { status: 400, code: "ValidationException".to_owned() };
        (!self.refused.is_empty()).then(|| Rule::new(fault).keys(self.refused.clone()))
    }

    /// A table that is locked already, or used for long, is let be.
    fn lock(&mut self, table: &str) {
        let mut session = self.flow.postgres.session("postgres");
        let lock = format!(
            "set lock_timeout = '500ms'; begin; lock table {table} in access exclusive mode; select pg_current_xact_id()"
        );
        if session.try_execute(&lock).is_ok() {
            self.lockers.push(session);
        }
    }

    /// Some parameters get hostile values, for connections that are made from now on.
    fn hurt(&self, of: Owner, mut random: Random, cut: bool) {
        let mut session = self.flow.postgres.session("postgres");
        for _ in 0..=random.below(12) {
            let (name, value, before) = random.pick(&self.parameters);
            let statement = match of {
                Owner::Role => format!("alter role forebay set {name} = '{value}'"),
                Owner::RoleInDatabase => format!("alter role forebay in database lab set {name} = '{value}'"),
                Owner::Database if NO_DEFAULT.contains(&name.as_str()) => continue,
                // The test itself keeps what it had.
                Owner::Database => {
                    let before = before.replace('\'', "''");
                    session.execute(&format!("alter role postgres set {name} = '{before}'"));
                    format!("alter database lab set {name} = '{value}'")
                }
            };
            println!("mixed: {statement}");
            session.execute(&statement);
        }
        if cut {
            self.proxy.cut();
        }
    }

    fn go_deaf(&mut self, direction: Direction) {
        self.proxy.half_open(Some(direction));
        self.deaf = true;
    }

    fn thaw(&mut self) {
        if self.frozen {
            self.flow.daemon.signal(Signal::CONT);
            self.frozen = false;
        }
    }

    /// It must run, within its limits.
    pub fn look(&mut self, figures: &mut Figures) {
        assert!(self.flow.daemon.is_running(), "it has ended by itself:\n{}", self.last_words());
        figures.measure(&self.flow.daemon, self.log_max);
    }

    /// kill -9, after a look at what it took.
    pub fn kill(&mut self, figures: &mut Figures) {
        self.look(figures);
        self.flow.daemon.kill9();
        self.frozen = false;
    }

    /// SIGTERM. That it ends in time, `outage` shows; here it must end, and end well.
    pub fn stop(&mut self, figures: &mut Figures) {
        self.thaw();
        self.look(figures);
        // Before that the signal ends the process, as it does with any.
        self.flow.daemon.wait_for_event("starting");
        self.flow.daemon.signal(Signal::TERM);
        let status = self.flow.daemon.wait();
        assert!(status.success(), "{status} after SIGTERM:\n{}", self.last_words());
    }

    /// Starts it, with the settings as they are.
    pub fn start(&mut self, figures: &mut Figures) {
        let small = self.flow.daemon.settings().max_size == SMALL;
        let limit = if small { SMALL_BYTES } else { LARGE_BYTES };
        // A log that was allowed to be larger does not grow, at least.
        self.log_max = limit.max(self.flow.daemon.log_bytes());
        self.flow.daemon.start_again();
        figures.starts += 1;
    }

    /// Everything works again; what a fault kept is let go.
    pub fn repair(&mut self) {
        self.thaw();
        unlock(&mut self.lockers);
        self.flow.postgres.execute(
            "alter role forebay reset all; alter role forebay in database lab reset all; \
             alter database lab reset all; alter role postgres reset all",
        );
        match self.refusal() {
            Some(rule) => self.flow.stub.set(rule).unwrap(),
            None => self.flow.stub.heal(),
        }
        self.flow.stub.limit(false);
        self.line.slow(None);
        // Also ends what hangs.
        self.flow.stub.restart().unwrap();
        self.flow.stub.release();
        if self.deaf {
            // Nobody can go on in the middle of a conversation of which parts are missing.
            self.proxy.refuse(true);
            self.proxy.cut();
            self.proxy.half_open(None);
            self.deaf = false;
        }
        self.proxy.truncate_after(u64::MAX);
        self.proxy.slow(None);
        self.proxy.resume();
        self.proxy.refuse(false);
    }

    /// For a failure's message.
    pub fn last_words(&self) -> String {
        let log = self.flow.daemon.log();
        log.get(log.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    /// Lets the stub's clients be for a time: this is the time in which faults and work meet.
    pub fn live_until(&self, deadline: std::time::Instant) {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        self.flow.stub.wait(left.min(SOON), |_| false);
    }
}

/// Whoever holds a table lets it go.
fn unlock(lockers: &mut Vec<Session>) {
    for mut session in lockers.drain(..) {
        // A server that was restarted has forgotten it.
        session.try_execute("rollback").unwrap_or_default();
    }
}

/// One transaction that deletes the flood before and inserts the next.
fn flood(flow: &Flow) {
    flow.postgres.execute(&format!(
        "begin; delete from lab.plates where barcode like 'F%'; \
         insert into lab.plates (plate_id, barcode, notes) \
         select n, 'F' || n, repeat('x', 4000) \
         from (select nextval('public.marks') n from generate_series(1, {FLOOD})) k; commit;"
    ));
}

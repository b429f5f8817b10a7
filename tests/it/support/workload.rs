//! A laboratory at work: transactions of random size over the tables of `config/lab/schema.sql`. Rows are inserted,
//! updated (also their keys), deleted with what hangs on them, and some transactions are rolled back.
//!
//! What it committed is not remembered here: the audit table knows ([`Postgres::history`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::postgres::Postgres;
use super::random::Random;
use super::session::{Session, explain};

/// One writer with a connection of its own, which it makes again when it breaks.
#[derive(Debug)]
pub struct Workload {
    address: String,
    session: Option<Session>,
    random: Random,
    plates: Vec<String>,
    samples: Vec<String>,
    transfers: Vec<String>,
}

impl Workload {
    /// A writer for the lab database of a cluster; the same seed writes the same, as long as it is alone.
    pub fn new(postgres: &Postgres, seed: u64) -> Self {
        Self {
            address: postgres.address(),
            session: None,
            random: Random::new(seed),
            plates: Vec::new(),
            samples: Vec::new(),
            transfers: Vec::new(),
        }
    }

    /// Commits `count` transactions; panics when the database refuses.
    #[track_caller]
    pub fn commit(&mut self, count: usize) {
        let mut committed = 0;
        while committed < count {
            committed +=
                usize::from(self.transaction().unwrap_or_else(|error| panic!("{}", explain(&error))));
        }
    }

    /// One transaction; whether it was committed (some are rolled back on purpose). After an error it is not known.
    pub fn transaction(&mut self) -> Result<bool, tokio_postgres::Error> {
        let result = self.try_transaction();
        if result.is_err() {
            self.session = None;
        }
        result
    }

    fn try_transaction(&mut self) -> Result<bool, tokio_postgres::Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.address)?,
        };
        if self.plates.len() < 3 || self.random.once_in(20) {
            self.look(&mut session)?;
        }
        let statements = if self.random.once_in(50) { 200 } else { 1 + self.random.below(8) };
        let body: String = std::iter::repeat_with(|| self.statement()).take(statements).collect();
        let rolled_back = self.random.once_in(15);
        let end = if rolled_back { "rollback" } else { "commit" };
        session.try_execute(&format!("begin;\n{body}{end};"))?;
        if rolled_back {
            self.look(&mut session)?;
        }
        self.session = Some(session);
        Ok(!rolled_back)
    }

    /// Which rows there are. Those that others delete meanwhile are updated in vain, which is part of the work.
    fn look(&mut self, session: &mut Session) -> Result<(), tokio_postgres::Error> {
        let mut keys = |sql: &str| -> Result<Vec<String>, tokio_postgres::Error> {
            Ok(session.try_query(sql)?.into_iter().flatten().flatten().collect())
        };
        self.plates = keys("select plate_id from lab.plates order by plate_id limit 200")?;
        self.samples = keys("select sample_code from lab.samples order by sample_code limit 200")?;
        self.transfers = keys("select transfer_id from lab.transfers order by transfer_id limit 200")?;
        Ok(())
    }

    fn statement(&mut self) -> String {
        let choice = self.random.below(100);
        let done = match choice {
            0..24 => None,
            24..44 => self.update_plate(),
            44..56 => self.add_sample(),
            56..62 => self.rename_sample(),
            62..70 => self.measure_sample(),
            70..82 => self.add_transfer(),
            82..90 => self.correct_transfer(),
            _ => self.delete(),
        };
        done.unwrap_or_else(|| self.add_plate())
    }

    fn add_plate(&mut self) -> String {
        let id = self.number();
        self.plates.push(id.clone());
        let (volume, label) = (self.random.below(100_000), self.random.text(6));
        let notes = self.notes();
        format!(
            "insert into lab.plates (plate_id, barcode, volume_ul, labels, protocol, notes, operator_email) values \
             ({id}, 'PLT-{id}', {volume} / 1000.0, array['new', '{label}'], '{{\"steps\": [1, {{\"n\": null}}]}}', \
             {notes}, 'ada{volume}@lab.example');\n"
        )
    }

    fn update_plate(&mut self) -> Option<String> {
        let id = self.one(|work| &work.plates)?;
        let set = match self.random.below(4) {
            0 => "status = 'sealed', sealed_at = clock_timestamp()".to_owned(),
            1 => format!("volume_ul = volume_ul + {} / 1000.0", 1 + self.random.below(5000)),
            2 => format!("protocol = protocol || '{{\"run\": {}}}'", self.random.below(1000)),
            _ => format!("notes = {}", self.notes()),
        };
        Some(format!("update lab.plates set {set} where plate_id = {id};\n"))
    }

    fn add_sample(&mut self) -> Option<String> {
        let plate = self.one(|work| &work.plates)?;
        let code = format!("S-{}", self.number());
        self.samples.push(code.clone());
        let (well, concentration) = (1 + self.random.below(12), self.random.below(1000));
        // A plate that somebody deletes meanwhile takes no samples; that is no error of the work.
        Some(format!(
            "insert into lab.samples (sample_code, plate_id, well, concentration) \
             select '{code}', plate_id, 'A{well}', {concentration} / 7.0 from lab.plates where plate_id = {plate} \
             for key share;\n"
        ))
    }

    fn rename_sample(&mut self) -> Option<String> {
        let old = self.one(|work| &work.samples)?;
        let new = format!("S-{}", self.number());
        self.samples.push(new.clone());
        Some(format!("update lab.samples set sample_code = '{new}' where sample_code = '{old}';\n"))
    }

    fn measure_sample(&mut self) -> Option<String> {
        let code = self.one(|work| &work.samples)?;
        let value = self.random.below(1000);
        Some(format!("update lab.samples set concentration = {value} / 3.0 where sample_code = '{code}';\n"))
    }

    fn add_transfer(&mut self) -> Option<String> {
        let (source, target) = (self.one(|work| &work.plates)?, self.one(|work| &work.plates)?);
        let id = self.number();
        self.transfers.push(id.clone());
        let volume = 1 + self.random.below(10_000);
        Some(format!(
            "insert into lab.transfers (transfer_id, source_plate, target_plate, volume_ul, wells) \
             select {id}, s.plate_id, t.plate_id, {volume} / 1000.0, '{{1,2,{volume}}}' \
             from lab.plates s, lab.plates t where s.plate_id = {source} and t.plate_id = {target} for key share;\n"
        ))
    }

    fn correct_transfer(&mut self) -> Option<String> {
        let id = self.one(|work| &work.transfers)?;
        Some(format!("update lab.transfers set volume_ul = volume_ul + 0.125 where transfer_id = {id};\n"))
    }

    fn delete(&mut self) -> Option<String> {
        Some(match self.random.below(5) {
            0 => format!("delete from lab.plates where plate_id = {};\n", self.one(|work| &work.plates)?),
            1 | 2 => format!(
                "delete from lab.samples where sample_code = '{}';\n",
                self.one(|work| &work.samples)?
            ),
            _ => format!(
                "delete from lab.transfers where transfer_id = {};\n",
                self.one(|work| &work.transfers)?
            ),
        })
    }

    fn one(&mut self, of: impl Fn(&Self) -> &Vec<String>) -> Option<String> {
        let count = of(self).len();
        (count > 0).then(|| self.random.below(count)).map(|index| of(self)[index].clone())
    }

    /// A key that nobody has had: keys are numbers of 53 bits.
    fn number(&mut self) -> String {
        (self.random.bits() >> 11).to_string()
    }

    fn notes(&mut self) -> String {
        match self.random.below(10) {
            0 => format!("'{}'", self.random.text(12_000)),
            1..4 => "null".to_owned(),
            _ => format!("'{}'", self.random.text(40)),
        }
    }
}

/// Writers in the background.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: Mutex<bool>,
    stopped: Condvar,
    committed: AtomicU64,
}

impl Running {
    /// Starts `writers`, each of about `per_second` transactions a second, until [`stop`](Self::stop). They go on through
    /// conflicts among themselves and restarts of the server.
    pub fn start(postgres: &Postgres, writers: u64, per_second: u32, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |writer| {
            let shared = Arc::clone(&shared);
            let mut work = Workload::new(postgres, seed.wrapping_mul(1_000_003).wrapping_add(writer));
            let pause = Duration::from_secs(1) / per_second.max(1);
            std::thread::spawn(move || {
                while !shared.pause(pause) {
                    if work.transaction().unwrap_or(false) {
                        shared.committed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let writers = (0..writers).map(start).collect();
        Self { shared, writers }
    }

    /// Transactions that are known to be committed so far.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Ends the writers after the transaction each is in; how many were committed.
    pub fn stop(mut self) -> u64 {
        self.shared.stop();
        for writer in self.writers.drain(..) {
            writer.join().unwrap();
        }
        self.committed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        *self.stop.lock().unwrap() = true;
        self.stopped.notify_all();
    }

    /// Waits; whether to stop.
    fn pause(&self, pause: Duration) -> bool {
        let stop = self.stop.lock().unwrap();
        *self.stopped.wait_timeout_while(stop, pause, |stop| !*stop).unwrap().0
    }
}

//! A few keys that are written all the time, with a large row now and then.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::session::Session;

/// Keys of one writer.
const KEYS: usize = 3;
/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(15);
/// One in so many writes a row of 300 kB.
const LARGE_EVERY: usize = 40;

/// A writer in the background, until it is dropped.
#[derive(Debug)]
pub struct HotKeys {
    /// Dropped to stop.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HotKeys {
    /// Makes plates that nobody else touches, and writes them.
    pub fn start(postgres: &Postgres) -> Self {
        let address = postgres.address();
        let made = postgres.query(&format!(
            "insert into lab.plates (plate_id, barcode) select n, 'H' || n \
             from (select nextval('public.marks') n from generate_series(1, {KEYS})) k returning plate_id"
        ));
        let keys: Vec<String> = made.into_iter().flatten().flatten().collect();
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = std::thread::spawn(move || {
            let mut session = None;
            for nr in 0.. {
                if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                // The server may be away; whether a broken transaction was committed, the audit table knows.
                session =
                    session.or_else(|| Session::connect(&address).ok()).and_then(|mut session: Session| {
                        session.try_execute(&transaction(&keys, nr)).ok().map(|()| session)
                    });
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for HotKeys {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the writer panicked");
        }
    }
}

fn transaction(keys: &[String], nr: usize) -> String {
    let key = &keys[nr % keys.len()];
    let large = if nr % LARGE_EVERY == LARGE_EVERY - 1 { ", notes = repeat('large ', 50000)" } else { "" };
    // Every other one twice in a transaction, with another key in between.
    let other = &keys[(nr + 1) % keys.len()];
    let update = |key: &str, large: &str| {
        format!("update lab.plates set volume_ul = volume_ul + 1{large} where plate_id = {key};")
    };
    if nr.is_multiple_of(2) {
        update(key, large)
    } else {
        format!("begin; {} {} {} commit;", update(key, ""), update(other, large), update(key, ""))
    }
}

//! A file system that is really full, under the real daemon: the source is paused and says so to Postgres, publishing and the
//! checkpoint go on, and so does the source as soon as there is room.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::volume::Volume;
use crate::support::daemon::Daemon;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::history::Change;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Alarms that a full disk brings, and an outage. Small files find no room either, if the log takes what a restart has freed
/// before they are written.
const EXPECTED: [&str; 10] = [
    "source_paused",
    "activity_not_written",
    "table_descriptions_not_saved",
    "records_retried",
    "stream_unavailable",
    "stream_not_described",
    "stream_unverified",
    "change_quarantined",
    "dead_letters_written",
    "dead_letters_full",
];

/// A daemon whose directory is on a small file system, far smaller than its log may get.
struct Small {
    flow: Flow,
    volume: Volume,
}

impl Small {
    fn prepare(mib: u64) -> Option<Self> {
        let volume = Volume::make(mib)?;
        let builder = Postgres::builder(Version::usual()).without_fsync();
        let mut postgres = builder.setting("wal_sender_timeout='10s'").start();
        postgres.create_lab();
        let mut flow = Flow::over(postgres, seed(), |_| {});
        let settings = flow.daemon.settings().clone();
        flow.daemon = Daemon::prepare_on(settings, &volume.mount_point().join("buffer"));
        Some(Self { flow, volume })
    }

    /// Commits so many MiB.
    fn fill(&self, mib: u32) {
        self.flow.postgres.execute(&format!(
            "insert into lab.plates (plate_id, barcode, notes) \
             select nextval('public.marks'), 'B' || currval('public.marks'), repeat('x', 4000) \
             from generate_series(1, {})",
            mib * 230
        ));
    }

    /// Somebody else takes what is left; the file.
    fn take_the_rest(&self) -> PathBuf {
        let path = self.volume.mount_point().join("somebody else's");
        let mut file = File::create(&path).unwrap();
        for block in [vec![0; 1 << 20], vec![0; 4096], vec![0; 1]] {
            let error = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
        path
    }

    fn slot_is_durable_back(&self) -> bool {
        self.flow.confirmed() < Some(self.flow.wal_end())
    }

    /// Longer than the server waits for a silent client.
    #[track_caller]
    fn connection_outlives_the_timeout(&self) {
        let at = self.flow.postgres.value("select clock_timestamp()");
        let alive = format!(
            "select count(*) from pg_stat_replication where reply_time > '{at}'::timestamptz + interval '15 s'"
        );
        eventually("the paused connection is kept alive", SOON, || {
            (self.flow.postgres.value(&alive) == "1").then_some(())
        });
        let restarts = self.flow.daemon.count_events("source_disconnected");
        assert_eq!(restarts, 0, "the connection was lost meanwhile");
    }

    #[track_caller]
    fn finish(mut self) {
        self.flow.wait_until_published();
        self.flow.daemon.assert_quiet(&EXPECTED);
        assert!(self.flow.daemon.terminate().success());
    }
}

/// The sequence of the checkpoint: how often it was written.
fn sequence(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join("checkpoint")).unwrap();
    let of = |slot: usize| u64::from_le_bytes(bytes[slot + 12..slot + 20].try_into().unwrap());
    of(0).max(of(bytes.len() / 2))
}

#[test]
fn full_file_system_pauses_only_the_source() {
    let Some(mut small) = Small::prepare(32) else { return };
    small.flow.start();
    small.flow.wait_until_it_moves("before");
    small.flow.stub.stop();
    for _ in 0..8 {
        small.fill(4);
    }
    let line = small.flow.daemon.wait_for_event("source_paused");
    assert!(line.contains("the file system is full"), "{line}");
    small.connection_outlives_the_timeout();
    assert!(small.slot_is_durable_back(), "Postgres keeps what has no room here");
    // The stream is back, and somebody else has taken the last block: only what the log gives back is left.
    let directory = small.flow.daemon.buffer_directory();
    let (before, mark) = (sequence(&directory), small.flow.daemon.mark());
    let taken = small.take_the_rest();
    assert!(small.volume.room() < 4096, "{} bytes of room", small.volume.room());
    let published = small.flow.stub.stats().records;
    small.flow.stub.restart().unwrap();
    assert!(small.flow.stub.wait(SOON, |stats| stats.records > published + 1_000), "publishing goes on");
    eventually("the checkpoint is written on the full disk", SOON, || {
        (sequence(&directory) > before).then_some(())
    });
    small.flow.daemon.wait_for_event_since(mark, "source_resumed");
    small.flow.wait_until_published();
    // Full again, it starts and goes on, also after a kill.
    small.flow.stub.stop();
    fs::remove_file(taken).unwrap();
    for _ in 0..8 {
        small.fill(4);
    }
    eventually("it is full again", SOON, || {
        (small.flow.daemon.metric("forebay_source_paused") == Some(1.0)).then_some(())
    });
    small.flow.daemon.kill9();
    small.take_the_rest();
    small.flow.start();
    small.flow.stub.restart().unwrap();
    small.flow.wait_until_published();
    let report = small.flow.check();
    println!("{report}");
    report.assert_clean();
    small.finish();
}

#[test]
fn dead_letter_on_full_disk_blocks_only_its_key() {
    let Some(mut small) = Small::prepare(32) else { return };
    small.flow.start();
    small.flow.wait_until_it_moves("before");
    // Room for the change in the log, and not for its letter as well.
    let taken = small.take_the_rest();
    let file = File::options().write(true).open(&taken).unwrap();
    file.set_len(file.metadata().unwrap().len() - (2 << 20)).unwrap();
    drop(file);
    small.flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', repeat('long ', 300000)); \
         update lab.plates set notes = 'short' where plate_id = 5",
    );
    let line = small.flow.daemon.wait_for_event("dead_letters_full");
    assert!(line.contains("dead_letters.jsonl") && line.contains("keys are blocked"), "{line}");
    small.flow.wait_until_it_moves("the events of other keys");
    let second = |change: &Change| change.key == "5" && change.version == Some(2);
    assert!(!small.flow.published().iter().any(second), "its key waits");
    let letters = small.flow.daemon.buffer_directory().join("dead_letters.jsonl");
    fs::remove_file(taken).unwrap();
    eventually("the letter is written", SOON, || fs::read(&letters).unwrap().ends_with(b"\n").then_some(()));
    eventually("its key goes on", SOON, || small.flow.published().iter().any(second).then_some(()));
    let published = eventually("all but the dead letter is published", DRAINED_WITHIN, || {
        let report = small.flow.check();
        (report.lost.len() == 1).then_some(report)
    });
    assert_eq!(published.lost, [r#"lab.plates "5" Inserted, version 1"#]);
    assert!(published.reordered.is_empty() && published.altered.is_empty(), "{published}");
    small.flow.daemon.assert_quiet(&EXPECTED);
    assert!(small.flow.daemon.terminate().success());
}

//! The disk answers with an error, at each write and each fsync in turn: the process stops and says where and why, and the
//! next start loses nothing. ARCHITECTURE's table of fsyncs is this list.

use std::collections::HashSet;

use super::broken::{Lab, eio, segments};
use super::tracer::Injection;
use crate::support::history::Change;
use crate::support::{SOON, eventually};

#[test]
fn first_start_io_error_stops_and_next_start_recovers() {
    let Some(mut lab) = Lab::prepare() else { return };
    let (directory, checkpoint, draft) =
        (lab.directory(), lab.file("checkpoint"), lab.file("checkpoint.new"));
    let made = directory.parent().unwrap().to_owned();
    let cases = [
        eio("fsync", lab.home.path()),
        eio("fsync", made),
        eio("pwrite64", &draft),
        eio("fsync", &draft),
        // Relative to the directory, as all names are.
        eio("?rename,?renameat,renameat2", &directory),
        // The checkpoint's entry; the log's, when it is opened; the dead letters'.
        eio("fsync", &directory).only(1),
        eio("fsync", &directory).only(2),
        eio("fsync", &directory).only(3),
        eio("pwrite64", &checkpoint),
        eio("fdatasync", &checkpoint),
    ];
    for injection in cases {
        lab.start_fails(&injection);
        lab.flow.start();
        lab.flow.wait_until_it_moves("after a first start that failed");
        lab.forget();
    }
    lab.flow.start();
    lab.finish();
}

#[test]
fn later_start_io_error_stops_and_next_start_recovers() {
    let Some(mut lab) = Lab::prepare() else { return };
    lab.flow.daemon.settings().confirm_after = Some("5s".to_owned());
    lab.flow.daemon.settings().max_size = "16 MiB".to_owned();
    lab.flow.start();
    lab.flow.wait_until_it_moves("before");
    assert!(lab.flow.daemon.terminate().success());
    // One durable frame, and behind it, in the same segment and in others, some that a kill leaves behind.
    lab.flow.stub.stop();
    lab.flow.start();
    lab.flow.mark();
    lab.wait_until_confirmed();
    let durable = lab.last_segment();
    lab.bulk(600);
    eventually("a third segment is begun", SOON, || (segments(&lab.directory()).len() >= 3).then_some(()));
    lab.flow.daemon.kill9();
    let (directory, checkpoint) = (lab.directory(), lab.file("checkpoint"));
    let cases = [
        eio("pread64", &checkpoint),
        eio("fsync", &checkpoint),
        eio("fsync", &directory).only(1),
        eio("pread64", &durable),
        // Of a file relative to its directory.
        eio("?unlink,unlinkat", &directory),
        eio("ftruncate", &durable),
        eio("fsync", &durable),
        // The fsync that failed has cut the file all the same: nothing is left to cut, but it must be fsynced again.
        eio("fsync", &durable),
        eio("fsync", &directory).only(2),
        // What a killed process has left in the page cache counts as written: it must be.
        eio("fsync", lab.file("dead_letters.jsonl")),
    ];
    for injection in cases {
        lab.start_fails(&injection);
    }
    lab.flow.start();
    lab.flow.stub.restart().unwrap();
    lab.finish();
}

/// What the test does so that the call comes, after the tracer was attached.
type Provoke = fn(&mut Lab);

#[test]
fn io_error_while_running_stops_and_loses_nothing() {
    let Some(mut lab) = Lab::prepare() else { return };
    lab.flow.start();
    lab.flow.wait_until_it_moves("before");
    let mark: Provoke = |lab| drop(lab.flow.mark());
    let answer: Provoke = |lab| {
        lab.flow.stub.restart().unwrap();
        // It is deleted when it is drained, some seconds old, and something comes behind it.
        eventually("the process ends", SOON, || {
            lab.flow.mark();
            (!lab.flow.daemon.is_running()).then_some(())
        });
    };
    let cases: [(&str, &'static str, Provoke); 7] = [
        ("segment", "pwrite64", mark),
        ("segment", "fdatasync", mark),
        ("checkpoint", "pwrite64", mark),
        ("checkpoint", "fdatasync", mark),
        // There is no segment yet: the checkpointer makes its entry durable.
        ("directory", "fsync", mark),
        ("segment", "pread64", mark),
        ("segment", "?unlink,unlinkat", answer),
    ];
    for (on, calls, provoke) in cases {
        lab.flow.stub.stop();
        if on == "segment" {
            lab.flow.mark();
        }
        lab.wait_until_confirmed();
        let path = match on {
            // Files are deleted relative to their directory.
            "segment" if calls.contains("unlink") => lab.directory(),
            "segment" => lab.last_segment(),
            "directory" => lab.directory(),
            name => lab.file(name),
        };
        if on == "directory" {
            // Nothing is begun before the tracer is there.
            assert!(lab.flow.daemon.terminate().success());
            lab.flow.start();
        }
        let injection = eio(calls, path);
        let tracer = lab.attach(&injection);
        provoke(&mut lab);
        lab.has_stopped(&injection);
        drop(tracer);
        lab.flow.stub.restart().unwrap();
        lab.flow.start();
        lab.flow.wait_until_it_moves("after the error");
    }
    lab.finish();
}

#[test]
fn unwritable_dead_letter_is_not_lost() {
    let Some(mut lab) = Lab::prepare() else { return };
    lab.flow.start();
    let letters = lab.file("dead_letters.jsonl");
    let mut lost = Vec::new();
    for (plate, calls) in [(5, "write"), (6, "fdatasync")] {
        lab.flow.wait_until_it_moves("before");
        let injection = eio(calls, &letters);
        let tracer = lab.attach(&injection);
        lab.flow.postgres.execute(&format!(
            "insert into lab.plates (plate_id, barcode, notes) values ({plate}, 'P{plate}', repeat('long ', 300000)); \
             update lab.plates set notes = 'short' where plate_id = {plate}"
        ));
        lab.has_stopped(&injection);
        drop(tracer);
        lab.flow.start();
        lost.push(format!("lab.plates \"{plate}\" Inserted, version 1"));
        // It leaves when the letter before it is durable. The line itself proves nothing: it may be of the stopped process.
        let updated = |change: &Change| change.version == Some(2) && change.key == plate.to_string();
        eventually("the update is published", SOON, || {
            lab.flow.published().iter().any(updated).then_some(())
        });
    }
    // A line that the checkpoint does not count yet when the process stops is there twice: that is what the table of deaths says.
    let text = std::fs::read_to_string(&letters).unwrap();
    let ids: HashSet<_> = text.lines().map(|line| line.split_once(',').unwrap().0).collect();
    assert!(ids.len() == 2 && text.lines().count() <= 4, "{} letters, {ids:?}", text.lines().count());
    lab.flow.wait_until_it_moves("after");
    assert!(lab.flow.daemon.terminate().success());
    let report = lab.flow.check();
    assert_eq!(report.lost, lost);
    assert!(report.reordered.is_empty() && report.altered.is_empty(), "{report}");
}

#[test]
fn adoption_failed_by_disk_can_be_repeated() {
    let Some(mut lab) = Lab::prepare() else { return };
    lab.flow.start();
    lab.flow.wait_until_it_moves("before");
    lab.flow.stub.stop();
    for _ in 0..10 {
        lab.flow.mark();
    }
    lab.wait_until_confirmed();
    lab.flow.daemon.kill9();
    // One of the frames that only the log has.
    let segment = lab.last_segment();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let (directory, checkpoint, audit) =
        (lab.directory(), lab.file("checkpoint"), lab.file("adoptions.jsonl"));
    let draft = |of: &std::path::Path| of.with_added_extension("new");
    for injection in [eio("pwrite64", draft(&segment)), eio("fsync", draft(&segment))] {
        lab.adopt_fails(&injection);
    }
    // The checkpoint's entry when it is opened, the repaired segment's.
    lab.adopt_fails(&eio("fsync", &directory).only(2));
    for injection in [eio("write", &audit), eio("fsync", &audit), eio("fdatasync", &checkpoint)] {
        lab.adopt_fails(&injection);
    }
    // And one whose checkpoint is damaged on top.
    let size = std::fs::metadata(&checkpoint).unwrap().len();
    std::fs::write(&checkpoint, vec![0; usize::try_from(size).unwrap()]).unwrap();
    lab.adopt_fails(&eio("fsync", &directory).only(1));
    lab.adopt_fails(&eio("fsync", draft(&checkpoint)));
    let output = lab.flow.daemon.run(&["adopt", "--reason", "the test says so"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.flow.stub.restart().unwrap();
    lab.flow.start();
    lab.flow.wait_until_it_moves("after the adoption");
    let report = lab.flow.check();
    println!("{report}");
    assert!(report.lost.len() <= 1 && report.reordered.is_empty(), "{report}");
    assert!(lab.flow.daemon.terminate().success());
}

#[test]
fn exceeded_quota_pauses_source_until_space_is_free() {
    let Some(mut lab) = Lab::prepare() else { return };
    lab.flow.start();
    lab.flow.wait_until_it_moves("before");
    lab.flow.stub.stop();
    lab.flow.mark();
    lab.wait_until_confirmed();
    let injection = Injection::error("EDQUOT", "pwrite64", lab.last_segment());
    let mut tracer = lab.attach(&injection);
    lab.flow.mark();
    let line = lab.flow.daemon.wait_for_event("source_paused");
    assert!(line.contains("disk full") && line.contains("the quota is used up"), "{line}");
    let mark = lab.flow.daemon.mark();
    // It is raised.
    tracer.ask_to_end(crate::support::process::Signal::INT);
    lab.flow.stub.restart().unwrap();
    lab.flow.daemon.wait_for_event_since(mark, "source_resumed");
    lab.finish();
}

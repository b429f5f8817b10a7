//! `forebay buffer`: looks at the log and the checkpoint, with and without a running daemon, and changes nothing.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::buffer::checkpoint::{Checkpoint, Mark};
use crate::buffer::disk;
use crate::buffer::stat::{self, Stat};
use crate::buffer::verify::{self, Finding, Verified, Zone};
use crate::config::units::Size;
use crate::pipeline::poison;
use crate::position::FrameNo;
use crate::translate::time::write_rfc3339;

/// Which of the two.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Where everything stands: low, held, tail, lanes, sizes, ages, books, dead letters, identity.
    Stat(Options),
    /// Read every frame and both slots of the checkpoint; exit with 1 and say what it means if anything is damaged.
    Verify(Options),
}

/// Options of both.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    common: super::Common,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
///
/// # Errors
/// The directory cannot be looked at, or is damaged.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Stat(options) => {
            let directory = existing(options)?;
            let facts = stat_facts(&directory, &stat::stat(&directory).map_err(super::explain)?);
            super::say(&if options.json { format!("{facts}\n") } else { stat_text(&facts) });
            Ok(())
        }
        Command::Verify(options) => {
            let directory = existing(options)?;
            let verified = verify::verify(&directory).map_err(super::explain)?;
            let facts = verify_facts(&verified);
            super::say(&if options.json { format!("{facts}\n") } else { verify_text(&verified) });
            match verified.findings.len() {
                0 => Ok(()),
                count => Err(format!("the log is damaged in {} places", count as u64 + verified.more)),
            }
        }
    }
}

fn existing(options: &Options) -> Result<std::path::PathBuf, String> {
    let directory = super::load(&options.common)?.buffer.dir;
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(format!("there is no buffer directory {}: the first start makes it", directory.display()))
}

fn time(micros: i64) -> String {
    let mut text = Vec::new();
    write_rfc3339(&mut text, micros);
    String::from_utf8_lossy(&text).into_owned()
}

fn mark(mark: Mark) -> Json {
    json!({ "frame": mark.frame, "position": mark.position.map(|position| position.to_string()) })
}

fn stat_facts(directory: &Path, stat: &Stat) -> Json {
    let holder = disk::held_by(directory);
    let letters = &stat.letters;
    let oldest = stat.oldest.map(|transaction| {
        let age = poison::now().saturating_sub(transaction.time) / 1_000_000;
        json!({ "committed": time(transaction.time), "xid": transaction.xid, "age_seconds": age.max(0) })
    });
    let mut facts = json!({
        "directory": directory.display().to_string(),
        "daemon": holder,
        "log": { "bytes": stat.bytes, "segments": stat.segments, "tail": stat.tail },
        "oldest_unpublished": oldest,
        "cut_at_next_start": {
            "frames": stat.tail.0.saturating_sub(stat.kept().0),
            "bytes": stat.cut_bytes,
        },
        "dead_letters": letters,
    });
    if let (Some(checkpoint), Some(map)) = (&stat.checkpoint, facts.as_object_mut()) {
        map.extend(checkpoint_facts(checkpoint, stat.tail));
    }
    facts
}

fn checkpoint_facts(found: &Checkpoint, tail: FrameNo) -> serde_json::Map<String, Json> {
    let ahead = |frame: FrameNo| frame.0.saturating_sub(found.low.frame.0);
    let lanes: Vec<Json> = found
        .lanes
        .iter()
        .map(|(lane, frame)| json!({ "lane": lane, "frame": frame, "ahead": ahead(*frame) }))
        .collect();
    let facts = json!({
        "identity": found.identity,
        "phase": found.phase,
        "epoch": found.epoch,
        "told": found.told,
        "tip": found.tip.map(|tip| tip.to_string()),
        "low": mark(found.low),
        "held": mark(found.held),
        "frames_unpublished": ahead(tail),
        "frames_held": ahead(found.held.frame),
        "lanes_ahead": lanes,
        "records_answered_ahead": found.answered.len(),
        "injections": found.injections,
        "books": found.books,
    });
    super::members(facts)
}

/// The same facts, one a line, for people.
fn stat_text(facts: &Json) -> String {
    let text = |path: &str| match facts.pointer(path) {
        None | Some(Json::Null) => "none".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let size = |path: &str| Size(facts.pointer(path).and_then(Json::as_u64).unwrap_or_default());
    let count = |name: &str| facts.get(name).and_then(Json::as_array).map_or(0, Vec::len);
    let members = |name: &str| facts.get(name).and_then(Json::as_object).into_iter().flatten();
    let mut out = String::new();
    let mut say = |name: &str, value: String| super::add(&mut out, format_args!("{name:<22}{value}"));
    say("directory", text("/directory"));
    say(
        "daemon",
        match facts.get("daemon") {
            Some(Json::String(pid)) => format!("runs (pid {pid})"),
            _ => "does not run".to_owned(),
        },
    );
    if facts.get("identity").is_some() {
        for name in ["source", "database", "system_id", "timeline", "slot", "publication"] {
            say(name, text(&format!("/identity/{name}")));
        }
        say("stream", text("/identity/stream/arn"));
        say("epoch", text("/epoch"));
        say("told", format!("{} (the highest position ever confirmed to Postgres)", text("/told")));
        for (name, meaning) in [("low", "published"), ("held", "fsynced and noted")] {
            let at = |part: &str| text(&format!("/{name}/{part}"));
            say(name, format!("frame {}, position {} ({meaning} up to here)", at("frame"), at("position")));
        }
    } else {
        say("checkpoint", "none yet".to_owned());
    }
    say("tail", format!("frame {}", text("/log/tail")));
    say("unpublished", format!("{} frames", text("/frames_unpublished")));
    if facts.pointer("/oldest_unpublished/committed").is_some() {
        let age = text("/oldest_unpublished/age_seconds");
        say(
            "oldest unpublished",
            format!("committed {}, {age} s ago", text("/oldest_unpublished/committed")),
        );
    }
    say("lanes ahead of low", count("lanes_ahead").to_string());
    say("log", format!("{} in {} segments", size("/log/bytes"), text("/log/segments")));
    let cut = (text("/cut_at_next_start/frames"), size("/cut_at_next_start/bytes"));
    say(
        "cut at the next start",
        format!("{} frames, {} (never confirmed: Postgres sends them again)", cut.0, cut.1),
    );
    say("pending injections", count("injections").to_string());
    for (state, count) in members("dead_letters") {
        say("dead letters", format!("{count} {state}"));
    }
    for (event_type, totals) in members("books") {
        let of = |name: &str| totals.get(name).and_then(Json::as_u64).unwrap_or_default();
        say(
            "books",
            format!("{event_type}: {} published, {} quarantined", of("published"), of("quarantined")),
        );
    }
    out
}

fn verify_facts(verified: &Verified) -> Json {
    let finding = |finding: &Finding| {
        json!({
            "segment": finding.path.display().to_string(),
            "offset": finding.offset,
            "reason": finding.reason,
            "first_frame": finding.first,
            "last_frame": finding.last,
            "last_position_before": finding.before.map(|position| position.to_string()),
            "zone": match finding.zone {
                Zone::Published => "published",
                Zone::Held => "held",
                Zone::Beyond => "beyond",
            },
            "meaning": meaning(finding),
        })
    };
    json!({
        "low": verified.low,
        "held": verified.held,
        "checkpoint_slots": verified.slots,
        "segments": verified.segments,
        "bytes": verified.bytes,
        "frames": verified.frames,
        "last_frame": verified.last,
        "unfinished_bytes_at_the_end": verified.torn,
        "damage": verified.findings.iter().map(finding).collect::<Vec<_>>(),
        "damage_not_listed": verified.more,
    })
}

/// What a damage means, and what to do.
fn meaning(finding: &Finding) -> String {
    let &Finding { first, last, zone, .. } = finding;
    match zone {
        Zone::Published => "harmless: everything there is published, and is not read again".to_owned(),
        Zone::Beyond => "nothing is lost: this was never confirmed, the next start cuts it and Postgres sends it again; but check the disk".to_owned(),
        Zone::Held => {
            let before = finding.before.map_or_else(|| "the last published change".to_owned(), |position| position.to_string());
            format!(
                "frames {first} to {last}, the changes after {before}, are held and not published. The next start cuts the log \
                 there if the slot still has them, and Postgres sends them again; else it refuses. Before that: check the disk, and \
                 restore the directory if you can. If it refuses, `forebay adopt --reason \"…\"` keeps what is readable and publishes the gap"
            )
        }
    }
}

fn verify_text(verified: &Verified) -> String {
    let mut out = format!(
        "{} frames in {} segments ({}) are whole; the last is {}. Low is {}, held is {}.\n",
        verified.frames,
        verified.segments,
        Size(verified.bytes),
        verified.last,
        verified.low,
        verified.held
    );
    if !verified.checkpoint {
        out.push_str("There is no checkpoint.\n");
    }
    if verified.torn > 0 {
        out.push_str("The last frame is unfinished: it is being written, or a kill has cut it off. The next start cuts it.\n");
    }
    let torn_slot =
        verified.slots.iter().any(Option::is_none) && verified.slots.iter().flatten().any(|n| *n > 1);
    if torn_slot {
        out.push_str("One slot of the checkpoint is not whole: it is being written, or a kill has cut it off. The other one counts.\n");
    }
    for finding in &verified.findings {
        let (path, offset, reason) = (finding.path.display(), finding.offset, finding.reason);
        let meaning = meaning(finding);
        super::add(
            &mut out,
            format_args!("{path}, byte {offset}, frame {}: {reason}.\n  {meaning}.", finding.first),
        );
    }
    if verified.more > 0 {
        super::add(&mut out, format_args!("{} more are not listed.", verified.more));
    }
    out
}

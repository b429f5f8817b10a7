//! `forebay buffer`: inspects the log and the checkpoint, with or without a running daemon, and changes
//! nothing.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::buffer::checkpoint::{Checkpoint, Mark};
use crate::buffer::disk::{Directory, DirectoryLock};
use crate::buffer::stat::{self, Stat};
use crate::buffer::verify::{self, Finding, Verified, VerifyProgress, Zone};
use crate::config::units::Size;
use crate::dead_letter::overview::Overview;
use crate::position::FrameNo;
use crate::time::write_rfc3339;
use crate::visible::visible;

use super::progress::Progress;

/// Subcommands of `buffer`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show watermark, durable position, lanes, sizes, ages, event counts, dead letters and identity
    Stat(BufferOptions),
    /// Read every frame and both checkpoint slots; exits with 1 and explains the damage if any is found
    Verify(BufferOptions),
}

/// Options of both subcommands.
#[derive(Debug, clap::Args)]
pub struct BufferOptions {
    #[command(flatten)]
    common: super::Common,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
///
/// # Errors
/// The directory cannot be read, or the log is corrupt.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Stat(options) => {
            let directory = existing(options)?;
            let stat = stat::stat(&directory).map_err(super::explain)?;
            let facts = stat_facts(&directory, &stat, &letters(&directory, &stat)?);
            if options.json {
                super::say_exactly(&format!("{facts}\n"));
            } else {
                super::say(&stat_text(&facts));
            }
            Ok(())
        }
        Command::Verify(options) => {
            let directory = existing(options)?;
            let bar = Progress::of_things("reading segments", 0);
            let show = |progress| match progress {
                VerifyProgress::Total(segments) => bar.begin(segments),
                VerifyProgress::Segment => bar.add(1),
            };
            let verified = verify::verify_showing(&directory, &show).map_err(super::explain)?;
            drop(bar);
            let facts = verify_facts(&verified);
            if options.json {
                super::say_exactly(&format!("{facts}\n"));
            } else {
                super::say(&verify_text(&verified));
            }
            match verified.findings.len() {
                0 => Ok(()),
                count => Err(format!("the log is corrupt in {} places", count as u64 + verified.more)),
            }
        }
    }
}

fn existing(options: &BufferOptions) -> Result<Directory, String> {
    Directory::open(&super::load(&options.common)?.buffer.dir).map_err(super::explain)
}

fn time(micros: i64) -> String {
    let mut text = Vec::new();
    write_rfc3339(&mut text, micros);
    String::from_utf8_lossy(&text).into_owned()
}

fn mark(mark: Mark) -> Json {
    json!({ "frame": mark.frame, "position": mark.position.map(|position| position.to_string()) })
}

/// Number of dead letters by state.
fn letters(directory: &Directory, stat: &Stat) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut overview = Overview::read(directory).map_err(super::explain)?;
    overview.settle(stat.checkpoint.as_ref(), |_| true);
    let mut letters = BTreeMap::new();
    for letter in overview.letters() {
        *letters.entry(letter.state.name()).or_default() += 1;
    }
    Ok(letters)
}

fn stat_facts(directory: &Directory, stat: &Stat, letters: &BTreeMap<&'static str, u64>) -> Json {
    let holder = DirectoryLock::holder(directory);
    let oldest = stat.oldest.map(|transaction| {
        let age = crate::time::now_micros().saturating_sub(transaction.time) / 1_000_000;
        json!({ "committed": time(transaction.time), "xid": transaction.xid, "age_seconds": age.max(0) })
    });
    let mut facts = json!({
        "directory": directory.path().display().to_string(),
        "daemon": holder,
        "log": { "bytes": stat.bytes, "segments": stat.segments, "tail": stat.tail },
        "oldest_unpublished": oldest,
        "truncated_at_next_start": {
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
    let ahead = |frame: FrameNo| frame.0.saturating_sub(found.watermark.frame.0);
    let lanes: Vec<Json> = found
        .lanes
        .iter()
        .map(|(lane, frame)| json!({ "lane": lane, "frame": frame, "ahead": ahead(*frame) }))
        .collect();
    let facts = json!({
        "identity": found.identity,
        "phase": found.phase,
        "epoch": found.epoch,
        "confirmed_lsn": found.ever_confirmed,
        "last_seen": found.last_seen.map(|last_seen| last_seen.to_string()),
        "watermark": mark(found.watermark),
        "durable": mark(found.durable),
        "frames_unpublished": ahead(tail),
        "frames_durable": ahead(found.durable.frame),
        "lanes_ahead": lanes,
        "lane_parts_ahead": found.lane_parts,
        "records_acknowledged_ahead": found.acknowledged.len(),
        "injections": found.injections,
        "event_counts": found.event_counts,
    });
    super::members(facts)
}

/// The facts as text, one per line.
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
    let mut say =
        |name: &str, value: String| super::add(&mut out, format_args!("{name:<22}{}", visible(&value)));
    say("directory", text("/directory"));
    say(
        "daemon",
        match facts.get("daemon") {
            Some(Json::String(pid)) => format!("running (pid {pid})"),
            _ => "not running".to_owned(),
        },
    );
    if facts.get("identity").is_some() {
        for name in ["source", "database", "system_id", "timeline", "slot", "publication"] {
            say(name, text(&format!("/identity/{name}")));
        }
        say("stream", text("/identity/stream/arn"));
        say("epoch", text("/epoch"));
        say(
            "confirmed",
            format!("{} (highest position ever confirmed to PostgreSQL)", text("/confirmed_lsn")),
        );
        for (label, name, meaning) in
            [("watermark", "watermark", "published"), ("durable", "durable", "fsynced and in the checkpoint")]
        {
            let at = |part: &str| text(&format!("/{name}/{part}"));
            say(label, format!("frame {}, position {} ({meaning} up to here)", at("frame"), at("position")));
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
    say("lanes ahead", count("lanes_ahead").to_string());
    say("log", format!("{} in {} segments", size("/log/bytes"), text("/log/segments")));
    let cut = (text("/truncated_at_next_start/frames"), size("/truncated_at_next_start/bytes"));
    say(
        "truncated next start",
        format!("{} frames, {} (never confirmed: PostgreSQL sends them again)", cut.0, cut.1),
    );
    say("pending injections", count("injections").to_string());
    for (state, count) in members("dead_letters") {
        say("dead letters", format!("{count} {state}"));
    }
    for (event_type, totals) in members("event_counts") {
        say("event counts", counts_text(event_type, totals));
    }
    out
}

fn counts_text(event_type: &str, totals: &Json) -> String {
    let of = |name: &str| totals.get(name).and_then(Json::as_u64).unwrap_or_default();
    let (received, published, quarantined) = (of("received"), of("published"), of("quarantined"));
    format!(
        "{event_type}: {received} received up to the watermark, {published} published, {quarantined} quarantined"
    )
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
                Zone::Durable => "durable",
                Zone::Beyond => "beyond",
            },
            "meaning": meaning(finding),
        })
    };
    json!({
        "watermark": verified.watermark,
        "durable": verified.durable,
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

/// The consequence of a damage, and the remedy.
fn meaning(finding: &Finding) -> String {
    let &Finding { first, last, zone, .. } = finding;
    match zone {
        Zone::Published => "harmless: all of it is published and will not be read again".to_owned(),
        Zone::Beyond => "nothing is lost: it was never confirmed. The next start truncates it and \
            PostgreSQL sends it again. Check the disk"
            .to_owned(),
        Zone::Durable => {
            let before = finding
                .before
                .map_or_else(|| "the last published change".to_owned(), |position| position.to_string());
            format!(
                "frames {first} to {last}, the changes after {before}, are durable but not published. Check the disk, and restore \
                 the directory if possible. Otherwise the next start truncates the log there if PostgreSQL can send the changes \
                 again, and refuses to run if not. Then `forebay adopt --reason \"…\"` keeps the readable part and publishes the gap"
            )
        }
    }
}

fn verify_text(verified: &Verified) -> String {
    let mut out = format!(
        "{} valid frames in {} segments ({}); the last is {}. Watermark {}, durable {}.\n",
        verified.frames,
        verified.segments,
        Size(verified.bytes),
        verified.last,
        verified.watermark,
        verified.durable
    );
    if !verified.checkpoint {
        out.push_str("No checkpoint.\n");
    }
    if verified.torn > 0 {
        out.push_str(
            "The last frame is incomplete: it is being written, or the process was killed. The \
            next start truncates it.\n",
        );
    }
    let torn_slot =
        verified.slots.iter().any(Option::is_none) && verified.slots.iter().flatten().any(|n| *n > 1);
    if torn_slot {
        out.push_str(
            "One slot of the checkpoint is incomplete: it is being written, or the process was \
            killed. The other slot is used.\n",
        );
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
        super::add(&mut out, format_args!("{} more not listed.", verified.more));
    }
    out
}

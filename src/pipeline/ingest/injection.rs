//! Events that Forebay itself creates: `forebay.gap.v1`, `forebay.lag_exceeded.v1` and
//! `forebay.lag_recovered.v1`.
//!
//! They are injected at a transaction boundary. Their frames count for watermark, durable position and lanes
//! like any other, but never move the tail that de-duplicates changes.

use std::convert::Infallible;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::buffer::checkpoint::{Injection, LagNotice, Skipped};
use crate::event::{RecordKind, Records};
use crate::position::{CommitSeq, Position};

/// Writes the event of a gap or a lag notice, with the source's name as key, and returns the position in its
/// `sequence`; `None` if the injection is a retry.
pub fn write(injection: &Injection, source: &str, records: &mut Records) -> Option<Position> {
    let (position, name, event_type, at, data) = match injection {
        Injection::Gap { epoch, from, to, reason, at, skipped } => {
            let mut data = json!({
                "epoch": epoch,
                "previous": from.map_or(CommitSeq::ZERO, |position| position.commit).to_string(),
                "resumes_at": to.to_string(),
                "reason": reason,
            });
            if let (Some(skipped), Some(data)) = (skipped, data.as_object_mut()) {
                data.insert("skipped".to_owned(), self::skipped(skipped));
            }
            let position = Position { epoch: *epoch, commit: *to, index: 0 };
            (position, format!("gap|{epoch}"), "forebay.gap.v1", *at, data)
        }
        Injection::Lag(notice) => {
            let LagNotice { epoch, commit, number, facts } = *notice;
            let (event_type, data) = lag(notice);
            let position = Position { epoch, commit, index: number };
            (position, format!("lag|{epoch}|{number}"), event_type, facts.at, data)
        }
        Injection::Retry(_) => return None,
    };
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
    let id = Uuid::new_v5(&namespace, format!("{event_type}|{name}").as_bytes());
    let time = text(at);
    let Position { epoch, commit, index } = position;
    let event = json!({
        "specversion": "1.0",
        "id": id.to_string(),
        "source": source,
        "type": event_type,
        "subject": source,
        "time": time,
        "recordedtime": time,
        "partitionkey": source,
        "sequence": format!("{epoch:04X}{:016X}{index:08X}0000", commit.get()),
        "data": data,
    });
    let written: Result<(), Infallible> = records.push(RecordKind::Event, event_type, source, |out| {
        out.extend_from_slice(event.to_string().as_bytes());
        out.push(b'\n');
        Ok(())
    });
    match written {
        Ok(()) => Some(position),
    }
}

/// Type and data of a lag event.
fn lag(notice: &LagNotice) -> (&'static str, Value) {
    let facts = &notice.facts;
    if !facts.recovered {
        let data = json!({ "lag_seconds": facts.lag_seconds, "max_lag_seconds": facts.max_seconds });
        return ("forebay.lag_exceeded.v1", data);
    }
    let data = json!({
        "lag_seconds": facts.lag_seconds,
        "max_lag_seconds": facts.max_seconds,
        "highest_lag_seconds": facts.highest_seconds,
        "exceeded_at": text(facts.exceeded_at),
    });
    ("forebay.lag_recovered.v1", data)
}

/// Microseconds since the Unix epoch, as RFC 3339.
fn text(micros: i64) -> String {
    let mut time = Vec::new();
    crate::time::write_rfc3339(&mut time, micros);
    String::from_utf8_lossy(&time).into_owned()
}

/// A skipped transaction, as the gap event and the audit file show it.
pub fn skipped(skipped: &Skipped) -> Value {
    json!({
        "commit": skipped.commit.to_string(),
        "transaction": skipped.transaction.map(|transaction| transaction.xid),
        "committed": skipped.transaction.map(|transaction| text(transaction.time)),
        "cause": skipped.cause,
    })
}

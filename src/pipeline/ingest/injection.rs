//! Events that Forebay itself makes: only `forebay.gap.v1`.
//!
//! They are injected at a transaction boundary. Their frames count for watermark, durable position and lanes like others, and
//! never move the tail that de-duplicates changes.

use std::convert::Infallible;

use uuid::Uuid;

use crate::event::{RecordKind, Records};
use crate::position::{CommitSeq, Position};

use crate::buffer::checkpoint::{Injection, Skipped};

/// Writes the notice's event, under the source's name as key, and returns the position its `sequence` names; `None` if the
/// injection is no notice.
pub fn write(injection: &Injection, source: &str, records: &mut Records) -> Option<Position> {
    let Injection::Gap { epoch, from, to, reason, at, skipped } = injection else { return None };
    let position = Position { epoch: *epoch, commit: *to, index: 0 };
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
    let id = Uuid::new_v5(&namespace, format!("forebay.gap.v1|gap|{epoch}").as_bytes());
    let mut time = Vec::new();
    crate::time::write_rfc3339(&mut time, *at);
    let time = String::from_utf8_lossy(&time);
    let mut event = serde_json::json!({
        "specversion": "1.0",
        "id": id.to_string(),
        "source": source,
        "type": "forebay.gap.v1",
        "subject": source,
        "time": time,
        "recordedtime": time,
        "partitionkey": source,
        "sequence": format!("{epoch:04X}{:016X}{:08X}0000", to.get(), 0),
        "data": {
            "epoch": epoch,
            "previous": from.map_or(CommitSeq::ZERO, |position| position.commit).to_string(),
            "resumes_at": to.to_string(),
            "reason": reason,
        },
    });
    if let (Some(skipped), Some(data)) =
        (skipped, event.get_mut("data").and_then(serde_json::Value::as_object_mut))
    {
        data.insert("skipped".to_owned(), self::skipped(skipped));
    }
    let written: Result<(), Infallible> = records.push(RecordKind::Event, "forebay.gap.v1", source, |out| {
        out.extend_from_slice(event.to_string().as_bytes());
        out.push(b'\n');
        Ok(())
    });
    match written {
        Ok(()) => Some(position),
    }
}

/// A skipped transaction, as the gap event and the audit file name it.
pub fn skipped(skipped: &Skipped) -> serde_json::Value {
    let mut committed = Vec::new();
    if let Some(transaction) = &skipped.transaction {
        crate::time::write_rfc3339(&mut committed, transaction.time);
    }
    serde_json::json!({
        "commit": skipped.commit.to_string(),
        "transaction": skipped.transaction.map(|transaction| transaction.xid),
        "committed": skipped.transaction.map(|_| String::from_utf8_lossy(&committed)),
        "cause": skipped.cause,
    })
}

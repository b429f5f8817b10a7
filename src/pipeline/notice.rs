//! Events that Forebay itself has to tell: today only `forebay.gap.v1`.
//!
//! A notice is injected at a transaction boundary. It counts in low, held and lanes by its frame number, and never moves
//! the de-duplication tail.

use std::convert::Infallible;

use uuid::Uuid;

use crate::event::{RecordKind, Records};
use crate::position::{Lsn, Position};

use crate::buffer::checkpoint::Injection;

/// Writes the notice's event, under the source's name as key, and returns the position its `sequence` names; `None` if the
/// injection is no notice.
pub fn write(injection: &Injection, source: &str, records: &mut Records) -> Option<Position> {
    let Injection::Gap { epoch, from, to, reason, at } = injection else { return None };
    let position = Position { epoch: *epoch, commit: *to, index: 0 };
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
    let id = Uuid::new_v5(&namespace, format!("forebay.gap.v1|gap|{epoch}").as_bytes());
    let mut time = Vec::new();
    crate::translate::time::write_rfc3339(&mut time, *at);
    let time = String::from_utf8_lossy(&time);
    let event = serde_json::json!({
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
            "previous": from.map_or(Lsn::ZERO, |position| position.commit).to_string(),
            "resumes_at": to.to_string(),
            "reason": reason,
        },
    });
    let written: Result<(), Infallible> = records.push(RecordKind::Event, "forebay.gap.v1", source, |out| {
        out.extend_from_slice(event.to_string().as_bytes());
        out.push(b'\n');
        Ok(())
    });
    match written {
        Ok(()) => Some(position),
    }
}

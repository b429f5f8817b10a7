//! Decodes the stored message of a dead letter, long after its transaction.

use crate::change::{ChangePlace, Message as LogicalMessage, Operation, Relation};
use crate::source::Redecode;

use super::pgoutput::{self, Cells, Message};
use super::transaction::{RowKind, operation};

/// Decodes captured pgoutput messages, without stored table definitions.
#[derive(Clone, Copy, Debug)]
pub struct Pgoutput;

impl Redecode for Pgoutput {
    fn row(&self, raw: &[u8], columns: usize, then: &mut dyn FnMut(Operation<'_>)) -> Result<(), String> {
        then(decode(raw, columns, &mut Cells::default())?);
        Ok(())
    }

    fn message<'a>(&self, place: ChangePlace, raw: &'a [u8]) -> Result<LogicalMessage<'a>, String> {
        message(place, raw)
    }

    fn descriptions(&self, _: &Relation) -> Vec<Relation> {
        Vec::new()
    }
}

/// Decodes a row message as it was received, for a table with this number of columns. Does no I/O.
///
/// # Errors
/// It is not a row message, or it is malformed. The text is the reason, without row values.
pub fn decode<'a>(raw: &'a [u8], columns: usize, cells: &'a mut Cells) -> Result<Operation<'a>, String> {
    let message = pgoutput::decode(raw, cells).map_err(|error| error.to_string())?;
    let kind = match message {
        Message::Insert { .. } => RowKind::Insert,
        Message::Update { old, .. } => RowKind::Update(old),
        Message::Delete { old, .. } => RowKind::Delete(old),
        _ => return Err("it is not the message of a row".to_owned()),
    };
    let given = if matches!(kind, RowKind::Delete(_)) { cells.old.len() } else { cells.new.len() };
    if given != columns {
        return Err(format!("the row has {given} columns, its table was announced with {columns}"));
    }
    Ok(operation(cells, kind, raw))
}

/// Decodes a logical message as it was received. Does no I/O.
///
/// # Errors
/// It is not a logical message, or it is malformed.
pub fn message(place: ChangePlace, raw: &[u8]) -> Result<LogicalMessage<'_>, String> {
    match pgoutput::decode(raw, &mut Cells::default()).map_err(|error| error.to_string())? {
        Message::Logical { .. } => {}
        _ => return Err("it is not a logical message".to_owned()),
    }
    let (prefix, content) = pgoutput::logical_of(raw).ok_or("it is not a logical message")?;
    Ok(LogicalMessage { place, prefix, content, size: raw.len() as u64, raw })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;

    #[test]
    fn captured_row_is_decoded_again() {
        let mut cells = Cells::default();
        let insert = b"I\0\0\0\x07N\0\x02t\0\0\0\x01an";
        let Ok(Operation::Insert { new }) = decode(insert, 2, &mut cells) else { panic!("an insert") };
        assert_eq!((new.get(0), new.get(1)), (Value::Text(b"a"), Value::Null));
    }

    #[test]
    fn incomplete_row_is_refused_with_a_reason() {
        let mut cells = Cells::default();
        for (raw, columns) in [
            (&b"I\0\0\0\x07N\0\x02t\0\0\0\x01an"[..], 3),
            (b"I\0\0\0\x07N\0\x02t\0\0\0\x01a", 2),
            (b"T\0\0\0\0\0", 0),
            (b"", 0),
        ] {
            assert!(!decode(raw, columns, &mut cells).unwrap_err().is_empty());
        }
    }
}

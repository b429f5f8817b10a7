//! Rows of a poll, in the form of the row messages of pgoutput: what reads and retries those works for polled rows as well.

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// The rows of each statement, in order.
pub fn results(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<SimpleQueryRow>> {
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => all.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    all
}

/// A row as an INSERT message, or as an UPDATE message without an old row. `None`: it has more columns than a message can.
pub fn message(is_update: bool, table: u32, values: &[Option<&str>]) -> Option<Vec<u8>> {
    let size: usize = values.iter().map(|value| 5 + value.map_or(0, str::len)).sum();
    let mut out = Vec::with_capacity(8 + size);
    out.push(if is_update { b'U' } else { b'I' });
    out.extend_from_slice(&table.to_be_bytes());
    out.push(b'N');
    out.extend_from_slice(&u16::try_from(values.len()).ok()?.to_be_bytes());
    for value in values {
        match value {
            None => out.push(b'n'),
            Some(text) => {
                out.push(b't');
                out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Operation, Value};
    use crate::source::postgres::pgoutput::Cells;
    use crate::source::postgres::redecode::decode;

    #[test]
    fn row_reads_as_a_message_of_pgoutput() {
        let mut cells = Cells::default();
        for is_update in [false, true] {
            let raw = message(is_update, 7, &[Some("a"), None, Some("")]).unwrap();
            let new = match decode(&raw, 3, &mut cells).unwrap() {
                Operation::Insert { new } if !is_update => new,
                Operation::Update { old: None, new } if is_update => new,
                other => panic!("{other:?}"),
            };
            assert_eq!(
                [new.get(0), new.get(1), new.get(2)],
                [Value::Text(b"a"), Value::Null, Value::Text(b"")]
            );
        }
    }
}

//! Rows of a poll as pgoutput row messages, so that the same code decodes and retries polled rows.

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::table::{PolledTable, hide};
use crate::source::postgres::transcode::{Transcoded, Transcoder};

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

/// The message of a row, in UTF-8. `None`: it has more columns than a message can have, or not the requested
/// ones.
pub fn captured(
    table: &PolledTable,
    is_update: bool,
    values: &[Option<&str>],
    transcoder: &mut Option<Transcoder>,
) -> Option<Vec<u8>> {
    let Some(transcoder) = transcoder else {
        return message(is_update, table.relation.oid, values.iter().map(|value| value.map(str::as_bytes)));
    };
    let bytes: Vec<Option<Vec<u8>>> = values
        .iter()
        .map(|value| value.map(from_hex).map_or(Some(None), |bytes| bytes.map(Some)))
        .collect::<Option<_>>()?;
    let raw = message(is_update, table.relation.oid, bytes.iter().map(Option::as_deref))?;
    // A value without a character in UTF-8 is marked, and the row becomes a dead letter.
    match transcoder.transcode(&raw) {
        Transcoded::Changed => Some(transcoder.message().to_vec()),
        Transcoded::Same | Transcoded::TooLarge(_) => Some(raw),
    }
}

/// A value of the key, for the resume point.
pub fn key_value(table: &PolledTable, value: &str) -> Option<String> {
    let Some(stored) = &table.encoding else { return Some(value.to_owned()) };
    let (bytes, mut text) = (from_hex(value)?, Vec::new());
    if stored.encoding.converts_values() {
        stored.encoding.convert(&bytes, &mut text, usize::MAX);
    } else {
        text = bytes;
    }
    Some(String::from_utf8(text).unwrap_or_else(|_| hide(value)))
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// A row as an INSERT message, or as an UPDATE message without an old row. `None`: it has more columns than a
/// message can have.
fn message<'a>(
    is_update: bool,
    table: u32,
    values: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
) -> Option<Vec<u8>> {
    let size: usize = values.clone().map(|value| 5 + value.map_or(0, <[u8]>::len)).sum();
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
                out.extend_from_slice(text);
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
            let raw = message(is_update, 7, [Some(&b"a"[..]), None, Some(b"")].into_iter()).unwrap();
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

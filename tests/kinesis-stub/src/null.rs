//! The null sink's short way: count the records of a `PutRecords` body without parsing it, answer from a template.
//!
//! It is taken only when nothing needs to know more than how many and how large: one stream of one shard, no faults, no
//! limits, no measuring. Nothing is validated beyond the number of records.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use crate::sequence;

/// Digits of an answer's sequence numbers that tell the records of one request apart.
const INDEX_DIGITS: usize = 3;
/// So many numbers do they make.
const NUMBERS: u64 = 10_u64.pow(3);

/// The first request whose numbers are not below `next`, the stream's next one: a request has a thousand of them.
pub(crate) const fn request(next: u64) -> u64 {
    next.div_ceil(NUMBERS)
}

/// The stream's next number after a request.
pub(crate) const fn after(request: u64) -> u64 {
    (request + 1) * NUMBERS
}

/// How many records a body has and how many bytes their data are, decoded.
///
/// Inside a JSON string a quote is escaped, so `"Data":` is always a member's name, and base64 contains no quote.
pub(crate) fn count(body: &[u8]) -> (usize, usize) {
    const NAME: &[u8] = b"\"Data\":";
    let finder = memmem::Finder::new(NAME);
    let (mut rest, mut records, mut bytes) = (body, 0, 0);
    while let Some(value) = finder.find(rest).and_then(|at| rest.get(at + NAME.len()..)) {
        records += 1;
        rest = value;
        let Some(text) = value.trim_ascii_start().strip_prefix(b"\"") else { continue };
        let Some(end) = memchr(b'"', text) else { break };
        let (data, after) = text.split_at(end);
        bytes += decoded_len(data);
        rest = after;
    }
    (records, bytes)
}

/// What base64 of this text decodes to.
pub(crate) fn decoded_len(base64: &[u8]) -> usize {
    let padding = base64.iter().rev().take(2).take_while(|b| **b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// Answers of up to 500 records, made once for each count.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    made: Vec<Option<Template>>,
}

#[derive(Clone, Debug)]
struct Template {
    text: Vec<u8>,
    /// Where the digits that tell requests apart stand.
    holes: Vec<usize>,
}

/// Width of the part of the number that is patched in.
const HOLE: usize = 16;

impl Templates {
    /// The answer to the `request`-th request, of `records` records, all on this shard.
    pub(crate) fn answer(&mut self, records: usize, request: u64, shard: &str) -> Bytes {
        if self.made.len() <= records {
            self.made.resize(records + 1, None);
        }
        let Some(slot) = self.made.get_mut(records) else { return Bytes::new() };
        let template = slot.get_or_insert_with(|| Template::new(records, shard));
        let digits = format!("{request:0HOLE$}");
        let mut text = BytesMut::from(template.text.as_slice());
        for hole in &template.holes {
            if let Some(place) = text.get_mut(*hole..*hole + HOLE) {
                place.copy_from_slice(digits.as_bytes());
            }
        }
        text.freeze()
    }
}

impl Template {
    fn new(records: usize, shard: &str) -> Self {
        let mut text = br#"{"FailedRecordCount":0,"Records":["#.to_vec();
        let mut holes = Vec::with_capacity(records);
        for index in 0..records {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(br#"{"SequenceNumber":""#);
            text.extend_from_slice(sequence::text(index as u64).as_bytes());
            holes.push(text.len() - INDEX_DIGITS - HOLE);
            text.extend_from_slice(format!(r#"","ShardId":"{shard}"}}"#).as_bytes());
        }
        text.extend_from_slice(b"]}");
        Self { text, holes }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn records_are_counted_regardless_of_key() {
        for (body, expected) in [
            (r#"{"Records":[],"StreamName":"s"}"#, (0, 0)),
            (r#"{"Records":[{"Data":"YQ==","PartitionKey":"k"}],"StreamName":"s"}"#, (1, 1)),
            (r#"{"Records": [{"PartitionKey": "\"Data\":\"x\"", "Data": "YWJj"}, {"Data": ""}]}"#, (2, 3)),
            (r#"{"Records":[{"Data":"YWI="#, (1, 0)),
        ] {
            assert_eq!(count(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn decoded_length_is_right_for_every_padding() {
        for length in 0..10 {
            assert_eq!(decoded_len(STANDARD.encode(vec![7; length]).as_bytes()), length);
        }
    }

    #[test]
    fn responses_have_right_count_and_rising_numbers() {
        let mut templates = Templates::default();
        let mut last = String::new();
        for (request, records) in [(1, 500), (2, 3), (10, 500)] {
            let answer: serde_json::Value =
                serde_json::from_slice(&templates.answer(records, request, "shardId-0")).unwrap();
            let all = answer["Records"].as_array().unwrap();
            assert_eq!(all.len(), records);
            for record in all {
                let sequence = record["SequenceNumber"].as_str().unwrap();
                assert!(sequence.len() == 56 && sequence > last.as_str(), "{sequence} after {last}");
                sequence.clone_into(&mut last);
            }
        }
    }
}

//! The body of a `PutRecords` request, written directly from the record bytes. Does no I/O.
//!
//! The SDK copies every record into an entry, and the entries into JSON through a generic serializer. That
//! was measured as half of the cost of publishing. The service fixes the format (awsJson1.1):
//!
//! ```json
//! {"StreamName":"…","StreamARN":"…","Records":[{"Data":"<base64>","PartitionKey":"…"},…]}
//! ```

use base64_simd::STANDARD;

use crate::json;
use crate::sink::Outgoing;

/// Bytes of a record besides its data and key: names, quotes, and space for a few escapes.
const AROUND: usize = 40;

/// A partition key is not UTF-8, which Kinesis would not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a partition key is not UTF-8")]
pub(super) struct NotUtf8;

/// The stream in a request: its name, and its ARN if known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// `StreamName`.
    pub name: &'a str,
    /// `StreamARN`.
    pub arn: Option<&'a str>,
}

/// Writes the body of a request with these records.
///
/// # Errors
/// A key is not UTF-8.
pub(super) fn put_records(target: Target<'_>, records: &[Outgoing]) -> Result<Vec<u8>, NotUtf8> {
    let sizes = records.iter().map(|record| record.data.len().div_ceil(3) * 4 + record.key.len() + AROUND);
    let mut body = Vec::with_capacity(sizes.sum::<usize>() + 256);
    write_target(&mut body, target);
    body.extend_from_slice(b",\"Records\":[");
    for (nth, record) in records.iter().enumerate() {
        body.extend_from_slice(if nth == 0 { b"{\"Data\":\"" } else { b",{\"Data\":\"" });
        STANDARD.encode_append(&record.data, &mut body);
        body.extend_from_slice(b"\",\"PartitionKey\":");
        json::write_string_bytes(&mut body, &record.key).map_err(|_| NotUtf8)?;
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// A hash key that no shard has: it has as many digits as the highest one (2^128 - 1), and is higher.
const NO_HASH_KEY: &str = "999999999999999999999999999999999999999";

/// Writes the body of a request that stores nothing (`DryRun`). With a record, the service checks everything
/// that it checks for a put. A service that does not know `DryRun` rejects the record too, because no shard
/// has its hash key.
pub(super) fn dry_run(target: Target<'_>, has_record: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(512);
    write_target(&mut body, target);
    body.extend_from_slice(b",\"DryRun\":true,\"Records\":[");
    if has_record {
        let record =
            format!("{{\"Data\":\"Cg==\",\"PartitionKey\":\"-\",\"ExplicitHashKey\":\"{NO_HASH_KEY}\"}}");
        body.extend_from_slice(record.as_bytes());
    }
    body.extend_from_slice(b"]}");
    body
}

fn write_target(body: &mut Vec<u8>, target: Target<'_>) {
    body.extend_from_slice(b"{\"StreamName\":");
    json::write_string(body, target.name);
    if let Some(arn) = target.arn {
        body.extend_from_slice(b",\"StreamARN\":");
        json::write_string(body, arn);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose;
    use bytes::Bytes;

    use super::*;

    fn record(key: &'static [u8], data: Vec<u8>) -> Outgoing {
        Outgoing { key: Bytes::from_static(key), data: data.into() }
    }

    #[test]
    fn request_body_is_valid_json_with_all_records() {
        let keys: [&[u8]; 4] = [b"PLT-7", b"a \"quoted\\\" one\n", "ключ".as_bytes(), b"\x01"];
        let records: Vec<_> =
            keys.into_iter().zip(0..).map(|(key, nth)| record(key, (0..nth * 41).collect())).collect();
        for arn in [None, Some("arn:aws:kinesis:eu-central-1:1:stream/lab")] {
            let body = put_records(Target { name: "lab", arn }, &records).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((read["StreamName"].as_str(), read["StreamARN"].as_str()), (Some("lab"), arn));
            let read = read["Records"].as_array().unwrap();
            assert_eq!(read.len(), records.len());
            for (read, lent) in read.iter().zip(&records) {
                let data = general_purpose::STANDARD.decode(read["Data"].as_str().unwrap()).unwrap();
                assert_eq!(
                    (data.as_slice(), read["PartitionKey"].as_str().unwrap().as_bytes()),
                    (&*lent.data, &*lent.key)
                );
            }
        }
    }

    #[test]
    fn dry_run_has_no_record_that_could_be_stored() {
        for has_record in [false, true] {
            let body = dry_run(Target { name: "lab", arn: Some("arn") }, has_record);
            let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&read["DryRun"], &read["StreamARN"]), (&true.into(), &"arn".into()));
            let records = read["Records"].as_array().unwrap();
            assert_eq!(records.len(), usize::from(has_record));
            for record in records {
                let hash = record["ExplicitHashKey"].as_str().unwrap();
                assert!(hash.parse::<u128>().is_err() && hash.len() == u128::MAX.to_string().len(), "{hash}");
            }
        }
    }

    #[test]
    fn non_utf8_key_is_refused() {
        let records = [record(b"good", vec![1]), record(b"\xFF", vec![2])];
        assert_eq!(put_records(Target { name: "lab", arn: None }, &records), Err(NotUtf8));
    }

    #[test]
    fn body_is_allocated_once() {
        let records: Vec<_> =
            (0..500).map(|_| record(b"0b3f6b0e-8a7f-5bd6-9d1c-7e3c1f0a9b11", vec![b'x'; 528])).collect();
        let body = put_records(Target { name: "lab", arn: None }, &records).unwrap();
        assert!(body.capacity() - body.len() < 16 << 10, "{} of {}", body.len(), body.capacity());
    }
}

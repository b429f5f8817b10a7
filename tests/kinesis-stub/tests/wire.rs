//! The stub over real sockets: raw HTTP for what a connection does, the AWS SDK for Rust for what an answer says.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use aws_sdk_kinesis::{Client, error::ProvideErrorMetadata as _};
use kinesis_stub::{Config, Fault, Refusal, Rule, Stub};

const PATIENCE: Duration = Duration::from_mins(1);
/// Base64 of `a`.
const ONE: &str = r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k"}]}"#;

fn stub(shards: u32) -> Stub {
    Stub::start(Config::default().stream("s", shards)).unwrap()
}

fn connect(stub: &Stub) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", stub.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, operation: &str, body: &str) {
    let text = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: Kinesis_20131202.{operation}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
}

/// Status, head and body of one answer; an error when the connection ends first.
fn read_reply(stream: &mut TcpStream) -> std::io::Result<(u16, String, String)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, head, String::from_utf8(body).unwrap()))
}

fn ask(stub: &Stub, operation: &str, body: &str) -> std::io::Result<(u16, String, String)> {
    let mut stream = connect(stub);
    send(&mut stream, operation, body);
    read_reply(&mut stream)
}

fn control(stub: &Stub, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut stream = connect(stub);
    let length = body.len();
    let text =
        format!("{method} /_stub/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    read_reply(&mut stream).unwrap()
}

#[test]
fn each_fault_behaves_as_named() {
    type Seen = Result<(u16, &'static str), ()>;
    let error = Fault::Error { status: 400, code: "AccessDeniedException".into() };
    let cases: Vec<(Fault, Seen, usize)> = vec![
        (Fault::Accept, Ok((200, r#""FailedRecordCount":0"#)), 1),
        (Fault::Reject { code: Refusal::Throttled }, Ok((200, "ProvisionedThroughputExceeded")), 0),
        (Fault::Reject { code: Refusal::InternalFailure }, Ok((200, "InternalFailure")), 0),
        (Fault::AcceptThenLoseAnswer, Err(()), 1),
        (Fault::AcceptLate { after_requests: 1 }, Err(()), 0),
        (Fault::Slow { millis: 1 }, Ok((200, "SequenceNumber")), 1),
        (Fault::Shuffle, Ok((200, "SequenceNumber")), 1),
        (Fault::FallingNumbers, Ok((200, "SequenceNumber")), 1),
        (Fault::ServerErrorBefore, Ok((500, "InternalFailure")), 0),
        (Fault::ServerErrorAfter, Ok((500, "InternalFailure")), 1),
        (Fault::Reset, Err(()), 0),
        (Fault::Throttle, Ok((400, "ProvisionedThroughputExceeded")), 0),
        (Fault::ExpiredCredentials, Ok((400, "ExpiredTokenException")), 0),
        (error, Ok((400, "AccessDeniedException")), 0),
    ];
    for (fault, expected, stored) in cases {
        let stub = stub(1);
        stub.set(Rule::new(fault.clone()).times(1)).unwrap();
        let seen = ask(&stub, "PutRecords", ONE);
        if let Ok((status, part)) = expected {
            let (seen, _, body) = seen.unwrap();
            assert!(seen == status && body.contains(part), "{fault:?}: {seen} {body}");
        } else {
            let kind = seen.unwrap_err().kind();
            let reset = fault == Fault::Reset;
            assert_eq!(kind == std::io::ErrorKind::ConnectionReset, reset, "{fault:?}: {kind}");
        }
        assert_eq!(stub.records().len(), stored, "{fault:?}");
        assert_eq!(ask(&stub, "PutRecords", ONE).unwrap().0, 200, "used up: {fault:?}");
    }
}

#[test]
fn late_request_is_stored_after_newer_one() {
    let stub = stub(1);
    stub.script([Fault::AcceptLate { after_requests: 1 }]).unwrap();
    let record =
        |data: &str| format!(r#"{{"StreamName":"s","Records":[{{"Data":"{data}","PartitionKey":"k"}}]}}"#);
    ask(&stub, "PutRecords", &record("b2xk")).unwrap_err();
    ask(&stub, "PutRecords", &record("bmV3")).unwrap();
    let data: Vec<_> = stub.records().into_iter().map(|record| record.data).collect();
    assert_eq!(data, ["new", "old"]);
}

#[test]
fn held_request_is_stored_on_release_without_client() {
    let stub = stub(1);
    stub.script([Fault::Hold, Fault::HoldAnswer]).unwrap();
    let (mut gone, mut patient) = (connect(&stub), connect(&stub));
    send(&mut gone, "PutRecords", ONE);
    assert!(stub.wait(PATIENCE, |stats| stats.held == 1));
    drop(gone);
    send(&mut patient, "PutRecords", ONE);
    assert!(stub.wait(PATIENCE, |stats| stats.held == 2 && stats.records == 1));
    assert_eq!(stub.release(), 2);
    assert_eq!(read_reply(&mut patient).unwrap().0, 200);
    assert_eq!(stub.records().len(), 2);
}

#[test]
fn connection_is_kept_and_stub_restarts_on_its_port() {
    let stub = stub(1);
    let mut stream = connect(&stub);
    for _ in 0..2 {
        send(&mut stream, "PutRecords", ONE);
        assert_eq!(read_reply(&mut stream).unwrap().0, 200);
    }
    stub.stop();
    assert!(TcpStream::connect(("127.0.0.1", stub.port())).is_err());
    assert!(read_reply(&mut stream).is_err());
    stub.restart().unwrap();
    assert_eq!(ask(&stub, "PutRecords", ONE).unwrap().0, 200);
    assert_eq!(stub.records().len(), 3);
}

#[test]
fn bad_requests_are_rejected_like_the_service() {
    let stub = stub(1);
    let records = |count: usize, key: &str, data: usize| {
        let one = format!(r#"{{"Data":"{}","PartitionKey":"{key}"}}"#, "AAAA".repeat(data / 3));
        format!(r#"{{"StreamName":"s","Records":[{}]}}"#, vec![one; count].join(","))
    };
    for (body, expected) in [
        (records(500, "k", 3), None),
        (records(501, "k", 3), Some("ValidationException")),
        (records(0, "k", 3), Some("ValidationException")),
        (records(1, &"é".repeat(256), 3), None),
        (records(1, &"k".repeat(257), 3), Some("ValidationException")),
        (records(1, "", 3), Some("ValidationException")),
        (records(1, "k", 1_048_575), None),
        (records(1, "kk", 1_048_575), Some("InvalidArgumentException")),
        (records(11, "k", 1_000_000), Some("InvalidArgumentException")),
        ("{".into(), Some("SerializationException")),
        (ONE.replace("\"s\"", "\"t\""), Some("ResourceNotFoundException")),
        (ONE.replace("YQ==", "Y"), Some("SerializationException")),
    ] {
        let (status, head, answer) = ask(&stub, "PutRecords", &body).unwrap();
        let start: String = body.chars().take(80).collect();
        assert_eq!(status == 200, expected.is_none(), "{start}: {answer}");
        if let Some(kind) = expected {
            assert!(answer.contains(kind) && head.contains(&kind.to_lowercase()), "{start}: {answer}");
        }
    }
}

#[test]
fn null_sink_counts_and_fast_path_matches_slow_path() {
    for shards in [1, 2] {
        let config = Config { keep: false, ..Config::default() };
        let stub = Stub::start(config.stream("s", shards)).unwrap();
        let (status, _, body) = ask(&stub, "PutRecords", ONE).unwrap();
        assert!(status == 200 && body.matches("SequenceNumber").count() == 1, "{body}");
        let counted = stub.requests();
        assert_eq!((counted.stored, counted.bytes, counted.entries), (1, 1, 1));
        assert!(stub.records().is_empty());
    }
}

/// The first sequence number of an answer.
fn number_of(body: &str) -> String {
    body.split("\"SequenceNumber\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn null_sink_numbers_rise_across_resets_and_restarts() {
    let mut last = String::new();
    for _ in 0..2 {
        let stub = Stub::start(Config { keep: false, ..Config::default() }.stream("s", 1)).unwrap();
        for step in 0..6 {
            if step == 2 {
                assert_eq!(control(&stub, "POST", "stats/reset", "").0, 200);
            }
            if step == 4 {
                stub.script([Fault::Shuffle]).unwrap();
            }
            let (_, _, body) = ask(&stub, "PutRecords", ONE).unwrap();
            let number = number_of(&body);
            assert!(number.len() == 56 && number > last, "{number} after {last}");
            last = number;
        }
    }
}

#[test]
fn falling_numbers_fault_leaves_stored_numbers() {
    let stub = stub(1);
    let first = number_of(&ask(&stub, "PutRecords", ONE).unwrap().2);
    stub.set(Rule::new(Fault::FallingNumbers).times(2)).unwrap();
    let issued = [0; 2].map(|_| number_of(&ask(&stub, "PutRecords", ONE).unwrap().2));
    assert!(issued[0] < first && issued[1] < issued[0], "{first} {issued:?}");
    let last = number_of(&ask(&stub, "PutRecords", ONE).unwrap().2);
    assert!(last > first, "{last}");
    assert!(stub.records().is_sorted_by(|one, other| one.sequence < other.sequence));
}

#[test]
fn shard_limits_reject_excess() {
    let config = Config { limits: true, ..Config::default() };
    let stub = Stub::start(config.stream("s", 1)).unwrap();
    let entries = vec![r#"{"Data":"YQ==","PartitionKey":"k"}"#; 500].join(",");
    let body = format!(r#"{{"StreamName":"s","Records":[{entries}]}}"#);
    let mut stream = connect(&stub);
    let refused: usize = (0..10)
        .map(|_| {
            send(&mut stream, "PutRecords", &body);
            read_reply(&mut stream).unwrap().2.matches("ProvisionedThroughputExceededException").count()
        })
        .sum();
    let counted = stub.requests();
    assert!(counted.stored >= 1_000 && refused > 0, "{counted:?}");
    assert_eq!(counted.stored + counted.throttled, 5_000);
    assert_eq!(u64::try_from(refused).unwrap(), counted.throttled);
}

#[test]
fn control_path_sets_faults_and_shows_state() {
    let stub = stub(1);
    let control = |method: &str, path: &str, body: &str| control(&stub, method, path, body);
    assert_eq!(control("POST", "fault", r#"{"fault":"throttle","times":1}"#).0, 200);
    assert_eq!(control("POST", "fault", r#"{"fault":"thrttle"}"#).0, 400);
    assert!(control("GET", "fault", "").2.contains("throttle"));
    assert_eq!(ask(&stub, "PutRecords", ONE).unwrap().0, 400);
    assert_eq!(ask(&stub, "PutRecords", ONE).unwrap().0, 200);
    assert!(control("GET", "stats", "").2.contains(r#""records":1"#));
    assert!(control("GET", "records", "").2.contains(r#""data":"YQ==""#));
    assert_eq!(control("POST", "reshard", r#"{"stream":"s","shards":3}"#).0, 200);
    assert_eq!(control("GET", "nothing", "").0, 404);
    assert!(
        ask(&stub, "DescribeStreamSummary", r#"{"StreamName":"s"}"#)
            .unwrap()
            .2
            .contains(r#""OpenShardCount":3"#)
    );
}

fn client(stub: &Stub) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(stub.endpoint())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("a", "b", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

fn entry(key: &str, data: &str) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build().unwrap()
}

#[test]
fn taken_records_are_removed_and_numbering_continues() {
    let stub = stub(1);
    let put = || ask(&stub, "PutRecords", ONE).unwrap();
    put();
    put();
    let second = stub.records_from(1);
    assert_eq!((second.len(), stub.records_from(2).len(), stub.records_from(3).len()), (1, 0, 0));
    assert_eq!(stub.take_records().get(1), second.first());
    assert!(stub.records().is_empty() && stub.take_records().is_empty());
    put();
    assert_eq!((stub.records_from(0).len(), stub.stats().records), (1, 3));
    assert!(
        stub.take_records().first().map(|record| &record.sequence)
            > second.first().map(|record| &record.sequence)
    );
}

async fn read_all(client: &Client, shard: &str) -> (Vec<String>, usize) {
    let iterator = client.get_shard_iterator().stream_name("s").shard_id(shard);
    let answer = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let answer = client.get_records().shard_iterator(answer.shard_iterator.unwrap()).send().await.unwrap();
    let text = |blob: &Blob| String::from_utf8(blob.as_ref().to_vec()).unwrap();
    let children = if answer.next_shard_iterator.is_some() { 0 } else { answer.child_shards().len() };
    (answer.records().iter().map(|record| text(record.data())).collect(), children)
}

#[tokio::test]
async fn rust_sdk_puts_reshards_and_reads_parents_first() {
    let stub = stub(2);
    let client = client(&stub);
    let put = client.put_records().stream_name("s").records(entry("a", "a1")).records(entry("b", "b1"));
    let answer = put.send().await.unwrap();
    let shards: Vec<_> = answer.records().iter().map(|record| record.shard_id().unwrap()).collect();
    assert_eq!(shards, ["shardId-000000000000", "shardId-000000000001"], "0c… and 92…");
    client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(4)
        .scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling)
        .send()
        .await
        .unwrap();
    let answer = client.put_records().stream_name("s").records(entry("a", "a2")).send().await.unwrap();
    let child = answer.records()[0].shard_id().unwrap();
    assert_eq!(read_all(&client, shards[0]).await, (vec!["a1".to_owned()], 2));
    assert_eq!(read_all(&client, child).await, (vec!["a2".to_owned()], 0));
    let listed = client.list_shards().stream_name("s").send().await.unwrap();
    let parent = listed.shards().iter().find(|shard| shard.shard_id() == child).unwrap().parent_shard_id();
    assert_eq!(parent, Some(shards[0]));
}

#[tokio::test]
async fn rust_sdk_sees_settings_partial_failures_and_errors() {
    let stub = stub(1);
    let client = client(&stub);
    stub.set(Fault::AcceptSome { pattern: "+-".into(), code: Refusal::Throttled }).unwrap();
    let put = client.put_records().stream_name("s").records(entry("a", "1")).records(entry("b", "2"));
    let answer = put.send().await.unwrap();
    assert_eq!(answer.failed_record_count(), Some(1));
    assert_eq!(answer.records()[1].error_code(), Some("ProvisionedThroughputExceededException"));
    stub.set(Fault::ExpiredCredentials).unwrap();
    let error = client.describe_stream_summary().stream_name("s").send().await.unwrap_err();
    assert_eq!(error.code(), Some("ExpiredTokenException"));
    stub.heal();
    let arn = client
        .describe_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap()
        .stream_description
        .unwrap()
        .stream_arn;
    client.update_max_record_size().stream_arn(&arn).max_record_size_in_kib(10_240).send().await.unwrap();
    client
        .update_stream_record_distribution_strategy()
        .stream_arn(&arn)
        .record_distribution_strategy(aws_sdk_kinesis::types::RecordDistributionStrategy::Auto)
        .send()
        .await
        .unwrap();
    let answer = client.describe_stream_summary().stream_name("s").send().await.unwrap();
    let summary = answer.stream_description_summary.unwrap();
    assert_eq!(summary.max_record_size_in_kib, Some(10_240));
    assert_eq!(summary.record_distribution_strategy.unwrap().as_str(), "AUTO");
    let lost = client.list_shards().stream_name("nowhere").send().await.unwrap_err();
    assert_eq!(lost.code(), Some("ResourceNotFoundException"));
}

#[test]
fn stub_restarts_on_its_port_while_others_start() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let stub = stub(1);
    let over = AtomicBool::new(false);
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(std::process::Command::new("true").status());
            }
        });
        let failed = (0..300).find_map(|_| stub.restart().err());
        over.store(true, Ordering::Relaxed);
        failed
    });
    assert!(failed.is_none(), "{failed:?}");
}

//! Each state that a stream can be in, and each way in which it can refuse: what it says, and whether it is waited for.

use kinesis_stub::{Fault, Rule, Status};

use crate::support::checker::Report;
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

const STREAM: &str = "lab-events";
const ADOPT: &str = "forebay adopt --reason";

fn lab(change: impl FnOnce(&mut Settings)) -> Flow {
    let mut flow = Flow::prepare(seed(), change);
    flow.start();
    flow.wait_until_it_moves("before");
    flow
}

fn error(code: &str, operation: &str) -> Rule {
    Rule::new(Fault::Error { status: 400, code: code.to_owned() }).operations([operation])
}

/// Makes it describe the stream soon: it does after a request that failed as a whole.
fn make_it_look(flow: &Flow) {
    flow.stub.add(Rule::new(Fault::Reset).times(1)).unwrap();
    flow.mark();
}

/// It stops with exit code 1 and each of these texts.
#[track_caller]
fn gives_up(flow: &mut Flow, texts: &[&str]) {
    let within = SOON * 2;
    eventually("it gives up", within, || (!flow.daemon.is_running()).then_some(()));
    assert_eq!(flow.daemon.wait().code(), Some(1));
    let said = flow.daemon.log().join("\n");
    for text in texts {
        assert!(said.contains(text), "not said: {text:?}\n{said}");
    }
}

#[track_caller]
fn adopt(flow: &Flow) {
    let output = flow.daemon.run(&["adopt", "--reason", "the test says so"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn finish(flow: Flow) {
    let report = all_published(flow);
    report.assert_clean();
}

/// What comes again in a new epoch has the same id and a higher `sequence`.
#[track_caller]
fn finish_after_adoption(flow: Flow) {
    let report = all_published(flow);
    assert!(report.lost.is_empty() && report.reordered.is_empty(), "{report}");
}

#[track_caller]
fn all_published(mut flow: Flow) -> Report {
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    assert!(flow.daemon.terminate().success());
    report
}

#[test]
fn transient_stream_state_is_waited_for_with_hint() {
    let mut flow = lab(|_| {});
    for (code, next_step) in [
        ("AccessDeniedException", "Allow kinesis:PutRecords"),
        ("KMSAccessDeniedException", "Allow kms:GenerateDataKey"),
        ("KMSDisabledException", "Enable the stream's KMS key"),
        ("KMSInvalidStateException", "cancel it"),
        ("KMSNotFoundException", "StartStreamEncryption"),
        ("KMSOptInRequired", "no subscription for KMS"),
        ("KMSThrottlingException", "quota of KMS requests"),
        ("ExpiredTokenException", "Renew the credentials"),
        ("UnrecognizedClientException", "Renew the credentials"),
        ("InvalidSignatureException", "clock"),
        ("ValidationException", "largest record"),
    ] {
        let log = flow.daemon.mark();
        flow.stub.set(error(code, "PutRecords")).unwrap();
        let marker = flow.mark();
        let line = flow.daemon.wait_for_event_with(log, "records_retried", code);
        for text in ["WARN", "PutRecords on the stream lab-events", next_step] {
            assert!(line.contains(text), "not said: {text:?}\n{line}");
        }
        let not_ready = flow.daemon.ready().unwrap_err();
        assert!(not_ready.contains(code) && not_ready.contains(next_step), "{not_ready}");
        assert_eq!(flow.daemon.metric("forebay_kinesis_available"), Some(0.0));
        flow.stub.heal();
        let published = || flow.published().iter().any(|change| change.key == marker).then_some(());
        eventually(&format!("{code} has passed"), SOON * 2, published);
        flow.daemon.wait_for_event_since(log, "stream_recovered");
        flow.wait_until_ready();
    }
    finish(flow);
}

/// Nothing has to happen in the database for a missing right to be found, and for its grant to be noticed.
#[test]
fn put_denied_is_reported_before_first_event() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.stub.set(error("AccessDeniedException", "PutRecords")).unwrap();
    flow.start();
    let line = flow.daemon.wait_for_event_with(0, "put_denied", "AccessDeniedException");
    for text in
        ["WARN", "PutRecords on the stream lab-events", "Effect", "kinesis:PutRecords", ":stream/lab-events"]
    {
        assert!(line.contains(text), "not said: {text:?}\n{line}");
    }
    let not_ready = eventually("it is not ready", SOON, || flow.daemon.ready().err());
    assert!(not_ready.contains("Allow kinesis:PutRecords"), "{not_ready}");
    assert_eq!(flow.daemon.metric("forebay_kinesis_available"), Some(0.0));
    flow.stub.heal();
    flow.daemon.wait_for_event("put_allowed");
    flow.wait_until_ready();
    assert_eq!(flow.stub.stats().records, 0, "asking stores nothing");
    // A denial that events find first is cleared by events.
    flow.stub.set(error("AccessDeniedException", "PutRecords")).unwrap();
    flow.mark();
    flow.daemon.wait_for_event_with(0, "records_retried", "AccessDeniedException");
    flow.stub.heal();
    flow.wait_until_ready();
    finish(flow);
}

#[test]
fn describe_denied_blocks_start_but_not_running_daemon() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let denied = error("AccessDeniedException", "DescribeStreamSummary");
    flow.stub.set(denied.clone()).unwrap();
    flow.start();
    let line =
        flow.daemon.wait_for_event_with(0, "stream_unavailable", "Allow kinesis:DescribeStreamSummary");
    assert!(line.contains("on the stream lab-events"), "{line}");
    let marker = flow.mark();
    flow.wait_while_unpublished(&marker, "stream_unavailable", "AccessDeniedException");
    assert!(flow.daemon.ready().unwrap_err().contains("DescribeStreamSummary"));
    flow.stub.heal();
    flow.wait_until_it_moves("it may be described");
    flow.wait_until_ready();
    flow.stub.set(denied).unwrap();
    make_it_look(&flow);
    flow.daemon.wait_for_event("stream_not_described");
    flow.wait_until_it_moves("it may not be described");
    assert_eq!(flow.daemon.metric("forebay_kinesis_described"), Some(0.0));
    flow.wait_until_ready();
    finish(flow);
}

#[test]
fn missing_stream_is_waited_for() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.stub.delete_stream(STREAM).unwrap();
    flow.start();
    let line = flow.daemon.wait_for_event_with(0, "stream_unavailable", "ResourceNotFoundException");
    assert!(line.contains("on the stream lab-events") && line.contains("kinesis.stream"), "{line}");
    flow.stub.create_stream(STREAM, 2).unwrap();
    flow.stub.set_status(STREAM, Status::Creating).unwrap();
    flow.daemon.wait_for_event_with(0, "stream_unavailable", "CREATING");
    assert!(flow.daemon.ready().unwrap_err().contains("is CREATING"));
    flow.stub.set_status(STREAM, Status::Active).unwrap();
    flow.wait_until_it_moves("it is there");
    flow.stub.set_status(STREAM, Status::Updating).unwrap();
    make_it_look(&flow);
    flow.wait_until_it_moves("it is being resharded");
    finish(flow);
}

#[test]
fn stream_recreated_while_running_gets_no_record() {
    let mut flow = lab(|_| {});
    flow.stub.delete_stream(STREAM).unwrap();
    let marker = flow.mark();
    flow.daemon.wait_for_event_with(0, "records_retried", "ResourceNotFoundException");
    let not_ready = flow.daemon.ready().unwrap_err();
    assert!(not_ready.contains("ResourceNotFoundException"), "{not_ready}");
    let before = flow.stub.stats();
    flow.stub.create_stream(STREAM, 4).unwrap();
    flow.stub.set_status(STREAM, Status::Creating).unwrap();
    gives_up(&mut flow, &[r#"code="directory_of_other_stream""#, ADOPT]);
    assert_eq!(flow.stub.stats().records, before.records, "the new stream got a record");
    flow.stub.set_status(STREAM, Status::Active).unwrap();
    adopt(&flow);
    flow.start();
    let published = || flow.published().iter().any(|change| change.key == marker).then_some(());
    eventually("what waited comes", SOON, published);
    finish_after_adoption(flow);
}

#[test]
fn stream_recreated_during_outage_gets_no_record() {
    let mut flow = lab(|_| {});
    flow.stub.stop();
    flow.mark();
    // After such an outage it may be another stream, and each attempt to send follows a description. One without a response allows
    // an attempt within a second. No stream is recreated so quickly, except a stub's: here, seconds pass before the next attempt.
    let failed = || flow.daemon.metric("forebay_records_rejected_total{reason=\"unacknowledged\"}");
    flow.daemon.wait_for_event("stream_unverified");
    let before = failed().unwrap_or_default();
    eventually("another attempt fails", SOON, || failed().filter(|now| *now > before));
    flow.stub.delete_stream(STREAM).unwrap();
    flow.stub.create_stream(STREAM, 4).unwrap();
    let before = flow.stub.stats().records;
    flow.stub.restart().unwrap();
    gives_up(&mut flow, &[r#"code="directory_of_other_stream""#, ADOPT]);
    assert_eq!(flow.stub.stats().records, before, "the new stream got a record");
    adopt(&flow);
    flow.start();
    finish_after_adoption(flow);
}

#[test]
fn deleting_stream_gets_no_more_records_once_known() {
    let mut flow = lab(|_| {});
    flow.stub.set_status(STREAM, Status::Deleting).unwrap();
    make_it_look(&flow);
    let line = flow.daemon.wait_for_event_with(0, "stream_unverified", "DELETING");
    assert!(line.contains(ADOPT), "{line}");
    let before = flow.stub.stats().records;
    let marker = flow.mark();
    flow.wait_while_unpublished(&marker, "stream_unverified", "DELETING");
    assert_eq!(flow.stub.stats().records, before);
    flow.stub.delete_stream(STREAM).unwrap();
    flow.stub.create_stream(STREAM, 4).unwrap();
    gives_up(&mut flow, &[r#"code="directory_of_other_stream""#, ADOPT]);
    adopt(&flow);
    flow.start();
    finish_after_adoption(flow);
}

#[test]
fn stream_ignoring_keys_stops_daemon() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let texts = ["ignores partition keys", "USER_PARTITION_KEY", STREAM];
    flow.stub.set_strategy(STREAM, "AUTO").unwrap();
    flow.daemon.start_again();
    gives_up(&mut flow, &texts);
    assert_eq!(flow.stub.stats().records, 0);
    flow.stub.set_strategy(STREAM, "USER_PARTITION_KEY").unwrap();
    flow.start();
    flow.wait_until_it_moves("with keys");
    flow.stub.set_strategy(STREAM, "AUTO").unwrap();
    make_it_look(&flow);
    gives_up(&mut flow, &texts);
    flow.stub.set_strategy(STREAM, "USER_PARTITION_KEY").unwrap();
    flow.start();
    finish(flow);
}

#[test]
fn max_record_size_change_is_followed() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let large = |plate: u32| {
        format!(
            "insert into lab.plates (plate_id, barcode, notes) values ({plate}, 'L{plate}', repeat('x', 1500000))"
        )
    };
    flow.stub.set_max_record_kib(STREAM, 2048).unwrap();
    flow.start();
    flow.postgres.execute(&large(5));
    flow.wait_until_it_moves("2 MiB");
    flow.wait_until_published();
    // The service refuses the whole request: the settings are read again, and the record goes to the dead letter.
    flow.stub.set_max_record_kib(STREAM, 1024).unwrap();
    flow.postgres.execute(&large(6));
    flow.daemon.wait_for_event("dead_letters_written");
    flow.wait_until_it_moves("1 MiB");
    flow.stub.set_max_record_kib(STREAM, 2048).unwrap();
    let log = flow.daemon.mark();
    make_it_look(&flow);
    flow.daemon.wait_for_event_since(log, "stream_settings_changed");
    flow.postgres.execute(&large(7));
    let published = || flow.published().iter().any(|change| change.key == "7").then_some(());
    eventually("it leaves", SOON, published);
    flow.wait_until_drained();
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "6" Inserted, version 1"#]);
    assert!(report.reordered.is_empty(), "{report}");
}

#[test]
fn renewed_credentials_file_needs_no_restart() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    let write = |key: &str| {
        let text = format!(
            "[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let mut flow = Flow::prepare(seed(), |settings| {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
            ("AWS_CONFIG_FILE", "/dev/null"),
        ] {
            settings.environment.push((name.to_owned(), value.to_owned()));
        }
    });
    flow.start();
    let line = flow.daemon.wait_for_event_with(0, "stream_unavailable", "Give this process credentials");
    assert!(line.contains("on the stream lab-events"), "{line}");
    write("FIRST");
    flow.wait_until_it_moves("with credentials");
    flow.stub.set(Rule::new(Fault::ExpiredCredentials).access_key("FIRST")).unwrap();
    flow.mark();
    flow.daemon.wait_for_event_with(0, "records_retried", "ExpiredTokenException");
    write("SECOND");
    flow.wait_until_it_moves("with new credentials");
    finish(flow);
}

#[test]
fn arn_of_another_region_is_refused() {
    let mut flow = Flow::prepare(seed(), |settings| {
        settings.stream = "arn:aws:kinesis:us-west-2:000000000000:stream/lab-events".to_owned();
    });
    flow.daemon.start_again();
    gives_up(&mut flow, &["us-west-2", "eu-central-1", "kinesis.region"]);
    flow.daemon.settings().stream = "arn:aws:kinesis:eu-central-1:000000000000:stream/lab-events".to_owned();
    flow.start();
    flow.wait_until_it_moves("of the same region");
    finish(flow);
}

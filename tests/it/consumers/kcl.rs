//! The Java example, which reads with the Kinesis Client Library (KCL), with Kinesis and DynamoDB on LocalStack.

use super::views::{has_state, isolated, texts};
use super::*;

use aws_sdk_kinesis::types::PutRecordsRequestEntry;

/// A stream of its own beside the archive's.
const KCL_STREAM: &str = "kcl-events";

/// The middle of the first of two shards.
const QUARTER: &str = "85070591730234615865843651857942052864";

/// The consumer over an empty stream.
pub(crate) struct KclView {
    // First: it ends before its directory is removed.
    running: Process,
    home: TempDir,
    endpoint: String,
}

impl KclView {
    /// Whether `scripts/setup` has built it. Where not, the test fails, unless skipping is allowed.
    pub(crate) fn is_here() -> bool {
        let found = jar().exists();
        if !found {
            missing("the Java consumer");
        }
        found
    }

    /// Starts it. KCL waits up to half a minute for another worker before it creates the first leases.
    pub(crate) fn start(kinesis: &Kinesis) -> Self {
        kinesis.create_stream(KCL_STREAM, 2);
        let home = tempfile::tempdir().unwrap();
        let running = Process::spawn("KCL", &mut view(home.path(), &kinesis.endpoint()));
        Self { running, home, endpoint: kinesis.endpoint() }
    }

    /// Kills it after its first batch, reshards its stream twice, and starts it again.
    pub(crate) fn assert_view_of_disturbed_stream(mut self, kinesis: &Kinesis) {
        let fixture = ConsumerFixture::new();
        let records = fixture.disturbed();
        let (first, rest) = records.split_at(records.len() / 2);
        put(kinesis, first);
        eventually("KCL has committed something", SOON * 3, || {
            assert!(self.running.is_running(), "{}", self.running.tail());
            has_state(&database(self.home.path())).then_some(())
        });
        self.running.kill9();
        let split = kinesis.client().split_shard().stream_name(KCL_STREAM).new_starting_hash_key(QUARTER);
        kinesis.block_on(split.shard_to_split("shardId-000000000000").send()).unwrap();
        kinesis.wait_until_active(KCL_STREAM);
        let (second, third) = rest.split_at(rest.len() / 2);
        put(kinesis, second);
        let merge =
            kinesis.client().merge_shards().stream_name(KCL_STREAM).shard_to_merge("shardId-000000000002");
        kinesis.block_on(merge.adjacent_shard_to_merge("shardId-000000000003").send()).unwrap();
        kinesis.wait_until_active(KCL_STREAM);
        put(kinesis, third);
        let view = self.view_until_idle();
        fixture.assert_view_is_the_tables(&view);
        assert_eq!(texts(&view), texts(&view_of_archive(&fixture.archive())));
    }

    /// What it prints when it has read everything. If KCL never gets a lease, it would run without end.
    fn view_until_idle(&self) -> String {
        let java = view(self.home.path(), &self.endpoint);
        let mut limited = isolated("timeout", self.home.path());
        limited.arg("180").arg(java.get_program()).args(java.get_args()).args(["--until-idle", "--print"]);
        printed(&mut limited, "")
    }
}

fn jar() -> PathBuf {
    cache().join("consumers-java/target/view.jar")
}

fn database(home: &Path) -> PathBuf {
    home.join("view.json")
}

fn view(home: &Path, endpoint: &str) -> Command {
    let mut java = isolated("java", home);
    // It runs for seconds, so the optimising compiler would cost more CPU time than it saves.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar"]).arg(jar());
    java.arg("--database").arg(database(home)).args(["--stream", KCL_STREAM]);
    java.args(["--endpoint", endpoint, "--dynamodb-endpoint", endpoint]);
    java
}

/// Puts them in their order. LocalStack takes long for single records.
fn put(kinesis: &Kinesis, records: &[StreamRecord]) {
    for records in records.chunks(50) {
        let entry = |record: &StreamRecord| {
            let entry = PutRecordsRequestEntry::builder().partition_key(&record.key);
            entry.data(record.data.clone().into()).build().unwrap()
        };
        let call = kinesis.client().put_records().stream_name(KCL_STREAM);
        let call = call.set_records(Some(records.iter().map(entry).collect()));
        assert_eq!(kinesis.block_on(call.send()).unwrap().failed_record_count(), Some(0));
    }
}

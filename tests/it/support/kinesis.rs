//! Kinesis implementations that nobody here wrote, each on a port of its own, read through the AWS SDK.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::process::{Process, Signal};
use super::session::runtime;
use super::{SOON, cache, eventually, missing, port, repository};

/// The region that all of them are asked for.
pub const REGION: &str = "eu-central-1";

/// A delivery stream that reads from Kinesis takes LocalStack half a minute, and more on a busy machine.
const STACK_WITHIN: Duration = Duration::from_mins(4);

/// Which implementation; `../facts` of the project and localstack/run say where each is weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// Fast and strict, keeps its streams over a restart. No `UpdateShardCount`, nothing above 1 MiB.
    Kinesalite,
    /// The fuller API; slow; loses its streams when it stops. Listens on all interfaces.
    KinesisLocal,
    /// [`KinesisLocal`](Self::KinesisLocal) behind LocalStack 4.14.0.
    LocalStack,
    /// The same with the stack of `deploy/cloudformation`: stream `lab-events`, Firehose, bucket `lab-archive`.
    LocalStackWithArchive,
}

impl Implementation {
    /// Whether it is installed. Where not, the test fails, unless skipping is allowed.
    pub fn is_here(self) -> bool {
        let needed = match self {
            Self::Kinesalite => "npm/node_modules/kinesalite/cli.js",
            Self::KinesisLocal => "npm/node_modules/kinesis-local/main.js",
            Self::LocalStack | Self::LocalStackWithArchive => "localstack/installed",
        };
        let found = cache().join(needed).exists();
        if !found {
            missing(&format!("{self:?}"));
        }
        found
    }
}

/// One record as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Shard id.
    pub shard: String,
    /// Kinesis's sequence number: decimal, grows within a shard.
    pub sequence: String,
    /// Partition key.
    pub key: String,
    /// What was put.
    pub data: Vec<u8>,
}

/// A server, running or stopped.
#[derive(Debug)]
pub struct Kinesis {
    // First: it ends before its directory goes.
    process: Option<Process>,
    implementation: Implementation,
    port: u16,
    home: TempDir,
    runtime: Runtime,
    client: Client,
}

impl Kinesis {
    /// Starts kinesalite with its streams on disk.
    pub fn kinesalite() -> Self {
        Self::start(Implementation::Kinesalite)
    }

    /// Starts kinesis-local (kinesis-mock).
    pub fn kinesis_local() -> Self {
        Self::start(Implementation::KinesisLocal)
    }

    /// Starts LocalStack in host mode, by localstack/run.
    pub fn localstack() -> Self {
        Self::start(Implementation::LocalStack)
    }

    /// Starts one and waits until it answers.
    pub fn start(implementation: Implementation) -> Self {
        let port = port::free();
        let runtime = runtime();
        let home = tempfile::Builder::new().prefix("fb-kinesis-").tempdir().unwrap();
        let client = client(&endpoint(port));
        let mut kinesis = Self { implementation, port, home, process: None, runtime, client };
        kinesis.start_again();
        kinesis
    }

    /// What `kinesis.endpoint` is set to.
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// Its port on 127.0.0.1, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(|process| process.log().lines()).unwrap_or_default()
    }

    /// Whether streams are still there after [`stop`](Self::stop) and [`start_again`](Self::start_again).
    pub fn persists(&self) -> bool {
        self.implementation == Implementation::Kinesalite
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            process.wait(SOON);
        }
    }

    /// Kills it at once.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Stops its process where it stands: connections stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("it runs").signal(Signal::STOP);
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("it runs").signal(Signal::CONT);
    }

    /// Starts it on the same port, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let mut process = Process::spawn(&format!("{:?}", self.implementation), &mut self.command());
        eventually("Kinesis answers", SOON * 2, || {
            assert!(process.is_running(), "Kinesis has ended\n{}", process.tail());
            let answer = self.runtime.block_on(async {
                let call = self.client.list_streams().send();
                tokio::time::timeout(Duration::from_secs(30), call).await
            });
            answer.ok()?.ok()
        });
        if self.implementation == Implementation::LocalStackWithArchive {
            let is_ready = |line: &str| line.starts_with("Stack forebay-lab is ready");
            let ready = process.log().wait(0, STACK_WITHIN, is_ready);
            assert!(ready.is_some(), "the stack is not deployed within {STACK_WITHIN:?}\n{}", process.tail());
        }
        self.process = Some(process);
    }

    /// Creates a stream and waits until it is active.
    pub fn create_stream(&self, stream: &str, shards: i32) {
        let call = self.client.create_stream().stream_name(stream).shard_count(shards);
        self.block_on(call.send()).unwrap();
        self.wait_until_active(stream);
    }

    /// Deletes a stream and waits until it is gone.
    pub fn delete_stream(&self, stream: &str) {
        self.block_on(self.client.delete_stream().stream_name(stream).send()).unwrap();
        let describe = || self.client.describe_stream_summary().stream_name(stream).send();
        eventually("the stream is gone", SOON, || self.block_on(describe()).is_err().then_some(()));
    }

    /// Waits until a stream is active: after its creation, or after a resharding asked for by [`client`](Self::client).
    pub fn wait_until_active(&self, stream: &str) {
        eventually("the stream is active", SOON, || {
            let call = self.client.describe_stream_summary().stream_name(stream);
            let answer = self.block_on(call.send()).ok()?;
            let status = &answer.stream_description_summary()?.stream_status;
            (*status == StreamStatus::Active).then_some(())
        });
    }

    /// Puts one record, as somebody else than the daemon would.
    pub fn put(&self, stream: &str, key: &str, data: &[u8]) {
        let call = self.client.put_record().stream_name(stream).partition_key(key).data(data.into());
        self.block_on(call.send()).unwrap();
    }

    /// All records of a stream, shard by shard in the order of their ids (a parent comes before its children), closed
    /// shards included.
    pub fn records(&self, stream: &str) -> Vec<StreamRecord> {
        let mut all = Vec::new();
        for shard in self.shards(stream) {
            self.read_shard(stream, &shard, &mut all);
        }
        all
    }

    /// Ids of all shards, open and closed.
    pub fn shards(&self, stream: &str) -> Vec<String> {
        let mut shards = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_shards();
            let call = match next.take() {
                Some(token) => call.next_token(token),
                None => call.stream_name(stream),
            };
            let answer = self.block_on(call.send()).unwrap();
            shards.extend(answer.shards().iter().map(|shard| shard.shard_id().to_owned()));
            next = answer.next_token;
            if next.is_none() {
                shards.sort();
                return shards;
            }
        }
    }

    /// The SDK's client, for what is not here: splitting, merging, settings.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for a call of [`client`](Self::client).
    pub fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    fn read_shard(&self, stream: &str, shard: &str, all: &mut Vec<StreamRecord>) {
        let call = self.client.get_shard_iterator().stream_name(stream).shard_id(shard);
        let call = call.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut next = self.block_on(call.send()).unwrap().shard_iterator;
        while let Some(iterator) = next {
            let answer = self.block_on(self.client.get_records().shard_iterator(iterator).send()).unwrap();
            for record in answer.records() {
                all.push(StreamRecord {
                    shard: shard.to_owned(),
                    sequence: record.sequence_number().to_owned(),
                    key: record.partition_key().unwrap().to_owned(),
                    data: record.data().as_ref().to_vec(),
                });
            }
            // An open shard has no end; its reader has caught up when nothing comes and nothing waits.
            let caught_up = answer.records().is_empty() && answer.millis_behind_latest().unwrap_or(0) == 0;
            next = if caught_up { None } else { answer.next_shard_iterator };
        }
    }

    fn command(&self) -> Command {
        let modules = cache().join("npm/node_modules");
        let port = self.port.to_string();
        match self.implementation {
            Implementation::Kinesalite => {
                let mut command = node(modules.join("kinesalite/cli.js"));
                let quick = ["--createStreamMs", "10", "--deleteStreamMs", "10", "--updateStreamMs", "10"];
                command.args(["--port", &port, "--shardLimit", "200"]).args(quick);
                command.arg("--path").arg(self.home.path().join("streams"));
                command
            }
            Implementation::KinesisLocal => {
                let mut command = node(modules.join("kinesis-local/main.js"));
                command
                    .env("KINESIS_MOCK_PLAIN_PORT", &port)
                    .env("KINESIS_MOCK_TLS_PORT", port::free().to_string())
                    .env("KINESIS_MOCK_CERT_PATH", modules.join("kinesis-local/server.json"))
                    .env("SHARD_LIMIT", "200")
                    .env("LOG_LEVEL", "WARN");
                for step in ["CREATE", "DELETE", "UPDATE"] {
                    command.env(format!("{step}_STREAM_DURATION"), "10ms");
                }
                command.current_dir(self.home.path());
                command
            }
            Implementation::LocalStack | Implementation::LocalStackWithArchive => {
                let mut command = Command::new(repository().join("localstack/run"));
                command.args(["--port", &port, "--state"]).arg(self.home.path());
                if self.implementation == Implementation::LocalStack {
                    command.arg("--bare").env("SERVICES", "kinesis");
                }
                command
            }
        }
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn node(script: PathBuf) -> Command {
    let mut command = Command::new("node");
    command.arg(script);
    command
}

/// The SDK's client of a server at this address.
pub fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .build();
    Client::from_conf(config)
}

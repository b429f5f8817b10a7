//! Whatever the service answers, to a put, a description or a list of shards: answers or an error, never a panic, and one answer for
//! each record. Needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its environment, with any values.

#![no_main]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use forebay::sink::kinesis::{KinesisPublisher, Settings};
use forebay::sink::{Outgoing, Publisher as _};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Longer than anything that does not wait.
const PATIENCE: Duration = Duration::from_millis(300);

struct Service {
    runtime: Runtime,
    publisher: KinesisPublisher,
    /// What every request is answered with, and then the end.
    script: Arc<Mutex<Vec<u8>>>,
}

fn service() -> &'static Service {
    static MADE: OnceLock<Service> = OnceLock::new();
    MADE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let theirs = Arc::clone(&script);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&theirs)));
            }
        });
        let settings = Settings {
            stream: "lab-events".to_owned(),
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(endpoint),
        };
        let publisher = runtime.block_on(KinesisPublisher::new(&settings)).unwrap();
        Service { runtime, publisher, script }
    })
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Vec<u8>>>) {
    let mut space = [0; 4096];
    // The requests of this target fit into one read.
    if stream.read(&mut space).await.is_ok_and(|size| size > 0) {
        let answer = script.lock().unwrap().clone();
        drop(stream.write_all(&answer).await);
        drop(stream.shutdown().await);
        while stream.read(&mut space).await.is_ok_and(|size| size > 0) {}
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let service = service();
    let status = ["200 OK", "400 Bad Request", "500 Internal Server Error", "413 Too Large"][usize::from(kind >> 4) % 4];
    let script = if kind & 8 == 0 { data.to_vec() } else { answer(status, data) };
    *service.script.lock().unwrap() = script;
    let count = usize::from(kind & 3) + 1;
    service.runtime.block_on(async {
        let call = async {
            if kind & 4 == 0 {
                let record = |n: usize| Outgoing { key: Bytes::from(n.to_string()), data: Bytes::from_static(b"{}\n") };
                if let Ok(answers) = service.publisher.put((0..count).map(record).collect()).await {
                    assert_eq!(answers.len(), count, "one answer for each record");
                }
            } else if count.is_multiple_of(2) {
                drop(service.publisher.describe().await);
            } else {
                drop(service.publisher.shards().await);
            }
        };
        drop(timeout(PATIENCE, call).await);
    });
});

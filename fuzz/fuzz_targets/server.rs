//! Whatever a server sends, at log-in or afterwards, on an SQL or a replication connection: a result or an error, never a panic.

#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use forebay::source::Source as _;
use forebay::source::postgres::connection::Connection;
use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::lsn::Lsn;
use forebay::source::postgres::session::Session;
use forebay::source::postgres::{PostgresSource, Stream};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Longer than anything that does not wait.
const PATIENCE: Duration = Duration::from_millis(300);

struct Server {
    runtime: Runtime,
    settings: Settings,
    /// What every connection is sent, and then the end.
    script: Arc<Mutex<Vec<u8>>>,
}

fn server() -> &'static Server {
    static MADE: OnceLock<Server> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = PathBuf::from(format!("/tmp/forebay-fuzz-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir(&directory).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(async { UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap() });
        let theirs = Arc::clone(&script);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, theirs.lock().unwrap().clone()));
            }
        });
        let host = directory.to_str().unwrap().replace('/', "%2F");
        let settings = Settings::from_url(&format!("postgres://u:p@{host}:5432/d")).unwrap();
        Server { runtime, settings, script }
    })
}

async fn serve(mut stream: UnixStream, script: Vec<u8>) {
    drop(stream.write_all(&script).await);
    drop(stream.shutdown().await);
    // What the client sends is read: else it would get a reset before it has read all.
    let mut space = [0; 1024];
    while stream.read(&mut space).await.is_ok_and(|size| size > 0) {}
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    [message(b'D', &body), message(b'C', b"SHOW\0"), ready()].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn logged_in() -> Vec<u8> {
    [message(b'R', &0_u32.to_be_bytes()), message(b'S', b"server_version\018.0\0"), ready()].concat()
}

/// All that a server says until a stream begins.
fn streaming() -> Vec<u8> {
    let system = row(&["7000000000000000001", "1", "0/100", "d"]);
    [logged_in(), system, row(&["UTF8"]), row(&["60s"]), message(b'W', &[0, 0, 0])].concat()
}

/// Each piece as one message of the stream; the first byte of each says how it begins.
fn stream(data: &[u8]) -> Vec<u8> {
    let mut script = streaming();
    for piece in data.split(|byte| *byte == 0xfe) {
        let body = match piece.split_first() {
            Some((0, rest)) => [&[b'w'][..], &[0; 24], rest].concat(),
            Some((1, rest)) => [&[b'k'][..], rest].concat(),
            _ => piece.to_vec(),
        };
        script.extend(message(b'd', &body));
    }
    script
}

async fn sql(settings: &Settings) {
    if let Ok(mut session) = Session::open(settings).await {
        let query = async |client: &tokio_postgres::Client| client.simple_query("select 1").await.map(drop);
        drop(session.run(query).await);
    }
}

async fn replication(settings: &Settings) {
    let Ok(mut connection) = Connection::connect(settings, 1 << 16).await else { return };
    drop(connection.identify_system().await);
    drop(connection.show("server_encoding").await);
    drop(connection.timeline_history(2).await);
    drop(connection.start_replication("s", "p", Lsn::ZERO).await);
    while let Ok(found) = connection.next_frame() {
        match found {
            Some(frame) => drop(connection.server_error(&frame)),
            None if connection.fill().await.is_err() => return,
            None => {}
        }
    }
}

async fn source(settings: &Settings) {
    let Ok(mut source) = PostgresSource::start(settings, &Stream::new("s", "p")).await else { return };
    while source.receive().await.is_ok() {
        while let Ok(found) = source.take() {
            if found.is_none() {
                break;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let server = server();
    let script = match kind % 5 {
        0 | 1 => data.to_vec(),
        2 | 3 => [&logged_in(), data].concat(),
        _ => stream(data),
    };
    *server.script.lock().unwrap() = script;
    server.runtime.block_on(async {
        let settings = &server.settings;
        drop(match kind % 5 {
            0 | 2 => timeout(PATIENCE, sql(settings)).await,
            1 | 3 => timeout(PATIENCE, replication(settings)).await,
            _ => timeout(PATIENCE, source(settings)).await,
        });
    });
});

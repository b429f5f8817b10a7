//! Servers that are none, or not the one that is meant: they get no password, no memory, and no log-in without its proof.

#![expect(clippy::unwrap_used, reason = "clippy knows only functions with #[test] as tests")]

use std::io;

use forebay::failure::Failure;
use forebay::source::postgres::connection::Connection;
use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::error::Error;
use forebay::source::postgres::lsn::Lsn;
use forebay::source::postgres::session::Session;
use forebay::source::postgres::sql;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::hostile::{Hostile, Step, auth, message};

const PASSWORD: &str = "correct-horse-battery";
const MECHANISMS: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

/// Where a connection goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Replication,
    Sql,
}

const WAYS: [Way; 2] = [Way::Replication, Way::Sql];

async fn connect(way: Way, settings: &Settings) -> Result<(), Error> {
    match way {
        Way::Replication => Connection::connect(settings, 1 << 20).await.map(drop),
        Way::Sql => sql::connect(settings).await.map(drop),
    }
}

/// What the server plays, with what it got and what came of it.
async fn play(way: Way, tls: bool, query: &str, steps: &[Step]) -> (Vec<u8>, Result<(), Error>) {
    let server = Hostile::start(tls).await;
    let url = format!("postgres://forebay:{PASSWORD}@127.0.0.1:{}/lab?{query}", server.port());
    let settings = Settings::from_url(&url).unwrap();
    tokio::join!(server.serve(steps), connect(way, &settings))
}

fn shows_password(bytes: &[u8]) -> bool {
    bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes())
}

/// One SCRAM exchange, only its own messages within it, one `AuthenticationOk` at its end: on every connection. A server
/// that offers SCRAM with channel binding, and then asks for the password in clear text, does not get it.
#[tokio::test]
async fn messages_out_of_order_are_refused() {
    let sasl = || Step::Send(auth(10, MECHANISMS));
    let scripts: Vec<(&str, Vec<Step>)> = vec![
        ("clear text after SASL", vec![sasl(), Step::Read, Step::Send(auth(3, b"")), Step::Read]),
        ("md5 after SASL", vec![sasl(), Step::Read, Step::Send(auth(5, b"salt")), Step::Read]),
        ("SASL after SASL", vec![sasl(), Step::Read, Step::Send(auth(10, b"SCRAM-SHA-256\0\0")), Step::Read]),
        ("AuthenticationOk after SASL", vec![sasl(), Step::Read, Step::Send(auth(0, b""))]),
        ("SASLFinal after SASL", vec![sasl(), Step::Read, Step::Send(auth(12, b"v=AAAA"))]),
        ("SASLContinue first", vec![Step::Send(auth(11, b"r=a,s=AAAA,i=1")), Step::Read]),
        ("SASLFinal first", vec![Step::Send(auth(12, b"v=AAAA"))]),
        ("ReadyForQuery first", vec![Step::Send(message(b'Z', b"I"))]),
        ("a parameter first", vec![Step::Send(message(b'S', b"a\0b\0"))]),
        ("a notice first", vec![Step::Send(message(b'N', b"SWARNING\0C01000\0Mx\0\0"))]),
        ("rows first", vec![Step::Send(message(b'D', b"\0\0"))]),
        ("copied data first", vec![Step::Send(message(b'd', b"x"))]),
    ];
    for way in WAYS {
        for query in ["sslmode=require&channel_binding=require", "sslmode=require"] {
            for (what, steps) in &scripts {
                let (seen, outcome) = play(way, true, query, steps).await;
                let error = outcome.expect_err(what);
                assert!(!shows_password(&seen), "{way:?} {query} {what}");
                assert!(matches!(Failure::from(error), Failure::Stop(_)), "{way:?} {query} {what}");
            }
        }
    }
}

/// As above, in the other states: nothing is asked twice, and nothing after the log-in's end.
#[tokio::test]
async fn repeated_requests_are_refused() {
    let clear = || Step::Send(auth(3, b""));
    let okay = || Step::Send(auth(0, b""));
    let scripts: Vec<(&str, Vec<Step>)> = vec![
        ("clear text twice", vec![clear(), Step::Read, clear(), Step::Read]),
        ("SASL after clear text", vec![clear(), Step::Read, Step::Send(auth(10, MECHANISMS)), Step::Read]),
        ("AuthenticationOk twice", vec![okay(), okay()]),
        ("clear text after AuthenticationOk", vec![okay(), clear(), Step::Read]),
        ("rows before it is ready", vec![okay(), Step::Send(message(b'D', b"\0\0"))]),
    ];
    for way in WAYS {
        for (what, steps) in &scripts {
            let (_, outcome) = play(way, false, "sslmode=disable", steps).await;
            assert!(matches!(outcome, Err(Error::Protocol(_))), "{way:?} {what}: {outcome:?}");
        }
    }
}

/// The announced length is looked at before anything of it is kept in memory. The server's end sees that nobody reads on.
#[tokio::test]
async fn endless_messages_before_log_in_are_refused() {
    for way in WAYS {
        for tag in *b"RENSZdD" {
            let header = [&[tag][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
            let steps = [Step::Send(header), Step::SendForever];
            let (_, outcome) = play(way, false, "sslmode=disable&connect_timeout=3600", &steps).await;
            let refused = matches!(outcome, Err(Error::Protocol(_) | Error::NotPostgres { .. }));
            assert!(refused, "{way:?} {tag}: {outcome:?}");
        }
        for (tag, body) in [(b'S', &b"a\0b\0"[..]), (b'N', b"SNOTICE\0C00000\0Mx\0\0")] {
            let many = message(tag, body).repeat(100_000);
            let steps = [Step::Send(auth(0, b"")), Step::Send(many), Step::SendForever];
            let (_, outcome) = play(way, false, "sslmode=disable&connect_timeout=3600", &steps).await;
            assert!(matches!(outcome, Err(Error::Protocol(_))), "{way:?} {tag}: {outcome:?}");
        }
    }
}

/// After the log-in, too: one endless message, and an endless number of them.
#[tokio::test]
async fn endless_sql_answers_are_refused() {
    let admitted = [auth(0, b""), message(b'K', &[0; 8]), message(b'Z', b"I")].concat();
    let row = message(b'D', &[&b"\0\x01\0\0\xff\xfa"[..], &vec![b'x'; 0xfffa]].concat());
    let columns = message(b'T', b"\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\0\0\0\0\0\0");
    let rows = [columns, row.repeat(600)].concat();
    for answer in [[&b"D"[..], &0x7fff_ffff_u32.to_be_bytes()].concat(), rows] {
        let steps = [Step::Send(admitted.clone()), Step::Read, Step::Send(answer), Step::SendForever];
        let server = Hostile::start(false).await;
        let url = format!("postgres://forebay@127.0.0.1:{}/lab?sslmode=disable", server.port());
        let settings = Settings::from_url(&url).unwrap();
        let asking = async {
            let mut session = Session::open(&settings).await?;
            session.run(async |client| client.simple_query("SELECT 1").await).await
        };
        let (_, outcome) = tokio::join!(server.serve(&steps), asking);
        let error = outcome.err().unwrap();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
    }
}

/// The client that speaks SQL is given what our own log-in received, and nothing of the log-in itself.
#[tokio::test]
async fn sql_client_continues_after_our_log_in() {
    let admitted = [
        auth(0, b""),
        message(b'S', b"server_version\x0015.1\0"),
        message(b'K', &[7; 8]),
        message(b'Z', b"I"),
    ];
    let answer = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
    let steps = [Step::Send(admitted.concat()), Step::Read, Step::Send(answer)];
    let server = Hostile::start(false).await;
    let url = format!("postgres://forebay:{PASSWORD}@127.0.0.1:{}/lab?sslmode=disable", server.port());
    let settings = Settings::from_url(&url).unwrap();
    let asking = async {
        let mut session = Session::open(&settings).await.unwrap();
        session.run(async |client| client.simple_query("SELECT").await).await.unwrap();
    };
    let (seen, ()) = tokio::join!(server.serve(&steps), asking);
    assert!(!shows_password(&seen));
    let startups = seen.windows(8).filter(|window| *window == b"database").count();
    assert_eq!(startups, 1, "one start-up message: {}", String::from_utf8_lossy(&seen));
}

/// A listener of another protocol.
#[tokio::test]
async fn http_server_is_no_database() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = async {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 8];
        stream.read_exact(&mut request).await?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        io::Result::Ok(stream)
    };
    let settings = Settings::from_url(&format!("postgres://u@127.0.0.1:{port}/d")).unwrap();
    let (served, outcome) = tokio::join!(answer, connect(Way::Sql, &settings));
    drop(served.unwrap());
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port} does not speak PostgreSQL's protocol")), "{error}");
}

/// What is wrong with a certificate, and what to do, in words.
#[tokio::test]
async fn certificate_problems_are_named() {
    let (server, other) = (Hostile::start(true).await, Hostile::start(true).await);
    let self_signed = Hostile::start_self_signed().await;
    let (ours, theirs) = (server.tls(), other.tls());
    let own = format!("sslmode=verify-full&sslrootcert={}", ours.ca.display());
    let foreign = format!("sslmode=verify-full&sslrootcert={}", theirs.ca.display());
    let mismatch = format!("{own}&sslcert={}&sslkey={}", theirs.certificate.display(), ours.key.display());
    let cases: [(&Hostile, &str, &str, &[&str]); 5] = [
        (&server, "127.0.0.1", &foreign, &["not trusted", "sslrootcert"]),
        (&self_signed, "127.0.0.1", &foreign, &["self-signed", "sslrootcert"]),
        (&server, "127.0.0.2", &own, &["for another host", "sslmode=verify-ca"]),
        (&server, "127.0.0.1", &mismatch, &["sslkey", "does not belong to sslcert"]),
        (&server, "127.0.0.1", "sslmode=verify-full", &["not trusted", "sslrootcert"]),
    ];
    for (server, host, query, texts) in cases {
        let url = format!("postgres://forebay:{PASSWORD}@{host}:{}/lab?{query}", server.port());
        let settings = Settings::from_url(&url).unwrap();
        let (seen, outcome) = tokio::join!(server.serve(&[]), connect(Way::Sql, &settings));
        let failure = Failure::from(outcome.unwrap_err());
        assert!(matches!(failure, Failure::Stop(_)), "{query}: {failure}");
        let said = failure.to_string();
        assert!(texts.iter().all(|text| said.contains(text)), "{query}: {said}");
        assert!(!shows_password(&seen));
    }
}

/// A server that fails at a row sends its error and closes the connection. A status message that we send at this moment
/// cannot be written: the error that has arrived decides, not the broken connection, and it quotes no row.
#[tokio::test]
async fn error_before_a_failed_write_decides() {
    let admitted = [auth(0, b""), message(b'K', &[0; 8]), message(b'Z', b"I")].concat();
    let fields = b"SERROR\0VERROR\0C22023\0Mtime zone \"secret\" not recognized\0\0";
    let answer = [message(b'd', b"a row").repeat(1000), message(b'E', fields)].concat();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@127.0.0.1:{}/d?sslmode=disable", listener.local_addr().unwrap().port());
    let settings = Settings::from_url(&url).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await?;
        let length = stream.read_u32().await?;
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await?;
        stream.write_all(&admitted).await?;
        // Closed with a status unread: the other end cannot write any more.
        stream.peek(&mut [0]).await?;
        stream.write_all(&answer).await
    };
    let connect = async {
        let mut connection = Connection::connect(&settings, 1 << 20).await.unwrap();
        connection.queue_status(Lsn::ZERO, true);
        connection.send().await.unwrap();
        connection
    };
    let (served, mut connection) = tokio::join!(serve, connect);
    served.unwrap();
    connection.queue_status(Lsn::ZERO, true);
    let error = connection.send().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("22023") && !text.contains("secret"), "{text}");
    assert!(matches!(Failure::from(error), Failure::Stop(_)), "{text}");
    assert!(connection.fill().await.is_err(), "nothing is delivered after it");
}

/// Whatever answers a command of the replication connection: a failing output function, an event trigger.
#[tokio::test]
async fn refused_replication_command_quotes_no_row() {
    let fields = b"SERROR\0VERROR\0C22P02\0Minvalid input syntax: \"secret\"\0Dsecret\0\0";
    let admitted = [auth(0, b""), message(b'K', &[0; 8]), message(b'Z', b"I")].concat();
    let refusal = [message(b'E', fields), message(b'Z', b"I")].concat();
    let steps =
        [Step::Send(admitted), Step::Read, Step::Send(refusal.clone()), Step::Read, Step::Send(refusal)];
    let server = Hostile::start(false).await;
    let url = format!("postgres://u@127.0.0.1:{}/d?sslmode=disable", server.port());
    let settings = Settings::from_url(&url).unwrap();
    let commands = async {
        let mut connection = Connection::connect(&settings, 1 << 20).await.unwrap();
        let queried = connection.query("IDENTIFY_SYSTEM").await.unwrap_err();
        [queried, connection.start_replication("s", "p", Lsn::ZERO).await.unwrap_err()]
    };
    let (_, errors) = tokio::join!(server.serve(&steps), commands);
    for text in errors.map(|error| error.to_string()) {
        assert!(text.contains("22P02") && !text.contains("secret"), "{text}");
    }
}

//! The source against real servers: Debian's 15, and 14, 16, 17, 18 where they were unpacked into `FOREBAY_PG_CACHE`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "clippy knows only functions with #[test] as tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay::change::{Delivery, OldRow, Operation, Tuple, Value};
use forebay::config::TableName;
use forebay::failure::Failure;
use forebay::position::CommitSeq;
use forebay::source::Source as _;
use forebay::source::postgres::connection::Connection;
use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::publication;
use forebay::source::postgres::session::Session;
use forebay::source::postgres::sql;
use forebay::source::postgres::{PostgresSource, Stream, slot};

/// A server in a temporary directory. It listens on a socket there and on a port of 127.0.0.1, with TLS.
struct Server {
    bin: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
}

const HBA: &str = "local all all trust
hostnossl all nossl 127.0.0.1/32 trust
hostssl all onlyssl 127.0.0.1/32 scram-sha-256
host all scram 127.0.0.1/32 scram-sha-256
host all md5 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
";

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn postgres_user(program: &Path) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program).env("LC_ALL", "C.UTF-8").current_dir("/tmp");
    command
}

impl Server {
    fn start(bin: PathBuf) -> Self {
        Self::start_with(bin, "1min")
    }

    /// `sender_timeout` is how long it waits for a client that says nothing.
    fn start_with(bin: PathBuf, sender_timeout: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("fb").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        let script = format!(
            "set -e; cd {dir}
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
             openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
             printf 'subjectAltName=DNS:localhost' > ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha384 -extfile ext -out server.crt
             chmod 600 server.key; chown -R postgres .; chmod 755 .",
            dir = directory.path().display()
        );
        run(Command::new("sh").args(["-c", &script]));
        let init = ["-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8", "-N", "-D"];
        run(postgres_user(&bin.join("initdb")).args(init).arg(at("data")));
        let port = crate::support::port::free();
        let settings = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{dir}'\nwal_level=logical\nfsync=off\n\
             ssl=on\nssl_cert_file='{dir}/server.crt'\nssl_key_file='{dir}/server.key'\nwal_sender_timeout={sender_timeout}\n\
             password_encryption='scram-sha-256'\nmax_wal_senders=10\nmax_replication_slots=10\n",
            dir = directory.path().display()
        );
        std::fs::write(at("data/postgresql.conf"), settings).unwrap();
        std::fs::write(at("data/pg_hba.conf"), HBA).unwrap();
        let server = Self { bin, directory, port };
        server.control("start");
        server
    }

    fn control(&self, what: &str) {
        let data = self.directory.path().join("data");
        let log = self.directory.path().join("log");
        run(postgres_user(&self.bin.join("pg_ctl"))
            .args(["-w", "-m", "immediate", what, "-D"])
            .arg(data)
            .arg("-l")
            .arg(log));
    }

    fn settings(&self) -> Settings {
        self.url(&format!(
            "postgres://postgres@/postgres?host={}&port={}",
            self.directory.path().display(),
            self.port
        ))
    }

    fn url(&self, url: &str) -> Settings {
        let dir = self.directory.path().display().to_string();
        let settings: Settings =
            url.replace("PORT", &self.port.to_string()).replace("DIR", &dir).parse().unwrap();
        settings.with_passfile(None).unwrap()
    }

    async fn sql(&self, statements: &str) {
        let mut session = Session::open(&self.settings()).await.unwrap();
        session.run(async |client| client.batch_execute(statements).await).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control("stop");
    }
}

/// Programs of this major version, if they are there.
fn programs(major: u32) -> Option<PathBuf> {
    let cache = std::env::var_os("FOREBAY_PG_CACHE").map_or_else(|| "/work/cache/pg".into(), PathBuf::from);
    let places =
        [cache.join(major.to_string()).join("bin"), format!("/usr/lib/postgresql/{major}/bin").into()];
    let found = places.into_iter().find(|bin| bin.join("postgres").exists());
    if found.is_none() {
        eprintln!("skipped: no PostgreSQL {major} here");
    }
    found
}

fn text(tuple: Tuple<'_>) -> String {
    let values = (0..tuple.len()).map(|column| match tuple.get(column) {
        Value::Null => "-".to_owned(),
        Value::Unavailable => "?".to_owned(),
        Value::Text(text) if text.len() > 20 => format!("<{}>", text.len()),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
    });
    values.collect::<Vec<_>>().join(",")
}

fn describe(delivery: &Delivery<'_>) -> Option<String> {
    Some(match delivery {
        Delivery::Begin(_) => "begin".to_owned(),
        Delivery::Backfill => "backfill".to_owned(),
        Delivery::Commit { .. } => "commit".to_owned(),
        Delivery::Progress { .. } => return None,
        Delivery::Message(message) => format!("{} message", message.place.index),
        Delivery::Unreadable(unreadable) => {
            format!("{} unreadable {}", unreadable.place.index, unreadable.table.unwrap_or_default())
        }
        Delivery::Change(change) => {
            let old = |old: &OldRow<'_>| match old {
                OldRow::Key(key) => format!("key({})", text(*key)),
                OldRow::Full(row) => format!("old({})", text(*row)),
            };
            let what = match &change.operation {
                Operation::Insert { new } => format!("insert {}", text(*new)),
                Operation::Update { old: None, new } => format!("update {}", text(*new)),
                Operation::Update { old: Some(row), new } => format!("update {} {}", old(row), text(*new)),
                Operation::Delete { old: row } => format!("delete {}", old(row)),
                Operation::Truncate { cascade, .. } => format!("truncate cascade={cascade}"),
            };
            format!("{}/{} {} {what}", change.place.index, change.place.nth, change.relation.table)
        }
    })
}

/// Reads until that many transactions have ended. Empty ones, which PostgreSQL 14 sends, do not count.
async fn read(source: &mut PostgresSource, transactions: usize) -> Result<Vec<String>, Failure> {
    let (mut seen, mut ended) = (Vec::<String>::new(), 0);
    let reading = async {
        while ended < transactions {
            source.receive().await?;
            while let Some(delivery) = source.take()? {
                if matches!(delivery, Delivery::Commit { .. }) {
                    if seen.last().is_some_and(|last| last == "begin") {
                        seen.pop();
                        continue;
                    }
                    ended += 1;
                }
                seen.extend(describe(&delivery));
            }
        }
        Ok::<(), Failure>(())
    };
    let outcome = tokio::time::timeout(Duration::from_mins(1), reading).await;
    outcome.unwrap_or_else(|_| panic!("only {seen:?}"))?;
    Ok(seen)
}

async fn publish(server: &Server, tables: &str) -> PostgresSource {
    server
        .sql(&format!("CREATE PUBLICATION \"Pub's\" {tables} WITH (publish_via_partition_root = true)"))
        .await;
    let mut session = Session::open(&server.settings()).await.unwrap();
    session.run(async |client| slot::create_slot(client, "lab").await).await.unwrap();
    PostgresSource::start(&server.settings(), &Stream::new("lab", "Pub's")).await.unwrap()
}

const TABLES: &str = "
    CREATE SCHEMA lab;
    CREATE TABLE lab.plates (id int PRIMARY KEY, note text, big text);
    ALTER TABLE lab.plates ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE lab.full_row (id int, big text); ALTER TABLE lab.full_row REPLICA IDENTITY FULL;
    ALTER TABLE lab.full_row ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE lab.by_index (a int NOT NULL, b text); CREATE UNIQUE INDEX i ON lab.by_index (a);
    ALTER TABLE lab.by_index REPLICA IDENTITY USING INDEX i;
    CREATE TABLE lab.part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE lab.part_1 PARTITION OF lab.part FOR VALUES FROM (0) TO (100);
    CREATE TABLE lab.copied (id int PRIMARY KEY);
    CREATE TABLE lab.log (line text);";

/// One transaction each.
const WORK: [&str; 8] = [
    "INSERT INTO lab.plates VALUES (1, 'a', repeat('x', 9000)); UPDATE lab.plates SET note = NULL;
     UPDATE lab.plates SET id = 2; DELETE FROM lab.plates",
    "INSERT INTO lab.full_row VALUES (1, repeat('y', 9000)); UPDATE lab.full_row SET id = 2; DELETE FROM lab.full_row",
    "INSERT INTO lab.by_index VALUES (1, 'p'); UPDATE lab.by_index SET b = 'q'; UPDATE lab.by_index SET a = 2;
     DELETE FROM lab.by_index",
    "INSERT INTO lab.part VALUES (7, 'seven')",
    "COPY lab.copied FROM PROGRAM 'seq 3'",
    "SELECT pg_logical_emit_message(true, 'p', 'in'); SELECT pg_logical_emit_message(false, 'p', 'at once');
     INSERT INTO lab.log VALUES ('three')",
    "INSERT INTO lab.log VALUES ('four'); ALTER TABLE lab.log ADD n int; INSERT INTO lab.log VALUES ('five', 5)",
    "TRUNCATE lab.plates, lab.by_index CASCADE",
];

const EXPECTED: &str = "begin
0/0 plates insert 1,a,<9000>
1/0 plates update 1,-,?
2/0 plates update key(1,-,-) 2,-,?
3/0 plates delete key(2,-,-)
commit
begin
0/0 full_row insert 1,<9000>
1/0 full_row update old(1,<9000>) 2,?
2/0 full_row delete old(2,<9000>)
commit
begin
0/0 by_index insert 1,p
1/0 by_index update 1,q
2/0 by_index update key(1,-) 2,q
3/0 by_index delete key(2,-)
commit
begin
0/0 part insert 7,seven
commit
begin
0/0 copied insert 1
1/1 copied insert 2
2/2 copied insert 3
commit
begin
0 message
1/0 log insert three
commit
begin
0/0 log insert four
1/0 log insert five,5
commit
begin
0/0 plates truncate cascade=true
1/1 by_index truncate cascade=true
commit";

#[tokio::test]
async fn every_operation_is_decoded_on_every_version() {
    for major in [14, 15, 16, 17, 18] {
        let Some(bin) = programs(major) else { continue };
        let server = Server::start(bin);
        server.sql(TABLES).await;
        let mut source = publish(
            &server,
            "FOR TABLE lab.plates, lab.full_row, lab.by_index, lab.part, lab.copied, lab.log",
        )
        .await;
        server.sql("ALTER PUBLICATION \"Pub's\" SET (publish = 'insert, update, delete, truncate')").await;
        for statements in WORK {
            server.sql(statements).await;
        }
        let seen = read(&mut source, 8).await.unwrap();
        assert_eq!(seen.join("\n"), EXPECTED, "PostgreSQL {major}");
        source.close().await.unwrap();
        look_at_the_catalogue(&server, major).await;
    }
}

async fn look_at_the_catalogue(server: &Server, major: u32) {
    let mut session = Session::open(&server.settings()).await.unwrap();
    session
        .run(async |client| -> Result<(), forebay::source::postgres::error::Error> {
            let facts = slot::server_facts(client).await?;
            assert_eq!(
                (facts.version / 10_000, facts.control.unwrap().timeline, facts.in_recovery),
                (major, 1, false)
            );
            assert!(facts.may_replicate && facts.is_superuser && facts.wal_end > CommitSeq::ZERO);
            let slot = slot::slot_facts(client, "lab").await?.unwrap();
            assert_eq!(slot.blockers("lab", "postgres", false), []);
            assert!(slot.confirmed_flush.is_some());
            assert_eq!(slot::slot_facts(client, "none").await?, None);
            let published = publication::publication_facts(client, "Pub's").await?.unwrap();
            assert_eq!(published.tables.len(), 6);
            assert!(published.via_root && !published.all_tables);
            let broken = publication::identity::broken_by(client, "Pub's").await?;
            assert_eq!(broken.len(), 1, "{broken:?}");
            let command = broken[0].command.as_ref().unwrap();
            assert_eq!(command, "ALTER TABLE \"lab\".\"log\" REPLICA IDENTITY FULL;");
            client.batch_execute(command).await?;
            assert_eq!(publication::identity::broken_by(client, "Pub's").await?, []);
            let tables = publication::identity::candidate_tables(client).await?;
            let names: Vec<_> = tables.iter().map(|TableName { table, .. }| table.as_str()).collect();
            assert_eq!(names, ["by_index", "copied", "full_row", "log", "part", "plates"]);
            publication::create_publication(client, "od\"d", &tables).await.unwrap();
            assert!(publication::publication_facts(client, "od\"d").await?.is_some());
            slot::drop_slot(client, "lab").await
        })
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL {major}: {error}"));
}

#[tokio::test]
async fn login_follows_url() {
    let Some(bin) = programs(15) else { return };
    let server = Server::start(bin);
    server
        .sql(
            "CREATE ROLE scram LOGIN REPLICATION PASSWORD 'p@ss wörd'; CREATE ROLE onlyssl LOGIN REPLICATION PASSWORD 'x';
             CREATE ROLE nossl LOGIN REPLICATION; CREATE ROLE clear LOGIN REPLICATION PASSWORD 'x';
             SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN REPLICATION PASSWORD 'x';
             ALTER ROLE scram SET datestyle = 'German'; ALTER ROLE scram SET statement_timeout = '1s'",
        )
        .await;
    let passfile = server.directory.path().join("pgpass");
    std::fs::write(&passfile, "*:*:*:scram:p@ss wörd\n").unwrap();
    run(Command::new("chmod").arg("600").arg(&passfile));
    let password = "p%40ss%20w%C3%B6rd";
    let cases = [
        (format!("scram:{password}@127.0.0.1"), "sslmode=disable", ""),
        (format!("scram:{password}@127.0.0.1"), "sslmode=require&channel_binding=require", ""),
        (format!("scram:{password}@127.0.0.1"), "sslmode=require&channel_binding=disable", ""),
        (format!("scram:{password}@127.0.0.1"), "sslmode=disable&channel_binding=require", "needs TLS"),
        ("scram@127.0.0.1".into(), "passfile=DIR/pgpass", ""),
        ("scram@127.0.0.1".into(), "", "none is configured"),
        ("scram:wrong@127.0.0.1".into(), "", "28P01"),
        ("md5:x@127.0.0.1".into(), "", ""),
        ("md5:y@127.0.0.1".into(), "", "28P01"),
        ("md5:x@127.0.0.1".into(), "sslmode=require&channel_binding=require", "SCRAM-SHA-256-PLUS"),
        ("clear:x@127.0.0.1".into(), "sslmode=disable", ""),
        ("nossl@127.0.0.1".into(), "sslmode=prefer", ""),
        ("nossl@127.0.0.1".into(), "sslmode=require", "28000"),
        ("onlyssl:x@127.0.0.1".into(), "sslmode=allow", ""),
        ("onlyssl:x@127.0.0.1".into(), "sslmode=disable", "28000"),
        ("onlyssl:x@localhost".into(), "sslmode=verify-full&sslrootcert=DIR/ca.pem", ""),
        ("onlyssl:x@127.0.0.1".into(), "sslmode=verify-full&sslrootcert=DIR/ca.pem", "verify-ca"),
        ("onlyssl:x@127.0.0.1".into(), "sslmode=verify-ca&sslrootcert=DIR/ca.pem", ""),
        ("onlyssl:x@localhost".into(), "sslmode=verify-full", "sslrootcert"),
        ("onlyssl:x@localhost".into(), "sslmode=require&sslrootcert=DIR/ca.pem", ""),
    ];
    for (who, how, refused) in cases {
        let settings = server.url(&format!("postgres://{who}:PORT/postgres?{how}"));
        match (Connection::connect(&settings, 1 << 20).await, refused) {
            (Ok(_), "") => {
                drop(sql::connect(&settings).await.unwrap_or_else(|error| panic!("{who} {how}: {error}")));
            }
            (Ok(_), refused) => panic!("{who} {how}: let in, but {refused}"),
            (Err(error), "") => panic!("{who} {how}: {error}"),
            (Err(error), refused) => {
                let failure = Failure::from(error);
                assert!(failure.to_string().contains(refused), "{who} {how}: {failure}");
                assert!(matches!(failure, Failure::Stop(_)), "{who} {how}");
                assert!(sql::connect(&settings).await.is_err(), "{who} {how}");
            }
        }
    }
    the_session_is_as_we_need_it(
        &server.url(&format!("postgres://scram:{password}@127.0.0.1:PORT/postgres")),
    )
    .await;
}

async fn the_session_is_as_we_need_it(settings: &Settings) {
    let mut connection = Connection::connect(settings, 1 << 20).await.unwrap();
    for (name, value) in [
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("client_min_messages", "warning"),
        ("lc_monetary", "C"),
        ("search_path", "pg_catalog"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
    ] {
        assert_eq!(
            connection.show(&name.to_lowercase()).await.unwrap().replace("DMY", "MDY"),
            value,
            "{name}"
        );
    }
}

#[tokio::test]
async fn oversize_row_is_unreadable_and_stream_continues() {
    let Some(bin) = programs(15) else { return };
    let server = Server::start(bin);
    server.sql(TABLES).await;
    drop(publish(&server, "FOR TABLE lab.plates").await);
    let stream = Stream { max_row_size: 200_000, ..Stream::new("lab", "Pub's") };
    let mut source = loop {
        // The server notices only at its next write that the first reader has gone.
        match PostgresSource::start(&server.settings(), &stream).await {
            Ok(source) => break source,
            Err(Failure::Retry(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    server.sql("INSERT INTO lab.plates VALUES (1, 'a', repeat('x', 5000000)), (2, 'b', repeat('x', 190000)), (3, 'c', '')").await;
    let seen = read(&mut source, 1).await.unwrap();
    let expected = [
        "begin",
        "0 unreadable lab.plates",
        "1/0 plates insert 2,b,<190000>",
        "2/0 plates insert 3,c,",
        "commit",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn keepalive_confirms_over_unpublished_traffic() {
    let Some(bin) = programs(15) else { return };
    let server = Server::start_with(bin, "5s");
    server.sql(TABLES).await;
    let mut source = publish(&server, "FOR TABLE lab.plates").await;
    server.sql("INSERT INTO lab.log SELECT 'x' FROM generate_series(1, 1000)").await;
    let mut session = Session::open(&server.settings()).await.unwrap();
    let end = session.run(async |client| slot::server_facts(client).await).await.unwrap().wal_end;
    let waiting = async {
        // Longer than the server waits for a sign of life, so that its requests are answered too.
        while source.delivered() < end {
            source.receive().await.unwrap();
            while source.take().unwrap().is_some() {}
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    let more = async {
        loop {
            source.receive().await.unwrap();
            while source.take().unwrap().is_some() {}
        }
    };
    let outlived = tokio::time::timeout(Duration::from_secs(8), more).await;
    assert!(outlived.is_err(), "the stream lives on beyond wal_sender_timeout");
    source.close().await.unwrap();
    drop(source);
    let mut connection = Connection::connect(&server.settings(), 1 << 20).await.unwrap();
    connection.start_replication("lab", "Pub's", CommitSeq::ZERO).await.unwrap();
    let mut confirmed = async || {
        let facts = session.run(async |client| slot::slot_facts(client, "lab").await).await.unwrap().unwrap();
        facts.confirmed_flush.unwrap()
    };
    assert!(confirmed().await < end, "nothing was confirmed, so nothing may be forgotten");
    connection.queue_status(end, false);
    connection.send().await.unwrap();
    let all_confirmed = async {
        while confirmed().await < end {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_confirmed).await.unwrap();
}

#[tokio::test]
async fn dropped_publication_stops_stream() {
    for major in [15, 18] {
        let Some(bin) = programs(major) else { continue };
        let server = Server::start(bin);
        server.sql(TABLES).await;
        let mut source = publish(&server, "FOR TABLE lab.plates").await;
        server.sql("INSERT INTO lab.plates VALUES (1)").await;
        read(&mut source, 1).await.unwrap();
        server.sql("DROP PUBLICATION \"Pub's\"").await;
        server.sql("INSERT INTO lab.plates VALUES (2)").await;
        let error = read(&mut source, 1).await.unwrap_err();
        assert!(matches!(error, Failure::Stop(_)), "PostgreSQL {major}: {error}");
        assert!(error.to_string().contains("Pub's"), "PostgreSQL {major}: {error}");
    }
}

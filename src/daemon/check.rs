//! Examines both ends and the buffer directory as a start would, for `forebay check`. Creates and changes
//! nothing. While a daemon runs, its [`watchdog`](crate::daemon::watchdog) logs the same findings about the
//! source.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::buffer::disk::{Directory, DirectoryLock, DirectoryRoom};
use crate::buffer::stat;
use crate::config::units::ByteAmount;
use crate::config::{Config, TableName};
use crate::daemon::polled::{PolledDatabase, describe};
use crate::daemon::start::Database;
use crate::daemon::{audit, contract, polling, recover};
use crate::diagnosis::{Diagnosis, Severity};
use crate::failure::{Failure, Problem};
use crate::pipeline::start::directory;
use crate::sink::kinesis::check::StreamDiagnoses;
use crate::sink::kinesis::{self, KinesisDestination};
use crate::source::postgres::admit::Wanted;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::publication::{self, PublicationFacts};
use crate::source::postgres::session::Session;
use crate::source::postgres::setup::{self, judge};
use crate::source::postgres::tables::TableHistory;
use crate::source::postgres::{create, monitor};
use crate::translate::{TranslateSettings, Translator};

/// How long the server's rate of WAL is measured. Its own statistics give the average of a longer time.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// All findings, in the order of the checks at a start.
pub async fn check(config: &Config) -> Vec<Diagnosis> {
    let (mut found, directory) = room(config);
    let (source, stream) = tokio::join!(source(config, directory.as_ref()), stream(config));
    found.extend(source.found);
    found.extend(stream.found);
    found.extend(source.wal_rate.zip(stream.capacity).and_then(|(rate, capacity)| outpaced(rate, capacity)));
    found
}

/// A warning if the database writes more than the stream accepts.
fn outpaced(wal_rate: u64, capacity: u64) -> Option<Diagnosis> {
    let fact = format!(
        "the server writes {} of WAL a second, its shards accept {}; what published tables have of it may not fit",
        ByteAmount(wal_rate),
        ByteAmount(capacity)
    );
    (wal_rate > capacity).then(|| {
        Diagnosis::warning("stream", fact)
            .with_hint("Add shards (aws kinesis update-shard-count), or use on-demand mode.")
    })
}

async fn stream(config: &Config) -> StreamDiagnoses {
    match KinesisDestination::new(&kinesis::Settings::from(&config.kinesis)).await {
        Ok(destination) => destination.diagnose().await,
        Err(problem) => {
            let found = Diagnosis::of_problem("stream", &problem);
            StreamDiagnoses { found: vec![found], capacity: None }
        }
    }
}

/// Findings about the buffer directory, and the directory itself if it exists.
fn room(config: &Config) -> (Vec<Diagnosis>, Option<Directory>) {
    let path = config.buffer.dir.display();
    let subject = || format!("directory {path}");
    let room = match DirectoryRoom::look(&config.buffer.dir) {
        Ok(room) => room,
        Err(error) => return (vec![Diagnosis::of_problem(subject(), &Problem::of(&error))], None),
    };
    let mut found = vec![if room.writable {
        let fact = if room.directory.is_some() {
            "can be written"
        } else {
            "does not exist; the first run creates it"
        };
        Diagnosis::ok(subject(), fact)
    } else {
        let existing = room.existing.display();
        Diagnosis::blocker(subject(), format!("this user may not write to {existing}"))
            .with_hint("Run this as the user of the daemon. If that was the case:")
            .with_command(format!("sudo install -d -m 700 -o \"$(id -un)\" {path}"))
    }];
    if let (Some(kind), None) = (room.volatile, config.buffer.confirm_after_written) {
        let fact = format!(
            "it is on {kind}, which is lost with the machine or container, so confirm_after defaults to \"never\": a stream outage \
             retains WAL in PostgreSQL"
        );
        found.push(
            Diagnosis::warning(subject(), fact)
                .with_hint("Put buffer.dir on a disk that outlives the process."),
        );
    }
    let used = room.directory.as_ref().and_then(|found| stat::stat(found).ok()).map_or(0, |stat| stat.bytes);
    let (max, available) = (config.buffer.max_size, room.free.saturating_add(used));
    let fact =
        format!("{} are free for the log; buffer.max_size is {}", ByteAmount(available), ByteAmount(max));
    found.push(if available >= max {
        Diagnosis::ok(subject(), fact)
    } else {
        Diagnosis::warning(subject(), fact).with_hint(
            "Free space, or lower buffer.max_size: a full disk pauses the source, as a full log does.",
        )
    });
    (found, room.directory)
}

/// Findings about the source, and its rate of WAL in bytes per second if it could be measured.
struct SourceDiagnoses {
    found: Vec<Diagnosis>,
    wal_rate: Option<u64>,
}

async fn source(config: &Config, directory: Option<&Directory>) -> SourceDiagnoses {
    let mut found = Vec::new();
    let wal_rate = match look(config, directory, &mut found).await {
        Ok(rate) => rate,
        Err((subject, failure)) => {
            found.push(Diagnosis::of_problem(subject, failure.problem()));
            None
        }
    };
    SourceDiagnoses { found, wal_rate }
}

/// An error, with its subject.
type SubjectFailure = (&'static str, Failure);

async fn look(
    config: &Config,
    directory: Option<&Directory>,
    found: &mut Vec<Diagnosis>,
) -> Result<Option<u64>, SubjectFailure> {
    let of_source = |failure: Failure| ("source", failure);
    let database = Database::new(config).map_err(of_source)?;
    let Database { settings, wanted, source, .. } = &database;
    let mut session = Session::open(settings).await.map_err(|error| ("source", error.into()))?;
    if let Some(polled) = &database.polled {
        return look_at_polled(config, polled, &mut session, directory, found).await.map(|()| None);
    }
    let began = Instant::now();
    let seen = inspect::glance(&mut session, wanted).await.map_err(of_source)?;
    let blockers = seen.start_blockers(wanted);
    let may_stream = blockers.is_empty();
    found.extend(blockers);
    let setup = session.look(async |client| setup::read(client, &wanted.publication).await).await;
    found.extend(
        create::check_failover(source, &seen.facts)
            .err()
            .map(|failure| Diagnosis::of_problem("source.failover", failure.problem())),
    );
    if may_stream
        && let Err((subject, failure)) = start(config, &database, &mut session, directory, found).await
    {
        found.push(Diagnosis::of_problem(subject, failure.problem()));
    }
    let setup = setup.map_err(of_source)?;
    sleep_until(began + MEASURED_FOR).await;
    let later = inspect::glance(&mut session, wanted).await.map_err(of_source)?;
    let rate = present_rate(&seen, &later, began.elapsed());
    found.extend(judge::judge(&seen, &setup, source, rate.max(setup.wal_rate)));
    Ok(Some(rate))
}

/// Checks a polled database: server, tables, directory and rules.
async fn look_at_polled(
    config: &Config,
    database: &PolledDatabase,
    session: &mut Session,
    directory: Option<&Directory>,
    found: &mut Vec<Diagnosis>,
) -> Result<(), SubjectFailure> {
    let described = describe(session, database, &|_| {}).await.map_err(|error| ("source", error.into()))?;
    described.server.check().map_err(|refusal| ("server", refusal.into()))?;
    let is_fit = described.found.is_empty();
    found.extend(described.found.iter().cloned());
    let tables = &described.tables;
    found.extend(tables.iter().map(|table| {
        let (kind, column) = (table.cursor.kind.name(), table.cursor_column());
        let fact = format!("can be polled by its {kind} cursor {column}: {}", table.cursor.reason);
        Diagnosis::ok(format!("table {}", table.name), fact)
    }));
    found.extend(tables.iter().filter(|table| table.cursor.reads_all()).map(|table| {
        let fact = "the role may not read the sequence of its cursor, so each poll reads the whole table";
        Diagnosis::warning(format!("table {}", table.name), fact)
            .with_hint("Grant SELECT on the sequence to the role.")
    }));
    let fact = "deletes and TRUNCATE are not seen, nor the versions of a row between two polls";
    found.push(Diagnosis::ok("source.mode", fact));
    let decided = polling::foresee(config, database, directory, &described.server);
    found.push(decision(directory, decided));
    if is_fit {
        let translator = translator(config)?;
        let history = history(config, directory, &database.settings.database, &described.server.system_id);
        let checked = polling::check(session, &translator, &described, &history).await;
        checked.map_err(|failure| ("rules", failure))?;
        found.push(Diagnosis::ok("rules", FIT));
    }
    Ok(())
}

/// The history of the tables, and of columns with personal data, from the directory if there is one.
fn history(config: &Config, directory: Option<&Directory>, database: &str, system_id: &str) -> TableHistory {
    match directory {
        Some(directory) => TableHistory::open(directory, (database, 0), &config.pii).copy_for(system_id),
        None => TableHistory::empty(&config.pii),
    }
}

/// Current rate of WAL in bytes per second.
fn present_rate(before: &Seen, after: &Seen, elapsed: Duration) -> u64 {
    let written = after.facts.wal_end.distance_from(before.facts.wal_end);
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    written.saturating_mul(1_000) / millis
}

/// Everything else that a start checks: the replication connection, the publication, the rules, the history.
async fn start(
    config: &Config,
    database: &Database,
    session: &mut Session,
    directory: Option<&Directory>,
    found: &mut Vec<Diagnosis>,
) -> Result<(), SubjectFailure> {
    let Database { settings, wanted, source, .. } = database;
    let seen = inspect::look(session, settings, wanted)
        .await
        .map_err(|failure| ("replication connection", failure))?;
    found.push(Diagnosis::ok("replication connection", "can be opened"));
    let planned = match (&seen.publication, &source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session
            .look(publication::identity::candidate_tables)
            .await
            .map_err(|failure| ("publication", failure))?,
    };
    found.extend(seen.publication.iter().flat_map(|facts| omissions(facts, source.tables.as_deref())));
    if seen.publication.is_none() {
        let obstacles =
            create::obstacles(source, session, &planned).await.map_err(|failure| ("publication", failure))?;
        if obstacles.is_empty() {
            let fact = format!("does not exist; the first run creates it for {} tables", planned.len());
            found.push(Diagnosis::ok(format!("publication \"{}\"", source.publication), fact));
        }
        found.extend(obstacles);
    }
    let history = history(config, directory, &settings.database, &seen.server.system_id);
    let published = contract::Published {
        name: &wanted.publication,
        facts: seen.publication.as_ref(),
        planned: &planned,
        polled: None,
        history,
    };
    let translator = translator(config)?;
    contract::check(session, &translator, &published).await.map_err(|failure| ("rules", failure))?;
    found.push(Diagnosis::ok("rules", FIT));
    found.push(decision(directory, decide(database, directory, &seen)));
    Ok(())
}

/// The finding for rules that a start would accept.
const FIT: &str = "rules, selectors and contracts fit the tables";

fn translator(config: &Config) -> Result<Translator, SubjectFailure> {
    let settings = TranslateSettings::load(config).map_err(|error| ("rules", Failure::stop(error)))?;
    Ok(Translator::new(&config.source_urn(), 0, settings))
}

/// What an existing publication leaves out. While a daemon runs, its monitor reports the same.
fn omissions(facts: &PublicationFacts, configured: Option<&[TableName]>) -> Vec<Diagnosis> {
    let name = publication::escape_identifier(&facts.name);
    let subject = || format!("publication {name}");
    let mut found = Vec::new();
    let operations = monitor::omitted_operations(facts);
    if !operations.is_empty() {
        let command = format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');");
        found.push(
            Diagnosis::warning(subject(), format!("it does not send {}", operations.join(", ")))
                .with_command(command),
        );
    }
    let is_sent = |table: &&TableName| facts.tables.iter().any(|sent| sent.name == **table);
    let missing: Vec<_> = configured.unwrap_or_default().iter().filter(|table| !is_sent(table)).collect();
    if !missing.is_empty() {
        let quoted: Vec<_> = missing.iter().map(|table| publication::quoted(table)).collect();
        let fact = format!("source.tables names tables that it does not send: {}", quoted.join(", "));
        let command = format!("ALTER PUBLICATION {name} ADD TABLE {};", quoted.join(", "));
        found.push(Diagnosis::warning(subject(), fact).with_command(command));
    }
    found
}

/// The finding about the decision of a start, unless a process uses the directory.
fn decision(directory: Option<&Directory>, decided: Result<String, Failure>) -> Diagnosis {
    let subject = "start";
    if let Some(pid) = directory.and_then(DirectoryLock::holder) {
        return Diagnosis::ok(subject, format!("process {pid} uses the directory"));
    }
    match decided {
        Ok(fact) => Diagnosis::ok(subject, fact),
        // A start would wait and retry.
        Err(failure @ Failure::Retry(_)) => {
            Diagnosis { severity: Severity::Warning, ..Diagnosis::of_problem(subject, failure.problem()) }
        }
        Err(failure @ Failure::Stop(_)) => Diagnosis::of_problem(subject, failure.problem()),
    }
}

/// The decision of a start with this directory and server.
fn decide(database: &Database, directory: Option<&Directory>, seen: &Seen) -> Result<String, Failure> {
    let Database { wanted, source, .. } = database;
    let (checkpoint, log) = directory.map(directory::peek).transpose()?.unwrap_or_default();
    let audited = directory.map(audit::audited_epoch).transpose()?.unwrap_or_default();
    let wanted = Wanted { epoch_least: wanted.epoch_least.max(audited), ..wanted.clone() };
    let start = recover::recover(&wanted, checkpoint.as_ref(), &log, seen.slot.as_ref(), &seen.server)?;
    if !start.create {
        seen.check_running(&wanted)?;
    }
    let slot = &source.slot;
    Ok(if start.new_epoch {
        format!(
            "continues with slot \"{slot}\" in the new epoch {}, with a gap event",
            start.checkpoint.epoch
        )
    } else if !start.create {
        format!("continues with slot \"{slot}\" in epoch {}", start.checkpoint.epoch)
    } else if seen.publication.is_some() {
        format!(
            "a first start: it uses the publication \"{}\" and creates slot \"{slot}\"",
            source.publication
        )
    } else {
        format!("a first start: it creates publication \"{}\" and slot \"{slot}\"", source.publication)
    })
}

//! The configuration: file and environment, checked.
//!
//! `keys` reads the values; [`Config`] has their meaning, with every limit checked. All errors are reported
//! together, each with its key. Secrets never appear in `Debug`, `Display` or the log.

pub mod aws;
mod events;
mod keys;
mod log;
mod polling;
mod print;
mod secret;
pub mod selector;
mod tables;
pub mod units;
mod write;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::events::{Automatic, DEFAULT_LOCK, Events, Pii, weak_key};
use self::keys::{Keys, path};
pub use self::log::Log;
pub use self::polling::{CursorSetting, Polling, PollingStart, TABLES_MAX};
pub use self::secret::Secret;
pub use self::tables::{TableName, Tables};
pub use self::write::write_new;
use crate::failure::Problem;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Short name; the CloudEvents source becomes `urn:forebay:<name>`.
    pub name: String,
    /// The database.
    pub source: SourceConfig,
    /// The stream.
    pub kinesis: Kinesis,
    /// The buffer.
    pub buffer: Buffer,
    /// Metrics and health.
    pub http: Http,
    /// Which tables have automatic events, and which columns are left out.
    pub tables: Tables,
    /// Rules and contracts.
    pub events: Events,
    /// Personal data.
    pub pii: Pii,
    /// What happens to an event that cannot be published.
    pub on_poison: OnPoison,
    /// An event later than this is reported. `None`: lag is not reported.
    pub max_lag: Option<Duration>,
    /// Format and filter of the log.
    pub log: Log,
}

/// `[source]`.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Connection URL in libpq's form; may contain a password.
    pub url: Secret,
    /// Password from `source.password` (intended for `FOREBAY_SOURCE__PASSWORD`).
    pub password: Option<Secret>,
    /// File that contains only the password.
    pub password_file: Option<PathBuf>,
    /// Replication slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// How the tables are polled. `None`: changes are received from a replication slot.
    pub polling: Option<Polling>,
    /// Tables of a publication that Forebay creates; `None`: every table with a key. With polling: the tables
    /// to poll.
    pub tables: Option<Vec<TableName>>,
    /// Lowest epoch, for a buffer directory that is lost on restart (`confirm_after = "never"`).
    pub epoch: u16,
    /// Largest row that is processed, in bytes. Kinesis accepts records up to 10 MiB, so a larger row cannot
    /// be published.
    pub max_row_size: u64,
    /// Whether the slot is a failover slot; `None`: if the server has them (a primary of PostgreSQL 17 or later).
    pub failover: Option<bool>,
    /// Interval of the heartbeat. `None`: no heartbeat is written.
    pub heartbeat: Option<Duration>,
}

/// `[kinesis]`.
#[derive(Clone, Debug)]
pub struct Kinesis {
    /// Name or ARN of the stream.
    pub stream: String,
    /// AWS region; `None`: from the AWS environment.
    pub region: Option<String>,
    /// Endpoint, for emulators and VPC endpoints.
    pub endpoint: Option<String>,
    /// Whether several events of one key may share a Kinesis record.
    pub pack: Pack,
}

/// How many events a Kinesis record contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pack {
    /// One event, as most consumers expect.
    #[default]
    Off,
    /// Several waiting events of one key, as lines.
    Lines,
}

/// `[buffer]`.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Directory of the log and the checkpoint.
    pub dir: PathBuf,
    /// Largest size of the log, in bytes. When it is reached, the source is paused and PostgreSQL retains
    /// WAL.
    pub max_size: u64,
    /// Largest size of the dead-letter file, in bytes. When it is reached, the keys of further dead letters
    /// are blocked.
    pub max_dead_letter_size: u64,
    /// When an unpublished change becomes durable. `None`: not configured, [`Buffer::confirm_after`] decides.
    pub confirm_after_written: Option<ConfirmAfter>,
}

/// When an unpublished change may be confirmed to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmAfter {
    /// After this time, once the log is fsynced and the checkpoint is written.
    Waited(Duration),
    /// Only after it is published.
    Never,
}

impl Buffer {
    /// The effective value. The default on a disk is 5 s: a healthy pipeline never fsyncs, and an outage does
    /// not retain WAL. On storage that is lost with the machine or container it is `never`.
    pub fn confirm_after(&self, dir_is_volatile: bool) -> ConfirmAfter {
        self.confirm_after_written.unwrap_or(if dir_is_volatile {
            ConfirmAfter::Never
        } else {
            ConfirmAfter::Waited(Duration::from_secs(5))
        })
    }
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct Http {
    /// Listening address; loopback by default.
    pub listen: SocketAddr,
}

/// What happens to an event that cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// It becomes a dead letter, and publishing continues.
    Quarantine,
    /// Publishing stops before it; the source is still received into the buffer.
    Stop,
}

/// All errors in the configuration.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(errors) = self;
        write!(
            f,
            "the configuration has {} error{}:",
            errors.len(),
            if errors.len() == 1 { "" } else { "s" }
        )?;
        errors.iter().try_for_each(|error| write!(f, "\n  {}", error.lines().replace('\n', "\n  ")))
    }
}

impl std::error::Error for ConfigErrors {}

/// Checks the database URL. The source, which this module does not depend on, defines its form.
pub type CheckUrl = fn(&str) -> Result<(), Problem>;

/// Smallest size of the log: sixteen segments of the smallest size.
const LEAST_MAX_SIZE: u64 = 16 << 20;
/// Highest `source.epoch`. An epoch number has 16 bits, and each `forebay adopt` uses one more.
const EPOCH_MAX: u64 = 65_000;
const MIB: u64 = 1 << 20;
/// Longest `buffer.confirm_after`. A longer time would mean `never`.
const CONFIRM_AFTER_MAX: Duration = Duration::from_hours(24);
/// Default of `max_lag`: longer than a restart, a failover or a reshard takes.
const MAX_LAG: Duration = Duration::from_mins(5);

impl Config {
    /// Loads the file and the process environment.
    ///
    /// # Errors
    /// All errors.
    pub fn load(path: &Path, check_url: CheckUrl) -> Result<Self, ConfigErrors> {
        Self::read_checked(path, check_url, std::env::vars_os())
    }

    /// Loads the file and the given environment. The database URL is not checked.
    ///
    /// # Errors
    /// All errors.
    pub fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let environment = environment.map(|(variable, value)| (variable.into(), value.into()));
        Self::read_checked(path, |_| Ok(()), environment)
    }

    fn read_checked(
        path: &Path,
        check_url: CheckUrl,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut keys = Keys::read(path, environment).map_err(|error| ConfigErrors(vec![error]))?;
        let name = keys.required_as("name", "name = \"lab\"", name).unwrap_or_default();
        let source = Self::source(&mut keys, &name, check_url);
        let kinesis = Self::kinesis(&mut keys);
        let buffer = Self::buffer(&mut keys);
        if source.polling.is_some() && buffer.confirm_after_written == Some(ConfirmAfter::Never) {
            let problem = Problem::new("\"never\" is not possible with source.mode = \"polling\"")
                .with_detail(
                    "A poll cannot read the same rows again, so Forebay publishes only what is durable.",
                );
            keys.error("buffer.confirm_after", problem.with_hint("Remove the key."));
        }
        if source.polling.is_some() && source.heartbeat.is_some() {
            let problem = Problem::new("is not possible with source.mode = \"polling\"")
                .with_detail("A heartbeat is a logical message, and polling does not see those.");
            keys.error("source.heartbeat", problem.with_hint("Remove the key."));
        }
        let http = Http {
            listen: keys
                .parsed("http.listen", |text| {
                    text.parse().map_err(|_| {
                        format!("{text:?} is not an address and a port, such as \"127.0.0.1:9187\"")
                    })
                })
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9187))),
        };
        let tables = Tables::read(&mut keys);
        let (events, pii) = (Events::read(&mut keys, path), Pii::read(&mut keys));
        let on_poison_written = keys.parsed("on_poison", |text| match text {
            "quarantine" => Ok(OnPoison::Quarantine),
            "stop" => Ok(OnPoison::Stop),
            other => Err(format!("{other:?} is neither \"quarantine\" nor \"stop\"")),
        });
        // If the directory is lost on restart, a dead letter in it would be lost too.
        let ephemeral = buffer.confirm_after_written == Some(ConfirmAfter::Never);
        let on_poison =
            on_poison_written.unwrap_or(if ephemeral { OnPoison::Stop } else { OnPoison::Quarantine });
        let max_lag = keys
            .parsed("max_lag", |text| off_or(text, Duration::from_secs(1), Duration::from_hours(24 * 30)))
            .unwrap_or(Some(MAX_LAG));
        if events.lag && max_lag.is_none() {
            keys.error(
                "events.lag",
                Problem::new("needs a limit").with_hint("Set max_lag, such as \"5min\"."),
            );
        }
        let log = Log::read(&mut keys);
        let errors = keys.finish();
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Self { name, source, kinesis, buffer, http, tables, events, pii, on_poison, max_lag, log })
    }

    /// The CloudEvents source of every event.
    pub fn source_urn(&self) -> String {
        format!("urn:forebay:{}", self.name)
    }

    fn kinesis(keys: &mut Keys) -> Kinesis {
        let endpoint = keys.parsed("kinesis.endpoint", aws::endpoint);
        let stream =
            keys.required_as("kinesis.stream", "stream = \"lab-events\"", aws::stream).unwrap_or_default();
        let of_arn = aws::region_of(&stream).map(str::to_owned);
        let region = |text: &str| match &of_arn {
            Some(of_arn) if of_arn != text => Err(Problem::new(format!(
                "is {text:?}, but kinesis.stream is an ARN of the region {of_arn:?}"
            ))
            .with_hint("Correct one of them, or leave kinesis.region out.")),
            _ => aws::region(text, endpoint.is_some()).map(|()| text.to_owned()),
        };
        Kinesis {
            region: keys.parsed("kinesis.region", region),
            stream,
            endpoint,
            pack: keys.parsed("kinesis.pack", pack).unwrap_or_default(),
        }
    }

    fn source(keys: &mut Keys, name: &str, check_url: CheckUrl) -> SourceConfig {
        let slot = keys.parsed("source.slot", slot_name).unwrap_or_else(|| format!("forebay_{name}"));
        let url = |text: &str| check_url(text).map(|()| Secret::new(text.to_owned()));
        let publication = keys.parsed("source.publication", publication_name);
        let failover = keys.flag("source.failover");
        let tables = TableName::list(keys, "source.tables");
        SourceConfig {
            polling: Polling::read(keys, tables.as_deref()),
            url: keys
                .required_as("source.url", "url = \"postgres://forebay@db.example/lab\"", url)
                .unwrap_or_else(|| Secret::new(String::new())),
            password: keys.parsed("source.password", password),
            password_file: keys.parsed("source.password_file", path),
            publication: publication.unwrap_or_else(|| slot.clone()),
            slot,
            tables,
            epoch: keys
                .number("source.epoch", 0..=EPOCH_MAX)
                .and_then(|epoch| u16::try_from(epoch).ok())
                .unwrap_or(0),
            max_row_size: keys
                .parsed("source.max_row_size", |text| bounded_size(text, MIB, 64 * MIB))
                .unwrap_or(16 * MIB),
            failover,
            heartbeat: keys
                .parsed("source.heartbeat", |text| {
                    off_or(text, Duration::from_secs(1), Duration::from_hours(1))
                })
                .flatten(),
        }
    }

    fn buffer(keys: &mut Keys) -> Buffer {
        Buffer {
            dir: keys.required_as("buffer.dir", "dir = \"/var/lib/forebay\"", path).unwrap_or_default(),
            max_size: keys
                .parsed("buffer.max_size", |text| bounded_size(text, LEAST_MAX_SIZE, 1 << 50))
                .unwrap_or(10 << 30),
            max_dead_letter_size: keys
                .parsed("buffer.max_dead_letter_size", |text| bounded_size(text, MIB, 1 << 50))
                .unwrap_or(10 << 30),
            confirm_after_written: keys.parsed("buffer.confirm_after", |text| match text {
                "never" => Ok(ConfirmAfter::Never),
                text => confirm_after(text).map(ConfirmAfter::Waited),
            }),
        }
    }
}

fn confirm_after(text: &str) -> Result<Duration, Problem> {
    let time = units::duration(text).map_err(|_| {
        Problem::new(format!("{text:?} is neither a duration nor \"never\""))
            .with_hint("Write a whole number and a unit, such as \"5s\", or \"never\".")
    })?;
    if time <= CONFIRM_AFTER_MAX {
        return Ok(time);
    }
    Err(Problem::new(format!("{text:?} is longer than {}", units::Span(CONFIRM_AFTER_MAX))).with_hint(
        "Write \"never\" to confirm only what is published: PostgreSQL then retains WAL until it is.",
    ))
}

/// A password from the configuration or the environment.
fn password(text: &str) -> Result<Secret, Problem> {
    if text.ends_with(['\n', '\r']) {
        return Err(Problem::new("ends with a line break, which is not part of the password")
            .with_hint("Remove it, or name the file that holds it with source.password_file."));
    }
    Ok(Secret::new(text.to_owned()))
}

/// A duration within bounds, or `off`.
fn off_or(text: &str, least: Duration, most: Duration) -> Result<Option<Duration>, Problem> {
    if text == "off" {
        return Ok(None);
    }
    let time = units::duration(text).map_err(|_| {
        Problem::new(format!("{text:?} is neither a duration nor \"off\""))
            .with_hint("Write a whole number and a unit, such as \"10s\", or \"off\".")
    })?;
    if (least..=most).contains(&time) {
        return Ok(Some(time));
    }
    Err(format!("{text:?} is outside the range {} to {}", units::Span(least), units::Span(most)).into())
}

fn bounded_size(text: &str, least: u64, most: u64) -> Result<u64, Problem> {
    let size = units::size(text)?;
    if (least..=most).contains(&size) {
        return Ok(size);
    }
    Err(format!("{text:?} is outside the range {} to {}", units::Size(least), units::Size(most)).into())
}

/// Checks the name of a configuration.
///
/// # Errors
/// Why it is not a valid name.
pub fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase());
    if is_name && text.len() <= 40 && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} must have at most 40 lower-case letters, digits and underscores, starting with \
        a letter"
    ))
}

fn publication_name(text: &str) -> Result<String, String> {
    if text.len() <= 63 && text.trim() == text && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a valid publication name: the limit is 63 bytes, without control characters and \
         without surrounding blanks"
    ))
}

fn slot_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a valid slot name: PostgreSQL accepts at most 63 lower-case letters, digits and \
         underscores"
    ))
}

fn pack(text: &str) -> Result<Pack, String> {
    match text {
        "off" => Ok(Pack::Off),
        "lines" => Ok(Pack::Lines),
        other => Err(format!("{other:?} is neither \"off\" nor \"lines\"")),
    }
}

#[cfg(test)]
mod tests;

//! File and environment become checked settings.
//!
//! Two stages: `keys` holds what was typed; [`Config`] holds what it means, every limit checked. All errors are
//! reported together, each with the path of its key. Secrets never reach `Debug`, `Display` or a log.

mod events;
mod keys;
mod print;
mod tables;
pub mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::events::{Automatic, Events, Pii};
use self::keys::Keys;
pub use self::tables::{TableName, Tables};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Short name; the CloudEvents source becomes `urn:forebay:<name>`.
    pub name: String,
    /// The database.
    pub source: Source,
    /// The stream.
    pub kinesis: Kinesis,
    /// The buffer.
    pub buffer: Buffer,
    /// Metrics and health.
    pub http: Http,
    /// Which tables make automatic events, and without which columns.
    pub tables: Tables,
    /// Rules.
    pub events: Events,
    /// What must not leave.
    pub pii: Pii,
    /// What happens to an event that cannot leave.
    pub on_poison: OnPoison,
    /// How it logs.
    pub log: Log,
}

/// `[source]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Connection URL, libpq's form; may hold a password.
    pub url: Secret,
    /// Password from `source.password` (meant for `FOREBAY_SOURCE__PASSWORD`).
    pub password: Option<Secret>,
    /// File that holds nothing but the password.
    pub password_file: Option<PathBuf>,
    /// Replication slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// Tables of a publication that Forebay makes; `None`: every table with a key.
    pub tables: Option<Vec<TableName>>,
    /// Least epoch, for directories that do not survive (`confirm_after = "never"`).
    pub epoch: u16,
    /// Largest row that is read, in bytes. Kinesis takes records of at most 10 MiB, so a larger row could never leave.
    pub max_row_size: u64,
    /// Make the slot a failover slot (Postgres 17 and later).
    pub failover: bool,
}

/// `[kinesis]`.
#[derive(Clone, Debug)]
pub struct Kinesis {
    /// Name or ARN of the stream.
    pub stream: String,
    /// AWS region; `None`: the AWS environment's.
    pub region: Option<String>,
    /// Endpoint, only for emulators.
    pub endpoint: Option<String>,
    /// Whether several events of one key may share a record.
    pub pack: Pack,
}

/// How many events a Kinesis record holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pack {
    /// One: what every reader of a stream expects, also those that take a record for one JSON text.
    #[default]
    Off,
    /// What waits of one key, as lines.
    Lines,
}

/// `[buffer]`.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Directory of log and checkpoint.
    pub dir: PathBuf,
    /// Most bytes the log may take. Beyond it the source is paused and Postgres keeps the rest.
    pub max_size: u64,
    /// When a change that is not published is settled by holding it. `None`: not written, see [`Buffer::confirm_after`].
    pub confirm_after_written: Option<ConfirmAfter>,
}

/// When a change that is not published yet may be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmAfter {
    /// After it has waited this long, by fsyncing the log and noting it in the checkpoint.
    Waited(Duration),
    /// Only when it is published.
    Never,
}

impl Buffer {
    /// The setting in force. The default is 5 s on a disk: long enough that a healthy pipeline never fsyncs, short enough
    /// that an outage pins no write-ahead log. On storage that dies with the machine or container it is `never`.
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
    /// Where it listens; loopback unless told otherwise.
    pub listen: SocketAddr,
}

/// What happens to an event that cannot leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// It goes to the dead letter, the rest goes on.
    Quarantine,
    /// Publishing stops before it; receiving goes on into the buffer.
    Stop,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// One JSON object a line instead of text for people.
    pub json: bool,
    /// Filter in `tracing`'s form: `info`, `forebay=debug`.
    pub filter: String,
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: only for the connection.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} error{}:\n  {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

/// The least log that can work: sixteen segments of the smallest size.
const LEAST_MAX_SIZE: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

impl Config {
    /// Reads the file and the process's environment.
    ///
    /// # Errors
    /// All errors at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::read(
            path,
            std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Reads the file and the given environment.
    ///
    /// # Errors
    /// All errors at once.
    pub fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut keys = Keys::read(path, environment).map_err(|error| ConfigErrors(vec![error]))?;
        let name = keys.required("name", "name = \"lab\"").unwrap_or_default();
        if !name.is_empty() && !is_name(&name) {
            keys.error(
                "name",
                format!(
                    "{name:?} must be lower-case letters, digits and underscores, at most 40, a letter first"
                ),
            );
        }
        let source = Self::source(&mut keys, &name);
        let kinesis = Kinesis {
            stream: keys.required("kinesis.stream", "stream = \"lab-events\"").unwrap_or_default(),
            region: keys.text("kinesis.region"),
            endpoint: keys.parsed("kinesis.endpoint", endpoint),
            pack: keys.parsed("kinesis.pack", pack).unwrap_or_default(),
        };
        let buffer = Self::buffer(&mut keys);
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
        // Where the directory may be gone after a restart, a dead letter in it would be lost.
        let ephemeral = buffer.confirm_after_written == Some(ConfirmAfter::Never);
        let on_poison =
            on_poison_written.unwrap_or(if ephemeral { OnPoison::Stop } else { OnPoison::Quarantine });
        let log = Self::log(&mut keys);
        let errors = keys.finish();
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Self { name, source, kinesis, buffer, http, tables, events, pii, on_poison, log })
    }

    /// The CloudEvents source of every event.
    pub fn source_urn(&self) -> String {
        format!("urn:forebay:{}", self.name)
    }

    fn source(keys: &mut Keys, name: &str) -> Source {
        let slot = keys.parsed("source.slot", slot_name).unwrap_or_else(|| format!("forebay_{name}"));
        Source {
            url: Secret::new(
                keys.required("source.url", "url = \"postgres://forebay@db.example/lab\"")
                    .unwrap_or_default(),
            ),
            password: keys.text("source.password").map(Secret::new),
            password_file: keys.text("source.password_file").map(PathBuf::from),
            publication: keys.text("source.publication").unwrap_or_else(|| slot.clone()),
            slot,
            tables: TableName::list(keys, "source.tables"),
            epoch: keys
                .number("source.epoch", 0..=u64::from(u16::MAX))
                .and_then(|epoch| u16::try_from(epoch).ok())
                .unwrap_or(0),
            max_row_size: keys
                .parsed("source.max_row_size", |text| bounded_size(text, MIB, 64 * MIB))
                .unwrap_or(16 * MIB),
            failover: keys.flag("source.failover").unwrap_or(false),
        }
    }

    fn buffer(keys: &mut Keys) -> Buffer {
        Buffer {
            dir: keys
                .required("buffer.dir", "dir = \"/var/lib/forebay\"")
                .map(PathBuf::from)
                .unwrap_or_default(),
            max_size: keys
                .parsed("buffer.max_size", |text| bounded_size(text, LEAST_MAX_SIZE, 1 << 50))
                .unwrap_or(10 << 30),
            confirm_after_written: keys.parsed("buffer.confirm_after", |text| match text {
                "never" => Ok(ConfirmAfter::Never),
                text => units::duration(text)
                    .map(ConfirmAfter::Waited)
                    .map_err(|error| format!("{error}, or \"never\"")),
            }),
        }
    }

    fn log(keys: &mut Keys) -> Log {
        Log {
            json: keys
                .parsed("log.format", |text| match text {
                    "human" => Ok(false),
                    "json" => Ok(true),
                    other => Err(format!("{other:?} is neither \"human\" nor \"json\"")),
                })
                .unwrap_or(false),
            filter: keys
                .parsed("log.filter", |text| match text.parse::<tracing_subscriber::filter::Targets>() {
                    Ok(_) => Ok(text.to_owned()),
                    Err(error) => Err(format!("{text:?} is not a log filter: {error}")),
                })
                .unwrap_or_else(|| "info".to_owned()),
        }
    }
}

fn bounded_size(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let size = units::size(text)?;
    if (least..=most).contains(&size) {
        return Ok(size);
    }
    Err(format!("{text:?} is not between {} and {}", units::Size(least), units::Size(most)))
}

fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn slot_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} cannot be a slot: Postgres takes lower-case letters, digits and underscores, at most 63"
    ))
}

fn pack(text: &str) -> Result<Pack, String> {
    match text {
        "off" => Ok(Pack::Off),
        "lines" => Ok(Pack::Lines),
        other => Err(format!("{other:?} is neither \"off\" nor \"lines\"")),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} must begin with http:// or https://"))
}

#[cfg(test)]
mod tests;

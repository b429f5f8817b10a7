//! `[events]` and `[pii]`: rules, automatic events and personal data.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::keys::{self, Keys};
use super::secret::Secret;
use super::selector::{self, SelectorKind, matches};
use crate::change::{Column, Inheritance, PersonalOrigin, Relation};
use crate::failure::Problem;

/// The default of `events.lock`.
pub const DEFAULT_LOCK: &str = "events.lock";

/// `[events]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Pattern of the rule files, relative to the configuration file's directory.
    pub rules: Option<String>,
    /// Directory of the configuration file.
    pub base: PathBuf,
    /// Which automatic events are published.
    pub automatic: Automatic,
    /// Directory of the contracts, relative to the configuration file's directory.
    pub lock: String,
    /// Base address of the schemas, for `dataschema`.
    pub schemas: Option<String>,
    /// Whether an event is published to the stream when events are later than `max_lag`.
    pub lag: bool,
}

/// Which changes have an automatic event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Automatic {
    /// Changes of a table and operation that no rule reads.
    #[default]
    Unmapped,
    /// All changes.
    Also,
    /// No changes.
    Off,
}

impl Automatic {
    /// The value in the configuration file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Also => "also",
            Self::Off => "off",
        }
    }
}

/// `[pii]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pii {
    /// Columns that hold personal data (`schema.table.column`, `*.*.email`).
    pub columns: Vec<String>,
    /// The key of `hmac()`, from `pii.hmac_key` (intended for `FOREBAY_PII__HMAC_KEY`).
    pub hmac_key: Option<Secret>,
    /// File that contains only the key.
    pub hmac_key_file: Option<PathBuf>,
    /// The name of that key in contracts.
    pub hmac_key_id: Option<String>,
    /// The key of `hmac_previous()`, during a change of the key.
    pub hmac_key_previous: Option<Secret>,
    /// File that contains only that key.
    pub hmac_key_previous_file: Option<PathBuf>,
}

impl Pii {
    /// Whether an entry names this column and no entry with `!` excepts it.
    pub fn tags(&self, schema: &str, table: &str, column: &str) -> bool {
        self.names(schema, table, column) && !self.excepts(schema, table, column)
    }

    /// Whether a column of a table holds personal data: an entry names it, or the column whose data it
    /// contains.
    pub fn tags_column(&self, relation: &Relation, column: &Column) -> bool {
        let Relation { schema, table, .. } = relation;
        let is_origin = |origin: &PersonalOrigin| self.tags(&origin.schema, &origin.table, &origin.column);
        (self.names(schema, table, &column.name) || column.origin.as_ref().is_some_and(is_origin))
            && !self.excepts(schema, table, &column.name)
    }

    /// The first column of a table for which an entry has its former name and no entry has its present name.
    pub fn renamed<'a>(&self, relation: &'a Relation) -> Option<(&'a Column, &'a PersonalOrigin)> {
        let Relation { schema, table, .. } = relation;
        let renamed = |column: &'a Column| {
            let origin = column.origin.as_ref().filter(|origin| origin.how == Inheritance::Former)?;
            let is_it = self.tags_column(relation, column) && !self.names(schema, table, &column.name);
            is_it.then_some((column, origin))
        };
        relation.columns.iter().find_map(renamed)
    }

    /// Whether an entry names this column.
    pub fn names(&self, schema: &str, table: &str, column: &str) -> bool {
        let names = [schema, table, column];
        self.columns.iter().any(|text| !selector::is_exception(text) && matches(text, &names))
    }

    /// Whether an entry with `!` says that this column holds no personal data.
    pub fn excepts(&self, schema: &str, table: &str, column: &str) -> bool {
        let names = [schema, table, column];
        self.columns.iter().any(|text| selector::is_exception(text) && matches(text, &names))
    }

    /// Whether a selector may match columns of this table.
    pub fn concerns(&self, schema: &str, table: &str) -> bool {
        let of_table = |text: &String| {
            let names = selector::names(text);
            let is = |at: usize, name: &str| {
                names.get(at).is_some_and(|part: &Option<_>| part.as_deref().is_none_or(|part| part == name))
            };
            is(0, schema) && is(1, table)
        };
        self.columns.iter().filter(|text| !selector::is_exception(text)).any(of_table)
    }

    /// The columns that entries name for exactly this table and that the table does not have.
    pub fn not_there<'a>(
        &'a self,
        schema: &'a str,
        table: &'a str,
        has: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Cow<'a, str>> {
        let of_table = move |text: &'a String| {
            let mut names = selector::names(text).into_iter();
            let (of_schema, of_table, column) = (names.next()??, names.next()??, names.next()??);
            let is_strict = !selector::is_optional(text) && !selector::is_exception(text);
            (is_strict && of_schema == schema && of_table == table).then_some(column)
        };
        self.columns.iter().filter_map(of_table).filter(move |column| !has(column))
    }

    pub(super) fn read(keys: &mut Keys) -> Self {
        let pii = Self {
            columns: super::tables::selectors(keys, "pii.columns", SelectorKind::Column),
            hmac_key: keys.parsed("pii.hmac_key", strong),
            hmac_key_file: keys.parsed("pii.hmac_key_file", keys::path),
            hmac_key_id: keys.parsed("pii.hmac_key_id", key_id),
            hmac_key_previous: keys.parsed("pii.hmac_key_previous", strong),
            hmac_key_previous_file: keys.parsed("pii.hmac_key_previous_file", keys::path),
        };
        for (file, inline, both) in [
            ("pii.hmac_key_file", "pii.hmac_key", pii.hmac_key.is_some() && pii.hmac_key_file.is_some()),
            (
                "pii.hmac_key_previous_file",
                "pii.hmac_key_previous",
                pii.hmac_key_previous.is_some() && pii.hmac_key_previous_file.is_some(),
            ),
        ] {
            if both {
                let both = Problem::new(format!("and {inline} are both set"));
                keys.error(file, both.with_hint("Remove one of them."));
            }
        }
        pii
    }
}

fn strong(text: &str) -> Result<Secret, Problem> {
    // A file's line feed is no part of the key. The same key has the same pseudonyms, wherever it comes from.
    if text.trim() != text {
        let blanks = Problem::new("the key (not shown) begins or ends with a blank or a line feed");
        return Err(blanks.with_hint("Remove it."));
    }
    weak_key(text.as_bytes()).map_or(Ok(Secret::new(text.to_owned())), Err)
}

fn key_id(text: &str) -> Result<String, Problem> {
    /// In bytes. Longer than a date or a word, shorter than a key.
    const LENGTH_MAX: usize = 20;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    let wrong = format!("is not 1 to {LENGTH_MAX} lower-case letters, digits, or . _ - (not shown)");
    Err(Problem::new(wrong)
        .with_hint("Write a name such as \"2026-11\". It is published; never write the key here."))
}

/// Why a key of `hmac()` is too weak; `None` if it is not. Never contains the key.
pub fn weak_key(key: &[u8]) -> Option<Problem> {
    /// In bytes: half of SHA-256's digest.
    const LENGTH_MIN: usize = 16;
    /// Fewest distinct bytes. A key of random bytes or digits has more.
    const DIFFERENT_MIN: usize = 6;
    const HINT: &str = "Create one with `openssl rand -hex 32`.";
    let weak = |why: String| Some(Problem::new(why).with_hint(HINT));
    if key.starts_with("\u{feff}".as_bytes()) {
        let why = "it begins with a byte order mark, which another tool would not take as a part of the key";
        return Some(Problem::new(why).with_hint("Write the key without it."));
    }
    if key.len() < LENGTH_MIN {
        return weak(format!("the key has {} bytes, but the minimum is {LENGTH_MIN}", key.len()));
    }
    let different = key.iter().collect::<std::collections::BTreeSet<_>>().len();
    let repeats = (1..=key.len() / 2).any(|unit| key.iter().zip(key.iter().skip(unit)).all(|(a, b)| a == b));
    if different < DIFFERENT_MIN || repeats {
        return weak("the key repeats a few characters (not shown) and can be guessed".to_owned());
    }
    None
}

impl Events {
    /// Directory of the contracts.
    pub fn lock_directory(&self) -> PathBuf {
        self.base.join(&self.lock)
    }

    pub(super) fn read(keys: &mut Keys, file: &Path) -> Self {
        Self {
            rules: keys.parsed("events.rules", plain),
            base: file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."))
                .to_owned(),
            automatic: keys
                .parsed("events.automatic", |text| {
                    [Automatic::Unmapped, Automatic::Also, Automatic::Off]
                        .into_iter()
                        .find(|automatic| automatic.as_str() == text)
                        .ok_or_else(|| format!("{text:?} is not one of \"unmapped\", \"also\", \"off\""))
                })
                .unwrap_or_default(),
            lock: keys.parsed("events.lock", plain).unwrap_or_else(|| DEFAULT_LOCK.to_owned()),
            schemas: keys.parsed("events.schemas", schemas),
            lag: keys.flag("events.lag").unwrap_or(false),
        }
    }
}

/// Checks a path or pattern of files.
fn plain(text: &str) -> Result<String, String> {
    keys::path(text).map(|_| text.to_owned())
}

fn schemas(text: &str) -> Result<String, Problem> {
    const HINT: &str = "Write an address such as \"https://schemas.example/lab\".";
    if text.contains(['@', '?', '#']) {
        return Err(Problem::new(
            "must be a base address, but it has a user, a query or a fragment (not shown)",
        )
        .with_hint(HINT));
    }
    let is_address = text.starts_with("https://") || text.starts_with("http://");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if is_address && is_plain {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(Problem::new(format!("{text:?} is not a base address for schemas")).with_hint(HINT))
}

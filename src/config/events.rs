//! `[events]` and `[pii]`: rules, what happens to the automatic events beside them, and what must not leave.

use std::path::{Path, PathBuf};

use super::Secret;
use super::keys::Keys;
use super::tables::matches;

/// `[events]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Which files hold rules: a pattern relative to the configuration file's folder.
    pub rules: Option<String>,
    /// The configuration file's folder.
    pub base: PathBuf,
    /// What happens to automatic events.
    pub automatic: Automatic,
    /// The directory of the contracts, relative to the configuration file's folder.
    pub lock: String,
    /// Where the schemas are served: what `dataschema` begins with.
    pub schemas: Option<String>,
}

/// Which changes have an automatic event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Automatic {
    /// Those of a table and operation that no rule is about.
    #[default]
    Unmapped,
    /// All.
    Also,
    /// None.
    Off,
}

impl Automatic {
    /// As it is written.
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
    /// The key of `hmac()`, from `pii.hmac_key` (meant for `FOREBAY_PII__HMAC_KEY`).
    pub hmac_key: Option<Secret>,
    /// File that holds the key and nothing else.
    pub hmac_key_file: Option<PathBuf>,
}

impl Pii {
    /// Whether a column holds personal data.
    pub fn tags(&self, schema: &str, table: &str, column: &str) -> bool {
        self.columns.iter().any(|pattern| matches(pattern, &[schema, table, column]))
    }

    /// Whether it says anything of a table.
    pub fn concerns(&self, schema: &str, table: &str) -> bool {
        let of_table =
            |pattern: &String| pattern.rsplit_once('.').is_some_and(|(of, _)| matches(of, &[schema, table]));
        self.columns.iter().any(of_table)
    }

    /// The columns that it names of just this table, but that the table does not have.
    pub fn not_there<'a>(
        &'a self,
        schema: &'a str,
        table: &'a str,
        has: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a str> {
        let of_table = move |pattern: &'a String| {
            let [of_schema, of_table, column] = pattern.split('.').collect::<Vec<_>>()[..] else {
                return None;
            };
            (of_schema == schema && of_table == table && column != "*").then_some(column)
        };
        self.columns.iter().filter_map(of_table).filter(move |column| !has(column))
    }

    pub(super) fn read(keys: &mut Keys) -> Self {
        let form = "schema.table.column, where each part may be *";
        Self {
            columns: super::tables::patterns(keys, "pii.columns", 3, form),
            hmac_key: keys.text("pii.hmac_key").map(Secret::new),
            hmac_key_file: keys.text("pii.hmac_key_file").map(PathBuf::from),
        }
    }
}

impl Events {
    /// The directory of the contracts.
    pub fn lock_directory(&self) -> PathBuf {
        self.base.join(&self.lock)
    }

    pub(super) fn read(keys: &mut Keys, file: &Path) -> Self {
        Self {
            rules: keys.text("events.rules"),
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
                        .ok_or_else(|| format!("{text:?} is none of \"unmapped\", \"also\", \"off\""))
                })
                .unwrap_or_default(),
            lock: keys.text("events.lock").unwrap_or_else(|| "events.lock".to_owned()),
            schemas: keys.parsed("events.schemas", schemas),
        }
    }
}

fn schemas(text: &str) -> Result<String, String> {
    let is_address = text.starts_with("https://") || text.starts_with("http://");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'?' | b'#'));
    if is_address && is_plain {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(format!(
        "{text:?} is not an address that schemas can stand below, such as \"https://schemas.example/lab\""
    ))
}

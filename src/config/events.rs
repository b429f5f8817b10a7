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
        }
    }
}

//! The translation settings: the configuration with the rules and the key of `hmac()` loaded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Automatic, Config, Pii, Secret, Tables, weak_key};
use crate::failure::{Explain, Problem};
use crate::rules::{RuleErrors, Rules};
use crate::small_file;

use super::promises::Contracts;
use crate::expression::HmacKey;

/// Largest file of a key of `hmac()`.
const KEY_FILE_MAX: u64 = 64 << 10;

/// The settings of translation.
#[derive(Clone, Debug, Default)]
pub struct TranslateSettings {
    /// Which tables make automatic events, and without which columns.
    pub tables: Tables,
    /// Which changes have an automatic event besides those of rules.
    pub automatic: Automatic,
    /// The rules.
    pub rules: Arc<Rules>,
    /// The columns that hold personal data.
    pub pii: Pii,
    /// The key of `hmac()`.
    pub hmac_key: Option<HmacKey>,
    /// The key of `hmac_previous()`.
    pub hmac_key_previous: Option<HmacKey>,
    /// Directory of the contracts.
    pub lock: Option<PathBuf>,
    /// The locked contracts.
    pub contracts: Option<Arc<dyn Contracts>>,
    /// Addresses of the schemas. Empty unless configured.
    pub schemas: Addresses,
    /// Whether rows are polled. Event ids are then computed from the row's key and version instead of a
    /// position in a log.
    pub polled: bool,
}

/// Address of the schema, by event type.
pub type Addresses = HashMap<String, String>;

/// Why the settings cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The rules have mistakes.
    #[error(transparent)]
    Rules(#[from] RuleErrors),
    /// The key file cannot be read.
    #[error("{setting}: cannot read {}: {source}", path.display())]
    KeyFile {
        /// The configuration key.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The key is too weak.
    #[error("{setting}: {}: {}", path.display(), reason.primary())]
    WeakKey {
        /// The configuration key.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        reason: Box<Problem>,
    },
    /// There is a previous key without a current one, or both are the same.
    #[error("the previous key of hmac() {0}")]
    PreviousKey(&'static str),
}

impl Explain for SettingsError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Rules(errors) => errors.code(),
            Self::KeyFile { .. } | Self::WeakKey { .. } | Self::PreviousKey(_) => Some("hmac_key_invalid"),
        }
    }

    fn primary(&self) -> String {
        match self {
            Self::Rules(errors) => errors.primary(),
            Self::KeyFile { .. } | Self::WeakKey { .. } | Self::PreviousKey(_) => self.to_string(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Rules(errors) => errors.detail(),
            Self::KeyFile { .. } | Self::WeakKey { .. } | Self::PreviousKey(_) => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Rules(errors) => errors.hint(),
            Self::KeyFile { .. } => {
                Some("Create the file, and let the user of this process read it.".to_owned())
            }
            Self::WeakKey { .. } => Some("Write a new key: openssl rand -hex 32 > FILE.".to_owned()),
            Self::PreviousKey(_) => {
                Some("Set pii.hmac_key to the new key and pii.hmac_key_previous to the old one.".to_owned())
            }
        }
    }
}

impl TranslateSettings {
    /// Loads the rules and the key.
    ///
    /// # Errors
    /// A file cannot be read, or has mistakes.
    pub fn load(config: &Config) -> Result<Self, SettingsError> {
        let pii = &config.pii;
        let hmac_key = key("pii.hmac_key_file", pii.hmac_key.as_ref(), pii.hmac_key_file.as_deref())?;
        let (previous, file) = (pii.hmac_key_previous.as_ref(), pii.hmac_key_previous_file.as_deref());
        let hmac_key_previous = key("pii.hmac_key_previous_file", previous, file)?;
        match (&hmac_key, &hmac_key_previous) {
            (None, Some(_)) => return Err(SettingsError::PreviousKey("is set, but the present one is not")),
            (Some(one), Some(other)) if one == other => {
                return Err(SettingsError::PreviousKey("is the present one"));
            }
            _ => {}
        }
        Ok(Self { hmac_key, hmac_key_previous, ..Self::without_key(config)? })
    }

    /// Loads the rules only: contracts are also checked where the key is not available.
    ///
    /// # Errors
    /// A file cannot be read, or has mistakes.
    pub fn without_key(config: &Config) -> Result<Self, RuleErrors> {
        let rules = match &config.events.rules {
            Some(pattern) => Rules::load(pattern, &config.events.base)?,
            None => Rules::default(),
        };
        Ok(Self {
            tables: config.tables.clone(),
            automatic: config.events.automatic,
            rules: Arc::new(rules),
            hmac_key: None,
            hmac_key_previous: None,
            pii: config.pii.clone(),
            lock: Some(config.events.lock_directory()),
            contracts: None,
            schemas: Addresses::new(),
            polled: config.source.polling.is_some(),
        })
    }
}

/// Logs a warning that users other than the owner may read the key.
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o004 != 0 {
        tracing::warn!(
            event = "hmac_key_readable_by_others",
            file = %path.display(),
            mode = format!("{:o}", mode & 0o777),
            hint = "Run chmod 0400 on it: whoever has the key can compute every pseudonym.",
            "every user of this machine may read the key of hmac()"
        );
    }
}

/// A key, from the configuration or a file.
fn key(
    setting: &'static str,
    inline: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<HmacKey>, SettingsError> {
    let path = match (inline, file) {
        (None, None) => return Ok(None),
        // The configuration has checked the key, and that there is no key file too.
        (Some(key), _) => return Ok(HmacKey::new(key.expose().as_bytes())),
        (None, Some(path)) => path,
    };
    let mut bytes = small_file::read(path, KEY_FILE_MAX).map_err(|source| {
        let path = path.to_owned();
        SettingsError::KeyFile { setting, path, source }
    })?;
    warn_of_readers(path);
    // White space at the end, such as a line feed, is not part of the key.
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    match weak_key(&bytes) {
        None => Ok(HmacKey::new(&bytes)),
        Some(reason) => {
            Err(SettingsError::WeakKey { setting, path: path.to_owned(), reason: Box::new(reason) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_key_file_is_refused_without_quoting_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            key("pii.hmac_key_file", None, Some(&path))
        };
        for (content, told) in [
            (&b"sekret"[..], "6 bytes"),
            (b"sekretsekretsekretsekret", "guessed"),
            (&[7; 32], "guessed"),
            ("\u{feff}sekretA1B2C3D4E5F6".as_bytes(), "byte order mark"),
        ] {
            let error = read(content).unwrap_err();
            let (text, code) = (error.to_string(), error.code());
            assert!(text.contains(told) && !text.contains("sekret"), "{text}");
            assert_eq!(code, Some("hmac_key_invalid"));
        }
        let strong = b"sekretA1B2C3D4E5F6";
        let inline = Secret::new("sekretA1B2C3D4E5F6".to_owned());
        let of_file = read(&[&strong[..], b"\n"].concat()).unwrap();
        assert!(of_file.is_some() && of_file == key("pii.hmac_key_file", Some(&inline), None).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(key("pii.hmac_key_file", None, Some(&path)), Err(SettingsError::KeyFile { .. })));
    }
}

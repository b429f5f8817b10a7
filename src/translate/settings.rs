//! What translation is told by the configuration: the rules read, the key of `hmac()` at hand.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Automatic, Config, Pii, Tables};
use crate::rules::{RuleErrors, Rules};

use super::promises::Contracts;
use super::sql::HmacKey;

/// What translation is told by the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which tables make automatic events, and without which columns.
    pub tables: Tables,
    /// Which changes have an automatic event beside their rules.
    pub automatic: Automatic,
    /// The rules.
    pub rules: Arc<Rules>,
    /// Which columns hold personal data.
    pub pii: Pii,
    /// The key of `hmac()`.
    pub hmac_key: Option<HmacKey>,
    /// The directory of the contracts.
    pub lock: Option<PathBuf>,
    /// What is locked, and must be kept.
    pub contracts: Option<Arc<dyn Contracts>>,
    /// Where the schemas of types are served; empty where that is not configured.
    pub schemas: Addresses,
}

/// By event type, where its schema is served.
pub type Addresses = HashMap<String, String>;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The rules are wrong.
    #[error(transparent)]
    Rules(#[from] RuleErrors),
    /// The key's file cannot be read.
    #[error("pii.hmac_key_file: cannot read {}: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Two keys.
    #[error("pii.hmac_key and pii.hmac_key_file are both set: leave one of them out")]
    TwoKeys,
    /// The key is too short to keep anything secret.
    #[error(
        "the key of hmac() has {length} bytes; it needs at least {least}: make one with `openssl rand -hex 32`"
    )]
    ShortKey {
        /// Its length in bytes.
        length: usize,
        /// The least.
        least: usize,
    },
}

impl Settings {
    /// Reads rules and key.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong.
    pub fn load(config: &Config) -> Result<Self, SettingsError> {
        Ok(Self { hmac_key: hmac_key(&config.pii)?, ..Self::without_key(config)? })
    }

    /// Reads the rules only: contracts are checked where the key is not.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong.
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
            pii: config.pii.clone(),
            lock: Some(config.events.lock_directory()),
            contracts: None,
            schemas: Addresses::new(),
        })
    }
}

fn hmac_key(pii: &Pii) -> Result<Option<HmacKey>, SettingsError> {
    let bytes = match (&pii.hmac_key, &pii.hmac_key_file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(SettingsError::TwoKeys),
        (Some(key), None) => key.expose().as_bytes().to_vec(),
        (None, Some(path)) => {
            let mut bytes = std::fs::read(path)
                .map_err(|source| SettingsError::KeyFile { path: path.clone(), source })?;
            // An editor's last line feed is not part of the key.
            while bytes.last().is_some_and(u8::is_ascii_whitespace) {
                bytes.pop();
            }
            bytes
        }
    };
    HmacKey::new(&bytes)
        .map(Some)
        .ok_or(SettingsError::ShortKey { length: bytes.len(), least: HmacKey::LENGTH_MIN })
}

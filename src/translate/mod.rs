//! A change becomes the records that leave for it. Pure: no network, no disk, no clock.
//!
//! The same change under the same rules and epoch always becomes the same bytes: nothing here knows what time it is.

pub mod automatic;
mod context;
pub mod dead_letter;
pub mod envelope;
pub mod id;
pub mod json;
pub mod mapped;
pub mod outbox;
mod promises;
mod settings;
pub mod sql;
pub mod time;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::change::{Change, Message, OldRow, Operation, Relation, ReplicaIdentity};
use crate::config::Automatic;
use crate::event::Records;
use crate::rules::{RuleErrors, Rules};

pub use self::context::{CONTEXT_PREFIX, TransactionContext};
use self::envelope::Envelope;
pub use self::mapped::{Failed, Outcome};
pub use self::promises::{Contracts, Promise};
pub use self::settings::{Addresses, Settings, SettingsError};

use self::sql::Context;

/// Largest record of any Kinesis stream; the stream's own limit may be lower and is looked at when its turn comes.
const LINE_MAX: usize = 10 << 20;

/// Why a change cannot become events. Never contains row values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// A value is not what its type says.
    #[error("column {column}: {reason}")]
    Value {
        /// Column name.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The event would be larger than any stream takes.
    #[error("the event would be larger than {} MiB, the most that any Kinesis stream takes", LINE_MAX >> 20)]
    TooLarge,
    /// The table is not what its rules were written for.
    #[error("the table has changed under its rules: {0}")]
    Drift(String),
    /// What the row would make is not what was locked.
    #[error("{0}")]
    Contract(String),
    /// What the application has put into its outbox is no event.
    #[error("{0}")]
    Outbox(String),
    /// The key would leave as the event's subject.
    #[error(
        "column {column} is part of the key, and holds personal data, which no automatic event may tell: write rules with key = \"hmac({column})\", start again, and retry"
    )]
    KeyTagged {
        /// Column name.
        column: String,
    },
    /// Perhaps it has another name now, under which it would leave.
    #[error(
        "[pii] names the column {column}, which the table does not have any more: if it was renamed, name the new one in \
         pii.columns, and this one as \"*.*.{column}\" for rows from before; start again, and retry"
    )]
    TaggedGone {
        /// Column name.
        column: String,
    },
    /// The server did not send a value without which there is no key.
    #[error("column {column} is part of the key, and the server did not send it")]
    KeyUnavailable {
        /// Column name.
        column: String,
    },
}

/// Turns changes into records. A relation is compiled into plans once and they are used for all its rows.
#[derive(Debug)]
pub struct Translator {
    settings: Settings,
    envelope: Envelope,
    context: Context,
    /// What the transaction that is arriving has said of itself.
    transaction: Option<TransactionContext>,
    /// Event types of messages, by the prefix of their outbox.
    names: HashMap<Vec<u8>, outbox::Names>,
    /// By relation oid, with the description the plans were made from: a table may change in mid-stream.
    plans: HashMap<u32, (Arc<Relation>, Plans), BuildHasherDefault<OidHasher>>,
    /// Plans kept at most; a database with more tables compiles again what it has not seen for a while.
    plans_max: usize,
}

/// What becomes of the changes of one table.
#[derive(Debug)]
struct Plans {
    automatic: Option<automatic::Plan>,
    mapped: Option<Result<mapped::Plan, RuleErrors>>,
    outbox: Option<Result<outbox::Plan, RuleErrors>>,
}

/// Hashes oids, which the server numbers through and nobody chooses: every row is looked up by one.
#[derive(Debug, Default)]
struct OidHasher(u64);

impl OidHasher {
    /// 2^64 by the golden ratio (Knuth).
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
}

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, oid: u32) {
        // The map looks at the lowest bits and at the highest.
        self.0 = u64::from(oid).wrapping_mul(Self::FACTOR).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::FACTOR);
        }
    }
}

impl Translator {
    /// For this CloudEvents source (`urn:forebay:<name>`) and epoch.
    pub fn new(source: &str, epoch: u16, settings: Settings) -> Self {
        Self {
            envelope: Envelope::new(source, epoch),
            context: Context::new(settings.hmac_key.clone()),
            settings,
            transaction: None,
            names: HashMap::new(),
            plans: HashMap::default(),
            plans_max: 10_000,
        }
    }

    /// The same rules for changes of another epoch: what is translated anew belongs to the history it came from.
    #[must_use]
    pub fn of_epoch(&self, epoch: u16) -> Self {
        Self::new(self.source(), epoch, self.settings.clone())
    }

    /// Epoch of the positions in its events.
    pub const fn epoch(&self) -> u16 {
        self.envelope.epoch()
    }

    /// The CloudEvents source of its events.
    pub fn source(&self) -> &str {
        self.envelope.source()
    }

    /// What it was told.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.settings.rules
    }

    /// Whether any rule, or the automatic events, want changes of this table.
    pub fn wants(&self, relation: &Relation) -> bool {
        self.wants_automatic(relation)
            || mapped::has_rules(&self.settings.rules, relation)
            || self.is_outbox(relation)
    }

    fn is_outbox(&self, relation: &Relation) -> bool {
        self.settings.rules.outbox_of(&relation.schema, &relation.table).is_some()
    }

    fn wants_automatic(&self, relation: &Relation) -> bool {
        self.settings.automatic != Automatic::Off
            && !self.is_outbox(relation)
            && self.settings.tables.wants(&relation.schema, &relation.table)
    }

    /// A column with personal data that the automatic events of a table would have in their subject.
    pub fn tagged_key(&self, relation: &Relation) -> Option<String> {
        let also = self.settings.automatic == Automatic::Also;
        let mapped = self.compile(relation).ok().flatten().filter(|_| !also).map(|plan| plan.mapped());
        let all = mapped.is_some_and(|mapped| mapped.insert && mapped.update && mapped.delete);
        let comes = self.wants_automatic(relation) && !all;
        comes.then(|| automatic::tagged_key(relation, &self.settings.pii)).flatten()
    }

    /// Checks the rules of a table against its description.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn check(&self, relation: &Relation) -> Result<(), RuleErrors> {
        outbox::Plan::new(&self.settings.rules, relation, &self.settings.pii)?;
        self.compile(relation).map(drop)
    }

    fn compile(&self, relation: &Relation) -> Result<Option<mapped::Plan>, RuleErrors> {
        let catalog = mapped::Catalog {
            source: self.envelope.source(),
            pii: &self.settings.pii,
            has_hmac_key: self.settings.hmac_key.is_some(),
            automatic: self.settings.automatic,
            schemas: &self.settings.schemas,
            contracts: self.settings.contracts.as_deref(),
        };
        mapped::compile(&self.settings.rules, relation, &catalog)
    }

    fn plan(&self, relation: &Relation) -> Plans {
        let automatic = self
            .wants_automatic(relation)
            .then(|| automatic::Plan::new(relation, self.envelope.source(), &self.settings));
        let outbox = outbox::Plan::new(&self.settings.rules, relation, &self.settings.pii).transpose();
        Plans { automatic, mapped: self.compile(relation).transpose(), outbox }
    }

    /// What all events from here on say of their transaction. Forgotten when the next one begins.
    pub fn set_context(&mut self, context: Option<TransactionContext>) {
        if self.transaction != context {
            self.envelope.set_context(context.as_ref());
            self.transaction = context;
        }
    }

    /// What the transaction has said of itself so far.
    pub const fn transaction_context(&self) -> Option<&TransactionContext> {
        self.transaction.as_ref()
    }

    /// Whose a logical message is, for people; `None`: nobody's.
    pub fn owner_of_message(&self, message: &Message<'_>) -> Option<String> {
        self.settings.rules.outbox_of_message(message.prefix).map(|(outbox, _)| outbox.name())
    }

    /// Adds the event that a logical message is; none if no outbox has its prefix.
    ///
    /// # Errors
    /// It is none, although its prefix says so.
    pub fn message(&mut self, message: &Message<'_>, records: &mut Records) -> Result<(), TranslateError> {
        let Some((outbox, behind)) = self.settings.rules.outbox_of_message(message.prefix) else {
            return Ok(());
        };
        let ours = message.prefix.strip_suffix(behind).unwrap_or_default();
        if !self.names.contains_key(ours) {
            self.names.insert(ours.to_vec(), outbox::Names::default());
        }
        let Some(names) = self.names.get_mut(ours) else { return Ok(()) };
        let tools = outbox::Tools { settings: &self.settings, names, envelope: &mut self.envelope };
        outbox::message(outbox, message, behind, tools, records)
    }

    /// Adds the records of a change; none if no rule wants it. What single rules failed at is told in `outcome`.
    ///
    /// # Errors
    /// The change cannot be translated; `records` may hold a part of it and must be cleared.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        records: &mut Records,
        outcome: &mut Outcome,
    ) -> Result<(), TranslateError> {
        let told = what_is_told(change);
        let (change, relation) = (told.as_ref().unwrap_or(change), change.relation);
        let known = self.plans.get(&relation.oid).is_some_and(|(planned, _)| Arc::ptr_eq(planned, relation));
        if !known {
            if self.plans.len() >= self.plans_max {
                self.plans.clear();
            }
            let plans = self.plan(relation);
            self.plans.insert(relation.oid, (Arc::clone(relation), plans));
        }
        let Some((_, plans)) = self.plans.get_mut(&relation.oid) else { return Ok(()) };
        match &mut plans.outbox {
            Some(Err(errors)) => return Err(TranslateError::Drift(errors.to_string())),
            Some(Ok(plan)) => {
                return plan.translate(change, (&self.settings, &mut self.envelope), records);
            }
            None => {}
        }
        let mut mapped = match &mut plans.mapped {
            Some(Err(errors)) => return Err(TranslateError::Drift(errors.to_string())),
            Some(Ok(plan)) => Some(plan),
            None => None,
        };
        let replaced = mapped.as_ref().is_some_and(|plan| plan.maps(&change.operation))
            && self.settings.automatic != Automatic::Also;
        if let (Some(plan), false) = (&mut plans.automatic, replaced) {
            plan.translate(change, &mut self.envelope, records)?;
        }
        if let Some(plan) = &mut mapped {
            let first = u16::try_from(records.len()).unwrap_or(u16::MAX);
            plan.translate(change, first, (&mut self.context, &mut self.envelope), (records, outcome));
        }
        Ok(())
    }
}

/// A change whose old row says less than its message: partitions have a replica identity of their own, and the server sends what
/// theirs gives, with NULL for the rest, in the form that the table's asks for. `None`: the change is what its message says.
fn what_is_told<'a>(change: &Change<'a>) -> Option<Change<'a>> {
    if change.relation.identity == ReplicaIdentity::Full {
        return None;
    }
    let operation = match change.operation {
        Operation::Update { old: Some(OldRow::Full(old)), new } => {
            Operation::Update { old: Some(OldRow::Key(old)), new }
        }
        Operation::Delete { old: OldRow::Full(old) } => Operation::Delete { old: OldRow::Key(old) },
        _ => return None,
    };
    Some(Change { operation, ..*change })
}

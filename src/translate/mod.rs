//! Translates changes into the records to publish. Does no I/O, and uses no clock.
//!
//! The same change with the same rules and epoch always becomes the same bytes.

pub mod automatic;
mod context;
pub mod envelope;
mod error;
pub mod id;
pub mod mapped;
pub mod outbox;
mod promises;
mod row;
mod settings;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::change::{Change, Message, OldRow, Operation, Relation, ReplicaIdentity};
use crate::config::Automatic;
use crate::event::Records;
use crate::rules::{RuleErrors, Rules};

pub use self::context::{CONTEXT_PREFIX, TransactionContext};
use self::envelope::Envelope;
pub use self::error::TranslateError;
pub use self::mapped::{Failed, Operations, RuleOutcome};
pub use self::promises::{Contracts, Promise};
pub use self::settings::{Addresses, SettingsError, TranslateSettings};

use crate::expression::Context;

/// Translates changes into records. Compiles a relation once and reuses the plans for all its rows.
#[derive(Debug)]
pub struct Translator {
    settings: TranslateSettings,
    envelope: Envelope,
    context: Context,
    /// Context of the transaction being received.
    transaction: Option<TransactionContext>,
    /// Event types of messages, by the prefix of their outbox.
    names: HashMap<Vec<u8>, outbox::Names>,
    /// Plans by relation OID, with the description that they were compiled from, because a table may change
    /// while it is streamed.
    plans: HashMap<u32, (Arc<Relation>, Plans), BuildHasherDefault<OidHasher>>,
    /// Filtered changes per event type, from plans that are no longer kept.
    filtered: HashMap<String, u64>,
    /// Most plans that are kept. A database with more tables compiles some of them again.
    plans_max: usize,
}

/// The plans for one table.
#[derive(Debug)]
struct Plans {
    automatic: Option<automatic::AutomaticPlan>,
    mapped: Option<Result<mapped::RulePlan, RuleErrors>>,
    outbox: Option<Result<outbox::OutboxPlan, RuleErrors>>,
}

/// Hashes OIDs. Clients cannot choose OIDs, so a fast hash without a secret is safe.
#[derive(Debug, Default)]
struct OidHasher(u64);

impl OidHasher {
    /// 2^64 divided by the golden ratio (Knuth).
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
}

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, oid: u32) {
        // The hash map uses the lowest and the highest bits.
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
    pub fn new(source: &str, epoch: u16, settings: TranslateSettings) -> Self {
        Self {
            envelope: Envelope::new(source, epoch),
            context: Context::new(settings.hmac_key.clone())
                .with_previous(settings.hmac_key_previous.clone()),
            settings,
            transaction: None,
            names: HashMap::new(),
            plans: HashMap::default(),
            filtered: HashMap::new(),
            plans_max: 10_000,
        }
    }

    /// A translator with the same rules for another epoch. A change that is translated again keeps its
    /// original epoch.
    #[must_use]
    pub fn of_epoch(&self, epoch: u16) -> Self {
        Self::new(self.source(), epoch, self.settings.clone())
    }

    /// Epoch of the events' positions.
    pub const fn epoch(&self) -> u16 {
        self.envelope.epoch()
    }

    /// CloudEvents source of the events.
    pub fn source(&self) -> &str {
        self.envelope.source()
    }

    /// The settings.
    pub const fn settings(&self) -> &TranslateSettings {
        &self.settings
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.settings.rules
    }

    /// Whether a rule, an outbox or automatic events use changes of this table.
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

    /// The operations of the table that make automatic events.
    pub fn automatic_operations(&self, relation: &Relation) -> Operations {
        let also = self.settings.automatic == Automatic::Also;
        let mapped = self.compile(relation).ok().flatten().filter(|_| !also);
        let mapped = mapped.map(|plan| plan.mapped()).unwrap_or_default();
        let wants = self.wants_automatic(relation);
        Operations {
            insert: wants && !mapped.insert,
            update: wants && !mapped.update,
            delete: wants && !mapped.delete,
        }
    }

    /// The first personal-data column that automatic events of the table would reveal in their subject.
    pub fn tagged_key(&self, relation: &Relation) -> Option<String> {
        let made = self.automatic_operations(relation);
        let comes = made.insert || made.update || made.delete;
        comes.then(|| automatic::tagged_key(relation, &self.settings.pii)).flatten()
    }

    /// Checks the rules of a table against its description.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn check(&self, relation: &Relation) -> Result<(), RuleErrors> {
        outbox::OutboxPlan::new(&self.settings.rules, relation, &self.settings.pii)?;
        self.compile(relation).map(drop)
    }

    fn compile(&self, relation: &Relation) -> Result<Option<mapped::RulePlan>, RuleErrors> {
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
            .then(|| automatic::AutomaticPlan::new(relation, self.envelope.source(), &self.settings));
        let outbox = outbox::OutboxPlan::new(&self.settings.rules, relation, &self.settings.pii).transpose();
        Plans { automatic, mapped: self.compile(relation).transpose(), outbox }
    }

    /// Passes to `take`, per event type, how many changes the conditions of its rules have excluded since the
    /// last call. An event type can be passed several times.
    pub fn take_filtered(&mut self, mut take: impl FnMut(&str, u64)) {
        self.filtered.drain().for_each(|(name, count)| take(&name, count));
        for (_, plans) in self.plans.values_mut() {
            if let Some(Ok(plan)) = &mut plans.mapped {
                plan.take_filtered(&mut take);
            }
        }
    }

    /// Keeps the counts of filtered changes of plans that are dropped.
    fn keep_filtered(&mut self, dropped: impl IntoIterator<Item = Plans>) {
        for mut plans in dropped {
            let Some(Ok(plan)) = &mut plans.mapped else { continue };
            plan.take_filtered(|name, count| *self.filtered.entry(name.to_owned()).or_default() += count);
        }
    }

    /// Sets the transaction context for all events from here on. The next transaction clears it.
    pub fn set_context(&mut self, context: Option<TransactionContext>) {
        if self.transaction != context {
            self.envelope.set_context(context.as_ref());
            self.transaction = context;
        }
    }

    /// Context of the current transaction.
    pub const fn transaction_context(&self) -> Option<&TransactionContext> {
        self.transaction.as_ref()
    }

    /// Name of the outbox that a logical message belongs to, for messages.
    pub fn owner_of_message(&self, message: &Message<'_>) -> Option<String> {
        self.settings.rules.outbox_of_message(message.prefix).map(|(outbox, _)| outbox.name())
    }

    /// Appends the event of a logical message. Does nothing if no outbox has its prefix.
    ///
    /// # Errors
    /// The message has an outbox's prefix but is not a valid event.
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

    /// Appends the records of a change; none if no rule selects it. `outcome` receives the failures of rules.
    ///
    /// # Errors
    /// The change cannot be translated. `records` may contain a part of it and must be cleared.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        records: &mut Records,
        outcome: &mut RuleOutcome,
    ) -> Result<(), TranslateError> {
        let sent = as_sent(change);
        let (change, relation) = (sent.as_ref().unwrap_or(change), change.relation);
        if let Some(unknown) = &relation.unknown
            && !matches!(change.operation, Operation::Truncate { .. })
            && self.wants(relation)
        {
            return Err(TranslateError::PastUnknown(unknown.clone()));
        }
        let known = self.plans.get(&relation.oid).is_some_and(|(planned, _)| Arc::ptr_eq(planned, relation));
        if !known {
            let replaced = self.plans.remove(&relation.oid).map(|(_, plans)| plans);
            self.keep_filtered(replaced);
            if self.plans.len() >= self.plans_max {
                let all = std::mem::take(&mut self.plans);
                self.keep_filtered(all.into_values().map(|(_, plans)| plans));
            }
            let plans = self.plan(relation);
            self.plans.insert(relation.oid, (Arc::clone(relation), plans));
        }
        if self.settings.polled {
            row::identify(change, self.envelope.ids())?;
        }
        let Some((_, plans)) = self.plans.get_mut(&relation.oid) else { return Ok(()) };
        match &mut plans.outbox {
            Some(Err(errors)) => return Err(TranslateError::Drift(errors.to_string())),
            Some(Ok(plan)) => {
                return plan.translate(change, &self.settings, &mut self.envelope, records);
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
            let first = u16::try_from(records.len()).map_err(|_| TranslateError::TooMuch)?;
            plan.translate(change, first, &mut self.context, &mut self.envelope, records, outcome)?;
        }
        Ok(())
    }
}

/// The change with the old row reduced to what the server really sent; `None` if nothing differs. Partitions
/// have replica identities of their own. The server sends the values of the partition's identity in the form
/// of the parent's, and NULL for the rest.
fn as_sent<'a>(change: &Change<'a>) -> Option<Change<'a>> {
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

//! The input of a model, so that a hint can be tried before it is given.

use std::sync::Arc;

use crate::change::{Described, ReplicaIdentity};
use crate::rules::RuleErrors;
use crate::translate::TranslateSettings;

use super::Model;

#[derive(Debug)]
pub(super) struct Basis {
    settings: TranslateSettings,
    tables: Vec<Described>,
}

impl Basis {
    pub(super) fn new(settings: &TranslateSettings, tables: &[Described]) -> Self {
        Self { settings: settings.clone(), tables: tables.to_vec() }
    }
}

impl Model {
    /// The model if a text were pasted in place of a rule; with an index after the last rule, as a further
    /// rule.
    ///
    /// # Errors
    /// All errors in the text.
    pub fn with_rule(&self, nth: usize, text: &str) -> Result<Self, RuleErrors> {
        let Basis { settings, tables } = &*self.basis;
        let rules = Arc::new(settings.rules.replaced(nth, text)?);
        let settings = TranslateSettings { rules, ..settings.clone() };
        Self::new(&self.source, self.schemas.as_deref(), &settings, tables)
    }

    /// The model if every table had `REPLICA IDENTITY FULL`.
    ///
    /// # Errors
    /// All errors in the rules.
    pub fn with_full_identity(&self) -> Result<Self, RuleErrors> {
        let Basis { settings, tables } = &*self.basis;
        let mut tables = tables.clone();
        for table in &mut tables {
            table.relation.identity = ReplicaIdentity::Full;
            table.relation.columns.iter_mut().for_each(|column| column.in_identity = true);
        }
        Self::new(&self.source, self.schemas.as_deref(), settings, &tables)
    }
}

//! Columns that the publication does not send: rules that read one, and tables whose key contains one.

use crate::change::Described;
use crate::config::{Automatic, Tables};
use crate::diagnosis::Diagnosis;
use crate::rules::{RuleError, RuleErrors};
use crate::source::postgres::publication::{PublicationFacts, identity};
use crate::translate::Translator;

/// Adds the reason and a hint to errors about columns that are not sent.
pub(super) fn explain(translator: &Translator, described: &Described, wrong: RuleErrors) -> RuleErrors {
    let mut errors = wrong.0;
    for unsent in &described.unsent {
        let mut relation = described.relation.clone();
        relation.columns.push(unsent.column.clone());
        // With this column added, only errors about other things remain.
        let others: Vec<RuleError> =
            translator.check(&relation).err().map(|wrong| wrong.0).unwrap_or_default();
        for error in errors.iter_mut().filter(|error| !others.contains(error)) {
            error.message = format!("{}: {}", error.message, unsent.reason);
            // Replaces the hint about the spelling.
            error.hint = Some(unsent.hint.clone());
        }
    }
    RuleErrors(errors)
}

/// Published tables whose automatic events would have no key, because the publication does not send all key
/// columns. Rules without a key are rejected on their own.
pub(super) fn keys(publication: &PublicationFacts, tables: &Tables, automatic: Automatic) -> Vec<Diagnosis> {
    let wanted = publication
        .tables
        .iter()
        .filter(|table| automatic != Automatic::Off && tables.wants(&table.name.schema, &table.name.table));
    wanted.filter_map(|table| identity::unsent_key(table, publication.version)).collect()
}

//! Personal data outside of rules: keys of automatic events, and patterns of `[pii]` that match no column.

use crate::change::Described;
use crate::config::{TableName, selector};
use crate::failure::Explain;
use crate::translate::Translator;

/// Columns with personal data that would be published.
#[derive(Debug, thiserror::Error)]
#[error("personal data ([pii]) would be published")]
pub(super) struct Exposed(Vec<ExposedColumn>);

/// One of these columns.
#[derive(Debug)]
struct ExposedColumn {
    /// Why it would be published.
    fact: String,
    /// How to prevent that.
    advice: String,
}

impl Explain for Exposed {
    fn code(&self) -> Option<&'static str> {
        Some("personal_data_exposed")
    }

    fn detail(&self) -> Option<String> {
        Some(self.0.iter().map(|column| column.fact.as_str()).collect::<Vec<_>>().join("\n"))
    }

    fn hint(&self) -> Option<String> {
        Some(self.0.iter().map(|column| column.advice.as_str()).collect::<Vec<_>>().join("\n"))
    }
}

/// Checks the tables against the patterns of `[pii]`.
///
/// # Errors
/// A key with personal data would be the subject of automatic events. Or a pattern matches no column: it has
/// a typing error, or the column was renamed and would be published under its new name.
pub(super) fn check(translator: &Translator, tables: &[Described]) -> Result<(), Exposed> {
    let mut exposed = Vec::new();
    for relation in tables.iter().map(|table| &table.relation) {
        if let Some(column) = translator.tagged_key(relation) {
            let table = relation.name();
            exposed.push(ExposedColumn {
                fact: format!("{table}: {column} is part of the key, which is the subject of the automatic events"),
                advice: format!(
                    "Write rules about inserts, updates and deletes of {table} with key = \"hmac({column})\", or leave \
                     the table out (tables.exclude)."
                ),
            });
        }
    }
    for relation in tables.iter().map(|table| &table.relation) {
        let (schema, table, name) = (&relation.schema, &relation.table, relation.name());
        let has = |name: &str| relation.has_had(name);
        if let Some((column, origin)) = translator.settings().pii.renamed(relation) {
            let column = TableName { schema: schema.clone(), table: table.clone() }.column(&column.name);
            exposed.push(ExposedColumn {
                fact: format!("{column} was {origin}, which holds personal data"),
                advice: format!("Add {column:?} to pii.columns, or \"!{column}\" if it holds none."),
            });
        }
        for column in translator.settings().pii.not_there(schema, table, has) {
            let earlier = format!("?{name}.{}", selector::quoted(&column));
            exposed.push(ExposedColumn {
                fact: format!("pii.columns: {name} has no published column {column}"),
                advice: format!(
                    "Correct the name {column:?}. If rows were written when {name} had that column, write {earlier:?}."
                ),
            });
        }
    }
    if exposed.is_empty() { Ok(()) } else { Err(Exposed(exposed)) }
}

//! Personal data outside of rules: keys of automatic events, and patterns of `[pii]` that match no column.

use crate::change::Described;
use crate::config::{TableName, selector};
use crate::failure::Explain;
use crate::translate::Translator;

/// What must not be published like this.
#[derive(Debug, thiserror::Error)]
#[error("personal data ([pii]) would be published")]
pub(super) struct Exposed(Vec<String>);

impl Explain for Exposed {
    fn code(&self) -> Option<&'static str> {
        Some("personal_data_exposed")
    }

    fn detail(&self) -> Option<String> {
        Some(self.0.join("\n"))
    }
}

/// Looks at the tables that `[pii]` may speak of.
///
/// # Errors
/// A key that holds personal data would be the subject of automatic events; or a column that is named is not there, which is a
/// slip of the pen or a column with a new name: nothing would be kept back.
pub(super) fn check(translator: &Translator, tables: &[Described]) -> Result<(), Exposed> {
    let mut exposed = Vec::new();
    for relation in tables.iter().map(|table| &table.relation) {
        if let Some(column) = translator.tagged_key(relation) {
            let table = relation.name();
            exposed.push(format!(
                "{table}: {column} is part of the key, which is the subject of the automatic events; write rules about inserts, \
                 updates and deletes with key = \"hmac({column})\", or leave the table out (tables.exclude)"
            ));
        }
    }
    for relation in tables.iter().map(|table| &table.relation) {
        let (schema, table, name) = (&relation.schema, &relation.table, relation.name());
        let has = |name: &str| relation.has_had(name);
        if let Some((column, origin)) = translator.settings().pii.renamed(relation) {
            let column = TableName { schema: schema.clone(), table: table.clone() }.column(&column.name);
            exposed.push(format!(
                "{column} was {origin}, which holds personal data: add {column:?} to pii.columns, or \"!{column}\" if it holds none"
            ));
        }
        for column in translator.settings().pii.not_there(schema, table, has) {
            exposed.push(format!(
                "pii.columns: {name} has no published column {column}; correct it, or, for rows that were written \
                 when it had that name, write {:?}",
                format!("?{name}.{}", selector::quoted(&column))
            ));
        }
    }
    if exposed.is_empty() { Ok(()) } else { Err(Exposed(exposed)) }
}

//! `[tables]`: which tables have automatic events, and which columns are left out.

use std::fmt;

use super::keys::Keys;
use super::selector::{self, SelectorKind, matches};
use crate::failure::Problem;

/// A table by schema and name, printed in selector syntax: `lab.plates`, `lab."a.b"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl TableName {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |error: Problem| match error.hint() {
            Some(_) => error,
            None => error.with_hint("Write schema.table, such as \"public.orders\"."),
        };
        selector::check(text, SelectorKind::Table).map_err(wrong)?;
        let mut names = selector::names(text).into_iter();
        match (names.next().flatten(), names.next().flatten()) {
            (Some(schema), Some(table)) if !selector::is_optional(text) => {
                Ok(Self { schema: schema.into_owned(), table: table.into_owned() })
            }
            _ => Err(wrong(format!("{text:?} is not a single table").into())),
        }
    }

    pub(super) fn list(keys: &mut Keys, key: &str) -> Option<Vec<Self>> {
        let mut names = Vec::new();
        let texts = keys.list(key)?;
        if texts.is_empty() {
            let empty = Problem::new("lists no table");
            keys.error(key, empty.with_hint("Remove the key to select every table with a key."));
        }
        for text in texts {
            match Self::parse(&text) {
                Ok(name) => names.push(name),
                Err(error) => keys.error(key, error),
            }
        }
        Some(names)
    }
}

impl TableName {
    /// A column of this table, in selector syntax.
    pub fn column(&self, column: &str) -> String {
        format!("{self}.{}", selector::quoted(column))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", selector::quoted(&self.schema), selector::quoted(&self.table))
    }
}

/// Selection of tables and columns. `*` matches every schema, table or column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Included tables (`schema.table`, `schema.*`). Empty: all.
    pub include: Vec<String>,
    /// Excluded tables.
    pub exclude: Vec<String>,
    /// Columns that are never published (`schema.table.column`, `*.*.password`).
    pub drop: Vec<String>,
}

impl Tables {
    pub(super) fn read(keys: &mut Keys) -> Self {
        Self {
            include: selectors(keys, "tables.include", SelectorKind::Table),
            exclude: selectors(keys, "tables.exclude", SelectorKind::Table),
            drop: columns_to_drop(keys),
        }
    }

    /// Whether the table is included and not excluded.
    pub fn wants(&self, schema: &str, table: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, &[schema, table]));
        (self.include.is_empty() || listed(&self.include)) && !listed(&self.exclude)
    }

    /// Whether the column is never published.
    pub fn drops(&self, schema: &str, table: &str, column: &str) -> bool {
        self.drop.iter().any(|pattern| matches(pattern, &[schema, table, column]))
    }
}

fn columns_to_drop(keys: &mut Keys) -> Vec<String> {
    let list = selectors(keys, "tables.drop", SelectorKind::Column);
    for text in list.iter().filter(|text| selector::is_exception(text)) {
        keys.error("tables.drop", format!("{text:?}: ! is possible in pii.columns only"));
    }
    list
}

/// Reads an array of selectors.
pub(super) fn selectors(keys: &mut Keys, key: &str, kind: SelectorKind) -> Vec<String> {
    let list = keys.list(key).unwrap_or_default();
    for error in list.iter().filter_map(|text| selector::check(text, kind).err()) {
        keys.error(key, error);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_name() {
        let tables = Tables {
            include: vec!["lab.*".into()],
            exclude: vec!["lab.audit".into()],
            drop: vec!["*.*.password".into(), "lab.plates.notes".into()],
        };
        assert!(tables.wants("lab", "plates"));
        assert!(!tables.wants("lab", "audit"));
        assert!(!tables.wants("shop", "orders"));
        assert!(tables.drops("shop", "users", "password"));
        assert!(tables.drops("lab", "plates", "notes"));
        assert!(!tables.drops("lab", "plates", "id"));
    }
}

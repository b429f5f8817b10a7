//! `[tables]`: which tables make automatic events, and without which columns.

use std::fmt;

use super::keys::Keys;

/// A table by schema and name, as typed: `lab.plates`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl TableName {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
                Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
            }
            _ => Err(format!("{text:?} is not a table; write schema.table, such as \"public.orders\"")),
        }
    }

    pub(super) fn list(keys: &mut Keys, key: &str) -> Option<Vec<Self>> {
        let mut names = Vec::new();
        let texts = keys.list(key)?;
        if texts.is_empty() {
            keys.error(key, "names no table; leave the key out for every table with a key");
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

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Selection of tables and columns. A `*` stands for every schema, table or column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Only these (`schema.table`, `schema.*`); empty: all.
    pub include: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Columns that never leave (`schema.table.column`, `*.*.password`).
    pub drop: Vec<String>,
}

impl Tables {
    pub(super) fn read(keys: &mut Keys) -> Self {
        Self {
            include: patterns(keys, "tables.include", 2, "schema.table or schema.*"),
            exclude: patterns(keys, "tables.exclude", 2, "schema.table or schema.*"),
            drop: patterns(keys, "tables.drop", 3, "schema.table.column, where each part may be *"),
        }
    }

    /// Whether changes of this table make events.
    pub fn wants(&self, schema: &str, table: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, &[schema, table]));
        (self.include.is_empty() || listed(&self.include)) && !listed(&self.exclude)
    }

    /// Whether this column never leaves.
    pub fn drops(&self, schema: &str, table: &str, column: &str) -> bool {
        self.drop.iter().any(|pattern| matches(pattern, &[schema, table, column]))
    }
}

/// A list of patterns with so many parts.
pub(super) fn patterns(keys: &mut Keys, key: &str, parts: usize, form: &str) -> Vec<String> {
    let list = keys.list(key).unwrap_or_default();
    for text in &list {
        if text.split('.').count() != parts || text.split('.').any(str::is_empty) {
            keys.error(key, format!("{text:?} does not have the form {form}"));
        }
    }
    list
}

pub(super) fn matches(pattern: &str, names: &[&str]) -> bool {
    let mut parts = pattern.split('.');
    names.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == *name))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_name() {
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

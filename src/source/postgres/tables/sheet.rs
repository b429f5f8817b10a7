//! The description of one announced table, and what is needed to fill in other states of its types.

use std::collections::HashMap;

use super::state::TableState;
use super::types::TypesThen;
use crate::change::{Column, PersonalOrigin, Relation, ReplicaIdentity};
use crate::source::postgres::catalog::modified;
use crate::source::postgres::pgoutput::Announced;
use crate::types::{Kind, SqlType};

/// A described table.
#[derive(Clone, Debug)]
pub(in crate::source::postgres) struct Sheet {
    relation: Relation,
    /// Type and modifier of each column, then of each absent column.
    types: Vec<(u32, i32)>,
    /// Types used by its columns that can change without an announcement.
    pub mutable: Vec<u32>,
    /// Whether two keys were possible and this is the likelier one.
    pub is_guess: bool,
    /// Whether its partitions may send less of old rows than its replica identity promises.
    pub sends_less: bool,
}

impl Sheet {
    /// From an announcement. `key` has the names of the key's columns, if they are known.
    pub(in crate::source::postgres) fn new(
        announced: Announced,
        key: Option<Vec<String>>,
        not_null: impl Fn(&str) -> bool,
        absent: Vec<(String, u32, i32)>,
    ) -> Self {
        let Announced { oid, schema, table, identity, columns } = announced;
        let position = |name: &String| columns.iter().position(|column| &column.name == name);
        let primary_key = match key {
            Some(key) => key.iter().map(position).collect::<Option<Vec<usize>>>().unwrap_or_default(),
            None if identity == ReplicaIdentity::Default => {
                (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|c| c.in_identity)).collect()
            }
            None => Vec::new(),
        };
        let mut types: Vec<(u32, i32)> =
            columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
        types.extend(absent.iter().map(|(_, type_oid, modifier)| (*type_oid, *modifier)));
        let full = identity == ReplicaIdentity::Full;
        let text = || SqlType::plain(crate::types::Base::Text);
        let columns = columns.into_iter().map(|column| Column {
            kind: Kind::Text,
            data_type: text(),
            not_null: not_null(&column.name),
            origin: None,
            in_identity: column.in_identity || full,
            name: column.name,
        });
        let columns = columns.collect();
        let absent = absent.into_iter().map(|(name, _, _)| Column {
            name,
            kind: Kind::Text,
            data_type: text(),
            not_null: false,
            origin: None,
            in_identity: false,
        });
        let absent = absent.collect();
        let relation = Relation { oid, schema, table, identity, columns, primary_key, absent, unknown: None };
        Self { relation, types, mutable: Vec::new(), is_guess: false, sends_less: false }
    }

    /// From the table of a dead letter, with the types of a state that has all its columns.
    pub(super) fn again(relation: &Relation, state: &TableState) -> Option<Self> {
        let columns = relation.columns.iter().chain(&relation.absent);
        let types = columns.map(|column| {
            let found = state.columns.iter().find(|known| known.name == column.name);
            found.map(|known| (known.type_oid, known.modifier))
        });
        let types = types.collect::<Option<Vec<_>>>()?;
        let mut relation = relation.clone();
        if relation.unknown.take().is_some() && relation.primary_key.is_empty() {
            let position = |name: &String| relation.columns.iter().position(|column| column.name == *name);
            relation.primary_key = state.key.iter().map(position).collect::<Option<_>>()?;
        }
        Some(Self { relation, types, mutable: Vec::new(), is_guess: false, sends_less: false })
    }

    /// Sets the personal data origin of its columns, by name.
    pub(super) fn set_origins(&mut self, origins: &HashMap<String, PersonalOrigin>) {
        for column in self.relation.columns.iter_mut().chain(&mut self.relation.absent) {
            column.origin = origins.get(&column.name).cloned();
        }
    }

    /// Sets what is unknown about it.
    pub(super) fn set_unknown(&mut self, unknown: Option<String>) {
        self.relation.unknown = unknown;
    }

    /// The types of its columns.
    pub(super) fn type_oids(&self) -> Vec<u32> {
        self.types.iter().map(|(oid, _)| *oid).collect()
    }

    /// Fills in the types as they were at the time of a row.
    pub(super) fn fill(&mut self, then: &TypesThen<'_>) {
        let oids = self.type_oids();
        let (kinds, data_types) = (then.kinds(&oids), then.data_types(&oids));
        let columns = self.relation.columns.iter_mut().chain(&mut self.relation.absent);
        for (column, (oid, modifier)) in columns.zip(&self.types) {
            column.kind = kinds.get(oid).cloned().unwrap_or(Kind::Text);
            column.data_type = modified(&data_types, *oid, *modifier);
        }
    }

    /// The table with its own replica identity.
    pub(in crate::source::postgres) const fn relation(&self) -> &Relation {
        &self.relation
    }

    /// The table with the replica identity that its rows have for certain.
    pub(super) fn sent(&self) -> Relation {
        if self.sends_less { self.relation.by_primary_key() } else { self.relation.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::pgoutput::AnnouncedColumn;

    #[test]
    fn partly_published_key_is_no_key() {
        for (key, expected) in
            [(vec!["name", "id"], vec![1, 0]), (vec!["id", "tenant"], vec![]), (vec![], vec![])]
        {
            let column = |name: &str| AnnouncedColumn {
                name: name.into(),
                type_oid: 25,
                modifier: -1,
                in_identity: false,
            };
            let announced = Announced {
                oid: 1,
                schema: "lab".into(),
                table: "plates".into(),
                identity: ReplicaIdentity::Full,
                columns: vec![column("id"), column("name")],
            };
            let key = Some(key.into_iter().map(str::to_owned).collect());
            let sheet = Sheet::new(announced, key, |_| false, Vec::new());
            assert_eq!(sheet.relation().primary_key, expected);
        }
    }
}

//! The definitions of tables and types at one moment.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::change::ReplicaIdentity;
use crate::source::postgres::pgoutput::{Announced, AnnouncedColumn};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableState {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// `pg_class.relreplident`.
    pub identity: String,
    /// Its columns, without dropped ones.
    pub columns: Vec<ColumnState>,
    /// Names of the primary key's columns, in the key's order.
    pub key: Vec<String>,
    /// `pg_class.oid` of the primary key's index; 0 if there is none.
    pub key_index: u32,
    /// Its partitions that send less of an old row than its `REPLICA IDENTITY FULL` promises.
    pub lesser: Vec<u32>,
    /// Its partitions that send all of it, each with the transaction that wrote its definition.
    pub whole: Vec<(u32, u32)>,
    /// The transaction that wrote the newest of its columns and its key.
    #[serde(default)]
    pub newest: Option<u32>,
    /// The transaction that wrote the newest part of the key: its index and the names of its columns.
    #[serde(default)]
    pub key_newest: Option<u32>,
    /// The transaction that created the table.
    #[serde(default)]
    pub created: Option<u32>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnState {
    /// `attnum`.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// `pg_type.oid`.
    #[serde(rename = "type")]
    pub type_oid: u32,
    /// `atttypmod`.
    pub modifier: i32,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Whether it is a generated column that is not sent.
    pub generated: bool,
    /// Whether the publication's column list includes it, or there is none.
    pub listed: bool,
    /// The columns of ancestors that it is inherited from: table OID, number, and the table's schema and
    /// name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<(u32, i16, String, String)>,
    /// Numbers of the columns that it is computed from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub computed: Vec<i16>,
}

impl TableState {
    /// Whether both have the same definition, whenever they were written.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (newest, key_newest, whole) = (self.newest, self.key_newest, self.whole.clone());
        *self == Self { whole, newest, key_newest, ..other.clone() }
    }

    /// Whether the server would announce this table in this way. `loosely`: columns may be missing in the
    /// announcement.
    pub(super) fn fits(&self, announced: &Announced, loosely: bool) -> bool {
        let identity = match announced.identity {
            ReplicaIdentity::Default => "d",
            ReplicaIdentity::Nothing => "n",
            ReplicaIdentity::Full => "f",
            ReplicaIdentity::Index => "i",
        };
        let by_name: HashMap<&str, &ColumnState> =
            self.columns.iter().map(|column| (column.name.as_str(), column)).collect();
        let is_there = announced.columns.iter().all(|column| {
            by_name
                .get(column.name.as_str())
                .is_some_and(|ours| ours.type_oid == column.type_oid && ours.modifier == column.modifier)
        });
        let sent = |column: &&ColumnState| column.listed && !column.generated;
        is_there
            && self.identity == identity
            && self.schema == announced.schema
            && self.table == announced.table
            && (loosely
                || self
                    .columns
                    .iter()
                    .filter(sent)
                    .all(|ours| announced.columns.iter().any(|column| column.name == ours.name)))
    }

    /// The name of a column, if the announcement has it with the same type.
    pub(super) fn has_in<'a>(&self, name: &'a str, announced: &Announced) -> Option<&'a str> {
        let ours = self.columns.iter().find(|column| column.name == name)?;
        let is_it = |column: &AnnouncedColumn| column.name == name && column.type_oid == ours.type_oid;
        announced.columns.iter().any(is_it).then_some(name)
    }
}

/// Most attributes of a composite that one transaction may have altered. Up to this number, all combinations
/// are tried with its rows.
const OWN_ALTERATIONS_MAX: usize = 3;

/// The kind of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TypeShape {
    /// A domain over `part`.
    Domain,
    /// An array of `part`.
    Array,
    /// A composite of `fields`.
    Composite,
    /// An enum of `labels`.
    Enum,
    /// The type of the extension `hstore`.
    Hstore,
    /// Any other.
    Other,
}

/// A type. Domains and arrays never change; fields of a composite and labels of an enum do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TypeState {
    /// Its kind.
    pub shape: TypeShape,
    /// OID of its base or element type.
    pub part: u32,
    /// `typtypmod`.
    pub modifier: i32,
    /// The delimiter of array elements.
    pub delimiter: u8,
    /// Whether expressions can use it as an array.
    pub plain: bool,
    /// Its name in SQL.
    pub name: String,
    /// Attributes of a composite, dropped ones included.
    pub fields: Vec<FieldState>,
    /// Labels of an enum, in its order.
    pub labels: Vec<String>,
    /// The transaction that wrote the newest label.
    pub since: Option<u32>,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FieldState {
    /// `attnum`.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// `pg_type.oid`.
    #[serde(rename = "type")]
    pub type_oid: u32,
    /// Whether it was dropped.
    pub dropped: bool,
    /// The transaction that wrote it.
    pub since: u32,
}

impl TypeState {
    /// Whether it can change without an announcement.
    pub(super) const fn is_mutable(&self) -> bool {
        matches!(self.shape, TypeShape::Composite | TypeShape::Enum)
    }

    /// OIDs of the types that it consists of.
    pub(super) fn parts(&self) -> Vec<u32> {
        match self.shape {
            TypeShape::Domain | TypeShape::Array => vec![self.part],
            TypeShape::Composite => {
                self.fields.iter().filter(|field| !field.dropped).map(|field| field.type_oid).collect()
            }
            TypeShape::Enum | TypeShape::Hstore | TypeShape::Other => Vec::new(),
        }
    }

    /// The forms of the composite that transaction `xid` may have used, between `older` and this state. Each
    /// attribute has the form of the last transaction that wrote it. Attributes that `xid` itself altered may
    /// have either form, in any combination: it is unknown in which order it altered them, and between which
    /// alterations it wrote its rows. The form before its own alterations is the first, the form after all of
    /// them the last. Empty if the forms are unknown.
    pub(super) fn as_of(&self, older: &Self, xid: u32) -> Vec<Self> {
        let own: Vec<i16> =
            self.fields.iter().filter(|field| field.since == xid).map(|field| field.number).collect();
        if self.shape != TypeShape::Composite || own.len() > OWN_ALTERATIONS_MAX {
            return Vec::new();
        }
        let forms = 0..1_u32 << own.len();
        forms
            .filter_map(|altered| {
                let is_altered = |number: i16| {
                    own.iter().position(|own| *own == number).is_some_and(|at| altered & (1 << at) != 0)
                };
                self.with(older, |field| precedes(field.since, xid) || is_altered(field.number))
            })
            .collect()
    }

    /// The composite between `older` and this state, with those attributes of this state for which `altered`
    /// is true.
    fn with(&self, older: &Self, altered: impl Fn(&FieldState) -> bool) -> Option<Self> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            if altered(field) {
                fields.push(field.clone());
                continue;
            }
            let before = older.fields.iter().find(|before| before.number == field.number);
            match before {
                Some(before) if !before.dropped || field.dropped => fields.push(before.clone()),
                Some(_) => return None,
                // It was added after the transaction, or existed under another name.
                None => {}
            }
        }
        Some(Self { fields, ..self.clone() })
    }

    /// Whether this transaction altered so much of the composite that not all forms in between are tried.
    pub(super) fn was_remade_by(&self, xid: u32) -> bool {
        self.fields.iter().filter(|field| field.since == xid).count() > OWN_ALTERATIONS_MAX
    }

    /// Whether this transaction altered the composite, as far as later alterations show that.
    pub(super) fn was_altered_by(&self, xid: u32) -> bool {
        self.fields.iter().any(|field| field.since == xid)
    }

    /// Whether this transaction wrote the whole composite, because it created it.
    pub(super) fn was_made_by(&self, xid: u32) -> bool {
        self.fields.iter().all(|field| field.since == xid)
    }

    /// Whether a later transaction than this one altered the composite.
    pub(super) fn was_altered_after(&self, xid: u32) -> bool {
        self.fields.iter().any(|field| precedes(xid, field.since))
    }

    /// The transaction that wrote its newest part.
    pub(super) fn newest(&self) -> Option<u32> {
        let fields = self.fields.iter().map(|field| field.since);
        fields.chain(self.since).reduce(|a, b| if precedes(a, b) { b } else { a })
    }
}

/// Whether transaction id `a` was assigned before `b`. They must be within 2^31 of each other.
pub(super) fn precedes(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

//! The SQL type of a column, for expressions: how its text form is read and which operators it has.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A type with its modifier: `numeric(10,2)`, `varchar(20)`. A domain is replaced by its base type, as for
/// PostgreSQL's operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlType {
    /// The type.
    pub base: Base,
    /// `atttypmod`; -1 without a modifier. For an array, that of its elements.
    pub modifier: i32,
}

impl SqlType {
    /// A type without a modifier.
    pub const fn plain(base: Base) -> Self {
        Self { base, modifier: -1 }
    }
}

/// A type without its modifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`
    Numeric,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `text`
    Text,
    /// `character varying`
    Varchar,
    /// `character`, blank-padded
    Bpchar,
    /// `name`
    Name,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `bytea`
    Bytea,
    /// An enum.
    Enum(Arc<Enumeration>),
    /// An array, of any number of dimensions.
    Array(Arc<Base>),
    /// Any other type. Values can be passed through, compared with NULL and cast to text.
    Other(Arc<Named>),
}

/// An enum type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enumeration {
    /// `pg_type.oid`; 0 if the type does not come from a database.
    pub oid: u32,
    /// Name, with its schema unless that is on the search path.
    pub name: String,
    /// Labels in the order of the enum.
    pub labels: Vec<String>,
}

/// A type known by name only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// `pg_type.oid`; 0 if the type does not come from a database.
    pub oid: u32,
    /// Name in SQL.
    pub name: String,
}

/// The parts of a type of which [`Base`] knows only the name: the attributes of a composite, or the subtype
/// of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeParts {
    /// Its name, as in [`Named`].
    pub name: String,
    /// The parts in order, without dropped ones.
    pub parts: Vec<TypePart>,
}

/// One part of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePart {
    /// Name of the attribute; empty for the subtype of a range.
    pub name: String,
    /// Its type.
    pub data_type: SqlType,
}

impl Base {
    /// The built-in type with this OID. `None` for user-defined types and for types that expressions treat as
    /// opaque.
    pub fn builtin(oid: u32) -> Option<Self> {
        let array = |element| Some(Self::Array(Arc::new(element)));
        match oid {
            16 => Some(Self::Bool),
            17 => Some(Self::Bytea),
            19 => Some(Self::Name),
            20 => Some(Self::Int8),
            21 => Some(Self::Int2),
            23 => Some(Self::Int4),
            25 => Some(Self::Text),
            114 => Some(Self::Json),
            700 => Some(Self::Float4),
            701 => Some(Self::Float8),
            1042 => Some(Self::Bpchar),
            1043 => Some(Self::Varchar),
            1082 => Some(Self::Date),
            1083 => Some(Self::Time),
            1114 => Some(Self::Timestamp),
            1184 => Some(Self::TimestampTz),
            1186 => Some(Self::Interval),
            1700 => Some(Self::Numeric),
            2950 => Some(Self::Uuid),
            3802 => Some(Self::Jsonb),
            1000 => array(Self::Bool),
            1001 => array(Self::Bytea),
            1003 => array(Self::Name),
            1016 => array(Self::Int8),
            1005 => array(Self::Int2),
            1007 => array(Self::Int4),
            1009 => array(Self::Text),
            199 => array(Self::Json),
            1021 => array(Self::Float4),
            1022 => array(Self::Float8),
            1014 => array(Self::Bpchar),
            1015 => array(Self::Varchar),
            1182 => array(Self::Date),
            1183 => array(Self::Time),
            1115 => array(Self::Timestamp),
            1185 => array(Self::TimestampTz),
            1187 => array(Self::Interval),
            1231 => array(Self::Numeric),
            2951 => array(Self::Uuid),
            3807 => array(Self::Jsonb),
            _ => None,
        }
    }

    /// The OID of the type; 0 if unknown.
    pub fn oid(&self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Bytea => 17,
            Self::Name => 19,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text => 25,
            Self::Json => 114,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Bpchar => 1042,
            Self::Varchar => 1043,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::TimestampTz => 1184,
            Self::Interval => 1186,
            Self::Numeric => 1700,
            Self::Uuid => 2950,
            Self::Jsonb => 3802,
            Self::Enum(enumeration) => enumeration.oid,
            Self::Other(named) => named.oid,
            Self::Array(element) => Self::array_oid(element),
        }
    }

    fn array_oid(element: &Self) -> u32 {
        match element {
            Self::Bool => 1000,
            Self::Bytea => 1001,
            Self::Name => 1003,
            Self::Int8 => 1016,
            Self::Int2 => 1005,
            Self::Int4 => 1007,
            Self::Text => 1009,
            Self::Json => 199,
            Self::Float4 => 1021,
            Self::Float8 => 1022,
            Self::Bpchar => 1014,
            Self::Varchar => 1015,
            Self::Date => 1182,
            Self::Time => 1183,
            Self::Timestamp => 1115,
            Self::TimestampTz => 1185,
            Self::Interval => 1187,
            Self::Numeric => 1231,
            Self::Uuid => 2951,
            Self::Jsonb => 3807,
            Self::Enum(_) | Self::Array(_) | Self::Other(_) => 0,
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Numeric => "numeric",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Text => "text",
            Self::Varchar => "character varying",
            Self::Bpchar => "character",
            Self::Name => "name",
            Self::Date => "date",
            Self::Time => "time without time zone",
            Self::Timestamp => "timestamp without time zone",
            Self::TimestampTz => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Bytea => "bytea",
            Self::Enum(enumeration) => &enumeration.name,
            Self::Other(named) => &named.name,
            Self::Array(element) => return write!(f, "{element}[]"),
        })
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEADER: i32 = 4; // VARHDRSZ: Postgres stores lengths and precisions with it
        let length = self.modifier.wrapping_sub(HEADER);
        match self.base {
            _ if self.modifier < HEADER => self.base.fmt(f),
            Base::Numeric => {
                // Fifteen bits of precision above eleven bits of scale, which is signed since PostgreSQL 15.
                let scale = ((length & 0x7FF) ^ 1024) - 1024;
                write!(f, "numeric({},{scale})", (length >> 16) & 0xFFFF)
            }
            Base::Varchar | Base::Bpchar => write!(f, "{}({length})", self.base),
            _ => self.base.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_type_matches_its_oid() {
        let known: Vec<_> = (0..5000).filter_map(|oid| Some((oid, Base::builtin(oid)?))).collect();
        assert_eq!(known.len(), 40);
        for (oid, base) in known {
            assert_eq!(base.oid(), oid, "{base}");
        }
    }

    #[test]
    fn type_names_match_postgres() {
        for (base, modifier, name) in [
            (Base::Numeric, (10 << 16 | 3) + 4, "numeric(10,3)"),
            (Base::Numeric, (3 << 16 | (2048 - 2)) + 4, "numeric(3,-2)"),
            (Base::Numeric, -1, "numeric"),
            (Base::Varchar, 24, "character varying(20)"),
            (Base::Array(Arc::new(Base::Int4)), -1, "integer[]"),
        ] {
            assert_eq!(SqlType { base, modifier }.to_string(), name);
        }
    }
}

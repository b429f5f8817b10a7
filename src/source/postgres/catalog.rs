//! Reads kinds of types and primary keys of tables from the catalogue.
//!
//! Reads only `pg_catalog` tables that every role may read, always by their qualified names, because the
//! database may set `search_path`. Built-in types need no query, because their OIDs never change. An unknown
//! type is never an error: its values are text.

mod ancestors;
mod data_types;
mod describe;
mod parts;
pub(super) mod selected;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::types::{Kind as BuiltinKind, Type};
use tokio_postgres::{Client, Error, Row};

use crate::types::{Kind, SqlType};

use super::name::{CatalogText, raw_name, texts};

pub use ancestors::ancestors;
pub(super) use data_types::{DataShape, NamedShape, data_types_of};
pub use data_types::{data_types, modified};
pub use describe::{SentColumns, describe, partitions_not_full};
pub use selected::{candidates, exists, nearest_table};

/// Facts about a table and the types of its columns.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How values become JSON, by type.
    pub kinds: HashMap<u32, Kind>,
    /// Types for expressions.
    pub data_types: HashMap<u32, SqlType>,
    /// Names of the primary key's columns.
    pub primary_key: Vec<String>,
}

/// Reads all of these facts.
pub async fn known(client: &Client, table: u32, types: &[u32]) -> Result<Known, Error> {
    Ok(Known {
        kinds: kinds(client, types).await?,
        data_types: data_types(client, types).await?,
        primary_key: primary_key(client, table).await?,
    })
}

/// Most nested levels of arrays, domains and composites. Each level is one query, and deeper types are text.
/// This is half of what `json` accepts, so no kind from here is too deep for it.
const MAX_DEPTH: usize = 16;

/// The kinds of all these types. A type that is unknown, or was dropped in the meantime, is [`Kind::Text`].
pub async fn kinds(client: &Client, oids: &[u32]) -> Result<HashMap<u32, Kind>, Error> {
    let mut shapes = HashMap::new();
    let mut wanted: Vec<u32> = oids.to_vec();
    for _ in 0..MAX_DEPTH {
        wanted.retain(|oid| builtin(*oid).is_none() && !shapes.contains_key(oid));
        if wanted.is_empty() {
            break;
        }
        let found = load(client, &wanted).await?;
        // A type that does not exist must not be requested again.
        shapes.extend(wanted.drain(..).map(|oid| (oid, Shape::Text)));
        wanted.extend(found.iter().flat_map(|(_, shape)| shape.parts()));
        shapes.extend(found);
    }
    Ok(kinds_of(shapes.into_iter(), oids))
}

/// Names of the primary key's columns, in the key's order; empty if the table has no key or does not exist.
pub async fn primary_key(client: &Client, relation_oid: u32) -> Result<Vec<String>, Error> {
    const QUERY: &str = concat!(
        "SELECT ",
        raw_name!("a.attname"),
        "
        FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts::int) AS k(nth)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.nth - 1]
        WHERE i.indrelid = $1 AND i.indisprimary
        ORDER BY k.nth"
    );
    let rows = client.query_typed(QUERY, &[(&relation_oid, Type::OID)]).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, CatalogText>(0)?.0)).collect()
}

/// The kind of a built-in type; `None` for other types, and for built-in types of later PostgreSQL versions.
fn builtin(oid: u32) -> Option<Kind> {
    let builtin = Type::from_oid(oid)?;
    let vector_of = |element| Kind::Vector { element: Arc::new(element) };
    Some(match builtin {
        Type::BOOL => Kind::Bool,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::NUMERIC => Kind::Number,
        Type::FLOAT4 | Type::FLOAT8 => Kind::Float,
        Type::DATE => Kind::Date,
        Type::TIMESTAMP => Kind::Timestamp,
        Type::TIMESTAMPTZ => Kind::TimestampTz,
        Type::BYTEA => Kind::Bytea,
        Type::JSON | Type::JSONB => Kind::Json,
        Type::INT2_VECTOR => vector_of(Kind::Number),
        Type::OID_VECTOR => vector_of(Kind::Text),
        _ => match builtin.kind() {
            BuiltinKind::Array(element) => Kind::Array {
                element: Arc::new(self::builtin(element.oid()).unwrap_or(Kind::Text)),
                delimiter: if *element == Type::BOX { b';' } else { b',' },
            },
            _ => Kind::Text,
        },
    })
}

/// Whether this is a built-in type, which never changes.
pub(super) fn is_builtin(oid: u32) -> bool {
    builtin(oid).is_some()
}

/// The kinds of types with known shapes. Other types are [`Kind::Text`].
pub(super) fn kinds_of(shapes: impl Iterator<Item = (u32, Shape)>, oids: &[u32]) -> HashMap<u32, Kind> {
    let shapes = shapes.collect();
    let mut resolver = Resolver { shapes: &shapes, open: HashSet::new(), done: HashMap::new() };
    oids.iter().map(|&oid| (oid, resolver.kind(oid))).collect()
}

/// A type with references to its parts, as in the catalogue.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A type of which only the text form is known.
    Text,
    /// The type of the extension `hstore`.
    Hstore,
    /// A domain.
    Domain { base: u32 },
    /// An array.
    Array { element: u32, delimiter: u8 },
    /// A composite.
    Composite { fields: Vec<(String, u32)> },
}

impl Shape {
    fn of(row: &Row) -> Result<Self, Error> {
        let part: u32 = row.try_get("part")?;
        Ok(match row.try_get("shape")? {
            "domain" => Self::Domain { base: part },
            "array" => {
                Self::Array { element: part, delimiter: row.try_get::<_, i8>("delimiter")?.cast_unsigned() }
            }
            "composite" => {
                let names = texts(row.try_get("names")?);
                let types: Vec<u32> = row.try_get("types")?;
                Self::Composite { fields: names.into_iter().zip(types).collect() }
            }
            "hstore" => Self::Hstore,
            _ => Self::Text,
        })
    }

    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Text | Self::Hstore => Vec::new(),
            Self::Domain { base: part } | Self::Array { element: part, .. } => vec![*part],
            Self::Composite { fields } => fields.iter().map(|(_, part)| *part).collect(),
        }
    }
}

/// One query: the shapes of those types that exist.
async fn load(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Shape)>, Error> {
    // Arrays are recognised by array_subscript_handler, as in get_element_type() of the server's lsyscache.c.
    // The types point and name have a typelem too, but another handler.
    const QUERY: &str = concat!(
        "
        SELECT t.oid,
               CASE WHEN t.typtype = 'd' THEN 'domain'
                    WHEN t.typtype = 'c' THEN 'composite'
                    WHEN t.typtype = 'b' AND t.typelem <> 0
                         AND t.typlen = -1 THEN 'array'
                    WHEN t.typname = 'hstore' AND t.typtype = 'b' AND EXISTS (
                        SELECT FROM pg_catalog.pg_depend d
                        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'hstore'
                        WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
                              AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                              AND d.deptype = 'e') THEN 'hstore'
                    ELSE 'text' END AS shape,
               CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END AS part,
               coalesce(e.typdelim, ',') AS delimiter,
               a.names, a.types
        FROM pg_catalog.pg_type t
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
        CROSS JOIN LATERAL (
            SELECT coalesce(pg_catalog.array_agg(",
        raw_name!("a.attname"),
        " ORDER BY a.attnum), '{}') AS names,
                   coalesce(pg_catalog.array_agg(a.atttypid ORDER BY a.attnum), '{}') AS types
            FROM pg_catalog.pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) a
        WHERE t.oid = ANY ($1)"
    );
    let rows = client.query_typed(QUERY, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter().map(|row| Ok((row.try_get("oid")?, Shape::of(row)?))).collect()
}

/// Builds kinds from shapes. Each type is built once, so types that share parts cost no more than their sum.
struct Resolver<'a> {
    shapes: &'a HashMap<u32, Shape>,
    /// Types that are being built. A type that contains itself is text inside.
    open: HashSet<u32>,
    done: HashMap<u32, Kind>,
}

impl Resolver<'_> {
    fn kind(&mut self, oid: u32) -> Kind {
        if let Some(kind) = self.done.get(&oid).cloned().or_else(|| builtin(oid)) {
            return kind;
        }
        let Some(shape) = self.shapes.get(&oid) else { return Kind::Text };
        if self.open.len() >= MAX_DEPTH || !self.open.insert(oid) {
            return Kind::Text;
        }
        let kind = match shape {
            Shape::Text => Kind::Text,
            Shape::Hstore => Kind::Hstore,
            Shape::Domain { base } => self.kind(*base),
            Shape::Array { element, delimiter } => {
                Kind::Array { element: Arc::new(self.kind(*element)), delimiter: *delimiter }
            }
            Shape::Composite { fields } => {
                let fields = fields.iter().map(|(name, part)| (name.clone(), self.kind(*part)));
                Kind::Composite { fields: fields.collect() }
            }
        };
        self.open.remove(&oid);
        self.done.insert(oid, kind.clone());
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(shapes: &[(u32, Shape)], oid: u32) -> Kind {
        let shapes = shapes.iter().cloned().collect();
        Resolver { shapes: &shapes, open: HashSet::new(), done: HashMap::new() }.kind(oid)
    }

    #[test]
    fn builtin_types_need_no_query() {
        let array = |element, delimiter| Kind::Array { element: Arc::new(element), delimiter };
        for (builtin_type, kind) in [
            (Type::INT8, Kind::Number),
            (Type::OID, Kind::Text),
            (Type::CHAR, Kind::Text),
            (Type::POINT, Kind::Text),
            (Type::TSTZ_RANGE, Kind::Text),
            (Type::BOX_ARRAY, array(Kind::Text, b';')),
            (Type::JSONB_ARRAY, array(Kind::Json, b',')),
            (Type::INT2_VECTOR_ARRAY, array(Kind::Vector { element: Arc::new(Kind::Number) }, b',')),
        ] {
            assert_eq!(builtin(builtin_type.oid()), Some(kind), "{builtin_type}");
        }
        assert_eq!(builtin(16_384), None);
    }

    #[test]
    fn recursive_type_is_text_inside() {
        let shapes = [
            (1_000_001, Shape::Composite { fields: vec![("a".into(), 1_000_002), ("b".into(), 23)] }),
            (1_000_002, Shape::Array { element: 1_000_001, delimiter: b',' }),
        ];
        let Kind::Composite { fields } = resolve(&shapes, 1_000_001) else { panic!("not a composite") };
        let inner = Kind::Array { element: Arc::new(Kind::Text), delimiter: b',' };
        assert_eq!(*fields, [("a".to_owned(), inner), ("b".to_owned(), Kind::Number)]);
    }

    #[test]
    fn shared_component_types_are_built_once() {
        let pair = |part| Shape::Composite { fields: vec![("a".into(), part), ("b".into(), part)] };
        let shapes: Vec<_> = (1..64).map(|n| (1_000_000 + n, pair(1_000_000 + n - 1))).collect();
        assert!(matches!(resolve(&shapes, 1_000_063), Kind::Composite { .. }));
    }

    #[test]
    fn unknown_type_is_text() {
        assert_eq!(resolve(&[], 1_000_001), Kind::Text);
    }
}

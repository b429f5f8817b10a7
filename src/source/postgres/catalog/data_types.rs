//! The SQL types of columns, for expressions: enums with their labels, domains with their base types.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::source::postgres::name::{CatalogText, raw_name, texts};
use crate::types::{Base, Enumeration, Named, SqlType};

/// Most nested levels of domains and arrays. Each level is one query, and deeper types are opaque.
const MAX_DEPTH: usize = 16;

/// The types for expressions. A type that was dropped in the meantime is opaque.
pub async fn data_types(client: &Client, oids: &[u32]) -> Result<HashMap<u32, SqlType>, Error> {
    let mut shapes = HashMap::new();
    let mut wanted: Vec<u32> = oids.to_vec();
    for _ in 0..MAX_DEPTH {
        wanted.retain(|oid| Base::builtin(*oid).is_none() && !shapes.contains_key(oid));
        if wanted.is_empty() {
            break;
        }
        let found = load(client, &wanted).await?;
        // A type that does not exist must not be requested again.
        shapes.extend(wanted.drain(..).map(|oid| (oid, Shape::Base(other(oid, format!("type {oid}"))))));
        wanted.extend(found.iter().filter_map(|(_, shape)| match shape {
            Shape::Domain { base: part, .. } | Shape::Array { element: part } => Some(*part),
            Shape::Base(_) => None,
        }));
        shapes.extend(found);
    }
    Ok(oids.iter().map(|&oid| (oid, resolve(&shapes, oid, 0))).collect())
}

/// A type for expressions, with references to its parts.
pub(in super::super) enum DataShape {
    /// A domain.
    Domain { base: u32, modifier: i32 },
    /// An array.
    Array { element: u32 },
    /// An enum.
    Enum { labels: Vec<String> },
    /// A type of which only the name is known.
    Other,
}

/// A type and its name in SQL.
pub(in super::super) struct NamedShape {
    pub(in super::super) shape: DataShape,
    pub(in super::super) name: String,
}

/// The types for expressions, from known shapes.
pub(in super::super) fn data_types_of(
    shapes: impl Iterator<Item = (u32, NamedShape)>,
    oids: &[u32],
) -> HashMap<u32, SqlType> {
    let shape = |(oid, NamedShape { shape, name }): (u32, NamedShape)| {
        let shape = match shape {
            DataShape::Domain { base, modifier } => Shape::Domain { base, modifier },
            DataShape::Array { element } => Shape::Array { element },
            DataShape::Enum { labels } => {
                Shape::Base(Base::Enum(Arc::new(Enumeration { oid, name, labels })))
            }
            DataShape::Other => Shape::Base(other(oid, name)),
        };
        (oid, shape)
    };
    let shapes = shapes.map(shape).collect();
    oids.iter().map(|&oid| (oid, resolve(&shapes, oid, 0))).collect()
}

/// The type of a column, with its own modifier or otherwise that of its domain.
pub fn modified<S: std::hash::BuildHasher>(
    data_types: &HashMap<u32, SqlType, S>,
    oid: u32,
    modifier: i32,
) -> SqlType {
    let mut data_type = data_types.get(&oid).cloned().unwrap_or_else(|| {
        SqlType::plain(Base::builtin(oid).unwrap_or_else(|| other(oid, format!("type {oid}"))))
    });
    if modifier >= 0 {
        data_type.modifier = modifier;
    }
    data_type
}

/// A type with references to its parts.
enum Shape {
    Base(Base),
    Domain { base: u32, modifier: i32 },
    Array { element: u32 },
}

impl Shape {
    fn of(row: &Row) -> Result<Self, Error> {
        let (oid, CatalogText(name)): (u32, CatalogText) = (row.try_get("oid")?, row.try_get("name")?);
        Ok(match row.try_get("shape")? {
            "domain" => Self::Domain { base: row.try_get("part")?, modifier: row.try_get("modifier")? },
            "array" => Self::Array { element: row.try_get("part")? },
            "enum" => {
                let labels = texts(row.try_get("labels")?);
                Self::Base(Base::Enum(Arc::new(Enumeration { oid, name, labels })))
            }
            _ => Self::Base(other(oid, name)),
        })
    }
}

fn other(oid: u32, name: String) -> Base {
    Base::Other(Arc::new(Named { oid, name }))
}

async fn load(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Shape)>, Error> {
    // A type that has an array type of its own is not an array: int2vector has one, and its text form
    // differs from that of arrays.
    const QUERY: &str = concat!(
        "
        SELECT t.oid,
               CASE WHEN t.typtype = 'd' THEN 'domain'
                    WHEN t.typtype = 'e' THEN 'enum'
                    WHEN t.typtype = 'b' AND t.typelem <> 0 AND t.typdelim = ',' AND t.typarray = 0
                         AND t.typlen = -1 THEN 'array'
                    ELSE 'other' END AS shape,
               CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END AS part,
               t.typtypmod AS modifier,
               ",
        raw_name!("pg_catalog.format_type(t.oid, NULL)"),
        " AS name,
               (SELECT coalesce(pg_catalog.array_agg(",
        raw_name!("e.enumlabel"),
        " ORDER BY e.enumsortorder), '{}')
                FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid) AS labels
        FROM pg_catalog.pg_type t
        WHERE t.oid = ANY ($1)"
    );
    let rows = client.query_typed(QUERY, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter().map(|row| Ok((row.try_get("oid")?, Shape::of(row)?))).collect()
}

fn resolve(shapes: &HashMap<u32, Shape>, oid: u32, depth: usize) -> SqlType {
    if let Some(base) = Base::builtin(oid) {
        return SqlType::plain(base);
    }
    match shapes.get(&oid) {
        _ if depth > MAX_DEPTH => SqlType::plain(other(oid, format!("type {oid}"))),
        Some(Shape::Base(base)) => SqlType::plain(base.clone()),
        Some(Shape::Domain { base, modifier }) => {
            let inner = resolve(shapes, *base, depth + 1);
            SqlType { modifier: if *modifier >= 0 { *modifier } else { inner.modifier }, ..inner }
        }
        Some(Shape::Array { element }) => {
            SqlType::plain(Base::Array(Arc::new(resolve(shapes, *element, depth + 1).base)))
        }
        None => SqlType::plain(other(oid, format!("type {oid}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_is_its_base_type_with_modifier() {
        let shapes = HashMap::from([
            (1_000_001, Shape::Domain { base: 1_000_002, modifier: -1 }),
            (1_000_002, Shape::Domain { base: 1043, modifier: 24 }),
            (1_000_003, Shape::Array { element: 1_000_001 }),
            (1_000_004, Shape::Array { element: 1_000_004 }),
        ]);
        assert_eq!(resolve(&shapes, 1_000_001, 0), SqlType { base: Base::Varchar, modifier: 24 });
        let array = Base::Array(Arc::new(Base::Varchar));
        assert_eq!(resolve(&shapes, 1_000_003, 0), SqlType::plain(array));
        assert_eq!(resolve(&shapes, 1_000_005, 0).base.to_string(), "type 1000005");
        resolve(&shapes, 1_000_004, 0);
    }
}

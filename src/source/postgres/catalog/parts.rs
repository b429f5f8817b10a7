//! The parts of composite and range types of columns, for contracts. Expressions know such types only by
//! name.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::source::postgres::name::{raw_name, texts};
use crate::types::{Base, TypePart, TypeParts};

/// Most nested levels of types. Each level costs three queries.
const MAX_DEPTH: usize = 16;

/// The parts of all types that these types use, at any depth, by name. Types without parts are left out.
///
/// # Errors
/// The connection broke.
pub(super) async fn parts(
    client: &Client,
    bases: impl Iterator<Item = &Base>,
) -> Result<Vec<TypeParts>, Error> {
    let mut found: Vec<TypeParts> = Vec::new();
    let mut names: HashMap<u32, String> = HashMap::new();
    let mut wanted = HashMap::new();
    bases.for_each(|base| opaque(base, &mut wanted));
    for _ in 0..MAX_DEPTH {
        wanted.retain(|oid, _| !names.contains_key(oid));
        if wanted.is_empty() {
            break;
        }
        let oids: Vec<u32> = wanted.keys().copied().collect();
        names.extend(wanted.drain());
        for (oid, parts) in load(client, &oids).await? {
            for part in &parts {
                opaque(&part.data_type.base, &mut wanted);
            }
            if let Some(name) = names.get(&oid) {
                found.push(TypeParts { name: name.clone(), parts });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Collects the user-defined types of which only the name is known.
fn opaque(base: &Base, found: &mut HashMap<u32, String>) {
    match base {
        Base::Array(element) => opaque(element, found),
        Base::Other(named) if !super::is_builtin(named.oid) => {
            found.insert(named.oid, named.name.clone());
        }
        _ => {}
    }
}

async fn load(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Vec<TypePart>)>, Error> {
    const QUERY: &str = concat!(
        "
        SELECT t.oid, a.names, a.types, a.modifiers
        FROM pg_catalog.pg_type t
        CROSS JOIN LATERAL (
            SELECT pg_catalog.array_agg(",
        raw_name!("a.attname"),
        " ORDER BY a.attnum) AS names,
                   pg_catalog.array_agg(a.atttypid ORDER BY a.attnum) AS types,
                   pg_catalog.array_agg(a.atttypmod ORDER BY a.attnum) AS modifiers
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) a
        WHERE t.oid = ANY ($1) AND t.typtype = 'c' AND a.names IS NOT NULL
        UNION ALL
        SELECT r.rngtypid, ARRAY[",
        raw_name!("''"),
        "], ARRAY[r.rngsubtype], ARRAY[-1]
        FROM pg_catalog.pg_range r WHERE r.rngtypid = ANY ($1)"
    );
    let rows = client.query_typed(QUERY, &[(&oids, Type::OID_ARRAY)]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (names, types): (Vec<String>, Vec<u32>) = (texts(row.try_get("names")?), row.try_get("types")?);
        let modifiers: Vec<i32> = row.try_get("modifiers")?;
        let known = super::data_types(client, &types).await?;
        let part = |((name, oid), modifier): ((String, &u32), &i32)| TypePart {
            name,
            data_type: super::modified(&known, *oid, *modifier),
        };
        let parts = names.into_iter().zip(&types).zip(&modifiers).map(part).collect();
        found.push((row.try_get("oid")?, parts));
    }
    Ok(found)
}

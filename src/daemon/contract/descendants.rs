//! Rejects published tables that descend from a selected table and are not selected themselves. Selectors
//! match names, and the rows of a child or partition are published under its own name. Personal data needs no
//! such check, because its tag is passed on to descendants.

use std::collections::BTreeSet;

use crate::config::{TableName, Tables, selector};
use crate::failure::{Explain, Failure};
use crate::source::postgres::catalog;
use crate::source::postgres::session::Session;

/// A published table whose ancestor is selected, but not the table itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unselected {
    key: &'static str,
    selector: String,
    table: TableName,
    ancestor: TableName,
}

/// Published tables that no selector matches although their ancestor is selected.
#[derive(Debug, thiserror::Error)]
#[error("published tables descend from selected tables, but are not selected themselves")]
pub(super) struct NotInherited(Vec<Unselected>);

impl Explain for NotInherited {
    fn detail(&self) -> Option<String> {
        let one = |Unselected { key, selector, table, ancestor }: &Unselected| {
            format!("{key}: {selector:?} selects {ancestor}, but not {table}, which descends from it")
        };
        let found: Vec<String> = self.0.iter().map(one).collect();
        Some(format!(
            "Changes of a child or a partition are published under its own name.\n{}",
            found.join("\n")
        ))
    }

    fn hint(&self) -> Option<String> {
        let first = self.0.first()?;
        Some(format!(
            "Add {:?} to {}, or remove {} from the publication. Partitions are sent as their root after ALTER PUBLICATION … SET \
             (publish_via_partition_root = true).",
            first.for_table(),
            first.key,
            first.table,
        ))
    }
}

impl Unselected {
    /// The same selector for the descendant.
    fn for_table(&self) -> String {
        let column = selector::names(&self.selector).into_iter().nth(2);
        match column {
            Some(column) => {
                format!("{}.{}", self.table, column.as_deref().map_or("*".into(), selector::quoted))
            }
            None => self.table.to_string(),
        }
    }
}

/// Reads which tables descend from which.
///
/// # Errors
/// Tables that are not selected ([`Failure::Stop`]), or the query failed.
pub(super) async fn check(
    session: &mut Session,
    tables: &Tables,
    published: &[&TableName],
) -> Result<(), Failure> {
    if [&tables.include, &tables.exclude, &tables.drop].iter().all(|list| list.is_empty()) {
        return Ok(());
    }
    let published: BTreeSet<&TableName> = published.iter().copied().collect();
    let mut found = BTreeSet::new();
    let each = |table: TableName, ancestor: TableName| {
        if published.contains(&table) {
            found.extend(unselected(tables, &table, &ancestor));
        }
    };
    session.look(async |client| catalog::ancestors(client, each).await).await?;
    if found.is_empty() { Ok(()) } else { Err(Failure::stop(NotInherited(found.into_iter().collect()))) }
}

fn unselected(tables: &Tables, table: &TableName, ancestor: &TableName) -> Vec<Unselected> {
    let matches = |text: &str, name: &TableName, column: Option<&str>| {
        let names = [name.schema.as_str(), &name.table];
        match column {
            Some(column) => selector::matches(text, &[names[0], names[1], column]),
            None => selector::matches(text, &names),
        }
    };
    let excluded = tables.exclude.iter().any(|text| matches(text, table, None));
    let wanted = tables.wants(&table.schema, &table.table);
    let mut found = Vec::new();
    for (key, list) in [
        ("tables.include", &tables.include),
        ("tables.exclude", &tables.exclude),
        ("tables.drop", &tables.drop),
    ] {
        // Tables that are not published need no selector.
        let concerned = match key {
            "tables.include" => !wanted && !excluded,
            _ => wanted,
        };
        for text in list.iter().filter(|_| concerned) {
            let names = selector::names(text);
            let column = names.get(2).map(|column| column.as_deref().unwrap_or("*"));
            if matches(text, ancestor, column) && !list.iter().any(|other| matches(other, table, column)) {
                let (selector, table, ancestor) = (text.clone(), table.clone(), ancestor.clone());
                found.push(Unselected { key, selector, table, ancestor });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(table: &str) -> TableName {
        TableName { schema: "public".to_owned(), table: table.to_owned() }
    }

    #[test]
    fn descendant_needs_each_selector_of_its_ancestor() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        for (include, exclude, drop, expected) in [
            (&[][..], &[][..], &["public.users.password"][..], Some("public.users_vip.password")),
            (&[], &[], &["?public.users.password"], Some("public.users_vip.password")),
            (&[], &[], &["public.*.password"], None),
            (&[], &[], &["public.users.password", "*.users_vip.password"], None),
            (&[], &["public.users_vip"], &["public.users.password"], None),
            (&[], &["public.users"], &[], Some("public.users_vip")),
            (&["public.users"], &[], &[], Some("public.users_vip")),
            (&["public.users"], &["public.users_vip"], &["public.users.*"], None),
            (&[], &[], &["public.users.*"], Some("public.users_vip.*")),
            (&[], &[], &["public.orders.note"], None),
        ] {
            let tables = Tables { include: texts(include), exclude: texts(exclude), drop: texts(drop) };
            let found = unselected(&tables, &name("users_vip"), &name("users"));
            let advice = found.first().map(Unselected::for_table);
            assert_eq!(advice.as_deref(), expected, "{include:?} {exclude:?} {drop:?} {found:?}");
        }
    }
}

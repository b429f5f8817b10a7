//! Several instances on one stream, for `forebay init --instances`: each has a publication with a part of the
//! keys, and a configuration of its own.
//!
//! A row belongs to the instance that the hash of one key column gives. If a row filter can hash no column of
//! a table's key, the whole table belongs to one instance.

use super::text::{NAME_MAX, is_writable, name_of};
use super::{ConfigDraft, DatabaseSurvey, InitOrder, SurveyedTable, open, render_part};
use crate::failure::{Failure, Problem};
use crate::source::postgres::publication::{escape_identifier, quoted, survey};

/// The first version with row filters.
const ROW_FILTERS_SINCE: i32 = 150_000;
/// HTTP port of the first instance. Each further one has the next port.
const FIRST_PORT: u16 = 9187;
/// Bytes of the longest suffix, such as `_15`.
const SUFFIX: usize = 3;
/// Clears the sign of a hash, because a negative number has a negative remainder.
const NOT_NEGATIVE: u64 = i64::MAX as u64;

/// The files for several instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DividedDraft {
    /// SQL that creates the publications.
    pub publications: String,
    /// The configuration of each instance.
    pub configs: Vec<ConfigDraft>,
}

/// Reads the database, and divides its rows among several instances.
///
/// # Errors
/// The database cannot be reached, or its rows cannot be divided.
pub async fn draft_divided(order: &InitOrder, instances: u8) -> Result<DividedDraft, Failure> {
    let (database, mut session) = open(order).await?;
    let found = session.run(survey::survey).await?;
    divide(order, &database, &found, instances).map_err(Failure::Stop)
}

/// Divides what is published among this many instances.
///
/// # Errors
/// The server has no row filters, nothing can be published, or the names become too long.
pub fn divide(
    order: &InitOrder,
    database: &str,
    found: &DatabaseSurvey,
    instances: u8,
) -> Result<DividedDraft, Problem> {
    if found.version < ROW_FILTERS_SINCE {
        let version = found.version / 10_000;
        return Err(Problem::new("the work cannot be divided: row filters need PostgreSQL 15")
            .with_detail(format!("The server has version {version}."))
            .with_hint("Publish some tables by each instance, with source.tables and a name of its own."));
    }
    let name = base_name(order, database)?;
    let published: Vec<&SurveyedTable> =
        found.tables.iter().filter(|table| table.left_out.is_none() && is_writable(&table.name)).collect();
    if published.is_empty() || found.more > 0 {
        let problem =
            if found.more > 0 { "there are too many tables to list" } else { "no table can be published" };
        return Err(Problem::new(format!("the work cannot be divided: {problem}"))
            .with_hint("Run `forebay init` without --instances to see why."));
    }
    if published.iter().all(|table| table.hashed.is_none()) && published.len() < usize::from(instances) {
        return Err(Problem::new("the work cannot be divided: an instance would have no table")
            .with_detail("No table has a key with a column of an integer, text, uuid or numeric type.")
            .with_hint(format!("Give at most {} to --instances.", published.len())));
    }
    let names: Vec<String> = (0..instances).map(|instance| format!("{name}_{instance}")).collect();
    let configs = (0..).zip(&names).map(|(instance, name)| {
        let stream = order.stream.clone().unwrap_or_else(|| format!("{}-events", base(name)));
        let order = InitOrder { name: Some(name.clone()), stream: Some(stream), ..order.clone() };
        render_part(&order, name, found, FIRST_PORT + instance)
    });
    Ok(DividedDraft { publications: publications(&names, &published), configs: configs.collect() })
}

/// The name without the number of the instance.
fn base(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(base, _)| base)
}

fn base_name(order: &InitOrder, database: &str) -> Result<String, Problem> {
    match &order.name {
        None => {
            let name = name_of(database);
            let end = name.len().min(NAME_MAX - SUFFIX);
            Ok(name.get(..end).unwrap_or(&name).to_owned())
        }
        Some(name) if name.len() + SUFFIX > NAME_MAX => {
            let most = NAME_MAX - SUFFIX;
            Err(Problem::new(format!("the name {name:?} is too long for several instances"))
                .with_detail(format!("Each gets a number behind it, so that {most} letters are left."))
                .with_hint("Give a shorter one with --name."))
        }
        Some(name) => Ok(name.clone()),
    }
}

/// The statements that create the publications, with comments about the order of steps.
fn publications(names: &[String], tables: &[&SurveyedTable]) -> String {
    let instances = names.len();
    let head = format!(
        "-- {instances} publications with disjoint parts of the keys, written by `forebay init --instances {instances}`.\n\
         --\n\
         -- 1. Stop the writers of these tables. An instance that ran alone must have published everything and be torn down.\n\
         -- 2. Run this file as the owner of the tables: psql --single-transaction --file=…\n\
         -- 3. Start all instances, and wait until each says event=\"receiving\".\n\
         -- 4. Start the writers again.\n\
         --\n\
         -- Every instance publishes TRUNCATE. A table without a filter belongs to one instance as a whole, because no column of its\n\
         -- key can be hashed here. Another number of instances is another division: repeat all four steps.\n"
    );
    let statements = (0..).zip(names).map(|(instance, name)| {
        let members: Vec<String> = (0..)
            .zip(tables)
            .filter_map(|(at, table)| member(table, at, instance, instances))
            .map(|member| format!("    {member}"))
            .collect();
        let list =
            if members.is_empty() { String::new() } else { format!("FOR TABLE\n{}\n", members.join(",\n")) };
        let publication = escape_identifier(&format!("forebay_{name}"));
        format!("\nCREATE PUBLICATION {publication} {list}WITH (publish_via_partition_root = true);\n")
    });
    std::iter::once(head).chain(statements).collect()
}

/// The part of the table number `at` that an instance publishes; `None`: no part.
fn member(table: &SurveyedTable, at: usize, instance: usize, instances: usize) -> Option<String> {
    let name = quoted(&table.name);
    let Some((column, function)) = &table.hashed else {
        return (at % instances == instance).then_some(name);
    };
    let column = escape_identifier(column);
    Some(format!("{name} WHERE (({function}({column}, 0) & {NOT_NEGATIVE}) % {instances} = {instance})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableName;

    fn table(table: &str, hashed: Option<(&str, &'static str)>) -> SurveyedTable {
        SurveyedTable {
            name: TableName { schema: "lab".to_owned(), table: table.to_owned() },
            left_out: None,
            key: vec!["id".to_owned()],
            hashed: hashed.map(|(column, function)| (column.to_owned(), function)),
            is_full: false,
            rows: 10,
            bytes: 8_192,
            changes: 5,
            personal: Vec::new(),
        }
    }

    fn order(name: Option<&str>) -> InitOrder {
        InitOrder {
            url: "postgres://u@h/lab".to_owned(),
            password: None,
            name: name.map(str::to_owned),
            stream: None,
            mode: None,
        }
    }

    #[test]
    fn every_table_is_in_every_part_or_in_one() {
        let tables = vec![
            table("days", None),
            table("odd \"x\"", Some(("a b", "hashtextextended"))),
            table("plates", Some(("id", "hashint8extended"))),
            table("zones", None),
        ];
        let survey = DatabaseSurvey { tables, version: 150_000, ..DatabaseSurvey::default() };
        let divided = divide(&order(None), "lab", &survey, 3).unwrap();
        let sql = &divided.publications;
        let parts: Vec<&str> = sql.split("CREATE PUBLICATION").skip(1).collect();
        assert_eq!(parts.len(), 3);
        for (instance, part) in parts.iter().enumerate() {
            let has = |text: String| part.contains(&text);
            assert!(has(format!(" \"forebay_lab_{instance}\" FOR TABLE")), "{part}");
            assert!(has(format!(
                "\"lab\".\"plates\" WHERE ((hashint8extended(\"id\", 0) & 9223372036854775807) % 3 = {instance})"
            )));
            assert!(part.contains(r#""odd ""x""" WHERE ((hashtextextended("a b", 0)"#), "{part}");
        }
        assert_eq!((sql.matches("\"days\"").count(), sql.matches("\"zones\"").count()), (1, 1));
        assert_eq!(divided.configs.len(), 3);
    }

    #[test]
    fn division_that_cannot_be_is_refused() {
        let tables = vec![table("plates", Some(("id", "hashint8extended")))];
        let survey = DatabaseSurvey { tables, version: 150_000, ..DatabaseSurvey::default() };
        let old = DatabaseSurvey { version: 140_012, ..survey.clone() };
        let nothing = DatabaseSurvey { tables: Vec::new(), ..survey.clone() };
        let whole = DatabaseSurvey { tables: vec![table("days", None)], ..survey.clone() };
        let long = "x".repeat(38);
        for (order, survey, words) in [
            (order(None), &old, "PostgreSQL 15"),
            (order(None), &nothing, "no table"),
            (order(Some(&long)), &survey, "too long"),
            (order(None), &whole, "would have no table"),
        ] {
            let problem = divide(&order, "lab", survey, 2).unwrap_err();
            assert!(problem.primary().contains(words), "{problem:?}");
        }
        let longest = divide(&order(None), &"x".repeat(63), &survey, 16).unwrap();
        assert!(longest.configs.iter().all(|config| !config.text.contains(&"x".repeat(38))));
    }
}

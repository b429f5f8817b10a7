//! The newest rows of tables, as if they came, changed or went.

use std::time::SystemTime;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::change::{Change, Place, Relation};
use crate::config::TableName;
use crate::contracts::trial::{Made, On, Values};
use crate::failure::Failure;
use crate::position::{Lsn, Transaction};
use crate::source::postgres::conninfo::Settings as Connection;
use crate::source::postgres::error::Error;
use crate::source::postgres::publication::quoted;
use crate::source::postgres::sql::Session;

use super::{Audience, Looked, Show};

/// Shows the events of the newest rows of each table.
pub(super) async fn show(
    session: &mut Session,
    connection: &Connection,
    (tables, count): (&[Looked], u32),
    show: &mut Show<'_, impl Audience>,
) -> Result<(), Failure> {
    let committed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or_default();
    show.audience.note(
        "rows as they are now, as if they were written this moment; id, sequence and recordedtime are made up",
    );
    let mut nth = 0;
    for Looked { relation, row_filter } in tables {
        let name = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
        let rows = newest(session, connection, (relation, row_filter.as_deref()), count).await?;
        let operations = show.tally.operations(&name);
        show.audience.note(&about(&name, relation, rows.len(), &operations));
        for row in &rows {
            // As an insert, whoever wants that; as another change only where a rule is about it.
            for on in [On::Insert, On::Update, On::Delete] {
                if on != On::Insert && !operations.contains(&on) {
                    continue;
                }
                nth += 1;
                let place = Place {
                    transaction: Transaction { commit: Lsn::new(1), xid: 1, time: committed },
                    index: nth,
                    lsn: Lsn::new(u64::from(nth)),
                    nth: 0,
                };
                let made = Made::of_row(on, row, relation);
                let change = Change { place, relation, operation: made.operation(), raw: b"" };
                if show.change(&change, on, on != On::Insert).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn about(name: &TableName, relation: &Relation, rows: usize, operations: &[On]) -> String {
    let order =
        if relation.primary_key.is_empty() { "by the transaction that wrote them" } else { "by primary key" };
    let mut text = format!("{name}: {rows} rows, the newest {order}");
    if operations.contains(&On::Update) {
        text.push_str(
            "; as an update the old row is the new one: `update of` counts as changed, a condition that compares old with new \
             does not hold, and changed() is empty",
        );
    }
    text
}

/// The rows in the text form that replication has, oldest first.
async fn newest(
    session: &mut Session,
    connection: &Connection,
    (relation, row_filter): (&Relation, Option<&str>),
    count: u32,
) -> Result<Vec<Values>, Failure> {
    let name = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
    let query = query(&name, relation, row_filter, count);
    // The simple protocol gives what the types' output functions print, as replication does: a cast to text would not.
    let answer = session.run(async |client| Ok::<_, Error>(client.simple_query(&query).await)).await?;
    let messages = match answer {
        Ok(messages) => messages,
        Err(error) => {
            let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            let error = Error::from(error);
            if !denied {
                return Err(error.into());
            }
            let (schema, role) = (escape_identifier(&name.schema), escape_identifier(&connection.user));
            return Err(Failure::stop(format!(
                "{error}. Replication does not need it, a preview of rows does; run\n    GRANT USAGE ON SCHEMA {schema} TO {role};\n    \
                 GRANT SELECT ON {} TO {role};\nor look at the next changes with --live",
                quoted(&name)
            )));
        }
    };
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let values = rows.map(|row| {
        let mut values = Values::default();
        for at in 0..relation.columns.len() {
            values.push(row.get(at));
        }
        values
    });
    let mut values: Vec<Values> = values.collect();
    values.reverse();
    Ok(values)
}

fn query(name: &TableName, relation: &Relation, row_filter: Option<&str>, count: u32) -> String {
    let names: Vec<String> = relation.columns.iter().map(|column| escape_identifier(&column.name)).collect();
    let key = relation.primary_key.iter().filter_map(|at| names.get(*at));
    let key: Vec<String> = key.map(|name| format!("{name} DESC")).collect();
    let order = if key.is_empty() { "pg_catalog.age(xmin)".to_owned() } else { key.join(", ") };
    let filter = row_filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
    format!("SELECT {} FROM {}{filter} ORDER BY {order} LIMIT {count}", names.join(", "), quoted(name))
}

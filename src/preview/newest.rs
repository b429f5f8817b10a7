//! Previews the newest rows of tables, as if they were inserted, updated or deleted.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::change::{Change, ChangePlace, Relation};
use crate::config::TableName;
use crate::contracts::trial::{On, OwnedChange, Values};
use crate::failure::{Failure, Problem};
use crate::position::{CommitSeq, Transaction};
use crate::source::postgres::conninfo::Settings as Connection;
use crate::source::postgres::error::Error;
use crate::source::postgres::publication::quoted;
use crate::source::postgres::session::Session;

use super::{Audience, PreviewedTable, Show};

/// Shows the events of the newest rows of each table.
pub(super) async fn show(
    session: &mut Session,
    connection: &Connection,
    tables: &[PreviewedTable],
    count: u32,
    show: &mut Show<'_, impl Audience>,
) -> Result<(), Failure> {
    let committed = crate::time::now_micros();
    show.audience
        .note("current rows, as if they were written now; id, sequence and recordedtime are invented");
    let mut nth = 0;
    for PreviewedTable { relation, row_filter } in tables {
        let name = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
        let rows = newest(session, connection, relation, row_filter.as_deref(), count).await?;
        let operations = show.tally.operations(&name);
        show.audience.note(&about(&name, relation, rows.len(), &operations));
        for row in &rows {
            // Each row is shown as an insert, and as another operation only if a rule reads that operation.
            for on in [On::Insert, On::Update, On::Delete] {
                if on != On::Insert && !operations.contains(&on) {
                    continue;
                }
                nth += 1;
                let place = ChangePlace {
                    transaction: Transaction { commit: CommitSeq::new(1), xid: 1, time: committed },
                    index: nth,
                    record: CommitSeq::new(u64::from(nth)),
                    nth: 0,
                };
                let made = OwnedChange::of_row(on, row, relation);
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
            "; for updates the old row equals the new one: `update of` counts as changed, conditions that \
             compare old with new are not true, and changed() is empty",
        );
    }
    text
}

/// The newest rows in replication's text form, oldest first.
async fn newest(
    session: &mut Session,
    connection: &Connection,
    relation: &Relation,
    row_filter: Option<&str>,
    count: u32,
) -> Result<Vec<Values>, Failure> {
    let name = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
    let query = query(&name, relation, row_filter, count);
    // The simple protocol returns the output form of each type, as replication does. The result of a cast to
    // text can differ.
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
            let hint = format!(
                "Run\n    GRANT USAGE ON SCHEMA {schema} TO {role};\n    GRANT SELECT ON {} TO {role};\nor use --live to show \
                 the next changes.",
                quoted(&name)
            );
            let problem = Problem::of(&error).with_more_detail("A preview of rows needs SELECT.");
            return Err(Failure::stop(problem.with_hint(hint)));
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

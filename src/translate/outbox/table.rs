//! An outbox table: finds and checks its columns once, then passes rows through.

use std::sync::Arc;

use crate::change::{Change, Column, Operation, Relation, Tuple, Value};
use crate::config::Pii;
use crate::event::Records;
use crate::json;
use crate::rules::{Outbox, OutboxOrigin, RuleError, RuleErrors, Rules, Wrong};
use crate::translate::envelope::Envelope;
use crate::translate::error::TranslateError;
use crate::translate::settings::TranslateSettings;
use crate::types::{Base, Kind};

use super::event::{Made, Names, Tools, failed};

/// An outbox table, compiled for one description of it.
#[derive(Debug)]
pub struct OutboxPlan {
    rules: Arc<Rules>,
    id: Named,
    /// `None`: event types do not depend on it.
    aggregatetype: Option<Named>,
    aggregateid: Named,
    kind: Named,
    payload: Named,
    timestamp: Option<(Named, Kind)>,
    time: Vec<u8>,
    names: Names,
}

/// A column, with its index in the tuples.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    at: usize,
}

/// The data types that a column may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Identifier,
    Word,
    Document,
    Moment,
}

impl Holds {
    fn fits(self, base: &Base) -> bool {
        let text = matches!(base, Base::Text | Base::Varchar);
        match self {
            Self::Identifier => {
                text || matches!(
                    base,
                    Base::Uuid
                        | Base::Int2
                        | Base::Int4
                        | Base::Int8
                        | Base::Numeric
                        | Base::Enum(_)
                        | Base::Name
                )
            }
            Self::Word => text || matches!(base, Base::Enum(_) | Base::Name),
            Self::Document => text || matches!(base, Base::Json | Base::Jsonb),
            Self::Moment => matches!(base, Base::TimestampTz | Base::Timestamp),
        }
    }

    const fn types(self) -> &'static str {
        match self {
            Self::Identifier => "uuid, text or an integer",
            Self::Word => "text or an enum",
            Self::Document => "jsonb, json or text",
            Self::Moment => "timestamptz, or timestamp in UTC",
        }
    }
}

struct Finder<'a> {
    relation: &'a Relation,
    pii: &'a Pii,
    outbox: &'a Outbox,
    wrong: Vec<RuleError>,
}

impl Finder<'_> {
    fn column(&self, name: &str) -> Option<(Named, &Column)> {
        let mut columns = self.relation.columns.iter().enumerate();
        let (at, column) = columns.find(|(_, column)| column.name == name)?;
        Some((Named { name: name.to_owned(), at }, column))
    }

    fn find(&mut self, role: &str, name: &str, holds: Holds) -> Option<Named> {
        let Some((found, column)) = self.column(name) else {
            let message = format!("{} has no column {name}", self.relation.name());
            let hint = format!("if the {role} has another name, add columns = {{ {role} = \"…\" }}");
            self.wrong((message, hint));
            return None;
        };
        if !holds.fits(&column.data_type.base) {
            let message = format!(
                "the {role} column {name} has type {}; it must be {}",
                column.data_type,
                holds.types()
            );
            self.wrong(message);
            return None;
        }
        if self.pii.tags_column(self.relation, column) {
            let message = format!(
                "[pii] marks the {role} column {name} as personal data, but outbox rows are published unchanged"
            );
            self.wrong((message, "remove the column from pii.columns, or the data from the outbox"));
            return None;
        }
        Some(found)
    }

    fn wrong(&mut self, wrong: impl Into<Wrong>) {
        let (place, event) = (Some(self.outbox.place.clone()), Some(self.outbox.name()));
        self.wrong.push(RuleError::new(place, event, wrong));
    }
}

impl OutboxPlan {
    /// Compiles the outbox of this table; `None` if the table is not an outbox.
    ///
    /// # Errors
    /// All mistakes found in its columns.
    pub fn new(rules: &Arc<Rules>, relation: &Relation, pii: &Pii) -> Result<Option<Self>, RuleErrors> {
        let Some(outbox) = rules.outbox_of(&relation.schema, &relation.table) else { return Ok(None) };
        let OutboxOrigin::Table { columns, .. } = &outbox.origin else { return Ok(None) };
        let mut finder = Finder { relation, pii, outbox, wrong: Vec::new() };
        let id = finder.find("id", &columns.id, Holds::Identifier);
        let needs_aggregate = outbox.template.needs_aggregate();
        let aggregatetype = needs_aggregate
            .then(|| finder.find("aggregatetype", &columns.aggregatetype, Holds::Word))
            .flatten();
        let aggregateid = finder.find("aggregateid", &columns.aggregateid, Holds::Identifier);
        let kind = finder.find("type", &columns.kind, Holds::Word);
        let payload = finder.find("payload", &columns.payload, Holds::Document);
        let (timestamp, is_named) = &columns.timestamp;
        // A column may have the default name by chance, and contain something else.
        let is_moment = |(_, column): (Named, &Column)| Holds::Moment.fits(&column.data_type.base);
        let timestamp = (*is_named || finder.column(timestamp).is_some_and(is_moment))
            .then(|| finder.find("timestamp", timestamp, Holds::Moment))
            .flatten()
            .and_then(|named| Some((relation.columns.get(named.at)?.kind.clone(), named)));
        let (Some(id), Some(aggregateid), Some(kind), Some(payload), true) =
            (id, aggregateid, kind, payload, finder.wrong.is_empty())
        else {
            return Err(RuleErrors(finder.wrong));
        };
        Ok(Some(Self {
            rules: Arc::clone(rules),
            id,
            aggregatetype,
            aggregateid,
            kind,
            payload,
            timestamp: timestamp.map(|(kind, named)| (named, kind)),
            time: Vec::new(),
            names: Names::default(),
        }))
    }

    /// Index of the key column.
    pub const fn key(&self) -> usize {
        self.aggregateid.at
    }

    /// Whether rows have a time of their own.
    pub const fn has_time(&self) -> bool {
        self.timestamp.is_some()
    }

    /// Appends the event of an inserted row.
    ///
    /// # Errors
    /// The row is not a valid event.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        settings: &TranslateSettings,
        envelope: &mut Envelope,
        records: &mut Records,
    ) -> Result<(), TranslateError> {
        let Operation::Insert { new } = change.operation else { return Ok(()) };
        let relation = change.relation;
        let Some(outbox) = self.rules.outbox_of(&relation.schema, &relation.table) else { return Ok(()) };
        let has_time = write_time(self.timestamp.as_ref(), &new, &mut self.time)?;
        let payload = match new.get(self.payload.at) {
            Value::Text(text) => Some(text),
            Value::Null | Value::Unavailable => None,
        };
        let made = Made {
            aggregate: self.aggregatetype.as_ref().map_or(Ok(""), |column| text(column, &new))?,
            kind: text(&self.kind, &new)?,
            id: Some(text(&self.id, &new)?),
            key: Some(text(&self.aggregateid, &new)?),
            time: has_time.then_some(self.time.as_slice()),
            payload,
            place: change.place,
        };
        made.write(outbox, Tools { settings, names: &mut self.names, envelope }, records)
    }
}

/// A required value.
fn text<'a>(column: &Named, row: &Tuple<'a>) -> Result<&'a str, TranslateError> {
    match row.get(column.at) {
        Value::Text(b"") => Err(failed(format!("column {} is empty", column.name))),
        Value::Text(text) => std::str::from_utf8(text)
            .map_err(|_| failed(format!("column {}: {}", column.name, json::ValueError::NotUtf8))),
        Value::Null | Value::Unavailable => Err(failed(format!("column {} is NULL", column.name))),
    }
}

/// Writes the row's time. Returns false for NULL, which means the commit time.
fn write_time(
    column: Option<&(Named, Kind)>,
    row: &Tuple<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, TranslateError> {
    let Some((column, kind)) = column else { return Ok(false) };
    let Value::Text(text) = row.get(column.at) else { return Ok(false) };
    out.clear();
    json::write_value(out, kind, text).map_err(|error| failed(format!("column {}: {error}", column.name)))?;
    // CloudEvents requires RFC 3339: a year of four digits, no infinity.
    let inner = out.strip_prefix(b"\"").and_then(|out| out.strip_suffix(b"\""));
    match inner {
        Some(inner)
            if inner.get(4) == Some(&b'-') && inner.get(10) == Some(&b'T') && !inner.ends_with(b"C") =>
        {
            out.pop();
            out.remove(0);
            if out.last() != Some(&b'Z') {
                out.push(b'Z');
            }
            Ok(true)
        }
        _ => Err(failed(format!("column {} is infinite or outside the years 0001 to 9999", column.name))),
    }
}

//! Automatic events, which need no rules: `<schema>.<table>.inserted|updated|deleted|truncated.v1`.
//!
//! `data` is the new row. For `deleted` it is the columns of the old row that the replica identity provides.
//! An update that changes the key becomes `deleted` with the old key and `inserted` with the new one.
//!
//! The key consists of the replica identity's columns. `FULL` and `NOTHING` name no key: the current primary
//! key is used. A table with neither uses the event id.

use crate::change::{Change, ChangePlace, OldRow, Operation, Relation, ReplicaIdentity, Tuple, Value};
use crate::config::Pii;
use crate::event::{RecordKind, Records};
use crate::failure::Problem;
use crate::types::Kind;

use super::envelope::{Envelope, EventId, Head, Rest, partition_key, push_name, type_attributes};
use super::error::{LINE_MAX, TranslateError};
use super::promises::Promise;
use super::settings::TranslateSettings;
use crate::json;

/// The plan for one relation: which columns are copied, and what is written between them.
#[derive(Debug)]
pub struct AutomaticPlan {
    columns: Vec<PlannedColumn>,
    /// Indexes of the key's columns. Empty: the event id is the key.
    key: Vec<usize>,
    /// A key column that holds personal data. Row changes of the table then become dead letters.
    tagged: Option<String>,
    /// A personal-data column that has another name now, or that the table no longer has. Row changes are
    /// then refused.
    renamed: Option<TranslateError>,
    table: String,
    inserted: EventType,
    updated: EventType,
    deleted: EventType,
    truncated: EventType,
    scratch: Scratch,
}

#[derive(Debug)]
struct PlannedColumn {
    name: String,
    /// The member's name, as in `"name":`, JSON-escaped.
    label: Vec<u8>,
    kind: Kind,
    in_identity: bool,
    dropped: bool,
}

#[derive(Debug)]
struct EventType {
    name: String,
    attributes: Vec<u8>,
    /// The promises of the locked contract, one per column. `Err`: rows of this form can never satisfy it.
    promises: Result<Vec<Promise>, Problem>,
}

impl EventType {
    fn new(relation: &Relation, what: &str, source: &str, settings: &TranslateSettings) -> Self {
        let name = format!("{}.{what}.v1", relation.name());
        let attributes = type_attributes(source, &name, settings.schemas.get(&name).map(String::as_str));
        Self { name, attributes, promises: Ok(Vec::new()) }
    }

    /// Adds the promises of the locked contract for these columns.
    fn promising(
        mut self,
        relation: &Relation,
        columns: &[PlannedColumn],
        settings: &TranslateSettings,
    ) -> Self {
        let Some(contracts) = &settings.contracts else { return self };
        let given = |column: &PlannedColumn| {
            !self.name.ends_with(".deleted.v1")
                || relation.identity == ReplicaIdentity::Full
                || column.in_identity
        };
        let leaves: Vec<bool> = columns.iter().map(|column| !column.dropped && given(column)).collect();
        let all = relation.columns.iter().zip(&leaves);
        let fields: Vec<_> = all
            .filter(|(_, leaves)| **leaves)
            .map(|(column, _)| (column.name.as_str(), &column.kind, &column.data_type.base))
            .collect();
        self.promises = contracts.promises(&self.name, &fields).map(|promises| {
            let mut promises = promises.into_iter();
            let next = |leaves: &bool| if *leaves { promises.next() } else { None };
            leaves.iter().map(next).map(Option::unwrap_or_default).collect()
        });
        self
    }

    fn promise(&self, column: usize) -> Promise {
        self.promises.as_ref().ok().and_then(|promises| promises.get(column)).copied().unwrap_or_default()
    }
}

/// Buffers reused for every row.
#[derive(Debug, Default)]
struct Scratch {
    subject: String,
    old_subject: String,
    texts: Texts,
}

#[derive(Debug, Default)]
struct Texts {
    unavailable: String,
    hashed: String,
}

/// The row versions that an event takes its values from.
#[derive(Clone, Copy)]
struct Row<'a> {
    tuple: Tuple<'a>,
    /// The old row or its key. It supplies unchanged TOASTed values that the new row leaves out.
    old: Option<OldRow<'a>>,
    /// Whether only the replica identity's columns of the old row have values.
    key_only: bool,
}

impl<'a> Row<'a> {
    /// The value of a column. `in_identity`: the column belongs to the replica identity.
    fn get(&self, column: usize, in_identity: bool) -> Value<'a> {
        match (self.tuple.get(column), self.old) {
            (Value::Unavailable, Some(OldRow::Full(old))) => old.get(column),
            (Value::Unavailable, Some(OldRow::Key(old))) if in_identity => old.get(column),
            (value, _) => value,
        }
    }
}

impl AutomaticPlan {
    /// Compiles the plan for a relation.
    pub fn new(relation: &Relation, source: &str, settings: &TranslateSettings) -> Self {
        let TranslateSettings { tables, pii, .. } = settings;
        let columns: Vec<_> = relation
            .columns
            .iter()
            .map(|column| {
                let mut label = Vec::new();
                json::write_string(&mut label, &column.name);
                label.push(b':');
                PlannedColumn {
                    name: column.name.clone(),
                    label,
                    kind: column.kind.clone(),
                    in_identity: column.in_identity,
                    dropped: tables.drops(&relation.schema, &relation.table, &column.name)
                        || pii.tags_column(relation, column),
                }
            })
            .collect();
        let key = relation.key();
        let event_type = |what: &str| EventType::new(relation, what, source, settings);
        let of_rows = |what: &str| event_type(what).promising(relation, &columns, settings);
        Self {
            inserted: of_rows("inserted"),
            updated: of_rows("updated"),
            deleted: of_rows("deleted"),
            truncated: event_type("truncated"),
            columns,
            key,
            tagged: tagged_key(relation, pii),
            renamed: renamed(relation, pii),
            table: relation.name(),
            scratch: Scratch::default(),
        }
    }

    /// Appends the events of a change.
    ///
    /// # Errors
    /// A value cannot be written, or a key column has no value.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        envelope: &mut Envelope,
        records: &mut Records,
    ) -> Result<(), TranslateError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.dispatch(change, &mut scratch, envelope, records);
        self.scratch = scratch;
        result
    }

    fn dispatch(
        &self,
        change: &Change<'_>,
        scratch: &mut Scratch,
        envelope: &mut Envelope,
        records: &mut Records,
    ) -> Result<(), TranslateError> {
        if !matches!(change.operation, Operation::Truncate { .. }) {
            if let Some(column) = &self.tagged {
                return Err(TranslateError::KeyTagged { column: column.clone() });
            }
            if let Some(renamed) = &self.renamed {
                return Err(renamed.clone());
            }
        }
        let Scratch { subject, old_subject, texts } = scratch;
        let mut writer = Writer { plan: self, place: change.place, envelope, records, texts, part: 0 };
        match change.operation {
            Operation::Insert { new } => {
                let row = Row { tuple: new, old: None, key_only: false };
                self.subject(&row, subject)?;
                writer.row(&self.inserted, &row, subject)
            }
            Operation::Update { old, new } => {
                let row = Row { tuple: new, old, key_only: false };
                self.subject(&row, subject)?;
                if let Some(old_row) = old.map(Row::of_old) {
                    self.subject(&old_row, old_subject)?;
                    if subject != old_subject {
                        writer.row(&self.deleted, &old_row, old_subject)?;
                        return writer.row(&self.inserted, &row, subject);
                    }
                }
                writer.row(&self.updated, &row, subject)
            }
            Operation::Delete { old } => {
                let row = Row::of_old(old);
                self.subject(&row, subject)?;
                writer.row(&self.deleted, &row, subject)
            }
            Operation::Truncate { cascade, restart_identity } => {
                writer.truncated(cascade, restart_identity);
                Ok(())
            }
        }
    }

    /// Writes the key as text: the value of one column, or several values joined by `/`. Inside a value `~`
    /// and `/` are written `~0` and `~1` (as in JSON Pointer), so that different keys have different texts.
    fn subject(&self, row: &Row<'_>, out: &mut String) -> Result<(), TranslateError> {
        out.clear();
        for (nth, &column) in self.key.iter().enumerate() {
            if nth > 0 {
                out.push('/');
            }
            let name = || self.columns.get(column).map(|column| column.name.clone()).unwrap_or_default();
            let in_identity = self.columns.get(column).is_some_and(|column| column.in_identity);
            let text = match row.get(column, in_identity) {
                Value::Text(text) => std::str::from_utf8(text).map_err(|_| TranslateError::Value {
                    column: name(),
                    reason: json::ValueError::NotUtf8.to_string(),
                })?,
                Value::Null => "",
                Value::Unavailable => return Err(TranslateError::KeyUnavailable { column: name() }),
            };
            if self.key.len() == 1 || !text.contains(['/', '~']) {
                out.push_str(text);
            } else {
                out.push_str(&text.replace('~', "~0").replace('/', "~1"));
            }
        }
        Ok(())
    }

    fn write_data(
        &self,
        out: &mut Vec<u8>,
        event_type: &EventType,
        row: &Row<'_>,
    ) -> Result<(), TranslateError> {
        if let Err(why) = &event_type.promises {
            return Err(TranslateError::Contract(why.clone()));
        }
        let start = out.len();
        out.push(b'{');
        let mut first = true;
        for (at, column) in self.columns.iter().enumerate() {
            let promise = event_type.promise(at);
            if column.dropped || promise.unknown {
                continue;
            }
            let value = row.get(at, column.in_identity);
            if value == Value::Unavailable || (row.key_only && !column.in_identity) {
                promise.missing(&column.name).map_err(TranslateError::Contract)?;
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(&column.label);
            match value {
                Value::Text(text) if is_surely_too_large(text) => return Err(TranslateError::TooLarge),
                Value::Text(text) => json::write_value(out, &column.kind, text).map_err(|error| {
                    TranslateError::Value { column: column.name.clone(), reason: error.to_string() }
                })?,
                Value::Null | Value::Unavailable => {
                    promise.null(&column.name).map_err(TranslateError::Contract)?;
                    out.extend_from_slice(b"null");
                }
            }
            if out.len() - start > LINE_MAX {
                return Err(TranslateError::TooLarge);
            }
        }
        out.extend_from_slice(b"}}\n");
        Ok(())
    }

    /// Writes the names of the columns without a value, quoted as SQL identifiers where necessary.
    fn unavailable(&self, event_type: &EventType, row: &Row<'_>, out: &mut String) {
        out.clear();
        for (at, column) in self.columns.iter().enumerate() {
            if column.dropped
                || event_type.promise(at).unknown
                || row.get(at, column.in_identity) != Value::Unavailable
            {
                continue;
            }
            push_name(out, &column.name);
        }
    }
}

impl<'a> Row<'a> {
    const fn of_old(old: OldRow<'a>) -> Self {
        match old {
            OldRow::Key(tuple) => Self { tuple, old: None, key_only: true },
            OldRow::Full(tuple) => Self { tuple, old: None, key_only: false },
        }
    }
}

/// The first key column that holds personal data.
pub fn tagged_key(relation: &Relation, pii: &Pii) -> Option<String> {
    let columns = relation.key().into_iter().filter_map(|at| relation.columns.get(at));
    let mut tagged = columns.filter(|column| pii.tags_column(relation, column));
    tagged.next().map(|column| column.name.clone())
}

/// A column of `[pii]` that has another name now, or that the table no longer has: it may have been renamed.
fn renamed(relation: &Relation, pii: &Pii) -> Option<TranslateError> {
    if let Some((column, origin)) = pii.renamed(relation) {
        let (column, origin) = (column.name.clone(), origin.to_string());
        return Some(TranslateError::TaggedRenamed { column, origin });
    }
    let has = |name: &str| relation.has_had(name);
    let gone = pii.not_there(&relation.schema, &relation.table, has).next();
    gone.map(|column| TranslateError::TaggedGone { column: column.into_owned() })
}

/// Whether the JSON form certainly exceeds the record limit. JSON escapes most control characters in six
/// bytes, so a value of 10 MiB could take 60 MiB of memory before it is rejected.
fn is_surely_too_large(text: &[u8]) -> bool {
    const ESCAPED: usize = 6;
    let is_long = |byte: &&u8| matches!(**byte, 0..=7 | 11 | 14..=31);
    text.len() > LINE_MAX / ESCAPED && text.iter().filter(is_long).count() > LINE_MAX / ESCAPED
}

/// Writes the events of one change.
struct Writer<'a> {
    plan: &'a AutomaticPlan,
    place: ChangePlace,
    envelope: &'a mut Envelope,
    records: &'a mut Records,
    texts: &'a mut Texts,
    part: u16,
}

impl Writer<'_> {
    fn row(&mut self, event_type: &EventType, row: &Row<'_>, subject: &str) -> Result<(), TranslateError> {
        self.plan.unavailable(event_type, row, &mut self.texts.unavailable);
        let keyless = self.plan.key.is_empty();
        let head = self.head(event_type, (!keyless).then_some(subject));
        let id = self.envelope.ids().of_change(&event_type.name, &self.place, 0);
        let text;
        let key = if keyless {
            text = id.text();
            text.as_str()
        } else {
            partition_key(subject, &mut self.texts.hashed)
        };
        let (plan, envelope) = (self.plan, &mut *self.envelope);
        let rest = Rest { id: EventId::Made(id), key, unavailable: &self.texts.unavailable };
        self.records.push(RecordKind::Event, &event_type.name, key, |out| {
            envelope.write(out, &head, &rest);
            plan.write_data(out, event_type, row)
        })
    }

    fn truncated(&mut self, cascade: bool, restart_identity: bool) {
        let event_type = &self.plan.truncated;
        let subject = self.plan.table.as_str();
        let head = self.head(event_type, Some(subject));
        let id = self.envelope.ids().of_change(&event_type.name, &self.place, 0);
        let key = partition_key(subject, &mut self.texts.hashed);
        let envelope = &mut *self.envelope;
        let written: Result<(), std::convert::Infallible> =
            self.records.push(RecordKind::Event, &event_type.name, key, |out| {
                envelope.write(out, &head, &Rest { id: EventId::Made(id), key, unavailable: "" });
                out.extend_from_slice(
                    format!("{{\"cascade\":{cascade},\"restart_identity\":{restart_identity}}}}}\n")
                        .as_bytes(),
                );
                Ok(())
            });
        match written {
            Ok(()) => {}
        }
    }

    fn head<'h>(&mut self, event_type: &'h EventType, subject: Option<&'h str>) -> Head<'h> {
        let part = self.part;
        self.part += 1;
        Head { attributes: &event_type.attributes, subject, time: None, place: self.place, part }
    }
}

#[cfg(test)]
mod tests;

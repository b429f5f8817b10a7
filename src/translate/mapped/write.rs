//! Writes one event of a rule.

use crate::change::ChangePlace;
use crate::event::{RecordKind, Records};
use crate::expression::{Context, EvalOutcome, Expression, Row};
use crate::failure::Problem;
use crate::translate::envelope::{self, Envelope, Head, Rest, partition_key, push_name};
use crate::translate::error::{LINE_MAX, TranslateError};
use crate::translate::id::MadeId;

use super::compiled::{CompiledRule, IdSource, Scratch};

/// Position of the event among the events of its change.
pub(super) struct EventSlot {
    pub(super) place: ChangePlace,
    pub(super) part: u16,
    pub(super) ordinal: u16,
}

/// The state that writing an event needs besides the row.
pub(super) struct Tools<'a> {
    pub(super) context: &'a mut Context,
    pub(super) envelope: &'a mut Envelope,
    pub(super) scratch: &'a mut Scratch,
}

impl CompiledRule {
    /// Appends the event. After an error nothing is appended. The message contains no row values.
    pub(super) fn write(
        &self,
        row: &Row<'_>,
        slot: &EventSlot,
        tools: &mut Tools<'_>,
        records: &mut Records,
    ) -> Result<(), Problem> {
        let Tools { context, envelope, scratch } = tools;
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        // First, so that the hash is finished when the data is written.
        let made = self.make_id(row, slot, context, envelope, &mut scratch.id)?;
        self.write_key(row, context, scratch)?;
        self.write_subject(row, context, scratch)?;
        let has_time = self.write_time(row, context, scratch)?;
        self.write_data(row, context, scratch)?;
        let head = Head {
            attributes: &self.attributes,
            subject: Some(if self.subject.is_some() { &scratch.subject } else { &scratch.key }),
            time: has_time.then_some(scratch.time.as_slice()),
            place: slot.place,
            part: slot.part,
        };
        // The caller checks that the records no longer fit.
        if !records.has_room(scratch.data.len()) {
            return Ok(());
        }
        let key = partition_key(&scratch.key, &mut scratch.hashed);
        let id = made.map_or(envelope::EventId::Given(&scratch.id), envelope::EventId::Made);
        let rest = Rest { id, key, unavailable: &scratch.unavailable };
        let data = &scratch.data;
        records.push(RecordKind::Event, &self.name, key, |out| {
            let start = out.len();
            envelope.write(out, &head, &rest);
            out.extend_from_slice(data);
            out.extend_from_slice(b"}\n");
            if out.len() - start > LINE_MAX { Err(Problem::of(&TranslateError::TooLarge)) } else { Ok(()) }
        })
    }

    /// Computes the event's id, or writes the id that the rule gives to `given`.
    fn make_id(
        &self,
        row: &Row<'_>,
        slot: &EventSlot,
        context: &mut Context,
        envelope: &mut Envelope,
        given: &mut String,
    ) -> Result<Option<MadeId>, Problem> {
        match &self.id {
            IdSource::Change => Ok(Some(envelope.ids().of_change(&self.name, &slot.place, slot.ordinal))),
            IdSource::Given(expression) => {
                given.clear();
                needed(expression, row, context, given, "the id")?;
                if given.is_empty() { Err("the id is empty".into()) } else { Ok(None) }
            }
            IdSource::Key { table, columns } => {
                let mut key = vec![b'{'];
                for (label, value) in columns {
                    if key.len() > 1 {
                        key.push(b',');
                    }
                    key.extend_from_slice(label);
                    let written = value
                        .write_json(row, context, &mut key)
                        .map_err(|error| format!("the id: {error}"))?;
                    if written == EvalOutcome::Unavailable {
                        return Err("the id needs a value that the server did not send".into());
                    }
                }
                key.push(b'}');
                Ok(Some(envelope.ids().of_key(&self.name, table, &key, slot.ordinal)))
            }
        }
    }

    /// Writes the key. Parts are joined like those of a composite primary key: `~` and `/` are written `~0`
    /// and `~1`.
    fn write_key(&self, row: &Row<'_>, context: &mut Context, scratch: &mut Scratch) -> Result<(), Problem> {
        let Scratch { key, part, .. } = scratch;
        key.clear();
        if let [expression] = self.key.as_slice() {
            return needed(expression, row, context, key, "the key");
        }
        for (nth, expression) in self.key.iter().enumerate() {
            if nth > 0 {
                key.push('/');
            }
            part.clear();
            needed(expression, row, context, part, "the key")?;
            if part.contains(['/', '~']) {
                key.push_str(&part.replace('~', "~0").replace('/', "~1"));
            } else {
                key.push_str(part);
            }
        }
        Ok(())
    }

    /// Writes the subject. It defaults to the key.
    fn write_subject(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> Result<(), Problem> {
        let Some(expression) = &self.subject else { return Ok(()) };
        scratch.subject.clear();
        needed(expression, row, context, &mut scratch.subject, "the subject")
    }

    /// Writes the event's time. Returns false for NULL and for a rule without `time`, which means the commit
    /// time.
    fn write_time(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> Result<bool, Problem> {
        let Some(expression) = &self.time else { return Ok(false) };
        let time = &mut scratch.time;
        time.clear();
        match expression.write_json(row, context, time).map_err(|error| Problem::new(error.to_string()))? {
            EvalOutcome::Null => Ok(false),
            EvalOutcome::Unavailable => Err("the time needs a value that the server did not send".into()),
            // CloudEvents requires RFC 3339: a year of four digits, no infinity, no year before 1.
            EvalOutcome::Value
                if time.len() >= 22 && time.get(5) == Some(&b'-') && time.ends_with(b"Z\"") =>
            {
                time.pop();
                time.remove(0);
                Ok(true)
            }
            EvalOutcome::Value => Err("the time is infinite or outside the years 0001 to 9999".into()),
        }
    }

    fn write_data(&self, row: &Row<'_>, context: &mut Context, scratch: &mut Scratch) -> Result<(), Problem> {
        let Scratch { data, unavailable, .. } = scratch;
        data.clear();
        data.shrink_to(1 << 20);
        unavailable.clear();
        for field in &self.fields {
            let start = data.len();
            data.extend_from_slice(&field.label);
            let written = field
                .value
                .write_json(row, context, data)
                .map_err(|error| format!("{}: {error}", field.name))?;
            match written {
                EvalOutcome::Value => {}
                EvalOutcome::Null => field.promise.null(&field.name)?,
                EvalOutcome::Unavailable => {
                    field.promise.missing(&field.name)?;
                    data.truncate(start);
                    push_name(unavailable, &field.name);
                }
            }
            if data.len() > LINE_MAX {
                return Err(Problem::of(&TranslateError::TooLarge));
            }
        }
        match data.first_mut() {
            // Replace the comma before the first field.
            Some(first) => *first = b'{',
            None => data.push(b'{'),
        }
        data.push(b'}');
        Ok(())
    }
}

/// Appends a required value.
fn needed(
    expression: &Expression,
    row: &Row<'_>,
    context: &mut Context,
    out: &mut String,
    what: &str,
) -> Result<(), Problem> {
    match expression.write_text(row, context, out).map_err(|error| format!("{what}: {error}"))? {
        EvalOutcome::Value => Ok(()),
        EvalOutcome::Null => Err(format!("{what} is NULL").into()),
        EvalOutcome::Unavailable => Err(format!("{what} needs a value that the server did not send").into()),
    }
}

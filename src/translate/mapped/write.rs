//! One event of a rule, written.

use crate::change::Place;
use crate::event::{RecordKind, Records};
use crate::translate::LINE_MAX;
use crate::translate::envelope::{self, Envelope, Head, Rest, partition_key, push_name};
use crate::translate::id::MadeId;
use crate::translate::sql::{Context, Expression, Outcome, Row};

use super::{Event, Id};

/// Buffers that are used again for every row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    key: String,
    subject: String,
    part: String,
    hashed: String,
    id: String,
    time: Vec<u8>,
    data: Vec<u8>,
    unavailable: String,
}

/// Which event of which change it is.
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) part: u16,
    pub(super) ordinal: u16,
}

/// What writing needs beside the row.
pub(super) struct Tools<'a> {
    pub(super) context: &'a mut Context,
    pub(super) envelope: &'a mut Envelope,
    pub(super) scratch: &'a mut Scratch,
}

impl Event {
    /// Adds the event. The error says why there is none, without values of the row; then nothing was added.
    pub(super) fn write(
        &self,
        row: &Row<'_>,
        slot: &Slot,
        tools: &mut Tools<'_>,
        records: &mut Records,
    ) -> Result<(), String> {
        let Tools { context, envelope, scratch } = tools;
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        // First: nothing waits for the hash until the data are written.
        let made = self.make_id(row, slot, (context, envelope), &mut scratch.id)?;
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
        let key = partition_key(&scratch.key, &mut scratch.hashed);
        let id = made.map_or(envelope::Id::Given(&scratch.id), envelope::Id::Made);
        let rest = Rest { id, key, unavailable: &scratch.unavailable };
        let data = &scratch.data;
        records.push(RecordKind::Event, &self.name, key, |out| {
            let start = out.len();
            envelope.write(out, &head, &rest);
            out.extend_from_slice(data);
            out.extend_from_slice(b"}\n");
            if out.len() - start > LINE_MAX {
                Err(crate::translate::TranslateError::TooLarge.to_string())
            } else {
                Ok(())
            }
        })
    }

    /// Makes the event's id, or writes the one that is given to `given`.
    fn make_id(
        &self,
        row: &Row<'_>,
        slot: &Slot,
        (context, envelope): (&mut Context, &mut Envelope),
        given: &mut String,
    ) -> Result<Option<MadeId>, String> {
        match &self.id {
            Id::Change => Ok(Some(envelope.ids().of_change(&self.name, &slot.place, slot.ordinal))),
            Id::Given(expression) => {
                given.clear();
                needed(expression, row, context, given, "the id")?;
                if given.is_empty() { Err("the id is empty".to_owned()) } else { Ok(None) }
            }
            Id::Key { table, columns } => {
                let mut key = vec![b'{'];
                for (label, value) in columns {
                    if key.len() > 1 {
                        key.push(b',');
                    }
                    key.extend_from_slice(label);
                    let written = value
                        .write_json(row, context, &mut key)
                        .map_err(|error| format!("the id: {error}"))?;
                    if written == Outcome::Unavailable {
                        return Err("the id hangs on a value that the server did not send".to_owned());
                    }
                }
                key.push(b'}');
                Ok(Some(envelope.ids().of_key(&self.name, table, &key, slot.ordinal)))
            }
        }
    }

    /// Several parts are joined as those of a composite primary key: `~` and `/` inside a part are written `~0` and `~1`.
    fn write_key(&self, row: &Row<'_>, context: &mut Context, scratch: &mut Scratch) -> Result<(), String> {
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

    /// Without one of its own, the key is the subject.
    fn write_subject(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let Some(expression) = &self.subject else { return Ok(()) };
        scratch.subject.clear();
        needed(expression, row, context, &mut scratch.subject, "the subject")
    }

    /// Whether the event has a time of its own; NULL means the commit's.
    fn write_time(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> Result<bool, String> {
        let Some(expression) = &self.time else { return Ok(false) };
        let time = &mut scratch.time;
        time.clear();
        match expression.write_json(row, context, time).map_err(|error| error.to_string())? {
            Outcome::Null => Ok(false),
            Outcome::Unavailable => Err("the time hangs on a value that the server did not send".to_owned()),
            // CloudEvents wants RFC 3339: four digits of a year, no infinity, and nothing before Christ.
            Outcome::Value if time.len() >= 22 && time.get(5) == Some(&b'-') && time.ends_with(b"Z\"") => {
                time.pop();
                time.remove(0);
                Ok(true)
            }
            Outcome::Value => Err("the time is infinite, or beyond the years 0001 to 9999".to_owned()),
        }
    }

    fn write_data(&self, row: &Row<'_>, context: &mut Context, scratch: &mut Scratch) -> Result<(), String> {
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
                Outcome::Value => {}
                Outcome::Null => field.promise.null(&field.name)?,
                Outcome::Unavailable => {
                    field.promise.missing(&field.name)?;
                    data.truncate(start);
                    push_name(unavailable, &field.name);
                }
            }
            if data.len() > LINE_MAX {
                return Err(crate::translate::TranslateError::TooLarge.to_string());
            }
        }
        match data.first_mut() {
            // The comma before the first field that is there.
            Some(first) => *first = b'{',
            None => data.push(b'{'),
        }
        data.push(b'}');
        Ok(())
    }
}

/// Appends a value that must be there.
fn needed(
    expression: &Expression,
    row: &Row<'_>,
    context: &mut Context,
    out: &mut String,
    what: &str,
) -> Result<(), String> {
    match expression.write_text(row, context, out).map_err(|error| format!("{what}: {error}"))? {
        Outcome::Value => Ok(()),
        Outcome::Null => Err(format!("{what} is NULL")),
        Outcome::Unavailable => Err(format!("{what} hangs on a value that the server did not send")),
    }
}

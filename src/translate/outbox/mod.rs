//! Events that the application has made itself: rows of an outbox table, or logical messages. Their payload is passed on as it is.
//!
//! Inserts are events; updates and deletes of an outbox are its clean-up. A row or message that is no event, because its type, key or
//! payload is no good, is a dead letter as a whole.

mod table;

use std::collections::HashMap;

use crate::change::{Message, Place};
use crate::event::{RecordKind, Records};
use crate::rules::Outbox;
use crate::types::Kind;

use super::envelope::{Envelope, Head, Id, Rest, partition_key, type_attributes};
use super::{LINE_MAX, Settings, TranslateError, json};

pub use self::table::Plan;

/// Event types whose envelope is kept ready; what they are called is the application's, so they may be without end.
const NAMES_MAX: usize = 1_000;

/// Longest type that a row or message may name, in bytes; longer ones are no event type.
const NAME_MAX: usize = 1 << 10;

/// Event types that one outbox has brought, ready to be written.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<Vec<u8>, Named>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Named {
    name: String,
    /// See [`Head::attributes`].
    attributes: Vec<u8>,
    has_schema: bool,
    /// It is locked, and somebody else's.
    is_taken: bool,
}

/// What making an event needs beside what it is made of.
#[derive(Debug)]
pub struct Tools<'a> {
    /// What translation is told.
    pub settings: &'a Settings,
    /// The types that the outbox has brought.
    pub names: &'a mut Names,
    /// The envelope.
    pub envelope: &'a mut Envelope,
}

impl Names {
    /// The event type of what a row or message says; `None`: it makes none.
    fn get(
        &mut self,
        outbox: &Outbox,
        (source, settings): (&str, &Settings),
        (aggregate, kind): (&str, &str),
    ) -> Option<&Named> {
        if aggregate.len() > NAME_MAX || kind.len() > NAME_MAX {
            return None;
        }
        self.scratch.clear();
        for text in [aggregate, kind] {
            self.scratch.extend_from_slice(text.as_bytes());
            self.scratch.push(0);
        }
        if !self.known.contains_key(&self.scratch) {
            let name = outbox.template.type_name(aggregate, kind).ok()?.to_string();
            if self.known.len() >= NAMES_MAX {
                self.known.clear();
            }
            let schema = settings.schemas.get(&name).map(String::as_str);
            let attributes = type_attributes(source, &name, schema);
            let has_schema = outbox.schemas.has(&name);
            let is_locked = settings.contracts.as_ref().is_some_and(|contracts| contracts.has(&name));
            let named = Named { name, attributes, has_schema, is_taken: is_locked && !has_schema };
            self.known.insert(self.scratch.clone(), named);
        }
        self.known.get(&self.scratch)
    }
}

/// An event that the application has made.
#[derive(Clone, Copy, Debug)]
struct Made<'a> {
    aggregate: &'a str,
    kind: &'a str,
    /// `None`: that of the message.
    id: Option<&'a str>,
    /// `None`: the id.
    key: Option<&'a str>,
    /// `None`: when it was committed.
    time: Option<&'a [u8]>,
    /// `None`: SQL NULL.
    payload: Option<&'a [u8]>,
    place: Place,
}

impl Made<'_> {
    fn write(&self, outbox: &Outbox, tools: Tools<'_>, records: &mut Records) -> Result<(), TranslateError> {
        let Tools { settings, names, envelope } = tools;
        let known = (envelope.source(), settings);
        let Some(named) = names.get(outbox, known, (self.aggregate, self.kind)) else {
            return Err(failed(
                "what it says of its type makes no event type, such as \"shop.order_placed.v1\": lower-case words \
                 joined by dots and a major version",
            ));
        };
        if named.is_taken {
            return Err(failed(format!(
                "{} is locked for somebody else, a rule, a table or another outbox: events of this outbox are called otherwise, or it \
                 gives the schema too",
                named.name
            )));
        }
        if named.has_schema {
            outbox.schemas.check(&named.name, self.payload.unwrap_or(b"null")).map_err(failed)?;
        }
        let head = Head {
            attributes: &named.attributes,
            subject: self.key,
            time: self.time,
            place: self.place,
            part: 0,
        };
        let of_message;
        let (id, text) = if let Some(id) = self.id {
            (Id::Given(id), id)
        } else {
            let id = envelope.ids().of_message(&named.name, &self.place);
            of_message = id.text();
            (Id::Made(id), of_message.as_str())
        };
        let mut hashed = String::new();
        let key = partition_key(self.key.unwrap_or(text), &mut hashed);
        let rest = Rest { id, key, unavailable: "" };
        records.push(RecordKind::Event, &named.name, key, |out| {
            let start = out.len();
            envelope.write(out, &head, &rest);
            match self.payload {
                Some(payload) => json::write_value(out, &Kind::Json, payload)
                    .map_err(|error| failed(format!("the payload: {error}")))?,
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b"}\n");
            if out.len() - start > LINE_MAX { Err(TranslateError::TooLarge) } else { Ok(()) }
        })
    }
}

fn failed(why: impl Into<String>) -> TranslateError {
    TranslateError::Outbox(why.into())
}

/// Adds the event that a message is. Behind the outbox's prefix stands its type, and behind a colon its key; without one, the event
/// has a key of its own.
///
/// # Errors
/// It is none.
pub fn message(
    outbox: &Outbox,
    message: &Message<'_>,
    behind_prefix: &[u8],
    tools: Tools<'_>,
    records: &mut Records,
) -> Result<(), TranslateError> {
    if !message.is_whole() {
        return Err(failed(format!("the message of {} bytes is larger than max_row_size", message.size)));
    }
    let text = std::str::from_utf8(behind_prefix).map_err(|_| failed("the message's prefix is not UTF-8"))?;
    let (kind, key) = match text.split_once(':') {
        Some((_, "")) => return Err(failed("there is no key behind the colon")),
        Some((kind, key)) => (kind, Some(key)),
        None => (text, None),
    };
    let payload = Some(message.content);
    let made = Made { aggregate: "", kind, id: None, key, time: None, payload, place: message.place };
    made.write(outbox, tools, records)
}

#[cfg(test)]
mod tests;

//! Writes an event of an outbox from its parts, which come from a row or a logical message.

use std::collections::HashMap;

use crate::change::{ChangePlace, Message};
use crate::event::{RecordKind, Records};
use crate::failure::Problem;
use crate::rules::Outbox;
use crate::types::Kind;

use crate::json;
use crate::translate::envelope::{Envelope, EventId, Head, Rest, partition_key, type_attributes};
use crate::translate::error::{LINE_MAX, TranslateError};
use crate::translate::settings::TranslateSettings;

/// Number of event types whose envelope is cached. Applications name the types, so their number is unbounded.
const NAMES_MAX: usize = 1_000;

/// Longest type in a row or message, in bytes.
const NAME_MAX: usize = 1 << 10;

/// Event types of one outbox, with their envelopes.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<Vec<u8>, KnownType>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct KnownType {
    name: String,
    /// The constant part of the envelope, for [`Head::attributes`].
    attributes: Vec<u8>,
    has_schema: bool,
    /// Whether the type is locked with another origin.
    is_taken: bool,
}

/// The state that writing an event needs besides its parts.
#[derive(Debug)]
pub struct Tools<'a> {
    /// The settings.
    pub settings: &'a TranslateSettings,
    /// The event types of the outbox.
    pub names: &'a mut Names,
    /// The envelope.
    pub envelope: &'a mut Envelope,
}

impl Names {
    /// The event type for the type in a row or message; `None` if it is invalid.
    fn get(
        &mut self,
        outbox: &Outbox,
        source: &str,
        settings: &TranslateSettings,
        aggregate: &str,
        kind: &str,
    ) -> Option<&KnownType> {
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
            let named = KnownType { name, attributes, has_schema, is_taken: is_locked && !has_schema };
            self.known.insert(self.scratch.clone(), named);
        }
        self.known.get(&self.scratch)
    }
}

/// The parts of an event that the application wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<'a> {
    pub(super) aggregate: &'a str,
    pub(super) kind: &'a str,
    /// `None`: the id is computed from the message's position.
    pub(super) id: Option<&'a str>,
    /// `None`: the id is the key.
    pub(super) key: Option<&'a str>,
    /// `None`: the commit time.
    pub(super) time: Option<&'a [u8]>,
    /// `None`: SQL NULL.
    pub(super) payload: Option<&'a [u8]>,
    pub(super) place: ChangePlace,
}

impl Made<'_> {
    pub(super) fn write(
        &self,
        outbox: &Outbox,
        tools: Tools<'_>,
        records: &mut Records,
    ) -> Result<(), TranslateError> {
        let Tools { settings, names, envelope } = tools;
        let source = envelope.source();
        let Some(named) = names.get(outbox, source, settings, self.aggregate, self.kind) else {
            return Err(failed(Problem::new("its type is not a valid event type").with_hint(
                "Write lower-case words joined by dots and a major version, such as \"shop.order_placed.v1\".",
            )));
        };
        if named.is_taken {
            let fact = format!("{} is locked for another rule, table or outbox", named.name);
            let hint = "Use another event type, or add the schema to this outbox.";
            return Err(failed(Problem::new(fact).with_hint(hint)));
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
            (EventId::Given(id), id)
        } else {
            let id = envelope.ids().of_message(&named.name, &self.place);
            of_message = id.text();
            (EventId::Made(id), of_message.as_str())
        };
        let mut hashed = String::new();
        let key = partition_key(self.key.unwrap_or(text), &mut hashed);
        let rest = Rest { id, key, unavailable: "" };
        records.push(RecordKind::Event, &named.name, key, |out| {
            let start = out.len();
            envelope.write(out, &head, &rest);
            let data = out.len();
            match self.payload {
                Some(payload) => json::write_value(out, &Kind::Json, payload)
                    .map_err(|error| failed(format!("the payload: {error}")))?,
                None => out.extend_from_slice(b"null"),
            }
            if out.len() + 2 - start > LINE_MAX {
                return Err(TranslateError::TooLarge);
            }
            if named.has_schema {
                let data = out.get(data..).unwrap_or_default();
                outbox.schemas.check(&named.name, data).map_err(failed)?;
            }
            out.extend_from_slice(b"}\n");
            Ok(())
        })
    }
}

pub(super) fn failed(why: impl Into<Problem>) -> TranslateError {
    TranslateError::Outbox(why.into())
}

/// Appends the event of a message. Its prefix consists of the outbox's prefix, the type, and optionally a
/// colon and the key. Without a key, the event id is the key.
///
/// # Errors
/// The message is not a valid event.
pub fn message(
    outbox: &Outbox,
    message: &Message<'_>,
    behind_prefix: &[u8],
    tools: Tools<'_>,
    records: &mut Records,
) -> Result<(), TranslateError> {
    if !message.is_whole() {
        return Err(failed(format!("the message has {} bytes, which exceeds max_row_size", message.size)));
    }
    let text = std::str::from_utf8(behind_prefix).map_err(|_| failed("the message's prefix is not UTF-8"))?;
    let (kind, key) = match text.split_once(':') {
        Some((_, "")) => return Err(failed("the key after the colon is empty")),
        Some((kind, key)) => (kind, Some(key)),
        None => (text, None),
    };
    let payload = Some(message.content);
    let made = Made { aggregate: "", kind, id: None, key, time: None, payload, place: message.place };
    made.write(outbox, tools, records)
}

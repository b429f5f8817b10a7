//! The texts of the page. [`super::build`] makes them; the template only places and escapes them.

use serde::Serialize;

use super::differences::Differences;

/// The whole page.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The pipeline's name.
    pub name: String,
    /// CloudEvents source.
    pub source: String,
    /// Kinesis stream.
    pub stream: String,
    /// Address of the AsyncAPI document.
    pub asyncapi: String,
    /// The number of event types, in one sentence.
    pub summary: String,
    /// First words of the event types, in order.
    pub domains: Vec<Domain>,
    /// Outboxes, whose event types the application names.
    pub outboxes: Vec<OutboxArticle>,
    /// Attributes of the envelope.
    pub envelope: Vec<Attribute>,
    /// Events about the stream itself, each with a description.
    pub own: Vec<Attribute>,
}

/// All events whose types begin with the same word.
#[derive(Debug, Serialize)]
pub struct Domain {
    /// The word.
    pub name: String,
    /// Entries of the side list: one per event, with all its versions.
    pub groups: Vec<Group>,
    /// One article per type that is not automatic.
    pub events: Vec<EventArticle>,
    /// The automatic ones, which are folded away.
    pub automatic: Vec<EventArticle>,
}

/// An event with all its major versions.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The type without its version.
    pub stem: String,
    /// The same without the domain.
    pub label: String,
    /// Whether the event is automatic.
    pub automatic: bool,
    /// Newest first; never empty.
    pub versions: Vec<Major>,
}

/// A major version in the side list.
#[derive(Debug, Serialize)]
pub struct Major {
    /// The type.
    pub name: String,
    /// Anchor of its article.
    pub anchor: String,
    /// Its major version.
    pub major: u32,
    /// Whether it is deprecated.
    pub deprecated: bool,
}

/// One event type.
#[derive(Debug, Serialize)]
pub struct EventArticle {
    /// The type.
    pub name: String,
    /// Anchor of its article: the type, unless the table's name has special characters.
    pub anchor: String,
    /// The type without its version.
    pub stem: String,
    /// The stem up to its last word, with the dot.
    pub prefix: String,
    /// Its last word.
    pub word: String,
    /// Its major version.
    pub major: u32,
    /// Whether the event is automatic.
    pub automatic: bool,
    /// The deprecation.
    pub deprecated: Option<Deprecated>,
    /// Summary.
    pub about: String,
    /// The responsible team; may be empty.
    pub owner: String,
    /// Known consumers, separated by commas; may be empty.
    pub consumers: String,
    /// The guarantees for consumers.
    pub contract: String,
    /// Address of its newest open schema; empty if it is not locked.
    pub schema: String,
    /// Further words for the search.
    pub terms: String,
    /// Whether a field holds personal data.
    pub has_personal: bool,
    /// Fields of `data`.
    pub fields: Vec<FieldRow>,
    /// Note shown in place of the fields if there are none.
    pub no_fields: String,
    /// Order and key in one sentence.
    pub order: String,
    /// The event it is made from.
    pub derived_from: Option<Link>,
    /// Origin of the event.
    pub facts: Vec<Fact>,
    /// A whole event, indented.
    pub example: String,
    /// Newest first.
    pub versions: Vec<Version>,
}

/// An outbox.
#[derive(Debug, Serialize)]
pub struct OutboxArticle {
    /// Its table, or the prefix of its messages.
    pub name: String,
    /// Anchor of its article.
    pub anchor: String,
    /// Summary; may be empty.
    pub about: String,
    /// The responsible team; may be empty.
    pub owner: String,
    /// Known consumers; may be empty.
    pub consumers: String,
    /// Form of its event types.
    pub form: String,
    /// The types that have a schema.
    pub types: Vec<Link>,
    /// Origin of its events.
    pub facts: Vec<Fact>,
}

/// A reference to an event type.
#[derive(Debug, Serialize)]
pub struct Link {
    /// The type.
    pub name: String,
    /// Anchor of its article.
    pub anchor: String,
    /// Whether its article is on this page.
    pub known: bool,
}

/// A deprecated type.
#[derive(Debug, Serialize)]
pub struct Deprecated {
    /// Date of the deprecation.
    pub since: String,
    /// Earliest date of the removal; may be empty.
    pub sunset: String,
    /// The replacement.
    pub instead: Option<Link>,
}

/// A field of `data`.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark in a row of the page")]
pub struct FieldRow {
    /// Its name.
    pub name: String,
    /// Its type in words.
    pub kind: String,
    /// Its SQL type; may be empty.
    pub sql: String,
    /// Its bounds in words; may be empty.
    pub bounds: String,
    /// Whether it is a member of an object, and its name a path.
    pub nested: bool,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether it can be absent.
    pub optional: bool,
    /// Description; may be empty.
    pub meaning: String,
    /// Known values.
    pub labels: Vec<String>,
    /// Whether the list of values is complete.
    pub closed: bool,
    /// The columns it is computed from, if their names differ; may be empty.
    pub origin: String,
    /// How personal data is hidden; may be empty.
    pub personal: String,
    /// The minor version that added it; may be empty.
    pub since: String,
}

/// A line about the origin of an event.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// Label.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether the text is SQL or a name.
    pub code: bool,
}

/// A version and its changes.
#[derive(Debug, Serialize)]
pub struct Version {
    /// `2.1`.
    pub number: String,
    /// Anchor of the article of another major version; may be empty.
    pub anchor: String,
    /// Note.
    pub note: String,
    /// Differences from the previous version.
    pub differences: Differences,
}

/// An attribute of the envelope.
#[derive(Debug, Serialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Description.
    pub meaning: String,
    /// Whether it can be absent.
    pub optional: bool,
}

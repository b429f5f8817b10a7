//! What stands on the page, word for word: the template only places it. Made by [`super::build`], escaped by the template.

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
    /// How many of what, in one sentence.
    pub summary: String,
    /// First words of types, in order.
    pub domains: Vec<Domain>,
    /// Where events come from whose types the application names.
    pub outboxes: Vec<Source>,
    /// Attributes of the envelope.
    pub envelope: Vec<Attribute>,
}

/// All events whose types begin with one word.
#[derive(Debug, Serialize)]
pub struct Domain {
    /// The word.
    pub name: String,
    /// In the list at the side: one entry per event, whatever its versions.
    pub groups: Vec<Group>,
    /// One article per type.
    pub events: Vec<Event>,
}

/// An event in all its major versions.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The type without its version.
    pub stem: String,
    /// The same without the domain.
    pub label: String,
    /// No rule speaks of it.
    pub automatic: bool,
    /// Newest first; never empty.
    pub versions: Vec<Major>,
}

/// A major version in the list.
#[derive(Debug, Serialize)]
pub struct Major {
    /// The type.
    pub name: String,
    /// Where its article is.
    pub anchor: String,
    /// Its major version.
    pub major: u32,
    /// Whether it is to go.
    pub deprecated: bool,
}

/// One event type.
#[derive(Debug, Serialize)]
pub struct Event {
    /// The type.
    pub name: String,
    /// Where its article is: the type, unless a table has a strange name.
    pub anchor: String,
    /// See [`Group::stem`].
    pub stem: String,
    /// The stem up to its last word, with the dot.
    pub prefix: String,
    /// Its last word.
    pub word: String,
    /// Its major version.
    pub major: u32,
    /// No rule speaks of it.
    pub automatic: bool,
    /// If it is to go.
    pub deprecated: Option<Deprecated>,
    /// The sentence.
    pub about: String,
    /// Who answers for it; may be empty.
    pub owner: String,
    /// Who reads it, separated by commas; may be empty.
    pub consumers: String,
    /// What a reader may rely on.
    pub contract: String,
    /// Whether a field is personal data.
    pub has_personal: bool,
    /// What is in `data`.
    pub fields: Vec<Field>,
    /// What is said where no field is.
    pub no_fields: String,
    /// Order and key in one sentence.
    pub order: String,
    /// The event it is made from.
    pub derived_from: Option<Link>,
    /// Where it comes from.
    pub facts: Vec<Fact>,
    /// A whole event, indented.
    pub example: String,
    /// Newest first.
    pub versions: Vec<Version>,
}

/// An outbox.
#[derive(Debug, Serialize)]
pub struct Source {
    /// Its table, or the prefix of its messages.
    pub name: String,
    /// Where its article is.
    pub anchor: String,
    /// The sentence; may be empty.
    pub about: String,
    /// Who answers for it; may be empty.
    pub owner: String,
    /// Who reads it; may be empty.
    pub consumers: String,
    /// How its types look.
    pub form: String,
    /// The types that have a schema.
    pub types: Vec<Link>,
    /// What its events are made of.
    pub facts: Vec<Fact>,
}

/// An event type that is named.
#[derive(Debug, Serialize)]
pub struct Link {
    /// The type.
    pub name: String,
    /// Where its article is.
    pub anchor: String,
    /// Whether it is on this page.
    pub known: bool,
}

/// A type that is to go.
#[derive(Debug, Serialize)]
pub struct Deprecated {
    /// Since when.
    pub since: String,
    /// Its last day is the one before; may be empty.
    pub sunset: String,
    /// What to read.
    pub instead: Option<Link>,
}

/// A field of `data`.
#[derive(Debug, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type in words.
    pub kind: String,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether it can be absent.
    pub optional: bool,
    /// What it means; may be empty.
    pub meaning: String,
    /// Known values.
    pub labels: Vec<String>,
    /// Whether there will be no others.
    pub closed: bool,
    /// The columns it is made of, where they are called otherwise; may be empty.
    pub origin: String,
    /// How it hides a person; may be empty.
    pub personal: String,
    /// The minor version it came with; may be empty.
    pub since: String,
}

/// A line of "where it comes from".
#[derive(Debug, Serialize)]
pub struct Fact {
    /// What.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it is SQL or a name.
    pub code: bool,
}

/// A version and what is new in it.
#[derive(Debug, Serialize)]
pub struct Version {
    /// `2.1`.
    pub number: String,
    /// Where the article of another major version is; may be empty.
    pub anchor: String,
    /// What is to be said of it.
    pub note: String,
    /// Against the one before.
    pub differences: Differences,
}

/// An attribute of the envelope.
#[derive(Debug, Serialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// What it is.
    pub meaning: String,
    /// Whether it can be missing.
    pub optional: bool,
}

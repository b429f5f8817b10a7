//! The meaning of an event, in addition to the form of its data: the table, the operations and the condition
//! that make it, and how its key, subject, time, id and fields are computed.
//!
//! Stored in `events.lock/<type>/<major>.meaning.json` ([`file`](mod@file)), separate from the schema,
//! because consumers do not need it. Expressions are compared by their parsed form
//! ([`crate::expression::ParsedForm`]), so that layout does not matter. Types are compared exactly
//! ([`TypeForm`]).

pub mod compare;
pub mod file;
mod form;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::{Column, Described};
use crate::expression::{Expression, tidied};
use crate::rules::{IdRule, Origin, Rule, Trigger};
use crate::translate::mapped::{CompiledField, CompiledRule};
use crate::types::SqlType;

pub use form::{PartForm, TypeForm};

/// One origin of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeaningSource {
    /// The table, or the outbox.
    pub from: String,
    /// The operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The columns of `update of`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub update_of: Vec<ReadForm>,
    /// The conditions, which must all be true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<MeaningTerm>,
    /// The parts of the key. Empty: the event's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<MeaningTerm>,
    /// The subject; `None`: the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<MeaningTerm>,
    /// The time; `None`: the time of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MeaningTerm>,
    /// `change`, `key`, or `given`.
    #[serde(default)]
    pub id: String,
    /// The parts of the id, unless it is made from the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_of: Vec<MeaningTerm>,
    /// The fields of `data`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, MeaningTerm>,
    /// The configured name of the pseudonym key, if the event has pseudonyms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_key: Option<String>,
    /// All present columns of the table, to distinguish a renamed column from a different one.
    #[serde(skip)]
    pub columns: Vec<String>,
}

/// One expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeaningTerm {
    /// The text without layout.
    pub sql: String,
    /// Its parsed form.
    pub parsed: String,
    /// The form without a default that only old rows need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// The columns that the form numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<ReadForm>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<TypeForm>,
    /// Whether it consists of one column, with or without casts. Known only for the present rules.
    #[serde(skip)]
    pub is_cast: bool,
}

/// A column that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadForm {
    /// Its name.
    pub column: String,
    /// `old` or `new`; empty: the row as it is after the change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub row: String,
    /// Its number in the table (`pg_attribute.attnum`), which a rename does not change. 0: unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: i16,
    /// Whether the result depends on how PostgreSQL prints its values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub printed: bool,
    /// Its type.
    pub form: TypeForm,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(number: &i16) -> bool {
    *number == 0
}

/// The meaning of a compiled table rule. `hmac_key`: the configured name of the key of `hmac()`.
pub(super) fn of_rule(
    (rule, root): (&Rule, &Rule),
    event: &CompiledRule,
    table: &Described,
    hmac_key: Option<&str>,
) -> MeaningSource {
    let triggers: &[Trigger] = if let Origin::Table { on, .. } = &root.origin { on } else { &[] };
    let made = TermMaker { table };
    let text = |text: &Option<crate::rules::SourceText>| {
        text.as_ref().map(|text| tidied(&text.text)).unwrap_or_default()
    };
    let mut conditions = [&root.when, &rule.when].into_iter().filter(|when| when.is_some()).map(text);
    let id = match &root.id {
        IdRule::Change => "change",
        IdRule::Key => "key",
        IdRule::Given(_) => "given",
    };
    let id_text = if let IdRule::Given(text) = &root.id { tidied(&text.text) } else { String::new() };
    let key_text = text(&root.key);
    let field =
        |field: &CompiledField| (field.name.clone(), made.term(&field.value, &tidied(&field.sql), false));
    let fields = event.fields.iter().map(|field| &field.value);
    let published = fields.chain(&event.key).chain(event.subject()).chain(event.id().into_iter().flatten());
    let has_pseudonym = published.into_iter().any(Expression::uses_hmac);
    MeaningSource {
        from: table.relation.name(),
        on: triggers.iter().map(|trigger| operation(trigger).to_owned()).collect(),
        update_of: triggers.iter().flat_map(|trigger| made.update_of(trigger)).collect(),
        when: event
            .conditions()
            .iter()
            .map(|condition| made.term(condition, &conditions.next().unwrap_or_default(), false))
            .collect(),
        key: event.key.iter().map(|part| made.term(part, &key_text, true)).collect(),
        subject: event.subject().map(|subject| made.term(subject, &text(&root.subject), true)),
        time: event.time().map(|time| made.term(time, &text(&root.time), false)),
        id: id.to_owned(),
        id_of: event.id().into_iter().flatten().map(|part| made.term(part, &id_text, true)).collect(),
        data: event.fields.iter().map(field).collect(),
        hmac_key: hmac_key.filter(|_| has_pseudonym).map(str::to_owned),
        columns: made.columns(),
    }
}

/// The meaning of an automatic event of a table with these columns as its fields. `on`: its operation.
pub(super) fn of_table(table: &Described, on: &str, fields: &[String]) -> MeaningSource {
    let made = TermMaker { table };
    let columns = &table.relation.columns;
    let key = table.relation.key().into_iter().filter_map(|at| columns.get(at));
    let field = |column: &Column| (column.name.clone(), made.column(column, false));
    MeaningSource {
        from: table.relation.name(),
        on: vec![on.to_owned()],
        key: key.map(|column| made.column(column, true)).collect(),
        id: "change".to_owned(),
        data: columns.iter().filter(|column| fields.contains(&column.name)).map(field).collect(),
        columns: made.columns(),
        ..MeaningSource::default()
    }
}

/// The meaning of an outbox's events. `key`: the type of its key column, if it has one.
pub(super) fn of_outbox(name: &str, key: Option<&SqlType>) -> MeaningSource {
    let form = |data_type: &SqlType| TypeForm::of(data_type, &[]);
    let term = |data_type: &SqlType| MeaningTerm {
        sql: "aggregateid".to_owned(),
        parsed: "$1".to_owned(),
        plain: None,
        reads: vec![ReadForm {
            // Columns are identified by their role, because consumers do not see their names.
            column: "aggregateid".to_owned(),
            row: String::new(),
            number: 0,
            printed: true,
            form: form(data_type),
        }],
        form: Some(form(data_type)),
        is_cast: false,
    };
    MeaningSource {
        from: name.to_owned(),
        key: key.map(term).into_iter().collect(),
        ..MeaningSource::default()
    }
}

const fn operation(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Insert => "insert",
        Trigger::Update { .. } => "update",
        Trigger::Delete => "delete",
    }
}

impl MeaningSource {
    /// Clears the numbers that differ between databases with the same tables.
    pub(super) fn forget_numbers(&mut self) {
        self.columns.clear();
        let single = self.subject.iter_mut().chain(&mut self.time);
        let lists = self.when.iter_mut().chain(&mut self.key).chain(&mut self.id_of);
        let terms = lists.chain(single).chain(self.data.values_mut());
        let mut reads: Vec<&mut ReadForm> = self.update_of.iter_mut().collect();
        for term in terms {
            term.is_cast = false;
            reads.extend(&mut term.reads);
        }
        for read in reads {
            read.number = 0;
        }
    }
}

/// Makes terms from expressions over one table.
struct TermMaker<'a> {
    table: &'a Described,
}

impl TermMaker<'_> {
    fn term(&self, expression: &Expression, sql: &str, printed: bool) -> MeaningTerm {
        let parsed = expression.parsed(printed);
        let read = |read: crate::expression::ReadColumn| ReadForm {
            number: self.number(&read.name),
            row: read.row.to_owned(),
            printed: read.printed,
            form: TypeForm::of(&read.data_type, &self.table.types),
            column: read.name,
        };
        let own = expression.column().filter(|_| sql.is_empty()).map(quoted);
        MeaningTerm {
            sql: own.unwrap_or_else(|| sql.to_owned()),
            parsed: parsed.text,
            plain: parsed.plain,
            reads: parsed.reads.into_iter().map(read).collect(),
            form: Some(TypeForm::of(expression.data_type(), &self.table.types)),
            is_cast: parsed.is_cast,
        }
    }

    /// The term of an unchanged column.
    fn column(&self, column: &Column, printed: bool) -> MeaningTerm {
        let form = TypeForm::of(&column.data_type, &self.table.types);
        let read = ReadForm {
            column: column.name.clone(),
            row: String::new(),
            number: self.number(&column.name),
            printed,
            form: form.clone(),
        };
        let (sql, parsed) = (quoted(&column.name), "$1".to_owned());
        MeaningTerm { sql, parsed, plain: None, reads: vec![read], form: Some(form), is_cast: false }
    }

    fn update_of(&self, trigger: &Trigger) -> Vec<ReadForm> {
        let Trigger::Update { of } = trigger else { return Vec::new() };
        let columns = self.table.relation.columns.iter();
        columns
            .filter(|column| of.contains(&column.name))
            .flat_map(|column| self.column(column, false).reads)
            .collect()
    }

    fn number(&self, name: &str) -> i16 {
        let at = self.table.relation.columns.iter().position(|column| column.name == name);
        at.and_then(|at| self.table.numbers.get(at)).copied().unwrap_or(0)
    }

    fn columns(&self) -> Vec<String> {
        let relation = &self.table.relation;
        let unsent = self.table.unsent.iter().map(|unsent| &unsent.column);
        relation.columns.iter().chain(unsent).map(|column| column.name.clone()).collect()
    }
}

fn quoted(name: &str) -> String {
    tidied(&format!("\"{}\"", name.replace('"', "\"\"")))
}

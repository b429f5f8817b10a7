//! Compiles the rules of a table: checks names, types and personal data. Every error has its position in the
//! rule file.

use crate::change::{Column, Relation, ReplicaIdentity};
use crate::config::{Automatic, Pii};
use crate::expression::{Expression, Mistakes, Name, Scope};
use crate::failure::Problem;
use crate::json;
use crate::rules::{
    Deprecated, FilePosition, IdRule, Origin, Rule, RuleError, RuleErrors, Rules, SourceText, Trigger, Wrong,
};
use crate::translate::envelope::{deprecated_attributes, type_attributes};
use crate::translate::promises::{Contracts, Promise};
use crate::translate::settings::Addresses;
use crate::types::Base;

use super::compiled::{CompiledField, CompiledRule, IdSource, Operations, RulePlan, Scratch};

/// The configuration that compiling needs besides the rules and the table.
#[derive(Debug)]
pub struct Catalog<'a> {
    /// The CloudEvents source.
    pub source: &'a str,
    /// The columns that hold personal data.
    pub pii: &'a Pii,
    /// Whether the key of `hmac()` is configured.
    pub has_hmac_key: bool,
    /// Which changes have an automatic event besides those of rules.
    pub automatic: Automatic,
    /// Addresses of the schemas, by event type.
    pub schemas: &'a Addresses,
    /// The locked contracts.
    pub contracts: Option<&'a dyn Contracts>,
}

/// Compiles the rules of a table; `None` if it has none.
///
/// # Errors
/// All mistakes found.
pub fn compile(
    rules: &Rules,
    relation: &Relation,
    catalog: &Catalog<'_>,
) -> Result<Option<RulePlan>, RuleErrors> {
    if !has_rules(rules, relation) {
        return Ok(None);
    }
    let tagged = |column: &Column| catalog.pii.tags_column(relation, column);
    let scope = Scope::of_relation(relation, catalog.source, tagged);
    let mut compiler = Compiler { relation, catalog, scope, errors: Vec::new() };
    let (mut events, mut mapped) = (Vec::new(), Operations::default());
    for (nth, rule) in rules.events.iter().enumerate() {
        for (at, root) in rules.roots_of(rule) {
            let Origin::Table { from, on } = &root.origin else { continue };
            if from.schema != relation.schema || from.table != relation.table {
                continue;
            }
            for trigger in on {
                match trigger {
                    Trigger::Insert => mapped.insert = true,
                    Trigger::Update { .. } => mapped.update = true,
                    Trigger::Delete => mapped.delete = true,
                }
            }
            events.extend(compiler.event(nth, rule, at, root, on));
        }
    }
    if compiler.errors.is_empty() {
        let filtered = vec![0; events.len()];
        Ok(Some(RulePlan { events, mapped, scratch: Scratch::default(), wanted: Vec::new(), filtered }))
    } else {
        Err(RuleErrors(compiler.errors))
    }
}

struct Compiler<'a> {
    relation: &'a Relation,
    catalog: &'a Catalog<'a>,
    scope: Scope,
    errors: Vec<RuleError>,
}

/// A field's name, value, comment and text.
type Listed = (String, Expression, Option<String>, String);

/// The purpose of an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Decides whether an event is made. Its value is not published.
    Condition,
    /// Its value is published.
    Published,
}

impl Compiler<'_> {
    fn wrong(&mut self, rule: &Rule, place: FilePosition, wrong: impl Into<Wrong>) {
        let error = RuleError::new(Some(place), Some(rule.event_type.to_string()), wrong);
        // An error in a rule is found again in every rule that uses its event.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn event(
        &mut self,
        nth: usize,
        rule: &Rule,
        at: usize,
        root: &Rule,
        on: &[Trigger],
    ) -> Option<CompiledRule> {
        let before = self.errors.len();
        let mut fields = self.fields(rule, root);
        let mut when = Vec::new();
        when.extend(self.optional(root, root.when.as_ref(), Use::Condition));
        let made_from_event = !std::ptr::eq(rule, root);
        if made_from_event && let Some(text) = &rule.when {
            let scope = self.scope_of_event(root);
            let condition = Expression::parse_condition(&text.text, &scope);
            when.extend(self.checked(rule, text, condition));
        }
        let of = self.of(root, on);
        let key = self.key(root);
        let subject = self.optional(root, root.subject.as_ref(), Use::Published);
        let time = self.time(root);
        let id = self.id(root);
        let operations = Operations {
            insert: on.contains(&Trigger::Insert),
            update: on.iter().any(|trigger| matches!(trigger, Trigger::Update { .. })),
            delete: on.contains(&Trigger::Delete),
        };
        let mut needed: Vec<&Expression> = key.iter().chain(&subject).chain(&time).chain(&when).collect();
        if let IdSource::Given(given) = &id {
            needed.push(given);
        }
        self.old_rows(root, of.as_deref().unwrap_or_default(), &fields, operations, &needed);
        self.not_automatic(rule);
        let name = rule.event_type.to_string();
        let source = self.catalog.source;
        let schema = self.catalog.schemas.get(&name).map(String::as_str);
        let attributes = match &rule.deprecated {
            None => type_attributes(source, &name, schema),
            Some(Deprecated { since, sunset, .. }) => {
                deprecated_attributes(source, &name, schema, since, sunset.as_deref())
            }
        };
        let broken = self.promise(&name, &mut fields);
        let event = CompiledRule {
            name,
            rule: nth,
            root: at,
            broken,
            attributes,
            operations,
            of,
            when,
            key,
            subject,
            time,
            fields,
            id,
        };
        (self.errors.len() == before).then_some(event)
    }

    /// Sets the promises of the fields. Returns an error if the fields can never satisfy the contract.
    fn promise(&self, event_type: &str, fields: &mut Vec<CompiledField>) -> Option<Problem> {
        let contracts = self.catalog.contracts?;
        let known: Vec<_> = fields
            .iter()
            .map(|field| (field.name.as_str(), field.value.kind(), &field.value.data_type().base))
            .collect();
        match contracts.promises(event_type, &known) {
            Ok(promises) => {
                fields.iter_mut().zip(promises).for_each(|(field, promise)| field.promise = promise);
                fields.retain(|field| !field.promise.unknown);
                None
            }
            Err(why) => Some(why),
        }
    }

    /// The names that a rule with `from_event` may use: the fields of this event.
    fn scope_of_event(&mut self, root: &Rule) -> Scope {
        let fields = self.list(root, root.data.as_ref(), &self.scope.clone());
        let names = fields
            .into_iter()
            .map(|(name, value, ..)| Name { name, meaning: crate::expression::Meaning::Field(value) });
        let origin = self.scope.origin.clone();
        Scope { of: root.event_type.to_string(), names: names.collect(), origin }
    }

    fn fields(&mut self, rule: &Rule, root: &Rule) -> Vec<CompiledField> {
        let scope = if std::ptr::eq(rule, root) { self.scope.clone() } else { self.scope_of_event(root) };
        let list = self.list(rule, rule.data.as_ref(), &scope);
        let mut fields: Vec<CompiledField> = Vec::with_capacity(list.len());
        for (name, value, meaning, sql) in list {
            if fields.iter().any(|field| field.name == name) {
                let place = rule.data.as_ref().map_or_else(|| rule.place.clone(), |text| text.place.clone());
                self.wrong(
                    rule,
                    place,
                    (format!("duplicate field {name:?}"), "rename one of them with `as`"),
                );
            }
            let mut label = vec![b','];
            json::write_string(&mut label, &name);
            label.push(b':');
            fields.push(CompiledField { name, label, value, sql, meaning, promise: Promise::default() });
        }
        fields
    }

    /// The fields of a select list. Without a list, every column that may be published.
    fn list(&mut self, rule: &Rule, text: Option<&SourceText>, scope: &Scope) -> Vec<Listed> {
        let Some(text) = text else { return self.all(rule, scope) };
        let list = match Expression::parse_list(&text.text, scope) {
            Ok(list) => list,
            Err(mistakes) => {
                self.mistakes(rule, text, mistakes);
                return Vec::new();
            }
        };
        let mut fields = Vec::with_capacity(list.len());
        for field in list {
            self.may_leave(rule, text.place_of(field.place.start), &field.expression);
            let sql = text.text.get(field.place.start..field.place.end).unwrap_or_default().to_owned();
            fields.push((field.name, field.expression, field.comment, sql));
        }
        fields
    }

    fn all(&mut self, rule: &Rule, scope: &Scope) -> Vec<Listed> {
        let Relation { schema, table, .. } = self.relation;
        let has = |name: &str| self.relation.has_had(name);
        let gone = self.catalog.pii.not_there(schema, table, has).next();
        if let Some(column) = gone {
            // The column may have been renamed, and would be published under its new name.
            let message = format!(
                "a rule without data publishes every column, and {} no longer has the \
                 personal-data column {column}; if it was renamed, put the new name into pii.columns, \
                 otherwise remove the old one",
                self.relation.name()
            );
            self.wrong(rule, rule.place.clone(), message);
        }
        let mut fields = Vec::new();
        for name in &scope.names {
            let quoted = format!("\"{}\"", name.name.replace('"', "\"\""));
            match Expression::parse(&quoted, scope) {
                Ok(value) if value.tagged().is_none() => {
                    fields.push((name.name.clone(), value, None, quoted));
                }
                Ok(_) => {}
                Err(mistakes) => self.wrong(rule, rule.place.clone(), mistakes.to_string()),
            }
        }
        fields
    }

    /// The columns of `update of`; `None`: any update. A column that the table's description lacks counts as
    /// NULL before and after.
    fn of(&mut self, rule: &Rule, on: &[Trigger]) -> Option<Vec<(usize, bool)>> {
        let mut columns = Vec::new();
        let mut names = on
            .iter()
            .filter_map(|trigger| if let Trigger::Update { of } = trigger { Some(of) } else { None })
            .flatten()
            .peekable();
        names.peek()?;
        for name in names {
            let found = self.relation.columns.iter().enumerate().find(|(_, column)| column.name == *name);
            match found {
                Some((index, column)) => columns.push((index, column.in_identity)),
                None if self.is_absent(name) => {}
                None => {
                    let message = format!("update of {name}: {} has no such column", self.scope.of);
                    self.wrong(rule, rule.place.clone(), message);
                }
            }
        }
        Some(columns)
    }

    fn is_absent(&self, name: &str) -> bool {
        self.relation.absent.iter().any(|column| column.name == name)
    }

    fn key(&mut self, rule: &Rule) -> Vec<Expression> {
        if let Some(text) = &rule.key {
            return match Expression::parse_parts(&text.text, &self.scope) {
                Ok(list) => {
                    for field in &list {
                        self.may_leave(rule, text.place_of(field.place.start), &field.expression);
                    }
                    list.into_iter().map(|field| field.expression).collect()
                }
                Err(mistakes) => {
                    self.mistakes(rule, text, mistakes);
                    Vec::new()
                }
            };
        }
        let columns = self.primary_key();
        if columns.is_empty() {
            let message = format!("{} has no primary key", self.scope.of);
            self.wrong(rule, rule.place.clone(), (message, "add key = \"…\""));
        }
        let tagged = columns.iter().find_map(|(_, column)| column.tagged().map(str::to_owned));
        if let Some(column) = tagged {
            let message = format!("the key is {column}, which holds personal data");
            let hint = format!("write key = \"hmac({column})\"");
            self.wrong(rule, rule.place.clone(), (message, hint));
        }
        columns.into_iter().map(|(_, column)| column).collect()
    }

    /// The key's columns: those of the replica identity. `FULL` names no key, so the primary key is used.
    fn primary_key(&self) -> Vec<(String, Expression)> {
        let named = self.relation.key().into_iter().filter_map(|at| self.relation.columns.get(at));
        named
            .filter_map(|column| {
                let quoted = format!("\"{}\"", column.name.replace('"', "\"\""));
                Some((column.name.clone(), Expression::parse(&quoted, &self.scope).ok()?))
            })
            .collect()
    }

    fn time(&mut self, rule: &Rule) -> Option<Expression> {
        let time = self.optional(rule, rule.time.as_ref(), Use::Published)?;
        if !matches!(time.data_type().base, Base::TimestampTz) {
            let place = rule.time.as_ref().map_or_else(|| rule.place.clone(), |text| text.place.clone());
            let message =
                format!("time has type {}; it must be a timestamp with time zone", time.data_type());
            self.wrong(rule, place, (message, "for a timestamp in UTC, append `at time zone 'UTC'`"));
        }
        Some(time)
    }

    fn id(&mut self, rule: &Rule) -> IdSource {
        match &rule.id {
            IdRule::Change => IdSource::Change,
            IdRule::Given(text) => {
                self.optional(rule, Some(text), Use::Published).map_or(IdSource::Change, IdSource::Given)
            }
            IdRule::Key => {
                let columns = self.primary_key();
                if columns.is_empty() {
                    let message = format!("id = \"key\" needs a primary key, but {} has none", self.scope.of);
                    self.wrong(rule, rule.place.clone(), message);
                }
                // The id would be a hash without a secret, so a guessed key could be verified.
                if let Some(column) = columns.iter().find_map(|(_, column)| column.tagged()) {
                    let message = format!("the id is made from {column}, which holds personal data");
                    let hint = format!("write id = \"hmac({column})\"");
                    self.wrong(rule, rule.place.clone(), (message, hint));
                }
                let labelled = columns.into_iter().map(|(name, value)| {
                    let mut label = Vec::new();
                    json::write_string(&mut label, &name);
                    label.push(b':');
                    (label, value)
                });
                IdSource::Key { table: self.scope.of.clone(), columns: labelled.collect() }
            }
        }
    }

    fn optional(&mut self, rule: &Rule, text: Option<&SourceText>, purpose: Use) -> Option<Expression> {
        let text = text?;
        let parsed = match purpose {
            Use::Condition => Expression::parse_condition(&text.text, &self.scope),
            Use::Published => Expression::parse(&text.text, &self.scope),
        };
        let expression = self.checked(rule, text, parsed)?;
        if purpose == Use::Published {
            self.may_leave(rule, text.place.clone(), &expression);
        }
        Some(expression)
    }

    fn checked(
        &mut self,
        rule: &Rule,
        text: &SourceText,
        parsed: Result<Expression, Mistakes>,
    ) -> Option<Expression> {
        match parsed {
            Ok(expression) => {
                if expression.uses_hmac() && !self.catalog.has_hmac_key {
                    let message = ("hmac() has no key", "set FOREBAY_PII__HMAC_KEY or pii.hmac_key_file");
                    self.wrong(rule, text.place.clone(), message);
                }
                Some(expression)
            }
            Err(mistakes) => {
                self.mistakes(rule, text, mistakes);
                None
            }
        }
    }

    fn may_leave(&mut self, rule: &Rule, place: FilePosition, expression: &Expression) {
        if expression.uses_hmac() && !self.catalog.has_hmac_key {
            let message = ("hmac() has no key", "set FOREBAY_PII__HMAC_KEY or pii.hmac_key_file");
            self.wrong(rule, place.clone(), message);
        }
        if let Some(column) = expression.tagged() {
            let message = format!("this reveals {column}, which holds personal data");
            self.wrong(rule, place, (message, format!("publish hmac({column}) instead")));
        }
    }

    fn mistakes(&mut self, rule: &Rule, text: &SourceText, mistakes: Mistakes) {
        for mistake in mistakes.0 {
            let wrong = Wrong { message: mistake.message, hint: mistake.hint };
            self.wrong(rule, text.place_of(mistake.place.start), wrong);
        }
    }

    /// Rejects an event type that the table's automatic events have too, because their ids would be equal.
    fn not_automatic(&mut self, rule: &Rule) {
        let automatic = rule.event_type.major() == 1
            && rule
                .event_type
                .stem()
                .strip_prefix(&self.scope.of)
                .is_some_and(|rest| matches!(rest, ".inserted" | ".updated" | ".deleted" | ".truncated"));
        if automatic && self.catalog.automatic == Automatic::Also {
            let message = "the automatic event has the same type, and events.automatic is \"also\"";
            self.wrong(rule, rule.place.clone(), (message, "choose another type"));
        }
    }

    /// Rejects rules that need old values which the replica identity does not provide. A field may be missing
    /// in a delete event. A key or condition may not, because the event would never be created.
    fn old_rows(
        &mut self,
        rule: &Rule,
        of: &[(usize, bool)],
        fields: &[CompiledField],
        operations: Operations,
        needed: &[&Expression],
    ) {
        if self.relation.identity == ReplicaIdentity::Full {
            return;
        }
        let gives = |name: &str| {
            let given = |column: &Column| column.name == name && column.in_identity;
            self.is_absent(name) || self.relation.columns.iter().any(given)
        };
        let all = fields.iter().map(|field| &field.value).chain(needed.iter().copied());
        let read = all.flat_map(Expression::reads_old);
        let in_deletes =
            needed.iter().filter(|_| operations.delete).flat_map(|needed| needed.reads_old_in_delete());
        let mut missing: Vec<String> = read.chain(in_deletes).filter(|name| !gives(name)).cloned().collect();
        let not_given = of.iter().filter(|(_, in_identity)| !in_identity);
        missing.extend(not_given.filter_map(|(at, _)| Some(self.relation.columns.get(*at)?.name.clone())));
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let (of, columns) = (&self.scope.of, missing.join(", "));
            let message = format!(
                "needs the old value of {columns}, which the replica identity of {of} does not provide"
            );
            let hint = format!("run\n    ALTER TABLE {} REPLICA IDENTITY FULL;", quoted_table(self.relation));
            self.wrong(rule, rule.place.clone(), (message, hint));
        }
    }
}

fn quoted_table(relation: &Relation) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quote(&relation.schema), quote(&relation.table))
}

/// Whether a rule reads this table.
pub fn has_rules(rules: &Rules, relation: &Relation) -> bool {
    rules.events.iter().any(|rule| match &rule.origin {
        Origin::Table { from, .. } => from.schema == relation.schema && from.table == relation.table,
        Origin::Event(_) => false,
    })
}

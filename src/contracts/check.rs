//! Compares what is published with what was locked: inside a major version, fields may only be added.
//!
//! A promise may become stronger without a new version (a field that is no longer null, or always present), because
//! all events are still valid. Labels of an enum may be added. Everything else is a difference.

mod compare;
mod given;
mod skeleton;
mod twins;

use std::fmt;

use serde_json::Value;

use crate::rules::{FilePosition, RuleError};

use super::document::document;
use super::lock::{Lock, Locked, Maker};
use super::model::{EventModel, Model};

use self::compare::Comparison;

pub(super) use self::compare::{is_of_form, properties, required};
pub(super) use self::given::next as next_of_given;

/// One finding of the check.
#[derive(Clone, Debug)]
pub struct ContractFinding {
    /// The event type.
    pub event_type: String,
    /// Position of its rule.
    pub place: Option<FilePosition>,
    /// The finding.
    pub what: FindingKind,
}

/// The kinds of findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The type is not locked.
    NotLocked,
    /// New fields, which the next minor version will have.
    Added(Vec<String>),
    /// The event differs from its locked contract.
    Broken {
        /// Each difference, as a sentence.
        differences: Vec<String>,
        /// The advice, with rules to paste.
        advice: String,
    },
    /// The type is locked, but nothing makes it.
    Gone {
        /// Its former origin.
        maker: Maker,
        /// Its directory and files: `lab.plate_completed/1.*.json`.
        files: String,
    },
    /// Fields that are not locked yet have names that differ only by case.
    CaseOnly {
        /// Each pair, as `"Name" and "name"`.
        names: Vec<String>,
        /// Where to give them other names.
        maker: Maker,
    },
    /// The sunset has passed. A warning.
    Sunset(String),
}

impl ContractFinding {
    /// Whether it is only a warning.
    pub const fn is_warning(&self) -> bool {
        matches!(self.what, FindingKind::Sunset(_))
    }

    /// Whether `forebay events lock` fixes it.
    pub const fn is_for_lock(&self) -> bool {
        matches!(self.what, FindingKind::NotLocked | FindingKind::Added(_))
    }
}

impl fmt::Display for ContractFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match &self.what {
            FindingKind::NotLocked => {
                "is not locked; run `forebay events lock` and commit its output".to_owned()
            }
            FindingKind::Added(fields) => {
                let fields = fields.join(", ");
                format!("has new fields ({fields}); run `forebay events lock` and commit its output")
            }
            FindingKind::Broken { differences, .. } => {
                let list = differences.iter().map(|difference| format!("\n  - {difference}"));
                format!("differs from the locked contract:{}", list.collect::<String>())
            }
            FindingKind::Gone { maker: Maker::Application, files } => format!(
                "is locked, but no outbox has a schema for it; restore the schema, or, if the application \
                 no longer publishes it, delete {files} from the locked contracts in the same commit"
            ),
            FindingKind::Gone { maker: Maker::Rule, files } => format!(
                "is locked, but no rule makes it; restore the rule, or, if no consumer is left, delete \
                 {files} from the locked contracts in the same commit"
            ),
            FindingKind::Gone { maker: Maker::Table, files } => format!(
                "is locked, but the automatic event is no longer published: its table left the \
                 publication, or a rule replaces it. Write a rule of this type, or, if no consumer is \
                 left, delete {files} from the locked contracts"
            ),
            FindingKind::CaseOnly { names, maker } => {
                let advice = match maker {
                    Maker::Application => "give one of them another name in the application and its schema",
                    Maker::Rule => "give one of them another name in the rule",
                    Maker::Table => "write a rule that gives one of them another name",
                };
                format!(
                    "has fields whose names differ only by case ({}): DuckDB, Spark and Athena cannot tell \
                     them apart; {advice}",
                    names.join("; ")
                )
            }
            FindingKind::Sunset(day) => format!(
                "its sunset was {day}; once all consumers have moved, remove the rule, and its files from \
                 the locked contracts"
            ),
        };
        let event = Some(self.event_type.clone());
        write!(f, "{}", RuleError::new(self.place.clone(), event, message))?;
        match &self.what {
            FindingKind::Broken { advice, .. } => write!(f, "\n{advice}"),
            _ => Ok(()),
        }
    }
}

/// All findings, errors first. Automatic events that were never locked are ignored. `today` is `YYYY-MM-DD`.
pub fn check(model: &Model, lock: &Lock, today: &str) -> Vec<ContractFinding> {
    let mut findings = Vec::new();
    for event in &model.events {
        let what = match lock.of(&event.event_type) {
            None if event.automatic => None,
            None => Some(FindingKind::NotLocked),
            Some(locked) => of_locked(model, event, locked, today),
        };
        findings.extend(what.map(|what| finding(event, what)));
    }
    for locked in &lock.locked {
        if model.event(&locked.event_type).is_none() {
            let file = super::lock::path(&locked.stem, locked.major, 0).display().to_string();
            findings.push(ContractFinding {
                event_type: locked.event_type.clone(),
                place: None,
                what: FindingKind::Gone { maker: locked.maker(), files: file.replace(".0.json", ".*.json") },
            });
        }
    }
    findings.extend(case_only(&to_lock(model, lock, false), lock));
    for event in &model.events {
        let sunset = event.deprecated.as_ref().and_then(|deprecated| deprecated.sunset.clone());
        if let Some(day) = sunset.filter(|day| day.as_str() < today) {
            findings.push(finding(event, FindingKind::Sunset(day)));
        }
    }
    findings
}

fn finding(event: &EventModel, what: FindingKind) -> ContractFinding {
    ContractFinding { event_type: event.event_type.clone(), place: event.place.clone(), what }
}

fn of_locked(model: &Model, event: &EventModel, locked: &Locked, today: &str) -> Option<FindingKind> {
    let Comparison { differences, added, .. } = compared(event, locked.newest());
    if !differences.is_empty() {
        let advice = skeleton::advice(model, event, locked, today);
        return Some(FindingKind::Broken { differences, advice });
    }
    (!added.is_empty()).then_some(FindingKind::Added(added))
}

fn compared(event: &EventModel, locked: &Value) -> Comparison {
    let Some(payload) = &event.payload else { return compare::compare(event, locked) };
    let mut compared = given::compare(locked, &payload.schema);
    compared.differences.extend(compare::of_order(event, locked));
    compared
}

/// The schemas to write so that everything is locked: type, minor version, text. `automatic`: include automatic
/// events.
pub fn to_lock<'a>(model: &'a Model, lock: &Lock, automatic: bool) -> Vec<(&'a EventModel, u32, Value)> {
    let mut schemas = Vec::new();
    for event in &model.events {
        match lock.of(&event.event_type) {
            None if event.automatic && !automatic => {}
            None => schemas.push((event, 0, document(model, event, 0, None))),
            Some(locked) => {
                let compared = compared(event, locked.newest());
                if compared.differences.is_empty() && !compared.added.is_empty() {
                    let minor = locked.minor() + 1;
                    let mut next = document(model, event, minor, Some(&compared.required));
                    if event.payload.is_some() {
                        next = given::next(locked.newest(), &next);
                    } else {
                        compare::keep_promises(&mut next, locked.newest());
                    }
                    schemas.push((event, minor, next));
                }
            }
        }
    }
    schemas
}

/// What must not be locked: names that differ only by case, unless the contract has both of them already.
pub fn case_only(schemas: &[(&EventModel, u32, Value)], lock: &Lock) -> Vec<ContractFinding> {
    let find = |(event, _, schema): &(&EventModel, u32, Value)| {
        let names = twins::of_schema(schema, lock.of(&event.event_type).map(Locked::newest));
        let maker = match (&event.payload, event.automatic) {
            (Some(_), _) => Maker::Application,
            (None, true) => Maker::Table,
            (None, false) => Maker::Rule,
        };
        (!names.is_empty()).then(|| finding(event, FindingKind::CaseOnly { names, maker }))
    };
    schemas.iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests;

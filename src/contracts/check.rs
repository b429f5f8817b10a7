//! Compares what is published with what was locked: inside a major version, fields may only be added.
//!
//! A promise may become stronger without a new version (a field that is no longer null, or always present),
//! because all events are still valid. Labels of an enum may be added. Everything else is a difference.

mod compare;
mod given;
mod nested;
mod skeleton;
mod twins;

use std::fmt;

use serde_json::Value;

use crate::rules::{FilePosition, RuleError, Wrong};

use super::document::document;
use super::lock::{Lock, Locked, Maker};
use super::meaning::compare as meaning;
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
    /// The event has the locked form and a different meaning.
    Meaning {
        /// Each difference, as a sentence.
        differences: Vec<String>,
    },
    /// Files of the contract are missing or were changed by hand.
    Tampered(Vec<String>),
    /// An older version of Forebay locked it without its meaning. A warning.
    NoMeaning,
    /// The type that consumers should use instead is not published.
    NoReplacement(String),
    /// The event differs from its locked contract.
    Broken {
        /// Each difference, as a sentence.
        differences: Vec<String>,
        /// The advice, with rules to paste.
        advice: String,
    },
    /// The type is locked, but no rule, table or outbox makes it.
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
        matches!(self.what, FindingKind::Sunset(_) | FindingKind::NoMeaning)
    }

    /// Whether `forebay events lock --accept` acknowledges it.
    pub const fn is_for_accept(&self) -> bool {
        matches!(self.what, FindingKind::Meaning { .. })
    }

    /// Whether `forebay events lock` fixes it.
    pub const fn is_for_lock(&self) -> bool {
        matches!(self.what, FindingKind::NotLocked | FindingKind::Added(_))
    }

    /// The fact and the hint.
    fn wrong(&self) -> Wrong {
        match &self.what {
            FindingKind::NotLocked => ("is not locked", LOCK).into(),
            FindingKind::Added(fields) => (format!("has new fields ({})", fields.join(", ")), LOCK).into(),
            FindingKind::Broken { differences, .. } => {
                format!("differs from the locked contract:{}", list(differences)).into()
            }
            FindingKind::Meaning { differences } => {
                format!("has the locked form, but no longer the locked meaning:{}", list(differences)).into()
            }
            FindingKind::Tampered(files) => (
                format!("its contract was changed by hand:{}", list(files)),
                "Restore the files from version control.",
            )
                .into(),
            FindingKind::NoMeaning => (
                "an older version locked it without its meaning, so changes of its origin, condition or expressions are not \
                 noticed",
                LOCK,
            )
                .into(),
            FindingKind::NoReplacement(name) => (
                format!("deprecated.use is {name}, which is neither published nor locked"),
                "Name the type that consumers should use, or leave `use` out.",
            )
                .into(),
            FindingKind::Gone { maker: Maker::Application, files } => (
                "is locked, but no outbox has a schema for it",
                format!(
                    "Restore the schema. If the application no longer publishes it, delete {files} from the locked contracts in the \
                     same commit."
                ),
            )
                .into(),
            FindingKind::Gone { maker: Maker::Rule, files } => (
                "is locked, but no rule makes it",
                format!(
                    "Restore the rule. If no consumer is left, delete {files} from the locked contracts in the same commit."
                ),
            )
                .into(),
            FindingKind::Gone { maker: Maker::Table, files } => (
                "is locked, but the automatic event is no longer published: its table left the publication, or a rule replaces it",
                format!(
                    "Write a rule of this type. If no consumer is left, delete {files} from the locked contracts."
                ),
            )
                .into(),
            FindingKind::CaseOnly { names, maker } => {
                let hint = match maker {
                    Maker::Application => "Give one of them another name in the application and its schema.",
                    Maker::Rule => "Give one of them another name in the rule.",
                    Maker::Table => "Write a rule that gives one of them another name.",
                };
                let message = format!(
                    "has fields whose names differ only by case ({}): DuckDB, Spark and Athena cannot tell them apart",
                    names.join("; ")
                );
                (message, hint).into()
            }
            FindingKind::Sunset(day) => (
                format!("its sunset was {day}"),
                "Once all consumers have moved, remove the rule, and its files from the locked contracts.",
            )
                .into(),
        }
    }
}

impl fmt::Display for ContractFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = Some(self.event_type.clone());
        write!(f, "{}", RuleError::new(self.place.clone(), event, self.wrong()))?;
        match &self.what {
            FindingKind::Broken { advice, .. } => write!(f, "\n{advice}"),
            FindingKind::Meaning { .. } => write!(f, "\n{ACCEPT}"),
            _ => Ok(()),
        }
    }
}

/// The hint for a new event or field.
const LOCK: &str = "Run `forebay events lock` and commit its output.";
/// The hint for a different meaning.
const ACCEPT: &str = "Consumers cannot see the difference in the form. Restore the rule, and publish what is new \
                      as another type or major version. If they may take it for the same event, run\n    \
                      forebay events lock --accept \"why they may\"\nand commit its output: the next minor \
                      version begins with it.\n";

fn list(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "\n  - " + line)
}

/// All findings, errors first. Automatic events that were never locked are ignored. `today` is `YYYY-MM-DD`.
pub fn check(model: &Model, lock: &Lock, today: &str) -> Vec<ContractFinding> {
    let mut findings = Vec::new();
    for event in &model.events {
        let what = match lock.of(&event.event_type) {
            None if event.automatic => Vec::new(),
            None => vec![FindingKind::NotLocked],
            Some(locked) => of_locked(model, event, locked, today),
        };
        findings.extend(what.into_iter().map(|what| finding(event, what)));
        findings.extend(replacement(model, lock, event).map(|what| finding(event, what)));
    }
    findings.extend(tampered(lock));
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
    findings.extend(case_only(&to_lock(model, lock, false, false), lock));
    for event in &model.events {
        let sunset = event.deprecated.as_ref().and_then(|deprecated| deprecated.sunset.clone());
        if let Some(day) = sunset.filter(|day| day.as_str() < today) {
            findings.push(finding(event, FindingKind::Sunset(day)));
        }
        if lock.of(&event.event_type).is_some_and(|locked| locked.meaning.is_none()) && !lock.has_meanings() {
            findings.push(finding(event, FindingKind::NoMeaning));
        }
    }
    findings
}

/// The replacement of a deprecated type, if nothing makes events of that type.
fn replacement(model: &Model, lock: &Lock, event: &EventModel) -> Option<FindingKind> {
    let name = event.deprecated.as_ref()?.instead.as_ref()?;
    // An outbox can publish types that have no schema.
    let known = model.event(name).is_some() || lock.of(name).is_some() || !model.rules.outboxes.is_empty();
    (!known).then(|| FindingKind::NoReplacement(name.clone()))
}

/// Contracts whose files differ from what `forebay events lock` wrote.
fn tampered(lock: &Lock) -> Vec<ContractFinding> {
    let of = |locked: &Locked| {
        let files = locked.tampered(lock.has_meanings());
        (!files.is_empty()).then(|| ContractFinding {
            event_type: locked.event_type.clone(),
            place: None,
            what: FindingKind::Tampered(files),
        })
    };
    lock.locked.iter().filter_map(of).collect()
}

fn finding(event: &EventModel, what: FindingKind) -> ContractFinding {
    ContractFinding { event_type: event.event_type.clone(), place: event.place.clone(), what }
}

fn of_locked(model: &Model, event: &EventModel, locked: &Locked, today: &str) -> Vec<FindingKind> {
    let Comparison { differences, added, changed, .. } = compared(event, locked);
    if !differences.is_empty() {
        let advice = skeleton::advice(model, event, locked, today);
        return vec![FindingKind::Broken { differences, advice }];
    }
    let changed = (!changed.is_empty()).then_some(FindingKind::Meaning { differences: changed });
    changed.into_iter().chain((!added.is_empty()).then_some(FindingKind::Added(added))).collect()
}

/// Compares an event with the newest version of its contract, and with its meaning where that was locked.
fn compared(event: &EventModel, locked: &Locked) -> Comparison {
    let schema = locked.newest();
    let (mut compared, fields) = match &event.payload {
        None => compare::compare(event, schema),
        Some(payload) => (given::compare(schema, &payload.schema), Vec::new()),
    };
    if locked.meaning.is_none() || event.payload.is_some() {
        compared.differences.extend(compare::of_order(event, schema));
    }
    if let Some(meaning) = &locked.meaning {
        let same_parser = meaning.is_of_this_parser();
        let found = meaning::compare(&meaning.sources, &event.sources(), same_parser, &fields);
        compared.changed = found.changed;
        compared.retyped = found.retyped;
        for (list, more) in [(&mut compared.differences, found.broken), (&mut compared.added, found.added)] {
            let new: Vec<String> = more.into_iter().filter(|one| !list.contains(one)).collect();
            list.extend(new);
        }
    }
    compared
}

/// The schemas to write so that everything is locked: type, minor version, text. `automatic`: include
/// automatic events. `accepted`: include events whose meaning changed.
pub fn to_lock<'a>(
    model: &'a Model,
    lock: &Lock,
    automatic: bool,
    accepted: bool,
) -> Vec<(&'a EventModel, u32, Value)> {
    let mut schemas = Vec::new();
    for event in &model.events {
        match lock.of(&event.event_type) {
            None if event.automatic && !automatic => {}
            None => schemas.push((event, 0, document(model, event, 0, None))),
            Some(locked) => {
                let compared = compared(event, locked);
                let another = accepted && !compared.changed.is_empty();
                if compared.differences.is_empty() && (!compared.added.is_empty() || another) {
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

/// The differences between the present and the locked meaning of an event, as sentences.
pub(super) fn changes(event: &EventModel, locked: &Locked) -> Vec<String> {
    compared(event, locked).changed
}

/// Findings that forbid locking: names that differ only by case, unless the contract already has both.
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
mod files_tests;
#[cfg(test)]
mod tests;

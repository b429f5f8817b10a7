//! What is published against what was locked: inside a major version, fields may only be added.
//!
//! A promise may become stronger without a new version (a field that is never null any more, or always there): whatever is then
//! published still is what was locked. Labels of an enum may be added. Everything else is a difference.

mod compare;
mod given;
mod skeleton;

use std::fmt;

use serde_json::Value;

use crate::rules::{Place, RuleError};

use super::document::document;
use super::lock::{Lock, Locked, Maker};
use super::model::{Event, Model};

use self::compare::Comparison;

pub(super) use self::compare::{is_of_form, properties, required};
pub(super) use self::given::next as next_of_given;

/// One thing to say.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which event.
    pub event_type: String,
    /// Where its rule stands.
    pub place: Option<Place>,
    /// What it is.
    pub what: What,
}

/// What a finding is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The type was never locked.
    NotLocked,
    /// These fields came; the next minor version has them.
    Added(Vec<String>),
    /// It is not what was locked.
    Broken {
        /// Each difference, as a sentence.
        differences: Vec<String>,
        /// What to do, with rules to paste.
        advice: String,
    },
    /// It was locked, and nothing makes it any more.
    Gone {
        /// Who made it.
        maker: Maker,
        /// Its folder and files: `lab.plate_completed/1.*.json`.
        files: String,
    },
    /// The day after which it may be gone has passed; a warning.
    Sunset(String),
}

impl Finding {
    /// Whether it is only a warning.
    pub const fn is_warning(&self) -> bool {
        matches!(self.what, What::Sunset(_))
    }

    /// Whether `forebay events lock` puts it right.
    pub const fn is_for_lock(&self) -> bool {
        matches!(self.what, What::NotLocked | What::Added(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match &self.what {
            What::NotLocked => {
                "is not locked yet: run `forebay events lock` and commit what it writes".to_owned()
            }
            What::Added(fields) => {
                let fields = fields.join(", ");
                format!("has new fields ({fields}): run `forebay events lock` and commit what it writes")
            }
            What::Broken { differences, .. } => {
                let list = differences.iter().map(|difference| format!("\n  - {difference}"));
                format!("is not what was locked:{}", list.collect::<String>())
            }
            What::Gone { maker: Maker::Application, files } => format!(
                "is locked, but no outbox has a schema for it: put its schema back; or, if the application does not make it any \
                 more, delete {files} from the locked contracts in the same commit"
            ),
            What::Gone { maker: Maker::Rule, files } => format!(
                "is locked, but no rule makes it: put its rule back; or, if it has no readers left, delete {files} from the \
                 locked contracts in the same commit"
            ),
            What::Gone { maker: Maker::Table, files } => format!(
                "is locked, but this automatic event is not published any more: its table has left the publication or a \
                 rule is in its place. Write a rule of this type; or, if it has no readers left, delete {files} from the \
                 locked contracts"
            ),
            What::Sunset(day) => format!(
                "its sunset was on {day}: once its readers have moved, remove the rule, and its files from the locked \
                 contracts"
            ),
        };
        let event = Some(self.event_type.clone());
        write!(f, "{}", RuleError { place: self.place.clone(), event, message })?;
        match &self.what {
            What::Broken { advice, .. } => write!(f, "\n{advice}"),
            _ => Ok(()),
        }
    }
}

/// Everything to say, errors first. Automatic events that were never locked are nobody's contract. `today` is `YYYY-MM-DD`.
pub fn check(model: &Model, lock: &Lock, today: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for event in &model.events {
        let what = match lock.of(&event.event_type) {
            None if event.automatic => None,
            None => Some(What::NotLocked),
            Some(locked) => of_locked(model, event, locked, today),
        };
        findings.extend(what.map(|what| finding(event, what)));
    }
    for locked in &lock.locked {
        if model.event(&locked.event_type).is_none() {
            let file = super::lock::path(&locked.stem, locked.major, 0).display().to_string();
            findings.push(Finding {
                event_type: locked.event_type.clone(),
                place: None,
                what: What::Gone { maker: locked.maker(), files: file.replace(".0.json", ".*.json") },
            });
        }
    }
    for event in &model.events {
        let sunset = event.deprecated.as_ref().and_then(|deprecated| deprecated.sunset.clone());
        if let Some(day) = sunset.filter(|day| day.as_str() < today) {
            findings.push(finding(event, What::Sunset(day)));
        }
    }
    findings
}

fn finding(event: &Event, what: What) -> Finding {
    Finding { event_type: event.event_type.clone(), place: event.place.clone(), what }
}

fn of_locked(model: &Model, event: &Event, locked: &Locked, today: &str) -> Option<What> {
    let Comparison { differences, added, .. } = compared(event, locked.newest());
    if !differences.is_empty() {
        let advice = skeleton::advice(model, event, locked, today);
        return Some(What::Broken { differences, advice });
    }
    (!added.is_empty()).then_some(What::Added(added))
}

fn compared(event: &Event, locked: &Value) -> Comparison {
    let Some(payload) = &event.payload else { return compare::compare(event, locked) };
    let mut compared = given::compare(locked, &payload.schema);
    compared.differences.extend(compare::of_order(event, locked));
    compared
}

/// The schemas to write so that everything is locked: type, minor version, text. `automatic`: those of automatic events too.
pub fn to_lock<'a>(model: &'a Model, lock: &Lock, automatic: bool) -> Vec<(&'a Event, u32, Value)> {
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

#[cfg(test)]
mod tests;

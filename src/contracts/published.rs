//! Compares the contracts with those of another commit: what is published there must still hold.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lock::{Lock, Locked, meaning_path, path};
use super::meaning::compare::compare;
use super::meaning::file::LockedMeaning;

/// The contracts of another commit, by event type.
#[derive(Debug, Default)]
pub struct Published {
    types: BTreeMap<String, PublishedType>,
}

#[derive(Debug, Default)]
struct PublishedType {
    stem: String,
    major: u32,
    schemas: BTreeMap<u32, Value>,
    meaning: Option<LockedMeaning>,
}

impl Published {
    /// Reads the files of `events.lock/`, given as relative paths and contents. Other files are ignored.
    ///
    /// # Errors
    /// A contract cannot be read.
    pub fn read(files: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        let mut found = Self::default();
        for (path, content) in files {
            let Some((_, name)) = path.split_once('/') else { continue };
            let Some((major, rest)) = name.strip_suffix(".json").and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(major) = major.parse::<u32>() else { continue };
            let invalid = |error: String| format!("{path} is not a valid contract there: {error}");
            if rest == "meaning" {
                let meaning = LockedMeaning::parse(&content).map_err(invalid)?;
                let of = found.of(&meaning.event, major);
                of.meaning = Some(meaning);
            } else if let Ok(minor) = rest.parse::<u32>() {
                let schema: Value =
                    serde_json::from_slice(&content).map_err(|error| invalid(error.to_string()))?;
                let event = schema.get("x-event").and_then(Value::as_str).unwrap_or_default().to_owned();
                found.of(&event, major).schemas.insert(minor, schema);
            }
        }
        Ok(found)
    }

    fn of(&mut self, event: &str, major: u32) -> &mut PublishedType {
        let of = self.types.entry(event.to_owned()).or_default();
        event.strip_suffix(&format!(".v{major}")).unwrap_or(event).clone_into(&mut of.stem);
        of.major = major;
        of
    }

    /// Compares the contracts of the other commit with the present ones. Returns the retired types, and the
    /// violations as sentences. `publishes`: whether an event type is still published.
    pub fn compare(&self, lock: &Lock, publishes: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut retired, mut wrong) = (Vec::new(), Vec::new());
        for (event, before) in &self.types {
            match lock.of(event) {
                None if !publishes(event) => retired.push(event.clone()),
                None => wrong.push(format!("{event}: its files were deleted, and it is still published")),
                Some(locked) => {
                    wrong.extend(before.compare(locked).into_iter().map(|what| format!("{event}: {what}")));
                }
            }
        }
        (retired, wrong)
    }
}

impl PublishedType {
    fn compare(&self, locked: &Locked) -> Vec<String> {
        let mut wrong = Vec::new();
        for (minor, schema) in &self.schemas {
            let file = path(&self.stem, self.major, *minor);
            match locked.versions.iter().find(|(known, _)| known == minor) {
                None => wrong.push(format!("{} was deleted", file.display())),
                Some((_, now)) if now != schema => wrong.push(format!("{} was changed", file.display())),
                Some(_) => {}
            }
        }
        let Some(before) = &self.meaning else { return wrong };
        let file = meaning_path(&self.stem, self.major);
        let Some(now) = &locked.meaning else {
            wrong.push(format!("{} was deleted", file.display()));
            return wrong;
        };
        if !now.accepted.starts_with(&before.accepted) {
            wrong.push(format!("{} lacks a change that was accepted", file.display()));
        }
        let same_parser = before.is_of_this_parser() && now.is_of_this_parser();
        let found = compare(&before.sources, &now.sources, same_parser, &[]);
        let since = now.accepted.get(before.accepted.len()..).unwrap_or_default();
        let accepted_already =
            |change: &String| since.iter().any(|accepted| accepted.changes.contains(change));
        // Several accepted changes of the same property are listed one after the other.
        let changed = found
            .changed
            .into_iter()
            .filter(|change| since.is_empty() || (since.len() == 1 && !accepted_already(change)));
        wrong.extend(found.broken.into_iter().chain(changed));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contracts::meaning::MeaningSource;
    use crate::contracts::meaning::file::Acceptance;

    const EVENT: &str = "lab.plate_filled.v1";

    fn schema(minor: u32) -> Value {
        json!({"x-event": EVENT, "x-version": format!("1.{minor}")})
    }

    fn meaning(from: &str, accepted: &[&str]) -> LockedMeaning {
        let acceptance = |change: &&str| Acceptance {
            version: "1.0".into(),
            on: "2026-11-30".into(),
            reason: "why".into(),
            changes: vec![(*change).to_owned()],
        };
        let source = MeaningSource { from: from.into(), ..MeaningSource::default() };
        let schema = schema(0);
        let accepted = accepted.iter().map(acceptance).collect();
        LockedMeaning::new(EVENT, [("1.0".to_owned(), &schema)].into_iter(), vec![source], accepted)
    }

    fn locked(versions: Vec<(u32, Value)>, meaning: Option<LockedMeaning>) -> Lock {
        let stem = "lab.plate_filled".to_owned();
        Lock { locked: vec![Locked { event_type: EVENT.into(), stem, major: 1, versions, meaning }] }
    }

    fn published() -> Published {
        let file = |name: &str, text: String| (format!("lab.plate_filled/{name}"), text.into_bytes());
        Published::read(vec![
            ("tables.json".to_owned(), Vec::new()),
            file("1.0.json", schema(0).to_string()),
            file("1.meaning.json", meaning("lab.plates", &[]).text().unwrap()),
        ])
        .unwrap()
    }

    #[test]
    fn published_contract_must_be_there_unchanged() {
        const MOVED: &str = "it came from lab.plates, and now comes from lab.other";
        let same = Some(meaning("lab.plates", &[]));
        let edited = json!({"x-event": EVENT, "x-version": "1.0", "title": "new"});
        for (versions, meaning, wrong) in [
            (vec![(0, schema(0))], same.clone(), &[][..]),
            (vec![(0, schema(0)), (1, schema(1))], same.clone(), &[]),
            (vec![(0, edited)], same.clone(), &["lab.plate_filled/1.0.json was changed"]),
            (vec![(1, schema(1))], same, &["lab.plate_filled/1.0.json was deleted"]),
            (vec![(0, schema(0))], None, &["lab.plate_filled/1.meaning.json was deleted"]),
            (vec![(0, schema(0))], Some(meaning("lab.other", &[])), &[MOVED]),
            (vec![(0, schema(0))], Some(meaning("lab.other", &[MOVED])), &[]),
            (vec![(0, schema(0))], Some(meaning("lab.other", &["something"])), &[MOVED]),
        ] {
            let (retired, found) = published().compare(&locked(versions, meaning), |_| true);
            let expected: Vec<String> = wrong.iter().map(|what| format!("{EVENT}: {what}")).collect();
            assert_eq!((retired, found), (Vec::new(), expected));
        }
    }

    #[test]
    fn contract_of_a_retired_type_may_be_deleted() {
        let (retired, wrong) = published().compare(&Lock::default(), |_| false);
        assert_eq!((retired, wrong), (vec![EVENT.to_owned()], Vec::new()));
        let (retired, wrong) = published().compare(&Lock::default(), |_| true);
        assert!(retired.is_empty() && wrong.len() == 1, "{wrong:?}");
    }
}

//! Compares the meaning of an event with the locked one.
//!
//! A difference that consumers can see in the form of every event (another printed key, other types inside a
//! field) is a difference of form. Others are differences of meaning, which `events lock --accept` can
//! acknowledge.

use super::form::{FormDifferences, family};
use super::{MeaningSource, MeaningTerm, ReadForm, TypeForm};

/// The result of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MeaningDifferences {
    /// Differences of form, as sentences.
    pub broken: Vec<String>,
    /// Differences of meaning, as sentences.
    pub changed: Vec<String>,
    /// Paths of attributes that were added to composite types.
    pub added: Vec<String>,
    /// Fields whose values are of another type.
    pub retyped: Vec<String>,
}

/// Compares the locked origins with the present ones. `same_parser`: both parsed forms come from the same
/// version of the parser; otherwise the texts are compared. `skip`: fields for which a difference is already
/// reported.
pub fn compare(
    locked: &[MeaningSource],
    present: &[MeaningSource],
    same_parser: bool,
    skip: &[String],
) -> MeaningDifferences {
    let mut found = MeaningDifferences::default();
    let (mut was, mut now): (Vec<&MeaningSource>, Vec<&MeaningSource>) =
        (locked.iter().collect(), present.iter().collect());
    // First pairs the origins that did not change, in whatever order they are.
    was.retain(|source| {
        let same = now
            .iter()
            .position(|other| one(source, other, same_parser, skip) == MeaningDifferences::default());
        same.map(|at| now.remove(at)).is_none()
    });
    let pairs = was.len().min(now.len());
    for (was, now) in was.iter().zip(&now) {
        let differences = one(was, now, same_parser, skip);
        found.broken.extend(differences.broken);
        found.changed.extend(differences.changed);
        found.added.extend(differences.added);
        found.retyped.extend(differences.retyped);
    }
    for gone in was.iter().skip(pairs) {
        found.changed.push(format!("it no longer comes from {}", gone.words()));
    }
    for new in now.iter().skip(pairs) {
        found.changed.push(format!("it also comes from {}", new.words()));
    }
    for list in [&mut found.broken, &mut found.changed, &mut found.added] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|text| seen.insert(text.clone()));
    }
    found
}

fn one(was: &MeaningSource, now: &MeaningSource, same_parser: bool, skip: &[String]) -> MeaningDifferences {
    let mut judge = MeaningJudge { was, now, same_parser, skip, found: MeaningDifferences::default() };
    judge.trigger();
    judge.order();
    judge.key_of_pseudonyms();
    judge.data();
    judge.found
}

impl MeaningSource {
    /// `lab.plates on insert, update of status`.
    fn words(&self) -> String {
        if self.on.is_empty() { self.from.clone() } else { format!("{} on {}", self.from, self.on_words()) }
    }

    /// The operations in the syntax of `on`.
    pub(in crate::contracts) fn on_words(&self) -> String {
        let of: Vec<&str> = self.update_of.iter().map(|column| column.column.as_str()).collect();
        let word = |operation: &String| {
            if operation == "update" && !of.is_empty() {
                format!("update of {}", of.join(", "))
            } else {
                operation.clone()
            }
        };
        self.on.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn key_words(&self) -> String {
        if self.key.is_empty() { "the event's id".to_owned() } else { words(&self.key, ", ") }
    }

    /// The parts that consumers see in the subject.
    fn subject_terms(&self) -> &[MeaningTerm] {
        self.subject.as_ref().map_or(&self.key, std::slice::from_ref)
    }
}

fn words(terms: &[MeaningTerm], separator: &str) -> String {
    let mut texts: Vec<&str> = terms.iter().map(|term| term.sql.as_str()).collect();
    // A key that is written as a list has its whole text in every part.
    texts.dedup();
    texts.join(separator)
}

/// The change of the domains of pseudonyms, as the end of a sentence. Empty if they are the same.
fn of_domains(was: &[MeaningTerm], now: &[MeaningTerm]) -> String {
    let domains = |terms: &[MeaningTerm]| -> Vec<String> {
        let calls = terms.iter().flat_map(|term| term.parsed.split("(Hmac ").skip(1));
        let domain = |call: &str| match call.strip_prefix('\'').and_then(|call| call.split_once('\'')) {
            Some((domain, _)) => format!("domain {domain}"),
            None => "no domain".to_owned(),
        };
        calls.map(domain).collect()
    };
    let (was, now) = (domains(was), domains(now));
    if was == now || was.is_empty() || now.is_empty() {
        return String::new();
    }
    format!(" : hmac() had {}, and has {}", was.join(", "), now.join(", "))
}

struct MeaningJudge<'a> {
    was: &'a MeaningSource,
    now: &'a MeaningSource,
    same_parser: bool,
    skip: &'a [String],
    found: MeaningDifferences,
}

impl MeaningJudge<'_> {
    fn changed(&mut self, text: String) {
        self.found.changed.push(text);
    }

    fn trigger(&mut self) {
        let (was, now) = (self.was, self.now);
        if was.from != now.from {
            self.changed(format!("it came from {}, and now comes from {}", was.from, now.from));
        }
        let sorted = |on: &[String]| {
            let mut on = on.to_vec();
            on.sort_unstable();
            on
        };
        let columns = was.update_of.len() == now.update_of.len()
            && was.update_of.iter().all(|one| now.update_of.iter().any(|other| self.is_column(one, other)));
        if sorted(&was.on) != sorted(&now.on) || !columns {
            self.changed(format!("it was made on {}, and is now made on {}", was.on_words(), now.on_words()));
        }
        if !self.same_terms(&was.when, &now.when) {
            let shown = |terms: &[MeaningTerm]| match terms {
                [] => "always".to_owned(),
                terms => format!("when {}", words(terms, " and ")),
            };
            self.changed(format!("it was made {}, and is now made {}", shown(&was.when), shown(&now.when)));
        }
    }

    /// Compares the name of the pseudonym key. A key that had no name and gets one counts as the same key.
    fn key_of_pseudonyms(&mut self) {
        let Some(was) = &self.was.hmac_key else { return };
        match &self.now.hmac_key {
            Some(now) if now == was => {}
            Some(now) => self.changed(format!(
                "its pseudonyms were made with the key {was}, and are now made with the key {now}"
            )),
            // Whether the event still has pseudonyms is compared field by field.
            None => self.changed(format!(
                "its pseudonyms were made with the key {was}, and now the key has no name (pii.hmac_key_id)"
            )),
        }
    }

    fn order(&mut self) {
        let (was, now) = (self.was, self.now);
        self.printed("key", &was.key, &now.key, (was.key_words(), now.key_words()));
        // The other parts of an outbox's order are in the schema.
        if was.id.is_empty() && now.id.is_empty() {
            return;
        }
        let subjects = (was.subject_terms(), now.subject_terms());
        if was.subject.is_some() || now.subject.is_some() {
            self.printed(
                "subject",
                subjects.0,
                subjects.1,
                (words(subjects.0, ", "), words(subjects.1, ", ")),
            );
        }
        match (&was.time, &now.time) {
            (None, None) => {}
            (Some(one), Some(other)) if self.is_same(one, other) => {}
            (Some(one), Some(other)) => {
                self.changed(format!("its time changed from {} to {}", one.sql, other.sql));
            }
            (one, other) => {
                let shown = |time: &Option<MeaningTerm>| {
                    time.as_ref().map_or_else(|| "the commit's time".to_owned(), |time| time.sql.clone())
                };
                self.found.broken.push(format!("its time changed from {} to {}", shown(one), shown(other)));
            }
        }
        let shown = |source: &MeaningSource| match source.id.as_str() {
            "given" => words(&source.id_of, ", "),
            other => other.to_owned(),
        };
        if was.id != now.id {
            self.found.broken.push(format!("its id changed from {} to {}", shown(was), shown(now)));
        } else if was.id == "key" {
            self.id_of_key();
        } else {
            self.printed("id", &was.id_of, &now.id_of, (shown(was), shown(now)));
        }
    }

    /// An id that is made from the row's key contains the names of the table and its columns.
    fn id_of_key(&mut self) {
        let (was, now) = (self.was, self.now);
        let names = |terms: &[MeaningTerm]| terms.iter().map(|term| term.sql.clone()).collect::<Vec<_>>();
        if was.from != now.from || names(&was.id_of) != names(&now.id_of) {
            let shown = |source: &MeaningSource| format!("{} ({})", source.from, words(&source.id_of, ", "));
            self.found.broken.push(format!(
                "its id is made of {}, and was made of {}",
                shown(now),
                shown(was)
            ));
        } else {
            self.print("id", &was.id_of, &now.id_of);
        }
    }

    /// Compares expressions whose result is published as text.
    fn printed(
        &mut self,
        what: &str,
        was: &[MeaningTerm],
        now: &[MeaningTerm],
        (old, new): (String, String),
    ) {
        let types = |terms: &[MeaningTerm]| -> Vec<String> {
            terms.iter().filter_map(|term| term.form.as_ref()).map(TypeForm::plain_name).collect()
        };
        let (types_were, types_are) = (types(was), types(now));
        let alike = |names: &[String]| names.iter().map(|name| family(name).to_owned()).collect::<Vec<_>>();
        if what == "key" && alike(&types_were) != alike(&types_are) {
            self.found.broken.push(format!(
                "the type of its key changed from {} to {}",
                types_were.join(", "),
                types_are.join(", ")
            ));
        }
        if self.same_terms(was, now) {
            return self.print(what, was, now);
        }
        let alike = was.len() == now.len()
            && was.iter().zip(now).all(|(one, other)| match (&one.form, &other.form) {
                (Some(one), Some(other)) => one.prints_like(other),
                _ => false,
            });
        let text = format!("its {what} changed from {old} to {new}{}", of_domains(was, now));
        if alike {
            self.found.changed.push(text);
        } else {
            self.found.broken.push(text);
        }
    }

    /// For equal terms: whether their values are still printed in the same way.
    fn print(&mut self, what: &str, was: &[MeaningTerm], now: &[MeaningTerm]) {
        for (one, other) in was.iter().zip(now) {
            for (was, now) in one.reads.iter().zip(&other.reads) {
                if !was.form.prints_like(&now.form) {
                    let (column, was, now) = (&now.column, &was.form.name, &now.form.name);
                    let why = if was == now {
                        "whose labels changed".to_owned()
                    } else {
                        format!("as {now}, not as {was}")
                    };
                    self.found.broken.push(format!("its {what} prints {column} {why}"));
                }
            }
        }
    }

    fn data(&mut self) {
        for (name, was) in &self.was.data {
            // A missing field is reported as a difference of the schema.
            let Some(now) = self.now.data.get(name).filter(|_| !self.skip.contains(name)) else { continue };
            let before = self.found.broken.len();
            if let (Some(was), Some(now)) = (&was.form, &now.form) {
                let mut forms = FormDifferences::default();
                was.compare(now, name, &mut forms);
                let reported = forms.broken.into_iter().map(|(at, what)| format!("field {at} {what}"));
                self.found.broken.extend(reported);
                self.found.added.extend(forms.added);
            }
            if self.found.broken.len() > before {
                self.found.retyped.push(name.clone());
                continue;
            }
            if self.is_same(was, now) {
                self.texts(name, was, now);
            } else if !self.is_same_by_cast(was, now) {
                let domains = of_domains(std::slice::from_ref(was), std::slice::from_ref(now));
                let (was, now) = (was.words(), now.words());
                self.changed(format!("field {name} was {was}, and is now {now}{domains}"));
            }
        }
    }

    /// A computed text whose columns are printed in another way.
    fn texts(&mut self, name: &str, was: &MeaningTerm, now: &MeaningTerm) {
        for (was, now) in was.reads.iter().zip(&now.reads) {
            if now.printed && !was.form.prints_like(&now.form) {
                let (column, was, now) = (&now.column, &was.form.name, &now.form.name);
                self.found
                    .changed
                    .push(format!("field {name} prints {column}, which was {was} and is now {now}"));
            }
        }
    }

    fn same_terms(&self, was: &[MeaningTerm], now: &[MeaningTerm]) -> bool {
        was.len() == now.len() && was.iter().zip(now).all(|(one, other)| self.is_same(one, other))
    }

    fn is_same(&self, was: &MeaningTerm, now: &MeaningTerm) -> bool {
        let forms = |term: &'_ MeaningTerm| [Some(term.parsed.clone()), term.plain.clone()];
        let alike = if self.same_parser {
            let now = forms(now);
            forms(was).iter().flatten().any(|form| now.iter().flatten().any(|other| other == form))
        } else {
            was.sql == now.sql
        };
        alike
            && was.reads.len() == now.reads.len()
            && was.reads.iter().zip(&now.reads).all(|(one, other)| self.is_column(one, other))
    }

    /// Whether the only difference is a cast of a column whose type changed: the cast restores the locked
    /// form.
    fn is_same_by_cast(&self, was: &MeaningTerm, now: &MeaningTerm) -> bool {
        let ([one], [other]) = (&was.reads[..], &now.reads[..]) else { return false };
        was.parsed == "$1"
            && now.is_cast
            && self.is_column(one, other)
            && one.form.plain_name() != other.form.plain_name()
    }

    /// Whether it is the same column, which may have another name now.
    fn is_column(&self, was: &ReadForm, now: &ReadForm) -> bool {
        let renamed = was.number != 0
            && was.number == now.number
            && self.was.from == self.now.from
            && !self.now.columns.contains(&was.column)
            && was.form.name == now.form.name;
        was.row == now.row && (was.column == now.column || renamed)
    }
}

impl MeaningTerm {
    /// The text, and the columns if they do not appear in it.
    fn words(&self) -> String {
        let is_hidden = |read: &&ReadForm| !self.sql.contains(&read.column);
        let hidden: Vec<&str> =
            self.reads.iter().filter(is_hidden).map(|read| read.column.as_str()).collect();
        if hidden.is_empty() { self.sql.clone() } else { format!("{} (of {})", self.sql, hidden.join(", ")) }
    }
}

//! Runs the fixtures of a configuration.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::change::{Change, ChangePlace, Relation};
use crate::config::{Config, TableName};
use crate::contracts::snapshot::{self, SnapshotError};
use crate::event::Records;
use crate::expression::HmacKey;
use crate::failure::Problem;
use crate::position::{CommitSeq, Transaction};
use crate::rules::{RuleError, Rules, SourceFile, Wrong};
use crate::small_file;
use crate::translate::{Failed, RuleOutcome, TranslateSettings, Translator};

use super::compare::differences;
use super::fixture::{self, Case, Fixture};
use super::row::{self, OwnedChange};

/// Largest fixture file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The key of `hmac()` in fixtures. It is public, so that expected values can be committed.
pub const HMAC_KEY: &str = "forebay events test";

/// Commit time of all changes in fixtures: 2026-01-01, in microseconds since 1970.
const COMMITTED: i64 = 1_767_225_600_000_000;

/// The result of a run.
#[derive(Debug)]
pub struct FixtureReport {
    /// The report, line by line.
    pub text: String,
    /// Number of cases that passed.
    pub passed: usize,
    /// Number of cases that failed.
    pub failed: usize,
}

/// Runs the cases of these fixture files, or of those in `tests` beside the rules. `only`: the cases whose
/// names contain this text.
///
/// # Errors
/// All errors in rules and fixtures.
pub fn test(config: &Config, files: &[PathBuf], only: Option<&str>) -> Result<FixtureReport, String> {
    let common = TranslateSettings::without_key(config).map_err(|errors| errors.to_string())?;
    let locked = locked(config)?;
    let files = if files.is_empty() { beside_the_rules(config)? } else { files.to_vec() };
    let mut errors = Vec::new();
    let mut suite = Vec::new();
    let mut oids = 1..;
    for path in &files {
        let file = Arc::new(read(path, &config.events.base)?);
        let Some(fixture) = fixture::parse(&file, &mut errors) else { continue };
        let hmac_key = key(&fixture, &file, &mut errors);
        let settings = TranslateSettings { hmac_key, ..common.clone() };
        suite.push(File { path: file.path.clone(), cases: Vec::new(), settings });
        let Some(last) = suite.last_mut() else { continue };
        let tables = known(&locked, &fixture, &mut oids);
        last.add(config, fixture, &tables, &mut errors);
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| error.place.as_ref().map(|place| (place.file.path.clone(), place.offset)));
        return Err(listed(&errors));
    }
    let mut run =
        Run { config, only, out: String::new(), passed: 0, failures: Vec::new(), seen: BTreeSet::new() };
    run.all(&suite);
    if run.passed + run.failures.len() == 0 {
        return Err("no case matches".to_owned());
    }
    Ok(run.report(&common.rules, only.is_none()))
}

/// A fixture file with the tables of its cases.
struct File {
    path: PathBuf,
    settings: TranslateSettings,
    cases: Vec<(Case, Arc<Relation>, OwnedChange)>,
}

impl File {
    fn add(
        &mut self,
        config: &Config,
        fixture: Fixture,
        tables: &BTreeMap<TableName, Arc<Relation>>,
        errors: &mut Vec<RuleError>,
    ) {
        let translator = translator(config, &self.settings);
        let mut forms = HashMap::new();
        let mut checked = BTreeSet::new();
        for case in fixture.cases {
            let Some(relation) = tables.get(&case.table) else {
                let (place, event) = (Some(case.place.clone()), Some(case.name.clone()));
                errors.push(RuleError::new(place, event, unknown(&case.table)));
                continue;
            };
            if checked.insert(case.table.clone())
                && let Err(wrong) = translator.check(relation)
            {
                errors
                    .extend(wrong.0.into_iter().filter(|error| !errors.contains(error)).collect::<Vec<_>>());
            }
            match row::change(&case, relation, &mut forms) {
                Ok(made) => self.cases.push((case, Arc::clone(relation), made)),
                Err(wrong) => errors.extend(wrong),
            }
        }
    }
}

fn unknown(table: &TableName) -> Wrong {
    let hint = format!(
        "Run `forebay events lock` to read them from the database, or declare them in this file under [tables]:\n    \
         \"{table}\" = {{ id = \"bigint primary key\", … }}"
    );
    (format!("the columns of {table} are unknown"), hint).into()
}

fn translator(config: &Config, settings: &TranslateSettings) -> Translator {
    Translator::new(&config.source_urn(), 0, settings.clone())
}

/// The tables of the locked contracts. Empty before the first lock.
fn locked(config: &Config) -> Result<Vec<Relation>, String> {
    match snapshot::read(&config.events.lock_directory()) {
        Ok(tables) => Ok(tables.into_iter().map(|described| described.relation).collect()),
        Err(SnapshotError::Missing(_)) => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// The tables that a fixture may use, each with its own OID: those it declares and those of the contracts.
fn known(
    locked: &[Relation],
    fixture: &Fixture,
    oids: &mut impl Iterator<Item = u32>,
) -> BTreeMap<TableName, Arc<Relation>> {
    let named = locked.iter().chain(&fixture.tables).zip(oids).map(|(relation, oid)| {
        let name = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
        (name, Arc::new(Relation { oid, ..relation.clone() }))
    });
    named.collect()
}

fn key(fixture: &Fixture, file: &Arc<SourceFile>, errors: &mut Vec<RuleError>) -> Option<HmacKey> {
    let text = fixture.hmac_key.as_deref().unwrap_or(HMAC_KEY);
    let key = HmacKey::new(text.as_bytes());
    if key.is_none() {
        let place = crate::rules::FilePosition {
            file: Arc::clone(file),
            offset: file.text.find("hmac_key").unwrap_or_default(),
        };
        let message = format!("hmac_key has {} bytes; the minimum is {}", text.len(), HmacKey::LENGTH_MIN);
        errors.push(RuleError::new(Some(place), None, message));
    }
    key
}

/// The fixtures of `events/*.toml` are in `events/tests/*.toml`.
fn beside_the_rules(config: &Config) -> Result<Vec<PathBuf>, String> {
    let pattern = config.events.rules.as_deref().unwrap_or("events/*.toml");
    let fixed: PathBuf = Path::new(pattern)
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect();
    let folder = config.events.base.join(fixed).join("tests");
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| format!("no fixtures: cannot read directory {}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path =
            entry.map_err(|error| format!("cannot read directory {}: {error}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("no fixtures: no .toml file in {}", folder.display()));
    }
    Ok(files)
}

fn read(path: &Path, base: &Path) -> Result<SourceFile, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let text = small_file::read_text(path, FILE_MAX).map_err(failed)?;
    Ok(SourceFile { path: path.strip_prefix(base).unwrap_or(path).to_owned(), text })
}

fn listed(errors: &[RuleError]) -> String {
    let mut text = format!(
        "rules and fixtures have {} error{}:",
        errors.len(),
        if errors.len() == 1 { "" } else { "s" }
    );
    for error in errors {
        text.push('\n');
        text.push_str(&error.to_string());
    }
    text
}

/// The state of a run.
struct Run<'a> {
    config: &'a Config,
    only: Option<&'a str>,
    out: String,
    passed: usize,
    failures: Vec<(String, Vec<String>)>,
    /// The event types that were made so far.
    seen: BTreeSet<String>,
}

impl Run<'_> {
    fn all(&mut self, files: &[File]) {
        for file in files {
            let mut translator = translator(self.config, &file.settings);
            for (case, relation, made) in &file.cases {
                if self.only.is_some_and(|part| !case.name.contains(part)) {
                    continue;
                }
                let differences = self.one(&mut translator, case, relation, made);
                let path = file.path.display();
                let word = if differences.is_empty() { "ok" } else { "FAILED" };
                self.line(format_args!("test {path}: {} ... {word}", case.name));
                if differences.is_empty() {
                    self.passed += 1;
                } else {
                    let (line, _) = case.place.line_and_column();
                    self.failures.push((format!("{path}:{line}: {}", case.name), differences));
                }
            }
        }
    }

    fn one(
        &mut self,
        translator: &mut Translator,
        case: &Case,
        relation: &Arc<Relation>,
        made: &OwnedChange,
    ) -> Vec<String> {
        let place = ChangePlace {
            transaction: Transaction { commit: CommitSeq::new(1), xid: 1, time: COMMITTED },
            index: 0,
            record: CommitSeq::new(1),
            nth: 0,
        };
        let change = Change { place, relation, operation: made.operation(), raw: b"" };
        let (mut records, mut outcome) = (Records::default(), RuleOutcome::default());
        if let Err(error) = translator.translate(&change, &mut records, &mut outcome) {
            records.clear();
            let event_type = format!("the change of {}", case.table);
            outcome.failed.push(Failed { event_type, reason: Problem::of(&error) });
        }
        self.seen.extend(records.iter().map(|record| record.event_type.to_owned()));
        differences(&case.expected, &records, &outcome.failed)
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let written = writeln!(self.out, "{line}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }

    fn report(mut self, rules: &Rules, all: bool) -> FixtureReport {
        let failures = std::mem::take(&mut self.failures);
        if !failures.is_empty() {
            self.line(format_args!("\nfailures:"));
        }
        for (name, differences) in &failures {
            self.line(format_args!("\n---- {name} ----"));
            for line in differences {
                self.line(format_args!("{line}"));
            }
        }
        let made = |name: &&str| !self.seen.contains(*name);
        let types = rules.events.iter().map(|rule| rule.event_type.as_str());
        let missing: BTreeSet<&str> = types.filter(made).collect();
        if all && !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().collect();
            self.line(format_args!("\nno case makes {}", missing.join(", ")));
        }
        let (passed, failed) = (self.passed, failures.len());
        let word = if failed == 0 { "ok" } else { "FAILED" };
        self.line(format_args!("\ntest result: {word}. {passed} passed; {failed} failed"));
        FixtureReport { text: self.out, passed, failed }
    }
}

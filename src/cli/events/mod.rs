//! `forebay events`: the rules tried, and the contracts of what is published.

mod asyncapi;
mod catalog;
mod check;
mod lock;
mod preview;
mod test;

use clap::Subcommand;

use super::load;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the events that the newest rows, or the next changes, would make; slot and stream are not touched.
    Preview(preview::Options),
    /// Run the fixtures of events/tests: what rules make of changes, without any server.
    Test(test::Options),
    /// Write down what is published, as one JSON Schema per event type and version, from the rules and the database.
    Lock(lock::Options),
    /// Compare what is published with what was locked; exits with 1 unless it is the same. Needs no database.
    Check(check::Options),
    /// Write the catalogue of all events, one page for those who read them. Needs no database.
    Catalog(catalog::Options),
    /// Write an AsyncAPI 3.0 document of all events. Needs no database.
    Asyncapi(asyncapi::Options),
}

/// Does it.
///
/// # Errors
/// What a person must act on.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Preview(options) => preview::run(options),
        Command::Test(options) => test::run(options),
        Command::Lock(options) => lock::run(&load(&options.common)?, options),
        Command::Check(options) => check::run(&load(&options.common)?, options),
        Command::Catalog(options) => catalog::run(&load(&options.common)?, options),
        Command::Asyncapi(options) => asyncapi::run(&load(&options.common)?, options),
    }
}

/// The tables of the database, and a translator that knows the rules.
fn ask(config: &crate::config::Config) -> Result<Vec<crate::change::Described>, String> {
    use crate::translate::{Settings, Translator, sql::HmacKey};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let mut settings = Settings::without_key(config).map_err(|error| error.to_string())?;
    // Nothing is published here, and the form of what is does not hang on the key.
    settings.hmac_key = HmacKey::new(&[0; HmacKey::LENGTH_MIN]);
    let translator = Translator::new(&config.source_urn(), 0, settings);
    runtime.block_on(crate::pipeline::contract::tables(config, &translator)).map_err(super::explain)
}

/// The description of what these tables publish.
fn describe(
    config: &crate::config::Config,
    tables: &[crate::change::Described],
) -> Result<crate::contracts::model::Model, String> {
    let settings = crate::translate::Settings::without_key(config).map_err(|error| error.to_string())?;
    let schemas = config.events.schemas.as_deref();
    crate::contracts::model::Model::new(&config.source_urn(), schemas, &settings, tables)
        .map_err(|error| error.to_string())
}

/// What is published, and what was locked; without a database.
fn published(
    config: &crate::config::Config,
) -> Result<(crate::contracts::model::Model, crate::contracts::lock::Lock), String> {
    let model = crate::contracts::load(config).map_err(|error| error.to_string())?;
    let lock = crate::contracts::lock::Lock::read(&config.events.lock_directory());
    Ok((model, lock.map_err(|error| error.to_string())?.unwrap_or_default()))
}

/// Findings as a list, with what they are as a whole.
fn list(what: &str, findings: &[crate::contracts::check::Finding]) -> String {
    findings.iter().fold(what.to_owned(), |text, finding| format!("{text}\n\n{finding}"))
}

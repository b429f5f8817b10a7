//! `forebay events`: previews and tests rules, and manages contracts.

mod archive;
mod asyncapi;
mod catalog;
mod check;
mod codegen;
mod git;
mod lock;
mod preview;
mod schema;
mod test;

use clap::Subcommand;

use super::load;

/// Subcommands of `events`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the events that the newest rows, or the next changes, would make. Does not change the slot or
    /// the stream
    Preview(preview::PreviewOptions),
    /// Run the fixtures in events/tests: check which events rules make. Needs no server
    Test(test::TestOptions),
    /// Lock what is published: write one JSON Schema per event type and version, from the rules and the
    /// database
    Lock(lock::LockOptions),
    /// Compare what is published with the locked contracts; exits with 1 if they differ. Needs no database
    Check(check::CheckOptions),
    /// Print or write the locked JSON Schemas; with --open as readers need them. Needs no database
    Schema(schema::SchemaOptions),
    /// Write the event catalogue for consumers, one HTML page. Needs no database
    Catalog(catalog::CatalogOptions),
    /// Write an AsyncAPI 3.0 document of all events. Needs no database
    Asyncapi(asyncapi::AsyncapiOptions),
    /// Write types for consumers: Python, TypeScript, Java, Go or Rust. Needs no database
    Codegen(codegen::CodegenOptions),
    /// Write SQL for the archive in S3: one typed view for each event type. Needs no database
    ArchiveDdl(archive::ArchiveOptions),
}

/// Runs a subcommand.
///
/// # Errors
/// A message for the user.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Preview(options) => preview::run(options),
        Command::Test(options) => test::run(options),
        Command::Lock(options) => lock::run(&load(&options.common)?, options),
        Command::Check(options) => check::run(&load(&options.common)?, options),
        Command::Schema(options) => schema::run(&load(&options.common)?, options),
        Command::Catalog(options) => catalog::run(&load(&options.common)?, options),
        Command::Asyncapi(options) => asyncapi::run(&load(&options.common)?, options),
        Command::Codegen(options) => codegen::run(&load(&options.common)?, options),
        Command::ArchiveDdl(options) => archive::run(&load(&options.common)?, options),
    }
}

/// Reads the table definitions from the database.
fn tables(config: &crate::config::Config) -> Result<Vec<crate::change::Described>, String> {
    use crate::expression::HmacKey;
    use crate::translate::{TranslateSettings, Translator};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let mut settings = TranslateSettings::without_key(config).map_err(super::problem)?;
    // No event is published here, and the form of events does not depend on the key.
    settings.hmac_key = HmacKey::new(&[0; HmacKey::LENGTH_MIN]);
    let translator = Translator::new(&config.source_urn(), 0, settings);
    runtime.block_on(crate::daemon::contract::tables(config, &translator)).map_err(super::explain)
}

/// The model of what these tables publish.
fn describe(
    config: &crate::config::Config,
    tables: &[crate::change::Described],
) -> Result<crate::contracts::model::Model, String> {
    let settings = crate::translate::TranslateSettings::without_key(config).map_err(super::problem)?;
    let schemas = config.events.schemas.as_deref();
    crate::contracts::model::Model::new(&config.source_urn(), schemas, &settings, tables)
        .map_err(super::problem)
}

/// The model of what is published and the locked contracts, without a database.
fn published(
    config: &crate::config::Config,
) -> Result<(crate::contracts::model::Model, crate::contracts::lock::Lock), String> {
    let model = crate::contracts::load(config).map_err(super::problem)?;
    let lock = crate::contracts::lock::Lock::read(&config.events.lock_directory());
    Ok((model, lock.map_err(super::problem)?.unwrap_or_default()))
}

/// A headline followed by the findings.
fn list(what: &str, findings: &[crate::contracts::check::ContractFinding]) -> String {
    findings.iter().fold(what.to_owned(), |text, finding| format!("{text}\n\n{finding}"))
}

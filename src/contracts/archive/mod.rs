//! SQL over the archive that Firehose writes: typed views made from the contracts, so that nobody infers
//! schemas from samples.
//!
//! The archive holds the lines of the stream, repeats included, in objects below `events/day=YYYY-MM-DD/`.
//! Each engine gets one table of lines (`forebay_lines`), one view of deliveries with the envelope
//! (`forebay_deliveries`), one without repeats (`forebay_events`), a typed view for each event type, and, for
//! each table whose inserts, updates and deletes are all automatic events, a view of its rows as the archive
//! has them.
//!
//! A value that does not fit its column (`NaN` in a decimal, a date before Christ) is NULL there and is named
//! in `event_unreadable`; the line still has it. Nothing here reads an archive.

mod athena;
pub(super) mod columns;
mod duckdb;
mod glue;
mod place;
mod snowflake;
mod sql;
pub(super) mod views;

use super::lock::Lock;
use super::model::Model;

pub use place::ArchivePlace;

/// A query engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// DuckDB, over files or over S3.
    Duckdb,
    /// Amazon Athena, version 3.
    Athena,
    /// Snowflake, over an external stage.
    Snowflake,
    /// The tables and views of Athena as a CloudFormation template for the Glue catalogue.
    Glue,
}

/// The statements for an engine.
pub fn ddl(engine: Engine, place: ArchivePlace<'_>, model: &Model, lock: &Lock) -> String {
    let views = views::views(model, lock);
    match engine {
        Engine::Duckdb => sql::script(&duckdb::Duckdb, place, &model.source, &views),
        Engine::Athena => sql::script(&athena::Athena, place, &model.source, &views),
        Engine::Snowflake => sql::script(&snowflake::Snowflake, place, &model.source, &views),
        Engine::Glue => glue::template(place, &model.source, &views),
    }
}

#[cfg(test)]
mod tests;

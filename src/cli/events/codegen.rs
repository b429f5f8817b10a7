//! `forebay events codegen`: writes types for consumers.

use std::path::PathBuf;

use crate::cli::{Common, say, say_exactly};
use crate::config::Config;
use crate::contracts::codegen::{Language, types};
use crate::contracts::lock::put;

/// Options of `events codegen`.
#[derive(Debug, clap::Args)]
pub struct CodegenOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// The language of the consumer
    #[arg(long)]
    lang: Language,
    /// The package, for Java and Go
    #[arg(long, default_value = "events", value_parser = package)]
    package: String,
    /// File to write; default: standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A package of Java or Go.
fn package(text: &str) -> Result<String, String> {
    let is_name = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    if text.split('.').all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("write a name such as events or com.example.lab".into())
    }
}

pub(super) fn run(config: &Config, options: &CodegenOptions) -> Result<(), String> {
    let (model, lock) = super::published(config)?;
    let text = types(options.lang, &options.package, &model, &lock);
    let Some(file) = &options.out else {
        say_exactly(&text);
        return Ok(());
    };
    put(file, &text).map_err(|error| error.to_string())?;
    say(&format!("wrote {}: {} event types\n", file.display(), model.events.len()));
    Ok(())
}

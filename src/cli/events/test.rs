//! `forebay events test`: fixtures, without any server.

use std::path::PathBuf;

use crate::contracts::trial;

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    common: crate::cli::Common,
    /// Fixture files; default: the folder `tests` beside the rules.
    files: Vec<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
}

/// Runs the fixtures.
///
/// # Errors
/// A case failed, or rules or fixtures are wrong.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let config = crate::cli::load(&options.common)?;
    let report = trial::test(&config, &options.files, options.case.as_deref())?;
    crate::cli::say(&report.text);
    match report.failed {
        0 => Ok(()),
        1 => Err("a case failed".to_owned()),
        failed => Err(format!("{failed} cases failed")),
    }
}

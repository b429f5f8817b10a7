//! `forebay events test`: runs fixtures without a server.

use std::path::PathBuf;

use crate::contracts::trial;

/// Options of `events test`.
#[derive(Debug, clap::Args)]
pub struct TestOptions {
    #[command(flatten)]
    common: crate::cli::Common,
    /// Fixture files; default: the directory `tests` beside the rules
    files: Vec<PathBuf>,
    /// Run only cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
}

/// Runs the fixtures.
///
/// # Errors
/// A case failed, or rules or fixtures have mistakes.
pub(super) fn run(options: &TestOptions) -> Result<(), String> {
    let config = crate::cli::load(&options.common)?;
    let report = trial::test(&config, &options.files, options.case.as_deref())?;
    crate::cli::say(&report.text);
    match report.failed {
        0 => Ok(()),
        1 => Err("1 case failed".to_owned()),
        failed => Err(format!("{failed} cases failed")),
    }
}

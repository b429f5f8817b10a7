//! `forebay init`: writes a first `forebay.toml` from what is in a database.

use std::path::{Path, PathBuf};

use crate::config::aws::stream;
use crate::config::{Secret, write_new};
use crate::daemon::init::{ConfigDraft, InitOrder, draft};

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub struct InitOptions {
    /// Connection URL of the database; its password, or `FOREBAY_SOURCE__PASSWORD`, is used and not written
    #[arg(long, value_name = "URL")]
    source: String,
    /// Name or ARN of the Kinesis stream; default: the name with -events
    #[arg(long, value_name = "STREAM", value_parser = |text: &str| stream(text).map_err(|problem| problem.lines()))]
    stream: Option<String>,
    /// Name of the configuration; default: made of the database's
    #[arg(long, value_name = "NAME", value_parser = crate::config::name)]
    name: Option<String>,
    /// File to write, which must not exist; - prints it
    #[arg(long, short, value_name = "FILE", default_value = "forebay.toml")]
    output: PathBuf,
}

/// Looks at the database and writes the file.
///
/// # Errors
/// The database cannot be reached, or the file exists.
pub fn run(options: &InitOptions) -> Result<(), String> {
    let is_printed = options.output == Path::new("-");
    if !is_printed && options.output.exists() {
        return Err(exists(&options.output));
    }
    let order = InitOrder {
        url: options.source.clone(),
        password: std::env::var("FOREBAY_SOURCE__PASSWORD").ok().map(Secret::new),
        name: options.name.clone(),
        stream: options.stream.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let found = runtime.block_on(draft(&order)).map_err(super::explain)?;
    // A thread that waits for a name server must not block the exit.
    runtime.shutdown_background();
    if is_printed {
        super::say_exactly(&found.text);
        return Ok(());
    }
    write_new(&options.output, &found.text).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(&options.output),
        _ => format!("cannot write {}: {error}", options.output.display()),
    })?;
    super::say(&summary(&options.output, &found));
    Ok(())
}

fn exists(path: &Path) -> String {
    format!("{} exists\n  hint: Name another file with --output, or move that one away.", path.display())
}

fn summary(path: &Path, draft: &ConfigDraft) -> String {
    let ConfigDraft { published, left_out, .. } = draft;
    let path = path.display();
    let next = format!("forebay check --config {path}");
    format!("{path}: {published} tables to publish, {left_out} left out.\nLook at it, then run: {next}\n")
}

//! `forebay init`: writes a first `forebay.toml` for a database.

use std::path::{Path, PathBuf};

use crate::config::aws::stream;
use crate::config::{Secret, write_new};
use crate::daemon::init::instances::{DividedDraft, draft_divided};
use crate::daemon::init::{ConfigDraft, InitOrder, ReadMode, draft};
use crate::failure::Failure;

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
    /// Divide the keys of all tables among so many daemons on one stream: writes the publications and a file
    /// for each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=16))]
    instances: Option<u8>,
    /// How tables are read; default: by replication if the role and the server can, else by polling
    #[arg(long, value_name = "MODE", conflicts_with = "instances")]
    mode: Option<ReadMode>,
    /// File to write, which must not exist; - prints it. With --instances, its name is the beginning of
    /// theirs
    #[arg(long, short, value_name = "FILE", default_value = "forebay.toml")]
    output: PathBuf,
}

/// Inspects the database and writes the file.
///
/// # Errors
/// The database cannot be reached, or the file exists.
pub fn run(options: &InitOptions) -> Result<(), String> {
    let is_printed = options.output == Path::new("-");
    let files = files(options);
    if let Some(existing) = files.iter().find(|file| !is_printed && file.exists()) {
        return Err(exists(existing));
    }
    let order = InitOrder {
        url: options.source.clone(),
        password: std::env::var("FOREBAY_SOURCE__PASSWORD").ok().map(Secret::new),
        name: options.name.clone(),
        stream: options.stream.clone(),
        mode: options.mode,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let found = runtime.block_on(async {
        Ok::<_, Failure>(match options.instances {
            None => {
                let draft = draft(&order).await?;
                (vec![draft.text.clone()], summary(&options.output, &draft))
            }
            Some(instances) => {
                let DividedDraft { publications, configs } = draft_divided(&order, instances).await?;
                let steps = steps(&files, configs.first());
                let configs = configs.into_iter().map(|config| config.text);
                (std::iter::once(publications).chain(configs).collect::<Vec<_>>(), steps)
            }
        })
    });
    let (texts, summary) = found.map_err(super::explain)?;
    // A thread that is waiting for a DNS server must not delay the exit.
    runtime.shutdown_background();
    if is_printed {
        super::say_exactly(&texts.join("\n"));
        return Ok(());
    }
    for (at, (file, text)) in files.iter().zip(&texts).enumerate() {
        write_new(file, text).map_err(|error| {
            // Either all files are written or none. The files before this one were created by this process.
            files.iter().take(at).for_each(|written| drop(std::fs::remove_file(written)));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => exists(file),
                _ => format!("cannot write {}: {error}", file.display()),
            }
        })?;
    }
    super::say(&summary);
    Ok(())
}

/// The files to write. With several instances, the first is the SQL of the publications.
fn files(options: &InitOptions) -> Vec<PathBuf> {
    let Some(instances) = options.instances else { return vec![options.output.clone()] };
    let stem = options.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |name: String| options.output.with_file_name(name);
    let publications = beside(format!("{stem}_publications.sql"));
    let configs = (0..instances).map(|instance| beside(format!("{stem}_{instance}.toml")));
    std::iter::once(publications).chain(configs).collect()
}

/// A list of the files that were written, and the next steps in their order.
fn steps(files: &[PathBuf], first: Option<&ConfigDraft>) -> String {
    let published = first.map_or(0, |config| config.published);
    let left_out = first.map_or(0, |config| config.left_out);
    let (publications, configs) = files
        .split_first()
        .map_or_else(Default::default, |(first, rest)| (first.display().to_string(), rest));
    let starts = configs.iter().map(|file| {
        let file = file.display();
        format!("   forebay check --config {file} && forebay run --config {file}\n")
    });
    let starts: String = starts.collect();
    format!(
        "{published} tables to publish, {left_out} left out. Look at each file. Then, in this order:\n\
         1. Stop the writers. An instance that ran alone must have published everything (forebay status) and be torn down (forebay \
         teardown).\n\
         2. psql --single-transaction --file={publications}\n\
         3. Start all instances:\n{starts}\
         4. Start the writers.\n"
    )
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

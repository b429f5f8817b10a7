//! `forebay completions` and `forebay man`: shell completions and manual pages, generated from the definition
//! of the command line.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Arguments;

/// The name of the program, even if the file has another name.
const PROGRAM: &str = "forebay";

/// Options of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Options of `man`.
#[derive(Debug, clap::Args)]
pub struct ManOptions {
    /// A subcommand, such as: dlq retry; default: the whole program
    #[arg(value_name = "SUBCOMMAND")]
    subcommand: Vec<String>,
}

/// Prints the script for a shell.
pub fn completions(options: &CompletionsOptions) {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), PROGRAM, &mut script);
    super::say_exactly(&String::from_utf8_lossy(&script));
}

/// Prints a page in roff.
///
/// # Errors
/// There is no such subcommand.
pub fn man(options: &ManOptions) -> Result<(), String> {
    let mut command = Arguments::command();
    command.build();
    let mut found: &Command = &command;
    for name in &options.subcommand {
        found = found.find_subcommand(name).ok_or_else(|| {
            format!("there is no subcommand {name:?}\n  hint: Run `forebay --help` for a list.")
        })?;
    }
    let mut page = Vec::new();
    Man::new(found.clone()).render(&mut page).map_err(|error| format!("cannot write the page: {error}"))?;
    super::say_exactly(&String::from_utf8_lossy(&page));
    Ok(())
}

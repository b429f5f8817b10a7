//! `forebay events`: rules, tried and checked.

pub mod preview;
pub mod test;

/// Which of them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the events that the newest rows, or the next changes, would make; slot and stream are not touched.
    Preview(preview::Options),
    /// Run the fixtures of events/tests: what rules make of changes, without any server.
    Test(test::Options),
}

/// Runs one of them.
///
/// # Errors
/// What is wrong, and what to do.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Preview(options) => preview::run(options),
        Command::Test(options) => test::run(options),
    }
}

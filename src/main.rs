//! The program `forebay`. Its subcommands, logging and exit codes are in [`forebay::cli`].

fn main() -> std::process::ExitCode {
    forebay::cli::main()
}

//! Arguments, logging, exit code: see [`forebay::cli`].

fn main() -> std::process::ExitCode {
    forebay::cli::main()
}

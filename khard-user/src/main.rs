//! The `khard` command: parses, runs, and maps errors to exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    khard_user::cli::main()
}

//! Pass argv on, turn the outcome into an exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    campos_operator::commands::main().into()
}

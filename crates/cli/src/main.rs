//! The binary `cedargate`; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cedargate::main()
}

//! The binary `cedargate`; see the library.

use std::process::ExitCode;

/// A decision is hundreds of small allocations: this one makes them in half the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cedargate::main()
}

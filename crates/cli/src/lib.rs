//! The command line `cedargate`: configuration, wiring, every subcommand.

pub mod sample_coolify;

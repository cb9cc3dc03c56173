//! The command line `cedargate`: configuration, wiring, every subcommand.

pub mod config;
pub mod sample_coolify;

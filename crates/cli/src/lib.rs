//! The command line `cedargate`: configuration, wiring, every subcommand.

//! The command line `cedargate`: configuration, wiring, every subcommand.
//!
//! `main.rs` calls [`main`], which reads the command line (`arguments.rs`) and runs one
//! subcommand (`commands/`). What runs in a server process and how it ends is in
//! `planes.rs`; what can be set, in `config.rs`.

pub mod arguments;
mod bridge;
pub mod client;
mod commands;
pub mod config;
pub mod connect;
pub mod data_folder;
pub mod exit;
pub mod limits_file;
pub mod output;
pub mod planes;
mod policy_test;
pub mod sample_coolify;
mod server;
mod service_credentials;
mod service_folder;
pub mod signals;
pub mod telemetry;
pub mod watch;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

/// Cedar wants headroom: it recurses as deep as policies nest.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// How long threads that are still busy may hold up the end of the process.
const RUNTIME_LINGER: Duration = Duration::from_secs(2);

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let line = match arguments::CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::from(exit::OK);
            }
            if wants_json(std::env::args_os().skip(1)) {
                let text = error.render().to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
                return failed(&exit::Usage(text.to_owned()).into(), true);
            }
            let _ = error.print();
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::from(error).context("the runtime cannot be started");
            return failed(&error, line.global.json);
        }
    };
    let json = line.global.json;
    // On a worker, whose stack is ours to choose; the first thread's is not.
    let outcome = runtime.block_on(async {
        match tokio::spawn(commands::run(line, config::Environment::of_process())).await {
            Ok(outcome) => outcome,
            Err(error) => Err(error.into()),
        }
    });
    runtime.shutdown_timeout(RUNTIME_LINGER);
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error, json),
    }
}

/// Whether a command line that cannot be read asks for JSON all the same.
fn wants_json(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    arguments
        .into_iter()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// Tells what went wrong, on standard error: for people, or as one line of JSON.
#[allow(clippy::print_stderr, reason = "this is where errors are told")]
fn failed(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = exit::code_of(error);
    let told = json
        .then(|| output::json_line(&exit::as_json(error)).ok())
        .flatten();
    match told {
        Some(line) => eprintln!("{line}"),
        None => eprintln!(
            "cedargate: {}",
            output::printable_lines(&format!("{error:#}"))
        ),
    }
    ExitCode::from(code)
}

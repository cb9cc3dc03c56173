//! The log: one line per event, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{ConfigError, Log, LogFormat};

/// Our crates: the level is about them. Of others, warnings are enough.
const OURS: &[&str] = &[
    "authz",
    "cedargate",
    "contract",
    "gateway",
    "handlers",
    "issuer",
    "orchestrator",
    "store",
];

/// Starts logging for the whole process.
///
/// # Errors
///
/// When the directives are not understood, or the log was started before.
pub fn start(log: &Log) -> Result<(), ConfigError> {
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    });
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        LogFormat::Pretty => layer.with_ansi(coloured).boxed(),
    };
    install(
        tracing_subscriber::registry()
            .with(filter(log)?)
            .with(layer),
    )
}

/// As [`start`], into a file, in JSON unless told otherwise.
///
/// # Errors
///
/// See [`start`].
pub fn start_into(log: &Log, file: std::fs::File) -> Result<(), ConfigError> {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::sync::Mutex::new(file))
        .with_ansi(false);
    let layer = match log.format.unwrap_or(LogFormat::Json) {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        LogFormat::Pretty => layer.boxed(),
    };
    install(
        tracing_subscriber::registry()
            .with(filter(log)?)
            .with(layer),
    )
}

fn install(subscriber: impl SubscriberInitExt) -> Result<(), ConfigError> {
    subscriber
        .try_init()
        .map_err(|error| ConfigError::Missing(format!("the log cannot be started: {error}")))
}

fn filter(log: &Log) -> Result<EnvFilter, ConfigError> {
    let directives = log.directives.clone().unwrap_or_else(|| {
        let others = if log.level == "trace" { "info" } else { "warn" };
        std::iter::once(others.to_owned())
            .chain(OURS.iter().map(|name| format!("{name}={}", log.level)))
            .collect::<Vec<_>>()
            .join(",")
    });
    EnvFilter::try_new(directives).map_err(|error| {
        ConfigError::Missing(format!(
            "RUST_LOG (`log.directives`) is not understood: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(level: &str, directives: Option<&str>) -> Log {
        Log {
            level: level.to_owned(),
            directives: directives.map(str::to_owned),
            format: None,
        }
    }

    #[test]
    fn the_level_is_about_our_crates_and_directives_win() {
        let filter = filter(&log("debug", None)).unwrap().to_string();
        assert!(
            filter.contains("gateway=debug") && filter.contains("warn"),
            "{filter}"
        );
        let directives = super::filter(&log("debug", Some("store=trace")))
            .unwrap()
            .to_string();
        assert_eq!(directives, "store=trace");
        assert!(super::filter(&log("info", Some("store=loud"))).is_err());
    }
}

//! The file of limits, and what the environment says beside it. It is read again while the
//! gateway runs.

use std::{path::PathBuf, time::Duration};

use gateway::LimitsControl;
use handlers::limits::{Allowance, Limits, Pace};
use tokio_util::sync::CancellationToken;

use crate::config::ConfigError;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// No file of limits is longer.
const MAX_BYTES: u64 = 1 << 20;

/// Where limits come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsSource {
    /// The operator's file.
    pub file: Option<PathBuf>,
    /// How fast each agent may be, where the file does not say.
    pub each_agent: Option<Pace>,
}

impl LimitsSource {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is longer than 1 MiB, or is wrong.
    pub fn load(&self) -> Result<Limits, ConfigError> {
        let mut limits = match &self.file {
            None => Limits::default(),
            Some(file) => {
                let wrong = |why: String| {
                    ConfigError::Missing(format!("CEDARGATE_LIMITS: `{}` {why}", file.display()))
                };
                let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
                if std::fs::metadata(file).map_err(unreadable)?.len() > MAX_BYTES {
                    return Err(wrong("is longer than 1 MiB".to_owned()));
                }
                let text = std::fs::read_to_string(file).map_err(unreadable)?;
                Limits::read(&file.display().to_string(), &text).map_err(ConfigError::Missing)?
            }
        };
        let own = limits.each_agent.unwrap_or_default();
        if own.pace().is_none() && self.each_agent.is_some() {
            limits.each_agent = Some(Allowance {
                paced: self.each_agent,
                ..own
            });
        }
        Ok(limits)
    }

    /// Reads the file again and again, until `stop`. What is wrong changes nothing.
    pub(crate) fn follow(self, control: LimitsControl, stop: CancellationToken) {
        if self.file.is_none() {
            return;
        }
        let mut last = self.load().ok();
        let mut failing = false;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
                let source = self.clone();
                let Ok(loaded) = tokio::task::spawn_blocking(move || source.load()).await else {
                    return;
                };
                let set = match loaded {
                    Ok(limits) if last.as_ref() == Some(&limits) => {
                        failing = false;
                        continue;
                    }
                    Ok(limits) => control.set(&limits).map(|()| last = Some(limits)),
                    Err(error) => Err(error.to_string()),
                };
                match set {
                    Ok(()) => {
                        failing = false;
                        tracing::info!("other limits are in force");
                    }
                    // Once: it stays wrong until somebody mends it.
                    Err(reason) if !failing => {
                        failing = true;
                        tracing::error!(
                            reason,
                            "the file of limits is wrong; those before stay in force"
                        );
                    }
                    Err(_) => {}
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINS: Pace = Pace {
        calls: 100,
        window_ms: 60_000,
        burst: 100,
    };

    #[test]
    fn the_file_goes_before_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limits.toml");
        let source = LimitsSource {
            file: Some(file.clone()),
            each_agent: Some(ORIGINS),
        };
        let error = source.load().unwrap_err().to_string();
        assert!(
            error.contains("CEDARGATE_LIMITS") && error.contains("cannot be read"),
            "{error}"
        );
        let pace = |text: &str| {
            std::fs::write(&file, text).unwrap();
            source.load().unwrap().each_agent.unwrap().pace().unwrap()
        };
        assert_eq!(pace(""), ORIGINS);
        assert_eq!(pace("each_agent.calls_per_day = 9"), ORIGINS);
        assert_eq!(pace("each_agent.per_second = 9").calls, 9);
        std::fs::write(&file, "each_agent.per_secnd = 9").unwrap();
        let error = source.load().unwrap_err().to_string();
        assert!(
            error.contains("limits.toml:1:12") && error.contains("per_second"),
            "{error}"
        );
        assert_eq!(LimitsSource::default().load().unwrap(), Limits::default());
    }
}

//! Credentials of services while the gateway runs: files are read again, so that a rotated
//! credential needs no restart.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use authz::ServiceName;
use handlers::Catalog;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::config::Environment;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often commands are run, which may ask a vault.
const COMMAND_INTERVAL: Duration = Duration::from_mins(5);

/// Reads what services are configured with, again and again.
pub(crate) struct ServiceCredentials {
    catalog: Arc<Catalog>,
    environment: Environment,
    /// What was read last: a file that cannot be read just now takes nothing away.
    last: HashMap<String, Option<SecretString>>,
    /// When commands were run last.
    commands_ran: Instant,
}

impl ServiceCredentials {
    pub(crate) fn new(catalog: Arc<Catalog>, environment: Environment) -> Self {
        let now = Instant::now();
        let mut credentials = Self {
            catalog,
            environment,
            last: HashMap::new(),
            commands_ran: now,
        };
        // Nothing changes by it, but afterwards everything is known.
        credentials.look(now);
        credentials
    }

    /// Services of which something changed.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<ServiceName> {
        let run_commands = now.duration_since(self.commands_ran) >= COMMAND_INTERVAL;
        if run_commands {
            self.commands_ran = now;
        }
        let last = RefCell::new(std::mem::take(&mut self.last));
        let variable = |name: &str| {
            if !run_commands
                && self.environment.takes_command(name)
                && let Some(known) = last.borrow().get(name)
            {
                let known = known.as_ref();
                return known.map(|value| value.expose_secret().to_owned());
            }
            let value = match self.environment.resolve(name) {
                Ok(value) => value.map(SecretString::from),
                Err(error) => {
                    tracing::warn!(
                        variable = name,
                        error = &error as &dyn std::error::Error,
                        "what a service is configured with cannot be read; it keeps what it has"
                    );
                    last.borrow().get(name).cloned().flatten()
                }
            };
            last.borrow_mut().insert(name.to_owned(), value.clone());
            value.map(|value| value.expose_secret().to_owned())
        };
        let changed = self.catalog.refresh(&variable);
        self.last = last.into_inner();
        changed
    }

    /// Looks until `stop`.
    pub(crate) fn follow(mut self, stop: CancellationToken) {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
                let looked = tokio::task::spawn_blocking(move || {
                    let changed = self.look(Instant::now());
                    (self, changed)
                });
                let Ok((credentials, changed)) = looked.await else {
                    return;
                };
                self = credentials;
                for service in changed {
                    tracing::info!(%service, "the service is configured anew");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_is_taken_up_and_a_missing_one_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "1|first\n").unwrap();
        let environment = Environment::of([
            ("COOLIFY_API_URL", "http://coolify.example"),
            ("COOLIFY_API_TOKEN_FILE", file.to_str().unwrap()),
        ]);
        let catalog = crate::planes::catalog(&environment, None).unwrap();
        let status = || {
            let service = catalog.service("coolify").unwrap();
            service.status.clone()
        };
        let mut credentials = ServiceCredentials::new(Arc::clone(&catalog), environment);
        assert!(credentials.look(Instant::now()).is_empty());
        std::fs::write(&file, "2|second\n").unwrap();
        let names =
            |changed: Vec<ServiceName>| changed.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(credentials.look(Instant::now())), ["coolify"]);
        assert!(credentials.look(Instant::now()).is_empty());
        std::fs::remove_file(&file).unwrap();
        assert!(credentials.look(Instant::now()).is_empty());
        assert_eq!(status(), "active");
        std::fs::write(&file, "se\u{1}cret").unwrap();
        assert_eq!(names(credentials.look(Instant::now())), ["coolify"]);
        assert_eq!(status(), "error", "what is shown follows");
        std::fs::write(&file, "3|third").unwrap();
        credentials.look(Instant::now());
        assert_eq!(status(), "active");
    }

    #[cfg(unix)]
    #[test]
    fn a_command_is_run_again_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("to ken");
        std::fs::write(&file, "1|first\n").unwrap();
        let command = format!("cat '{}'", file.display());
        let environment = Environment::of([
            ("COOLIFY_API_URL", "http://coolify.example"),
            ("COOLIFY_API_TOKEN_COMMAND", &command),
        ]);
        let catalog = crate::planes::catalog(&environment, None).unwrap();
        let mut credentials = ServiceCredentials::new(Arc::clone(&catalog), environment);
        let start = credentials.commands_ran;
        std::fs::write(&file, "2|second\n").unwrap();
        let soon = start
            + COMMAND_INTERVAL
                .checked_sub(Duration::from_secs(1))
                .unwrap();
        assert!(credentials.look(soon).is_empty(), "not yet");
        let later = start + COMMAND_INTERVAL;
        assert_eq!(credentials.look(later).len(), 1);
        assert!(credentials.look(later).is_empty());
        std::fs::remove_file(&file).unwrap();
        assert!(
            credentials.look(later + COMMAND_INTERVAL).is_empty(),
            "a command that fails takes nothing away"
        );
    }

    #[test]
    fn systemd_hands_credentials_over_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("COOLIFY_API_TOKEN"), "1|x\n").unwrap();
        let environment = Environment::of([
            ("COOLIFY_API_URL", "http://coolify.example"),
            ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
        ]);
        assert_eq!(
            environment.resolve("COOLIFY_API_TOKEN").unwrap().as_deref(),
            Some("1|x")
        );
        assert_eq!(environment.resolve("GITHUB_PAT").unwrap(), None);
        let own = environment.with("COOLIFY_API_TOKEN", "2|y");
        let given = own.resolve("COOLIFY_API_TOKEN").unwrap();
        assert_eq!(
            given.as_deref(),
            Some("2|y"),
            "what is said plainly goes first"
        );
    }
}

//! The orchestrator as the subcommands reach it: where it is, and as whom they ask.

use std::{fs, time::Duration};

use anyhow::Context;
use secrecy::SecretString;

use crate::{
    arguments::Global,
    config::{ConfigError, Environment, Settings, http_url},
    data_folder::DataFolder,
    exit::Usage,
};

/// Where an orchestrator on this machine is.
const DEFAULT_URL: &str = "http://127.0.0.1:9403";

/// How long a subcommand waits for an answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The orchestrator, and what to say when it does not answer.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Calls it.
    pub client: contract::Client,
    /// Where it is.
    pub url: String,
    token: TokenSource,
}

/// Where the token came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TokenSource {
    Variable,
    AdminToken(std::path::PathBuf),
    None(String),
}

impl Remote {
    /// Finds address and token: `--url`, `CEDARGATE_URL`, `ORCHESTRATOR_URL`, this machine;
    /// `CEDARGATE_TOKEN`, the data folder's `admin-token`.
    ///
    /// The token of the data folder is sent to this machine only: it is a secret of the
    /// orchestrator that made it.
    ///
    /// # Errors
    ///
    /// When the address is not a URL, or a token cannot be read.
    pub fn find(global: &Global, settings: &Settings) -> anyhow::Result<Self> {
        let environment = settings.environment();
        let url = url(global, environment)?;
        let (token, source) = token(settings, &url)?;
        let client = contract::Client::http(&url, token, DEADLINE)?.via_cli();
        Ok(Self {
            client,
            url,
            token: source,
        })
    }

    /// The error with what to do about it.
    #[must_use]
    pub fn explain(&self, error: contract::Error) -> anyhow::Error {
        let hint = match &error {
            contract::Error::Unreachable(_) | contract::Error::Timeout(_) => Some(format!(
                "no answer from {}: is it running (`cedargate serve`)? --url or CEDARGATE_URL names another",
                self.url
            )),
            contract::Error::Refused { status, .. } if status.as_u16() == 401 => Some(match &self
                .token
            {
                TokenSource::Variable => {
                    "the orchestrator does not know the token in CEDARGATE_TOKEN".to_owned()
                }
                TokenSource::AdminToken(path) => {
                    format!(
                        "the orchestrator at {} does not know the token in `{}`",
                        self.url,
                        path.display()
                    )
                }
                TokenSource::None(why) => format!("set CEDARGATE_TOKEN to a user's token; {why}"),
            }),
            contract::Error::Refused { .. } | contract::Error::Malformed(_) => None,
        };
        let error = anyhow::Error::from(error);
        match hint {
            Some(hint) => error.context(hint),
            None => error,
        }
    }
}

/// `answer.of(&remote)?`: an error of the contract, explained.
pub(crate) trait Answer<T> {
    fn of(self, remote: &Remote) -> anyhow::Result<T>;
}

impl<T> Answer<T> for Result<T, contract::Error> {
    fn of(self, remote: &Remote) -> anyhow::Result<T> {
        self.map_err(|error| remote.explain(error))
    }
}

fn url(global: &Global, environment: &Environment) -> anyhow::Result<String> {
    let (name, url) = if let Some(url) = &global.url {
        ("--url", url.clone())
    } else if let Some(url) = environment.get("CEDARGATE_URL")? {
        ("CEDARGATE_URL", url)
    } else if let Some(url) = environment.get("ORCHESTRATOR_URL")? {
        ("ORCHESTRATOR_URL", url)
    } else {
        return Ok(DEFAULT_URL.to_owned());
    };
    http_url(&url).map_err(|expected| Usage(format!("{name}: {expected}")).into())
}

fn token(settings: &Settings, url: &str) -> anyhow::Result<(Option<SecretString>, TokenSource)> {
    if let Some(token) = settings.environment().resolve("CEDARGATE_TOKEN")? {
        return Ok((Some(token.trim().into()), TokenSource::Variable));
    }
    if !is_loopback(url) {
        let why = "the data folder's token is only sent to this machine".to_owned();
        return Ok((None, TokenSource::None(why)));
    }
    let data = settings.data()?;
    let path = data.join(DataFolder::ADMIN_TOKEN);
    match fs::read_to_string(&path) {
        Ok(token) => Ok((Some(token.trim().into()), TokenSource::AdminToken(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = format!("there is none in `{}`", path.display());
            Ok((None, TokenSource::None(why)))
        }
        Err(error) => {
            Err(error).with_context(|| format!("the token in `{}` cannot be read", path.display()))
        }
    }
}

fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.as_ref().and_then(http::Uri::host).is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// Reads the settings that every subcommand shares.
///
/// # Errors
///
/// See [`Settings::read`].
pub fn settings(
    global: &Global,
    environment: Environment,
    mut flags: std::collections::BTreeMap<&'static str, String>,
) -> Result<Settings, ConfigError> {
    if let Some(data) = &global.data {
        let data = data
            .to_str()
            .ok_or_else(|| ConfigError::Missing("--data is not valid UTF-8".to_owned()))?;
        flags.insert("data", data.to_owned());
    }
    let default = std::path::Path::new("cedargate.toml");
    let file = global
        .config
        .as_deref()
        .or_else(|| default.is_file().then_some(default));
    Settings::read(file, environment, flags)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn find(url: Option<&str>, variables: &[(&str, &str)], data: &std::path::Path) -> Remote {
        let global = Global {
            config: None,
            data: Some(data.to_owned()),
            url: url.map(str::to_owned),
            json: false,
        };
        let settings = settings(
            &global,
            Environment::of(variables.iter().copied()),
            BTreeMap::new(),
        )
        .unwrap();
        Remote::find(&global, &settings).unwrap()
    }

    #[test]
    fn the_address_is_found_in_order() {
        let data = tempfile::tempdir().unwrap();
        let all = [
            ("CEDARGATE_URL", "http://a:1/"),
            ("ORCHESTRATOR_URL", "http://b:2"),
        ];
        assert_eq!(
            find(Some("http://c:3"), &all, data.path()).url,
            "http://c:3"
        );
        assert_eq!(find(None, &all, data.path()).url, "http://a:1");
        assert_eq!(find(None, &all[1..], data.path()).url, "http://b:2");
        assert_eq!(find(None, &[], data.path()).url, DEFAULT_URL);
    }

    #[test]
    fn the_data_folders_token_stays_on_this_machine() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(
            find(None, &[], data.path()).token,
            TokenSource::None(_)
        ));
        std::fs::write(data.path().join("admin-token"), "cgu_x\n").unwrap();
        for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
            assert!(
                matches!(
                    find(Some(url), &[], data.path()).token,
                    TokenSource::AdminToken(_)
                ),
                "{url}"
            );
        }
        for url in [
            "http://10.0.0.1:1",
            "http://localhost.example:1",
            "http://127.0.0.1.example:1",
        ] {
            assert!(
                matches!(
                    find(Some(url), &[], data.path()).token,
                    TokenSource::None(_)
                ),
                "{url}"
            );
            let remote = find(Some(url), &[("CEDARGATE_TOKEN", "cgu_y")], data.path());
            assert_eq!(remote.token, TokenSource::Variable);
        }
    }
}

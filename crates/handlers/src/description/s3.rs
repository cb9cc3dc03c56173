//! Of kind `s3`: where the objects are, and what agents may do with them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Argument, Command};

/// What every service of this kind can do.
const COMMANDS: &str = include_str!("../s3/commands.toml");

/// The table `[s3]`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Table {
    /// Where it is: `https://s3.example.com`, or a host.
    pub(crate) address: Setting,
    /// Of a host alone: the environment variable with its port.
    pub(crate) port_variable: Option<String>,
    /// Of a host alone: the environment variable that says whether to use TLS.
    pub(crate) tls_variable: Option<String>,
    /// Where agents reach it, if elsewhere: what `get-url` answers begins with it.
    pub(crate) public_address: Option<Setting>,
    pub(crate) region: Setting,
    /// `path` (`/bucket/key`) or `host` (`bucket.host/key`).
    pub(crate) style: Setting,
    /// The environment variable with the access key.
    pub(crate) access_key_variable: String,
    /// The environment variable with its secret.
    pub(crate) secret_key_variable: String,
    /// The environment variable with the token of temporary credentials.
    pub(crate) session_token_variable: Option<String>,
    /// The buckets that there are for agents, separated by commas: `assets` is a whole one,
    /// `shared/agents` what is in the bucket `shared` below `agents/`.
    pub(crate) buckets: Setting,
    /// The types that may be uploaded, separated by commas: `image/*,application/pdf`.
    pub(crate) types: Setting,
    /// The largest object that may be uploaded.
    pub(crate) max_upload_mib: Setting,
    /// The longest that a URL is good for, which is also how long one is good for unless
    /// less is asked for.
    pub(crate) presign_seconds: Setting,
    /// What an agent gets of an object at once.
    #[serde(default = "quarter_of_a_mebibyte")]
    pub(crate) max_download_bytes: usize,
    /// The commands that there are; all when empty.
    #[serde(default)]
    pub(crate) commands: Vec<String>,
}

const fn quarter_of_a_mebibyte() -> usize {
    256 << 10
}

/// A value that is configured.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    /// The environment variable that holds it.
    pub(crate) variable: Option<String>,
    /// What it is when the variable is not set.
    pub(crate) default: Option<String>,
}

/// The commands of this kind, and the arguments that they share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    pub(super) groups: BTreeMap<String, Vec<Argument>>,
    pub(super) commands: Vec<Command>,
}

impl S3Table {
    /// Every command of this kind.
    pub(super) fn every_command() -> Result<Commands, String> {
        let mut every: Commands =
            toml::from_str(COMMANDS).map_err(|error| format!("s3/commands.toml: {error}"))?;
        for command in &mut every.commands {
            // What it answers is an object, whatever is in it.
            command.answer.merge = true;
        }
        Ok(every)
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let settings = [
            ("address", Some(&self.address)),
            ("public_address", self.public_address.as_ref()),
            ("region", Some(&self.region)),
            ("style", Some(&self.style)),
            ("buckets", Some(&self.buckets)),
            ("types", Some(&self.types)),
            ("max_upload_mib", Some(&self.max_upload_mib)),
            ("presign_seconds", Some(&self.presign_seconds)),
        ];
        for (name, setting) in settings {
            if setting
                .is_some_and(|setting| setting.variable.is_none() && setting.default.is_none())
            {
                return Err(format!("`{name}` needs a `variable` or a `default`"));
            }
        }
        // Base64 makes it a third longer, and an agent's context is no place for more.
        if !(1..=4 << 20).contains(&self.max_download_bytes) {
            return Err("`max_download_bytes` is not between 1 and 4 MiB".to_owned());
        }
        Ok(())
    }
}

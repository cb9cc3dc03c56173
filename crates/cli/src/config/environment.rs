//! The environment variables that the process was started with.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{ConfigError, Origin, secret};

/// A copy of the environment variables, taken once. Tests make their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
        }
    }

    /// Those given.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// The same, with one more or another value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// A variable's value; an empty one counts as not set.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.variables.get(&OsString::from(name)) {
            Some(value) if !value.is_empty() => value
                .to_str()
                .map(|value| Some(value.to_owned()))
                .ok_or_else(|| ConfigError::Value {
                    origin: Origin::Variable(name.to_owned()),
                    message: "not valid UTF-8".to_owned(),
                }),
            _ => Ok(None),
        }
    }

    /// A variable's value; or the text of the file that `<name>_FILE` names; or what the
    /// command `<name>_COMMAND` prints; or the credential of this name that systemd hands
    /// over. Without the line feed at its end.
    ///
    /// Runs that command and waits for it, up to ten seconds.
    ///
    /// # Errors
    ///
    /// When more than one is set; when the file cannot be read or the command fails; when
    /// what they hold is empty or larger than 64 KiB.
    pub fn resolve(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let [file, command] = [format!("{name}_FILE"), format!("{name}_COMMAND")];
        match (self.get(name)?, self.get(&file)?, self.get(&command)?) {
            (None, None, None) => self.handed_over(name),
            (Some(value), None, None) => Ok(Some(value)),
            (None, Some(path), None) => {
                secret::of_file(Path::new(&path), &Origin::Variable(file)).map(Some)
            }
            (None, None, Some(line)) => {
                secret::of_command(&line, &Origin::Variable(command)).map(Some)
            }
            _ => Err(ConfigError::Missing(format!(
                "only one of {name}, {file} and {command} may be set; unset the others"
            ))),
        }
    }

    /// Whether it takes a command to know what `name` is.
    #[must_use]
    pub fn takes_command(&self, name: &str) -> bool {
        let variable = OsString::from(format!("{name}_COMMAND"));
        self.variables
            .get(&variable)
            .is_some_and(|line| !line.is_empty())
    }

    /// The credential that systemd hands over in a file of this name
    /// (`LoadCredential=GITHUB_PAT:/etc/…`).
    fn handed_over(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(folder) = self.get("CREDENTIALS_DIRECTORY")? else {
            return Ok(None);
        };
        let path = Path::new(&folder).join(name);
        if !path.is_file() {
            return Ok(None);
        }
        secret::of_file(&path, &Origin::Variable(name.to_owned())).map(Some)
    }
}

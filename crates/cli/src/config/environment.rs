//! The environment variables that the process was started with.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{ConfigError, Origin};

/// No secret is longer; a file that is longer was named by mistake.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

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

    /// A variable's value, or the text of the file that `<name>_FILE` names, or of the
    /// credential of this name that systemd hands over, without the line feed at its end.
    ///
    /// # Errors
    ///
    /// When both are set, or the file cannot be read, is empty or is larger than 64 KiB.
    pub fn get_or_file(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let file_name = format!("{name}_FILE");
        match (self.get(name)?, self.get(&file_name)?) {
            (Some(_), Some(_)) => Err(ConfigError::Missing(format!(
                "{name} and {file_name} are both set; unset one"
            ))),
            (None, Some(path)) => {
                secret_file(Path::new(&path), &Origin::Variable(file_name)).map(Some)
            }
            (Some(value), None) => Ok(Some(value)),
            (None, None) => self.handed_over(name),
        }
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
        secret_file(&path, &Origin::Variable(name.to_owned())).map(Some)
    }
}

/// The text of a file that holds a secret.
pub(super) fn secret_file(path: &Path, origin: &Origin) -> Result<String, ConfigError> {
    let wrong = |message: String| ConfigError::Value {
        origin: origin.clone(),
        message,
    };
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(format!("`{shown}` cannot be read: {error}")))?
        .len();
    if size > MAX_SECRET_BYTES {
        return Err(wrong(format!(
            "`{shown}` is larger than 64 KiB; is it the right file?"
        )));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("`{shown}` cannot be read: {error}")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(wrong(format!("`{shown}` is empty")));
    }
    Ok(text.to_owned())
}

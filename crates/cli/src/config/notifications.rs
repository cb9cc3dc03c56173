//! How people are told what waits for them.

use orchestrator::notifications::{self, Smtp, SmtpError};
use secrecy::ExposeSecret;

use super::{
    ConfigError, Settings,
    value::{names, text},
};

/// A shorter key could be guessed.
const MIN_SECRETS_KEY_CHARS: usize = 32;

/// No certificate authority's file is larger.
const MAX_AUTHORITY_BYTES: u64 = 1024 * 1024;

/// What the settings say.
pub(super) fn read(settings: &Settings) -> Result<notifications::Settings, ConfigError> {
    let secrets_key = settings.secret("orchestrator.secrets_key_file")?;
    if let Some(key) = &secrets_key
        && key.expose_secret().len() < MIN_SECRETS_KEY_CHARS
    {
        return Err(ConfigError::Missing(format!(
            "CEDARGATE_SECRETS_KEY is shorter than {MIN_SECRETS_KEY_CHARS} characters; \
             make a good one with `cedargate tokens generate`"
        )));
    }
    let from = settings.optional("orchestrator.smtp_from", text)?;
    let authority = settings
        .path("orchestrator.smtp_ca_file")?
        .map(|path| {
            let wrong = |why: String| {
                ConfigError::Missing(format!(
                    "CEDARGATE_SMTP_CA_FILE: `{}` cannot be read: {why}",
                    path.display()
                ))
            };
            let size = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
            if size.len() > MAX_AUTHORITY_BYTES {
                return Err(wrong("it is larger than 1 MiB".to_owned()));
            }
            std::fs::read(&path).map_err(|error| wrong(error.to_string()))
        })
        .transpose()?;
    let smtp = match (settings.secret("orchestrator.smtp_url_file")?, from) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(ConfigError::Missing(
                "CEDARGATE_SMTP_FROM is not set: whom is e-mail from?".to_owned(),
            ));
        }
        (Some(url), Some(from)) => Some(Smtp::parse(&url, &from, authority).map_err(|error| {
            let name = match error {
                SmtpError::From => "CEDARGATE_SMTP_FROM",
                SmtpError::Address | SmtpError::LoginInTheClear => "CEDARGATE_SMTP_URL",
            };
            ConfigError::Missing(format!("{name}: {error}"))
        })?),
    };
    let private_hosts = settings
        .optional("orchestrator.notification_private_hosts", names)?
        .unwrap_or_default();
    Ok(notifications::Settings {
        secrets_key,
        smtp,
        private_hosts,
    })
}

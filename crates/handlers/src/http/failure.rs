//! Failures: what a service's refusal means, in words that hold no secret.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{HttpService, mask, scrub::Scrubber};
use crate::{HandlerError, description::Meaning};

/// Longer messages are cut, in characters.
const LONGEST_MESSAGE: usize = 600;

/// Nobody is asked to wait longer than this, in seconds.
const LONGEST_WAIT: u64 = 3600;

impl HttpService {
    pub(super) fn failed(&self, message: String) -> HandlerError {
        HandlerError::Failed {
            service: self.name.to_string(),
            message,
        }
    }

    pub(super) fn timed_out(&self, after: Duration) -> HandlerError {
        HandlerError::Timeout {
            service: self.name.to_string(),
            after,
        }
    }

    /// No answer came, within `after` at the latest.
    pub(super) fn transport(
        &self,
        error: &reqwest::Error,
        scrubber: &Scrubber,
        after: Duration,
    ) -> HandlerError {
        let service = self.name.to_string();
        if error.is_connect() {
            let cause = scrubber.text(&innermost(error));
            let variable = &self.address.variable;
            return HandlerError::Unreachable {
                service,
                reason: format!("{cause}; is `{variable}` right, and is it running?"),
            };
        }
        if error.is_timeout() {
            return self.timed_out(after);
        }
        // The URL is left out: it holds arguments.
        let cause = scrubber.text(&innermost(error));
        HandlerError::Broken {
            service,
            reason: cause,
        }
    }

    /// The service answered that it did not do it.
    pub(super) fn failure(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        scrubber: &Scrubber,
    ) -> HandlerError {
        let service = self.name.to_string();
        let code = status.as_u16();
        // What a failing service says may hold anything of its inside.
        if status.is_server_error() {
            return self.failed(format!("it answered with status {code}"));
        }
        if status.is_redirection() {
            let variable = &self.address.variable;
            return self.failed(format!("it redirects (status {code}), which is not followed; is `{variable}` its final address?"));
        }
        let message = message(body, scrubber);
        let said = message.as_deref().unwrap_or("it gave no reason");
        let rule = self.rules.iter().find(|rule| {
            rule.status == code && said.to_lowercase().contains(&rule.contains.to_lowercase())
        });
        if let Some(rule) = rule {
            let message = format!("{said} ({})", rule.advice);
            return match rule.means {
                Meaning::Credential => HandlerError::Credential {
                    service,
                    // As below: its own words could hold a credential.
                    reason: if code == 403 {
                        message
                    } else {
                        rule.advice.clone()
                    },
                },
                Meaning::NotFound => HandlerError::NotFound { service, message },
                Meaning::TooMany => HandlerError::TooMany {
                    service,
                    retry_after: retry_after(headers),
                },
                Meaning::Rejected => HandlerError::Rejected {
                    service,
                    status: code,
                    message,
                },
            };
        }
        match code {
            // Its own words are left out: here they may hold a part of the credential, or
            // another that would be right, and they tell nothing more.
            401 => HandlerError::Credential {
                service,
                reason: format!(
                    "401: {} is wrong, expired or revoked",
                    self.credential_variables()
                ),
            },
            403 => {
                let variables = self.credential_variables();
                let reason = format!(
                    "{said} (403: {variables} lacks a permission, or this address may not use the API)"
                );
                HandlerError::Credential { service, reason }
            }
            404 => HandlerError::NotFound {
                service,
                message: said.to_owned(),
            },
            429 => HandlerError::TooMany {
                service,
                retry_after: retry_after(headers),
            },
            _ => HandlerError::Rejected {
                service,
                status: code,
                message: said.to_owned(),
            },
        }
    }
}

impl HttpService {
    /// The service said with a good status that it did not do it.
    pub(super) fn refused(
        &self,
        status: StatusCode,
        body: &[u8],
        scrubber: &Scrubber,
    ) -> HandlerError {
        HandlerError::Rejected {
            service: self.name.to_string(),
            status: status.as_u16(),
            message: message(body, scrubber).unwrap_or_else(|| "it gave no reason".to_owned()),
        }
    }
}

/// When the service wants to be asked again, in seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

/// The cause behind all others.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a JSON answer says of itself: `message` or `error`, `warning`, and `errors` by field.
/// Never the body as it is.
fn message(body: &[u8], scrubber: &Scrubber) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Object(inner) => inner.get("message")?.as_str().map(str::to_owned),
        _ => None,
    };
    let mut parts: Vec<String> = text("message")
        .or_else(|| text("error"))
        .or_else(|| text("detail"))
        .into_iter()
        .chain(text("warning"))
        .collect();
    match value.get("errors") {
        Some(Value::Object(fields)) => {
            for (field, problems) in fields {
                let problems: Vec<&str> = match problems {
                    Value::Array(problems) => problems.iter().filter_map(Value::as_str).collect(),
                    Value::String(problem) => vec![problem],
                    _ => Vec::new(),
                };
                parts.push(format!("{field}: {}", problems.join(" ")));
            }
        }
        Some(Value::Array(problems)) => {
            let texts = problems.iter().filter_map(|problem| {
                problem
                    .as_str()
                    .or_else(|| problem.get("message")?.as_str())
            });
            parts.extend(texts.map(str::to_owned));
        }
        _ => {}
    }
    let said = parts
        .iter()
        .map(|part| part.trim().trim_end_matches('.'))
        .filter(|part| !part.is_empty());
    // Secrets that are known, and what looks like one that is not.
    let said = mask::text(&scrubber.text(&said.collect::<Vec<_>>().join("; ")));
    // One line of a bounded length: it ends in logs.
    let said: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_MESSAGE)
        .collect();
    (!said.is_empty()).then_some(said)
}

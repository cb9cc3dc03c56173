//! Failures: what a server's refusal means, in words that hold no secret.

use authz::Timestamp;
use http::{HeaderMap, StatusCode, header};

use super::{S3Service, settings::Ready, xml};
use crate::{
    HandlerError,
    http::{
        failure::{innermost, retry_after},
        mask,
    },
};

/// Longer messages are cut, in characters.
const LONGEST_MESSAGE: usize = 600;

/// Clocks that differ by less are not what a server complains of; in seconds.
const NOTABLE_SKEW: u64 = 240;

impl S3Service {
    pub(super) fn failed(&self, message: impl Into<String>) -> HandlerError {
        HandlerError::Failed {
            service: self.name.to_string(),
            message: message.into(),
        }
    }

    pub(super) fn rejected(&self, status: u16, message: impl Into<String>) -> HandlerError {
        HandlerError::Rejected {
            service: self.name.to_string(),
            status,
            message: message.into(),
        }
    }

    pub(super) fn timed_out(&self) -> HandlerError {
        HandlerError::Timeout {
            service: self.name.to_string(),
            after: self.timeout,
        }
    }

    pub(super) fn broken(&self, reason: impl Into<String>) -> HandlerError {
        HandlerError::Broken {
            service: self.name.to_string(),
            reason: reason.into(),
        }
    }

    /// No answer came.
    pub(super) fn transport(&self, error: &reqwest::Error, ready: &Ready) -> HandlerError {
        // The URL is left out: it holds arguments.
        let cause = ready.scrubber.text(&innermost(error));
        if error.is_connect() {
            return HandlerError::Unreachable {
                service: self.name.to_string(),
                reason: format!("{cause}; is {} right, and is it running?", self.address()),
            };
        }
        if error.is_timeout() {
            return self.timed_out();
        }
        self.broken(cause)
    }

    /// The server answered that it did not do it.
    pub(super) fn failure(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        ready: &Ready,
        now: Timestamp,
    ) -> HandlerError {
        let service = self.name.to_string();
        let said = xml::parse(body)
            .ok()
            .filter(|answer| answer.name == "Error");
        let field = |name: &str| said.as_ref().and_then(|said| said.text(name));
        let code = field("Code")
            .filter(|code| is_code(code))
            .unwrap_or_default();
        let message = |fallback: &str| {
            let text = field("Message").unwrap_or(fallback);
            let text = mask::text(&ready.scrubber.text(text.trim().trim_end_matches('.')));
            let text: String = text
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(LONGEST_MESSAGE)
                .collect();
            if code.is_empty() {
                text
            } else {
                format!("{text} ({code})")
            }
        };
        let credential = |reason: String| HandlerError::Credential {
            service: service.clone(),
            reason,
        };
        if status.is_redirection() {
            return self.failed(self.elsewhere(status, headers));
        }
        if code == "RequestTimeTooSkewed"
            || status == StatusCode::FORBIDDEN && skew(headers, now).is_some()
        {
            return credential(skewed(headers, now));
        }
        let keys = &self.table;
        let variables = format!(
            "`{}` or `{}`",
            keys.access_key_variable, keys.secret_key_variable
        );
        match code {
            "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "InvalidClientTokenId" => {
                return credential(format!("{variables} is wrong or revoked ({code})"));
            }
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                let name = keys.session_token_variable.as_deref();
                let name = name.unwrap_or("the session token");
                return credential(format!("`{name}` is wrong or has expired ({code})"));
            }
            "AuthorizationHeaderMalformed" => {
                let region = field("Region").filter(|region| is_code(region));
                let expected = region.map_or_else(String::new, |region| {
                    format!("; the service expects `{region}`")
                });
                return credential(format!("is its region right{expected} ({code})"));
            }
            "SlowDown" | "TooManyRequests" | "ServiceUnavailable" if !status.is_success() => {
                return HandlerError::TooMany {
                    service,
                    retry_after: retry_after(headers),
                };
            }
            "EntityTooLarge" => return self.rejected(413, message("it is too large")),
            _ => {}
        }
        match status.as_u16() {
            401 => credential(format!("401: {variables} is wrong or revoked")),
            403 => credential(format!(
                "{} (403: the key of {variables} may not do this, or is wrong)",
                message("access denied")
            )),
            404 => HandlerError::NotFound {
                service,
                message: message("there is no such bucket or object"),
            },
            412 => self.rejected(
                409,
                message("it is there already, or was changed meanwhile"),
            ),
            429 => HandlerError::TooMany {
                service,
                retry_after: retry_after(headers),
            },
            501 => self.rejected(400, message("the server does not know how to")),
            code @ 400..=499 => self.rejected(code, message("it gave no reason")),
            // What a failing server says may hold anything of its inside.
            code => self.failed(format!("it answered with status {code}")),
        }
    }

    /// Redirects are not followed: the signature is good for one host alone.
    fn elsewhere(&self, status: StatusCode, headers: &HeaderMap) -> String {
        let region = headers
            .get("x-amz-bucket-region")
            .and_then(|value| value.to_str().ok())
            .filter(|region| is_code(region));
        let hint = match region {
            Some(region) => format!("the bucket is in the region `{region}`"),
            None => format!(
                "is {} its final address, and the region right?",
                self.address()
            ),
        };
        format!(
            "it redirects (status {}), which is not followed; {hint}",
            status.as_u16()
        )
    }
}

/// A word that a server made up, fit for a message.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// How many seconds our clock is ahead of the server's, if that is notable.
fn skew(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let ahead = now.as_millis() / 1000 - date.timestamp().as_second();
    (ahead.unsigned_abs() > NOTABLE_SKEW).then_some(ahead)
}

fn skewed(headers: &HeaderMap, now: Timestamp) -> String {
    match skew(headers, now) {
        Some(ahead) => format!(
            "the gateway's clock is {} minutes {} the service's: set it right (RequestTimeTooSkewed)",
            ahead.unsigned_abs().div_ceil(60),
            if ahead > 0 { "ahead of" } else { "behind" }
        ),
        None => "the clocks of gateway and service differ: set them right (RequestTimeTooSkewed)"
            .to_owned(),
    }
}

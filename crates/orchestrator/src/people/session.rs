//! Sessions: begun at a login, carried in a cookie, renewed when somebody proves more.

use std::{net::IpAddr, time::Duration};

use authz::{SessionId, Timestamp, UserId};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use serde_json::json;
use store::{
    Actor,
    sessions::{Credential, Method, Session},
};

use crate::{
    Orchestrator,
    authenticate::{Person, Via},
    credential::{self, Digest},
    error::Error,
    peer,
};

/// The cookie's name, where it may travel without TLS.
const COOKIE: &str = "cedargate_session";

/// Where it may not: browsers take such a cookie from us alone, for all our paths, and
/// never from a neighbour under the same domain.
pub(crate) const HOST_COOKIE: &str = "__Host-cedargate_session";

/// What a browser says of itself is kept so far.
const MAX_BROWSER_CHARS: usize = 200;

/// Whether people reach us by TLS.
pub(crate) fn is_secure(orchestrator: &Orchestrator) -> bool {
    orchestrator.inner.config.public_url.starts_with("https://")
}

/// The cookie of a browser's session.
pub(crate) fn cookie_name(orchestrator: &Orchestrator) -> &'static str {
    if is_secure(orchestrator) {
        HOST_COOKIE
    } else {
        COOKIE
    }
}

/// The one value of a cookie that a browser sends. Two are none: one of them is not ours.
pub(crate) fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(|(known, value)| (known == name && !value.is_empty()).then_some(value));
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

/// A cookie for all our paths. No value and no time takes it away.
pub(crate) fn cookie(
    orchestrator: &Orchestrator,
    name: &str,
    value: &str,
    lifetime: Duration,
) -> Result<HeaderValue, Error> {
    let secure = if is_secure(orchestrator) {
        "; Secure"
    } else {
        ""
    };
    let seconds = lifetime.as_secs();
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    let mut cookie = HeaderValue::from_str(&text).map_err(|error| Error::Bug(error.to_string()))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// Who stands at the door, before they are known.
pub(crate) struct Visit {
    /// From where they come.
    pub(crate) from: Option<IpAddr>,
    /// What their browser says it is.
    pub(crate) browser: String,
    /// Who they are by the session that they have, if any.
    pub(crate) person: Option<Person>,
}

impl FromRequestParts<Orchestrator> for Visit {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let person = match Person::from_request_parts(parts, orchestrator).await {
            Ok(person) => (person.via == Via::Session).then_some(person),
            Err(Error::Unauthenticated) => None,
            Err(error) => return Err(error),
        };
        let browser = parts
            .headers
            .get(header::USER_AGENT)
            .map(|browser| String::from_utf8_lossy(browser.as_bytes()))
            .unwrap_or_default()
            .chars()
            .take(MAX_BROWSER_CHARS)
            .collect();
        let proxies = &orchestrator.inner.config.trusted_proxies;
        Ok(Self {
            from: peer::address(&parts.extensions, &parts.headers, proxies),
            browser,
            person,
        })
    }
}

impl Visit {
    /// Begins a session for somebody who proved who they are, in place of the one that
    /// they had, and gives back its cookie. It does not outlive `until`.
    pub(crate) async fn begin(
        &self,
        orchestrator: &Orchestrator,
        user: &UserId,
        method: Method,
        until: Option<Timestamp>,
        confirmed: Option<Timestamp>,
    ) -> Result<HeaderValue, Error> {
        let config = &orchestrator.inner.config.people;
        let now = orchestrator.now();
        let lifetime = until.map_or(config.session_lifetime, |until| {
            config.session_lifetime.min(until.since(now))
        });
        let text = credential::session();
        let session = Session {
            id: SessionId::generate(now),
            digest: Digest::of(&text).hex(),
            method,
            address: self.from.map(|from| from.to_string()),
            browser: self.browser.clone(),
            created: now,
            expires: now.plus(lifetime),
            idle: config.session_idle,
            last_used: now,
            confirmed,
        };
        let before = self.person.as_ref().and_then(|person| {
            match (&person.user.id == user, person.credential) {
                (true, Credential::Session(session)) => Some(session),
                _ => None,
            }
        });
        let actor = Actor {
            user: Some(user.clone()),
            via: "ui",
            from: self.from,
            at: now,
        };
        orchestrator
            .store()
            .begin_session(user, &session, before, &actor)
            .await?;
        // Somebody else's session on the same browser ends as well: the cookie is gone.
        if let Some(other) = self
            .person
            .as_ref()
            .filter(|person| &person.user.id != user)
        {
            end(orchestrator, other, "logout").await?;
        }
        tracing::info!(
            user = %user,
            session = %session.id,
            method = method.as_str(),
            from = self.from.map(tracing::field::display),
            "login"
        );
        cookie(orchestrator, cookie_name(orchestrator), &text, lifetime)
    }

    /// Whether they may try to log in.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyTries`].
    pub(crate) fn may_try(&self, orchestrator: &Orchestrator) -> Result<(), Error> {
        orchestrator
            .inner
            .people
            .limit
            .check(self.from, orchestrator.now())
            .map_err(|wait| {
                tracing::warn!(
                    from = self.from.map(tracing::field::display),
                    "login_limited"
                );
                Error::TooManyTries(wait)
            })
    }

    /// Counts and records a login that failed. What was tried is not recorded: it may be
    /// a secret with a slip in it.
    pub(crate) async fn refused(&self, orchestrator: &Orchestrator, method: &str, why: &str) {
        let now = orchestrator.now();
        let limit = &orchestrator.inner.people.limit;
        limit.failed(self.from, now);
        tracing::warn!(
            method,
            why,
            from = self.from.map(tracing::field::display),
            "login_refused"
        );
        let Some(left_out) = limit.record(now) else {
            return;
        };
        let actor = Actor {
            user: None,
            via: "ui",
            from: self.from,
            at: now,
        };
        let left_out = (left_out > 0).then_some(left_out);
        let details = json!({
            "method": method,
            "why": why,
            "browser": self.browser,
            "not_recorded_before": left_out,
        });
        if let Err(error) = orchestrator
            .store()
            .note("login_refused", details, &actor)
            .await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a refused login was not recorded"
            );
        }
    }
}

/// Ends the session that a person came with. One that has ended already is fine.
pub(crate) async fn end(
    orchestrator: &Orchestrator,
    person: &Person,
    kind: &'static str,
) -> Result<(), Error> {
    let Credential::Session(session) = person.credential else {
        return Ok(());
    };
    match orchestrator
        .store()
        .end_session(&person.user.id, session, kind, &orchestrator.actor(person))
        .await
    {
        Ok(()) | Err(store::StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The next value of a session's cookie, when somebody proves more than before.
pub(crate) struct Renewal {
    text: String,
    expires: Option<Timestamp>,
}

impl Renewal {
    /// For a session; a credential in each request is not ours to change.
    pub(crate) fn of(person: &Person) -> Option<Self> {
        matches!(person.credential, Credential::Session(_)).then(|| Self {
            text: credential::session(),
            expires: person.expires,
        })
    }

    pub(crate) fn digest(&self) -> String {
        Digest::of(&self.text).hex()
    }

    /// The cookie, once the store has the digest.
    pub(crate) fn cookie(&self, orchestrator: &Orchestrator) -> Result<HeaderValue, Error> {
        let now = orchestrator.now();
        let left = self.expires.map_or(Duration::ZERO, |end| end.since(now));
        cookie(orchestrator, cookie_name(orchestrator), &self.text, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let value = |sent: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in sent {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            cookie_value(&headers, COOKIE).map(str::to_owned)
        };
        for (sent, expected) in [
            (vec!["cedargate_session=a"], Some("a")),
            (vec!["x=1; cedargate_session=a; y=2"], Some("a")),
            (vec!["cedargate_session=a; cedargate_session=a"], Some("a")),
            (vec!["cedargate_session=a; cedargate_session=b"], None),
            (vec!["cedargate_session=a", "cedargate_session=b"], None),
            (vec!["cedargate_session="], None),
            (vec!["Cedargate_session=a"], None),
            (vec!["__Host-cedargate_session=a"], None),
            (vec![], None),
        ] {
            assert_eq!(value(&sent).as_deref(), expected, "{sent:?}");
        }
    }
}

//! Who calls: a person, a gateway, or nobody.
//!
//! A handler says in its arguments whom it serves. The routes of people and gateways
//! are each behind a layer of the same extractor besides (see `api.rs`), so a handler
//! that forgets to ask is still not open to everyone.

use std::{marker::PhantomData, net::IpAddr};

use authz::{
    Timestamp, User,
    approval::{Administration, Presence, may_administer},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use store::sessions::{Credential, Method};

use crate::{Orchestrator, credential::Digest, error::Error, peer, people::session};

/// Longer than any credential of ours.
const MAX_CREDENTIAL_BYTES: usize = 256;

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By a credential in the request.
    Token,
    /// By a credential in a request that says that it comes from our command line.
    Cli,
    /// By the session of their browser.
    Session,
}

/// What a program says of itself, for the audit trail: `cli`, and anything else is `api`.
/// It proves nothing, so it can claim no other door.
const X_CEDARGATE_VIA: &str = "x-cedargate-via";

impl Via {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "api",
            Self::Cli => "cli",
            Self::Session => "ui",
        }
    }
}

/// An active user, who proved it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) user: User,
    /// What they showed.
    pub(crate) credential: Credential,
    /// What the login began with, as text: wrong codes are counted by it.
    pub(crate) origin: String,
    /// When the session began; absent where there is none.
    pub(crate) began: Option<Timestamp>,
    /// When what they showed ends.
    pub(crate) expires: Option<Timestamp>,
    /// When they last proved a second factor with it.
    pub(crate) confirmed: Option<Timestamp>,
    pub(crate) via: Via,
    /// From where, if they connected.
    pub(crate) from: Option<IpAddr>,
    /// Of the credential, to ask again whether it is good.
    digest: Digest,
}

impl Person {
    /// Who made a request with these headers.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`], also for an agent's credential and the control token.
    pub(crate) async fn from_headers(
        orchestrator: &Orchestrator,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        if headers.contains_key(header::AUTHORIZATION) {
            let token = bearer(headers).ok_or(Error::Unauthenticated)?;
            let via = match headers.get(X_CEDARGATE_VIA) {
                Some(via) if via == "cli" => Via::Cli,
                Some(_) | None => Via::Token,
            };
            return Self::from_token(orchestrator, token, via).await;
        }
        match session::cookie_value(headers, session::cookie_name(orchestrator)) {
            Some(cookie)
                if cookie.len() <= MAX_CREDENTIAL_BYTES
                    && orchestrator.inner.origins.trusts(headers) =>
            {
                Self::from_digest(orchestrator, Digest::of(cookie), Via::Session, true).await
            }
            Some(_) | None => Err(Error::Unauthenticated),
        }
    }

    /// Whose credential this is.
    pub(crate) async fn from_token(
        orchestrator: &Orchestrator,
        token: &str,
        via: Via,
    ) -> Result<Self, Error> {
        if token.is_empty() || token.len() > MAX_CREDENTIAL_BYTES {
            return Err(Error::Unauthenticated);
        }
        Self::from_digest(orchestrator, Digest::of(token), via, true).await
    }

    /// `used`: this is a use, and keeps a session from resting.
    async fn from_digest(
        orchestrator: &Orchestrator,
        digest: Digest,
        via: Via,
        used: bool,
    ) -> Result<Self, Error> {
        let (hex, now) = (digest.hex(), orchestrator.now());
        let found = match via {
            Via::Token | Via::Cli => {
                let found = orchestrator.store().user_by_token(&hex, now).await;
                found.map(|(holder, token)| Self {
                    user: holder.user,
                    credential: Credential::Token(token.id),
                    origin: token.id.to_string(),
                    began: None,
                    expires: token.expires,
                    confirmed: holder.confirmed,
                    via,
                    from: None,
                    digest,
                })
            }
            Via::Session => {
                let found = orchestrator.store().user_by_session(&hex, now, used).await;
                found.map(|(holder, session)| Self {
                    user: holder.user,
                    credential: Credential::Session(session.id),
                    origin: match session.method {
                        Method::Token(token) => token.to_string(),
                        method @ (Method::Oidc | Method::Bootstrap) => method.as_str().to_owned(),
                    },
                    began: Some(session.created),
                    expires: Some(session.expires),
                    confirmed: holder.confirmed,
                    via,
                    from: None,
                    digest,
                })
            }
        };
        match found {
            Ok(person) if person.user.active => Ok(person),
            Ok(_) | Err(store::StoreError::NotFound(_)) => Err(Error::Unauthenticated),
            Err(error) => Err(error.into()),
        }
    }

    /// When they act, and how lately they proved a second factor: for policies.
    pub(crate) fn presence(&self, orchestrator: &Orchestrator) -> Presence {
        Presence {
            now: orchestrator.now(),
            confirmed: self.confirmed,
        }
    }

    /// The same person as of now, if their credential is still good: for what stays open long.
    pub(crate) async fn again(&self, orchestrator: &Orchestrator) -> Result<Self, Error> {
        let again = Self::from_digest(orchestrator, self.digest, self.via, false).await?;
        Ok(Self {
            from: self.from,
            ..again
        })
    }

    /// Whether policy lets them do that, now.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`].
    pub(crate) fn may(
        &self,
        orchestrator: &Orchestrator,
        what: Administration,
    ) -> Result<(), Error> {
        may_administer(
            &orchestrator.in_force().set,
            &self.user,
            what,
            self.presence(orchestrator),
        )
        .map_err(Error::from)
    }
}

impl FromRequestParts<Orchestrator> for Person {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        if let Some(person) = parts.extensions.get::<Self>() {
            return Ok(person.clone());
        }
        let mut person = Self::from_headers(orchestrator, &parts.headers).await?;
        let proxies = &orchestrator.inner.config.trusted_proxies;
        person.from = peer::address(&parts.extensions, &parts.headers, proxies);
        parts.extensions.insert(person.clone());
        Ok(person)
    }
}

/// A person whom policy lets do `W`.
pub(crate) struct May<W>(pub(crate) Person, pub(crate) PhantomData<W>);

/// What a route is for.
pub(crate) trait Does {
    const WHAT: Administration;
}

macro_rules! does {
    ($($name:ident),*) => {$(
        #[doc = concat!("`Administration::", stringify!($name), "`.")]
        pub(crate) enum $name {}

        impl Does for $name {
            const WHAT: Administration = Administration::$name;
        }
    )*};
}

does!(View, ManageAgents, ManageUsers, ManagePolicies);

impl<W: Does> FromRequestParts<Orchestrator> for May<W> {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let person = Person::from_request_parts(parts, orchestrator).await?;
        person.may(orchestrator, W::WHAT)?;
        Ok(Self(person, PhantomData))
    }
}

/// A gateway: it holds the control token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatewayCaller(());

impl GatewayCaller {
    pub(crate) fn from_headers(
        orchestrator: &Orchestrator,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        match (&orchestrator.inner.control, bearer(headers)) {
            (Some(control), Some(token)) if control.matches(Digest::of(token)) => Ok(Self(())),
            (Some(_) | None, _) => Err(Error::NotAGateway),
        }
    }
}

impl FromRequestParts<Orchestrator> for GatewayCaller {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        Self::from_headers(orchestrator, &parts.headers)
    }
}

/// A gateway, or a person who may look: for what both read.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Gateway,
    Person(Box<Person>),
}

impl FromRequestParts<Orchestrator> for Reader {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        if GatewayCaller::from_headers(orchestrator, &parts.headers).is_ok() {
            return Ok(Self::Gateway);
        }
        let May(person, _) = May::<View>::from_request_parts(parts, orchestrator).await?;
        Ok(Self::Person(Box::new(person)))
    }
}

/// The one bearer credential of a request: several, or an odd one, are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

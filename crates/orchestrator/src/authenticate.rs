//! Who calls: a person, a gateway, or nobody.
//!
//! A handler says in its arguments whom it serves. The routes of people and gateways
//! are each behind a layer of the same extractor besides (see `api.rs`), so a handler
//! that forgets to ask is still not open to everyone.

use std::marker::PhantomData;

use authz::{
    Timestamp, TokenId, User,
    approval::{Administration, may_administer},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use crate::{Orchestrator, credential::Digest, error::Error};

/// The cookie of a browser's session. Its value is a credential of the user's.
pub(crate) const SESSION_COOKIE: &str = "cedargate_session";

/// Longer than any credential of ours.
const MAX_CREDENTIAL_BYTES: usize = 256;

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By a credential in the request.
    Token,
    /// By the session of their browser.
    Session,
    /// By an account elsewhere that is theirs, in a callback that was verified.
    Webhook,
}

impl Via {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "api",
            Self::Session => "ui",
            Self::Webhook => "webhook",
        }
    }
}

/// An active user, who proved it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) user: User,
    /// The credential that they used.
    pub(crate) token: TokenId,
    /// When it ends.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) via: Via,
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
            return Self::from_token(orchestrator, token, Via::Token).await;
        }
        match session(headers) {
            Some(token) if orchestrator.inner.origins.trusts(headers) => {
                Self::from_token(orchestrator, token, Via::Session).await
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
        Self::from_digest(orchestrator, Digest::of(token), via).await
    }

    /// A person for whom something else vouches: they hold no credential of ours here, so
    /// the one that is named is nobody's.
    pub(crate) fn vouched(user: User, via: Via, now: Timestamp) -> Self {
        Self {
            user,
            token: TokenId::generate(now),
            expires: None,
            via,
            digest: Digest::of(&crate::credential::random_hex()),
        }
    }

    async fn from_digest(
        orchestrator: &Orchestrator,
        digest: Digest,
        via: Via,
    ) -> Result<Self, Error> {
        match orchestrator
            .store()
            .user_by_token(&digest.hex(), orchestrator.now())
            .await
        {
            Ok((stored, token)) if stored.user.active => Ok(Self {
                user: stored.user,
                token: token.id,
                expires: token.expires,
                via,
                digest,
            }),
            Ok(_) | Err(store::StoreError::NotFound(_)) => Err(Error::Unauthenticated),
            Err(error) => Err(error.into()),
        }
    }

    /// The same person as of now, if their credential is still good: for what stays open long.
    pub(crate) async fn again(&self, orchestrator: &Orchestrator) -> Result<Self, Error> {
        Self::from_digest(orchestrator, self.digest, self.via).await
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
            orchestrator.now(),
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
        let person = Self::from_headers(orchestrator, &parts.headers).await?;
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

/// The session that a browser sends along.
pub(crate) fn session(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE && !value.is_empty()).then_some(value))
}

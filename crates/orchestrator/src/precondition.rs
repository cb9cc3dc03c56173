//! `ETag` and `If-Match` (RFC 9110, section 13.1.1): who changes something can say which
//! state of it they saw, and is told if it is another by now.
//!
//! A handler takes a [`Precondition`], checks it *under the lock of the write* against the
//! stored row's revision, and answers with [`Tagged`]. A change that would replace a whole
//! list demands one; adding and removing a single member does not, since two people who do
//! that at once lose nothing.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::openapi::{
    Object, Required,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::Type,
};

use crate::error::Error;

/// Which state something is in: its revision, which every change raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) i64);

impl Tag {
    fn text(self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// What the caller says that they saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing.
    Absent,
    /// `*`: that it exists.
    Any,
    /// One of these states, each as it was sent.
    OneOf(Vec<String>),
}

impl Precondition {
    /// Whether the caller saw the state that there is.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if they saw another.
    pub(crate) fn check(&self, current: Tag) -> Result<(), Error> {
        match self {
            Self::Absent | Self::Any => Ok(()),
            // The strong comparison: a weak tag is never equal.
            Self::OneOf(tags) if tags.contains(&current.text()) => Ok(()),
            Self::OneOf(_) => Err(Error::Changed(current.text())),
        }
    }

    /// Insists that the caller said what they saw.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsPrecondition`], with why.
    pub(crate) fn demand(&self, why: &'static str) -> Result<(), Error> {
        match self {
            Self::Absent => Err(Error::NeedsPrecondition(why)),
            Self::Any | Self::OneOf(_) => Ok(()),
        }
    }

    fn parse(headers: &axum::http::HeaderMap) -> Option<Self> {
        let mut tags = Vec::new();
        let mut any = false;
        for value in headers.get_all(header::IF_MATCH) {
            // A tag of ours holds no comma.
            for item in value.to_str().ok()?.split(',').map(str::trim) {
                let quoted = item.strip_prefix("W/").unwrap_or(item);
                match item {
                    "" => {}
                    "*" => any = true,
                    _ if quoted.len() >= 2 && quoted.starts_with('"') && quoted.ends_with('"') => {
                        tags.push(item.to_owned());
                    }
                    _ => return None,
                }
            }
        }
        match (any, tags.is_empty()) {
            (true, true) => Some(Self::Any),
            (true, false) => None,
            (false, true) if headers.contains_key(header::IF_MATCH) => None,
            (false, true) => Some(Self::Absent),
            (false, false) => Some(Self::OneOf(tags)),
        }
    }
}

impl utoipa::IntoParams for Precondition {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            ParameterBuilder::new()
                .name("If-Match")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(
                    "The `ETag` of what the caller saw: nothing is changed if it is another by now",
                ))
                .schema(Some(
                    Object::builder()
                        .schema_type(Type::String)
                        .pattern(Some(r#"^(\*|(W/)?"[^",]*"( *, *(W/)?"[^",]*")*)$"#)),
                ))
                .build(),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::parse(&parts.headers).ok_or_else(|| {
            Error::field(
                "If-Match",
                "`*`, or what an `ETag` said, such as `\"7\"`, separated by commas",
            )
        })
    }
}

/// JSON with the `ETag` of the state that it shows.
#[derive(Debug)]
pub(crate) struct Tagged<T>(pub(crate) Tag, pub(crate) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        if let Ok(tag) = HeaderValue::from_str(&self.0.text()) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    fn parsed(values: &[&str]) -> Option<Precondition> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        Precondition::parse(&headers)
    }

    #[test]
    fn a_precondition_is_read_strictly() {
        let one_of = |tags: &[&str]| {
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            Some(Precondition::OneOf(tags))
        };
        assert_eq!(parsed(&[]), Some(Precondition::Absent));
        assert_eq!(parsed(&["*"]), Some(Precondition::Any));
        assert_eq!(parsed(&["\"7\""]), one_of(&["\"7\""]));
        assert_eq!(
            parsed(&["\"7\", W/\"8\"", "\"9\""]),
            one_of(&["\"7\"", "W/\"8\"", "\"9\""])
        );
        for wrong in ["7", "\"7", "", ",", "*, \"7\"", "W/7", "\""] {
            assert_eq!(parsed(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_state_that_there_is_will_do() {
        let seven = parsed(&["\"6\", \"7\""]).unwrap();
        assert!(seven.check(Tag(7)).is_ok());
        assert!(matches!(seven.check(Tag(8)), Err(Error::Changed(_))));
        let weak = parsed(&["W/\"7\""]).unwrap();
        assert!(
            matches!(weak.check(Tag(7)), Err(Error::Changed(_))),
            "a weak tag proves nothing"
        );
        assert!(Precondition::Absent.check(Tag(7)).is_ok());
        assert!(Precondition::Absent.demand("why").is_err());
        assert!(Precondition::Any.demand("why").is_ok());
    }
}

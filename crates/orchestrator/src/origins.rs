//! Which pages of which sites may talk to us.

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::{StartError, error::Error};

/// Our own origin and those that the operator named.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// Ours first.
    named: Vec<HeaderValue>,
    /// Whether every other page may read what needs no cookie.
    any: bool,
}

impl Origins {
    pub(crate) fn new(public_url: &str, configured: &[String]) -> Result<Self, StartError> {
        let any = configured.iter().any(|origin| origin == "*");
        let named = std::iter::once(public_url)
            .chain(
                configured
                    .iter()
                    .map(String::as_str)
                    .filter(|&origin| origin != "*"),
            )
            .map(|text| origin(text).ok_or_else(|| StartError::InvalidOrigin(text.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self { named, any })
    }

    pub(crate) fn named(&self) -> &[HeaderValue] {
        &self.named
    }

    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// Whether the request's cookie may be believed: it comes from no page, from our own,
    /// or from one that the operator named.
    pub(crate) fn trusts(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => self.named.contains(origin) || is_own(headers, origin),
        }
    }

    /// Whether a browser's page may open a WebSocket.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignOrigin`].
    pub(crate) fn admits(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.any || self.trusts(headers) {
            return Ok(());
        }
        let origin = headers
            .get(header::ORIGIN)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        Err(Error::ForeignOrigin(
            origin.escape_ascii().take(200).map(char::from).collect(),
        ))
    }
}

/// Whether the origin is the host that was asked.
fn is_own(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((host, origin), (Some(host), Some((_, authority))) if authority == host)
}

/// `scheme://authority` of a URL without more than a trailing slash.
fn origin(url: &str) -> Option<HeaderValue> {
    let uri: Uri = url.trim().trim_end_matches('/').parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'))?;
    let bare = uri.path() == "/" && uri.query().is_none();
    bare.then(|| format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()))
        .and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn pages_of_other_sites_are_not_admitted() {
        let origins = Origins::new(
            "https://gate.example/",
            &["https://admin.example".to_owned()],
        )
        .unwrap();
        for (host, origin, admitted) in [
            ("10.0.0.1:9403", "", true),
            ("10.0.0.1:9403", "http://10.0.0.1:9403", true),
            ("proxy", "https://gate.example", true),
            ("proxy", "https://admin.example", true),
            ("proxy", "http://gate.example", false),
            ("proxy", "https://gate.example.evil.example", false),
            ("proxy", "null", false),
        ] {
            assert_eq!(
                origins.admits(&headers(host, origin)).is_ok(),
                admitted,
                "{origin} to {host}"
            );
        }
        let any = Origins::new("https://gate.example", &["*".to_owned()]).unwrap();
        let foreign = headers("proxy", "https://evil.example");
        assert!(
            any.admits(&foreign).is_ok() && !any.trusts(&foreign),
            "heard, but its cookie is not believed"
        );
    }

    #[test]
    fn what_is_no_origin_is_refused_at_start() {
        for text in [
            "gate.example",
            "ftp://gate.example",
            "https://gate.example/path",
            "https://a@b",
            "",
        ] {
            assert!(
                Origins::new("http://127.0.0.1:9403", &[text.to_owned()]).is_err(),
                "{text}"
            );
        }
    }
}

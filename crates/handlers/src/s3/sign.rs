//! Signatures: AWS Signature Version 4, as every S3 server checks it.

use std::collections::BTreeMap;

use authz::Timestamp;
use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret, SecretString};

use crate::http::request::ENCODED;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs.
#[derive(Debug)]
pub(super) struct Signer {
    /// It names the secret, and stands in URLs.
    pub(super) access_key: String,
    pub(super) secret_key: SecretString,
    /// Of temporary credentials.
    pub(super) session_token: Option<SecretString>,
    pub(super) region: String,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a Method,
    /// As it stands in the request, port and all.
    pub(super) host: &'a str,
    /// Percent-encoded, as it is sent.
    pub(super) path: &'a str,
    /// Not encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) at: Timestamp,
}

/// A query as it is signed and sent: encoded, and in order.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<(String, String)> = pairs
        .into_iter()
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// A path's segments, each percent-encoded.
pub(super) fn path(key: &str) -> String {
    let segments = key.split('/').map(encoded);
    segments.collect::<Vec<_>>().join("/")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

impl Signer {
    /// Adds what proves that a request is ours. All of `headers` are signed, and the body by
    /// its SHA-256; the server refuses any other.
    ///
    /// # Errors
    ///
    /// When a part of the key is not a header's value.
    pub(super) fn sign(
        &self,
        signed: Signed<'_>,
        body_sha256: &str,
        headers: &mut HeaderMap,
    ) -> Result<(), http::header::InvalidHeaderValue> {
        let (day, time) = stamp(signed.at);
        headers.insert(
            HeaderName::from_static("x-amz-date"),
            HeaderValue::try_from(&time)?,
        );
        headers.insert(
            HeaderName::from_static("x-amz-content-sha256"),
            HeaderValue::try_from(body_sha256)?,
        );
        if let Some(token) = &self.session_token {
            let mut token = HeaderValue::try_from(token.expose_secret())?;
            token.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-amz-security-token"), token);
        }
        let lines = lines(signed.host, headers);
        let query = query(signed.query.iter().copied());
        let (names, signature) = self.signature(signed, &query, &lines, body_sha256, &day, &time);
        let mut value = HeaderValue::try_from(format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            self.access_key,
            self.scope(&day),
        ))?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
        Ok(())
    }

    /// The query of a URL with which anybody may do this for so many seconds.
    pub(super) fn presign(&self, signed: Signed<'_>, seconds: u64) -> String {
        let (day, time) = stamp(signed.at);
        let credential = format!("{}/{}", self.access_key, self.scope(&day));
        let seconds = seconds.to_string();
        let mut pairs: Vec<(&str, &str)> = signed.query.to_vec();
        pairs.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &seconds),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        if let Some(token) = &self.session_token {
            pairs.push(("X-Amz-Security-Token", token.expose_secret()));
        }
        let query = query(pairs);
        let lines = lines(signed.host, &HeaderMap::new());
        let (_, signature) =
            self.signature(signed, &query, &lines, "UNSIGNED-PAYLOAD", &day, &time);
        format!("{query}&X-Amz-Signature={signature}")
    }

    /// The names of the signed headers, and the signature.
    fn signature(
        &self,
        signed: Signed<'_>,
        query: &str,
        lines: &BTreeMap<String, String>,
        body: &str,
        day: &str,
        time: &str,
    ) -> (String, String) {
        let names = lines.keys().map(String::as_str).collect::<Vec<_>>();
        let names = names.join(";");
        let mut request = format!("{}\n{}\n{query}\n", signed.method, signed.path);
        for (name, value) in lines {
            request.extend([name, ":", value, "\n"]);
        }
        request.extend(["\n", &names, "\n", body]);
        let text = format!(
            "{ALGORITHM}\n{time}\n{}\n{}",
            self.scope(day),
            sha256(request.as_bytes())
        );
        let secret = format!("AWS4{}", self.secret_key.expose_secret());
        let mut key = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            day.as_bytes(),
        );
        for part in [self.region.as_str(), "s3", "aws4_request", &text] {
            key = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
                part.as_bytes(),
            );
        }
        (names, hex::encode(key))
    }

    fn scope(&self, day: &str) -> String {
        format!("{day}/{}/s3/aws4_request", self.region)
    }
}

/// Headers as they are signed: names in order, values without the space that may get lost.
fn lines(host: &str, headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::from([("host".to_owned(), host.to_owned())]);
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let words: Vec<&str> = value.split_whitespace().collect();
        lines.insert(name.as_str().to_owned(), words.join(" "));
    }
    lines
}

/// `20261122`, and `20261122T201500Z`.
fn stamp(at: Timestamp) -> (String, String) {
    let time: String = at
        .to_string()
        .chars()
        .take("2026-11-22T20:15:00".len())
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    let day = time.chars().take(8).collect();
    (day, format!("{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of AWS's own documentation ("Signature Calculations for the
    /// Authorization Header", "Authenticating Requests: Using Query Parameters").
    fn documented() -> Signer {
        Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            region: "us-east-1".to_owned(),
        }
    }

    fn at() -> Timestamp {
        "2013-05-24T00:00:00Z".parse().unwrap()
    }

    fn signature(
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        given: &[(&'static str, &'static str)],
        body: &[u8],
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let signed = Signed {
            method,
            host: "examplebucket.s3.amazonaws.com",
            path,
            query,
            at: at(),
        };
        documented()
            .sign(signed, &sha256(body), &mut headers)
            .unwrap();
        let value = headers["authorization"].to_str().unwrap();
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        assert_eq!(
            signature(
                &Method::GET,
                "/test.txt",
                &[],
                &[("range", "bytes=0-9")],
                b""
            ),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            signature(
                &Method::PUT,
                &path("/test$file.text"),
                &[],
                &[
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY")
                ],
                b"Welcome to Amazon S3."
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature(&Method::GET, "/", &[("lifecycle", "")], &[], b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature(
                &Method::GET,
                "/",
                &[("prefix", "J"), ("max-keys", "2")],
                &[],
                b""
            ),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn temporary_credentials_go_with_their_token() {
        let key = Signer {
            session_token: Some("a/token+=".into()),
            ..documented()
        };
        let signed = Signed {
            method: &Method::GET,
            host: "localhost:9000",
            path: "/a/b",
            query: &[],
            at: at(),
        };
        let mut headers = HeaderMap::new();
        key.sign(signed, "UNSIGNED-PAYLOAD", &mut headers).unwrap();
        assert_eq!(headers["x-amz-security-token"], "a/token+=");
        assert!(headers["x-amz-security-token"].is_sensitive());
        assert!(headers["authorization"].is_sensitive());
        let value = headers["authorization"].to_str().unwrap();
        assert!(
            value.contains(
                "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"
            ),
            "{value}"
        );
        let url = key.presign(signed, 60);
        assert!(
            url.contains("X-Amz-Security-Token=a%2Ftoken%2B%3D&X-Amz-SignedHeaders=host&"),
            "{url}"
        );
    }

    #[test]
    fn a_url_is_that_of_the_documentation() {
        let signed = Signed {
            method: &Method::GET,
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            at: at(),
        };
        assert_eq!(
            documented().presign(signed, 86400),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}

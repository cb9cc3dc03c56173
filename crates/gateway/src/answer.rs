//! Answers: how JSON goes out, and what streams.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;
use serde_json::Value;
use tower::BoxError;

/// What an answer says.
pub(crate) enum Body {
    /// It is whole before it begins.
    Whole(Full<Bytes>),
    /// It comes from elsewhere, as it comes. An error ends the connection, so that nobody
    /// takes a part for the whole.
    Streamed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// One that is whole.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }

    /// One that streams.
    pub(crate) fn streamed(
        body: impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    ) -> Self {
        Self::Streamed(Box::pin(body))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Streamed(_) => "Streamed",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Streamed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A JSON answer that no cache keeps.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(body).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Vec::new()
    });
    let mut response = Response::new(Body::new(bytes.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// About how many tokens a model reads in `data`: a quarter of its bytes as JSON. An
/// estimate, and said to be one: models count differently.
pub(crate) fn tokens(data: &Value) -> usize {
    bytes(data).div_ceil(4)
}

/// About what so many tokens cost who reads them, in dollars: three for a million, as the
/// gateway before this one had it.
pub(crate) fn cost(tokens: usize) -> f64 {
    let millionths = u32::try_from(tokens.saturating_mul(3)).unwrap_or(u32::MAX);
    f64::from(millionths) / 1e6
}

/// How long `data` is as JSON.
pub(crate) fn bytes(data: &impl Serialize) -> usize {
    struct Bytes(usize);
    impl std::io::Write for Bytes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut bytes = Bytes(0);
    // Counting cannot fail, and JSON always serialises.
    let _ = serde_json::to_writer(&mut bytes, data);
    bytes.0
}

/// Adds a member to an object.
pub(crate) fn put(object: &mut Value, name: &str, member: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), member.into());
    }
}

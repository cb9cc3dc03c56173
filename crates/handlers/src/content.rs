//! Content: the bytes that come with a command and are too many to stand in it.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

/// Bytes that are read as they are needed, so that nobody holds all of them.
pub struct Content {
    /// What the sender announced, which need not be true.
    length: Option<u64>,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, ContentError>> + Send>>,
}

/// Why there is no more of a content that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The sender is gone.
    #[error("the body broke off")]
    Broken,
    /// The sender is there, and sends nothing.
    #[error("the body came too slowly")]
    Slow,
}

impl Content {
    /// From what comes; `length` is what the sender announced.
    pub fn new(
        length: Option<u64>,
        bytes: impl Stream<Item = Result<Bytes, ContentError>> + Send + 'static,
    ) -> Self {
        Self {
            length,
            bytes: Box::pin(bytes),
        }
    }

    /// What the sender announced, in bytes.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    ///
    /// See [`ContentError`]; then there is no more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        self.bytes.next().await.transpose()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

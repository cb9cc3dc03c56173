//! The events of one answer, as they come.

use std::time::Duration;

use handlers::sse::{self, Splitter};

use super::MAX_MESSAGE_BYTES;

/// A stream of events, and where to go on when it breaks off.
pub(super) struct Stream {
    response: reqwest::Response,
    splitter: Splitter,
    /// The last event that had an id: where to go on.
    pub(super) last_id: Option<String>,
    /// How long to wait before going on.
    pub(super) retry: Option<Duration>,
}

impl Stream {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            splitter: Splitter::new(MAX_MESSAGE_BYTES),
            last_id: None,
            retry: None,
        }
    }

    /// The next message; none at the end, however it came.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            while let Some(event) = self.splitter.event().ok()? {
                self.note(&event);
                let data = sse::data(&event).map(std::borrow::Cow::into_owned);
                if let Some(data) = data.filter(|data| !data.trim_ascii().is_empty()) {
                    return Some(data);
                }
            }
            let bytes = self.response.chunk().await.ok()??;
            self.splitter.push(&bytes);
        }
    }

    fn note(&mut self, event: &[u8]) {
        for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            if let Some(id) = line.strip_prefix("id:") {
                self.last_id = Some(id.strip_prefix(' ').unwrap_or(id).to_owned());
            } else if let Some(retry) = line.strip_prefix("retry:") {
                let milliseconds = retry.trim().parse().ok();
                self.retry = milliseconds.map(Duration::from_millis).or(self.retry);
            }
        }
    }
}

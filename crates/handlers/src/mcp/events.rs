//! Server-sent events, as our own client reads them: whole, one after the other, bounded.

use http_body_util::BodyExt as _;

use super::upstream::Body;
use crate::{
    HandlerError,
    sse::{self, Splitter},
};

/// The events of one answer.
pub(super) struct Events {
    body: Body,
    service: String,
    splitter: Splitter,
}

impl Events {
    /// Of at most `limit` bytes each.
    pub(super) fn new(body: Body, service: &str, limit: usize) -> Self {
        Self {
            body,
            service: service.to_owned(),
            splitter: Splitter::new(limit),
        }
    }

    /// The data of the next event that has any; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, HandlerError> {
        loop {
            let event = self
                .splitter
                .event()
                .map_err(|too_long| HandlerError::Failed {
                    service: self.service.clone(),
                    message: too_long.to_string(),
                })?;
            if let Some(event) = event {
                match sse::data(&event) {
                    Some(data) if !data.is_empty() => return Ok(Some(data.into_owned())),
                    _ => continue,
                }
            }
            match self.body.frame().await {
                // What has no end is no event.
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.splitter.push(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn read(text: &str, cut: usize) -> Vec<String> {
        let frames: VecDeque<_> = text
            .as_bytes()
            .chunks(cut)
            .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let mut events = Events::new(body, "x", 64);
        let mut read = Vec::new();
        while let Some(data) = events.next().await.unwrap() {
            read.push(String::from_utf8(data).unwrap());
        }
        read
    }

    #[tokio::test]
    async fn events_are_read_however_they_are_cut_and_their_lines_end() {
        let text = ": hello\n\nevent: message\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n\
                    retry: 5\n\ndata:{}\n\ndata\n\ndata: x\r\rdata: unfinished";
        for cut in 1..text.len() {
            assert_eq!(read(text, cut).await, ["{\"a\":\n1}", "{}", "x"], "{cut}");
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_an_error() {
        let frames = futures_util::stream::repeat_with(|| {
            Ok(Frame::data(Bytes::from_static(b"data: xxxxxxxxxxxxxxxx")))
        });
        let mut events = Events::new(Body::new(StreamBody::new(frames)), "x", 64);
        let error = events.next().await.unwrap_err();
        assert!(
            error.to_string().contains("longer than 64 bytes"),
            "{error}"
        );
    }
}

//! Server-sent events, as our own client reads them: whole, one after the other, bounded.

use http_body_util::BodyExt as _;

use super::upstream::Body;
use crate::HandlerError;

/// The events of one answer.
pub(super) struct Events {
    body: Body,
    service: String,
    /// What came and is not read yet.
    buffer: Vec<u8>,
    /// Up to where `buffer` is known to hold no end of an event.
    searched: usize,
    /// The longest event, in bytes.
    limit: usize,
    ended: bool,
}

impl Events {
    pub(super) fn new(body: Body, service: &str, limit: usize) -> Self {
        Self {
            body,
            service: service.to_owned(),
            buffer: Vec::new(),
            searched: 0,
            limit,
            ended: false,
        }
    }

    /// The data of the next event that has any; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, HandlerError> {
        loop {
            if let Some(end) = self.end_of_event() {
                let event: Vec<u8> = self.buffer.drain(..end).collect();
                self.searched = 0;
                match data(&event) {
                    Some(data) => return Ok(Some(data)),
                    None => continue,
                }
            }
            if self.buffer.len() > self.limit {
                return Err(HandlerError::Failed {
                    service: self.service.clone(),
                    message: format!("one of its events is longer than {} bytes", self.limit),
                });
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Where the first event ends: after an empty line.
    fn end_of_event(&mut self) -> Option<usize> {
        let mut at = self.searched;
        let mut line = at;
        while let Some(&byte) = self.buffer.get(at) {
            let next = match (byte, self.buffer.get(at + 1)) {
                (b'\n', _) => at + 1,
                (b'\r', Some(b'\n')) => at + 2,
                (b'\r', Some(_)) => at + 1,
                // Whether a line feed follows is not known yet.
                (b'\r', None) if !self.ended => break,
                (b'\r', None) => at + 1,
                _ => {
                    at += 1;
                    continue;
                }
            };
            if line == at {
                return Some(next);
            }
            at = next;
            line = next;
        }
        self.searched = line;
        None
    }
}

/// What the `data:` lines of one event say.
fn data(event: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(event);
    let text = text.trim_start_matches('\u{feff}');
    let mut data: Option<String> = None;
    for line in text.split(['\n', '\r']) {
        let value = match line.split_once(':') {
            Some(("data", value)) => value.strip_prefix(' ').unwrap_or(value),
            None if line == "data" => "",
            _ => continue,
        };
        match &mut data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => data = Some(value.to_owned()),
        }
    }
    data.filter(|data| !data.is_empty())
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
            read.push(data);
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

//! What an upstream answers, on its way to the client: recorded, changed where it must be,
//! ended when the agent may not have it any more.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::Stream;
use handlers::{
    HandlerError, jsonrpc,
    sse::{self, Splitter},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tower::BoxError;

use crate::{
    Gateway,
    journal::{Entry, Subject},
    limits::Charge,
    refusal::Refusal,
};

/// An answer that is under way to the client of a recorded command.
///
/// Its end is the command's outcome. What becomes of the rest when the client is gone
/// depends on the protocol: until 2025-11-25 that means nothing, so it is read to its end;
/// since then it means that the command is cancelled.
pub(crate) struct Recorded {
    /// None once it is read on elsewhere.
    inner: Option<handlers::mcp::Body>,
    record: Option<Record>,
    reads_on: bool,
    /// What came last: there a tool says whether it failed.
    last: Bytes,
}

/// What is recorded when an answer ends.
pub(crate) struct Record {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) subject: Subject,
    pub(crate) ip: std::net::IpAddr,
    pub(crate) entry: Entry,
    /// What it takes of budgets.
    pub(crate) charge: Charge,
    /// When the command came, and when it left.
    pub(crate) began: Instant,
    pub(crate) sent: Instant,
    /// Whether the upstream answered with an error of HTTP.
    pub(crate) refused: Option<http::StatusCode>,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Whether what came last of an answer, the whole of it or its last event, is a tool's result
/// that says that it failed. An answer that ends in several pieces is not put together for it.
fn tool_failed(last: &[u8]) -> bool {
    let says = |message: &[u8]| {
        let text = jsonrpc::utf8(message).ok()?;
        let result = jsonrpc::members(text).ok()?.raw("result")?;
        Some(jsonrpc::members(result).ok()?.raw("isError")? == "true")
    };
    // Seldom said, and found at a glance.
    if memchr::memmem::find(last, b"isError").is_none() {
        return false;
    }
    if last.starts_with(b"{") {
        return says(last).unwrap_or(false);
    }
    let mut splitter = Splitter::new(last.len());
    splitter.push(last);
    let events = std::iter::from_fn(|| splitter.event().ok().flatten());
    let last = events.last();
    last.and_then(|event| says(&sse::data(&event)?))
        .unwrap_or(false)
}

impl Record {
    /// Records that it ended well; `last` is what came last of the answer.
    fn whole(self, last: &[u8]) {
        let outcome = if tool_failed(last) {
            Err(HandlerError::Rejected {
                service: self.subject.command.service.to_string(),
                status: 400,
                message: "the tool says that it failed".to_owned(),
            })
        } else {
            Ok(())
        };
        self.end(outcome);
    }

    /// Records how it ended.
    pub(crate) fn end(mut self, outcome: Result<(), HandlerError>) {
        self.charge.settle(&outcome);
        let service = self.subject.command.service.to_string();
        let outcome = outcome.and(match self.refused {
            None => Ok(()),
            Some(status) => Err(HandlerError::Rejected {
                service,
                status: status.as_u16(),
                message: "the server refused the message".to_owned(),
            }),
        });
        let metrics = &self.gateway.metrics;
        metrics.carried_out(&self.subject.command, outcome.is_ok(), self.sent.elapsed());
        crate::close(self.entry, &outcome);
        let outcome = outcome.map_err(Refusal::Handler);
        crate::log(&self.subject, self.ip, &outcome, self.began.elapsed());
        drop(self.place);
    }
}

impl Recorded {
    pub(crate) fn new(inner: handlers::mcp::Body, record: Record, reads_on: bool) -> Self {
        Self {
            inner: Some(inner),
            record: Some(record),
            reads_on,
            last: Bytes::new(),
        }
    }

    /// The answer is whole.
    fn whole(&mut self) {
        if let Some(record) = self.record.take() {
            record.whole(&self.last);
        }
    }

    fn end(&mut self, outcome: Result<(), HandlerError>) {
        if let Some(record) = self.record.take() {
            record.end(outcome);
        }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = std::task::ready!(Pin::new(inner).poll_frame(context));
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                let this = &mut *self;
                if let (Some(record), Some(data)) = (&mut this.record, frame.data_ref()) {
                    record.charge.saw(data.len());
                    this.last = data.clone();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let shown = error.to_string();
                self.end(Err(error));
                Some(Err(shown.into()))
            }
            None => {
                self.whole();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map(HttpBody::size_hint)
            .unwrap_or_default()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        let rest = self.inner.take();
        if rest.as_ref().is_none_or(HttpBody::is_end_stream) {
            record.whole(&self.last);
        } else if self.reads_on
            && let Some(mut rest) = rest
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let tracker = record.gateway.under_way.clone();
            let mut last = std::mem::take(&mut self.last);
            let reading = async move {
                while let Some(frame) = rest.frame().await {
                    match frame.map(Frame::into_data) {
                        Ok(Ok(data)) => {
                            record.charge.saw(data.len());
                            last = data;
                        }
                        Ok(Err(_)) => {}
                        Err(error) => return record.end(Err(error)),
                    }
                }
                record.whole(&last);
            };
            tracker.spawn_on(reading, &runtime);
        }
        // Otherwise the entry says by itself that the outcome is not known.
    }
}

/// What is to become of an event.
pub(crate) enum Event {
    /// It goes on as it is.
    Same,
    /// This goes on in its place.
    Other(Vec<u8>),
    /// Nothing does.
    Gone,
    /// It goes on, and no later one need be looked at.
    Last,
    /// The stream ends here: what it says cannot be understood.
    Broken(String),
}

/// Looks at an event.
pub(crate) type Look = Box<dyn FnMut(&[u8]) -> Event + Send>;

/// A stream of events that are looked at one by one.
pub(crate) struct Looked<B> {
    inner: B,
    look: Look,
    splitter: Option<Splitter>,
    ended: bool,
    /// Whether what comes after the last whole event goes on. Not where something could be
    /// hidden in it.
    rest: bool,
}

impl<B> Looked<B> {
    /// Events may have at most `limit` bytes.
    pub(crate) fn new(inner: B, limit: usize, look: Look) -> Self {
        Self {
            inner,
            look,
            splitter: Some(Splitter::new(limit)),
            ended: false,
            rest: false,
        }
    }

    /// What is no whole event goes on as well.
    pub(crate) fn with_rest(mut self) -> Self {
        self.rest = true;
        self
    }
}

impl<B> Looked<B> {
    /// What goes on of what is there.
    fn take(&mut self) -> Result<Vec<u8>, BoxError> {
        let mut out = Vec::new();
        while let Some(splitter) = &mut self.splitter {
            let Some(event) = splitter.event()? else {
                break;
            };
            match (self.look)(&event) {
                Event::Same => out.extend_from_slice(&event),
                Event::Other(other) => out.extend_from_slice(&other),
                Event::Gone => {}
                Event::Last => {
                    out.extend_from_slice(&event);
                    if let Some(splitter) = self.splitter.take() {
                        out.extend_from_slice(&splitter.rest());
                    }
                }
                Event::Broken(reason) => return Err(reason.into()),
            }
        }
        Ok(out)
    }
}

impl<B> HttpBody for Looked<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let polled = std::task::ready!(Pin::new(&mut this.inner).poll_frame(context));
            let Some(splitter) = &mut this.splitter else {
                return Poll::Ready(polled);
            };
            let frame = match polled {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.ended = true;
                    // A part of an event is none, and may be of what must not be seen.
                    let rest = this.splitter.take().map(Splitter::rest).unwrap_or_default();
                    if this.rest && !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
                    }
                    return Poll::Ready(None);
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            splitter.push(&data);
            match this.take() {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// A stream that stays open, until the agent may not have it any more.
pub(crate) struct Watched<B> {
    /// Gives whole events in each frame, so that there is room for others between them.
    inner: Looked<B>,
    /// What is said besides; over when the agent may not have the stream.
    news: Option<Pin<Box<dyn Stream<Item = Bytes> + Send>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<B> Watched<B> {
    pub(crate) fn new(
        inner: Looked<B>,
        news: impl Stream<Item = Bytes> + Send + 'static,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            inner,
            news: Some(Box::pin(news)),
            _place: place,
        }
    }
}

impl<B> HttpBody for Watched<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(news) = &mut this.news else {
            return Poll::Ready(None);
        };
        match news.as_mut().poll_next(context) {
            Poll::Pending => Pin::new(&mut this.inner).poll_frame(context),
            Poll::Ready(Some(said)) => Poll::Ready(Some(Ok(Frame::data(said)))),
            Poll::Ready(None) => {
                this.news = None;
                Poll::Ready(None)
            }
        }
    }
}

/// An answer of an upstream's whose errors are anybody's.
pub(crate) struct Plain(pub(crate) handlers::mcp::Body);

impl HttpBody for Plain {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0)
            .poll_frame(context)
            .map_err(|error| error.to_string().into())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

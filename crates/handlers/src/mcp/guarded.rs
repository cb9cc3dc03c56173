//! The answer to a call of which only so many may be under way: its end frees the place, and
//! tells whether the server is well.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Body;
use crate::{
    HandlerError,
    http::resilience::{Pass, answered},
};

/// An answer under way, and its place.
pub(super) struct Guarded {
    body: Body,
    pass: Option<Pass>,
}

impl Guarded {
    pub(super) fn new(body: Body, pass: Pass) -> Self {
        Self {
            body,
            pass: Some(pass),
        }
    }

    fn ended(&mut self, outcome: Result<(), &'static str>) {
        if let Some(pass) = self.pass.take() {
            pass.ended(outcome);
        }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &polled {
            Some(Ok(_)) => {}
            None => self.ended(Ok(())),
            Some(Err(error)) => {
                let outcome = answered::<()>(&Err(error.clone()));
                self.ended(outcome);
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It did answer; that its client would not hear the end is no fault of it.
        self.ended(Ok(()));
    }
}

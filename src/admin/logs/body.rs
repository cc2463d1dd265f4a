//! The answer over plain HTTP: a body that goes on for as long as lines come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::{Look, Watch};

/// What a client is shown, as chunks of an answer's body.
pub(in crate::admin) struct LogBody(Look);

impl LogBody {
    /// The body, and what watches over whoever takes it.
    pub(in crate::admin) fn new(look: Look) -> (LogBody, Watch) {
        let watch = look.watch();
        (LogBody(look), watch)
    }
}

impl Body for LogBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lot = self.get_mut().0.poll_next(cx);
        lot.map(|lot| lot.map(|lot| Ok(Frame::data(lot.bytes))))
    }
}

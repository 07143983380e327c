//! What is left of a request's body when its answer is an error.
//!
//! Most errors are known before the body is read. A connection that is answered and closed while its client still
//! sends may lose the answer on its way, and a client that keeps connections finds this one closed at its next call.
//! So the rest is read and thrown away first, in bounds, as servers in front of the real service do.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use axum::response::Response;

/// Longest wait for the rest of a body. [ours: loopback carries the largest payload in less]
const LIMIT: Duration = Duration::from_secs(2);

/// A request's body, which comes back when it is dropped unread.
pub(super) struct Watched<B: Body + Unpin> {
    body: Option<B>,
    back: Option<oneshot::Sender<B>>,
}

/// Where an unread body comes back.
pub(super) struct Unread<B>(Option<oneshot::Receiver<B>>);

/// Watches the body of a request; one that its client sends only when it is asked for needs no watching.
pub(super) fn watch<B: Body + Unpin>(request: Request<B>) -> (Request<Watched<B>>, Unread<B>) {
    let comes = !request.body().is_end_stream() && !request.headers().contains_key(EXPECT);
    let (back, rest) = if comes {
        let (back, rest) = oneshot::channel();
        (Some(back), Some(rest))
    } else {
        (None, None)
    };
    (request.map(|body| Watched { body: Some(body), back }), Unread(rest))
}

impl<B: Body + Unpin> Unread<B> {
    /// Reads what is left before an error is answered; when that takes too long, the answer says that it is the
    /// connection's last.
    pub(super) async fn settle(self, response: &mut Response) {
        let Some(rest) = self.0.filter(|_| !response.status().is_success()) else { return };
        let read = async {
            // Nothing comes back of a body that was read to its end.
            let Ok(mut body) = rest.await else { return };
            while let Some(Ok(_)) = body.frame().await {}
        };
        if timeout(LIMIT, read).await.is_err() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Body + Unpin> Drop for Watched<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            // Nobody waits for it where the answer is no error.
            let _ = back.send(body);
        }
    }
}

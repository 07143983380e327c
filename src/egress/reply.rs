//! Answers that the listener gives in its own name: plain text that says what is wrong.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;

/// A body of an answer, its own or a streaming one.
pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// For a connection that is one too many, before anything was read of it.
pub(super) const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
     connection: close\r\ncontent-length: 53\r\n\r\nagentcore: too many connections of sessions are open\n";

/// An answer of `status` in words.
pub(super) fn plain(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(super::whole(format!("agentcore: {message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// 403.
pub(super) fn forbidden(message: &str) -> Response<Body> {
    plain(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_without_reading_tells_its_length() {
        let (head, body) = TOO_MANY.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head} {}", body.len());
    }
}

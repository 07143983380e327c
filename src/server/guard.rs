//! Who may speak to the AWS planes: programs of the emulator's own user, other users who hold its access
//! key, and no page in a browser.
//!
//! The port is on loopback, but a browser carries pages of the whole world to loopback. Such a page can
//! have a name of its own resolve to 127.0.0.1 (then `Host` is that name), and can send requests whose
//! answers it may not read (then `Origin` or `Sec-Fetch-Site` says so, or the content type is one of the
//! few that need no permission). Whatever looks like that is refused before it is routed, with an error
//! that says what was seen and what to do.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use axum::body::{Body, to_bytes};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING,
};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full};

use tokio::time::timeout;

use super::data::RequestBody;
use super::signature::{Claim, SignatureError};
use crate::model::{AccessKey, limits};
use crate::wire::error::{AwsError, ErrorKind, ValidationReason};

/// What a browser says of the page that makes a request, by the page's site and ours. [Fetch Metadata]
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Content types that a page may send anywhere without asking first. [Fetch: CORS-safelisted]
const SIMPLE_TYPES: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
/// Starts of names of headers that SDKs send and that a page may not send without asking.
const SDK_HEADERS: [&str; 2] = ["amz-sdk-", "x-amz-"];
/// As much of a caller's value as an error repeats, in characters. [ours]
const SHOWN_CHARS: usize = 100;

/// Refuses what a page in a browser may have sent.
pub(super) fn refuse_pages<B>(request: &Request<B>) -> Result<(), AwsError> {
    check(request).inspect_err(|refusal| {
        // Not louder: a page may try as often as it likes.
        tracing::debug!(method = %request.method(), path = request.uri().path(), "{}", refusal.message);
    })
}

/// The request of another user of this machine, once its signature has been verified: only who signs with the
/// emulator's access key is served.
pub(super) async fn verified(
    key: &AccessKey,
    request: Request<RequestBody>,
) -> Result<Request<RequestBody>, AwsError> {
    let (head, mut body) = request.into_parts();
    let refused = |error: SignatureError| {
        denied(format!(
            "This request of another user of this machine is refused: {error}. Sign with the access key that \
             `agentcore local env` prints to the user whose emulator this is."
        ))
    };
    let claim = Claim::read(&head, key, SystemTime::now()).map_err(refused)?;
    let mut content = bytes::Bytes::new();
    if claim.needs_body() {
        // Only for who names the key, and nobody's payload may be larger anyway.
        let limit = usize::try_from(limits::MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
        let whole = timeout(super::BODY_TIMEOUT, to_bytes(Body::new(body), limit)).await;
        let whole = whole.map_err(|_| "in time").and_then(|b| b.map_err(|_| "completely"));
        content = whole.map_err(|how| {
            let message = format!("The body, of at most {limit} bytes, was not received {how}");
            AwsError::new(ErrorKind::Validation, message)
        })?;
        body = Full::new(content.clone()).map_err(|never| match never {}).boxed_unsync();
    }
    claim.verify(&head, &content, key).map_err(refused)?;
    Ok(Request::from_parts(head, body))
}

fn check<B>(head: &Request<B>) -> Result<(), AwsError> {
    check_host(head)?;
    check_origin(head)?;
    check_content_type(head)
}

/// The names by which the caller reached us must be names of this machine's loopback. Any port will do:
/// a forwarded port (`ssh -L`, a development container) is another one, and a page cannot choose it anyway.
fn check_host<B>(head: &Request<B>) -> Result<(), AwsError> {
    let mut named = head.headers().get_all(HOST).iter();
    let (host, second) = (named.next(), named.next());
    if second.is_some() || (host.is_none() && head.version() > Version::HTTP_10) {
        let message = "An HTTP/1.1 request must have exactly one `Host` header";
        let reason = Some(ValidationReason::CannotParse);
        return Err(AwsError { reason, ..AwsError::new(ErrorKind::Validation, message) });
    }
    let wrong = host.filter(|value| !is_loopback_host(value)).map(shown);
    let wrong =
        wrong.or_else(|| head.uri().authority().filter(|a| !is_loopback(a)).map(|a| short(a.as_str())));
    match wrong {
        None => Ok(()),
        Some(host) => Err(denied(format!(
            "The host `{host}` is refused: the emulator is a loopback service and answers only to names of \
             this machine's loopback, so that no web page reaches it by a name of its own. Use the endpoint \
             that `agentcore local env` prints."
        ))),
    }
}

/// No page of another place may make requests. One that this machine serves itself may, through its own
/// server: a development server that forwards calls hands its page's headers on. `null` is refused, since
/// any page can have that origin.
fn check_origin<B>(head: &Request<B>) -> Result<(), AwsError> {
    // One walk: programs send neither, and each look for a name costs a hash of it.
    for (name, value) in head.headers() {
        if name == ORIGIN {
            let uri = value.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
            if !uri.is_some_and(|uri| uri.authority().is_some_and(is_loopback)) {
                return Err(denied(format!(
                    "The origin `{}` is refused: web pages may not use the emulator. Call it from a program, or \
                     from a server of your own that the page calls.",
                    shown(value)
                )));
            }
        } else if name == SEC_FETCH_SITE && !matches!(value.as_bytes(), b"same-origin" | b"none") {
            return Err(denied(format!(
                "A request with `Sec-Fetch-Site: {}` is refused: web pages may not use the emulator. Call it \
                 from a program, or from a server of your own that the page calls.",
                shown(value)
            )));
        }
    }
    Ok(())
}

/// A POST that changes something or runs a command must look like one that a browser would ask
/// permission for; the emulator never gives it. Payloads of invocations may be of any type, so for
/// them only host and origin count.
fn check_content_type<B>(head: &Request<B>) -> Result<(), AwsError> {
    let of_an_sdk = |name: &HeaderName| SDK_HEADERS.iter().any(|start| name.as_str().starts_with(start));
    if head.method() != Method::POST
        || head.uri().path().ends_with("/invocations")
        || head.headers().contains_key(AUTHORIZATION)
        || head.headers().keys().any(of_an_sdk)
    {
        return Ok(());
    }
    let mut types = head.headers().get_all(CONTENT_TYPE).iter().peekable();
    let message = match types.peek() {
        // Without a body there is nothing to be of a type.
        None if !has_body(head) => return Ok(()),
        None => "A request body without a content type is refused".to_owned(),
        Some(_) => match types.find(|value| is_simple(value)) {
            None => return Ok(()),
            Some(value) => format!("The content type `{}` is refused", shown(value)),
        },
    };
    Err(denied(format!(
        "{message}, because a web page could have sent it without permission. Send the header `Content-Type: \
         application/json`, as every SDK does."
    )))
}

fn has_body<B>(head: &Request<B>) -> bool {
    let empty = |value: &HeaderValue| value.as_bytes() == b"0";
    head.headers().contains_key(TRANSFER_ENCODING)
        || head.headers().get(CONTENT_LENGTH).is_some_and(|length| !empty(length))
}

fn is_simple(content_type: &HeaderValue) -> bool {
    // What cannot be read is treated as the worst: browsers read more leniently than we do.
    let Ok(text) = content_type.to_str() else { return true };
    // Parameters, and a second type after a comma, are left to the browser's own leniency.
    let essence = text.split([';', ',']).next().unwrap_or_default().trim();
    essence.is_empty() || SIMPLE_TYPES.iter().any(|simple| essence.eq_ignore_ascii_case(simple))
}

fn is_loopback_host(value: &HeaderValue) -> bool {
    // As nearly everybody writes it.
    if let Some(port) = value.as_bytes().strip_prefix(b"127.0.0.1:")
        && port.iter().all(u8::is_ascii_digit)
    {
        return true;
    }
    Authority::try_from(value.as_bytes()).is_ok_and(|authority| is_loopback(&authority))
}

/// True for addresses of loopback, `localhost`, and names below it, which are loopback's by RFC 6761.
fn is_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.strip_suffix(".localhost").is_some_and(|sub| !sub.is_empty())
}

fn denied(message: String) -> AwsError {
    AwsError::new(ErrorKind::AccessDenied, message)
}

fn shown(value: &HeaderValue) -> String {
    short(&String::from_utf8_lossy(value.as_bytes()))
}

/// A caller's own text, safe to repeat in an answer and in the log.
pub(super) fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    /// The kind of the refusal of a request to list runtimes, which has these headers.
    fn refusal(headers: &[(&str, &str)]) -> Option<ErrorKind> {
        check(&head("GET", "/runtimes/", headers)).err().map(|e| e.kind)
    }

    #[test]
    fn only_names_of_loopback_are_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:8642",
            "localhost.:1",
            "127.0.0.1:9",
            "127.9.8.7",
            "[::1]:80",
            "a.b.localhost",
        ] {
            assert_eq!(refusal(&[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            ".localhost",
            "localhost@evil.example",
            "0.0.0.0",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "[::2]",
            "[::ffff:1.2.3.4]",
            "evil@localhost",
            "",
            "localhost/",
            "localhost evil",
        ] {
            assert_eq!(refusal(&[("host", host)]), Some(ErrorKind::AccessDenied), "{host}");
        }
    }

    #[test]
    fn one_host_is_named_unless_the_protocol_is_too_old_to_know_it() {
        assert_eq!(refusal(&[]), Some(ErrorKind::Validation));
        assert_eq!(refusal(&[("host", "localhost"), ("host", "evil.example")]), Some(ErrorKind::Validation));
        let mut old = head("GET", "/runtimes/", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(check(&old).is_ok());
        // A request to a proxy names its host twice; neither may be foreign.
        let proxied = head("GET", "http://evil.example/runtimes/", &[("host", "localhost")]);
        assert_eq!(check(&proxied).unwrap_err().kind, ErrorKind::AccessDenied);
        assert!(check(&head("GET", "http://127.0.0.1:1/runtimes/", &[("host", "localhost")])).is_ok());
    }

    #[test]
    fn only_pages_of_this_machine_through_their_own_server() {
        let with = |name, value| refusal(&[("host", "localhost"), (name, value)]);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
            assert_eq!(with("origin", origin), None, "{origin}");
        }
        for origin in ["https://evil.example", "null", "", "file://", "http://localhost.evil.example:3000"] {
            assert_eq!(with("origin", origin), Some(ErrorKind::AccessDenied), "{origin}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(with("sec-fetch-site", site), None, "{site}");
        }
        for site in ["cross-site", "same-site", "", "Cross-Site"] {
            assert_eq!(with("sec-fetch-site", site), Some(ErrorKind::AccessDenied), "{site}");
        }
    }

    #[test]
    fn what_a_page_may_send_unasked_runs_nothing() {
        let post = |path: &str, more: &[(&str, &str)]| {
            let mut headers = vec![("host", "localhost"), ("content-length", "2")];
            headers.extend(more);
            check(&head("POST", path, &headers)).is_ok()
        };
        let command = "/runtimes/a/commands";
        for simple in [
            "text/plain",
            "Text/Plain;charset=utf-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            " ;",
            "text/plain, application/json",
        ] {
            assert!(!post(command, &[("content-type", simple)]), "{simple}");
            assert!(!post("/runtimes/", &[("content-type", simple)]), "{simple}");
            assert!(post("/runtimes/a/invocations", &[("content-type", simple)]), "{simple}");
            // A page that wants to send one of these must ask first, and gets no permission.
            assert!(
                post(command, &[("content-type", simple), ("authorization", "AWS4-HMAC-SHA256 x")]),
                "{simple}"
            );
            assert!(
                post(command, &[("content-type", simple), ("x-amz-date", "20260101T000000Z")]),
                "{simple}"
            );
        }
        assert!(!post(command, &[]));
        assert!(post(command, &[("content-type", "application/json")]));
        assert!(!post(command, &[("content-type", "application/json"), ("content-type", "text/plain")]));
        assert!(check(&head("POST", "/runtimes/", &[("host", "localhost")])).is_ok());
    }

    #[test]
    fn what_a_caller_wrote_is_repeated_harmlessly() {
        let origin = format!("http://{}", "x".repeat(5000));
        let error = check(&head("GET", "/", &[("host", "localhost"), ("origin", &origin)])).unwrap_err();
        assert!(error.message.len() < 400, "{}", error.message);
        assert_eq!(short("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}

//! Which headers pass between the caller, the agent and the answer.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::model::{HeaderAllowlist, SessionId, limits};

/// The session id, on requests and answers. [model]
pub(crate) const SESSION_ID: HeaderName =
    HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-session-id");
/// The request id on every answer and towards the agent. [guide]
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// X-Ray's trace id. [model]
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Headers of the caller that reach the agent when he set them, with the longest value of each. [model, observed]
const PASSED: [(HeaderName, usize); 5] =
    [(ACCEPT, 256), (CONTENT_TYPE, 256), (TRACEPARENT, 128), (TRACESTATE, 512), (BAGGAGE, 8192)];
/// Longest X-Amzn-Trace-Id. [model]
const TRACE_ID_CHARS: usize = 128;

/// The headers an agent sees of an invocation: the service's own, those of [`PASSED`] that the caller
/// set, and the allowlisted ones. Everything else is dropped. [observed]
pub(crate) fn to_agent(
    caller: &HeaderMap,
    allowlist: &HeaderAllowlist,
    session: &SessionId,
    request_id: &HeaderValue,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for (name, _) in PASSED {
        if let Some(value) = caller.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(REQUEST_ID, request_id.clone());
    headers.insert(TRACE_ID, trace_id(caller, request_id));
    if let Ok(value) = HeaderValue::from_str(session.as_str()) {
        headers.insert(SESSION_ID, value);
    }
    if !headers.contains_key(BAGGAGE)
        && let Ok(value) = HeaderValue::from_str(&format!("session.id={session}"))
    {
        headers.insert(BAGGAGE, value);
    }
    if !allowlist.is_empty() {
        for (name, value) in caller {
            let fits = value.len() <= limits::MAX_FORWARDED_HEADER_BYTES;
            if fits && !headers.contains_key(name) && allowlist.allows(name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    headers
}

/// The caller's trace id, or one made from the request id in X-Ray's form.
pub(crate) fn trace_id(caller: &HeaderMap, request_id: &HeaderValue) -> HeaderValue {
    if let Some(value) = caller.get(TRACE_ID) {
        return value.clone();
    }
    let mut text = *b"Root=1-00000000-000000000000000000000000";
    let digits = request_id.as_bytes().iter().filter(|b| b.is_ascii_hexdigit());
    for (place, digit) in text[7..].iter_mut().filter(|b| **b != b'-').zip(digits) {
        *place = *digit;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("Root=1"))
}

/// Tracing headers of the caller that an answer repeats. [model]
pub(crate) fn to_caller(caller: &HeaderMap, answer: &mut HeaderMap, request_id: &HeaderValue) {
    for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
        if let Some(value) = caller.get(&name) {
            answer.insert(name, value.clone());
        }
    }
    answer.insert(TRACE_ID, trace_id(caller, request_id));
}

/// The first header that is longer than the service model allows, with its limit.
pub(crate) fn too_long(caller: &HeaderMap) -> Option<(HeaderName, usize)> {
    let limits = PASSED.into_iter().chain([(TRACE_ID, TRACE_ID_CHARS)]);
    limits.into_iter().find(|(name, limit)| caller.get(name).is_some_and(|v| v.len() > *limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    const ID: HeaderValue = HeaderValue::from_static("0a1b2c3d-0000-4000-8000-0123456789ab");

    #[test]
    fn the_agent_sees_the_services_headers_and_nothing_else() {
        let session = SessionId::random();
        let call =
            caller(&[("authorization", "secret"), ("user-agent", "x"), ("x-api-key", "k"), ("cookie", "c")]);
        let seen = to_agent(&call, &HeaderAllowlist::default(), &session, &ID);
        assert_eq!(
            names(&seen),
            ["baggage", "x-amzn-bedrock-agentcore-runtime-session-id", "x-amzn-requestid", "x-amzn-trace-id"]
        );
        assert_eq!(seen[TRACE_ID], "Root=1-0a1b2c3d-000040008000012345678 9ab".replace(' ', "").as_str());
    }

    #[test]
    fn allowlisted_headers_pass_up_to_their_size() {
        let session = SessionId::random();
        let allow = HeaderAllowlist::new(["X-Api-Key".to_owned(), "X-Big".to_owned()]);
        let mut call = caller(&[("x-api-key", "k"), ("accept", "text/event-stream"), ("x-other", "o")]);
        call.insert("x-big", HeaderValue::from_str(&"b".repeat(4097)).unwrap());
        let seen = to_agent(&call, &allow, &session, &ID);
        assert_eq!(seen["x-api-key"], "k");
        assert_eq!(seen["accept"], "text/event-stream");
        assert!(!seen.contains_key("x-other") && !seen.contains_key("x-big"));
    }
}

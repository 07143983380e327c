//! Which headers pass between the caller, the agent and the answer.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::model::{HeaderAllowlist, limits};

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

/// Headers of the caller that reach the agent when he set them. [model, observed]
const PASSED: [HeaderName; 5] = [ACCEPT, CONTENT_TYPE, TRACEPARENT, TRACESTATE, BAGGAGE];

/// How long the value of a header may be.
pub(crate) struct Length {
    name: HeaderName,
    /// The member of the service model that the header carries.
    pub(crate) member: &'static str,
    /// Fewest characters.
    pub(crate) min: usize,
    /// Most characters.
    pub(crate) max: usize,
}

const fn length(name: &'static str, member: &'static str, min: usize, max: usize) -> Length {
    Length { name: HeaderName::from_static(name), member, min, max }
}

/// Lengths of InvokeAgentRuntime's headers. [model]
pub(crate) const INVOKE_LENGTHS: [Length; 11] = [
    length("content-type", "contentType", 1, 256),
    length("accept", "accept", 1, 256),
    length("mcp-session-id", "mcpSessionId", 1, 1024),
    length("mcp-protocol-version", "mcpProtocolVersion", 1, 1024),
    length("mcp-method", "mcpMethod", 1, 1024),
    length("mcp-name", "mcpName", 1, 1024),
    length("x-amzn-bedrock-agentcore-runtime-user-id", "runtimeUserId", 1, 1024),
    length("x-amzn-trace-id", "traceId", 0, 128),
    length("traceparent", "traceParent", 0, 128),
    length("tracestate", "traceState", 0, 512),
    length("baggage", "baggage", 0, 8192),
];
/// Lengths of InvokeAgentRuntimeCommand's headers. [model]
pub(crate) const COMMAND_LENGTHS: [Length; 6] = [
    length("content-type", "contentType", 1, 256),
    length("accept", "accept", 1, 256),
    length("x-amzn-trace-id", "traceId", 0, 1024),
    length("traceparent", "traceParent", 0, 1024),
    length("tracestate", "traceState", 0, 512),
    length("baggage", "baggage", 0, 8192),
];

/// The headers an agent sees of an invocation: the service's own, those of [`PASSED`] that the caller
/// set, and the allowlisted ones. Everything else is dropped. [observed]
pub(crate) fn to_agent(
    caller: &HeaderMap,
    allowlist: &HeaderAllowlist,
    session: &HeaderValue,
    request_id: &HeaderValue,
    trace_id: &HeaderValue,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    // One walk over what the caller sent: each look for a name costs a hash of it.
    for (name, value) in caller {
        if PASSED.contains(name) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
    headers.insert(REQUEST_ID, request_id.clone());
    headers.insert(TRACE_ID, trace_id.clone());
    headers.insert(SESSION_ID, session.clone());
    headers.entry(BAGGAGE).or_insert_with(|| {
        let text = [b"session.id=", session.as_bytes()].concat();
        // Session ids are ASCII, so this always succeeds.
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("session.id"))
    });
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
    // A request id is digits in groups, of which the first has as many as a trace id's first.
    let mut text = *b"Root=1-00000000-000000000000000000000000";
    let mut at = 7;
    for group in request_id.as_bytes().split(|byte| *byte == b'-') {
        if let Some(place) = text.get_mut(at..at + group.len()) {
            place.copy_from_slice(group);
        }
        at += group.len();
        // Past the separator of the trace id itself.
        at += usize::from(at == 15);
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("Root=1"))
}

/// Tracing headers of the caller that an answer repeats. [model]
pub(crate) fn to_caller(caller: &HeaderMap, answer: &mut HeaderMap, trace_id: HeaderValue) {
    for (name, value) in caller {
        if [TRACEPARENT, TRACESTATE, BAGGAGE].contains(name) {
            answer.entry(name).or_insert_with(|| value.clone());
        }
    }
    answer.insert(TRACE_ID, trace_id);
}

/// The first header whose value is shorter or longer than the service model allows.
pub(crate) fn wrong_length<'a>(caller: &HeaderMap, lengths: &'a [Length]) -> Option<&'a Length> {
    caller.iter().find_map(|(name, value)| {
        lengths.iter().find(|l| l.name == name && !(l.min..=l.max).contains(&value.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SessionId;

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
        let session = HeaderValue::from_str(SessionId::random().as_str()).unwrap();
        let call =
            caller(&[("authorization", "secret"), ("user-agent", "x"), ("x-api-key", "k"), ("cookie", "c")]);
        let seen = to_agent(&call, &HeaderAllowlist::default(), &session, &ID, &trace_id(&call, &ID));
        assert_eq!(
            names(&seen),
            ["baggage", "x-amzn-bedrock-agentcore-runtime-session-id", "x-amzn-requestid", "x-amzn-trace-id"]
        );
        assert_eq!(seen[TRACE_ID], "Root=1-0a1b2c3d-000040008000012345678 9ab".replace(' ', "").as_str());
    }

    #[test]
    fn allowlisted_headers_pass_up_to_their_size() {
        let session = HeaderValue::from_str(SessionId::random().as_str()).unwrap();
        let allow = HeaderAllowlist::new(["X-Api-Key".to_owned(), "X-Big".to_owned()]);
        let mut call = caller(&[("x-api-key", "k"), ("accept", "text/event-stream"), ("x-other", "o")]);
        call.insert("x-big", HeaderValue::from_str(&"b".repeat(4097)).unwrap());
        let seen = to_agent(&call, &allow, &session, &ID, &trace_id(&call, &ID));
        assert_eq!(seen["x-api-key"], "k");
        assert_eq!(seen["accept"], "text/event-stream");
        assert!(!seen.contains_key("x-other") && !seen.contains_key("x-big"));
    }

    proptest::proptest! {
        #[test]
        fn of_any_headers_the_agent_sees_the_services_and_those_on_the_list(
            sent in proptest::collection::vec(
                ("(authorization|cookie|host|accept|baggage|x-amz-date|x-amzn-trace-id|x-api-key|[a-z][a-z0-9-]{0,6})",
                 proptest::collection::vec(0x20_u8..=0xff, 0..40), proptest::bool::weighted(0.05)),
                0..12,
            ),
            listed in proptest::collection::vec("(X-Api-Key|Cookie|[A-Za-z][A-Za-z0-9_-]{0,6}|[a-z]\\*)", 0..6),
        ) {
            let mut call = HeaderMap::new();
            for (name, mut value, long) in sent {
                value.retain(|byte| *byte != 0x7f);
                if long {
                    value = vec![b'v'; limits::MAX_FORWARDED_HEADER_BYTES + 1];
                }
                call.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_bytes(&value).unwrap(),
                );
            }
            let listed_names: Vec<String> = listed.iter().map(|name| name.to_ascii_lowercase()).collect();
            let allow = HeaderAllowlist::new(listed);
            let session = HeaderValue::from_str(SessionId::random().as_str()).unwrap();
            let seen = to_agent(&call, &allow, &session, &ID, &trace_id(&call, &ID));
            let own = ["baggage", "x-amzn-bedrock-agentcore-runtime-session-id", "x-amzn-requestid", "x-amzn-trace-id"];
            for (name, value) in &seen {
                let text = name.as_str();
                let on_the_list = listed_names.iter().any(|entry| match entry.strip_suffix('*') {
                    Some(start) => text.starts_with(start),
                    None => entry == text,
                });
                proptest::prop_assert!(own.contains(&text) || PASSED.contains(name) || on_the_list, "{}", text);
                // What is not the service's own is what the caller sent, byte by byte.
                let sent = call.get_all(name).iter().any(|sent| sent == value);
                proptest::prop_assert!(sent || own.contains(&text), "{}: {:?}", text, value);
            }
            proptest::prop_assert_eq!(&seen[SESSION_ID], &session);
            proptest::prop_assert_eq!(&seen[REQUEST_ID], &ID);
            for name in own {
                proptest::prop_assert_eq!(seen.get_all(name).iter().count(), 1);
            }
        }
    }

    /// The lengths stand in the service model too; what is checked here is what it says.
    #[test]
    fn lengths_are_the_service_models() {
        use crate::wire::service_model::{INVOKE_AGENT_RUNTIME, INVOKE_AGENT_RUNTIME_COMMAND};
        use crate::wire::shape::Kind;
        let both = [
            (&INVOKE_AGENT_RUNTIME, &INVOKE_LENGTHS[..]),
            (&INVOKE_AGENT_RUNTIME_COMMAND, &COMMAND_LENGTHS[..]),
        ];
        for (operation, lengths) in both {
            let Kind::Structure { members, .. } = &operation.input().kind else { panic!("a structure") };
            for length in lengths {
                let member = members.iter().find(|m| m.name == length.member).unwrap();
                let Kind::String { min, max, .. } = member.shape().kind else { panic!("a text") };
                let found =
                    (usize::try_from(min.unwrap_or(0)).unwrap(), usize::try_from(max.unwrap()).unwrap());
                assert_eq!((length.min, length.max), found, "{}", length.member);
            }
        }
    }
}

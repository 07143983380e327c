//! Which headers pass between the caller, the agent and the answer.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use uuid::Uuid;

use crate::model::{HeaderAllowlist, limits};

/// The session id, on requests and answers. [model]
pub(crate) const SESSION_ID: HeaderName =
    HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-session-id");
/// The request id on every answer and towards the agent. [guide]
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// X-Ray's trace id. [model]
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// Digits of a trace id that are its time, in X-Ray's form; the rest is the number.
const TRACE_TIME_DIGITS: usize = 8;
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

/// A value of this many characters fits every header: most need no look at their name.
const FITS_ALL: std::ops::RangeInclusive<usize> = 1..=128;

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

/// The id of a request, of the service's form: a random UUID. [guide: x-amzn-RequestId]
#[derive(Debug, Clone)]
pub(crate) struct RequestId {
    uuid: Uuid,
    value: HeaderValue,
}

impl RequestId {
    /// A new one: a count, spread by a key that is chosen anew in each process. Nobody must be unable to guess it, so
    /// it needs no system call for randomness and no keyed hash.
    pub(crate) fn new() -> Self {
        static KEY: LazyLock<(u64, u64)> = LazyLock::new(|| Uuid::new_v4().as_u64_pair());
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (high, low) = *KEY;
        let pair = Uuid::from_u64_pair(spread(high.wrapping_add(count)), spread(low.wrapping_add(count)));
        Self::of(pair.as_u128())
    }

    fn of(bits: u128) -> Self {
        let id = uuid::Builder::from_u128(bits).with_version(uuid::Version::Random);
        let uuid = id.with_variant(uuid::Variant::RFC4122).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = uuid.hyphenated().encode_lower(&mut text);
        let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
        Self { uuid, value }
    }

    /// As a header.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The caller's trace id, or one made from this id in X-Ray's form.
    pub(crate) fn trace(&self, caller: &HeaderMap) -> HeaderValue {
        if let Some(value) = caller.get(TRACE_ID) {
            return value.clone();
        }
        let mut digits = [0; uuid::fmt::Simple::LENGTH];
        let digits = self.uuid.simple().encode_lower(&mut digits).as_bytes();
        let (time, rest) = digits.split_at(TRACE_TIME_DIGITS);
        let text = [b"Root=1-", time, b"-", rest].concat();
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("Root=1"))
    }
}

/// Spreads the bits of a number over all of them; no two numbers become the same. [SplitMix64's last step]
fn spread(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The headers by which an agent and its caller know a session, made once for many calls.
#[derive(Debug, Clone)]
pub(crate) struct SessionHeaders {
    /// The session's id.
    pub(crate) id: HeaderValue,
    baggage: HeaderValue,
}

impl SessionHeaders {
    /// Those of this session id.
    pub(crate) fn of(id: HeaderValue) -> Self {
        let text = [b"session.id=", id.as_bytes()].concat();
        // Session ids are ASCII, so this always succeeds.
        let baggage = HeaderValue::from_maybe_shared(Bytes::from(text));
        Self { id, baggage: baggage.unwrap_or(HeaderValue::from_static("session.id")) }
    }
}

/// The headers an agent sees of an invocation: the service's own, those of [`PASSED`] that the caller
/// set, and the allowlisted ones. Everything else is dropped. [observed]
pub(crate) fn to_agent(
    caller: &HeaderMap,
    allowlist: &HeaderAllowlist,
    session: &SessionHeaders,
    request_id: &RequestId,
    trace_id: &HeaderValue,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    // One walk over what the caller sent: each look for a name costs a hash of it.
    for (name, value) in caller {
        if PASSED.contains(name) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
    headers.insert(REQUEST_ID, request_id.value.clone());
    headers.insert(TRACE_ID, trace_id.clone());
    headers.insert(SESSION_ID, session.id.clone());
    headers.entry(BAGGAGE).or_insert_with(|| session.baggage.clone());
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
    caller.iter().filter(|(_, value)| !FITS_ALL.contains(&value.len())).find_map(|(name, value)| {
        lengths.iter().find(|l| l.name == name && !(l.min..=l.max).contains(&value.len()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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

    fn id() -> RequestId {
        RequestId::of(0x0a1b2c3d_0000_4000_8000_0123456789ab)
    }

    fn session() -> SessionHeaders {
        SessionHeaders::of(HeaderValue::from_str(SessionId::random().as_str()).unwrap())
    }

    fn seen(call: &HeaderMap, allow: &HeaderAllowlist, session: &SessionHeaders) -> HeaderMap {
        to_agent(call, allow, session, &id(), &id().trace(call))
    }

    #[test]
    fn request_ids_are_random_uuids_and_never_the_same() {
        let ids: HashSet<String> =
            (0..1000).map(|_| RequestId::new().value().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let uuid: Uuid = id.parse().unwrap();
            assert_eq!(uuid.get_version(), Some(uuid::Version::Random), "{id}");
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122, "{id}");
            assert_eq!(uuid.to_string(), id);
        }
    }

    #[test]
    fn the_agent_sees_the_services_headers_and_nothing_else() {
        let call =
            caller(&[("authorization", "secret"), ("user-agent", "x"), ("x-api-key", "k"), ("cookie", "c")]);
        let seen = seen(&call, &HeaderAllowlist::default(), &session());
        assert_eq!(
            names(&seen),
            ["baggage", "x-amzn-bedrock-agentcore-runtime-session-id", "x-amzn-requestid", "x-amzn-trace-id"]
        );
        assert_eq!(seen[TRACE_ID], "Root=1-0a1b2c3d-000040008000012345678 9ab".replace(' ', "").as_str());
    }

    #[test]
    fn allowlisted_headers_pass_up_to_their_size() {
        let allow = HeaderAllowlist::new(["X-Api-Key".to_owned(), "X-Big".to_owned()]);
        let mut call = caller(&[("x-api-key", "k"), ("accept", "text/event-stream"), ("x-other", "o")]);
        call.insert("x-big", HeaderValue::from_str(&"b".repeat(4097)).unwrap());
        let seen = seen(&call, &allow, &session());
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
            let session = session();
            let seen = seen(&call, &allow, &session);
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
            proptest::prop_assert_eq!(&seen[SESSION_ID], &session.id);
            proptest::prop_assert_eq!(seen[REQUEST_ID].clone(), id().value().clone());
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
                assert!(
                    length.min <= *FITS_ALL.start() && length.max >= *FITS_ALL.end(),
                    "{}",
                    length.member
                );
                let member = members.iter().find(|m| m.name == length.member).unwrap();
                let Kind::String { min, max, .. } = member.shape().kind else { panic!("a text") };
                let found =
                    (usize::try_from(min.unwrap_or(0)).unwrap(), usize::try_from(max.unwrap()).unwrap());
                assert_eq!((length.min, length.max), found, "{}", length.member);
            }
        }
    }
}

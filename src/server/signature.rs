//! Verifies AWS Signature Version 4 of requests from other users of this machine.
//!
//! A request of the emulator's own user needs no signature. Another user shows with one that he was given
//! the access key. The form is that of every SDK: a signature in `Authorization`, over a payload whose hash
//! is in `x-amz-content-sha256` or follows from the body.

use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{AUTHORIZATION, HOST, HeaderName};
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::model::AccessKey;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const PAYLOAD_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// How far a signature's time may be from now. [AWS: SigV4 requests expire after 15 minutes at most]
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);
/// What a canonical request does not escape. [AWS: SigV4, UriEncode]
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ESCAPED_IN_PATH: AsciiSet = ESCAPED.remove(b'/');

/// What is wrong with a request's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("it is not signed")]
    Missing,
    #[error("its `Authorization` is not of the form of AWS Signature Version 4")]
    Malformed,
    #[error("it is signed with another access key")]
    OtherKey,
    #[error("it was signed more than 15 minutes ago or ahead")]
    Expired,
    #[error("its signature does not match")]
    Mismatch,
}

/// A request's claim to be signed by the holder of the key; its parts have been read, nothing is proven.
pub(crate) struct Claim {
    date: String,
    scope: String,
    region: String,
    service: String,
    time: SystemTime,
    signed_headers: String,
    signature: String,
    payload_hash: Option<String>,
}

impl Claim {
    /// Reads the claim of a request; refuses one of another key before its body is looked at.
    pub(crate) fn read(head: &Parts, key: &AccessKey, now: SystemTime) -> Result<Self, SignatureError> {
        let authorization = head.headers.get(AUTHORIZATION).ok_or(SignatureError::Missing)?;
        let authorization = authorization.to_str().map_err(|_| SignatureError::Malformed)?;
        let (algorithm, fields) = authorization.split_once(' ').ok_or(SignatureError::Malformed)?;
        if algorithm != ALGORITHM {
            return Err(SignatureError::Malformed);
        }
        let field = |name: &str| {
            let mut all = fields.split(',').filter_map(|field| field.trim().split_once('='));
            all.find(|(found, _)| *found == name).map(|(_, value)| value).ok_or(SignatureError::Malformed)
        };
        let (key_id, scope) = field("Credential")?.split_once('/').ok_or(SignatureError::Malformed)?;
        if !same(key_id, &key.access_key_id) {
            return Err(SignatureError::OtherKey);
        }
        let parts: Vec<&str> = scope.split('/').collect();
        let [day, region, service, "aws4_request"] = parts[..] else { return Err(SignatureError::Malformed) };
        let date = head.headers.get(DATE).and_then(|d| d.to_str().ok()).ok_or(SignatureError::Malformed)?;
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| SignatureError::Malformed)?;
        let time = SystemTime::from(time.timestamp());
        if !date.starts_with(day) || day.len() != 8 {
            return Err(SignatureError::Malformed);
        }
        let skew = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or(Duration::MAX);
        if skew > MAX_SKEW {
            return Err(SignatureError::Expired);
        }
        let signed_headers = field("SignedHeaders")?.to_owned();
        let is_signed = |name: &HeaderName| signed_headers.split(';').any(|signed| signed == name.as_str());
        // What is not signed proves nothing: another request could be made of it.
        if !is_signed(&HOST) || !is_signed(&DATE) {
            return Err(SignatureError::Malformed);
        }
        let payload_hash = head.headers.get(PAYLOAD_HASH).filter(|_| is_signed(&PAYLOAD_HASH));
        Ok(Self {
            payload_hash: payload_hash.and_then(|hash| hash.to_str().ok()).map(str::to_owned),
            date: date.to_owned(),
            scope: scope.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            time,
            signature: field("Signature")?.to_owned(),
            signed_headers,
        })
    }

    /// True when the signature cannot be verified without the whole body.
    pub(crate) fn needs_body(&self) -> bool {
        self.payload_hash.is_none()
    }

    /// Proves the claim. `body` counts where [`Self::needs_body`].
    pub(crate) fn verify(&self, head: &Parts, body: &[u8], key: &AccessKey) -> Result<(), SignatureError> {
        let payload = self.payload_hash.clone().unwrap_or_else(|| hex(body));
        let canonical = canonical_request(head, &self.signed_headers, &payload)?;
        let to_sign = format!("{ALGORITHM}\n{}\n{}\n{}", self.date, self.scope, hex(canonical.as_bytes()));
        let secret = generate_signing_key(&key.secret_access_key, self.time, &self.region, &self.service);
        let expected = calculate_signature(secret, to_sign.as_bytes());
        if same(&expected, &self.signature) { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

fn canonical_request(head: &Parts, signed_headers: &str, payload: &str) -> Result<String, SignatureError> {
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let mut values = Vec::new();
        for value in head.headers.get_all(name) {
            let value = value.to_str().map_err(|_| SignatureError::Malformed)?;
            values.push(value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    // Every service but S3 has the path escaped once more than it is sent.
    let path = utf8_percent_encode(head.uri.path(), &ESCAPED_IN_PATH);
    let escape = |text: &str| {
        let plain = percent_decode_str(text).decode_utf8_lossy().into_owned();
        utf8_percent_encode(&plain, &ESCAPED).to_string()
    };
    let query = head.uri.query().unwrap_or_default();
    let mut query: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (escape(name), escape(value)))
        .collect();
    query.sort();
    let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let method = &head.method;
    Ok(format!("{method}\n{path}\n{}\n{headers}\n{signed_headers}\n{payload}", query.join("&")))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares without telling by its time where the first difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of AWS's published examples of signatures.
    fn example_key() -> AccessKey {
        AccessKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        }
    }

    /// 2015-08-30T12:36:00Z, the time of those examples.
    fn example_time() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn request(uri: &str, signature: &str, date: &str, key: &str) -> Parts {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let request = http::Request::builder().uri(uri).header("host", "example.amazonaws.com");
        let request = request.header("x-amz-date", date).header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    const QUERY: &str = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";

    fn verify(head: &Parts, now: SystemTime) -> Result<(), SignatureError> {
        Claim::read(head, &example_key(), now)?.verify(head, b"", &example_key())
    }

    #[test]
    fn the_published_examples_verify() {
        let date = "20150830T123600Z";
        assert_eq!(verify(&request("/", VANILLA, date, "AKIDEXAMPLE"), example_time()), Ok(()));
        let query = request("/?Param2=value2&Param1=value1", QUERY, date, "AKIDEXAMPLE");
        assert_eq!(verify(&query, example_time()), Ok(()));
    }

    #[test]
    fn what_is_not_signed_by_the_key_now_is_refused() {
        let (date, id) = ("20150830T123600Z", "AKIDEXAMPLE");
        let now = example_time();
        let other = VANILLA.replace('5', "6");
        assert_eq!(verify(&request("/", &other, date, id), now), Err(SignatureError::Mismatch));
        assert_eq!(verify(&request("/other", VANILLA, date, id), now), Err(SignatureError::Mismatch));
        assert_eq!(verify(&request("/", VANILLA, date, "AKIDOTHERXX"), now), Err(SignatureError::OtherKey));
        let late = now + MAX_SKEW + Duration::from_secs(1);
        assert_eq!(verify(&request("/", VANILLA, date, id), late), Err(SignatureError::Expired));
        let early = now - MAX_SKEW - Duration::from_secs(1);
        assert_eq!(verify(&request("/", VANILLA, date, id), early), Err(SignatureError::Expired));
        // The day of the scope is that of the date.
        assert_eq!(
            verify(&request("/", VANILLA, "20150831T000000Z", id), now),
            Err(SignatureError::Malformed)
        );
        let mut with_body = Claim::read(&request("/", VANILLA, date, id), &example_key(), now).unwrap();
        assert!(with_body.needs_body());
        let head = request("/", VANILLA, date, id);
        assert_eq!(with_body.verify(&head, b"x", &example_key()), Err(SignatureError::Mismatch));
        // A hash that is given is what was signed, so it must have been signed.
        with_body.payload_hash = Some("UNSIGNED-PAYLOAD".into());
        assert_eq!(with_body.verify(&head, b"", &example_key()), Err(SignatureError::Mismatch));
    }

    proptest::proptest! {
        #[test]
        fn no_made_up_signature_verifies(
            value in proptest::prop_oneof![
                "\\PC{0,80}",
                "AWS4-HMAC-SHA256 (Credential=AKIDEXAMPLE/[0-9]{0,9}/\\PC{0,9}/s/aws4_request,? ?|\
                 SignedHeaders=(host;x-amz-date|[a-z;-]{0,20}),? ?|Signature=[0-9a-f]{0,64},? ?){0,6}",
            ],
            date in "(20150830T123600Z|[-0-9TZ+:]{0,20})",
            uri in "/[a-z%/]{0,9}(\\?[a-z%&=+]{0,20})?",
        ) {
            // What HTTP does not take never comes here.
            if let (Ok(value), Ok(date)) = (http::HeaderValue::from_str(&value), http::HeaderValue::from_str(&date))
                && let Ok(request) = http::Request::builder().uri(uri).header("host", "h").body(())
            {
                let mut head = request.into_parts().0;
                head.headers.insert(AUTHORIZATION, value);
                head.headers.insert(DATE, date);
                proptest::prop_assert!(verify(&head, example_time()).is_err());
            }
        }
    }

    #[test]
    fn authorization_of_other_forms_is_refused() {
        let read = |value: &str| {
            let request =
                http::Request::builder().uri("/").header("host", "h").header("authorization", value);
            let head = request.header("x-amz-date", "20150830T123600Z").body(()).unwrap().into_parts().0;
            Claim::read(&head, &example_key(), example_time()).err()
        };
        for value in [
            "",
            "Bearer x",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/r/s/aws4_request",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/r/s/aws4_request, SignedHeaders=host, Signature=x",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/2015/r/s/aws4_request, SignedHeaders=host;x-amz-date, Signature=x",
        ] {
            assert_eq!(read(value), Some(SignatureError::Malformed), "{value}");
        }
    }
}

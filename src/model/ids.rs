//! Identifiers of the service, each parsed by the pattern of the service model.

use std::fmt;
use std::str::FromStr;

use super::limits;

/// Why a text is not the identifier it should be: what was expected, as a sentence part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must {expected}")]
pub struct ParseIdError {
    /// The kind of identifier, in words.
    pub what: &'static str,
    /// What would have been right, beginning with a verb.
    pub expected: &'static str,
}

fn fail<T>(what: &'static str, expected: &'static str) -> Result<T, ParseIdError> {
    Err(ParseIdError { what, expected })
}

fn is_name(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    (1..=max).contains(&bytes.len())
        && bytes[0].is_ascii_alphabetic()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// Twelve digits. [model: accountId `[0-9]{12}`]
    AccountId
}
text_id! {
    /// A region's name such as `us-west-2`.
    Region
}
text_id! {
    /// An AWS partition: `aws`, `aws-cn`, `aws-us-gov`.
    Partition
}
text_id! {
    /// The name a runtime is created under. [model: `[a-zA-Z][a-zA-Z0-9_]{0,47}`]
    RuntimeName
}
text_id! {
    /// `name-XXXXXXXXXX`. [model: `[a-zA-Z][a-zA-Z0-9_]{0,99}-[a-zA-Z0-9]{10}`]
    RuntimeId
}
text_id! {
    /// An endpoint of a runtime, the data plane's `qualifier`. [model: `[a-zA-Z][a-zA-Z0-9_]{0,47}`]
    EndpointName
}
text_id! {
    /// A session id: 33 to 100 characters of `[a-zA-Z0-9][a-zA-Z0-9-_]*`.
    SessionId
}
text_id! {
    /// A shell of a session. [guide: `[A-Za-z0-9_-]{1,128}`]
    ShellId
}

impl FromStr for ShellId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=128).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text.to_owned()));
        }
        fail("shell id", "have 1 to 128 letters, digits, `-` and `_`")
    }
}

impl ShellId {
    /// A new random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl FromStr for AccountId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self(text.to_owned()));
        }
        fail("account id", "be twelve digits")
    }
}

impl FromStr for Region {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text.to_owned()));
        }
        fail("region", "be lower-case letters, digits and `-`")
    }
}

impl FromStr for Partition {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let rest = text.strip_prefix("aws-");
        if text == "aws" || rest.is_some_and(|r| !r.is_empty() && !r.contains(':')) {
            return Ok(Self(text.to_owned()));
        }
        fail("partition", "be `aws` or begin with `aws-`")
    }
}

impl FromStr for RuntimeName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if is_name(text, 48) {
            return Ok(Self(text.to_owned()));
        }
        fail("agent runtime name", "begin with a letter and have at most 48 letters, digits and `_`")
    }
}

impl FromStr for RuntimeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parts = text.rsplit_once('-');
        let suffix = |s: &str| s.len() == 10 && s.bytes().all(|b| b.is_ascii_alphanumeric());
        if parts.is_some_and(|(name, s)| is_name(name, 100) && suffix(s)) {
            return Ok(Self(text.to_owned()));
        }
        fail("agent runtime id", "be a name, `-` and ten letters or digits")
    }
}

impl RuntimeId {
    /// The id of a runtime called `name`, with the service's ten-character suffix.
    pub fn new(name: &RuntimeName, suffix: &str) -> Result<Self, ParseIdError> {
        format!("{name}-{suffix}").parse()
    }

    /// The name that the id begins with.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('-').map_or(self.0.as_str(), |(name, _)| name)
    }
}

impl FromStr for EndpointName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if is_name(text, 48) {
            return Ok(Self(text.to_owned()));
        }
        fail("endpoint name", "begin with a letter and have at most 48 letters, digits and `_`")
    }
}

impl EndpointName {
    /// The endpoint every runtime has, which follows the newest version.
    pub const DEFAULT: &'static str = "DEFAULT";

    /// [`Self::DEFAULT`] as a value.
    pub fn default_endpoint() -> Self {
        Self(Self::DEFAULT.to_owned())
    }

    /// True for the endpoint that the service makes and moves by itself.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if limits::SESSION_ID_CHARS.contains(&text.len()) && first && text.bytes().all(legal) {
            return Ok(Self(text.to_owned()));
        }
        fail(
            "runtime session id",
            "have 33 to 100 letters, digits, `-` and `_`, and begin with a letter or digit",
        )
    }
}

impl SessionId {
    /// A new random id, as the service makes one when the caller names none.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

/// A version of a runtime, counted from 1. [model: `[1-9][0-9]{0,4}` as a string]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// The version that creation makes.
    pub const FIRST: Version = Version(1);
    /// The highest version the service model can name.
    pub const LAST: u32 = 99_999;

    /// The version after this one, or nothing when the service's numbering is used up.
    pub fn next(self) -> Option<Version> {
        (self.0 < Self::LAST).then_some(Version(self.0 + 1))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        match text.parse::<u32>() {
            Ok(n) if canonical && (1..=Self::LAST).contains(&n) => Ok(Version(n)),
            _ => fail("version", "be a number from 1 to 99999"),
        }
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `arn:aws:bedrock-agentcore:REGION:ACCOUNT:runtime/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeArn {
    /// The partition.
    pub partition: Partition,
    /// The region.
    pub region: Region,
    /// The account.
    pub account: AccountId,
    /// The runtime.
    pub id: RuntimeId,
}

impl RuntimeArn {
    /// The ARN of an endpoint of this runtime.
    pub fn endpoint(&self, name: &EndpointName) -> String {
        format!("{self}/runtime-endpoint/{name}")
    }
}

impl fmt::Display for RuntimeArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, id } = self;
        write!(f, "arn:{partition}:bedrock-agentcore:{region}:{account}:runtime/{id}")
    }
}

impl FromStr for RuntimeArn {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const EXPECTED: &str = "look like `arn:aws:bedrock-agentcore:REGION:ACCOUNT:runtime/NAME-XXXXXXXXXX`";
        let bad = |_| ParseIdError { what: "agent runtime ARN", expected: EXPECTED };
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else {
            return fail("agent runtime ARN", EXPECTED);
        };
        let id = resource.strip_prefix("runtime/");
        let (Some(id), "arn", "bedrock-agentcore") = (id, arn, service) else {
            return fail("agent runtime ARN", EXPECTED);
        };
        Ok(Self {
            partition: partition.parse().map_err(bad)?,
            region: region.parse().map_err(bad)?,
            account: account.parse().map_err(bad)?,
            id: id.parse().map_err(bad)?,
        })
    }
}

/// Where a file system appears inside a session: one level under `/mnt`.
///
/// [model: `/mnt/[a-zA-Z0-9._-]+/?`, 6..200]. A trailing slash is dropped: the service counts
/// `/mnt/a` and `/mnt/a/` as the same path. `.` and `..` fit the pattern and are no directories
/// of their own, so they are refused here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct MountPath(String);

impl MountPath {
    /// The path, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.0.strip_prefix("/mnt/").unwrap_or(&self.0)
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MountPath {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let name = trimmed.strip_prefix("/mnt/").unwrap_or_default();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let length = (6..=200).contains(&text.len());
        if length && !name.is_empty() && name != "." && name != ".." && name.bytes().all(legal) {
            return Ok(Self(trimmed.to_owned()));
        }
        fail(
            "mount path",
            "be `/mnt/` and one name of letters, digits, `.`, `_` and `-` (6 to 200 characters)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_round_trips_and_refuses_what_is_not_a_runtime() {
        let text = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123";
        let arn: RuntimeArn = text.parse().unwrap();
        assert_eq!(arn.to_string(), text);
        assert_eq!(arn.id.name(), "coder");
        for bad in [
            "coder-AbCdEf0123",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:agent/x:1",
            "arn:aws:bedrock-agentcore:us-west-2:12345678901:runtime/coder-AbCdEf0123",
            "arn:aws:bedrock:us-west-2:123456789012:runtime/coder-AbCdEf0123",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123/x",
            "",
        ] {
            assert!(bad.parse::<RuntimeArn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn session_ids_keep_to_the_length_and_the_alphabet() {
        assert!("a".repeat(33).parse::<SessionId>().is_ok());
        assert!("a".repeat(100).parse::<SessionId>().is_ok());
        for bad in [
            "a".repeat(32),
            "a".repeat(101),
            format!("-{}", "a".repeat(40)),
            format!("{}/..", "a".repeat(40)),
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
        assert!(SessionId::random().as_str().parse::<SessionId>().is_ok());
    }

    #[test]
    fn mount_paths_are_one_level_under_mnt() {
        assert_eq!("/mnt/work/".parse::<MountPath>().unwrap().as_str(), "/mnt/work");
        for bad in ["/mnt/", "/mnt/a/b", "/mnt/..", "/mnt/.", "/data/x", "/mnt/a b", "/mnt//"] {
            assert!(bad.parse::<MountPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_canonical_numbers() {
        assert_eq!("7".parse::<Version>().unwrap().number(), 7);
        for bad in ["0", "01", "100000", "-1", "+1", "", "1.0"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert_eq!("99999".parse::<Version>().unwrap().next(), None);
    }

    /// What parses shows as it was written, so no text has two meanings; what does not is refused, never a panic.
    fn shows_as_written<T: FromStr<Err = ParseIdError> + fmt::Display>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            assert_eq!(value.to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_to_itself_or_is_refused(
            text in proptest::prop_oneof![
                ".{0,120}",
                "[a-zA-Z0-9_./:-]{0,120}",
                "arn:aws(-[a-z]{0,3})?:bedrock-agentcore:[a-z0-9-]{0,9}:[0-9]{11,12}:runtime/[a-z_]{0,5}-[a-zA-Z0-9]{9,11}",
            ],
        ) {
            shows_as_written::<AccountId>(&text);
            shows_as_written::<Region>(&text);
            shows_as_written::<Partition>(&text);
            shows_as_written::<RuntimeName>(&text);
            shows_as_written::<RuntimeId>(&text);
            shows_as_written::<EndpointName>(&text);
            shows_as_written::<SessionId>(&text);
            shows_as_written::<Version>(&text);
            shows_as_written::<RuntimeArn>(&text);
            shows_as_written::<MountPath>(text.strip_suffix('/').unwrap_or(&text));
            // None of them can leave the directory that it names.
            for name in [text.parse::<SessionId>().ok().map(|v| v.to_string()),
                         text.parse::<RuntimeId>().ok().map(|v| v.to_string()),
                         text.parse::<MountPath>().ok().map(|v| v.name().to_owned())].into_iter().flatten() {
                proptest::prop_assert!(!name.contains('/') && name != "." && name != ".." && !name.is_empty());
            }
        }
    }
}

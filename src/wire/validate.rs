//! Reads what a caller sent by the service model, and names everything that is wrong with it.
//!
//! The interpreter walks a value along the shapes of [`super::service_model`]. What comes out holds
//! known members only, so it can be kept and given back as it is. Members that the model does not
//! know are dropped, as REST-JSON asks, so that callers with a newer SDK are served; inside
//! `filesystemConfigurations` they are errors, because there people send settings that do not exist
//! and would believe them to be in force.

use std::sync::{LazyLock, OnceLock};

use regex::Regex;
use serde_json::{Map, Value};

use super::error::{AwsError, ErrorKind, FieldError, ValidationReason};
use super::service_model::SHAPES;
use super::shape::{Kind, Location, Member, Operation, shape};

/// Members of an input or an output by the model's names.
pub type Members = Map<String, Value>;

/// Below this member, unknown members are errors.
const STRICT_BELOW: &str = "filesystemConfigurations";
/// Most violations one answer lists; a caller with more has another problem than the hundredth. [ours]
const MAX_VIOLATIONS: usize = 50;
/// Most characters of a refused value that its message repeats. [ours]
const MAX_QUOTED_CHARS: usize = 120;

/// A request in parts, already percent-decoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawInput<'a> {
    /// The path's members.
    pub path: &'a [(String, String)],
    /// The query, in its order; a list is a name that repeats.
    pub query: &'a [(String, String)],
    /// The headers; names are compared without case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body. Not looked at when the model says that it is the caller's own bytes.
    pub body: &'a [u8],
}

/// Reads an operation's input, or lists every violation in one ValidationException.
pub fn read_input(operation: &Operation, raw: &RawInput<'_>) -> Result<Members, AwsError> {
    let mut walk = Walk::new(Mode::Request);
    let mut members = Members::new();
    let Kind::Structure { members: known, .. } = &operation.input().kind else {
        return Ok(members);
    };
    let in_body = |m: &&Member| m.location == Location::Body;
    let body = match operation.payload {
        // The payload's own bytes are no JSON of ours.
        Some(name) if is_blob(known, name) => Members::new(),
        Some(name) => Members::from_iter([(name.to_owned(), parse_object(raw.body)?)]),
        None if known.iter().any(|m| in_body(&m)) => match parse_object(raw.body)? {
            Value::Object(body) => body,
            _ => Members::new(),
        },
        None => Members::new(),
    };
    for member in known.iter() {
        let given = match member.location {
            Location::Body if operation.payload == Some(member.name) && is_blob(known, member.name) => {
                continue;
            }
            Location::Body => body.get(member.name).cloned(),
            Location::Uri(name) => text_member(&mut walk, member, named(raw.path, name)),
            Location::Query(name) => text_member(&mut walk, member, named(raw.query, name)),
            Location::Header(name) => {
                let values = raw.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
                text_member(&mut walk, member, values.map(|(_, value)| *value))
            }
            Location::StatusCode => None,
        };
        walk.member(member, given.as_ref(), false, &mut members);
    }
    walk.finish(members)
}

/// Reads the body of an operation whose body is one structure member, such as that of InvokeAgentRuntimeCommand,
/// and gives that structure's members.
pub fn read_payload(operation: &Operation, body: &[u8]) -> Result<Members, AwsError> {
    let mut walk = Walk::new(Mode::Request);
    let mut members = Members::new();
    if let (Kind::Structure { members: known, .. }, Some(name)) = (&operation.input().kind, operation.payload)
        && let Some(member) = known.iter().find(|m| m.name == name)
        && !is_blob(known, name)
    {
        let value = parse_object(body)?;
        walk.member(member, Some(&value), false, &mut members);
        let inner = members.remove(name);
        return walk.finish(match inner {
            Some(Value::Object(inner)) => inner,
            _ => Members::new(),
        });
    }
    Ok(members)
}

/// Everything in which a response body differs from the model: unknown, missing and malformed members.
pub fn check_output(operation: &Operation, body: &Value) -> Vec<FieldError> {
    let mut walk = Walk::new(Mode::Response);
    walk.value(operation.output, body, true);
    walk.violations
}

fn is_blob(members: &[Member], name: &str) -> bool {
    members.iter().any(|m| m.name == name && matches!(m.shape().kind, Kind::Blob { .. }))
}

fn named<'a>(pairs: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The body as an object; nothing at all stands for an empty one.
fn parse_object(body: &[u8]) -> Result<Value, AwsError> {
    let cannot_parse = |message: String| AwsError {
        reason: Some(ValidationReason::CannotParse),
        ..AwsError::new(ErrorKind::Validation, message)
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Members::new()));
    }
    match serde_json::from_slice(body) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(other) => Err(cannot_parse(format!(
            "The request body cannot be read: expected a JSON object, found {}",
            kind_of(&other)
        ))),
        Err(e) => Err(cannot_parse(format!("The request body is not valid JSON: {e}"))),
    }
}

/// A member of the path, the query or a header, as the JSON value that its shape asks for.
fn text_member<'a>(
    walk: &mut Walk,
    member: &Member,
    mut values: impl Iterator<Item = &'a str>,
) -> Option<Value> {
    match member.shape().kind {
        Kind::List { .. } => {
            let list: Vec<Value> = values.map(Value::from).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        Kind::Integer { .. } => {
            let text = values.next()?;
            match text.parse::<i64>() {
                Ok(number) => Some(Value::from(number)),
                // The walk says what was expected.
                Err(_) => Some(Value::from(text)),
            }
        }
        Kind::Boolean => match values.next()? {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            other => Some(Value::from(other)),
        },
        Kind::String { .. } | Kind::Timestamp => values.next().map(Value::from),
        Kind::Structure { .. } | Kind::Map { .. } | Kind::Blob { .. } => {
            walk.unreadable(format!("`{}` cannot be read outside of a body", member.name));
            None
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Request,
    Response,
}

struct Walk {
    mode: Mode,
    path: String,
    violations: Vec<FieldError>,
    /// Something had the wrong JSON type, so the request as a whole could not be read.
    cannot_parse: bool,
    /// Inside a shape whose values must not be repeated.
    secret: bool,
}

impl Walk {
    fn new(mode: Mode) -> Self {
        Self { mode, path: String::new(), violations: Vec::new(), cannot_parse: false, secret: false }
    }

    fn finish(self, members: Members) -> Result<Members, AwsError> {
        if self.violations.is_empty() {
            return Ok(members);
        }
        let reason = match self.cannot_parse {
            true => ValidationReason::CannotParse,
            false => ValidationReason::FieldValidationFailed,
        };
        Err(AwsError { reason: Some(reason), ..violations(self.violations) })
    }

    fn violation(&mut self, message: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(FieldError { name: self.path.clone(), message });
        }
    }

    fn unreadable(&mut self, message: String) {
        self.cannot_parse = true;
        self.violation(message);
    }

    fn constraint(&mut self, value: Option<&Value>, rule: &str) {
        let value = match value {
            Some(_) if self.secret => "Value".to_owned(),
            Some(Value::String(text)) => format!("Value '{}'", quoted(text)),
            Some(Value::Number(number)) => format!("Value '{number}'"),
            Some(_) => "Value".to_owned(),
            None => "Value null".to_owned(),
        };
        let message = format!("{value} at '{}' failed to satisfy constraint: {rule}", self.path);
        self.violation(message);
    }

    /// Runs `work` with `step` added to the path.
    fn below<T>(&mut self, step: std::fmt::Arguments<'_>, work: impl FnOnce(&mut Self) -> T) -> T {
        use std::fmt::Write;
        let length = self.path.len();
        // Writing to a String cannot fail.
        let _ = self.path.write_fmt(step);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    fn member(&mut self, member: &Member, given: Option<&Value>, strict: bool, into: &mut Members) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.below(format_args!("{dot}{}", member.name), |walk| match given {
            // REST-JSON: null is the same as absent.
            None | Some(Value::Null) => {
                if member.required {
                    walk.constraint(None, "Member must not be null");
                }
            }
            Some(value) => {
                let strict = strict || member.name == STRICT_BELOW;
                if let Some(value) = walk.value(member.shape, value, strict) {
                    into.insert(member.name.to_owned(), value);
                }
            }
        });
    }

    /// Checks one value and gives it back without what the model does not know; nothing when it has the wrong type.
    fn value(&mut self, place: u16, value: &Value, strict: bool) -> Option<Value> {
        let outer = self.secret;
        self.secret |= shape(place).sensitive;
        let checked = self.checked(place, value, strict);
        self.secret = outer;
        checked
    }

    fn checked(&mut self, place: u16, value: &Value, strict: bool) -> Option<Value> {
        let shape = shape(place);
        match (&shape.kind, value) {
            (Kind::Structure { union, members }, Value::Object(given)) => {
                Some(Value::Object(self.structure(*union, members, given, strict)))
            }
            (Kind::List { member, min, max }, Value::Array(given)) => {
                if !self.length(value, given.len() as u64, *min, *max) {
                    return None;
                }
                let entry = |(i, entry): (usize, &Value)| {
                    self.below(format_args!("[{i}]"), |walk| match entry {
                        Value::Null => {
                            walk.constraint(None, "Member must not be null");
                            None
                        }
                        entry => walk.value(*member, entry, strict),
                    })
                };
                Some(Value::Array(given.iter().enumerate().filter_map(entry).collect()))
            }
            (Kind::Map { key, value: entry, min, max }, Value::Object(given)) => {
                if !self.length(value, given.len() as u64, *min, *max) {
                    return None;
                }
                Some(Value::Object(self.entries(*key, *entry, given, strict)))
            }
            (Kind::String { min, max, pattern, values }, Value::String(text)) => {
                if !values.is_empty() {
                    if !values.contains(&text.as_str()) {
                        let rule = format!("Member must satisfy enum value set: [{}]", values.join(", "));
                        self.constraint(Some(value), &rule);
                    }
                    return Some(value.clone());
                }
                let fits = self.length(value, text.chars().count() as u64, *min, *max);
                if let (true, Some(pattern)) = (fits, pattern)
                    && compiled(place).is_some_and(|regex| !regex.is_match(text))
                {
                    let rule = format!("Member must satisfy regular expression pattern: {pattern}");
                    self.constraint(Some(value), &rule);
                }
                Some(value.clone())
            }
            (Kind::Integer { min, max }, Value::Number(number)) if number.as_i64().is_some_and(is_32_bit) => {
                let number = number.as_i64().unwrap_or_default();
                if let Some(min) = min.filter(|min| number < *min) {
                    let rule = format!("Member must have value greater than or equal to {min}");
                    self.constraint(Some(value), &rule);
                }
                if let Some(max) = max.filter(|max| number > *max) {
                    let rule = format!("Member must have value less than or equal to {max}");
                    self.constraint(Some(value), &rule);
                }
                Some(value.clone())
            }
            (Kind::Boolean, Value::Bool(_)) => Some(value.clone()),
            (Kind::Timestamp, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {
                Some(value.clone())
            }
            (kind, found) => {
                let expected = match kind {
                    Kind::Structure { .. } | Kind::Map { .. } => "an object",
                    Kind::List { .. } => "a list",
                    Kind::String { .. } => "a string",
                    Kind::Integer { .. } => "a 32-bit integer",
                    Kind::Boolean => "a boolean",
                    Kind::Timestamp => "an ISO 8601 timestamp",
                    Kind::Blob { .. } => "bytes",
                };
                let found = kind_of(found);
                self.unreadable(format!(
                    "Value at '{}' cannot be read: expected {expected}, found {found}",
                    self.path
                ));
                None
            }
        }
    }

    fn structure(&mut self, union: bool, members: &[Member], given: &Members, strict: bool) -> Members {
        let mut result = Members::new();
        if strict {
            for name in given.keys().filter(|name| members.iter().all(|m| m.name != *name)) {
                let dot = if self.path.is_empty() { "" } else { "." };
                self.below(format_args!("{dot}{}", quoted(name)), |walk| {
                    let message = unknown_member(name, members);
                    walk.violation(message);
                });
            }
        }
        if union {
            let chosen = members.iter().filter(|m| given.get(m.name).is_some_and(|v| !v.is_null())).count();
            if chosen != 1 {
                let names: Vec<&str> = members.iter().map(|m| m.name).collect();
                let rule = format!("Member must have exactly one of: [{}]", names.join(", "));
                self.constraint(Some(&Value::Bool(true)), &rule);
                return result;
            }
        }
        for member in members {
            // In a response, members that travel outside of the body are not of the body.
            if self.mode == Mode::Request || member.location == Location::Body {
                self.member(member, given.get(member.name), strict, &mut result);
            }
        }
        result
    }

    fn entries(&mut self, key: u16, value: u16, given: &Members, strict: bool) -> Members {
        let mut result = Members::new();
        for (name, entry) in given {
            let checked = self.below(format_args!(".{}", quoted(name)), |walk| {
                walk.value(key, &Value::String(name.clone()), strict);
                match entry {
                    Value::Null => {
                        walk.constraint(None, "Member must not be null");
                        None
                    }
                    entry => walk.value(value, entry, strict),
                }
            });
            if let Some(checked) = checked {
                result.insert(name.clone(), checked);
            }
        }
        result
    }

    fn length(&mut self, value: &Value, length: u64, min: Option<u64>, max: Option<u64>) -> bool {
        let before = self.violations.len();
        if let Some(min) = min.filter(|min| length < *min) {
            let rule = format!("Member must have length greater than or equal to {min}");
            self.constraint(Some(value), &rule);
        }
        if let Some(max) = max.filter(|max| length > *max) {
            let rule = format!("Member must have length less than or equal to {max}");
            self.constraint(Some(value), &rule);
        }
        self.violations.len() == before
    }
}

/// A ValidationException over violations, its message naming all of them.
pub fn violations(field_list: Vec<FieldError>) -> AwsError {
    let plural = if field_list.len() == 1 { "" } else { "s" };
    let texts: Vec<&str> = field_list.iter().map(|f| f.message.as_str()).collect();
    let message = format!("{} validation error{plural} detected: {}", field_list.len(), texts.join("; "));
    AwsError::fields(message, field_list)
}

fn unknown_member(name: &str, members: &[Member]) -> String {
    let name = quoted(name);
    if name.to_ascii_lowercase().starts_with("size") {
        return format!(
            "Unknown member '{name}': session storage has no size member, only `mountPath`; every session gets 1 GB"
        );
    }
    let known: Vec<&str> = members.iter().map(|m| m.name).collect();
    format!("Unknown member '{name}': the members here are [{}]", known.join(", "))
}

fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        None => text.into(),
        Some((end, _)) => format!("{}...", &text[..end]).into(),
    }
}

fn is_32_bit(number: i64) -> bool {
    i32::try_from(number).is_ok()
}

/// The pattern of a shape, compiled when it is first needed. A test compiles all of them, so `None` means that
/// the shape has none.
fn compiled(place: u16) -> Option<&'static Regex> {
    static COMPILED: LazyLock<Vec<OnceLock<Option<Regex>>>> =
        LazyLock::new(|| SHAPES.iter().map(|_| OnceLock::new()).collect());
    let Kind::String { pattern: Some(pattern), .. } = &shape(place).kind else {
        return None;
    };
    COMPILED[usize::from(place)].get_or_init(|| compile(pattern).ok()).as_ref()
}

/// The model's patterns mean the whole text.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!(r"\A(?:{})\z", ascii(pattern)))
}

/// The model's classes are those of ASCII, this engine's would be those of Unicode.
fn ascii(pattern: &str) -> String {
    pattern.replace(r"\d", "[0-9]").replace(r"\s", r"[\t\n\x0B\x0C\r ]").replace(r"\S", r"[^\t\n\x0B\x0C\r ]")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;
    use serde_json::json;

    use super::super::service_model as model;
    use super::*;

    fn read(operation: &Operation, body: Value) -> Result<Members, AwsError> {
        let path = [("agentRuntimeId".to_owned(), "coder-AbCdEf0123".to_owned())];
        read_input(
            operation,
            &RawInput { path: &path, body: body.to_string().as_bytes(), ..RawInput::default() },
        )
    }

    fn create(extra: Value) -> Value {
        let mut body = json!({
            "agentRuntimeName": "coder",
            "agentRuntimeArtifact": { "codeConfiguration": {
                "code": { "s3": { "bucket": "bundles", "prefix": "key" } },
                "runtime": "PYTHON_3_13",
                "entryPoint": ["main.py"],
            } },
            "roleArn": "arn:aws:iam::123456789012:role/agent",
        });
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    /// The violations of CreateAgentRuntime with these members, as `name: message`.
    fn refused(extra: Value) -> Vec<String> {
        let error = read(&model::CREATE_AGENT_RUNTIME, create(extra)).expect_err("must be refused");
        assert_eq!(error.kind, ErrorKind::Validation);
        error.field_list.into_iter().map(|f| format!("{}: {}", f.name, f.message)).collect()
    }

    #[test]
    fn a_fitting_input_comes_out_as_it_is() {
        let body = create(json!({
            "lifecycleConfiguration": { "maxLifetime": 3600, "idleRuntimeSessionTimeout": 60 },
            "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/work/" } }],
            "environmentVariables": { "B": "", "A": "é" },
            "tags": { "team": "x" },
        }));
        let members = read(&model::CREATE_AGENT_RUNTIME, body.clone()).unwrap();
        assert_eq!(Value::Object(members), body);
    }

    #[test]
    fn unknown_members_are_dropped_and_null_is_absent() {
        let body = create(json!({
            "filesystemConfiguration": [{ "sizeInGiB": 5 }],
            "description": null,
            "protocolConfiguration": { "serverProtocol": "HTTP", "colour": "red" },
        }));
        let members = read(&model::CREATE_AGENT_RUNTIME, body).unwrap();
        assert!(members.get("filesystemConfiguration").is_none() && members.get("description").is_none());
        assert_eq!(members["protocolConfiguration"], json!({ "serverProtocol": "HTTP" }));
    }

    #[test]
    fn unknown_members_of_file_systems_are_errors_that_help() {
        let inside = json!({ "sessionStorage": { "mountPath": "/mnt/a", "sizeInGiB": 5 } });
        assert_eq!(
            refused(json!({ "filesystemConfigurations": [inside] })),
            [
                "filesystemConfigurations[0].sessionStorage.sizeInGiB: Unknown member 'sizeInGiB': session storage has no size member, only `mountPath`; every session gets 1 GB"
            ]
        );
        let beside = json!({ "sessionStorage": { "mountPath": "/mnt/a" }, "readOnly": true });
        let [message] = &refused(json!({ "filesystemConfigurations": [beside] }))[..] else {
            panic!("one violation")
        };
        assert!(
            message.starts_with("filesystemConfigurations[0].readOnly: Unknown member 'readOnly'"),
            "{message}"
        );
        assert!(message.contains("sessionStorage"), "{message}");
    }

    #[test]
    fn every_kind_of_constraint_is_named_in_the_services_words() {
        let cases = [
            (
                json!({ "roleArn": null }),
                "roleArn: Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
            ),
            (
                json!({ "agentRuntimeName": "1st" }),
                "agentRuntimeName: Value '1st' at 'agentRuntimeName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}",
            ),
            // Anchored: a fitting beginning is not enough, nor is a line end.
            (
                json!({ "agentRuntimeName": "a\n" }),
                "agentRuntimeName: Value 'a\n' at 'agentRuntimeName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}",
            ),
            (
                json!({ "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 30 } }),
                "lifecycleConfiguration.idleRuntimeSessionTimeout: Value '30' at 'lifecycleConfiguration.idleRuntimeSessionTimeout' failed to satisfy constraint: Member must have value greater than or equal to 60",
            ),
            (
                json!({ "lifecycleConfiguration": { "maxLifetime": 1_209_601 } }),
                "lifecycleConfiguration.maxLifetime: Value '1209601' at 'lifecycleConfiguration.maxLifetime' failed to satisfy constraint: Member must have value less than or equal to 1209600",
            ),
            (
                json!({ "networkConfiguration": { "networkMode": "public" } }),
                "networkConfiguration.networkMode: Value 'public' at 'networkConfiguration.networkMode' failed to satisfy constraint: Member must satisfy enum value set: [PUBLIC, VPC]",
            ),
            (
                json!({ "agentRuntimeArtifact": {} }),
                "agentRuntimeArtifact: Value at 'agentRuntimeArtifact' failed to satisfy constraint: Member must have exactly one of: [containerConfiguration, codeConfiguration]",
            ),
            (
                json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": [] } }),
                "requestHeaderConfiguration.requestHeaderAllowlist: Value at 'requestHeaderConfiguration.requestHeaderAllowlist' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": ["X-A", null] } }),
                "requestHeaderConfiguration.requestHeaderAllowlist[1]: Value null at 'requestHeaderConfiguration.requestHeaderAllowlist[1]' failed to satisfy constraint: Member must not be null",
            ),
            (
                json!({ "tags": { "k": "é" } }),
                "tags.k: Value 'é' at 'tags.k' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9\\s._:/=+@-]*",
            ),
        ];
        for (extra, expected) in cases {
            assert_eq!(refused(extra), [expected]);
        }
        let both = json!({ "agentRuntimeArtifact": {
            "containerConfiguration": { "containerUri": "x" },
            "codeConfiguration": {},
        } });
        assert_eq!(refused(both).len(), 1);
    }

    #[test]
    fn lengths_count_characters() {
        assert!(
            read(&model::CREATE_AGENT_RUNTIME, create(json!({ "description": "é".repeat(4096) }))).is_ok()
        );
        assert_eq!(refused(json!({ "description": "é".repeat(4097) })).len(), 1);
    }

    #[test]
    fn all_violations_come_at_once_and_secrets_are_not_repeated() {
        let violations = refused(json!({
            "agentRuntimeName": "-",
            "roleArn": "role",
            "environmentVariables": { "TOKEN": "s3cret".repeat(1000), "": "s3cret" },
        }));
        assert_eq!(violations.len(), 4, "{violations:?}");
        assert!(violations.iter().all(|v| !v.contains("s3cret")), "{violations:?}");
    }

    #[test]
    fn wrong_types_cannot_be_parsed() {
        let cases = [
            (json!({ "agentRuntimeName": 5 }), "expected a string, found a number"),
            (json!({ "filesystemConfigurations": {} }), "expected a list, found an object"),
            (
                json!({ "lifecycleConfiguration": { "maxLifetime": "600" } }),
                "expected a 32-bit integer, found a string",
            ),
            (
                json!({ "lifecycleConfiguration": { "maxLifetime": 600.5 } }),
                "expected a 32-bit integer, found a number",
            ),
            (json!({ "lifecycleConfiguration": { "maxLifetime": 1u64 << 40 } }), "expected a 32-bit integer"),
            (json!({ "tags": [] }), "expected an object, found a list"),
        ];
        for (extra, expected) in cases {
            let error = read(&model::CREATE_AGENT_RUNTIME, create(extra)).unwrap_err();
            assert_eq!(error.reason, Some(ValidationReason::CannotParse));
            assert!(error.message.contains(expected), "{}", error.message);
        }
        for body in ["{", "[]", "\"x\"", "{}{}", "\u{feff}{}"] {
            let raw = RawInput { body: body.as_bytes(), ..RawInput::default() };
            let error = read_input(&model::CREATE_AGENT_RUNTIME, &raw).unwrap_err();
            assert_eq!(error.reason, Some(ValidationReason::CannotParse), "{body}");
        }
    }

    #[test]
    fn path_query_and_headers_are_read_too() {
        let query = |text: &str| {
            let query = [("maxResults".to_owned(), text.to_owned())];
            read_input(&model::LIST_AGENT_RUNTIMES, &RawInput { query: &query, ..RawInput::default() })
        };
        assert_eq!(query("7").unwrap()["maxResults"], 7);
        assert_eq!(query("0").unwrap_err().reason, Some(ValidationReason::FieldValidationFailed));
        assert_eq!(query("ten").unwrap_err().reason, Some(ValidationReason::CannotParse));
        let keys = [("tagKeys".to_owned(), "a".to_owned()), ("tagKeys".to_owned(), "b".to_owned())];
        let path = [(
            "resourceArn".to_owned(),
            "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/x".to_owned(),
        )];
        let raw = RawInput { path: &path, query: &keys, ..RawInput::default() };
        assert_eq!(read_input(&model::UNTAG_RESOURCE, &raw).unwrap()["tagKeys"], json!(["a", "b"]));

        let path = [("agentRuntimeArn".to_owned(), "x".to_owned())];
        let header = ("x-amzn-bedrock-agentcore-runtime-session-id", "short");
        let raw = RawInput { path: &path, headers: &[header], body: b"\xff not JSON", ..RawInput::default() };
        let error = read_input(&model::INVOKE_AGENT_RUNTIME, &raw).unwrap_err();
        assert_eq!(error.field_list[0].name, "runtimeSessionId");
    }

    #[test]
    fn a_payload_structure_is_the_whole_body() {
        let members =
            read_payload(&model::INVOKE_AGENT_RUNTIME_COMMAND, br#"{"command":"ls","timeout":5,"x":1}"#);
        assert_eq!(Value::Object(members.unwrap()), json!({ "command": "ls", "timeout": 5 }));
        for bad in [r#"{}"#, r#"{"command":""}"#, r#"{"command":7}"#, "", "[]"] {
            assert!(read_payload(&model::INVOKE_AGENT_RUNTIME_COMMAND, bad.as_bytes()).is_err(), "{bad}");
        }
        let path = [("agentRuntimeArn".to_owned(), "x".to_owned())];
        let raw = RawInput { path: &path, body: br#"{"command":"ls"}"#, ..RawInput::default() };
        let members = read_input(&model::INVOKE_AGENT_RUNTIME_COMMAND, &raw).unwrap();
        assert_eq!(members["body"], json!({ "command": "ls" }));
    }

    #[test]
    fn the_table_is_whole_and_its_patterns_compile() {
        let exists = |place: u16| assert!(usize::from(place) < SHAPES.len());
        for shape in &SHAPES {
            match &shape.kind {
                Kind::Structure { members, .. } => members.iter().for_each(|m| exists(m.shape)),
                Kind::List { member, .. } => exists(*member),
                Kind::Map { key, value, .. } => [*key, *value].into_iter().for_each(exists),
                Kind::String { pattern: Some(pattern), .. } => {
                    if let Err(e) = compile(pattern) {
                        panic!(
                            "pattern of {} needs an entry in the generator's PATTERN_FIXES: {e}",
                            shape.name
                        );
                    }
                }
                _ => {}
            }
        }
        for operation in model::OPERATIONS {
            exists(operation.input);
            exists(operation.output);
        }
    }

    #[test]
    fn outputs_are_checked_in_both_directions() {
        let fine = json!({ "status": "DELETING", "agentRuntimeId": "coder-AbCdEf0123" });
        assert_eq!(check_output(&model::DELETE_AGENT_RUNTIME, &fine), []);
        let names = |body: Value| -> Vec<String> {
            check_output(&model::DELETE_AGENT_RUNTIME, &body).into_iter().map(|f| f.name).collect()
        };
        assert_eq!(names(json!({})), ["status"]);
        assert_eq!(names(json!({ "status": "DELETING", "extra": 1 })), ["extra"]);
        assert_eq!(names(json!({ "status": "GONE" })), ["status"]);
    }

    /// Values that fit a shape.
    fn fitting(place: u16) -> BoxedStrategy<Value> {
        let shape = shape(place);
        match &shape.kind {
            Kind::Structure { union: true, members } => {
                let one = |m: &'static Member| fitting(m.shape).prop_map(move |v| json!({ m.name: v }));
                proptest::strategy::Union::new(members.iter().map(one)).boxed()
            }
            Kind::Structure { members, .. } => {
                let member = |m: &'static Member| {
                    let given = fitting(m.shape).prop_map(Some);
                    let value =
                        if m.required { given.boxed() } else { prop_oneof![Just(None), given].boxed() };
                    value.prop_map(move |v| (m.name, v))
                };
                let all: Vec<_> =
                    members.iter().filter(|m| m.location == Location::Body).map(member).collect();
                let object = |pairs: Vec<(&str, Option<Value>)>| {
                    let given = pairs.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?)));
                    Value::Object(given.collect())
                };
                all.prop_map(object).boxed()
            }
            Kind::List { member, min, max } => {
                let low = usize::try_from(min.unwrap_or(0)).unwrap();
                let high = max.map_or(low + 1, |max| usize::try_from(max).unwrap().min(low + 1));
                proptest::collection::vec(fitting(*member), low..=high).prop_map(Value::Array).boxed()
            }
            Kind::Map { key, value, min, .. } => {
                let low = usize::try_from(min.unwrap_or(0)).unwrap();
                let key = fitting(*key).prop_map(|k| k.as_str().unwrap().to_owned());
                let entries = proptest::collection::hash_map(key, fitting(*value), low..=low + 1);
                entries.prop_map(|map| Value::Object(map.into_iter().collect())).boxed()
            }
            Kind::String { values, .. } if !values.is_empty() => {
                proptest::sample::select(values.to_vec()).prop_map(Value::from).boxed()
            }
            Kind::String { min, max, pattern, .. } => {
                let (low, high) = (min.unwrap_or(0), max.unwrap_or(300));
                let text = match (shape.name, pattern) {
                    // Chance would hardly ever hit these lengths.
                    ("ClientToken", _) => string_regex("[a-zA-Z0-9]{33,60}").unwrap().boxed(),
                    ("BedrockAgentcoreResourceArn" | "ResourceConfigurationIdentifier", _) => {
                        Just("rcfg-0123456789abcdefg".to_owned()).boxed()
                    }
                    (_, Some(pattern)) => string_regex(&ascii(pattern)).unwrap().boxed(),
                    (_, None) => string_regex(&format!("\\PC{{{low},{}}}", low + 5)).unwrap().boxed(),
                };
                let fits = move |t: &String| (low..=high).contains(&(t.chars().count() as u64));
                text.prop_filter("length", fits).prop_map(Value::from).boxed()
            }
            Kind::Integer { min, max } => {
                (min.unwrap_or(-5)..=max.unwrap_or(5)).prop_map(Value::from).boxed()
            }
            Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
            Kind::Timestamp => Just(json!("2026-01-01T00:00:00.000Z")).boxed(),
            Kind::Blob { .. } => Just(Value::Null).boxed(),
        }
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let names = proptest::sample::select(vec![
            "agentRuntimeArtifact",
            "codeConfiguration",
            "code",
            "s3",
            "bucket",
            "filesystemConfigurations",
            "sessionStorage",
            "mountPath",
            "tags",
            "entryPoint",
            "lifecycleConfiguration",
            "maxLifetime",
            "é",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::vec((names.clone(), inner), 0..6).prop_map(|pairs| {
                    Value::Object(pairs.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        // A case holds about half of all members, and making it takes long.
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn what_fits_the_model_passes_unchanged(body in fitting(model::CREATE_AGENT_RUNTIME.input)) {
            let read = read(&model::CREATE_AGENT_RUNTIME, body.clone());
            prop_assert_eq!(read.map(Value::Object), Ok(body));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn any_json_is_read_or_refused(body in arbitrary_json()) {
            for operation in model::OPERATIONS {
                if let Err(error) = read(operation, body.clone()) {
                    prop_assert_eq!(error.kind, ErrorKind::Validation);
                    prop_assert!(!error.message.is_empty());
                }
                check_output(operation, &body);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            for operation in model::OPERATIONS {
                let raw = RawInput { body: &body, ..RawInput::default() };
                let _ = read_input(operation, &raw);
                let _ = read_payload(operation, &body);
            }
        }
    }
}

//! The keys of the project file in their order, and a look for keys that are nearly one of them.

use std::path::Path;

use serde_saphyr::granit_parser::{Event, Parser};

use super::ProjectError;

/// Keys of the file itself.
pub(super) const FILE: &[&str] = &["default_agent", "is_agentcore_create_with_iac", "agents"];
/// Keys of an agent, in the order of the toolkit's schema; ours stand where people look for them.
pub(super) const AGENT: &[&str] = &[
    "name",
    "language",
    "node_version",
    "entrypoint",
    "command",
    "deployment_type",
    "runtime_type",
    "platform",
    "container_runtime",
    "source_path",
    "build",
    "environment_variables",
    "filesystem_configurations",
    "models",
    "endpoints",
    "tags",
    "aws",
    "bedrock_agentcore",
    "codebuild",
    "memory",
    "identity",
    "aws_jwt",
    "authorizer_configuration",
    "request_header_configuration",
    "oauth_configuration",
    "api_key_env_var_name",
    "api_key_credential_provider_name",
    "is_generated_by_agentcore_create",
];
/// Keys of `aws`.
pub(super) const AWS: &[&str] = &[
    "execution_role",
    "execution_role_auto_create",
    "account",
    "region",
    "ecr_repository",
    "ecr_auto_create",
    "s3_path",
    "s3_auto_create",
    "network_configuration",
    "protocol_configuration",
    "observability",
    "lifecycle_configuration",
];
const NETWORK: &[&str] = &["network_mode", "network_mode_config"];
const NETWORK_MODE: &[&str] = &["security_groups", "subnets"];
const PROTOCOL: &[&str] = &["server_protocol"];
const OBSERVABILITY: &[&str] = &["enabled"];
const LIFECYCLE: &[&str] = &["idle_runtime_session_timeout", "max_lifetime"];
const DEPLOYED: &[&str] = &["agent_id", "agent_arn", "agent_session_id"];
const CODEBUILD: &[&str] = &["project_name", "execution_role", "source_bucket"];
const MEMORY: &[&str] = &[
    "mode",
    "memory_id",
    "memory_arn",
    "memory_name",
    "event_expiry_days",
    "first_invoke_memory_check_done",
    "was_created_by_toolkit",
];
const IDENTITY: &[&str] = &["credential_providers", "workload"];
const AWS_JWT: &[&str] = &["enabled", "audiences", "signing_algorithm", "issuer_url", "duration_seconds"];
const HEADERS: &[&str] = &["requestHeaderAllowlist"];

/// The keys of ours in an agent: not in the toolkit's schema, so it erases them when it writes the file.
pub const OURS: [&str; 7] =
    ["command", "build", "environment_variables", "filesystem_configurations", "models", "endpoints", "tags"];

/// The known keys of the map at `path` inside an agent. Nothing: any key may stand there.
pub(super) fn of(path: &[&str]) -> Option<&'static [&'static str]> {
    Some(match path {
        [] => AGENT,
        ["aws"] => AWS,
        ["aws", "network_configuration"] => NETWORK,
        ["aws", "network_configuration", "network_mode_config"] => NETWORK_MODE,
        ["aws", "protocol_configuration"] => PROTOCOL,
        ["aws", "observability"] => OBSERVABILITY,
        ["aws", "lifecycle_configuration"] => LIFECYCLE,
        ["bedrock_agentcore"] => DEPLOYED,
        ["codebuild"] => CODEBUILD,
        ["memory"] => MEMORY,
        ["identity"] => IDENTITY,
        ["aws_jwt"] => AWS_JWT,
        ["request_header_configuration"] => HEADERS,
        _ => return None,
    })
}

/// Refuses a key that is nearly one of the known ones: it would be ignored, and meant something. A key that
/// resembles none is somebody else's and stays.
pub(super) fn check(file: &Path, text: &str) -> Result<(), ProjectError> {
    let many = is_many(text);
    let mut open: Vec<Open> = Vec::new();
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let key = open.last_mut().and_then(Open::take_value_key);
                let map = matches!(event, Event::MappingStart(..));
                open.push(Open { name: key.unwrap_or_default(), map, key: None });
            }
            Event::MappingEnd | Event::SequenceEnd => drop(open.pop()),
            Event::Scalar(value, ..) => {
                let path: Vec<String> = open.iter().skip(1).map(|o| o.name.clone()).collect();
                let Some(top) = open.last_mut() else { continue };
                if !top.map || top.take_value_key().is_some() {
                    continue;
                }
                top.key = Some(value.to_string());
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let known = match (many, path.as_slice()) {
                    (true, []) => Some(FILE),
                    (true, ["agents", _, inner @ ..]) => of(inner),
                    (true, _) => None,
                    (false, inner) => of(inner),
                };
                if let Some(near) = known.and_then(|known| near(&value, known)) {
                    return Err(ProjectError::Invalid {
                        file: file.to_owned(),
                        line: span.start.line() as u64,
                        column: span.start.col() as u64 + 1,
                        message: format!("`{value}` is not a key here: did you mean `{near}`?"),
                    });
                }
            }
            Event::Alias(_) => {
                if let Some(top) = open.last_mut()
                    && top.map
                    && top.take_value_key().is_none()
                {
                    top.key = Some(String::new());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A collection that has begun.
struct Open {
    /// The key that it is the value of.
    name: String,
    map: bool,
    /// The key whose value comes next.
    key: Option<String>,
}

impl Open {
    fn take_value_key(&mut self) -> Option<String> {
        self.key.take()
    }
}

/// True for a file with `agents`.
fn is_many(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut key = false;
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, _))) = parser.next_event() {
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                if depth == 1 {
                    key = false;
                }
                depth += 1;
                if depth == 1 {
                    key = true;
                }
            }
            Event::MappingEnd | Event::SequenceEnd => {
                depth -= 1;
                if depth == 1 {
                    key = true;
                }
            }
            Event::Scalar(value, ..) if depth == 1 => {
                if key && value == "agents" {
                    return true;
                }
                key = !key;
            }
            Event::Alias(_) if depth == 1 => key = !key,
            _ => {}
        }
    }
    false
}

/// The known key that `key` is nearly, but is not.
fn near<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Shorter words resemble each other by chance.
    const SHORTEST: usize = 4;
    if known.contains(&key) || key.len() < SHORTEST {
        return None;
    }
    let plain =
        |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let allowed = if key.len() < 8 { 1 } else { 2 };
    known.iter().copied().find(|k| plain(k) == plain(key)).or_else(|| {
        known
            .iter()
            .copied()
            .map(|k| (distance(key, k), k))
            .filter(|(d, _)| *d <= allowed)
            .min()
            .map(|(_, k)| k)
    })
}

/// How many letters have to be put in, taken out, replaced or swapped with their neighbour.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<(u64, u64, String)> {
        match check(Path::new("/p/f"), text) {
            Ok(()) => None,
            Err(ProjectError::Invalid { line, column, message, .. }) => Some((line, column, message)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_that_is_nearly_right_is_named_with_its_place() {
        let text = "agents:\n  a:\n    name: a\n    enviroment_variables: {A: b}\n";
        let (line, column, message) = told(text).unwrap();
        assert_eq!((line, column), (4, 5));
        assert_eq!(
            message,
            "`enviroment_variables` is not a key here: did you mean `environment_variables`?"
        );
        for (wrong, right) in [
            ("environmentVariables: {}", "environment_variables"),
            ("aws: {lifecycle_config: {}}", ""),
            ("aws: {lifecycleConfiguration: {}}", "lifecycle_configuration"),
            (
                "aws: {lifecycle_configuration: {idle_runtime_session_timeuot: 5}}",
                "idle_runtime_session_timeout",
            ),
            ("entry_point: a.py", "entrypoint"),
            ("tag: {}", ""),
            ("request_header_configuration: {requestHeaderAllowList: []}", "requestHeaderAllowlist"),
        ] {
            let found = told(&format!("name: a\n{wrong}\n"));
            match found {
                Some((2, _, message)) => assert!(message.contains(&format!("`{right}`")), "{message}"),
                Some(other) => panic!("{other:?}"),
                None => assert_eq!(right, "", "{wrong}"),
            }
        }
    }

    #[test]
    fn keys_of_others_and_values_are_left_alone() {
        assert_eq!(
            told("agents:\n  nam: {name: nam, owner: me, environment_variables: {entrypint: x}}\n"),
            None
        );
        assert_eq!(told("default_agent: agentss\nagents: {a: {name: a}}\nx-notes: {entrypiont: 1}\n"), None);
        assert_eq!(
            told("agents:\n  a: {name: a, authorizer_configuration: {customJWTAuthorizer: {}}}\n"),
            None
        );
        assert_eq!(told("base: &b {region: x}\nagents: {a: {name: a, aws: *b, tags: {regon: x}}}\n"), None);
        assert!(told("defualt_agent: a\nagents: {a: {name: a}}\n").is_some());
    }

    #[test]
    fn distances_count_swaps_once() {
        assert_eq!(distance("aws", "aws"), 0);
        assert_eq!(distance("timeuot", "timeout"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

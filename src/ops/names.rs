//! What the resources of an agent are called, and the tags that say who made them.

use sha2::{Digest, Sha256};

use super::ports::Tags;
use crate::model::RuntimeName;

/// Tag whose value [`MADE_BY`] says that this program created the resource.
pub const CREATED_BY: &str = "agentcore:created-by";
/// The value.
pub const MADE_BY: &str = "agentcore-cli";
/// Tag with the name of the agent that the resource is for.
pub const FOR_AGENT: &str = "agentcore:agent";
/// Name of the inline policy of a role that this program keeps.
pub const POLICY: &str = "AgentCoreExecution";

/// Digits of a hash that keep two names apart. [ours]
const HASH_DIGITS: usize = 10;
/// Longest name of a role. [IAM: 64]
const ROLE_NAME: usize = 64;

/// The tags of a resource made for `agent`.
pub fn tags(agent: &RuntimeName) -> Tags {
    [(CREATED_BY, MADE_BY), (FOR_AGENT, agent.as_str())].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// The tags of what all agents of an account and region share.
pub fn shared_tags() -> Tags {
    [(CREATED_BY.to_owned(), MADE_BY.to_owned())].into()
}

/// True when this program created it, for whichever agent.
pub fn is_ours(tags: &Tags) -> bool {
    tags.get(CREATED_BY).is_some_and(|v| v == MADE_BY)
}

/// True when this program created it for `agent`.
pub fn is_ours_for(tags: &Tags, agent: &RuntimeName) -> bool {
    is_ours(tags) && tags.get(FOR_AGENT).is_some_and(|v| v == agent.as_str())
}

/// Name of the execution role.
pub fn role(agent: &RuntimeName, region: &str) -> String {
    let hash = hash(agent.as_str());
    let room = ROLE_NAME.saturating_sub("AgentCore--".len() + region.len() + 1 + hash.len());
    let readable: String = agent.as_str().chars().take(room).collect();
    format!("AgentCore-{region}-{readable}-{hash}")
}

/// Name of the image repository. Repositories have no capital letters, and no two signs in a row.
pub fn repository(agent: &RuntimeName) -> String {
    let lower = agent.as_str().to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('_').filter(|p| !p.is_empty()).collect();
    let name = parts.join("_");
    // Two agents must not meet in one repository because their names differ in capitals.
    if name == agent.as_str() {
        format!("bedrock-agentcore/{name}")
    } else {
        format!("bedrock-agentcore/{name}-{}", hash(agent.as_str()))
    }
}

/// Name of the bucket for code packages, one for an account and region.
pub fn bucket(account: &str, region: &str) -> String {
    format!("agentcore-code-{account}-{region}")
}

/// The key of a code package.
pub fn package_key(prefix: &str, agent: &RuntimeName, hash: &str) -> String {
    format!("{}{hash}.zip", package_prefix(prefix, agent))
}

/// What the keys of an agent's packages begin with.
pub fn package_prefix(prefix: &str, agent: &RuntimeName) -> String {
    match prefix.trim_matches('/') {
        "" => format!("{agent}/"),
        prefix => format!("{prefix}/{agent}/"),
    }
}

/// True for a key that [`package_key`] makes.
pub fn is_package_key(key: &str, prefix: &str, agent: &RuntimeName) -> bool {
    key.strip_prefix(&package_prefix(prefix, agent))
        .and_then(|rest| rest.strip_suffix(".zip"))
        .is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The host of an account's private registry.
pub fn registry(account: &str, region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{account}.dkr.ecr.{region}.{end}")
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>()[..HASH_DIGITS]
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> RuntimeName {
        name.parse().unwrap()
    }

    #[test]
    fn names_fit_and_two_agents_never_share_one() {
        let long = agent(&format!("a{}", "b".repeat(47)));
        let other = agent(&format!("a{}c", "b".repeat(46)));
        for region in ["us-west-2", "ap-southeast-1", "us-gov-west-1"] {
            let name = role(&long, region);
            assert!(name.len() <= ROLE_NAME, "{name}");
            assert_ne!(name, role(&other, region));
        }
        assert_eq!(repository(&agent("coder")), "bedrock-agentcore/coder");
        assert_ne!(repository(&agent("Coder")), repository(&agent("coder")));
        assert_ne!(repository(&agent("a__b")), repository(&agent("a_b")));
        let legal =
            regex::Regex::new(r"^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$").unwrap();
        for name in ["coder", "Coder_", "A__b_", "z9"] {
            assert!(legal.is_match(&repository(&agent(name))), "{name}");
        }
    }

    #[test]
    fn only_our_own_keys_are_ours() {
        let coder = agent("coder");
        let key = package_key("team/x/", &coder, &"a".repeat(64));
        assert_eq!(key, format!("team/x/coder/{}.zip", "a".repeat(64)));
        assert!(is_package_key(&key, "team/x", &coder));
        assert!(!is_package_key("team/x/coder/deployment.zip", "team/x", &coder));
        assert!(!is_package_key(&key, "team/x", &agent("code")));
        assert!(is_ours_for(&tags(&coder), &coder) && !is_ours_for(&tags(&coder), &agent("other")));
    }
}

//! The rule that turns a short session name into a session id.

use sha2::{Digest, Sha256};

use super::SessionId;

/// The session id of `name` for `agent`: the same pair always gives the same id.
///
/// A name that already is a legal id is used as it is. Any other name becomes its letters, digits,
/// `-` and `_` (other characters as `-`, at most 48, without leading `-` and `_`), a `-`, and the
/// first 32 hexadecimal digits of SHA-256 over the agent's name, a zero byte and the name. The rule is
/// public (the README states it) so that a script without this tool can compute it.
pub fn session_id_for_name(agent: &str, name: &str) -> SessionId {
    if let Ok(id) = name.parse() {
        return id;
    }
    let mut hash = Sha256::new();
    hash.update(agent.as_bytes());
    hash.update([0]);
    hash.update(name.as_bytes());
    let digits: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    let readable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let readable: String = readable.trim_start_matches(['-', '_']).chars().take(48).collect();
    let readable = if readable.is_empty() { "s".to_owned() } else { readable };
    // At most 48 + 1 + 32 legal characters beginning with a letter or digit, so always an id.
    format!("{readable}-{digits}").parse().unwrap_or_else(|_| SessionId::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_finds_the_same_session_of_its_agent_only() {
        let id = session_id_for_name("coder", "ticket-8421");
        assert_eq!(id, session_id_for_name("coder", "ticket-8421"));
        assert_ne!(id, session_id_for_name("other", "ticket-8421"));
        assert!(id.as_str().starts_with("ticket-8421-"), "{id}");
        let legal = "x".repeat(40);
        assert_eq!(session_id_for_name("coder", &legal).as_str(), legal);
    }

    #[test]
    fn every_name_maps_to_a_legal_id_and_keeps_it() {
        for name in ["", "-", "a b", "日本語", "___", &"y".repeat(400), "a/../b", "😀"] {
            let id = session_id_for_name("coder", name);
            assert_eq!(id, session_id_for_name("coder", name), "{name}");
        }
    }
}

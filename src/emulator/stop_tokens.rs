//! `clientToken` of StopRuntimeSession: which stops have been answered.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::model::SessionKey;

/// Tokens kept. A client repeats a stop within seconds, so the newest ones are enough. [ours]
const KEPT: usize = 1024;

/// The newest answered stops, oldest first.
#[derive(Default)]
pub(super) struct StopTokens {
    answered: Mutex<VecDeque<(SessionKey, String)>>,
}

impl StopTokens {
    /// True when this stop has been answered before.
    pub(super) fn knows(&self, key: &SessionKey, token: &str) -> bool {
        self.answered.lock().iter().any(|(k, t)| k == key && t == token)
    }

    /// Keeps an answered stop.
    pub(super) fn remember(&self, key: &SessionKey, token: &str) {
        let mut answered = self.answered.lock();
        if answered.len() == KEPT {
            answered.pop_front();
        }
        answered.push_back((key.clone(), token.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointName, SessionId};

    #[test]
    fn a_token_is_known_for_its_session_only_and_the_oldest_are_forgotten() {
        let key = |session: SessionId| SessionKey {
            runtime: "agent-0123456789".parse().unwrap(),
            endpoint: EndpointName::default_endpoint(),
            session,
        };
        let (one, two) = (key(SessionId::random()), key(SessionId::random()));
        let tokens = StopTokens::default();
        tokens.remember(&one, "t");
        assert!(tokens.knows(&one, "t"));
        assert!(!tokens.knows(&two, "t") && !tokens.knows(&one, "u"));
        for n in 0..KEPT {
            tokens.remember(&two, &n.to_string());
        }
        assert!(!tokens.knows(&one, "t"));
    }
}

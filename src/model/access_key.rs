//! The access key of one emulator.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pair as AWS's access keys are, known to whoever may read the emulator's home.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// Stands in every signed request.
    pub access_key_id: String,
    /// Signs, and is never sent.
    pub secret_access_key: String,
}

impl AccessKey {
    /// A new one. Its start says that it is none of AWS's, to people and to scanners for leaked keys.
    pub fn random() -> Self {
        let word = || uuid::Uuid::new_v4().simple().to_string();
        let mut id = format!("LOCAL{}", word().to_ascii_uppercase());
        id.truncate(20);
        Self { access_key_id: id, secret_access_key: format!("{}{}", word(), word()) }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_the_same_and_never_shown() {
        let (one, other) = (AccessKey::random(), AccessKey::random());
        assert_ne!(one, other);
        assert_eq!(one.access_key_id.len(), 20);
        assert!(one.secret_access_key.len() >= 40);
        assert!(!format!("{one:?}").contains(&one.secret_access_key));
    }
}

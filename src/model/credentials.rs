//! The credentials an agent calls AWS with.

use super::Timestamp;

/// Credentials of an identity, perhaps for a time only. Never shown: `Debug` leaves the secrets out.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
    /// When they end, where they do.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_secret() {
        let credentials = AwsCredentials {
            access_key_id: "AKIA".into(),
            secret_access_key: "hush".into(),
            session_token: Some("psst".into()),
            expires_at: None,
        };
        let text = format!("{credentials:?}");
        assert!(text.contains("AKIA") && !text.contains("hush") && !text.contains("psst"), "{text}");
    }
}

//! Why a call of AWS failed, as a value: the rooms that decide what a failure means know no SDK.

/// Why a call of AWS, or of the emulator, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// The service answered with an error.
    #[error("`{operation}` failed with `{name}`: {message}")]
    Service {
        /// The operation.
        operation: &'static str,
        /// The error's name in the service model, such as `ResourceNotFoundException`.
        name: String,
        /// What the service says.
        message: String,
        /// HTTP status; absent for an error inside a stream.
        status: Option<u16>,
        /// The request's id.
        request_id: Option<String>,
    },
    /// No connection could be made.
    #[error("`{operation}` could not connect: {reason}")]
    Connect {
        /// The operation.
        operation: &'static str,
        /// The cause.
        reason: String,
    },
    /// No answer in time.
    #[error("`{operation}` was not answered in time")]
    Timeout {
        /// The operation.
        operation: &'static str,
    },
    /// The connection broke, or what came was no answer.
    #[error("`{operation}` got no complete answer: {reason}")]
    Broken {
        /// The operation.
        operation: &'static str,
        /// The cause.
        reason: String,
    },
    /// There are no credentials to sign with.
    #[error("no AWS credentials could be had from {who}: {reason}")]
    Credentials {
        /// The profile, or the default chain.
        who: String,
        /// The cause.
        reason: String,
        /// There were some, and their time is over.
        expired: bool,
    },
    /// Neither the command, the project nor the user's AWS set-up names a region.
    #[error("no AWS region is set")]
    NoRegion,
    /// A variable of the environment that decides how AWS is reached does not make sense.
    #[error("`{variable}` cannot be used: {reason}")]
    Setting {
        /// Its name.
        variable: &'static str,
        /// The cause; without the value, which may hold a password.
        reason: String,
    },
    /// The request could not be made from its values.
    #[error("`{operation}` could not be sent: {reason}")]
    Request {
        /// The operation.
        operation: &'static str,
        /// The cause.
        reason: String,
    },
}

impl AwsError {
    /// The error's name in the service model, where the service gave one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Service { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The id of the failed request.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Service { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// True when what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        const NAMES: [&str; 9] = [
            "ResourceNotFoundException",
            "RepositoryNotFoundException",
            "ImageNotFoundException",
            "LifecyclePolicyNotFoundException",
            "NoSuchEntity",
            "NoSuchBucket",
            "NoSuchKey",
            "NoSuchTagSet",
            "NotFound",
        ];
        // HEAD has no body to name the error in.
        self.name().is_some_and(|n| NAMES.contains(&n)) || (self.status() == Some(404) && self.is_unnamed())
    }

    /// True when the caller may not do that.
    pub fn is_denied(&self) -> bool {
        const NAMES: [&str; 4] =
            ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"];
        self.name().is_some_and(|n| NAMES.contains(&n)) || (self.status() == Some(403) && self.is_unnamed())
    }

    /// True when the credentials themselves are not accepted.
    pub fn is_unknown_caller(&self) -> bool {
        const NAMES: [&str; 7] = [
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        ];
        self.name().is_some_and(|n| NAMES.contains(&n))
    }

    fn is_unnamed(&self) -> bool {
        self.name().is_none_or(|n| n.starts_with("HTTP "))
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Credentials { who, expired: true, .. } => match who.strip_prefix("profile ") {
                Some(profile) => format!("run `aws sso login --profile {}`", profile.trim_matches('`')),
                None => "run `aws sso login`, or renew the credentials as you got them".to_owned(),
            },
            Self::Credentials { .. } => "set AWS_PROFILE, name a profile with `--profile`, or run `aws configure`; \
                                         without an AWS account, `agentcore local` runs agents on this machine"
                .to_owned(),
            Self::NoRegion => {
                "name one with `--region`, in AWS_REGION, or as `aws: {region: …}` in the project file".to_owned()
            }
            Self::Setting { variable: "AWS_CA_BUNDLE", .. } => {
                "name a file of certificates in PEM form, or unset it".to_owned()
            }
            Self::Setting { variable: "ca_bundle", .. } => {
                "name a file of certificates in PEM form there, or in `AWS_CA_BUNDLE`, which comes first".to_owned()
            }
            Self::Setting { .. } => {
                "it looks like `http://user:password@host:port`; `no_proxy` names what is reached without it".to_owned()
            }
            Self::Service { operation, message, .. } if self.is_denied() => {
                let action = denied_action(message).unwrap_or(operation);
                format!("the caller needs the permission `{action}`; an administrator of the account can grant it")
            }
            Self::Service { name, .. } if self.is_unknown_caller() => {
                if name.contains("xpired") {
                    "renew the credentials: `aws sso login`, or as you got them".to_owned()
                } else {
                    "AWS does not know these credentials: check AWS_PROFILE, AWS_ACCESS_KEY_ID and the endpoint"
                        .to_owned()
                }
            }
            _ => return None,
        };
        Some(text)
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Service { status, .. } => *status,
            _ => None,
        }
    }
}

/// The action in the words that IAM denies it with: `… is not authorized to perform: iam:CreateRole on …`.
fn denied_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("to perform: ")?;
    let action = rest.split([' ', ',']).next()?.trim_end_matches('.');
    action.contains(':').then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, status: u16, message: &str) -> AwsError {
        AwsError::Service {
            operation: "CreateRole",
            name: name.to_owned(),
            message: message.to_owned(),
            status: Some(status),
            request_id: None,
        }
    }

    #[test]
    fn a_denied_call_names_the_action() {
        let message =
            "User: arn:aws:iam::1:user/a is not authorized to perform: iam:TagRole on resource: role r";
        let error = service("AccessDenied", 403, message);
        assert!(error.hint().unwrap().contains("`iam:TagRole`"));
        assert!(service("AccessDeniedException", 403, "no").hint().unwrap().contains("`CreateRole`"));
        assert!(service("HTTP 403", 403, "").is_denied());
        assert!(!service("ValidationException", 400, "").is_denied());
    }

    #[test]
    fn what_is_not_there_and_who_is_not_known_are_told_apart() {
        assert!(service("NoSuchEntity", 404, "").is_not_found());
        assert!(service("HTTP 404", 404, "").is_not_found());
        assert!(!service("ConflictException", 409, "").is_not_found());
        let expired = service("ExpiredTokenException", 403, "The security token is expired");
        assert!(expired.is_unknown_caller() && expired.hint().unwrap().contains("sso login"));
        let sso = AwsError::Credentials { who: "profile `dev`".into(), reason: "x".into(), expired: true };
        assert_eq!(sso.hint().unwrap(), "run `aws sso login --profile dev`");
    }
}

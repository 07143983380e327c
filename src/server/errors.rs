//! The one table from domain errors to the service's errors, and their form as HTTP answers.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::emulator::registry::{RegistryError, ResolveError};
use crate::emulator::sessions::SessionError;
use crate::engine::EngineError;
use crate::engine::agent_http::AgentError;
use crate::model::{ParseIdError, limits};
use crate::wire::error::{AwsError, ErrorKind, FieldError, ValidationReason};
use crate::wire::validate;

/// Header that names the error. [guide]
const ERROR_TYPE: &str = "x-amzn-errortype";

/// An error as an HTTP answer: status, `x-amzn-ErrorType`, JSON body.
pub fn respond_error(error: &AwsError) -> Response {
    let mut response = Response::new(Body::from(error.body().to_string()));
    *response.status_mut() =
        http::StatusCode::from_u16(error.kind.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ERROR_TYPE, HeaderValue::from_static(error.kind.name()));
    response
}

/// A member of a request that is no value of its type.
pub(crate) fn bad_field(member: &str, error: &ParseIdError) -> AwsError {
    invalid(member, &format!("the {error}"))
}

/// A member of a request that breaks a rule.
pub(crate) fn invalid(member: &str, message: &str) -> AwsError {
    let field = FieldError { name: member.to_owned(), message: message.to_owned() };
    AwsError::fields(format!("Value at '{member}' is not valid: {message}"), vec![field])
}

/// The error for an agent that answered with a status that is no success. [guide: troubleshooting]
pub(crate) fn agent_status(status: u16) -> AwsError {
    AwsError::new(
        ErrorKind::RuntimeClient,
        format!(
            "Received error ({status}) from runtime. Please check your CloudWatch logs for more information."
        ),
    )
}

impl From<RegistryError> for AwsError {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::NotFound(_) => AwsError::new(ErrorKind::ResourceNotFound, message),
            RegistryError::Conflict(_) => AwsError::new(ErrorKind::Conflict, message),
            RegistryError::Quota(_) => AwsError::new(ErrorKind::ServiceQuotaExceeded, message),
            RegistryError::Refused(refusals) => validate::violations(
                refusals.into_iter().map(|r| FieldError { name: r.member, message: r.message }).collect(),
            ),
            // ConflictException has no reasons, ValidationException has one of this very name. [model]
            RegistryError::TokenMismatch => AwsError {
                reason: Some(ValidationReason::IdempotentParameterMismatchException),
                ..AwsError::fields(message.clone(), vec![FieldError { name: "clientToken".into(), message }])
            },
            RegistryError::PageToken => {
                AwsError::fields(message.clone(), vec![FieldError { name: "nextToken".into(), message }])
            }
            // The message is for the person at this machine, who is also the operator.
            RegistryError::Store(_) => AwsError::new(ErrorKind::InternalServer, message),
        }
    }
}

impl From<ResolveError> for AwsError {
    fn from(error: ResolveError) -> Self {
        Self::new(ErrorKind::ResourceNotFound, error.to_string())
    }
}

impl From<SessionError> for AwsError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::Unknown => Self::new(ErrorKind::ResourceNotFound, message),
            SessionError::Busy => Self::new(ErrorKind::RetryableConflict, message),
            SessionError::InitTimeout { .. } => Self::new(ErrorKind::RuntimeClient, message),
            // The service has one text for every agent that does not become healthy. [observed]
            SessionError::AgentDied { .. } => {
                let limit = limits::AGENT_INIT_TIMEOUT;
                let timeout = SessionError::InitTimeout { limit, last_lines: Vec::new() };
                Self::new(ErrorKind::RuntimeClient, timeout.to_string())
            }
            SessionError::Engine(engine) => {
                let message = engine.in_full();
                Self::new(ErrorKind::RuntimeClient, format!("The session could not be started: {message}"))
            }
            SessionError::Start(_) => {
                Self::new(ErrorKind::RuntimeClient, format!("The session could not be started: {message}"))
            }
            SessionError::Stop(_) | SessionError::ShuttingDown => {
                Self::new(ErrorKind::InternalServer, message)
            }
        }
    }
}

impl From<AgentError> for AwsError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Timeout => Self::new(ErrorKind::GatewayTimeout, error.to_string()),
            // The agent is there (the session was ready) and broke the call: as if it had answered 500.
            AgentError::Connection(_) => agent_status(500),
        }
    }
}

impl From<EngineError> for AwsError {
    fn from(error: EngineError) -> Self {
        Self::new(ErrorKind::RuntimeClient, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status_header_and_body() {
        for kind in ErrorKind::ALL {
            let response = respond_error(&AwsError::new(kind, "m"));
            assert_eq!(response.status().as_u16(), kind.status());
            assert_eq!(response.headers()[ERROR_TYPE], kind.name());
        }
    }

    #[test]
    fn an_agent_that_does_not_answer_is_the_gateways_time_out() {
        let response = respond_error(&AgentError::Timeout.into());
        assert_eq!(response.status(), http::StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(response.headers()[ERROR_TYPE], "GatewayTimeoutException");
        // An answer that breaks off is the agent's failure, not the gateway's.
        let broken = AwsError::from(AgentError::Connection("reset".into()));
        assert_eq!((broken.kind, broken.message), (ErrorKind::RuntimeClient, agent_status(500).message));
    }

    #[test]
    fn a_dead_agent_shows_as_the_services_init_text() {
        let died = SessionError::AgentDied { exit: "exit code 1".into(), last_lines: vec!["boom".into()] };
        let error = AwsError::from(died);
        assert_eq!(error.kind, ErrorKind::RuntimeClient);
        assert_eq!(
            error.message,
            "Runtime initialization time exceeded. Please make sure that initialization completes in 30s."
        );
    }
}

//! Errors of the domain to errors of the service, and those to HTTP: the one place that gives HTTP meaning.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use crate::emulator::registry::RegistryError;
use crate::wire::error::{AwsError, ErrorKind, FieldError, ValidationReason};
use crate::wire::validate;

/// The header that names the exception. [guide]
const ERROR_TYPE: &str = "x-amzn-errortype";

/// An error as the service sends it: status, `x-amzn-ErrorType`, JSON body.
pub(crate) fn respond_error(error: &AwsError) -> Response {
    let mut response = Response::new(Body::from(error.body().to_string()));
    *response.status_mut() =
        StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ERROR_TYPE, HeaderValue::from_static(error.kind.name()));
    response
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

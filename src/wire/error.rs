//! The service's errors and their form on the wire.

use serde::Serialize;

/// An error of the service model. [model]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    Validation,
    Unauthorized,
    ServiceQuotaExceeded,
    AccessDenied,
    ResourceNotFound,
    Conflict,
    RetryableConflict,
    RuntimeClient,
    Throttling,
    InternalServer,
    /// The gateway's time-out; the service model has no shape for it. [guide: 504]
    GatewayTimeout,
    /// An operation that the emulator does not have. [AWS REST-JSON: UnknownOperationException]
    UnknownOperation,
}

impl ErrorKind {
    /// Every kind, for tests that go through all of them.
    pub const ALL: [ErrorKind; 12] = [
        Self::Validation,
        Self::Unauthorized,
        Self::ServiceQuotaExceeded,
        Self::AccessDenied,
        Self::ResourceNotFound,
        Self::Conflict,
        Self::RetryableConflict,
        Self::RuntimeClient,
        Self::Throttling,
        Self::InternalServer,
        Self::GatewayTimeout,
        Self::UnknownOperation,
    ];

    /// The name in `x-amzn-ErrorType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::Unauthorized => "UnauthorizedException",
            Self::ServiceQuotaExceeded => "ServiceQuotaExceededException",
            Self::AccessDenied => "AccessDeniedException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::Conflict => "ConflictException",
            Self::RetryableConflict => "RetryableConflictException",
            Self::RuntimeClient => "RuntimeClientError",
            Self::Throttling => "ThrottlingException",
            Self::InternalServer => "InternalServerException",
            Self::GatewayTimeout => "GatewayTimeoutException",
            Self::UnknownOperation => "UnknownOperationException",
        }
    }

    /// The HTTP status. [model]
    pub fn status(self) -> u16 {
        match self {
            Self::Validation => 400,
            Self::Unauthorized => 401,
            Self::ServiceQuotaExceeded => 402,
            Self::AccessDenied => 403,
            Self::ResourceNotFound | Self::UnknownOperation => 404,
            Self::Conflict | Self::RetryableConflict => 409,
            Self::RuntimeClient => 424,
            Self::Throttling => 429,
            Self::InternalServer => 500,
            Self::GatewayTimeout => 504,
        }
    }
}

/// `reason` of a ValidationException. [model]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ValidationReason {
    CannotParse,
    FieldValidationFailed,
    IdempotentParameterMismatchException,
    EventInOtherSession,
    ResourceConflict,
}

/// One entry of `fieldList`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The member's path, such as `lifecycleConfiguration.maxLifetime`.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

/// An error ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    pub kind: ErrorKind,
    pub message: String,
    /// Only with [`ErrorKind::Validation`].
    pub reason: Option<ValidationReason>,
    pub field_list: Vec<FieldError>,
}

impl AwsError {
    /// An error with a message alone.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let reason = (kind == ErrorKind::Validation).then_some(ValidationReason::FieldValidationFailed);
        Self { kind, message: message.into(), reason, field_list: Vec::new() }
    }

    /// A ValidationException that names each wrong field.
    pub fn fields(message: impl Into<String>, field_list: Vec<FieldError>) -> Self {
        Self { field_list, ..Self::new(ErrorKind::Validation, message) }
    }

    /// The JSON body.
    pub fn body(&self) -> serde_json::Value {
        let mut body = serde_json::json!({ "message": self.message });
        if let (Some(reason), Some(map)) = (self.reason, body.as_object_mut()) {
            map.insert("reason".into(), serde_json::json!(reason));
            if !self.field_list.is_empty() {
                map.insert("fieldList".into(), serde_json::json!(self.field_list));
            }
        }
        body
    }
}

//! SDK errors mapped to the one value that keeps what AWS said.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_bedrockagentcore::types::error::InvokeAgentRuntimeCommandStreamOutputError as StreamError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::model::AwsError;

/// Maps the error of an HTTP call.
pub(super) fn from_sdk<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    // They were there when the connection was made and could not be renewed since.
    if let Some(cause) = chain(&error).find_map(|e| e.downcast_ref::<CredentialsError>()) {
        return from_credentials("the AWS set-up", cause);
    }
    match &error {
        SdkError::ServiceError(context) => {
            let raw = context.raw();
            let header = |name: &str| raw.headers().get(name).map(str::to_owned);
            let meta = context.err().meta();
            // A gateway's error has no shape in the model; its name is in the header alone.
            let name = meta.code().map(str::to_owned).or_else(|| header("x-amzn-errortype"));
            let message = meta.message().map(str::to_owned).or_else(|| header("x-amzn-errormessage"));
            AwsError::Service {
                operation,
                name: name.unwrap_or_else(|| format!("HTTP {}", raw.status().as_u16())),
                message: message.unwrap_or_else(|| "the service gave no message".into()),
                status: Some(raw.status().as_u16()),
                request_id: header("x-amzn-requestid"),
            }
        }
        SdkError::TimeoutError(_) => AwsError::Timeout { operation },
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) if connector.is_timeout() => AwsError::Timeout { operation },
            Some(connector) if was_connecting(connector) => {
                AwsError::Connect { operation, reason: deepest(connector) }
            }
            _ => AwsError::Broken { operation, reason: deepest(&error) },
        },
        SdkError::ConstructionFailure(_) => AwsError::Request { operation, reason: deepest(&error) },
        _ => AwsError::Broken { operation, reason: deepest(&error) },
    }
}

/// Maps the failure to find credentials.
pub(super) fn from_credentials(who: &str, error: &CredentialsError) -> AwsError {
    let expired = chain(error).any(|cause| cause.to_string().contains("expired"));
    let mut reason = deepest(error);
    if let CredentialsError::CredentialsNotLoaded(_) = error {
        reason = match chain(error).count() {
            1 => "none are configured".to_owned(),
            _ => reason,
        };
    }
    AwsError::Credentials { who: who.to_owned(), reason, expired }
}

/// Maps an error inside a command's event stream.
pub(super) fn from_stream<R>(operation: &'static str, error: SdkError<StreamError, R>) -> AwsError
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(context) => {
            let meta = context.err().meta();
            AwsError::Service {
                operation,
                name: stream_name(context.err()).unwrap_or_else(|| deepest(context.err())),
                message: meta.message().unwrap_or("the service gave no message").to_owned(),
                status: None,
                request_id: None,
            }
        }
        SdkError::TimeoutError(_) => AwsError::Timeout { operation },
        _ => AwsError::Broken { operation, reason: deepest(&error) },
    }
}

/// The error's name in the model. The SDK leaves the code of a modelled stream error empty.
fn stream_name(error: &StreamError) -> Option<String> {
    let name = match error {
        StreamError::AccessDeniedException(_) => "AccessDeniedException",
        StreamError::InternalServerException(_) => "InternalServerException",
        StreamError::ResourceNotFoundException(_) => "ResourceNotFoundException",
        StreamError::ServiceQuotaExceededException(_) => "ServiceQuotaExceededException",
        StreamError::ThrottlingException(_) => "ThrottlingException",
        StreamError::ValidationException(_) => "ValidationException",
        StreamError::RuntimeClientError(_) => "RuntimeClientError",
        other => return other.meta().code().map(str::to_owned),
    };
    Some(name.to_owned())
}

/// True when the request cannot have been sent: there was no connection yet. A name that is not known, a certificate
/// that nobody vouches for and a proxy that refuses are such cases too, and no reason to try again.
fn was_connecting(error: &(dyn Error + 'static)) -> bool {
    let connecting = |e: &hyper_util::client::legacy::Error| e.is_connect();
    never_connected(error) || chain(error).filter_map(|cause| cause.downcast_ref()).any(connecting)
}

/// True when the request cannot have left this machine: the system refused to connect. A broken
/// connection is another matter, and so is one that timed out, by which time it may have been made.
pub(super) fn never_connected(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
        )
    })
}

/// The innermost cause in words: the outer ones say only that something failed.
pub(super) fn deepest(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn Error + 'static)| (*e).source())
}

//! Which failed calls are sent again.

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority,
};
use aws_smithy_types::retry::ErrorKind;

/// Sends again only what cannot have run: a connection that was never made, a 409
/// RetryableConflictException and a 429. A 5xx or a broken connection may have had its effect.
#[derive(Debug)]
pub(super) struct OnlyWhatCannotHaveRun {
    /// A refused connection is tried again. Not on local targets: nobody is about to listen there.
    pub(super) reconnect: bool,
}

impl ClassifyRetry for OnlyWhatCannotHaveRun {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else { return RetryAction::NoActionIndicated };
        if let Some(connector) = error.as_connector_error() {
            let again = self.reconnect && super::error::never_connected(connector);
            return if again { RetryAction::transient_error() } else { RetryAction::RetryForbidden };
        }
        let Some(response) = context.response() else { return RetryAction::RetryForbidden };
        let name = response.headers().get("x-amzn-errortype").unwrap_or_default();
        match response.status().as_u16() {
            429 => RetryAction::retryable_error(ErrorKind::ThrottlingError),
            409 if name.starts_with("RetryableConflictException") => RetryAction::transient_error(),
            _ => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "only what cannot have run"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // After every built-in classifier, so that this one decides.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

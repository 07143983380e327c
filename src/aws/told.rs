//! Tells whoever waits that a call is being sent again, and why.

use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

/// Who is told.
pub(super) type Listener = Arc<dyn Fn(String) + Send + Sync>;

/// Tells of each attempt after the first.
#[derive(Clone)]
pub(super) struct Told(pub(super) Listener);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

/// What the attempt before came to; it lives as long as its call.
#[derive(Debug, Clone)]
struct LastAnswer(String);

impl Storable for LastAnswer {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Told {
    fn name(&self) -> &'static str {
        "told of attempts"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response().map(|response| {
            let name = response.headers().get("x-amzn-errortype").unwrap_or_default();
            let name = name.split(':').next().unwrap_or_default();
            format!("`{name}` ({})", response.status().as_u16())
        });
        let answer = answer.unwrap_or_else(|| "no connection".to_owned());
        bag.interceptor_state().store_put(LastAnswer(answer));
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let attempt = bag.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        if let Some(LastAnswer(answer)) = bag.load::<LastAnswer>().filter(|_| attempt > 1) {
            (self.0)(format!("{answer}: sent again, attempt {attempt} of {}", super::MAX_ATTEMPTS));
        }
        Ok(())
    }
}

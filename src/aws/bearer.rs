//! A token of the runtime's identity provider in place of a signature.
//!
//! A runtime with a JWT authorizer takes `Authorization: Bearer` and no SigV4, which the SDK's model of this
//! service does not know. So the request is made and signed as ever, with a key that is nobody's, and the
//! signature is replaced right before it leaves.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// What a signature leaves in a request besides `authorization`.
const SIGNED_WITH: [&str; 3] = ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// A token; its debug form does not show it.
#[derive(Clone)]
pub(super) struct BearerToken(pub(super) String);

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerToken")
    }
}

impl Intercept for BearerToken {
    fn name(&self) -> &'static str {
        "bearer token"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        for name in SIGNED_WITH {
            headers.remove(name);
        }
        headers.try_insert("authorization", format!("Bearer {}", self.0))?;
        Ok(())
    }
}

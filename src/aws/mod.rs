//! The only room that knows the AWS SDK.

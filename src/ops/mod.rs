//! The cloud use cases: bring an agent of a project to AgentCore Runtime and take it away again.
//!
//! Each has three parts. *Observe* reads what is in AWS, through the traits of [`ports`], which the `aws` room
//! implements. *Plan* is a pure function from what the project wants and what was observed to the steps that are
//! left; it is what people are shown. *Apply* takes the steps one by one and reports each fact at once, so that
//! a run that ended half way is gone on with by the next: its plan has fewer steps.
//!
//! What was created is known by tags on the resources themselves ([`names::tags`]), not by a file: an answer that
//! was lost, or a project that was checked out elsewhere, does not make a resource somebody else's.
//!
//! Nothing here prints, reads the environment or knows the SDK.

pub mod deploy;
pub mod desired;
pub mod destroy;
pub mod document;
pub mod names;
pub mod plan;
mod policy;
pub mod ports;

#[cfg(test)]
mod tests;

//! The vocabulary of [`super::service_model`]: operations, shapes and their members, as AWS's service
//! models describe them.

use super::service_model::SHAPES;

/// An operation of the service.
#[derive(Debug)]
pub struct Operation {
    /// Its name, such as `CreateAgentRuntime`.
    pub name: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with `{member}` where a member stands in it.
    pub uri: &'static str,
    /// The status of success.
    pub status: u16,
    /// Place of the input's shape.
    pub(super) input: u16,
    /// Place of the output's shape.
    pub(super) output: u16,
    /// The input member that is the whole body, where one is.
    pub payload: Option<&'static str>,
    /// The errors that the model lists: name and status.
    pub errors: &'static [(&'static str, u16)],
}

impl Operation {
    /// What a caller sends.
    pub fn input(&self) -> &'static Shape {
        shape(self.input)
    }

    /// What a caller gets.
    pub fn output(&self) -> &'static Shape {
        shape(self.output)
    }
}

/// The shape at a place of the table.
pub(super) fn shape(place: u16) -> &'static Shape {
    // The generator writes the places together with the table, and a test visits all of them.
    &SHAPES[usize::from(place)]
}

/// A shape: what a value must look like.
#[derive(Debug)]
pub struct Shape {
    /// Its name in the model.
    pub name: &'static str,
    /// True when its values must not appear in logs and messages.
    pub sensitive: bool,
    /// What it is.
    pub kind: Kind,
}

/// What a shape is. Lengths count characters of strings, entries of lists and maps, bytes of blobs.
#[derive(Debug)]
pub enum Kind {
    /// Members by name; of a union's members exactly one is given.
    Structure { union: bool, members: &'static [Member] },
    /// Values of one shape.
    List { member: u16, min: Option<u64>, max: Option<u64> },
    /// Values of one shape by text.
    Map { key: u16, value: u16, min: Option<u64>, max: Option<u64> },
    /// Text.
    String {
        min: Option<u64>,
        max: Option<u64>,
        /// A regular expression for the whole text.
        pattern: Option<&'static str>,
        /// The values of an enumeration; empty when it is none.
        values: &'static [&'static str],
    },
    /// A whole number of 32 bits.
    Integer { min: Option<i64>, max: Option<i64> },
    /// True or false.
    Boolean,
    /// A time, as ISO 8601 text.
    Timestamp,
    /// Bytes.
    Blob { min: Option<u64>, max: Option<u64> },
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    pub(super) shape: u16,
    /// True when it must be there.
    pub required: bool,
    /// Where it stands in a request or response.
    pub location: Location,
    /// True when SDKs fill it by themselves.
    pub idempotency_token: bool,
}

impl Member {
    /// What its value must look like.
    pub fn shape(&self) -> &'static Shape {
        shape(self.shape)
    }
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the body under its own name, or as the body.
    Body,
    /// In the path.
    Uri(&'static str),
    /// In the query.
    Query(&'static str),
    /// In a header.
    Header(&'static str),
    /// It is the HTTP status.
    StatusCode,
}

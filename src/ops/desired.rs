//! What a project wants of the cloud, without how its file is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ports::Tags;
use crate::model::{EndpointName, RuntimeName};

/// An agent as it is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Name of the runtime.
    pub name: RuntimeName,
    /// The account that the project is for, when it says one.
    pub account: Option<String>,
    /// ARN of the execution role, when one is named; else one is made.
    pub role: Option<String>,
    /// Models that the role which is made may call; nothing: all.
    pub models: Option<Vec<String>>,
    /// Members of the runtime's document that the project says; a null or an empty one removes.
    pub members: Map<String, Value>,
    /// Tags of the runtime. `Some` of none removes all.
    pub tags: Option<Tags>,
    /// Endpoints beside DEFAULT. `Some` of none removes those that this program made.
    pub endpoints: Option<BTreeMap<EndpointName, Endpoint>>,
    /// The runtime that an earlier deployment left in the project file.
    pub recorded: Recorded,
    /// Image repository, by name or URI, when the project says one.
    pub repository: Option<String>,
    /// `bucket[/prefix]` of code packages, when the project says one.
    pub code: Option<String>,
}

/// What an earlier deployment left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The runtime's id.
    pub id: Option<String>,
    /// Its ARN.
    pub arn: Option<String>,
}

/// An endpoint as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The version; the newest at the time it is made, and what it is on afterwards, when nothing is said.
    pub version: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

/// What an agent is made of, as far as it is known before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// An image that is in a registry.
    Image {
        /// Its URI.
        uri: String,
    },
    /// An image on this machine.
    Built(super::ports::LocalImage),
    /// A code package on this machine.
    Package(Package),
}

/// A code package on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The archive.
    pub file: std::path::PathBuf,
    /// SHA-256 of the archive in hexadecimal digits: the same content has the same.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
    /// `runtime`, such as `PYTHON_3_13`.
    pub runtime: String,
    /// `entryPoint`.
    pub entry_point: Vec<String>,
}

impl Package {
    /// The artifact's member of the document, once the archive is at this key.
    pub fn member(&self, bucket: &str, key: &str) -> Value {
        json!({ "codeConfiguration": {
            "code": { "s3": { "bucket": bucket, "prefix": key } },
            "runtime": self.runtime,
            "entryPoint": self.entry_point,
        } })
    }
}

/// The artifact's member of the document for an image.
pub fn image_member(uri: &str) -> Value {
    json!({ "containerConfiguration": { "containerUri": uri } })
}

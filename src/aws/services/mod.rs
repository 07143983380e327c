//! What the cloud use cases need of AWS: every port of `ops` by its service's client.

use aws_sdk_bedrockagentcorecontrol as control;
use aws_sdk_cloudwatchlogs as logs;
use aws_sdk_ecr as ecr;
use aws_sdk_iam as iam;
use aws_sdk_s3 as s3;
use aws_sdk_sts as sts;

use super::{Connection, ControlClient};

mod bucket;
mod documents;
mod login;
mod registry;
mod roles;

/// Clients of all services, made from one connection.
#[derive(Debug, Clone)]
pub struct Services {
    control: ControlClient,
    raw_control: control::Client,
    ecr: ecr::Client,
    iam: iam::Client,
    logs: logs::Client,
    s3: s3::Client,
    sts: sts::Client,
    region: String,
}

impl Connection {
    /// Clients of the services that deployments are made of. They are asked again as the SDK thinks right: what a
    /// deployment says to them can be said twice.
    pub fn services(&self) -> Services {
        let base = &self.base;
        Services {
            control: self.control(),
            raw_control: self.raw_control(),
            ecr: ecr::Client::new(base),
            iam: iam::Client::new(base),
            logs: logs::Client::new(base),
            s3: self.raw_s3(),
            sts: sts::Client::new(base),
            region: self.region().to_owned(),
        }
    }

    pub(super) fn raw_s3(&self) -> s3::Client {
        let config = s3::config::Builder::from(&self.base)
            // Servers other than AWS know neither buckets in host names nor checksums behind bodies.
            .force_path_style(self.path_style)
            .request_checksum_calculation(s3::config::RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(s3::config::ResponseChecksumValidation::WhenRequired);
        s3::Client::from_conf(config.build())
    }
}

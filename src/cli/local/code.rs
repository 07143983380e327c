//! Where the emulator gets code packages that are not in its own store: any S3 that the user's AWS set-up leads to.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::artifacts::import::Bucket;
use crate::aws::{AwsError, CloudSettings, Connection, NetworkSettings};
use crate::model::{ArtifactRef, Region};

/// Longest search for credentials and a region. [ours: the metadata service of a machine that is none of EC2's, in a
/// network that swallows what is sent to it, is asked eight times]
const SEARCH_LIMIT: Duration = Duration::from_secs(10);

/// S3, with the credentials that the user has when a package is fetched.
pub(crate) struct Buckets {
    pub(crate) region: Region,
    pub(crate) path_style: bool,
    pub(crate) network: NetworkSettings,
}

impl Bucket for Buckets {
    fn fetch<'a>(
        &'a self,
        object: &'a ArtifactRef,
        file: &'a Path,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let settings = CloudSettings {
                path_style: self.path_style,
                network: self.network.clone(),
                ..CloudSettings::default()
            };
            let search = async {
                match Connection::cloud(settings.clone()).await {
                    Err(AwsError::NoRegion) => {
                        let region = Some(self.region.to_string());
                        Connection::cloud(CloudSettings { region, ..settings }).await
                    }
                    result => result,
                }
            };
            let Ok(connection) = tokio::time::timeout(SEARCH_LIMIT, search).await else {
                return Err(format!(
                    "no AWS credentials were found within {} seconds; give the emulator some, such as AWS_PROFILE, and \
                     where there is no network AWS_EC2_METADATA_DISABLED=true",
                    SEARCH_LIMIT.as_secs()
                ));
            };
            let fetched = async {
                let version = object.version_id.as_deref();
                let services = connection?.services();
                services.fetch_object(&object.bucket, &object.prefix, version, file, limit).await
            };
            fetched.await.map_err(|e| match e.hint() {
                Some(hint) => format!("{e} ({hint})"),
                None => e.to_string(),
            })
        }
        .boxed()
    }
}

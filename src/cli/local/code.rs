//! Where the emulator gets code packages that are not in its own store: any S3 that the user's AWS set-up leads to.

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::artifacts::import::Bucket;
use crate::aws::{AwsError, CloudSettings, Connection};
use crate::model::{ArtifactRef, Region};

/// S3, with the credentials that the user has when a package is fetched.
pub(crate) struct Buckets {
    pub(crate) region: Region,
    pub(crate) path_style: bool,
}

impl Bucket for Buckets {
    fn fetch<'a>(
        &'a self,
        object: &'a ArtifactRef,
        file: &'a Path,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let settings = CloudSettings { path_style: self.path_style, ..CloudSettings::default() };
            let connection = match Connection::cloud(settings.clone()).await {
                Err(AwsError::NoRegion) => {
                    let region = Some(self.region.to_string());
                    Connection::cloud(CloudSettings { region, ..settings }).await
                }
                result => result,
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

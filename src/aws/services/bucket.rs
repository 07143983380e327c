//! S3.

use std::path::Path;

use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration, Tag, Tagging};
use tokio::io::AsyncWriteExt;

use super::Services;
use crate::aws::error::from_sdk;
use crate::model::AwsError;
use crate::ops::ports::{Answer, Bucket, Buckets, Tags};

/// The region whose name CreateBucket does not take. [S3]
const UNNAMED_REGION: &str = "us-east-1";

impl Services {
    /// GetObject into a file, at most `limit` bytes.
    pub async fn fetch_object(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        file: &Path,
        limit: u64,
    ) -> Answer<()> {
        const OPERATION: &str = "GetObject";
        let broken = |reason: String| AwsError::Broken { operation: OPERATION, reason };
        let call = self.s3.get_object().bucket(bucket).key(key).set_version_id(version.map(str::to_owned));
        let said = call.send().await.map_err(|e| from_sdk(OPERATION, e))?;
        let mut body = said.body;
        let mut file = tokio::fs::File::create(file).await.map_err(|e| broken(e.to_string()))?;
        let mut left = limit;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|e| broken(e.to_string()))?;
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| broken(format!("it has more than {limit} bytes, the service's limit")))?;
            file.write_all(&bytes).await.map_err(|e| broken(e.to_string()))?;
        }
        file.flush().await.map_err(|e| broken(e.to_string()))
    }
}

impl Buckets for Services {
    async fn bucket(&self, name: &str, owner: &str) -> Answer<Option<Bucket>> {
        let there = self.s3.head_bucket().bucket(name).expected_bucket_owner(owner).send().await;
        match there.map_err(|e| from_sdk("HeadBucket", e)) {
            Ok(_) => {}
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        }
        let tags = self.s3.get_bucket_tagging().bucket(name).expected_bucket_owner(owner).send().await;
        let tags = match tags.map_err(|e| from_sdk("GetBucketTagging", e)) {
            Ok(said) => said.tag_set,
            Err(e) if e.is_not_found() => Vec::new(),
            Err(e) => return Err(e),
        };
        Ok(Some(Bucket { tags: tags.into_iter().map(|t| (t.key, t.value)).collect() }))
    }

    async fn create_bucket(&self, name: &str) -> Answer<()> {
        let mut call = self.s3.create_bucket().bucket(name);
        if self.region != UNNAMED_REGION {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place).build();
            call = call.create_bucket_configuration(place);
        }
        call.send().await.map(drop).map_err(|e| from_sdk("CreateBucket", e))
    }

    async fn tag_bucket(&self, name: &str, owner: &str, tags: &Tags) -> Answer<()> {
        const OPERATION: &str = "PutBucketTagging";
        let unbuilt = |e: BuildError| AwsError::Request { operation: OPERATION, reason: e.to_string() };
        let list: Result<Vec<Tag>, BuildError> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tagging =
            Tagging::builder().set_tag_set(Some(list.map_err(unbuilt)?)).build().map_err(unbuilt)?;
        let call = self.s3.put_bucket_tagging().bucket(name).expected_bucket_owner(owner).tagging(tagging);
        call.send().await.map(drop).map_err(|e| from_sdk(OPERATION, e))
    }

    async fn object_size(&self, bucket: &str, owner: &str, key: &str) -> Answer<Option<u64>> {
        let call = self.s3.head_object().bucket(bucket).expected_bucket_owner(owner).key(key);
        match call.send().await.map_err(|e| from_sdk("HeadObject", e)) {
            Ok(said) => Ok(said.content_length.and_then(|n| u64::try_from(n).ok())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn upload(&self, bucket: &str, owner: &str, key: &str, file: &Path) -> Answer<()> {
        const OPERATION: &str = "PutObject";
        let unread = |e: String| AwsError::Request { operation: OPERATION, reason: e };
        let body = ByteStream::from_path(file).await.map_err(|e| unread(e.to_string()))?;
        let call = self.s3.put_object().bucket(bucket).expected_bucket_owner(owner).key(key);
        let call = call.content_type("application/zip").body(body);
        call.send().await.map(drop).map_err(|e| from_sdk(OPERATION, e))
    }

    async fn objects(&self, bucket: &str, owner: &str, prefix: &str) -> Answer<Vec<String>> {
        let call = self.s3.list_objects_v2().bucket(bucket).expected_bucket_owner(owner).prefix(prefix);
        let mut pages = call.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| from_sdk("ListObjectsV2", e))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|o| o.key));
        }
        Ok(keys)
    }

    async fn delete_object(&self, bucket: &str, owner: &str, key: &str) -> Answer<()> {
        let call = self.s3.delete_object().bucket(bucket).expected_bucket_owner(owner).key(key);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteObject", e))
    }

    async fn delete_bucket(&self, name: &str, owner: &str) -> Answer<()> {
        let call = self.s3.delete_bucket().bucket(name).expected_bucket_owner(owner);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteBucket", e))
    }
}

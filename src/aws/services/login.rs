//! STS and CloudWatch Logs.

use super::Services;
use crate::aws::error::from_sdk;
use crate::ops::ports::{Answer, Caller, Identity, LogGroups};

impl Identity for Services {
    async fn caller(&self) -> Answer<Caller> {
        let said = self.sts.get_caller_identity().send().await;
        let said = said.map_err(|e| from_sdk("GetCallerIdentity", e))?;
        Ok(Caller { account: said.account.unwrap_or_default(), arn: said.arn.unwrap_or_default() })
    }
}

impl LogGroups for Services {
    async fn log_groups(&self, prefix: &str) -> Answer<Vec<String>> {
        let mut pages = self.logs.describe_log_groups().log_group_name_prefix(prefix).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| from_sdk("DescribeLogGroups", e))?;
            names.extend(page.log_groups.unwrap_or_default().into_iter().filter_map(|g| g.log_group_name));
        }
        Ok(names)
    }

    async fn delete_log_group(&self, name: &str) -> Answer<()> {
        let call = self.logs.delete_log_group().log_group_name(name).send();
        call.await.map(drop).map_err(|e| from_sdk("DeleteLogGroup", e))
    }
}

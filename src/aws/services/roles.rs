//! IAM.

use aws_sdk_iam::error::BuildError;
use aws_sdk_iam::types::Tag;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Services;
use crate::aws::error::from_sdk;
use crate::model::AwsError;
use crate::ops::ports::{Answer, Role, Roles, Tags};

/// What is said of roles that are made.
const DESCRIPTION: &str = "Execution role of an agent on Amazon Bedrock AgentCore Runtime";

impl Roles for Services {
    async fn role(&self, name: &str) -> Answer<Option<Role>> {
        const OPERATION: &str = "GetRole";
        let said = self.iam.get_role().role_name(name).send().await.map_err(|e| from_sdk(OPERATION, e));
        let role = match said {
            Ok(said) => said.role,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(role) = role else { return Ok(None) };
        Ok(Some(Role {
            trust: policy(role.assume_role_policy_document.as_deref().unwrap_or_default()),
            arn: role.arn,
            tags: role.tags.unwrap_or_default().into_iter().map(|t| (t.key, t.value)).collect(),
        }))
    }

    async fn create_role(&self, name: &str, trust: &Value, tags: &Tags) -> Answer<String> {
        const OPERATION: &str = "CreateRole";
        let tags: Result<Vec<Tag>, BuildError> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tags = tags.map_err(|e| AwsError::Request { operation: OPERATION, reason: e.to_string() })?;
        let call = self
            .iam
            .create_role()
            .role_name(name)
            .description(DESCRIPTION)
            .assume_role_policy_document(trust.to_string())
            .set_tags(Some(tags));
        let said = call.send().await.map_err(|e| from_sdk(OPERATION, e))?;
        Ok(said.role.map(|role| role.arn).unwrap_or_default())
    }

    async fn set_trust(&self, name: &str, trust: &Value) -> Answer<()> {
        let call = self.iam.update_assume_role_policy().role_name(name).policy_document(trust.to_string());
        call.send().await.map(drop).map_err(|e| from_sdk("UpdateAssumeRolePolicy", e))
    }

    async fn role_policy(&self, role: &str, policy_name: &str) -> Answer<Option<Value>> {
        let call = self.iam.get_role_policy().role_name(role).policy_name(policy_name);
        match call.send().await.map_err(|e| from_sdk("GetRolePolicy", e)) {
            Ok(said) => Ok(Some(policy(&said.policy_document))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn put_role_policy(&self, role: &str, policy: &str, document: &Value) -> Answer<()> {
        let call = self.iam.put_role_policy().role_name(role).policy_name(policy);
        let call = call.policy_document(document.to_string());
        call.send().await.map(drop).map_err(|e| from_sdk("PutRolePolicy", e))
    }

    async fn role_policies(&self, role: &str) -> Answer<(Vec<String>, Vec<String>)> {
        let inline = self.iam.list_role_policies().role_name(role).send().await;
        let inline = inline.map_err(|e| from_sdk("ListRolePolicies", e))?.policy_names;
        let attached = self.iam.list_attached_role_policies().role_name(role).send().await;
        let attached = attached.map_err(|e| from_sdk("ListAttachedRolePolicies", e))?;
        let attached = attached.attached_policies.unwrap_or_default();
        Ok((inline, attached.into_iter().filter_map(|p| p.policy_arn).collect()))
    }

    async fn delete_role_policy(&self, role: &str, policy: &str) -> Answer<()> {
        let call = self.iam.delete_role_policy().role_name(role).policy_name(policy);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteRolePolicy", e))
    }

    async fn delete_role(&self, name: &str) -> Answer<()> {
        let call = self.iam.delete_role().role_name(name);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteRole", e))
    }
}

/// A policy as IAM writes it: JSON, percent-encoded. What is none compares as unlike any.
fn policy(text: &str) -> Value {
    serde_json::from_str(&percent_decode_str(text).decode_utf8_lossy()).unwrap_or_default()
}

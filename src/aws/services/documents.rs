//! The control plane of AgentCore, with a runtime's settings as the JSON the service writes.
//!
//! The SDK signs, sends, repeats and reads errors. The bodies of three operations are ours: what GetAgentRuntime
//! answered is read as it came, and what CreateAgentRuntime and UpdateAgentRuntime are sent is a document. The
//! SDK's own shapes would drop every member that is younger than they are.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

use super::Services;
use crate::aws::error::from_sdk;
use crate::aws::kept::Kept;
use crate::model::{AwsError, EndpointName, RuntimeName};
use crate::ops::document::Document;
use crate::ops::ports::{Answer, Endpoint, Runtime, Runtimes, Tags};

const CREATE: &str = "CreateAgentRuntime";
const UPDATE: &str = "UpdateAgentRuntime";
const GET: &str = "GetAgentRuntime";
const GET_ENDPOINT: &str = "GetAgentRuntimeEndpoint";

/// Time between two looks at an endpoint that is becoming READY, growing. [ours]
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Longest wait for an endpoint. [ours; the service takes seconds]
const READY_TIMEOUT: Duration = Duration::from_secs(300);

impl Runtimes for Services {
    async fn find_runtime(&self, name: &RuntimeName) -> Answer<Option<Runtime>> {
        let found = self.control.find_runtime(name.as_str()).await?;
        Ok(found.map(|r| Runtime { id: r.id, arn: r.arn, version: r.version }))
    }

    async fn runtime(&self, id: &str) -> Answer<Option<Document>> {
        let body = Kept::new(|answer| serde_json::from_slice(answer.body().bytes().unwrap_or_default()).ok());
        let call = self.raw_control.get_agent_runtime().agent_runtime_id(id).customize();
        let said = call.interceptor(body.clone()).send().await;
        match said.map_err(|e| from_sdk(GET, e)) {
            Ok(_) => {}
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        }
        match body.take() {
            Some(Value::Object(members)) => Ok(Some(Document::new(members))),
            _ => Err(AwsError::Broken { operation: GET, reason: "the answer is no JSON object".to_owned() }),
        }
    }

    async fn create_runtime(&self, document: &Document) -> Answer<Runtime> {
        let body = with_token(document);
        let call = self.raw_control.create_agent_runtime().customize();
        let said = call.mutate_request(move |request| replace(request, &body)).send().await;
        let said = said.map_err(|e| from_sdk(CREATE, e))?;
        Ok(Runtime {
            id: said.agent_runtime_id,
            arn: said.agent_runtime_arn,
            version: said.agent_runtime_version,
        })
    }

    async fn update_runtime(&self, id: &str, document: &Document) -> Answer<Runtime> {
        let body = with_token(document);
        let call = self.raw_control.update_agent_runtime().agent_runtime_id(id).customize();
        let said = call.mutate_request(move |request| replace(request, &body)).send().await;
        let said = said.map_err(|e| from_sdk(UPDATE, e))?;
        Ok(Runtime {
            id: said.agent_runtime_id,
            arn: said.agent_runtime_arn,
            version: said.agent_runtime_version,
        })
    }

    async fn wait_runtime(&self, id: &str) -> Answer<Vec<String>> {
        self.control.wait_ready(id).await
    }

    async fn delete_runtime(&self, id: &str) -> Answer<()> {
        self.control.delete(id).await
    }

    async fn wait_runtime_gone(&self, id: &str) -> Answer<()> {
        self.control.wait_gone(id).await
    }

    async fn endpoints(&self, id: &str) -> Answer<Vec<Endpoint>> {
        let mut pages =
            self.raw_control.list_agent_runtime_endpoints().agent_runtime_id(id).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| from_sdk("ListAgentRuntimeEndpoints", e))?;
            all.extend(page.runtime_endpoints.into_iter().map(|e| Endpoint {
                name: e.name,
                arn: e.agent_runtime_endpoint_arn,
                version: e.target_version.or(e.live_version),
                description: e.description,
            }));
        }
        Ok(all)
    }

    async fn create_endpoint(
        &self,
        id: &str,
        name: &EndpointName,
        version: Option<&str>,
        description: Option<&str>,
        tags: &Tags,
    ) -> Answer<()> {
        let call = self
            .raw_control
            .create_agent_runtime_endpoint()
            .agent_runtime_id(id)
            .name(name.as_str())
            .set_agent_runtime_version(version.map(str::to_owned))
            .set_description(description.map(str::to_owned))
            .set_tags(Some(tags.clone().into_iter().collect()));
        call.send().await.map(drop).map_err(|e| from_sdk("CreateAgentRuntimeEndpoint", e))
    }

    async fn update_endpoint(
        &self,
        id: &str,
        name: &str,
        version: Option<&str>,
        description: Option<&str>,
    ) -> Answer<()> {
        let call = self
            .raw_control
            .update_agent_runtime_endpoint()
            .agent_runtime_id(id)
            .endpoint_name(name)
            .set_agent_runtime_version(version.map(str::to_owned))
            .set_description(description.map(str::to_owned));
        call.send().await.map(drop).map_err(|e| from_sdk("UpdateAgentRuntimeEndpoint", e))
    }

    async fn delete_endpoint(&self, id: &str, name: &str) -> Answer<()> {
        let call = self.raw_control.delete_agent_runtime_endpoint().agent_runtime_id(id).endpoint_name(name);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteAgentRuntimeEndpoint", e))
    }

    async fn wait_endpoint(&self, id: &str, name: &str) -> Answer<()> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        let (mut pause, longest) = POLL;
        loop {
            let call = self.raw_control.get_agent_runtime_endpoint().agent_runtime_id(id).endpoint_name(name);
            let now = match call.send().await.map_err(|e| from_sdk(GET_ENDPOINT, e)) {
                Ok(now) => now,
                Err(e) if e.is_not_found() => return Ok(()),
                Err(e) => return Err(e),
            };
            match now.status.as_str() {
                "READY" => return Ok(()),
                "CREATING" | "UPDATING" | "DELETING" => {}
                status => {
                    let reason = now.failure_reason.unwrap_or_else(|| "no reason was given".into());
                    return Err(AwsError::Service {
                        operation: GET_ENDPOINT,
                        name: status.to_owned(),
                        message: format!("the endpoint did not become READY: {reason}"),
                        status: None,
                        request_id: None,
                    });
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(AwsError::Timeout { operation: GET_ENDPOINT });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn tags(&self, arn: &str) -> Answer<Tags> {
        let said = self.raw_control.list_tags_for_resource().resource_arn(arn).send().await;
        let said = said.map_err(|e| from_sdk("ListTagsForResource", e))?;
        Ok(said.tags.unwrap_or_default().into_iter().collect())
    }

    async fn tag(&self, arn: &str, tags: &Tags) -> Answer<()> {
        let call = self.raw_control.tag_resource().resource_arn(arn);
        let call = call.set_tags(Some(tags.clone().into_iter().collect()));
        call.send().await.map(drop).map_err(|e| from_sdk("TagResource", e))
    }

    async fn untag(&self, arn: &str, keys: &[String]) -> Answer<()> {
        let call = self.raw_control.untag_resource().resource_arn(arn).set_tag_keys(Some(keys.to_vec()));
        call.send().await.map(drop).map_err(|e| from_sdk("UntagResource", e))
    }
}

/// The document with a token, so that the service does it once however often it is sent.
fn with_token(document: &Document) -> String {
    let mut members = document.members().clone();
    members.insert("clientToken".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    Value::Object(members).to_string()
}

/// Puts `body` in the place of the body that the SDK wrote, before it is signed.
fn replace(request: &mut HttpRequest, body: &str) {
    request.headers_mut().insert("content-length", body.len().to_string());
    request.headers_mut().insert("content-type", "application/json");
    *request.body_mut() = SdkBody::from(body);
}

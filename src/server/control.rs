//! The control plane's operations: a handler each.
//!
//! Method, path, status and input shape of each come from the service model's table. A handler gets
//! members that fit the model and gives the members of its output.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{QueryRejection, RawPathParamsRejection};
use axum::extract::{Query, RawPathParams, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::BODY_TIMEOUT;
use super::errors::respond_error;
use crate::emulator::Emulator;
use crate::emulator::registry::{
    ClientToken, Endpoint, NewEndpoint, NewRuntime, PageRequest, Registry, RegistryError, Runtime,
    RuntimeSettings, RuntimeVersion, Tagged, Tags,
};
use crate::model::{
    EndpointName, NOTICES_HEADER, ParseIdError, RuntimeArn, RuntimeId, Version, limits, write_notices,
};
use crate::wire::error::{AwsError, ErrorKind, FieldError, ValidationReason};
use crate::wire::service_model as model;
use crate::wire::shape::Operation;
use crate::wire::validate::{self, Members, RawInput};

type Answer = Result<Value, AwsError>;
type Handler = fn(Arc<Emulator>, Members) -> BoxFuture<'static, Result<Output, AwsError>>;

/// Members of an operation's output, and what the emulator tells beside them.
struct Output {
    members: Value,
    notices: Vec<String>,
}

/// An operation beside which nothing is told.
async fn plain(answer: impl Future<Output = Answer>) -> Result<Output, AwsError> {
    Ok(Output { members: answer.await?, notices: Vec::new() })
}

/// Every operation of the control plane with its handler.
const OPERATIONS: [(&Operation, Handler); 14] = [
    (&model::CREATE_AGENT_RUNTIME, |e, i| Box::pin(plain(create_agent_runtime(e, i)))),
    (&model::GET_AGENT_RUNTIME, |e, i| Box::pin(get_agent_runtime(e, i))),
    (&model::UPDATE_AGENT_RUNTIME, |e, i| Box::pin(plain(update_agent_runtime(e, i)))),
    (&model::LIST_AGENT_RUNTIMES, |e, i| Box::pin(plain(list_agent_runtimes(e, i)))),
    (&model::DELETE_AGENT_RUNTIME, |e, i| Box::pin(plain(delete_agent_runtime(e, i)))),
    (&model::LIST_AGENT_RUNTIME_VERSIONS, |e, i| Box::pin(plain(list_agent_runtime_versions(e, i)))),
    (&model::CREATE_AGENT_RUNTIME_ENDPOINT, |e, i| Box::pin(plain(create_agent_runtime_endpoint(e, i)))),
    (&model::GET_AGENT_RUNTIME_ENDPOINT, |e, i| Box::pin(plain(get_agent_runtime_endpoint(e, i)))),
    (&model::UPDATE_AGENT_RUNTIME_ENDPOINT, |e, i| Box::pin(plain(update_agent_runtime_endpoint(e, i)))),
    (&model::LIST_AGENT_RUNTIME_ENDPOINTS, |e, i| Box::pin(plain(list_agent_runtime_endpoints(e, i)))),
    (&model::DELETE_AGENT_RUNTIME_ENDPOINT, |e, i| Box::pin(plain(delete_agent_runtime_endpoint(e, i)))),
    (&model::TAG_RESOURCE, |e, i| Box::pin(plain(tag_resource(e, i)))),
    (&model::UNTAG_RESOURCE, |e, i| Box::pin(plain(untag_resource(e, i)))),
    (&model::LIST_TAGS_FOR_RESOURCE, |e, i| Box::pin(plain(list_tags_for_resource(e, i)))),
];

/// The routes of the control plane, trailing slashes as the service model has them and without.
pub fn routes() -> Router<Arc<Emulator>> {
    OPERATIONS.iter().fold(Router::new(), |router, (operation, handler)| {
        let without = operation.uri.trim_end_matches('/');
        router
            .route(without, route(operation, *handler))
            .route(&format!("{without}/"), route(operation, *handler))
    })
}

fn route(operation: &'static Operation, handler: Handler) -> MethodRouter<Arc<Emulator>> {
    let method = match operation.method {
        "PUT" => MethodFilter::PUT,
        "POST" => MethodFilter::POST,
        "DELETE" => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    on(
        method,
        move |State(emulator): State<Arc<Emulator>>,
              path: Result<RawPathParams, RawPathParamsRejection>,
              query: Result<Query<Vec<(String, String)>>, QueryRejection>,
              body: Body| async move {
            let answer = async {
                let input = read_request(operation, path, query, body).await?;
                handler(emulator, input).await
            };
            match answer.await {
                Ok(output) => respond(operation, &output),
                Err(error) => respond_error(&error),
            }
        },
    )
}

async fn read_request(
    operation: &Operation,
    path: Result<RawPathParams, RawPathParamsRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    body: Body,
) -> Result<Members, AwsError> {
    let cannot_parse = |message: String| AwsError {
        reason: Some(ValidationReason::CannotParse),
        ..AwsError::new(ErrorKind::Validation, message)
    };
    let path = path.map_err(|e| cannot_parse(format!("The path cannot be read: {e}")))?;
    let path: Vec<(String, String)> =
        path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let Query(query) = query.map_err(|e| cannot_parse(format!("The query cannot be read: {e}")))?;
    let body = timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limits::MAX_CONTROL_BODY_BYTES)).await;
    let body = body.map_err(|_| cannot_parse("The request body was not received in time".to_owned()))?;
    let body: Bytes = body.map_err(|_| {
        let limit = limits::MAX_CONTROL_BODY_BYTES;
        cannot_parse(format!("The request body could not be read, or has more than {limit} bytes"))
    })?;
    validate::read_input(operation, &RawInput { path: &path, query: &query, headers: &[], body: &body })
}

fn respond(operation: &Operation, output: &Output) -> Response {
    let status = StatusCode::from_u16(operation.status).unwrap_or(StatusCode::OK);
    let empty = status == StatusCode::NO_CONTENT;
    let mut response =
        Response::new(if empty { Body::empty() } else { Body::from(output.members.to_string()) });
    *response.status_mut() = status;
    if !output.notices.is_empty()
        && let Ok(notices) = HeaderValue::from_str(&write_notices(&output.notices))
    {
        response.headers_mut().insert(NOTICES_HEADER, notices);
    }
    if !empty {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    response
}

async fn create_agent_runtime(emulator: Arc<Emulator>, input: Members) -> Answer {
    let new = NewRuntime {
        name: required(&input, "agentRuntimeName")?,
        settings: settings(&input)?,
        tags: tags_of(&input),
    };
    emulator.check_image(&new.settings).await?;
    let outcome = emulator.registry.create_runtime(new, client_token(&input)).await?;
    Ok(object(json!({
        "agentRuntimeArn": arn(&emulator.registry, &outcome.id),
        "workloadIdentityDetails": workload_identity(&emulator.registry.arn(&outcome.id)),
        "agentRuntimeId": outcome.id,
        "agentRuntimeVersion": outcome.version,
        "createdAt": outcome.created_at.to_rfc3339(),
        "status": outcome.status,
    })))
}

async fn get_agent_runtime(emulator: Arc<Emulator>, input: Members) -> Result<Output, AwsError> {
    let runtime = emulator.registry.runtime(&required(&input, "agentRuntimeId")?)?;
    let version = runtime.version(optional(&input, "agentRuntimeVersion")?)?;
    let mut output = version.settings.shown();
    if let Some(reason) = version.settings.failure() {
        output.insert("failureReason".to_owned(), json!(reason));
    }
    let made = json!({
        "agentRuntimeArn": runtime.arn.to_string(),
        "agentRuntimeName": runtime.name,
        "agentRuntimeId": runtime.arn.id,
        "agentRuntimeVersion": version.version,
        "createdAt": runtime.created_at.to_rfc3339(),
        "lastUpdatedAt": version_updated_at(&runtime, version),
        "status": runtime.version_status(version.version),
        "workloadIdentityDetails": workload_identity(&runtime.arn),
    });
    if let Value::Object(made) = made {
        output.extend(made);
    }
    Ok(Output { members: Value::Object(output), notices: version.settings.notices() })
}

async fn update_agent_runtime(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id: RuntimeId = required(&input, "agentRuntimeId")?;
    // An unknown runtime is unknown whatever it was to be set to.
    emulator.registry.runtime(&id)?;
    let settings = settings(&input)?;
    emulator.check_image(&settings).await?;
    let outcome = emulator.registry.update_runtime(&id, settings, client_token(&input)).await?;
    Ok(object(json!({
        "agentRuntimeArn": arn(&emulator.registry, &outcome.id),
        "agentRuntimeId": outcome.id,
        "workloadIdentityDetails": workload_identity(&emulator.registry.arn(&outcome.id)),
        "agentRuntimeVersion": outcome.version,
        "createdAt": outcome.created_at.to_rfc3339(),
        "lastUpdatedAt": outcome.updated_at.to_rfc3339(),
        "status": outcome.status,
    })))
}

async fn list_agent_runtimes(emulator: Arc<Emulator>, input: Members) -> Answer {
    let page = emulator.registry.list_runtimes(&page_request(&input))?;
    let list: Vec<Value> = page.items.iter().map(|runtime| summary(runtime, &runtime.newest)).collect();
    Ok(object(json!({ "agentRuntimes": list, "nextToken": page.next_token })))
}

async fn list_agent_runtime_versions(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id = required(&input, "agentRuntimeId")?;
    let (runtime, page) = emulator.registry.list_versions(&id, &page_request(&input))?;
    let list: Vec<Value> = page.items.iter().map(|version| summary(&runtime, version)).collect();
    Ok(object(json!({ "agentRuntimes": list, "nextToken": page.next_token })))
}

async fn delete_agent_runtime(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id: RuntimeId = required(&input, "agentRuntimeId")?;
    let token = client_token(&input);
    let outcome = match optional::<Version>(&input, "agentRuntimeVersion")? {
        Some(version) => emulator.registry.delete_version(&id, version, token).await?,
        None => emulator.delete_agent_runtime(&id, token).await?,
    };
    Ok(object(json!({
        "status": outcome.status,
        "agentRuntimeId": outcome.id,
        "agentRuntimeVersion": outcome.version,
    })))
}

async fn create_agent_runtime_endpoint(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id: RuntimeId = required(&input, "agentRuntimeId")?;
    let new = NewEndpoint {
        name: required(&input, "name")?,
        version: optional(&input, "agentRuntimeVersion")?,
        description: text(&input, "description"),
        tags: tags_of(&input),
    };
    let outcome = emulator.registry.create_endpoint(&id, new, client_token(&input)).await?;
    let runtime = emulator.registry.arn(&outcome.runtime);
    Ok(object(json!({
        "targetVersion": outcome.target,
        "agentRuntimeEndpointArn": runtime.endpoint(&outcome.name),
        "agentRuntimeArn": runtime.to_string(),
        "agentRuntimeId": outcome.runtime,
        "endpointName": outcome.name,
        "status": outcome.status,
        "createdAt": outcome.created_at.to_rfc3339(),
    })))
}

async fn get_agent_runtime_endpoint(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id = required(&input, "agentRuntimeId")?;
    let endpoint = emulator.registry.endpoint(&id, &required(&input, "endpointName")?)?;
    let mut view = endpoint_view(&emulator.registry.arn(&id), &endpoint);
    let runtime = emulator.registry.runtime(&id)?;
    if let (Some(reason), Some(view)) = (runtime.failure(endpoint.target), view.as_object_mut()) {
        view.insert("failureReason".to_owned(), json!(reason));
    }
    Ok(view)
}

async fn update_agent_runtime_endpoint(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id: RuntimeId = required(&input, "agentRuntimeId")?;
    let name: EndpointName = required(&input, "endpointName")?;
    let version = optional(&input, "agentRuntimeVersion")?;
    let description = text(&input, "description");
    let token = client_token(&input);
    let outcome = emulator.registry.update_endpoint(&id, &name, version, description, token).await?;
    let runtime = emulator.registry.arn(&outcome.runtime);
    Ok(object(json!({
        "liveVersion": outcome.live,
        "targetVersion": outcome.target,
        "agentRuntimeEndpointArn": runtime.endpoint(&outcome.name),
        "agentRuntimeArn": runtime.to_string(),
        "status": outcome.status,
        "createdAt": outcome.created_at.to_rfc3339(),
        "lastUpdatedAt": outcome.updated_at.to_rfc3339(),
    })))
}

async fn list_agent_runtime_endpoints(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id = required(&input, "agentRuntimeId")?;
    let (runtime, page) = emulator.registry.list_endpoints(&id, &page_request(&input))?;
    let list: Vec<Value> = page.items.iter().map(|endpoint| endpoint_view(&runtime.arn, endpoint)).collect();
    Ok(object(json!({ "runtimeEndpoints": list, "nextToken": page.next_token })))
}

async fn delete_agent_runtime_endpoint(emulator: Arc<Emulator>, input: Members) -> Answer {
    let id: RuntimeId = required(&input, "agentRuntimeId")?;
    let name: EndpointName = required(&input, "endpointName")?;
    let outcome = emulator.delete_agent_runtime_endpoint(&id, &name, client_token(&input)).await?;
    Ok(json!({
        "status": outcome.status,
        "agentRuntimeId": outcome.runtime,
        "endpointName": outcome.name,
    }))
}

async fn tag_resource(emulator: Arc<Emulator>, input: Members) -> Answer {
    emulator.registry.tag(tagged(&input)?, tags_of(&input)).await?;
    Ok(json!({}))
}

async fn untag_resource(emulator: Arc<Emulator>, input: Members) -> Answer {
    let keys = input.get("tagKeys").and_then(Value::as_array);
    let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    emulator.registry.untag(tagged(&input)?, keys).await?;
    Ok(json!({}))
}

async fn list_tags_for_resource(emulator: Arc<Emulator>, input: Members) -> Answer {
    Ok(json!({ "tags": emulator.registry.tags(&tagged(&input)?)? }))
}

/// A runtime's or a version's entry in a list. The description is required there though it may not have been given.
fn summary(runtime: &Runtime, version: &RuntimeVersion) -> Value {
    json!({
        "agentRuntimeArn": runtime.arn.to_string(),
        "agentRuntimeId": runtime.arn.id,
        "agentRuntimeVersion": version.version,
        "agentRuntimeName": runtime.name,
        "description": version.settings.description().unwrap_or_default(),
        "lastUpdatedAt": version_updated_at(runtime, version),
        "status": runtime.version_status(version.version),
    })
}

fn endpoint_view(runtime: &RuntimeArn, endpoint: &Endpoint) -> Value {
    object(json!({
        "name": endpoint.name,
        "id": endpoint.id,
        "liveVersion": endpoint.live,
        "targetVersion": endpoint.target,
        "agentRuntimeEndpointArn": runtime.endpoint(&endpoint.name),
        "agentRuntimeArn": runtime.to_string(),
        "description": endpoint.description,
        "status": endpoint.status,
        "createdAt": endpoint.created_at.to_rfc3339(),
        "lastUpdatedAt": endpoint.updated_at.to_rfc3339(),
    }))
}

/// Versions do not change; the newest shares the runtime's time.
fn version_updated_at(runtime: &Runtime, version: &RuntimeVersion) -> String {
    let newest = version.version == runtime.newest.version;
    if newest { runtime.updated_at } else { version.created_at }.to_rfc3339()
}

fn arn(registry: &Registry, id: &RuntimeId) -> String {
    registry.arn(id).to_string()
}

/// The identity that the service makes for every runtime; here it is a name only.
fn workload_identity(runtime: &RuntimeArn) -> Value {
    let RuntimeArn { partition, region, account, id } = runtime;
    json!({
        "workloadIdentityArn": format!(
            "arn:{partition}:bedrock-agentcore:{region}:{account}:workload-identity-directory/default/workload-identity/{id}"
        ),
    })
}

/// Members without a value are absent, not null.
fn object(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn text(input: &Members, name: &str) -> Option<String> {
    input.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn optional<T: std::str::FromStr<Err = ParseIdError>>(
    input: &Members,
    name: &str,
) -> Result<Option<T>, AwsError> {
    let value = input.get(name).and_then(Value::as_str).map(str::parse).transpose();
    value.map_err(|e: ParseIdError| field(name, e.to_string()))
}

fn required<T: std::str::FromStr<Err = ParseIdError>>(input: &Members, name: &str) -> Result<T, AwsError> {
    optional(input, name)?.ok_or_else(|| field(name, format!("Member `{name}` must not be null")))
}

fn field(name: &str, message: String) -> AwsError {
    validate::violations(vec![FieldError { name: name.to_owned(), message }])
}

fn settings(input: &Members) -> Result<RuntimeSettings, AwsError> {
    RuntimeSettings::from_input(input).map_err(|refusals| RegistryError::Refused(refusals).into())
}

fn client_token(input: &Members) -> Option<ClientToken> {
    Some(ClientToken::new(input.get("clientToken")?.as_str()?, input))
}

fn tags_of(input: &Members) -> Tags {
    let tags = input.get("tags").and_then(Value::as_object);
    tags.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn tagged(input: &Members) -> Result<Tagged, AwsError> {
    let arn = input.get("resourceArn").and_then(Value::as_str).unwrap_or_default();
    Tagged::parse(arn)
        .ok_or_else(|| AwsError::new(ErrorKind::ResourceNotFound, format!("Resource '{arn}' was not found")))
}

fn page_request(input: &Members) -> PageRequest {
    PageRequest {
        max_results: input.get("maxResults").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        next_token: text(input, "nextToken"),
    }
}

//! What a mutation does to the state it meets: the rules of the control plane, without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Endpoint, EndpointOutcome, NewEndpoint, NewRuntime, RegistryError, Runtime, RuntimeHome, RuntimeOutcome,
    RuntimeSettings, RuntimeVersion, Snapshot, Status, Tagged, Tags, Target,
};
use crate::emulator::store::StoreError;
use crate::emulator::store::runtimes::{Change, EndpointRow, RuntimeRow, TagRow, VersionRow};
use crate::model::{EndpointName, RuntimeId, Timestamp, Version, limits};

/// The operation whose tokens outlive their runtime.
pub(super) const DELETE_AGENT_RUNTIME: &str = "DeleteAgentRuntime";

/// Something to be changed.
#[derive(Debug)]
pub(super) enum Mutation {
    CreateRuntime(NewRuntime),
    UpdateRuntime {
        id: RuntimeId,
        settings: RuntimeSettings,
    },
    DeleteVersion {
        id: RuntimeId,
        version: Version,
    },
    CreateEndpoint {
        id: RuntimeId,
        new: NewEndpoint,
    },
    UpdateEndpoint {
        id: RuntimeId,
        name: EndpointName,
        version: Option<Version>,
        description: Option<String>,
    },
    BeginDeleteRuntime(RuntimeId),
    FinishDeleteRuntime(RuntimeId),
    BeginDeleteEndpoint {
        id: RuntimeId,
        name: EndpointName,
    },
    FinishDeleteEndpoint {
        id: RuntimeId,
        name: EndpointName,
    },
    Tag {
        of: Tagged,
        tags: Tags,
    },
    Untag {
        of: Tagged,
        keys: Vec<String>,
    },
    /// CREATING or UPDATING to READY.
    SettleRuntime(RuntimeId),
    /// The same, where the newest version's code package was fetched first: its settings know now what became of it.
    SettleFetched {
        id: RuntimeId,
        settings: RuntimeSettings,
    },
    /// CREATING or UPDATING to READY.
    SettleEndpoint {
        id: RuntimeId,
        name: EndpointName,
    },
}

impl Mutation {
    /// The operation that client tokens are remembered under.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::CreateRuntime(_) => "CreateAgentRuntime",
            Self::UpdateRuntime { .. } => "UpdateAgentRuntime",
            Self::BeginDeleteRuntime(_) | Self::FinishDeleteRuntime(_) | Self::DeleteVersion { .. } => {
                DELETE_AGENT_RUNTIME
            }
            Self::CreateEndpoint { .. } => "CreateAgentRuntimeEndpoint",
            Self::UpdateEndpoint { .. } => "UpdateAgentRuntimeEndpoint",
            Self::BeginDeleteEndpoint { .. } | Self::FinishDeleteEndpoint { .. } => {
                "DeleteAgentRuntimeEndpoint"
            }
            Self::Tag { .. } => "TagResource",
            Self::Untag { .. } => "UntagResource",
            Self::SettleRuntime(_) | Self::SettleFetched { .. } | Self::SettleEndpoint { .. } => "",
        }
    }

    pub(super) fn is_settling(&self) -> bool {
        matches!(self, Self::SettleRuntime(_) | Self::SettleFetched { .. } | Self::SettleEndpoint { .. })
    }
}

/// What a mutation is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Runtime(RuntimeOutcome),
    Endpoint(EndpointOutcome),
    Done,
}

/// What a mutation does.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) effect: Effect,
    pub(super) changes: Vec<Change>,
    pub(super) outcome: Outcome,
    /// To be done after the ready delay.
    pub(super) settle: Option<Mutation>,
}

/// The change in memory.
#[derive(Debug)]
pub(super) enum Effect {
    Put(Arc<Runtime>),
    Remove(RuntimeId),
}

impl Effect {
    pub(super) fn id(&self) -> &RuntimeId {
        match self {
            Self::Put(runtime) => &runtime.arn.id,
            Self::Remove(id) => id,
        }
    }
}

pub(super) fn no_runtime(id: &RuntimeId) -> RegistryError {
    RegistryError::NotFound(format!("Agent runtime '{id}' was not found"))
}

pub(super) fn no_endpoint(id: &RuntimeId, name: &EndpointName) -> RegistryError {
    RegistryError::NotFound(format!("Agent runtime '{id}' has no endpoint '{name}'"))
}

pub(super) fn no_resource(of: &Tagged) -> RegistryError {
    RegistryError::NotFound(format!("Resource '{of}' was not found"))
}

/// Decides what `mutation` does to `snapshot`, or why it may not.
pub(super) fn plan(
    snapshot: &Snapshot,
    home: &RuntimeHome,
    now: Timestamp,
    next_sequence: i64,
    mutation: Mutation,
) -> Result<Plan, RegistryError> {
    let find = |id: &RuntimeId| snapshot.runtimes.get(id).ok_or_else(|| no_runtime(id));
    let copy = |id: &RuntimeId| find(id).map(|runtime| Runtime::clone(runtime));
    match mutation {
        Mutation::CreateRuntime(new) => create_runtime(snapshot, home, now, next_sequence, new),
        Mutation::UpdateRuntime { id, settings } => update_runtime(copy(&id)?, now, settings),
        Mutation::DeleteVersion { id, version } => delete_version(copy(&id)?, now, version),
        Mutation::CreateEndpoint { id, new } => create_endpoint(copy(&id)?, now, new),
        Mutation::UpdateEndpoint { id, name, version, description } => {
            update_endpoint(copy(&id)?, now, &name, version, description)
        }
        Mutation::BeginDeleteRuntime(id) => begin_delete_runtime(copy(&id)?, now),
        Mutation::FinishDeleteRuntime(id) => {
            find(&id)?;
            let runtime_id = id.to_string();
            Ok(Plan {
                effect: Effect::Remove(id),
                changes: vec![Change::DeleteRuntime { runtime_id, keep_operation: DELETE_AGENT_RUNTIME }],
                outcome: Outcome::Done,
                settle: None,
            })
        }
        Mutation::BeginDeleteEndpoint { id, name } => begin_delete_endpoint(copy(&id)?, now, &name),
        Mutation::FinishDeleteEndpoint { id, name } => {
            let mut runtime = copy(&id)?;
            runtime.endpoints.remove(&name);
            let change = Change::DeleteEndpoint { runtime_id: id.to_string(), name: name.to_string() };
            Ok(done(runtime, vec![change]))
        }
        Mutation::Tag { of, tags } => tag(tagged(snapshot, home, &of)?, &of, tags),
        Mutation::Untag { of, keys } => untag(tagged(snapshot, home, &of)?, &of, &keys),
        Mutation::SettleRuntime(id) => {
            let mut runtime = copy(&id)?;
            let mut changes = Vec::new();
            settle_runtime(&mut runtime, now, &mut changes);
            Ok(done(runtime, changes))
        }
        Mutation::SettleFetched { id, settings } => {
            let mut runtime = copy(&id)?;
            let mut changes = Vec::new();
            if runtime.newest.settings.unfetched().is_some() {
                let version = Arc::new(RuntimeVersion {
                    version: runtime.newest.version,
                    created_at: runtime.newest.created_at,
                    settings,
                });
                changes.push(Change::PutVersion(version_row(&runtime, &version)?));
                runtime.versions.insert(version.version, version.clone());
                runtime.newest = version;
            }
            settle_runtime(&mut runtime, now, &mut changes);
            Ok(done(runtime, changes))
        }
        Mutation::SettleEndpoint { id, name } => {
            let mut runtime = copy(&id)?;
            let mut changes = Vec::new();
            if let Some(endpoint) = runtime.endpoints.get(&name) {
                let endpoint = Endpoint::clone(endpoint);
                settle_endpoint(&mut runtime, endpoint, now, &mut changes);
            }
            Ok(done(runtime, changes))
        }
    }
}

fn done(runtime: Runtime, changes: Vec<Change>) -> Plan {
    Plan { effect: Effect::Put(Arc::new(runtime)), changes, outcome: Outcome::Done, settle: None }
}

fn create_runtime(
    snapshot: &Snapshot,
    home: &RuntimeHome,
    now: Timestamp,
    sequence: i64,
    new: NewRuntime,
) -> Result<Plan, RegistryError> {
    let NewRuntime { name, settings, tags } = new;
    if snapshot.runtimes.values().any(|runtime| runtime.name == name) {
        return Err(RegistryError::Conflict(format!(
            "An agent runtime with the name '{name}' already exists"
        )));
    }
    if snapshot.runtimes.len() >= limits::MAX_RUNTIMES {
        let limit = limits::MAX_RUNTIMES;
        return Err(RegistryError::Quota(format!(
            "The account has reached its limit of {limit} agent runtimes"
        )));
    }
    let id = loop {
        let id = RuntimeId::new(&name, &suffix()).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        if !snapshot.runtimes.contains_key(&id) {
            break id;
        }
    };
    let first = Arc::new(RuntimeVersion { version: Version::FIRST, created_at: now, settings });
    let mut runtime = Runtime {
        sequence,
        arn: home.arn(id),
        name,
        status: Status::Creating,
        created_at: now,
        updated_at: now,
        newest: first.clone(),
        versions: BTreeMap::from([(first.version, first.clone())]),
        endpoints: BTreeMap::new(),
        tags,
    };
    let default = new_endpoint(EndpointName::default_endpoint(), Version::FIRST, None, Tags::new(), now);
    let mut changes = vec![
        Change::PutRuntime(runtime_row(&runtime)),
        Change::PutVersion(version_row(&runtime, &first)?),
        Change::PutEndpoint(endpoint_row(&runtime, &default)),
    ];
    changes.extend(tag_changes(&runtime, None, &runtime.tags));
    put_endpoint(&mut runtime, default);
    Ok(runtime_plan(runtime, Some(Version::FIRST), changes, true))
}

fn update_runtime(
    mut runtime: Runtime,
    now: Timestamp,
    settings: RuntimeSettings,
) -> Result<Plan, RegistryError> {
    require_settled(&runtime)?;
    let number = runtime.newest.version.next();
    let Some(number) = number.filter(|_| runtime.versions.len() < limits::MAX_VERSIONS) else {
        let limit = limits::MAX_VERSIONS;
        return Err(RegistryError::Quota(format!(
            "The agent runtime has reached its limit of {limit} versions"
        )));
    };
    let version = Arc::new(RuntimeVersion { version: number, created_at: now, settings });
    runtime.status = Status::Updating;
    runtime.updated_at = now;
    runtime.newest = version.clone();
    runtime.versions.insert(number, version.clone());
    let mut changes =
        vec![Change::PutRuntime(runtime_row(&runtime)), Change::PutVersion(version_row(&runtime, &version)?)];
    if let Some(default) = runtime.endpoints.get(&EndpointName::default_endpoint()) {
        let default = Endpoint {
            status: Status::Updating,
            target: number,
            updated_at: now,
            ..Endpoint::clone(default)
        };
        changes.push(Change::PutEndpoint(endpoint_row(&runtime, &default)));
        put_endpoint(&mut runtime, default);
    }
    Ok(runtime_plan(runtime, Some(number), changes, true))
}

fn delete_version(mut runtime: Runtime, now: Timestamp, version: Version) -> Result<Plan, RegistryError> {
    require_settled(&runtime)?;
    runtime.version(Some(version))?;
    let serves = |endpoint: &&Arc<Endpoint>| endpoint.live == Some(version) || endpoint.target == version;
    if let Some(endpoint) = runtime.endpoints.values().find(serves) {
        return Err(RegistryError::Conflict(format!(
            "Version '{version}' of agent runtime '{}' is used by endpoint '{}'",
            runtime.arn.id, endpoint.name
        )));
    }
    runtime.versions.remove(&version);
    runtime.updated_at = now;
    let runtime_id = runtime.arn.id.to_string();
    let changes = vec![
        Change::PutRuntime(runtime_row(&runtime)),
        Change::DeleteVersion { runtime_id, version: version.number() },
    ];
    let mut plan = runtime_plan(runtime, Some(version), changes, false);
    if let Outcome::Runtime(outcome) = &mut plan.outcome {
        outcome.status = Status::Deleting;
    }
    Ok(plan)
}

fn create_endpoint(mut runtime: Runtime, now: Timestamp, new: NewEndpoint) -> Result<Plan, RegistryError> {
    let NewEndpoint { name, version, description, tags } = new;
    require_settled(&runtime)?;
    if runtime.endpoints.contains_key(&name) {
        let id = &runtime.arn.id;
        return Err(RegistryError::Conflict(format!(
            "Agent runtime '{id}' already has an endpoint '{name}'"
        )));
    }
    let version = runtime.version(version)?.version;
    if runtime.endpoints.len() >= limits::MAX_ENDPOINTS {
        let limit = limits::MAX_ENDPOINTS;
        return Err(RegistryError::Quota(format!(
            "The agent runtime has reached its limit of {limit} endpoints"
        )));
    }
    let endpoint = new_endpoint(name, version, description, tags, now);
    let mut changes = vec![Change::PutEndpoint(endpoint_row(&runtime, &endpoint))];
    changes.extend(tag_changes(&runtime, Some(&endpoint.name), &endpoint.tags));
    Ok(endpoint_plan(&mut runtime, endpoint, changes, true))
}

fn update_endpoint(
    mut runtime: Runtime,
    now: Timestamp,
    name: &EndpointName,
    version: Option<Version>,
    description: Option<String>,
) -> Result<Plan, RegistryError> {
    require_settled(&runtime)?;
    let endpoint = changeable_endpoint(&runtime, name)?;
    let target = match version {
        Some(version) => runtime.version(Some(version))?.version,
        None => endpoint.target,
    };
    let endpoint = Endpoint {
        status: Status::Updating,
        target,
        description: description.or_else(|| endpoint.description.clone()),
        updated_at: now,
        ..Endpoint::clone(endpoint)
    };
    let changes = vec![Change::PutEndpoint(endpoint_row(&runtime, &endpoint))];
    Ok(endpoint_plan(&mut runtime, endpoint, changes, true))
}

fn begin_delete_runtime(mut runtime: Runtime, now: Timestamp) -> Result<Plan, RegistryError> {
    require_settled(&runtime)?;
    if let Some(endpoint) = runtime.endpoints.values().find(|endpoint| !endpoint.status.is_settled()) {
        return Err(RegistryError::Conflict(format!(
            "Endpoint '{}' of agent runtime '{}' is {}",
            endpoint.name,
            runtime.arn.id,
            endpoint.status.as_str()
        )));
    }
    runtime.status = Status::Deleting;
    runtime.updated_at = now;
    let mut changes = vec![Change::PutRuntime(runtime_row(&runtime))];
    let endpoints: Vec<Arc<Endpoint>> = runtime.endpoints.values().cloned().collect();
    for endpoint in endpoints {
        let endpoint = Endpoint { status: Status::Deleting, updated_at: now, ..Endpoint::clone(&endpoint) };
        changes.push(Change::PutEndpoint(endpoint_row(&runtime, &endpoint)));
        put_endpoint(&mut runtime, endpoint);
    }
    Ok(runtime_plan(runtime, None, changes, false))
}

fn begin_delete_endpoint(
    mut runtime: Runtime,
    now: Timestamp,
    name: &EndpointName,
) -> Result<Plan, RegistryError> {
    require_settled(&runtime)?;
    let endpoint = changeable_endpoint(&runtime, name)?;
    let endpoint = Endpoint { status: Status::Deleting, updated_at: now, ..Endpoint::clone(endpoint) };
    let changes = vec![Change::PutEndpoint(endpoint_row(&runtime, &endpoint))];
    Ok(endpoint_plan(&mut runtime, endpoint, changes, false))
}

fn tagged(snapshot: &Snapshot, home: &RuntimeHome, of: &Tagged) -> Result<Runtime, RegistryError> {
    let runtime = snapshot.runtimes.get(&of.runtime.id).filter(|_| home.is_home_of(&of.runtime));
    let known =
        runtime.filter(|runtime| of.endpoint.as_ref().is_none_or(|e| runtime.endpoints.contains_key(e)));
    known.map(|runtime| Runtime::clone(runtime)).ok_or_else(|| no_resource(of))
}

fn tag(mut runtime: Runtime, of: &Tagged, tags: Tags) -> Result<Plan, RegistryError> {
    let changes = tag_changes(&runtime, of.endpoint.as_ref(), &tags);
    let count = change_tags(&mut runtime, of, |own| own.extend(tags));
    if count > limits::MAX_TAGS {
        let limit = limits::MAX_TAGS;
        return Err(RegistryError::Quota(format!(
            "A resource has at most {limit} tags; '{of}' would have {count}"
        )));
    }
    Ok(done(runtime, changes))
}

fn untag(mut runtime: Runtime, of: &Tagged, keys: &[String]) -> Result<Plan, RegistryError> {
    change_tags(&mut runtime, of, |own| own.retain(|key, _| !keys.contains(key)));
    let endpoint = of.endpoint.as_ref().map(EndpointName::to_string).unwrap_or_default();
    let runtime_id = runtime.arn.id.to_string();
    let delete = |key: &String| Change::DeleteTag {
        runtime_id: runtime_id.clone(),
        endpoint: endpoint.clone(),
        key: key.clone(),
    };
    Ok(done(runtime, keys.iter().map(delete).collect()))
}

/// Changes the tags of the runtime or of one of its endpoints, and says how many there are then.
fn change_tags(runtime: &mut Runtime, of: &Tagged, change: impl FnOnce(&mut Tags)) -> usize {
    let endpoint = of.endpoint.as_ref().map(|name| runtime.endpoints.get_mut(name));
    let tags = match endpoint {
        None => &mut runtime.tags,
        Some(Some(endpoint)) => &mut Arc::make_mut(endpoint).tags,
        Some(None) => return 0,
    };
    change(tags);
    tags.len()
}

/// READY, with DEFAULT on the newest version; not before its code package has been fetched.
fn settle_runtime(runtime: &mut Runtime, now: Timestamp, changes: &mut Vec<Change>) {
    let under_way = matches!(runtime.status, Status::Creating | Status::Updating);
    if !under_way || runtime.newest.settings.unfetched().is_some() {
        return;
    }
    runtime.status = runtime.status.settled(runtime.newest.settings.failure().is_some());
    changes.push(Change::PutRuntime(runtime_row(runtime)));
    if let Some(default) = runtime.endpoints.get(&EndpointName::default_endpoint()) {
        let default = Endpoint::clone(default);
        settle_endpoint(runtime, default, now, changes);
    }
}

fn settle_endpoint(runtime: &mut Runtime, endpoint: Endpoint, now: Timestamp, changes: &mut Vec<Change>) {
    if !matches!(endpoint.status, Status::Creating | Status::Updating) {
        return;
    }
    let failed = runtime.failure(endpoint.target).is_some();
    // One that cannot move on goes on serving what it serves.
    let live = if failed { endpoint.live } else { Some(endpoint.target) };
    let endpoint = Endpoint { status: endpoint.status.settled(failed), live, updated_at: now, ..endpoint };
    changes.push(Change::PutEndpoint(endpoint_row(runtime, &endpoint)));
    put_endpoint(runtime, endpoint);
}

/// The runtime with nothing left in transition but what waits for its code package, and the rows that changes; nothing
/// when it is so already.
pub(super) fn settle_everything(runtime: &Runtime) -> Option<(Runtime, Vec<Change>)> {
    let (mut settled, mut changes) = (runtime.clone(), Vec::new());
    settle_runtime(&mut settled, runtime.updated_at, &mut changes);
    for endpoint in runtime.endpoints.values().filter(|endpoint| !endpoint.name.is_default()) {
        settle_endpoint(&mut settled, Endpoint::clone(endpoint), endpoint.updated_at, &mut changes);
    }
    (!changes.is_empty()).then_some((settled, changes))
}

fn require_settled(runtime: &Runtime) -> Result<(), RegistryError> {
    if runtime.status.is_settled() {
        return Ok(());
    }
    let (id, status) = (&runtime.arn.id, runtime.status.as_str());
    Err(RegistryError::Conflict(format!("Agent runtime '{id}' is {status}; try again when it is READY")))
}

/// An endpoint that callers may change or delete now.
fn changeable_endpoint<'a>(
    runtime: &'a Runtime,
    name: &EndpointName,
) -> Result<&'a Arc<Endpoint>, RegistryError> {
    let id = &runtime.arn.id;
    let endpoint = runtime.endpoints.get(name).ok_or_else(|| no_endpoint(id, name))?;
    if name.is_default() {
        return Err(RegistryError::Conflict(format!(
            "Endpoint 'DEFAULT' of agent runtime '{id}' follows its newest version by itself and cannot be changed or deleted"
        )));
    }
    if !endpoint.status.is_settled() {
        let status = endpoint.status.as_str();
        return Err(RegistryError::Conflict(format!(
            "Endpoint '{name}' of agent runtime '{id}' is {status}; try again when it is READY"
        )));
    }
    Ok(endpoint)
}

fn new_endpoint(
    name: EndpointName,
    version: Version,
    description: Option<String>,
    tags: Tags,
    now: Timestamp,
) -> Endpoint {
    Endpoint {
        id: format!("{name}-{}", suffix()),
        name,
        description,
        status: Status::Creating,
        live: None,
        target: version,
        created_at: now,
        updated_at: now,
        tags,
        resolved: None,
    }
}

/// Puts an endpoint into its runtime, with what calls through it are aimed at.
pub(super) fn put_endpoint(runtime: &mut Runtime, mut endpoint: Endpoint) {
    let version = endpoint.live.filter(|_| endpoint.status != Status::Deleting);
    let version = version.and_then(|version| runtime.versions.get(&version));
    endpoint.resolved = version.map(|version| {
        Arc::new(Target {
            arn: runtime.arn.clone(),
            endpoint: endpoint.name.clone(),
            version: version.version,
            spec: version.settings.spec().clone(),
        })
    });
    runtime.endpoints.insert(endpoint.name.clone(), Arc::new(endpoint));
}

fn runtime_plan(runtime: Runtime, version: Option<Version>, changes: Vec<Change>, settle: bool) -> Plan {
    let outcome = RuntimeOutcome {
        id: runtime.arn.id.clone(),
        version,
        status: runtime.status,
        created_at: runtime.created_at,
        updated_at: runtime.updated_at,
    };
    let settle = settle.then(|| Mutation::SettleRuntime(runtime.arn.id.clone()));
    Plan { effect: Effect::Put(Arc::new(runtime)), changes, outcome: Outcome::Runtime(outcome), settle }
}

fn endpoint_plan(runtime: &mut Runtime, endpoint: Endpoint, changes: Vec<Change>, settle: bool) -> Plan {
    let outcome = EndpointOutcome {
        runtime: runtime.arn.id.clone(),
        name: endpoint.name.clone(),
        live: endpoint.live,
        target: endpoint.target,
        status: endpoint.status,
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
    };
    let settle =
        settle.then(|| Mutation::SettleEndpoint { id: runtime.arn.id.clone(), name: endpoint.name.clone() });
    put_endpoint(runtime, endpoint);
    let effect = Effect::Put(Arc::new(runtime.clone()));
    Plan { effect, changes, outcome: Outcome::Endpoint(outcome), settle }
}

/// Ten letters and digits by chance.
fn suffix() -> String {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let random = uuid::Uuid::new_v4().into_bytes();
    // Bytes 6 and 8 of a UUID hold its version.
    let bytes = random.iter().take(6).chain(random.iter().skip(9).take(4));
    bytes.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

fn runtime_row(runtime: &Runtime) -> RuntimeRow {
    RuntimeRow {
        sequence: runtime.sequence,
        id: runtime.arn.id.to_string(),
        name: runtime.name.to_string(),
        status: runtime.status.as_str().to_owned(),
        created_at: runtime.created_at.0,
        updated_at: runtime.updated_at.0,
    }
}

fn version_row(runtime: &Runtime, version: &RuntimeVersion) -> Result<VersionRow, StoreError> {
    let settings = serde_json::to_string(version.settings.members());
    Ok(VersionRow {
        runtime_id: runtime.arn.id.to_string(),
        version: version.version.number(),
        settings: settings.map_err(|e| StoreError::Corrupt(e.to_string()))?,
        created_at: version.created_at.0,
    })
}

fn endpoint_row(runtime: &Runtime, endpoint: &Endpoint) -> EndpointRow {
    EndpointRow {
        runtime_id: runtime.arn.id.to_string(),
        name: endpoint.name.to_string(),
        id: endpoint.id.clone(),
        description: endpoint.description.clone(),
        status: endpoint.status.as_str().to_owned(),
        live_version: endpoint.live.map(Version::number),
        target_version: endpoint.target.number(),
        created_at: endpoint.created_at.0,
        updated_at: endpoint.updated_at.0,
    }
}

fn tag_changes(runtime: &Runtime, endpoint: Option<&EndpointName>, tags: &Tags) -> Vec<Change> {
    let endpoint = endpoint.map(EndpointName::to_string).unwrap_or_default();
    let put = |(key, value): (&String, &String)| {
        Change::PutTag(TagRow {
            runtime_id: runtime.arn.id.to_string(),
            endpoint: endpoint.clone(),
            key: key.clone(),
            value: value.clone(),
        })
    };
    tags.iter().map(put).collect()
}

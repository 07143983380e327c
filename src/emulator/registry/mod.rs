//! Runtimes, versions, endpoints and tags.
//!
//! One task ([`owner`]) owns the state. It takes mutations one after the other, plans each against the state
//! it has ([`plan`], pure), writes the plan in one transaction and only then publishes a new snapshot.
//! So no mutation ever meets a half-made other one, a caller that goes away in the middle leaves nothing
//! half-done, and readers take the newest snapshot without waiting for anybody.
//!
//! ARNs are made from the emulator's region and account as they are set now, not kept: the state belongs to
//! the emulator, and its region is a name it goes by.

mod owner;
mod page;
mod plan;
mod settings;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};

use super::EmulatorConfig;
use super::clock::Clock;
use super::store::{Store, StoreError};
use crate::artifacts::import::{ImportError, Imported, Importer};
use crate::artifacts::{self, ArtifactStore};
use crate::model::{
    AccountId, Artifact, ArtifactRef, EndpointName, Partition, RuntimeArn, RuntimeId, RuntimeName,
    RuntimeSpec, Timestamp, Version, limits,
};

pub use page::{Page, PageRequest};
pub use settings::{Refusal, RuntimeSettings};

use owner::{Answer, Order, Owner};
use plan::Mutation;

/// How a data-plane call names a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeRef {
    /// By ARN.
    Arn(RuntimeArn),
    /// By bare id with `accountId`.
    Id(RuntimeId, AccountId),
}

/// What a data-plane call is aimed at: an endpoint and the version it serves now.
#[derive(Debug)]
pub struct Target {
    /// The runtime's ARN.
    pub arn: RuntimeArn,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The version that new computes run.
    pub version: Version,
    /// What that version says.
    pub spec: Arc<RuntimeSpec>,
}

/// Why a data-plane call has no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such runtime or endpoint, or it is being deleted, or its ARN is of another region or account. The
    /// service's own words. [observed]
    #[error("No endpoint or agent found with qualifier '{qualifier}' for agent '{agent}'")]
    NotFound {
        /// The endpoint asked for.
        qualifier: EndpointName,
        /// The runtime's ARN as it was asked for.
        agent: RuntimeArn,
    },
}

/// What the registry refuses.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such thing.
    #[error("{0}")]
    NotFound(String),
    /// Not in this state, or not with this name.
    #[error("{0}")]
    Conflict(String),
    /// A quota of the service.
    #[error("{0}")]
    Quota(String),
    /// Settings that break a rule or that the emulator does not do.
    #[error("{} settings are refused", .0.len())]
    Refused(Vec<Refusal>),
    /// A client token that came with another input before.
    #[error("The client token was used before with other parameters")]
    TokenMismatch,
    /// A page token that no list gave out.
    #[error("The next token is not one that this list gave out")]
    PageToken,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a runtime or an endpoint stands. A deletion never fails here, so the service's `DELETE_FAILED` is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Made, not yet usable.
    Creating,
    /// A new version is on its way; the old one serves.
    Updating,
    /// Usable.
    Ready,
    /// Its sessions are being ended and their storage deleted.
    Deleting,
    /// Its first version can never run here; the version's settings say why.
    CreateFailed,
    /// Its newest version can never run here; the one before serves.
    UpdateFailed,
}

impl Status {
    /// True where nothing is under way.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Ready | Self::CreateFailed | Self::UpdateFailed)
    }

    /// What one that is under way comes to.
    fn settled(self, failed: bool) -> Self {
        match self {
            Self::Creating if failed => Self::CreateFailed,
            Self::Updating if failed => Self::UpdateFailed,
            Self::Creating | Self::Updating => Self::Ready,
            other => other,
        }
    }

    /// The service's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Updating => "UPDATING",
            Self::Ready => "READY",
            Self::Deleting => "DELETING",
            Self::CreateFailed => "CREATE_FAILED",
            Self::UpdateFailed => "UPDATE_FAILED",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        use Status::{CreateFailed, Creating, Deleting, Ready, UpdateFailed, Updating};
        [Creating, Updating, Ready, Deleting, CreateFailed, UpdateFailed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt(format!("status `{text}` of a runtime or an endpoint")))
    }
}

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    sequence: i64,
    /// Its ARN, with its id.
    pub arn: RuntimeArn,
    /// The name it was made under.
    pub name: RuntimeName,
    /// Where it stands.
    pub status: Status,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The newest version, which DEFAULT follows.
    pub newest: Arc<RuntimeVersion>,
    /// Every version, the newest among them.
    pub versions: BTreeMap<Version, Arc<RuntimeVersion>>,
    /// Every endpoint, DEFAULT among them.
    pub endpoints: BTreeMap<EndpointName, Arc<Endpoint>>,
    /// Its tags.
    pub tags: Tags,
}

impl Runtime {
    /// A version as a list shows it: the newest shares the runtime's state, older ones are done.
    pub fn version_status(&self, version: Version) -> Status {
        if version == self.newest.version || self.status == Status::Deleting {
            return self.status;
        }
        let begun = if version == Version::FIRST { Status::Creating } else { Status::Updating };
        begun.settled(self.failure(version).is_some())
    }

    /// Why a version can never run.
    pub fn failure(&self, version: Version) -> Option<&str> {
        self.versions.get(&version)?.settings.failure()
    }

    /// A version of it, or the newest.
    pub fn version(&self, version: Option<Version>) -> Result<&Arc<RuntimeVersion>, RegistryError> {
        let Some(version) = version else { return Ok(&self.newest) };
        self.versions.get(&version).ok_or_else(|| {
            RegistryError::NotFound(format!("Agent runtime '{}' has no version '{version}'", self.arn.id))
        })
    }
}

/// An immutable version of a runtime.
#[derive(Debug)]
pub struct RuntimeVersion {
    /// Its number.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it says.
    pub settings: RuntimeSettings,
}

/// An endpoint of a runtime.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name, the data plane's qualifier.
    pub name: EndpointName,
    /// Its id, `name-XXXXXXXXXX`.
    pub id: String,
    /// What it is for, when somebody said so.
    pub description: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// The version it serves; none while it is CREATING.
    pub live: Option<Version>,
    /// The version it is to serve.
    pub target: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its tags.
    pub tags: Tags,
    /// What calls through it are aimed at; none while it is CREATING or DELETING.
    resolved: Option<Arc<Target>>,
}

/// A runtime to make.
#[derive(Debug)]
pub struct NewRuntime {
    /// Its name.
    pub name: RuntimeName,
    /// Its first version's settings.
    pub settings: RuntimeSettings,
    /// Its tags.
    pub tags: Tags,
}

/// An endpoint to make.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// The version to serve; the newest when none is named.
    pub version: Option<Version>,
    /// What it is for.
    pub description: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// What a changed runtime is answered with. Kept with the client token, so that a repeated call gets the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeOutcome {
    /// The runtime.
    pub id: RuntimeId,
    /// The version that was made, or that is being deleted.
    pub version: Option<Version>,
    /// Where the runtime stands.
    pub status: Status,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a changed endpoint is answered with. Kept with the client token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointOutcome {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The endpoint.
    pub name: EndpointName,
    /// The version it serves.
    pub live: Option<Version>,
    /// The version it is to serve.
    pub target: Version,
    /// Where it stands.
    pub status: Status,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The caller's word for one operation: a repetition with the same token and the same input is answered as the
/// first time and does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientToken {
    token: String,
    fingerprint: String,
}

impl ClientToken {
    /// The token of an operation with this input. The order of the input's members makes no difference.
    pub fn new(token: impl Into<String>, input: &Map<String, Value>) -> Self {
        let mut hash = Sha256::new();
        let rest = input.iter().filter(|(name, _)| *name != "clientToken");
        hash_object(&mut hash, rest);
        let fingerprint = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Self { token: token.into(), fingerprint }
    }
}

fn hash_object<'a>(hash: &mut Sha256, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut sorted: Vec<_> = members.collect();
    sorted.sort_by_key(|(name, _)| *name);
    hash.update(format!("{{{}:", sorted.len()));
    for (name, value) in sorted {
        hash.update(format!("{}:{name}", name.len()));
        hash_value(hash, value);
    }
}

fn hash_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => hash_object(hash, members.iter()),
        Value::Array(list) => {
            hash.update(format!("[{}:", list.len()));
            list.iter().for_each(|entry| hash_value(hash, entry));
        }
        // The text of a scalar says its type and where it ends.
        scalar => hash.update(format!("{scalar};")),
    }
}

/// A runtime or an endpoint, as the owner of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    runtime: RuntimeArn,
    endpoint: Option<EndpointName>,
}

impl Tagged {
    /// What an ARN names; nothing when it is no runtime's and no endpoint's.
    pub fn parse(arn: &str) -> Option<Self> {
        let (runtime, endpoint) = match arn.split_once("/runtime-endpoint/") {
            Some((runtime, endpoint)) => (runtime, Some(endpoint.parse().ok()?)),
            None => (arn, None),
        };
        Some(Self { runtime: runtime.parse().ok()?, endpoint })
    }
}

impl std::fmt::Display for Tagged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.endpoint {
            Some(endpoint) => f.write_str(&self.runtime.endpoint(endpoint)),
            None => self.runtime.fmt(f),
        }
    }
}

/// A runtime whose deletion has begun: nothing new can start in it.
#[derive(Debug)]
pub struct RuntimeDeletion {
    id: RuntimeId,
}

impl RuntimeDeletion {
    /// The runtime.
    pub fn id(&self) -> &RuntimeId {
        &self.id
    }
}

/// An endpoint whose deletion has begun.
#[derive(Debug)]
pub struct EndpointDeletion {
    runtime: RuntimeId,
    name: EndpointName,
}

impl EndpointDeletion {
    /// The runtime.
    pub fn runtime(&self) -> &RuntimeId {
        &self.runtime
    }

    /// The endpoint.
    pub fn name(&self) -> &EndpointName {
        &self.name
    }
}

/// Every runtime as it is at one moment.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    runtimes: HashMap<RuntimeId, Arc<Runtime>>,
}

/// Owner of runtimes, versions, endpoints and tags.
pub struct Registry {
    home: RuntimeHome,
    artifacts: ArtifactStore,
    /// There are code packages elsewhere.
    imports: bool,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    orders: mpsc::Sender<Order>,
    /// Longest wait for something that is CREATING.
    creating_wait: Duration,
}

/// What all ARNs of this emulator begin with.
#[derive(Debug, Clone)]
struct RuntimeHome {
    partition: Partition,
    region: crate::model::Region,
    account: AccountId,
}

impl RuntimeHome {
    fn of(config: &EmulatorConfig) -> Result<Self, StoreError> {
        let partition = match config.region.as_str() {
            r if r.starts_with("cn-") => "aws-cn",
            r if r.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let partition = partition.parse().map_err(|e| StoreError::Corrupt(format!("{e}")))?;
        Ok(Self { partition, region: config.region.clone(), account: config.account.clone() })
    }

    fn arn(&self, id: RuntimeId) -> RuntimeArn {
        RuntimeArn {
            partition: self.partition.clone(),
            region: self.region.clone(),
            account: self.account.clone(),
            id,
        }
    }

    fn is_home_of(&self, arn: &RuntimeArn) -> bool {
        arn.partition == self.partition && arn.region == self.region && arn.account == self.account
    }
}

/// Orders that wait for the owner before callers wait to give theirs. [ours]
const ORDERS_WAITING: usize = 64;

impl Registry {
    /// Reads the registry from the store. What was CREATING or UPDATING when the last emulator ended is READY, or goes on
    /// to fetch its code package.
    pub async fn open(
        store: Store,
        config: EmulatorConfig,
        clock: Arc<Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let home = RuntimeHome::of(&config)?;
        let (orders, inbox) = mpsc::channel(ORDERS_WAITING);
        let imports = config.importer.is_some();
        let (owner, snapshot) =
            Owner::open(store, home.clone(), clock, config.ready_delay, config.importer, orders.downgrade())
                .await?;
        tokio::spawn(owner.run(inbox));
        let artifacts = ArtifactStore::below(&config.home);
        let creating_wait = limits::CREATING_WAIT.max(config.ready_delay * 2);
        Ok(Arc::new(Self { home, artifacts, imports, snapshot, orders, creating_wait }))
    }

    /// Finds what a data-plane call is aimed at; memory only, on every call's path.
    pub fn resolve(&self, runtime: &RuntimeRef, endpoint: &EndpointName) -> Option<Arc<Target>> {
        self.current(self.local_id(runtime)?, endpoint)
    }

    /// [`Self::resolve`], which for a runtime or an endpoint that is CREATING waits until it is READY, as calls of the
    /// service were observed to do.
    ///
    /// An ARN of another region or account is not found: this emulator is one region of one account, and the
    /// service, too, knows no foreign runtime unless it is shared, which does not exist here.
    pub async fn resolve_when_ready(
        &self,
        runtime: &RuntimeRef,
        endpoint: &EndpointName,
    ) -> Result<Arc<Target>, ResolveError> {
        if let Some(target) = self.resolve(runtime, endpoint) {
            return Ok(target);
        }
        if let Some(id) = self.local_id(runtime) {
            let mut snapshot = self.snapshot.clone();
            let is_settled = |snapshot: &Arc<Snapshot>| match snapshot.endpoint(id, endpoint) {
                Some(endpoint) => endpoint.status != Status::Creating,
                None => true,
            };
            // Too long a wait ends as not found, which the service answers, too, while an endpoint spreads.
            let _ = tokio::time::timeout(self.creating_wait, snapshot.wait_for(is_settled)).await;
            if let Some(target) = self.resolve(runtime, endpoint) {
                return Ok(target);
            }
        }
        let agent = match runtime {
            RuntimeRef::Arn(arn) => arn.clone(),
            RuntimeRef::Id(id, account) => {
                RuntimeArn { account: account.clone(), ..self.home.arn(id.clone()) }
            }
        };
        Err(ResolveError::NotFound { qualifier: endpoint.clone(), agent })
    }

    /// What `(runtime, endpoint)` serves now, for a session that starts anew.
    pub fn current(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Option<Arc<Target>> {
        self.snapshot.borrow().endpoint(runtime, endpoint)?.resolved.clone()
    }

    /// The runtime's id when it is named as one of this emulator's.
    fn local_id<'a>(&self, runtime: &'a RuntimeRef) -> Option<&'a RuntimeId> {
        match runtime {
            RuntimeRef::Arn(arn) => self.home.is_home_of(arn).then_some(&arn.id),
            RuntimeRef::Id(id, account) => (*account == self.home.account).then_some(id),
        }
    }

    /// The ARN of a runtime of this emulator.
    pub fn arn(&self, id: &RuntimeId) -> RuntimeArn {
        self.home.arn(id.clone())
    }

    /// How many runtimes there are.
    pub fn runtime_count(&self) -> usize {
        self.snapshot.borrow().runtimes.len()
    }

    /// Every runtime's id, those that are being deleted among them.
    pub fn runtime_ids(&self) -> Vec<RuntimeId> {
        self.snapshot.borrow().runtimes.keys().cloned().collect()
    }

    /// What any version of any runtime runs: keys of bundles, names of images.
    pub fn all_sources(&self) -> HashSet<String> {
        let snapshot = self.snapshot.borrow();
        let versions = snapshot.runtimes.values().flat_map(|runtime| runtime.versions.values());
        versions.map(|version| version.settings.spec().artifact.source().to_owned()).collect()
    }

    /// A runtime.
    pub fn runtime(&self, id: &RuntimeId) -> Result<Arc<Runtime>, RegistryError> {
        self.snapshot.borrow().runtimes.get(id).cloned().ok_or_else(|| plan::no_runtime(id))
    }

    /// An endpoint.
    pub fn endpoint(&self, id: &RuntimeId, name: &EndpointName) -> Result<Arc<Endpoint>, RegistryError> {
        let runtime = self.runtime(id)?;
        runtime.endpoints.get(name).cloned().ok_or_else(|| plan::no_endpoint(id, name))
    }

    /// Runtimes, oldest first.
    pub fn list_runtimes(&self, request: &PageRequest) -> Result<Page<Arc<Runtime>>, RegistryError> {
        let mut runtimes: Vec<Arc<Runtime>> = self.snapshot.borrow().runtimes.values().cloned().collect();
        runtimes.sort_by_key(|runtime| runtime.sequence);
        let is_after = |runtime: &Arc<Runtime>, after: &str| Some(runtime.sequence > after.parse().ok()?);
        page::cut("runtimes", request, runtimes.into_iter(), |r| r.sequence.to_string(), is_after)
    }

    /// Versions of a runtime, oldest first.
    pub fn list_versions(
        &self,
        id: &RuntimeId,
        request: &PageRequest,
    ) -> Result<(Arc<Runtime>, Page<Arc<RuntimeVersion>>), RegistryError> {
        let runtime = self.runtime(id)?;
        let versions = runtime.versions.values().cloned();
        let is_after = |v: &Arc<RuntimeVersion>, after: &str| Some(v.version > after.parse().ok()?);
        let list = format!("versions {id}");
        let page = page::cut(&list, request, versions, |v| v.version.to_string(), is_after)?;
        Ok((runtime, page))
    }

    /// Endpoints of a runtime by name.
    pub fn list_endpoints(
        &self,
        id: &RuntimeId,
        request: &PageRequest,
    ) -> Result<(Arc<Runtime>, Page<Arc<Endpoint>>), RegistryError> {
        let runtime = self.runtime(id)?;
        let endpoints = runtime.endpoints.values().cloned();
        let is_after = |e: &Arc<Endpoint>, after: &str| Some(e.name.as_str() > after);
        let list = format!("endpoints {id}");
        let page = page::cut(&list, request, endpoints, |e| e.name.to_string(), is_after)?;
        Ok((runtime, page))
    }

    /// CreateAgentRuntime.
    pub async fn create_runtime(
        &self,
        new: NewRuntime,
        token: Option<ClientToken>,
    ) -> Result<RuntimeOutcome, RegistryError> {
        self.check_bundle(&new.settings).await?;
        self.order(Mutation::CreateRuntime(new), token).await?.runtime()
    }

    /// UpdateAgentRuntime: a new version, which DEFAULT follows once it is READY.
    pub async fn update_runtime(
        &self,
        id: &RuntimeId,
        settings: RuntimeSettings,
        token: Option<ClientToken>,
    ) -> Result<RuntimeOutcome, RegistryError> {
        self.runtime(id)?;
        self.check_bundle(&settings).await?;
        self.order(Mutation::UpdateRuntime { id: id.clone(), settings }, token).await?.runtime()
    }

    /// DeleteAgentRuntime with a version: that one alone, which no endpoint may serve.
    pub async fn delete_version(
        &self,
        id: &RuntimeId,
        version: Version,
        token: Option<ClientToken>,
    ) -> Result<RuntimeOutcome, RegistryError> {
        self.order(Mutation::DeleteVersion { id: id.clone(), version }, token).await?.runtime()
    }

    /// CreateAgentRuntimeEndpoint.
    pub async fn create_endpoint(
        &self,
        id: &RuntimeId,
        new: NewEndpoint,
        token: Option<ClientToken>,
    ) -> Result<EndpointOutcome, RegistryError> {
        self.order(Mutation::CreateEndpoint { id: id.clone(), new }, token).await?.endpoint()
    }

    /// UpdateAgentRuntimeEndpoint. What is not given stays as it is.
    pub async fn update_endpoint(
        &self,
        id: &RuntimeId,
        name: &EndpointName,
        version: Option<Version>,
        description: Option<String>,
        token: Option<ClientToken>,
    ) -> Result<EndpointOutcome, RegistryError> {
        let (id, name) = (id.clone(), name.clone());
        self.order(Mutation::UpdateEndpoint { id, name, version, description }, token).await?.endpoint()
    }

    /// Marks a runtime DELETING; it resolves no more. The second value is there when the deletion began with this
    /// call, and whoever gets it ends the runtime's sessions and then calls [`Self::finish_delete_runtime`].
    pub async fn begin_delete_runtime(
        &self,
        id: &RuntimeId,
        token: Option<ClientToken>,
    ) -> Result<(RuntimeOutcome, Option<RuntimeDeletion>), RegistryError> {
        let answer = self.order(Mutation::BeginDeleteRuntime(id.clone()), token).await?;
        let deletion = (!answer.repeated).then(|| RuntimeDeletion { id: id.clone() });
        Ok((answer.runtime()?, deletion))
    }

    /// Removes a runtime whose deletion has begun.
    pub async fn finish_delete_runtime(&self, deletion: RuntimeDeletion) -> Result<(), RegistryError> {
        self.order(Mutation::FinishDeleteRuntime(deletion.id), None).await.map(drop)
    }

    /// Marks an endpoint DELETING; it resolves no more. As [`Self::begin_delete_runtime`].
    pub async fn begin_delete_endpoint(
        &self,
        id: &RuntimeId,
        name: &EndpointName,
        token: Option<ClientToken>,
    ) -> Result<(EndpointOutcome, Option<EndpointDeletion>), RegistryError> {
        let (runtime, name) = (id.clone(), name.clone());
        let mutation = Mutation::BeginDeleteEndpoint { id: runtime.clone(), name: name.clone() };
        let answer = self.order(mutation, token).await?;
        let deletion = (!answer.repeated).then_some(EndpointDeletion { runtime, name });
        Ok((answer.endpoint()?, deletion))
    }

    /// Removes an endpoint whose deletion has begun.
    pub async fn finish_delete_endpoint(&self, deletion: EndpointDeletion) -> Result<(), RegistryError> {
        let EndpointDeletion { runtime, name } = deletion;
        self.order(Mutation::FinishDeleteEndpoint { id: runtime, name }, None).await.map(drop)
    }

    /// Deletions that an emulator before this one began and did not finish. To be taken once, right after opening.
    pub fn unfinished_deletions(&self) -> (Vec<RuntimeDeletion>, Vec<EndpointDeletion>) {
        let snapshot = self.snapshot.borrow().clone();
        let (mut runtimes, mut endpoints) = (Vec::new(), Vec::new());
        for (id, runtime) in &snapshot.runtimes {
            if runtime.status == Status::Deleting {
                runtimes.push(RuntimeDeletion { id: id.clone() });
                continue;
            }
            let deleting = runtime.endpoints.values().filter(|e| e.status == Status::Deleting);
            endpoints
                .extend(deleting.map(|e| EndpointDeletion { runtime: id.clone(), name: e.name.clone() }));
        }
        (runtimes, endpoints)
    }

    /// ListTagsForResource.
    pub fn tags(&self, of: &Tagged) -> Result<Tags, RegistryError> {
        let snapshot = self.snapshot.borrow();
        let runtime = snapshot.runtimes.get(&of.runtime.id).filter(|_| self.home.is_home_of(&of.runtime));
        let tags = runtime.and_then(|runtime| match &of.endpoint {
            None => Some(&runtime.tags),
            Some(name) => Some(&runtime.endpoints.get(name)?.tags),
        });
        tags.cloned().ok_or_else(|| plan::no_resource(of))
    }

    /// TagResource.
    pub async fn tag(&self, of: Tagged, tags: Tags) -> Result<(), RegistryError> {
        self.order(Mutation::Tag { of, tags }, None).await.map(drop)
    }

    /// UntagResource. A key that is not there is no error.
    pub async fn untag(&self, of: Tagged, keys: Vec<String>) -> Result<(), RegistryError> {
        self.order(Mutation::Untag { of, keys }, None).await.map(drop)
    }

    /// A version whose bundle is not there could never start a session. What is in another bucket is fetched once the
    /// version is on its way, because that takes as long as it takes.
    async fn check_bundle(&self, settings: &RuntimeSettings) -> Result<(), RegistryError> {
        const MEMBER: &str = "agentRuntimeArtifact.codeConfiguration.code.s3";
        let refused = |member: &str, message: String| {
            let member = format!("{MEMBER}.{member}");
            RegistryError::Refused(vec![Refusal { member, message }])
        };
        if settings.unfetched().is_some() {
            return match self.imports {
                true => Ok(()),
                false => Err(refused("bucket", no_importer())),
            };
        }
        let Artifact::Code(artifact) = settings.spec().artifact.clone() else { return Ok(()) };
        let store = self.artifacts.clone();
        let found = tokio::task::spawn_blocking(move || store.find(&artifact.prefix)).await;
        match found {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(refused("prefix", e.to_string())),
            Err(e) => Err(refused("prefix", e.to_string())),
        }
    }

    async fn order(&self, mutation: Mutation, token: Option<ClientToken>) -> Result<Answer, RegistryError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { mutation, token, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Why a code package cannot be fetched where nothing fetches any.
fn no_importer() -> String {
    format!("the emulator has no access to buckets but its own, `{}`", artifacts::BUCKET)
}

/// What becomes of settings whose code package is fetched: they name the bundle, or say why the version can never run.
async fn fetched(importer: Option<Importer>, settings: &RuntimeSettings) -> Option<RuntimeSettings> {
    let object = settings.unfetched()?.clone();
    let imported = match importer {
        Some(importer) => import(importer, object).await.map_err(|e| e.to_string()),
        None => Err(no_importer()),
    };
    let done = match imported {
        Ok(Imported { hash, remarks }) => settings.with_bundle(&hash, &remarks),
        Err(reason) => settings.with_failure(&reason),
    };
    done.or_else(|refusals| settings.with_failure(&format!("the code package is refused: {refusals:?}"))).ok()
}

async fn import(importer: Importer, object: ArtifactRef) -> Result<Imported, ImportError> {
    let failed = |e: &dyn std::fmt::Display| ImportError::Failed(e.to_string());
    let file = tempfile::NamedTempFile::new().map_err(|e| failed(&e))?;
    importer.fetch(&object, file.path()).await?;
    let done = tokio::task::spawn_blocking(move || importer.import(&object, file.path())).await;
    done.map_err(|e| failed(&e))?
}

impl Snapshot {
    fn endpoint(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Option<&Arc<Endpoint>> {
        self.runtimes.get(runtime)?.endpoints.get(endpoint)
    }
}

#[cfg(test)]
mod tests;

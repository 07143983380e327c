//! The one task that owns the registry's state: takes orders in turn, keeps them in the store, publishes the result.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::plan::{self, Effect, Mutation, Outcome, Plan};
use super::{
    ClientToken, Endpoint, EndpointOutcome, RegistryError, Runtime, RuntimeHome, RuntimeOutcome,
    RuntimeSettings, RuntimeVersion, Snapshot, Status, Tags,
};
use crate::artifacts::import::Importer;
use crate::emulator::clock::Clock;
use crate::emulator::store::runtimes::{self, Change, EndpointRow, Rows, RuntimeRow, TokenRow, VersionRow};
use crate::emulator::store::{Store, StoreError};
use crate::model::{RuntimeId, Timestamp, Version, limits};

/// Something to be changed, and whom to tell.
pub(super) struct Order {
    pub(super) mutation: Mutation,
    pub(super) token: Option<ClientToken>,
    pub(super) reply: oneshot::Sender<Result<Answer, RegistryError>>,
}

/// What an order led to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// A call before this one, with the same token, did it.
    pub(super) repeated: bool,
}

impl Answer {
    pub(super) fn runtime(self) -> Result<RuntimeOutcome, RegistryError> {
        match self.outcome {
            Outcome::Runtime(outcome) => Ok(outcome),
            other => Err(StoreError::Corrupt(format!("a runtime's operation was kept as {other:?}")).into()),
        }
    }

    pub(super) fn endpoint(self) -> Result<EndpointOutcome, RegistryError> {
        match self.outcome {
            Outcome::Endpoint(outcome) => Ok(outcome),
            other => {
                Err(StoreError::Corrupt(format!("an endpoint's operation was kept as {other:?}")).into())
            }
        }
    }
}

/// A token's call.
struct Remembered {
    fingerprint: String,
    runtime: RuntimeId,
    outcome: Outcome,
    created_at: Timestamp,
}

pub(super) struct Owner {
    store: Store,
    home: RuntimeHome,
    clock: Arc<Clock>,
    ready_delay: Duration,
    importer: Option<Importer>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// By operation and token.
    tokens: HashMap<(String, String), Remembered>,
    next_sequence: i64,
    /// For orders to itself. Weak, so that the task ends when the registry goes.
    orders: mpsc::WeakSender<Order>,
}

impl Owner {
    pub(super) async fn open(
        store: Store,
        home: RuntimeHome,
        clock: Arc<Clock>,
        ready_delay: Duration,
        importer: Option<Importer>,
        orders: mpsc::WeakSender<Order>,
    ) -> Result<(Self, watch::Receiver<Arc<Snapshot>>), StoreError> {
        let rows = store.read(runtimes::load).await?;
        let next_sequence = rows.runtimes.last().map_or(1, |last| last.sequence + 1);
        let tokens = rows.tokens.iter().map(remembered).collect::<Result<_, _>>()?;
        let mut snapshot = assemble(&home, rows)?;
        // Whoever would have made these READY died with the last emulator.
        let mut changes = Vec::new();
        for runtime in snapshot.runtimes.values_mut() {
            if let Some((settled, settling)) = plan::settle_everything(runtime) {
                *runtime = Arc::new(settled);
                changes.extend(settling);
            }
        }
        if !changes.is_empty() {
            store.write(move |t| runtimes::apply(t, &changes)).await?;
        }
        let unfetched: Vec<Arc<Runtime>> =
            snapshot.runtimes.values().filter(|r| awaits(r)).cloned().collect();
        let (snapshot, receiver) = watch::channel(Arc::new(snapshot));
        let owner =
            Self { store, home, clock, ready_delay, importer, snapshot, tokens, next_sequence, orders };
        // Nor has anybody fetched the packages that the last one did not get to.
        for runtime in unfetched {
            owner.order_later(Mutation::SettleRuntime(runtime.arn.id.clone()), Some(&runtime));
        }
        Ok((owner, receiver))
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        while let Some(Order { mutation, token, reply }) = inbox.recv().await {
            // A caller that has gone does not stop what it ordered.
            let _ = reply.send(self.take(mutation, token).await);
        }
    }

    async fn take(
        &mut self,
        mutation: Mutation,
        token: Option<ClientToken>,
    ) -> Result<Answer, RegistryError> {
        let operation = mutation.operation();
        let settles = mutation.is_settling();
        let oldest =
            Timestamp(self.clock.unshifted().0.saturating_sub(millis(limits::CLIENT_TOKEN_LIFETIME)));
        if let Some(token) = &token
            && let Some(known) = self.tokens.get(&(operation.to_owned(), token.token.clone()))
            && known.created_at >= oldest
        {
            return match known.fingerprint == token.fingerprint {
                true => Ok(Answer { outcome: known.outcome.clone(), repeated: true }),
                false => Err(RegistryError::TokenMismatch),
            };
        }
        let now = self.clock.now();
        let snapshot = self.snapshot.borrow().clone();
        let Plan { effect, mut changes, outcome, settle } =
            plan::plan(&snapshot, &self.home, now, self.next_sequence, mutation)?;
        let remember = token.map(|token| {
            let remembered = Remembered {
                fingerprint: token.fingerprint,
                runtime: effect.id().clone(),
                outcome: outcome.clone(),
                created_at: self.clock.unshifted(),
            };
            (token.token, remembered)
        });
        if let Some((token, remembered)) = &remember {
            changes.push(Change::DeleteTokensBefore(oldest.0));
            changes.push(Change::PutToken(token_row(operation, token, remembered)?));
        }
        match self.store.write(move |t| runtimes::apply(t, &changes)).await {
            Ok(()) => {}
            // What is READY in memory and CREATING in the store is READY at the next start: the same thing.
            Err(e) if settles => tracing::error!("a runtime or endpoint became READY, but: {e}"),
            Err(e) => return Err(e.into()),
        }
        if let Some((token, remembered)) = remember {
            self.tokens.retain(|_, known| known.created_at >= oldest);
            self.tokens.insert((operation.to_owned(), token), remembered);
        }
        let mut next = Snapshot::clone(&snapshot);
        let id = effect.id().clone();
        match effect {
            Effect::Put(runtime) => {
                self.next_sequence = self.next_sequence.max(runtime.sequence + 1);
                next.runtimes.insert(runtime.arn.id.clone(), runtime);
            }
            Effect::Remove(id) => {
                self.tokens.retain(|(operation, _), known| {
                    known.runtime != id || operation == plan::DELETE_AGENT_RUNTIME
                });
                next.runtimes.remove(&id);
            }
        }
        let changed = next.runtimes.get(&id).cloned();
        self.snapshot.send_replace(Arc::new(next));
        if let Some(mutation) = settle {
            self.order_later(mutation, changed.as_deref());
        }
        Ok(Answer { outcome, repeated: false })
    }

    /// After the delay, and after the code package has been fetched that the runtime waits for. Real time, not the
    /// emulator's clock: a clock that stands still must not keep runtimes from becoming READY.
    fn order_later(&self, mutation: Mutation, runtime: Option<&Runtime>) {
        let (orders, delay) = (self.orders.clone(), self.ready_delay);
        let importer = self.importer.clone();
        let waiting = match &mutation {
            Mutation::SettleRuntime(id) => {
                runtime.filter(|r| awaits(r)).map(|r| (id.clone(), r.newest.clone()))
            }
            _ => None,
        };
        tokio::spawn(async move {
            let fetched = async {
                let (id, version) = waiting?;
                let settings = super::fetched(importer, &version.settings).await?;
                Some(Mutation::SettleFetched { id, settings })
            };
            let (fetched, ()) = tokio::join!(fetched, tokio::time::sleep(delay));
            let mutation = fetched.unwrap_or(mutation);
            if let Some(orders) = orders.upgrade() {
                let (reply, _) = oneshot::channel();
                let _ = orders.send(Order { mutation, token: None, reply }).await;
            }
        });
    }
}

/// A version of it is on its way whose code package has to be fetched.
fn awaits(runtime: &Runtime) -> bool {
    let under_way = matches!(runtime.status, Status::Creating | Status::Updating);
    under_way && runtime.newest.settings.unfetched().is_some()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn token_row(operation: &str, token: &str, known: &Remembered) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        operation: operation.to_owned(),
        token: token.to_owned(),
        fingerprint: known.fingerprint.clone(),
        runtime_id: known.runtime.to_string(),
        outcome: serde_json::to_string(&known.outcome).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        created_at: known.created_at.0,
    })
}

fn remembered(row: &TokenRow) -> Result<((String, String), Remembered), StoreError> {
    let remembered = Remembered {
        fingerprint: row.fingerprint.clone(),
        runtime: parse(&row.runtime_id)?,
        outcome: serde_json::from_str(&row.outcome).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        created_at: Timestamp(row.created_at),
    };
    Ok(((row.operation.clone(), row.token.clone()), remembered))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|e| StoreError::Corrupt(format!("`{text}`: {e}")))
}

fn version(number: u32) -> Result<Version, StoreError> {
    parse(&number.to_string())
}

/// Rows to runtimes.
fn assemble(home: &RuntimeHome, rows: Rows) -> Result<Snapshot, StoreError> {
    let Rows { runtimes, versions, endpoints, tags, .. } = rows;
    let mut versions_of: HashMap<String, BTreeMap<Version, Arc<RuntimeVersion>>> = HashMap::new();
    for row in versions {
        let owner = row.runtime_id.clone();
        let version = read_version(row)?;
        versions_of.entry(owner).or_default().insert(version.version, Arc::new(version));
    }
    let mut tags_of: HashMap<(String, String), Tags> = HashMap::new();
    for row in tags {
        tags_of.entry((row.runtime_id, row.endpoint)).or_default().insert(row.key, row.value);
    }
    let mut endpoints_of: HashMap<String, Vec<EndpointRow>> = HashMap::new();
    for row in endpoints {
        endpoints_of.entry(row.runtime_id.clone()).or_default().push(row);
    }
    let mut snapshot = Snapshot::default();
    for row in runtimes {
        let RuntimeRow { sequence, id, name, status, created_at, updated_at } = row;
        let versions = versions_of.remove(&id).unwrap_or_default();
        let newest = versions.values().next_back().cloned();
        let newest = newest.ok_or_else(|| StoreError::Corrupt(format!("runtime `{id}` has no version")))?;
        let mut runtime = Runtime {
            sequence,
            arn: home.arn(parse(&id)?),
            name: parse(&name)?,
            status: Status::parse(&status)?,
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            newest,
            versions,
            endpoints: BTreeMap::new(),
            tags: tags_of.remove(&(id.clone(), String::new())).unwrap_or_default(),
        };
        for row in endpoints_of.remove(&id).unwrap_or_default() {
            let tags = tags_of.remove(&(id.clone(), row.name.clone())).unwrap_or_default();
            let endpoint = Endpoint {
                name: parse(&row.name)?,
                id: row.id,
                description: row.description,
                status: Status::parse(&row.status)?,
                live: row.live_version.map(version).transpose()?,
                target: version(row.target_version)?,
                created_at: Timestamp(row.created_at),
                updated_at: Timestamp(row.updated_at),
                tags,
                resolved: None,
            };
            plan::put_endpoint(&mut runtime, endpoint);
        }
        snapshot.runtimes.insert(runtime.arn.id.clone(), Arc::new(runtime));
    }
    Ok(snapshot)
}

fn read_version(row: VersionRow) -> Result<RuntimeVersion, StoreError> {
    let corrupt = |reason: String| {
        StoreError::Corrupt(format!("version {} of runtime `{}`: {reason}", row.version, row.runtime_id))
    };
    let members = serde_json::from_str(&row.settings).map_err(|e| corrupt(e.to_string()))?;
    let settings = RuntimeSettings::from_members(members).map_err(|refusals| {
        let reasons: Vec<String> = refusals.into_iter().map(|r| r.message).collect();
        corrupt(reasons.join("; "))
    })?;
    Ok(RuntimeVersion { version: version(row.version)?, created_at: Timestamp(row.created_at), settings })
}

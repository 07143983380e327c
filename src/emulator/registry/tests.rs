use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;
use crate::artifacts::import::Bucket;
use crate::artifacts::{BUCKET, Launch, Manifest};

const READY_DELAY: Duration = Duration::from_millis(40);

struct Bench {
    home: TempDir,
    config: EmulatorConfig,
    registry: Arc<Registry>,
    store: Store,
}

impl Bench {
    async fn new() -> Self {
        Self::with_delay(READY_DELAY).await
    }

    async fn with_delay(ready_delay: Duration) -> Self {
        let home = tempfile::tempdir().unwrap();
        let region = "us-west-2".parse().unwrap();
        let mut config = EmulatorConfig::new(home.path().to_owned(), region, "123456789012".parse().unwrap());
        config.ready_delay = ready_delay;
        let (store, registry) = open(&config).await;
        Self { home, config, registry, store }
    }

    /// The emulator ends and a new one opens the same state.
    async fn reopen(self) -> Self {
        let Self { home, config, registry, store } = self;
        drop((registry, store));
        let (store, registry) = open(&config).await;
        Self { home, config, registry, store }
    }

    fn settings(&self, description: &str) -> RuntimeSettings {
        let prefix = bundle(self.home.path());
        settings(&prefix, description)
    }

    fn new_runtime(&self, name: &str) -> NewRuntime {
        let tags = Tags::from([("team".to_owned(), "x".to_owned())]);
        NewRuntime { name: name.parse().unwrap(), settings: self.settings("first"), tags }
    }

    /// A runtime that is READY.
    async fn ready(&self, name: &str) -> RuntimeId {
        let outcome = self.registry.create_runtime(self.new_runtime(name), None).await.unwrap();
        self.settled(&outcome.id).await;
        outcome.id
    }

    async fn settled(&self, id: &RuntimeId) {
        let done = |snapshot: &Arc<Snapshot>| {
            snapshot.runtimes.get(id).is_some_and(|runtime| {
                runtime.status == Status::Ready
                    && runtime.endpoints.values().all(|e| e.status == Status::Ready)
            })
        };
        let mut snapshot = self.registry.snapshot.clone();
        let wait = tokio::time::timeout(Duration::from_secs(10), snapshot.wait_for(done));
        wait.await.unwrap().unwrap();
    }

    async fn update(&self, id: &RuntimeId) -> RuntimeOutcome {
        self.registry.update_runtime(id, self.settings("next"), None).await.unwrap()
    }

    fn by_arn(&self, id: &RuntimeId) -> RuntimeRef {
        RuntimeRef::Arn(self.registry.arn(id))
    }

    fn live(&self, id: &RuntimeId, endpoint: &str) -> Option<u32> {
        let target = self.registry.resolve(&self.by_arn(id), &endpoint.parse().unwrap())?;
        Some(target.version.number())
    }
}

async fn open(config: &EmulatorConfig) -> (Store, Arc<Registry>) {
    let store = Store::open(&config.home.join("state.db")).await.unwrap();
    let registry = Registry::open(store.clone(), config.clone(), Arc::new(Clock::system())).await.unwrap();
    (store, registry)
}

fn bundle(home: &Path) -> String {
    let key = "ab".repeat(32);
    let directory = home.join("artifacts").join(&key);
    std::fs::create_dir_all(directory.join("code")).unwrap();
    let launch = Launch::Command { argv: vec!["./agent".into()] };
    let manifest =
        Manifest { format: Manifest::FORMAT, launch, read_only: vec![], environment: vec![], image: None };
    std::fs::write(directory.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    key
}

fn settings(prefix: &str, description: &str) -> RuntimeSettings {
    let input = json!({
        "agentRuntimeArtifact": { "codeConfiguration": {
            "code": { "s3": { "bucket": BUCKET, "prefix": prefix } },
            "runtime": "PYTHON_3_13",
            "entryPoint": ["main.py"],
        } },
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "description": description,
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/work" } }],
    });
    RuntimeSettings::from_input(input.as_object().unwrap()).unwrap()
}

fn version(number: u32) -> Version {
    number.to_string().parse().unwrap()
}

fn endpoint(name: &str) -> EndpointName {
    name.parse().unwrap()
}

fn pinned(name: &str, number: Option<u32>) -> NewEndpoint {
    NewEndpoint { name: endpoint(name), version: number.map(version), description: None, tags: Tags::new() }
}

fn token(text: &str) -> Option<ClientToken> {
    Some(ClientToken::new(text, json!({ "a": 1 }).as_object().unwrap()))
}

fn is_conflict<T>(result: Result<T, RegistryError>) -> bool {
    matches!(result, Err(RegistryError::Conflict(_)))
}

#[tokio::test]
async fn a_version_that_can_never_run_fails_and_says_why() {
    let bench = Bench::new().await;
    let failing = |bench: &Bench| bench.settings("bad").with_failure("`x.so` is for arm64").unwrap();
    let new = NewRuntime { settings: failing(&bench), ..bench.new_runtime("coder") };
    let outcome = bench.registry.create_runtime(new, None).await.unwrap();
    assert_eq!(outcome.status, Status::Creating);
    let id = outcome.id;
    let default = EndpointName::default_endpoint();
    let failed = async |bench: &Bench, status: Status| {
        let mut snapshot = bench.registry.snapshot.clone();
        let done = |s: &Arc<Snapshot>| s.runtimes.get(&id).is_some_and(|r| r.status == status);
        let wait = tokio::time::timeout(Duration::from_secs(10), snapshot.wait_for(done));
        wait.await.unwrap().unwrap();
    };
    failed(&bench, Status::CreateFailed).await;
    let bench = bench.reopen().await;
    let runtime = bench.registry.runtime(&id).unwrap();
    assert_eq!(runtime.status, Status::CreateFailed);
    assert_eq!(runtime.failure(Version::FIRST), Some("`x.so` is for arm64"));
    assert!(!runtime.newest.settings.shown().keys().any(|name| name.contains(':')));
    let endpoint = bench.registry.endpoint(&id, &default).unwrap();
    assert_eq!((endpoint.status, endpoint.live), (Status::CreateFailed, None));
    assert!(bench.registry.current(&id, &default).is_none());

    // A good version is served; after a bad one it still is, and all of it can be deleted.
    bench.update(&id).await;
    bench.settled(&id).await;
    bench.registry.update_runtime(&id, failing(&bench), None).await.unwrap();
    failed(&bench, Status::UpdateFailed).await;
    assert_eq!(bench.registry.current(&id, &default).unwrap().version, version(2));
    let runtime = bench.registry.runtime(&id).unwrap();
    let statuses: Vec<Status> = runtime.versions.keys().map(|v| runtime.version_status(*v)).collect();
    assert_eq!(statuses, [Status::CreateFailed, Status::Ready, Status::UpdateFailed]);
    let (outcome, _) = bench.registry.begin_delete_runtime(&id, None).await.unwrap();
    assert_eq!(outcome.status, Status::Deleting);
}

/// A bucket that answers once it is let, with nothing.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
    answer: Notify,
}

impl Bucket for Slow {
    fn fetch<'a>(
        &'a self,
        _: &'a ArtifactRef,
        _: &'a Path,
        _: u64,
    ) -> futures_util::future::BoxFuture<'a, Result<(), String>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answer.notified().await;
            Err("no such bucket".to_owned())
        })
    }
}

#[tokio::test]
async fn a_version_whose_package_cannot_be_had_fails_and_nobody_waits_for_it() {
    let Bench { home, mut config, registry, store } = Bench::new().await;
    let bucket = Arc::new(Slow::default());
    config.importer = Some(Importer::new(bucket.clone(), home.path().to_owned(), None, None));
    let elsewhere = || {
        let mut input = settings("agent.zip", "far").members().clone();
        let code = &mut input["agentRuntimeArtifact"]["codeConfiguration"]["code"];
        code["s3"]["bucket"] = json!("somebody-elses");
        RuntimeSettings::from_input(&input).unwrap()
    };
    let reaches = async |bench: &Bench, id: &RuntimeId, status: Status| {
        let mut snapshot = bench.registry.snapshot.clone();
        let done = |s: &Arc<Snapshot>| s.runtimes.get(id).is_some_and(|r| r.status == status);
        let wait = tokio::time::timeout(Duration::from_secs(10), snapshot.wait_for(done));
        drop(wait.await.unwrap().unwrap());
    };
    let asked = async |times: usize| {
        let wait = async {
            while bucket.asked.load(Ordering::SeqCst) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    };
    // Without anybody who fetches it is refused at once.
    let refused = NewRuntime { settings: elsewhere(), name: "far".parse().unwrap(), tags: Tags::new() };
    assert!(matches!(registry.create_runtime(refused, None).await, Err(RegistryError::Refused(_))));
    let bench = Bench { home, config, registry, store }.reopen().await;

    // The call is answered while the bucket is not; a restart in between asks it anew.
    let new = NewRuntime { settings: elsewhere(), ..bench.new_runtime("far") };
    let id = bench.registry.create_runtime(new, None).await.unwrap().id;
    asked(1).await;
    assert_eq!(bench.registry.runtime(&id).unwrap().status, Status::Creating);
    let bench = bench.reopen().await;
    asked(2).await;
    assert_eq!(bench.registry.runtime(&id).unwrap().status, Status::Creating);
    assert!(is_conflict(bench.registry.begin_delete_runtime(&id, None).await));
    bucket.answer.notify_waiters();
    reaches(&bench, &id, Status::CreateFailed).await;
    let bench = bench.reopen().await;
    let runtime = bench.registry.runtime(&id).unwrap();
    assert_eq!(runtime.status, Status::CreateFailed);
    let reason = runtime.failure(Version::FIRST).unwrap();
    assert!(
        reason.contains("`s3://somebody-elses/agent.zip`") && reason.contains("no such bucket"),
        "{reason}"
    );

    // An update to such a package fails, and what served before goes on.
    bench.update(&id).await;
    bench.settled(&id).await;
    bench.registry.update_runtime(&id, elsewhere(), None).await.unwrap();
    asked(3).await;
    assert_eq!(bench.live(&id, "DEFAULT"), Some(2));
    bucket.answer.notify_waiters();
    reaches(&bench, &id, Status::UpdateFailed).await;
    assert_eq!(bench.live(&id, "DEFAULT"), Some(2));
    assert!(bench.registry.runtime(&id).unwrap().failure(version(3)).is_some());
}

#[tokio::test]
async fn a_runtime_is_creating_then_ready_and_default_serves_it() {
    let bench = Bench::new().await;
    let outcome = bench.registry.create_runtime(bench.new_runtime("coder"), None).await.unwrap();
    assert_eq!((outcome.status, outcome.version), (Status::Creating, Some(Version::FIRST)));
    assert_eq!(outcome.id.name(), "coder");
    assert_eq!(bench.live(&outcome.id, "DEFAULT"), None);
    // A call that comes meanwhile waits.
    let default = EndpointName::default_endpoint();
    let target = bench.registry.resolve_when_ready(&bench.by_arn(&outcome.id), &default).await.unwrap();
    assert_eq!(target.version, Version::FIRST);
    assert_eq!(target.spec.session_storage.as_ref().unwrap().as_str(), "/mnt/work");
    assert_eq!(bench.registry.runtime(&outcome.id).unwrap().status, Status::Ready);
    // By id and account, too.
    let by_id = RuntimeRef::Id(outcome.id.clone(), bench.config.account.clone());
    assert!(bench.registry.resolve(&by_id, &default).is_some());
}

#[tokio::test]
async fn what_is_not_there_or_elsewhere_is_not_found_in_the_services_words() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    let here = bench.registry.arn(&id);
    let default = EndpointName::default_endpoint();
    let elsewhere = RuntimeArn { region: "eu-west-1".parse().unwrap(), ..here.clone() };
    let foreign = RuntimeArn { account: "210987654321".parse().unwrap(), ..here.clone() };
    let unknown = RuntimeArn { id: "coder-0000000000".parse().unwrap(), ..here.clone() };
    for arn in [elsewhere, foreign, unknown] {
        let error =
            bench.registry.resolve_when_ready(&RuntimeRef::Arn(arn.clone()), &default).await.unwrap_err();
        let expected = format!("No endpoint or agent found with qualifier 'DEFAULT' for agent '{arn}'");
        assert_eq!(error.to_string(), expected);
    }
    let by_id = RuntimeRef::Id(id, "210987654321".parse().unwrap());
    assert!(bench.registry.resolve(&by_id, &default).is_none());
    assert!(bench.registry.resolve(&RuntimeRef::Arn(here), &endpoint("prod")).is_none());
}

#[tokio::test]
async fn default_follows_the_newest_version_and_named_endpoints_stay() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    bench.registry.create_endpoint(&id, pinned("prod", None), None).await.unwrap();
    bench.settled(&id).await;
    let outcome = bench.update(&id).await;
    assert_eq!((outcome.status, outcome.version), (Status::Updating, Some(version(2))));
    // The old version serves until the new one is ready.
    let default = bench.registry.endpoint(&id, &EndpointName::default_endpoint()).unwrap();
    assert_eq!((default.live, default.target), (Some(version(1)), version(2)));
    assert_eq!(bench.live(&id, "DEFAULT"), Some(1));
    bench.settled(&id).await;
    assert_eq!((bench.live(&id, "DEFAULT"), bench.live(&id, "prod")), (Some(2), Some(1)));

    let moved = bench.registry.update_endpoint(&id, &endpoint("prod"), Some(version(2)), None, None).await;
    let moved = moved.unwrap();
    assert_eq!((moved.status, moved.live, moved.target), (Status::Updating, Some(version(1)), version(2)));
    assert_eq!(bench.live(&id, "prod"), Some(1));
    bench.settled(&id).await;
    assert_eq!(bench.live(&id, "prod"), Some(2));
    // A pinned endpoint can go back.
    bench.registry.update_endpoint(&id, &endpoint("prod"), Some(version(1)), None, None).await.unwrap();
    bench.settled(&id).await;
    assert_eq!(bench.live(&id, "prod"), Some(1));
}

#[tokio::test]
async fn what_is_in_transition_or_taken_conflicts() {
    let bench = Bench::with_delay(Duration::from_secs(60)).await;
    let id = bench.registry.create_runtime(bench.new_runtime("coder"), None).await.unwrap().id;
    let registry = &bench.registry;
    assert!(is_conflict(registry.create_runtime(bench.new_runtime("coder"), None).await));
    assert!(is_conflict(registry.update_runtime(&id, bench.settings("x"), None).await));
    assert!(is_conflict(registry.begin_delete_runtime(&id, None).await));
    assert!(is_conflict(registry.create_endpoint(&id, pinned("prod", None), None).await));
    assert!(is_conflict(registry.delete_version(&id, Version::FIRST, None).await));
    // Found CREATING after a restart: READY, and so are its endpoints.
    let bench = bench.reopen().await;
    assert_eq!(bench.registry.runtime(&id).unwrap().status, Status::Ready);
    assert_eq!(bench.live(&id, "DEFAULT"), Some(1));
    bench.update(&id).await;
    assert!(is_conflict(bench.registry.update_runtime(&id, bench.settings("x"), None).await));
    let bench = bench.reopen().await;
    assert_eq!(bench.live(&id, "DEFAULT"), Some(2));
}

#[tokio::test]
async fn default_is_not_for_callers_to_change() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    let default = EndpointName::default_endpoint();
    assert!(is_conflict(bench.registry.create_endpoint(&id, pinned("DEFAULT", None), None).await));
    assert!(is_conflict(bench.registry.update_endpoint(&id, &default, None, None, None).await));
    assert!(is_conflict(bench.registry.begin_delete_endpoint(&id, &default, None).await));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    let tags = Tags::from([("stage".to_owned(), "prod".to_owned())]);
    let new = NewEndpoint { description: Some("live".into()), tags, ..pinned("prod", Some(1)) };
    bench.registry.create_endpoint(&id, new, None).await.unwrap();
    bench.settled(&id).await;
    bench.update(&id).await;
    bench.settled(&id).await;
    let before = bench.registry.runtime(&id).unwrap();
    let bench = bench.reopen().await;
    let after = bench.registry.runtime(&id).unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(after.tags["team"], "x");
    assert_eq!(after.endpoints[&endpoint("prod")].tags["stage"], "prod");
    // Its name is still taken, and its successor comes after it in lists.
    assert!(is_conflict(bench.registry.create_runtime(bench.new_runtime("coder"), None).await));
    bench.ready("writer").await;
    let names: Vec<String> = bench
        .registry
        .list_runtimes(&PageRequest::default())
        .unwrap()
        .items
        .iter()
        .map(|r| r.name.to_string())
        .collect();
    assert_eq!(names, ["coder", "writer"]);
}

#[tokio::test]
async fn a_deletion_resolves_no_more_and_survives_a_crash() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    let (outcome, deletion) = bench.registry.begin_delete_runtime(&id, None).await.unwrap();
    assert_eq!(outcome.status, Status::Deleting);
    assert!(deletion.is_some());
    assert_eq!(bench.live(&id, "DEFAULT"), None);
    assert_eq!(bench.registry.runtime(&id).unwrap().status, Status::Deleting);
    assert!(is_conflict(bench.registry.begin_delete_runtime(&id, None).await));
    // The emulator dies before the sessions are gone.
    let bench = bench.reopen().await;
    assert_eq!(bench.live(&id, "DEFAULT"), None);
    let (mut runtimes, endpoints) = bench.registry.unfinished_deletions();
    assert_eq!((runtimes.len(), endpoints.len()), (1, 0));
    bench.registry.finish_delete_runtime(runtimes.remove(0)).await.unwrap();
    assert!(matches!(bench.registry.runtime(&id), Err(RegistryError::NotFound(_))));
    let rows = bench.store.read(crate::emulator::store::runtimes::load).await.unwrap();
    assert_eq!(
        (rows.runtimes.len(), rows.versions.len(), rows.endpoints.len(), rows.tags.len()),
        (0, 0, 0, 0)
    );
    // The name is free again.
    let again = bench.ready("coder").await;
    assert_ne!(again, id);
}

#[tokio::test]
async fn an_endpoints_deletion_survives_a_crash() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    bench.registry.create_endpoint(&id, pinned("prod", None), None).await.unwrap();
    bench.settled(&id).await;
    let (outcome, _) = bench.registry.begin_delete_endpoint(&id, &endpoint("prod"), None).await.unwrap();
    assert_eq!(outcome.status, Status::Deleting);
    assert_eq!(bench.live(&id, "prod"), None);
    assert!(is_conflict(bench.registry.create_endpoint(&id, pinned("prod", None), None).await));
    assert!(is_conflict(bench.registry.begin_delete_runtime(&id, None).await));
    let bench = bench.reopen().await;
    let (_, mut endpoints) = bench.registry.unfinished_deletions();
    bench.registry.finish_delete_endpoint(endpoints.remove(0)).await.unwrap();
    assert!(matches!(bench.registry.endpoint(&id, &endpoint("prod")), Err(RegistryError::NotFound(_))));
    assert_eq!(bench.live(&id, "DEFAULT"), Some(1));
}

#[tokio::test]
async fn versions_that_nothing_serves_can_be_deleted() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    bench.registry.create_endpoint(&id, pinned("prod", Some(1)), None).await.unwrap();
    bench.settled(&id).await;
    for _ in 0..2 {
        bench.update(&id).await;
        bench.settled(&id).await;
    }
    assert!(is_conflict(bench.registry.delete_version(&id, version(1), None).await));
    assert!(is_conflict(bench.registry.delete_version(&id, version(3), None).await));
    bench.registry.delete_version(&id, version(2), None).await.unwrap();
    assert!(matches!(
        bench.registry.delete_version(&id, version(2), None).await,
        Err(RegistryError::NotFound(_))
    ));
    // Numbers are not used again.
    assert_eq!(bench.update(&id).await.version, Some(version(4)));
}

#[tokio::test]
async fn a_client_token_makes_a_repetition_harmless() {
    let bench = Bench::new().await;
    let text = "t".repeat(36);
    let first = bench.registry.create_runtime(bench.new_runtime("coder"), token(&text)).await.unwrap();
    let second = bench.registry.create_runtime(bench.new_runtime("coder"), token(&text)).await.unwrap();
    assert_eq!(first, second);
    // The order of members makes no difference; another value does.
    let same = json!({ "b": [1, { "c": "x", "d": 2 }], "a": "1", "clientToken": text });
    let order = json!({ "a": "1", "b": [1, { "d": 2, "c": "x" }] });
    let other = json!({ "a": 1, "b": [1, { "d": 2, "c": "x" }] });
    let of = |input: &Value| ClientToken::new(&text, input.as_object().unwrap());
    assert_eq!(of(&same), of(&order));
    assert_ne!(of(&same), of(&other));
    let mismatch = bench.registry.create_runtime(bench.new_runtime("coder"), Some(of(&other))).await;
    assert!(matches!(mismatch, Err(RegistryError::TokenMismatch)));
    // Also after a restart; another operation's tokens are its own.
    let bench = bench.reopen().await;
    assert_eq!(bench.registry.create_runtime(bench.new_runtime("coder"), token(&text)).await.unwrap(), first);
    let (_, deletion) = bench.registry.begin_delete_runtime(&first.id, token(&text)).await.unwrap();
    let (_, repeated) = bench.registry.begin_delete_runtime(&first.id, token(&text)).await.unwrap();
    assert!(repeated.is_none());
    bench.registry.finish_delete_runtime(deletion.unwrap()).await.unwrap();
    // A repeated deletion is still fine; a creation's token went with its runtime.
    let (outcome, repeated) = bench.registry.begin_delete_runtime(&first.id, token(&text)).await.unwrap();
    assert_eq!((outcome.status, repeated.is_none()), (Status::Deleting, true));
    let again = bench.registry.create_runtime(bench.new_runtime("coder"), token(&text)).await.unwrap();
    assert_ne!(again.id, first.id);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let bench = Bench::new().await;
    let create = bench.registry.create_runtime(bench.new_runtime("coder"), None);
    // Polled until its order is on its way, then dropped.
    let _ = tokio::time::timeout(Duration::from_micros(300), create).await;
    // Orders are taken in turn, so this one comes after it.
    bench.ready("writer").await;
    let in_memory = bench.registry.runtime_count();
    let bench = bench.reopen().await;
    assert_eq!(bench.registry.runtime_count(), in_memory);
}

#[tokio::test]
async fn names_are_given_once_however_many_ask() {
    let bench = Bench::new().await;
    let asks = (0..8).map(|_| bench.registry.create_runtime(bench.new_runtime("coder"), None));
    let results = futures_util::future::join_all(asks).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(bench.registry.runtime_count(), 1);
}

#[tokio::test]
async fn a_missing_bundle_is_named() {
    let bench = Bench::new().await;
    let key = "cd".repeat(32);
    let new = NewRuntime { settings: settings(&key, "x"), ..bench.new_runtime("coder") };
    let Err(RegistryError::Refused(refusals)) = bench.registry.create_runtime(new, None).await else {
        panic!("must be refused");
    };
    assert_eq!(refusals[0].member, "agentRuntimeArtifact.codeConfiguration.code.s3.prefix");
    assert!(refusals[0].message.contains(&key), "{}", refusals[0].message);
}

#[tokio::test]
async fn endpoints_have_a_quota() {
    let bench = Bench::with_delay(Duration::ZERO).await;
    let id = bench.ready("coder").await;
    for number in 1..limits::MAX_ENDPOINTS {
        bench.registry.create_endpoint(&id, pinned(&format!("e{number}"), None), None).await.unwrap();
    }
    let one_more = bench.registry.create_endpoint(&id, pinned("more", None), None).await;
    assert!(matches!(one_more, Err(RegistryError::Quota(_))));
}

/// The rules without the store: a thousand runtimes on a disk take a while.
#[test]
fn runtimes_and_versions_have_a_quota() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(&bundle(home.path()), "d");
    let region = "us-west-2".parse().unwrap();
    let config = EmulatorConfig::new(home.path().to_owned(), region, "123456789012".parse().unwrap());
    let arns = RuntimeHome::of(&config).unwrap();
    let mut snapshot = Snapshot::default();
    let act = |snapshot: &mut Snapshot, mutation: plan::Mutation| {
        let plan = plan::plan(snapshot, &arns, Timestamp(0), 1, mutation)?;
        match plan.effect {
            plan::Effect::Put(runtime) => snapshot.runtimes.insert(runtime.arn.id.clone(), runtime),
            plan::Effect::Remove(id) => snapshot.runtimes.remove(&id),
        };
        Ok::<_, RegistryError>(())
    };
    let create = |number: usize| {
        let name = format!("r{number}").parse().unwrap();
        plan::Mutation::CreateRuntime(NewRuntime { name, settings: settings.clone(), tags: Tags::new() })
    };
    for number in 0..limits::MAX_RUNTIMES {
        act(&mut snapshot, create(number)).unwrap();
    }
    let one_more = act(&mut snapshot, create(limits::MAX_RUNTIMES));
    assert!(matches!(&one_more, Err(RegistryError::Quota(said)) if said.contains("1000")), "{one_more:?}");
    let gone = snapshot.runtimes.keys().next().unwrap().clone();
    act(&mut snapshot, plan::Mutation::FinishDeleteRuntime(gone)).unwrap();
    act(&mut snapshot, create(limits::MAX_RUNTIMES)).unwrap();

    let id = snapshot.runtimes.keys().next().unwrap().clone();
    let update = || plan::Mutation::UpdateRuntime { id: id.clone(), settings: settings.clone() };
    for _ in 1..limits::MAX_VERSIONS {
        act(&mut snapshot, plan::Mutation::SettleRuntime(id.clone())).unwrap();
        act(&mut snapshot, update()).unwrap();
    }
    act(&mut snapshot, plan::Mutation::SettleRuntime(id.clone())).unwrap();
    let one_more = act(&mut snapshot, update());
    assert!(matches!(&one_more, Err(RegistryError::Quota(said)) if said.contains("1000")), "{one_more:?}");
    // A version that nothing serves makes room for another one.
    act(&mut snapshot, plan::Mutation::DeleteVersion { id: id.clone(), version: Version::FIRST }).unwrap();
    act(&mut snapshot, plan::Mutation::SettleRuntime(id.clone())).unwrap();
    act(&mut snapshot, update()).unwrap();
    assert_eq!(snapshot.runtimes[&id].versions.len(), limits::MAX_VERSIONS);
}

#[tokio::test]
async fn tags_come_and_go() {
    let bench = Bench::new().await;
    let id = bench.ready("coder").await;
    let arn = bench.registry.arn(&id);
    let runtime = Tagged::parse(&arn.to_string()).unwrap();
    let default = Tagged::parse(&arn.endpoint(&EndpointName::default_endpoint())).unwrap();
    let tags =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Tags>();
    bench.registry.tag(runtime.clone(), tags(&[("team", "y"), ("a", "1")])).await.unwrap();
    bench.registry.tag(default.clone(), tags(&[("b", "2")])).await.unwrap();
    bench.registry.untag(runtime.clone(), vec!["a".into(), "unknown".into()]).await.unwrap();
    let bench = bench.reopen().await;
    assert_eq!(bench.registry.tags(&runtime).unwrap(), tags(&[("team", "y")]));
    assert_eq!(bench.registry.tags(&default).unwrap(), tags(&[("b", "2")]));
    let many: Tags = (0..limits::MAX_TAGS).map(|n| (format!("k{n}"), String::new())).collect();
    assert!(matches!(bench.registry.tag(runtime.clone(), many).await, Err(RegistryError::Quota(_))));
    let elsewhere = Tagged::parse(&arn.to_string().replace("us-west-2", "eu-west-1")).unwrap();
    assert!(matches!(bench.registry.tags(&elsewhere), Err(RegistryError::NotFound(_))));
    assert!(matches!(bench.registry.tag(elsewhere, tags(&[])).await, Err(RegistryError::NotFound(_))));
    assert_eq!(Tagged::parse("arn:aws:bedrock-agentcore:us-west-2:123456789012:memory/m-0123456789"), None);
}

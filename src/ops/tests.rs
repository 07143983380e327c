//! The plans, from what a project wants and what was observed; nothing here is sent anywhere.

use serde_json::{Value, json};

use super::deploy::{FoundRole, FoundRuntime, Observed, OpsError, PlanOptions, Targets, plan};
use super::desired::{Artifact, Desired, Endpoint, Package, Recorded, image_member};
use super::document::Document;
use super::plan::{Action, Plan, Resource, Work};
use super::ports::{Bucket, Caller, LocalImage, Repository, Role, Runtime, Tags};
use super::{destroy, names, policy};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";

fn desired() -> Desired {
    Desired {
        name: "coder".parse().unwrap(),
        account: None,
        role: None,
        models: None,
        members: serde_json::Map::new(),
        tags: None,
        endpoints: None,
        recorded: Recorded::default(),
        repository: None,
        code: None,
    }
}

fn caller() -> Caller {
    Caller { account: ACCOUNT.into(), arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/dev/me") }
}

fn targets(desired: &Desired) -> Targets {
    Targets::of(desired, caller(), REGION).unwrap()
}

fn package() -> Artifact {
    Artifact::Package(Package {
        file: "/tmp/x.zip".into(),
        hash: "a".repeat(64),
        bytes: 7,
        runtime: "PYTHON_3_13".into(),
        entry_point: vec!["main.py".into()],
    })
}

fn nothing() -> Observed {
    Observed {
        role: FoundRole::Missing,
        repository: None,
        artifact: false,
        bucket: None,
        runtime: None,
        recorded_gone: false,
        unseen: Vec::new(),
    }
}

/// Everything as a deployment of `desired` with `artifact` leaves it.
fn deployed(desired: &Desired, artifact: &Artifact) -> Observed {
    let targets = targets(desired);
    let scope = targets.scope(desired);
    let first = plan(desired, artifact, &targets, &nothing(), &PlanOptions::default()).unwrap();
    let mut members = match first.steps.iter().find(|s| s.resource == Resource::Runtime).map(|s| &s.work) {
        Some(Work::CreateRuntime { document }) => document.members().clone(),
        other => panic!("{other:?}"),
    };
    let permissions = first.steps.iter().find_map(|s| match &s.work {
        Work::PutRolePolicy { policy, .. } => Some(policy.clone()),
        _ => None,
    });
    members.remove("tags");
    members.insert(
        "lifecycleConfiguration".into(),
        json!({ "idleRuntimeSessionTimeout": 900, "maxLifetime": 28800 }),
    );
    for (name, value) in
        [("status", "READY"), ("agentRuntimeVersion", "3"), ("agentRuntimeId", "coder-0123456789")]
    {
        members.insert(name.into(), json!(value));
    }
    let repository = Repository {
        arn: "arn".into(),
        uri: targets.repository.2.clone(),
        scan_on_push: true,
        tags: names::tags(&desired.name),
    };
    let role =
        Role { arn: targets.role.1.clone(), trust: policy::trust(scope), tags: names::tags(&desired.name) };
    Observed {
        role: FoundRole::Here { role, permissions },
        repository: Some((repository, Some(policy::untagged_images()))),
        artifact: true,
        bucket: Some(Bucket { tags: names::shared_tags() }),
        runtime: Some(FoundRuntime {
            runtime: Runtime {
                id: "coder-0123456789".into(),
                arn: format!("arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/coder-0123456789"),
                version: "3".into(),
            },
            document: Document::new(members),
            tags: names::tags(&desired.name),
            endpoints: vec![super::ports::Endpoint {
                name: "DEFAULT".into(),
                arn: "arn".into(),
                version: Some("3".into()),
                description: None,
            }],
        }),
        recorded_gone: false,
        unseen: Vec::new(),
    }
}

fn planned(desired: &Desired, artifact: &Artifact, observed: &Observed) -> Result<Plan, OpsError> {
    let options = PlanOptions { sessions: vec!["ticket-1".into()], ..PlanOptions::default() };
    plan(desired, artifact, &targets(desired), observed, &options)
}

fn steps(plan: &Plan) -> Vec<(Action, Resource)> {
    plan.steps.iter().map(|s| (s.action, s.resource)).collect()
}

fn refusal(result: Result<Plan, OpsError>) -> String {
    match result {
        Err(OpsError::Refused { message, hint }) => format!("{message} / {hint}"),
        other => panic!("{other:?}"),
    }
}

/// The document that an update would send.
fn update(plan: &Plan) -> &Document {
    let document = plan.steps.iter().find_map(|s| match &s.work {
        Work::UpdateRuntime { document, .. } => Some(document),
        _ => None,
    });
    document.unwrap_or_else(|| panic!("no update in {plan:?}"))
}

#[test]
fn a_first_deployment_makes_everything_in_its_order() {
    let code = planned(&desired(), &package(), &nothing()).unwrap();
    assert_eq!(
        steps(&code),
        [
            (Action::Create, Resource::Role),
            (Action::Create, Resource::RolePolicy),
            (Action::Create, Resource::Bucket),
            (Action::Create, Resource::Package),
            (Action::Create, Resource::Runtime),
        ]
    );
    assert!(code.makes_version() && code.reset.is_none());
    let image = Artifact::Built(LocalImage { reference: "coder".into(), hash: "b".repeat(64) });
    let image = planned(&desired(), &image, &nothing()).unwrap();
    assert_eq!(
        steps(&image)[2..],
        [
            (Action::Create, Resource::Repository),
            (Action::Create, Resource::LifecyclePolicy),
            (Action::Create, Resource::Image),
            (Action::Create, Resource::Runtime),
        ]
    );
}

#[test]
fn what_is_deployed_already_is_left_alone() {
    let mut wanted = desired();
    wanted.members.insert("protocolConfiguration".into(), json!({ "serverProtocol": "HTTP" }));
    wanted.members.insert("environmentVariables".into(), json!({}));
    let built = Artifact::Built(LocalImage { reference: "coder".into(), hash: "c".repeat(64) });
    for artifact in [package(), built] {
        let observed = deployed(&wanted, &artifact);
        let plan = planned(&wanted, &artifact, &observed).unwrap();
        assert!(plan.is_empty() && !plan.pushes(), "{plan:#?}");
        assert!(plan.reset.is_none());
        // What an image stands on may have moved where nothing of the project has.
        let options = PlanOptions { force: true, ..PlanOptions::default() };
        let forced = super::deploy::plan(&wanted, &artifact, &targets(&wanted), &observed, &options).unwrap();
        assert!(forced.makes_version());
        assert_eq!(forced.pushes(), matches!(artifact, Artifact::Built(_)), "{forced:#?}");
    }
}

#[test]
fn an_update_carries_what_was_set_elsewhere_and_resets_storage() {
    let mut observed = deployed(&desired(), &package());
    let document = &mut observed.runtime.as_mut().unwrap().document;
    document
        .set("filesystemConfigurations", json!([{ "sessionStorage": { "mountPath": "/mnt/workspace" } }]));
    document.set("environmentVariables", json!({ "A": "1" }));
    document.set("inventedNextYear", json!({ "x": 1 }));
    let mut wanted = desired();
    wanted.members.insert("lifecycleConfiguration".into(), json!({ "idleRuntimeSessionTimeout": 60 }));
    let plan = planned(&wanted, &package(), &observed).unwrap();
    let sent = serde_json::to_value(update(&plan)).unwrap();
    assert_eq!(
        sent["lifecycleConfiguration"],
        json!({ "idleRuntimeSessionTimeout": 60, "maxLifetime": 28800 })
    );
    assert_eq!(sent["environmentVariables"], json!({ "A": "1" }));
    assert_eq!(sent["filesystemConfigurations"][0]["sessionStorage"]["mountPath"], "/mnt/workspace");
    assert_eq!(sent["inventedNextYear"], json!({ "x": 1 }));
    assert!(sent.get("status").is_none() && sent.get("agentRuntimeId").is_none());
    let reset = plan.reset.unwrap();
    assert_eq!((reset.endpoints, reset.sessions), (vec!["DEFAULT".to_owned()], vec!["ticket-1".to_owned()]));
    // What is named as nothing is removed, and only that.
    wanted.members.insert("environmentVariables".into(), json!({}));
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert!(update(&plan).get("environmentVariables").is_none());
    assert!(update(&plan).has_session_storage());
}

#[test]
fn a_version_that_failed_is_made_anew_and_says_why() {
    let mut observed = deployed(&desired(), &package());
    let document = &mut observed.runtime.as_mut().unwrap().document;
    document.set("status", json!("UPDATE_FAILED"));
    document.set("failureReason", json!("no such image"));
    let plan = planned(&desired(), &package(), &observed).unwrap();
    let step = plan.steps.iter().find(|s| s.resource == Resource::Runtime).unwrap();
    assert_eq!(step.note.as_deref(), Some("version 4, because version 3 failed: no such image"));
    observed.runtime.as_mut().unwrap().document.set("status", json!("DELETING"));
    assert!(refusal(planned(&desired(), &package(), &observed)).contains("is being deleted"));
}

#[test]
fn what_others_made_is_not_taken() {
    let mut observed = deployed(&desired(), &package());
    observed.runtime.as_mut().unwrap().tags = Tags::new();
    assert!(refusal(planned(&desired(), &package(), &observed)).contains("--adopt"));
    // The project's own file says that it is its own.
    let mut known = desired();
    known.recorded.id = Some("coder-0123456789".into());
    assert!(planned(&known, &package(), &observed).unwrap().is_empty());
    let options = PlanOptions { adopt: true, ..PlanOptions::default() };
    assert!(plan(&desired(), &package(), &targets(&desired()), &observed, &options).unwrap().is_empty());
    let mut observed = deployed(&desired(), &package());
    let FoundRole::Here { role, .. } = &mut observed.role else { panic!() };
    role.tags = Tags::new();
    assert!(refusal(planned(&desired(), &package(), &observed)).contains("--execution-role"));
}

#[test]
fn a_given_role_is_checked_and_not_changed() {
    let mut wanted = desired();
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/team/agents");
    wanted.role = Some(arn.clone());
    assert_eq!(targets(&wanted).role, ("agents".to_owned(), arn.clone()));
    let mut observed = nothing();
    assert!(refusal(planned(&wanted, &package(), &observed)).contains("does not exist"));
    observed.role = FoundRole::Hidden;
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert_eq!(steps(&plan)[0], (Action::Keep, Resource::Role));
    assert!(plan.steps[0].note.as_ref().unwrap().contains("not checked"));
    let trust = json!({ "Statement": { "Effect": "Allow", "Principal": { "Service": "ec2.amazonaws.com" },
                                       "Action": "sts:AssumeRole" } });
    let role = Role { arn, trust, tags: Tags::new() };
    observed.role = FoundRole::Here { role, permissions: None };
    assert!(refusal(planned(&wanted, &package(), &observed)).contains("cannot be assumed"));
    wanted.role = Some("arn:aws:iam::999999999999:role/x".into());
    assert!(matches!(Targets::of(&wanted, caller(), REGION), Err(OpsError::Refused { .. })));
}

#[test]
fn another_account_or_region_is_noticed_before_anything_else() {
    let mut wanted = desired();
    wanted.account = Some("999999999999".into());
    let Err(OpsError::Refused { message, .. }) = Targets::of(&wanted, caller(), REGION) else { panic!() };
    assert!(message.contains("`999999999999`") && message.contains(ACCOUNT), "{message}");
    let mut wanted = desired();
    wanted.recorded.arn =
        Some(format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/coder-0123456789"));
    let Err(OpsError::Refused { hint, .. }) = Targets::of(&wanted, caller(), REGION) else { panic!() };
    assert!(hint.contains("--region us-west-2"), "{hint}");
}

#[test]
fn a_runtime_that_is_gone_is_made_again() {
    let mut wanted = desired();
    wanted.recorded.id = Some("coder-gone000000".into());
    let mut observed = nothing();
    observed.recorded_gone = true;
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert!(plan.warnings[0].contains("coder-gone000000"));
    assert!(plan.makes_version());
}

#[test]
fn nested_repositories_and_others_keep_their_whole_name() {
    let mut wanted = desired();
    wanted.repository = Some("team/x/coder".into());
    assert_eq!(
        targets(&wanted).repository.2,
        format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/x/coder")
    );
    wanted.repository = Some("999999999999.dkr.ecr.us-east-1.amazonaws.com/team/x/coder:old".to_owned());
    let found = targets(&wanted).repository;
    assert_eq!((found.0.as_str(), found.1.as_str()), ("999999999999", "team/x/coder"));
    let image = Artifact::Built(LocalImage { reference: "c".into(), hash: "d".repeat(64) });
    let plan = planned(&wanted, &image, &nothing()).unwrap();
    assert!(plan.steps.iter().all(|s| !matches!(s.work, Work::CreateRepository { .. })));
    let permissions = plan.steps.iter().find_map(|s| match &s.work {
        Work::PutRolePolicy { policy, .. } => Some(policy.to_string()),
        _ => None,
    });
    let whole = "arn:aws:ecr:us-east-1:999999999999:repository/team/x/coder";
    assert!(permissions.unwrap().contains(whole));
}

#[test]
fn an_image_that_is_given_must_exist() {
    let uri = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/coder:1");
    let image = Artifact::Image { uri: uri.clone() };
    let mut observed = nothing();
    assert!(refusal(planned(&desired(), &image, &observed)).contains(&uri));
    observed.artifact = true;
    let plan = planned(&desired(), &image, &observed).unwrap();
    let Some(Work::CreateRuntime { document }) = plan.steps.last().map(|s| &s.work) else { panic!() };
    assert_eq!(document.get("agentRuntimeArtifact"), Some(&image_member(&uri)));
}

#[test]
fn endpoints_are_made_moved_and_taken_away() {
    let mut wanted = desired();
    let prod = Endpoint { version: Some("2".into()), description: None };
    wanted.endpoints = Some([("prod".parse().unwrap(), prod)].into());
    let mut observed = deployed(&desired(), &package());
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert_eq!(steps(&plan).last(), Some(&(Action::Create, Resource::Endpoint)));
    let there = |version: &str| super::ports::Endpoint {
        name: "prod".into(),
        arn: "arn".into(),
        version: Some(version.into()),
        description: None,
    };
    observed.runtime.as_mut().unwrap().endpoints.push(there("2"));
    assert!(planned(&wanted, &package(), &observed).unwrap().is_empty());
    observed.runtime.as_mut().unwrap().endpoints[1] = there("1");
    let document = &mut observed.runtime.as_mut().unwrap().document;
    document.set("filesystemConfigurations", json!([{ "sessionStorage": { "mountPath": "/mnt/w" } }]));
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert_eq!(steps(&plan).last(), Some(&(Action::Change, Resource::Endpoint)));
    assert_eq!(plan.reset.unwrap().endpoints, ["prod"]);
    // A key that is not there keeps them, an empty one removes them; DEFAULT is the service's.
    wanted.endpoints = None;
    assert!(planned(&wanted, &package(), &observed).unwrap().is_empty());
    wanted.endpoints = Some([].into());
    let plan = planned(&wanted, &package(), &observed).unwrap();
    let gone: Vec<_> =
        plan.steps.iter().filter(|s| s.action == Action::Delete).map(|s| s.name.as_str()).collect();
    assert_eq!(gone, ["prod"]);
}

#[test]
fn tags_are_set_and_those_of_ours_stay() {
    let mut wanted = desired();
    wanted.tags = Some([("team".to_owned(), "a".to_owned())].into());
    let mut observed = deployed(&desired(), &package());
    let plan = planned(&wanted, &package(), &observed).unwrap();
    assert_eq!(steps(&plan).last(), Some(&(Action::Change, Resource::Tags)));
    assert!(!plan.makes_version());
    observed.runtime.as_mut().unwrap().tags.insert("team".into(), "a".into());
    assert!(planned(&wanted, &package(), &observed).unwrap().is_empty());
    wanted.tags = Some(Tags::new());
    let plan = planned(&wanted, &package(), &observed).unwrap();
    let Some(Work::SetTags { set, remove, .. }) = plan.steps.last().map(|s| &s.work) else { panic!() };
    assert!(set.is_empty() && *remove == ["team"], "{remove:?}");
}

#[test]
fn a_plan_as_json_says_what_happens_and_holds_no_secret() {
    let mut wanted = desired();
    wanted.members.insert("environmentVariables".into(), json!({ "API_KEY": "hunter2" }));
    let plan = planned(&wanted, &package(), &nothing()).unwrap();
    let value: Value = serde_json::to_value(&plan).unwrap();
    assert_eq!((value["account"].as_str(), value["region"].as_str()), (Some(ACCOUNT), Some(REGION)));
    assert_eq!(value["steps"][0]["action"], "create");
    assert_eq!(value["steps"][1]["resource"], "rolePolicy");
    let text = value.to_string();
    assert!(text.contains("API_KEY") && !text.contains("hunter2"), "{text}");
}

fn removal(desired: &Desired, observed: &destroy::Observed) -> Plan {
    destroy::plan(desired, &targets(desired), observed, false, &["ticket-1".to_owned()])
}

fn removable(desired: &Desired) -> destroy::Observed {
    let there = deployed(desired, &package());
    destroy::Observed {
        runtime: there.runtime,
        role: (there.role, vec![names::POLICY.to_owned()], Vec::new()),
        repository: there.repository.map(|(repository, _)| repository),
        bucket: there
            .bucket
            .map(|b| (b, vec![names::package_key("", &desired.name, &"a".repeat(64))], false)),
        logs: vec!["/aws/bedrock-agentcore/runtimes/coder-0123456789-DEFAULT".into()],
    }
}

#[test]
fn a_removal_takes_what_this_tool_made_and_nothing_else() {
    let wanted = desired();
    let mut observed = removable(&wanted);
    let gone = |plan: &Plan| -> Vec<Resource> {
        plan.steps.iter().filter(|s| s.action == Action::Delete).map(|s| s.resource).collect()
    };
    let all = [Resource::Runtime, Resource::Role, Resource::Repository, Resource::Package, Resource::Bucket];
    assert_eq!(gone(&removal(&wanted, &observed)), all);
    // A bucket with things of others, a role with a policy of others.
    observed.bucket.as_mut().unwrap().2 = true;
    observed.role.2.push("arn:aws:iam::aws:policy/ReadOnlyAccess".into());
    assert_eq!(
        gone(&removal(&wanted, &observed)),
        [Resource::Runtime, Resource::Repository, Resource::Package]
    );
    // Nothing carries our tags.
    let mut foreign = removable(&wanted);
    foreign.runtime.as_mut().unwrap().tags = Tags::new();
    foreign.repository.as_mut().unwrap().tags = Tags::new();
    foreign.bucket.as_mut().unwrap().0.tags = Tags::new();
    let FoundRole::Here { role, .. } = &mut foreign.role.0 else { panic!() };
    role.tags = Tags::new();
    let plan = removal(&wanted, &foreign);
    assert!(plan.is_empty(), "{plan:#?}");
    assert!(plan.steps.iter().any(|s| s.note.as_deref() == Some("not created by this tool")));
    // Logs go when they are asked for.
    let plan = destroy::plan(&wanted, &targets(&wanted), &removable(&wanted), true, &[]);
    assert!(gone(&plan).contains(&Resource::LogGroup));
}

//! `local deploy`: the project's code into the emulator's artifact store, and a runtime that runs it.

use std::path::PathBuf;

use serde_json::json;

use super::admin::AdminError;
use super::image::{Held, Registry};
use super::{Local, source};
use crate::artifacts::python::{CommandNeeds, Python, PythonRequest};
use crate::artifacts::{ArtifactStore, BUCKET, Launch, Manifest, Packed};
use crate::aws::{AwsError, Connection, RuntimeSettings, RuntimeSummary};
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::memory::Memory;
use crate::model::{Artifact, ArtifactRef, limits};
use crate::project::{Agent, AgentLaunch, Project};
use crate::wire::admin::Status;

/// Role that stands in `roleArn` where the project names none.
pub(super) const ROLE: &str = "arn:aws:iam::000000000000:role/agentcore-local";
/// Longest member of `entryPoint`. [model: 1..128]
const ENTRY_POINT_BYTES: usize = 128;

/// What an emulator that runs code in containers calls its engine.
const CONTAINERS: &str = "docker";
/// The runtimes of code for which the project names none, in containers. [ours: as the templates]
const PYTHON: &str = "PYTHON_3_13";
const NODE: &str = "NODE_22";
/// The interpreter of an image.
const IMAGE_PYTHON: &str = "python3";

/// Attempts to deploy while others deploy the same agent. [ours]
const RACES: usize = 8;

/// Deploy the project's agent to the emulator: a new version where anything changed
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local deploy
  agentcore local deploy --force                  # a new version though nothing changed")]
pub(crate) struct DeployArgs {
    /// Make a new version although nothing changed
    #[arg(long)]
    force: bool,
}

/// How to deploy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeployOptions {
    pub(crate) force: bool,
}

/// What a deployment did.
pub(crate) struct Deployed {
    pub(crate) runtime: RuntimeSummary,
    changed: bool,
    source: String,
    packed: Option<Packed>,
}

impl DeployArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            let (project, agent) = local.project_agent()?;
            let status = local.ensure_running().await?;
            let connection = local.connection(&status)?;
            let options = DeployOptions { force: self.force };
            let deployed = deploy(local, &status, &project, &agent, &connection, options).await?;
            let RuntimeSummary { name, id, arn, version } = &deployed.runtime;
            let text = if deployed.changed {
                format!("deployed version {version} of `{name}`: {arn}")
            } else {
                format!("nothing changed: version {version} of `{name}` is current: {arn}")
            };
            let mut value = json!({
                "agentRuntimeName": name,
                "agentRuntimeId": id,
                "agentRuntimeArn": arn,
                "agentRuntimeVersion": version,
                "changed": deployed.changed,
            });
            match &deployed.packed {
                Some(packed) => {
                    value["bundle"] = json!(packed.hash);
                    value["files"] = json!(packed.files);
                    value["bytes"] = json!(packed.bytes);
                }
                None => value["image"] = json!(deployed.source),
            }
            ui.result(&value, text)?;
            Ok(OK)
        })
    }
}

/// An agent ready to be deployed.
pub(crate) struct Prepared {
    pub(crate) settings: RuntimeSettings,
    /// Where it is code.
    pub(crate) packed: Option<Packed>,
    /// The image that it is, or that it runs on.
    pub(crate) image: Option<Held>,
}

/// Makes the agent's image or packs its code, and reads its settings. With `talk`, says what is left out or
/// done differently.
pub(crate) async fn prepare(
    local: &Local<'_>,
    status: &Status,
    project: &Project,
    agent: &Agent,
    talk: bool,
) -> Result<Prepared, Failure> {
    let (artifact, packed, image) = if agent.runs_image() {
        let image = local.image(project, agent, &Registry::of(status)?).await?;
        (Artifact::Image(image.name.clone()), None, Some(image))
    } else {
        let (artifact, packed, image) = pack(local, status, project, agent, talk).await?;
        (Artifact::Code(artifact), Some(packed), image)
    };
    Ok(Prepared { settings: settings(local, agent, artifact, talk), packed, image })
}

/// Builds what the code of the project here runs on, where that is containers: the first call need not wait for it then.
/// What fails is told: who only wants an emulator has one.
pub(crate) async fn prepare_images(local: &Local<'_>, status: &Status) {
    let built = async {
        let project = local.project()?.filter(|_| builds_for_code(status));
        let Some(project) = project else { return Ok(()) };
        for agent in project.agents.values().filter(|agent| !agent.runs_image()) {
            let (_, runtime, _) = {
                let spinner = local.context.ui.spinner("looking at the agent's code");
                launch(local, &project, agent, true, &spinner, false)?
            };
            local.base(agent, &runtime, &Registry::of(status)?).await?;
        }
        Ok::<(), Failure>(())
    };
    if let Err(e) = built.await {
        local.context.ui.warn(format!("no image could be made for the code here: {}", e.message));
        e.detail_lines().iter().for_each(|line| local.context.ui.note(format!("  | {line}")));
    }
}

/// Packs the agent's code; where it is to run in containers, with the image for it.
async fn pack(
    local: &Local<'_>,
    status: &Status,
    project: &Project,
    agent: &Agent,
    talk: bool,
) -> Result<(ArtifactRef, Packed, Option<Held>), Failure> {
    let ui = &local.context.ui;
    let warn = |text: String| {
        if talk {
            ui.warn(text);
        }
    };
    let in_containers = status.engine == CONTAINERS;
    let (mut manifest, runtime, entry_point) = {
        let spinner = ui.spinner("packing the agent's code");
        launch(local, project, agent, in_containers, &spinner, talk)?
    };
    let image = match builds_for_code(status) {
        true => Some(local.base(agent, &runtime, &Registry::of(status)?).await?),
        false => None,
    };
    manifest.image = image.as_ref().map(|image| image.name.clone());
    let spinner = ui.spinner("packing the agent's code");
    let packed = ArtifactStore::below(local.home.path()).pack(&agent.source, &manifest)?;
    drop(spinner);
    for skipped in &packed.skipped {
        warn(format!("left out of the deployment: {skipped}"));
    }
    if packed.may_be_too_large_zipped() {
        warn(format!(
            "the code has {} MB; the service takes at most {} MB as an archive, with the agent's packages in it",
            packed.bytes / 1_000_000,
            limits::MAX_ZIPPED_CODE_BYTES / 1_000_000
        ));
    }
    let artifact = ArtifactRef {
        bucket: BUCKET.to_owned(),
        prefix: packed.hash.clone(),
        version_id: None,
        runtime,
        entry_point,
    };
    Ok((artifact, packed, image))
}

/// The settings of the agent's runtime.
fn settings(local: &Local<'_>, agent: &Agent, artifact: Artifact, talk: bool) -> RuntimeSettings {
    let warn = |text: &str| {
        if talk {
            local.context.ui.warn(text);
        }
    };
    let mut header_allowlist = agent.header_allowlist.clone().unwrap_or_default();
    if agent.vpc() {
        warn("`network_mode: VPC` is left out: sessions of the emulator have no VPC");
    }
    if agent.authorizer.is_some() {
        warn("`authorizer_configuration` is left out: the emulator asks callers for no token");
        // Without an authorizer the service refuses this name.
        header_allowlist.retain(|n| !n.eq_ignore_ascii_case("authorization"));
    }
    RuntimeSettings {
        artifact,
        role_arn: agent.aws.execution_role.clone().unwrap_or_else(|| ROLE.to_owned()),
        // A key of ours that is missing keeps what the runtime has.
        environment: agent.environment.value().cloned(),
        idle: agent.lifecycle.idle,
        max_lifetime: agent.lifecycle.max,
        header_allowlist,
        session_storage: agent
            .file_systems
            .value()
            .map(|_| agent.session_storage().cloned().into_iter().collect()),
    }
}

/// Packs, creates or updates, and waits until READY.
pub(crate) async fn deploy(
    local: &Local<'_>,
    status: &Status,
    project: &Project,
    agent: &Agent,
    connection: &Connection,
    options: DeployOptions,
) -> Result<Deployed, Failure> {
    if agent.protocol != "HTTP" {
        let message = format!("the emulator does not run agents of protocol `{}` yet", agent.protocol);
        return Err(Failure::failed(message).hint("set `server_protocol: HTTP` in the project file"));
    }
    let stamp = source::stamp(local, status, project, agent)?;
    let Prepared { settings, packed, image } = prepare(local, status, project, agent, true).await?;
    let source = settings.artifact.source().to_owned();
    let mut written = None;
    for attempt in 1..=RACES {
        match register(local, agent, connection, &settings, options).await {
            // Somebody else created or changed it in between: look at what they made.
            Err(AwsError::Service { name, .. }) if name == "ConflictException" && attempt < RACES => {}
            result => {
                written = Some(result?);
                break;
            }
        }
    }
    let Some((runtime, changed)) = written else {
        return Err(Failure::failed(format!("agent `{}` is being deployed by others", agent.name)));
    };
    // An edit that computes of this very version were told to run is taken back; a deployment of others
    // that has just made another version speaks for itself.
    match local.tell(&runtime, &source, false).await {
        Ok(_) if stamp.fresh => {}
        Ok(_) => {
            let seen = source::seen(status, &runtime, &stamp, image.as_ref());
            Memory::of(&local.home, project.root()).see(agent.name.as_str(), seen)?;
        }
        Err(AdminError::Refused { status: 409, .. }) => {}
        Err(e) => return Err(e.into()),
    }
    local.named(image).await;
    Ok(Deployed { runtime, changed, source, packed })
}

/// Creates or updates the runtime and waits until it is READY. True: something was written.
async fn register(
    local: &Local<'_>,
    agent: &Agent,
    connection: &Connection,
    settings: &RuntimeSettings,
    options: DeployOptions,
) -> Result<(RuntimeSummary, bool), AwsError> {
    let control = connection.control();
    let name = agent.name.to_string();
    let existing = control.find_runtime(&name).await?;
    if let Some(runtime) = &existing {
        // A deployment that somebody else has just begun comes to its end first.
        control.wait_ready(&runtime.id).await?;
        if !options.force && control.compare(&runtime.id, settings).await?.is_none() {
            return Ok((runtime.clone(), false));
        }
    }
    let _spinner = local.context.ui.spinner("waiting until the runtime is ready");
    let written = match &existing {
        Some(runtime) => control.update(&runtime.id, settings).await?,
        None => control.create(&name, settings).await?,
    };
    control.wait_ready(&written.id).await?;
    Ok((RuntimeSummary { name, id: written.id, arn: written.arn, version: written.version }, true))
}

/// The runtime whose image the agent's code has in containers.
pub(super) fn runtime_in_containers(agent: &Agent) -> String {
    let node = match &agent.launch {
        AgentLaunch::Command { argv } => {
            let program = argv.first().map(String::as_str).unwrap_or_default();
            matches!(program.rsplit('/').next().unwrap_or(program), "node" | "npm" | "npx")
        }
        AgentLaunch::Python { .. } | AgentLaunch::Image => false,
    };
    let usual = if node { NODE } else { PYTHON };
    agent.runtime.clone().unwrap_or_else(|| usual.to_owned())
}

/// Whether code runs in containers on an image that is built for it.
pub(super) fn builds_for_code(status: &Status) -> bool {
    status.engine == CONTAINERS && status.base_image.is_none()
}

/// How the agent is started: its manifest, and what stands for it in `codeConfiguration`.
fn launch(
    local: &Local<'_>,
    project: &Project,
    agent: &Agent,
    in_containers: bool,
    spinner: &crate::cli::ui::Spinner,
    talk: bool,
) -> Result<(Manifest, String, Vec<String>), Failure> {
    let request = PythonRequest {
        source: &agent.source,
        project: project.root(),
        home: local.home.path(),
        runtime: agent.runtime.as_deref(),
        path: local.context.env.path.as_deref(),
        user_home: local.context.env.user_home.as_deref(),
    };
    let progress = |text: &str| spinner.message(text);
    let manifest = |launch, read_only: Vec<PathBuf>, environment| Manifest {
        format: Manifest::FORMAT,
        launch,
        read_only,
        environment,
        image: None,
    };
    match &agent.launch {
        AgentLaunch::Image => {
            let message = format!("agent `{}` has no code of its own to deploy", agent.name);
            Err(Failure::new(crate::cli::exit::Class::Project, message)
                .hint("name its `entrypoint` or `command`, or set `deployment_type: container`"))
        }
        AgentLaunch::Python { entry_point } => {
            let file = agent.source.join(entry_point);
            if !file.is_file() {
                let message = format!("the agent's `entrypoint` `{}` is not a file", file.display());
                return Err(Failure::new(crate::cli::exit::Class::Project, message)
                    .hint(format!("correct it in `{}`", project.file.display())));
            }
            if !entry_point.ends_with(".py") {
                let message = format!("the agent's `entrypoint` `{entry_point}` is not a Python file");
                return Err(Failure::new(crate::cli::exit::Class::Project, message)
                    .hint("say how to start it with `command`, such as `command: [node, main.js]`"));
            }
            if in_containers {
                let runtime = runtime_in_containers(agent);
                let launch = Launch::Python { interpreter: IMAGE_PYTHON.into() };
                return Ok((manifest(launch, Vec::new(), Vec::new()), runtime, vec![entry_point.clone()]));
            }
            let python = Python::prepare(&request, &progress)?;
            python.remarks.iter().for_each(|remark| local.context.ui.note(remark));
            let runtime = match &agent.runtime {
                Some(wanted) if *wanted != python.runtime => {
                    if talk {
                        local.context.ui.note(format!(
                            "the project asks for {wanted}; this machine runs it with {}",
                            python.runtime
                        ));
                    }
                    wanted.clone()
                }
                _ => python.runtime,
            };
            let launch = Launch::Python { interpreter: python.interpreter };
            Ok((manifest(launch, python.read_only, python.environment), runtime, vec![entry_point.clone()]))
        }
        AgentLaunch::Command { argv } => {
            let program = argv.first().map(String::as_str).unwrap_or_default();
            let (runtime, read_only, environment) = if in_containers {
                (runtime_in_containers(agent), Vec::new(), Vec::new())
            } else {
                let needs = CommandNeeds::of(program, &request, &progress)?;
                needs.remarks.iter().for_each(|remark| local.context.ui.note(remark));
                let usual = if needs.node { NODE } else { PYTHON };
                let runtime = agent.runtime.clone().unwrap_or_else(|| usual.to_owned());
                (runtime, needs.read_only, needs.environment)
            };
            let legal = |word: &&String| (1..=ENTRY_POINT_BYTES).contains(&word.len());
            let mut entry_point: Vec<String> = argv.iter().take(2).filter(legal).cloned().collect();
            if entry_point.is_empty() {
                entry_point.push("command".to_owned());
            }
            let launch = Launch::Command { argv: argv.clone() };
            Ok((manifest(launch, read_only, environment), runtime, entry_point))
        }
    }
}

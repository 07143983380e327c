//! `deploy`: the project's agent to AgentCore Runtime. Shows what will be done and asks before anything is changed.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Context;
use super::exit::{Class, Failure, OK, Outcome};
use super::local::Home;
use super::memory::Memory;
use crate::artifacts::package::{PackageRequest, Packaged, Start, package};
use crate::artifacts::python::PythonRequest;
use crate::aws::{CloudSettings, Connection, Services};
use crate::model::Region;
use crate::ops::deploy::{self, Fact, OpsError, PlanOptions, Targets, Watcher};
use crate::ops::desired::{Artifact, Desired, Package};
use crate::ops::plan::{Action, Plan, Step};
use crate::ops::ports::Identity;
use crate::project::{Agent, AgentLaunch, Applied, Draft, Project, update};

mod image;

/// Where in AWS.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Target")]
pub(crate) struct AwsOptions {
    /// AWS Region [default: the project file's, then the environment's, then the profile's]
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// Profile of your AWS configuration
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    profile: Option<String>,
    /// Where AgentCore is instead of AWS's own address; AWS_ENDPOINT_URL[_SERVICE] move every service
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    endpoint_url: Option<String>,
}

/// Deploy the project's agent to AWS: shows the plan, asks, then does it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore deploy --dry-run                 # what would be done, nothing is changed
  agentcore deploy --yes                     # in scripts
  agentcore deploy --image URI --yes         # an image that is in a registry already
  agentcore deploy --dry-run --output json   # the plan as data")]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    aws: AwsOptions,
    /// Show the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// An image in a registry, instead of building one
    #[arg(long, value_name = "URI", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
    /// Execution role, instead of the project's or one that is made
    #[arg(long, value_name = "ARN", value_parser = NonEmptyStringValueParser::new())]
    execution_role: Option<String>,
    /// Return as soon as the version is on its way
    #[arg(long)]
    no_wait: bool,
    /// Make a new version although nothing changed
    #[arg(long)]
    force: bool,
    /// Deploy over a runtime of this name that the project did not create
    #[arg(long)]
    adopt: bool,
    /// Put keys back into the project file that another tool has erased from it
    #[arg(long)]
    restore: bool,
    /// Install the agent's packages anew although their list is the same
    #[arg(long)]
    refresh_packages: bool,
}

impl DeployArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        context.block_on(async {
            let mut work = Work::open(context)?;
            if self.restore {
                work.restore()?;
            }
            let mut desired = Desired::of(&work.agent);
            if let Some(role) = &self.execution_role {
                desired.role = Some(role.clone());
            }
            let (services, targets) = work.targets(&desired, &self.aws).await?;
            // After it is known to be the right account, before anything is there to be looked at.
            let mut made = self.artifact(&work)?;
            let spinner = context.ui.spinner("looking at what is in AWS");
            let observed = deploy::observe(&services, &desired, made.artifact(), &targets).await?;
            drop(spinner);
            let options = PlanOptions { force: self.force, adopt: self.adopt, sessions: work.sessions() };
            let mut plan = deploy::plan(&desired, made.artifact(), &targets, &observed, &options)?;
            plan.warnings.extend(work.erased()?);
            if !shown_and_wanted(context, &plan, self.dry_run, self.yes, "Deploy this?")? {
                return Ok(OK);
            }
            // Before anything is made in AWS: a build that fails leaves nothing behind there.
            let built = match &mut made {
                Made::Image(_, planned) if plan.pushes() => Some(planned.build(context).await?),
                _ => None,
            };
            let mut recorder = Recorder::new(context, &work);
            let pusher = image::Pusher { context, built };
            let applied =
                deploy::apply(&services, &pusher, &plan, &targets, &observed, !self.no_wait, &mut recorder);
            let outcome = applied.await?;
            drop(recorder);
            work.record_applied()?;
            outcome.notices.iter().for_each(|notice| context.ui.warn(context.ui.plain(notice)));
            let runtime = outcome.runtime;
            let name = &work.agent.name;
            let text = match (outcome.changed, plan.is_empty()) {
                (true, _) => format!("deployed version {} of `{name}`: {}", runtime.version, runtime.arn),
                (false, true) => {
                    format!(
                        "nothing changed: version {} of `{name}` is current: {}",
                        runtime.version, runtime.arn
                    )
                }
                (false, false) => {
                    format!("version {} of `{name}` is current: {}", runtime.version, runtime.arn)
                }
            };
            let value = json!({
                "agentRuntimeName": name,
                "agentRuntimeId": runtime.id,
                "agentRuntimeArn": runtime.arn,
                "agentRuntimeVersion": runtime.version,
                "changed": outcome.changed,
                "notices": outcome.notices,
                "plan": plan,
            });
            context.ui.result(&value, text)?;
            Ok(OK)
        })
    }

    /// What the agent is made of: its code packed, its image looked at.
    fn artifact(&self, work: &Work<'_>) -> Result<Made, Failure> {
        if let Some(uri) = &self.image {
            return Ok(Made::Given(Artifact::Image { uri: uri.clone() }));
        }
        if work.agent.runs_image() {
            let planned = image::Planned::of(work.context, &work.project, &work.agent, self.force)?;
            return Ok(Made::Image(Artifact::Built(planned.image.clone()), planned));
        }
        self.package(work)
    }

    fn package(&self, work: &Work<'_>) -> Result<Made, Failure> {
        let (context, agent) = (work.context, &work.agent);
        let home = context.env.home()?;
        let spinner = context.ui.spinner("packaging the agent's code");
        let request = PackageRequest {
            python: PythonRequest {
                source: &agent.source,
                project: work.project.root(),
                home: &home,
                runtime: agent.runtime.as_deref(),
                path: context.env.path.as_deref(),
                user_home: context.env.user_home.as_deref(),
            },
            start: match &agent.launch {
                AgentLaunch::Python { entry_point } => Start::Python(entry_point),
                AgentLaunch::Command { argv } => Start::Command(argv),
                AgentLaunch::Image => {
                    let message = format!("the agent `{}` has no code of its own to package", agent.name);
                    return Err(Failure::new(Class::Project, message).hint(
                        "set `deployment_type: container` for an agent that its image starts, or name an `entrypoint`",
                    ));
                }
            },
            traces: agent.aws.observability,
            refresh: self.refresh_packages,
        };
        let packaged = package(&request, &|text| spinner.message(text))?;
        drop(spinner);
        for skipped in &packaged.skipped {
            context.ui.warn(format!("left out of the deployment: {skipped}"));
        }
        let artifact = Artifact::Package(Package {
            file: packaged.file.path().to_owned(),
            hash: packaged.hash.clone(),
            bytes: packaged.bytes,
            runtime: packaged.runtime.clone(),
            entry_point: packaged.entry_point.clone(),
        });
        Ok(Made::Package(artifact, packaged))
    }
}

/// What the agent is made of, with what it comes from.
enum Made {
    Given(Artifact),
    /// Built when the registry turns out not to have it.
    Image(Artifact, image::Planned),
    Package(Artifact, Packaged),
}

impl Made {
    fn artifact(&self) -> &Artifact {
        match self {
            Self::Given(artifact) | Self::Image(artifact, _) => artifact,
            Self::Package(artifact, packaged) => {
                debug_assert!(packaged.file.path().exists(), "the archive lives as long as the deployment");
                artifact
            }
        }
    }
}

/// A project's agent on its way to AWS or back.
pub(super) struct Work<'a> {
    pub(super) context: &'a Context,
    project: Project,
    pub(super) agent: Agent,
}

impl<'a> Work<'a> {
    pub(super) fn open(context: &'a Context) -> Result<Self, Failure> {
        let project = Project::load(context.globals.config.as_deref(), &context.env.directory()?)?;
        let agent = project.agent(context.globals.agent.as_deref())?.clone();
        Ok(Self { context, project, agent })
    }

    /// The services, and what the agent is made of there.
    pub(super) async fn targets(
        &self,
        desired: &Desired,
        options: &AwsOptions,
    ) -> Result<(Services, Targets), Failure> {
        let recorded = self.agent.deployed.arn.as_deref().and_then(|arn| arn.split(':').nth(3));
        let region = options.region.as_ref().map(Region::to_string);
        let region = region.or_else(|| self.agent.aws.region.clone()).or_else(|| recorded.map(str::to_owned));
        let settings = CloudSettings {
            profile: options.profile.clone(),
            region,
            endpoint_url: options.endpoint_url.clone(),
            path_style: self.context.env.own_endpoints,
            network: self.context.env.network(),
        };
        let connection = Connection::cloud(settings).await.map_err(OpsError::from)?;
        let services = connection.services();
        let spinner = self.context.ui.spinner("asking AWS whose credentials these are");
        let caller = services.caller().await?;
        drop(spinner);
        let targets = Targets::of(desired, caller, connection.region())?;
        Ok((services, targets))
    }

    /// Names or ids of the agent's sessions that are known here.
    pub(super) fn sessions(&self) -> Vec<String> {
        let Ok(home) = self.context.env.home() else { return Vec::new() };
        let memory = Memory::of_cloud(&Home::new(home), self.project.root());
        let runtime = self.agent.deployed.arn.as_deref();
        let of_agent = memory.sessions().into_iter().filter(|s| Some(s.runtime_arn.as_str()) == runtime);
        let mut known: Vec<String> =
            of_agent.map(|s| s.name.unwrap_or_else(|| s.session_id.to_string())).collect();
        if let Some(toolkit) = self.agent.deployed.session_id.clone().filter(|id| !known.contains(id)) {
            known.push(toolkit);
        }
        known
    }

    /// What another tool has erased from the project file since it was applied, in words.
    fn erased(&self) -> Result<Vec<String>, Failure> {
        let draft = Draft::open(&self.project.file)?;
        let erased = Applied::load(&self.project.file)?.erased(&draft, &self.agent.key);
        if erased.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = erased.iter().map(|e| format!("`{}`", e.key)).collect();
        Ok(vec![format!(
            "{} was deployed from this project and is not in its file any more; the service keeps what it has, \
             and `--restore` writes it back",
            keys.join(", ")
        )])
    }

    fn restore(&mut self) -> Result<(), Failure> {
        let applied = Applied::load(&self.project.file)?;
        let key = self.agent.key.clone();
        update(&self.project.file, |draft| {
            let erased = applied.erased(draft, &key);
            Applied::restore(draft, &key, &erased)
        })?;
        let file: PathBuf = self.project.file.clone();
        self.project = Project::load(Some(&file), &file)?;
        self.agent = self.project.agent(Some(&key))?.clone();
        Ok(())
    }

    fn record_applied(&self) -> Result<(), Failure> {
        let draft = Draft::open(&self.project.file)?;
        Applied::load(&self.project.file)?.record(&draft, &self.agent.key)?;
        Ok(())
    }
}

/// Shows a plan. True: it is to be carried out.
pub(super) fn shown_and_wanted(
    context: &Context,
    plan: &Plan,
    dry_run: bool,
    yes: bool,
    question: &str,
) -> Result<bool, Failure> {
    let text = text(context, plan);
    if dry_run {
        context.ui.result(plan, text)?;
        return Ok(false);
    }
    context.ui.note(text);
    if !plan.is_empty() {
        consent(context, yes, question)?;
    }
    Ok(true)
}

/// Goes on only when the user wants it.
fn consent(context: &Context, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    match context.ui.confirm(question, false)? {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(Class::Interrupted, "nothing was changed")),
        None => Err(Failure::usage("there is no terminal to ask on, and nothing was changed")
            .hint("give `--yes` to go on without being asked, or `--dry-run` to see the plan only")),
    }
}

/// A plan for people.
fn text(context: &Context, plan: &Plan) -> String {
    let mut lines = vec![format!("agent {}, account {}, region {}", plan.agent, plan.account, plan.region)];
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .map(|step| {
            let word = match step.action {
                Action::Create => "+ create",
                Action::Change => "~ change",
                Action::Keep => "  keep",
                Action::Delete => "- delete",
            };
            let note = step.note.clone().unwrap_or_default();
            [word, step.resource.words(), &step.name, &note].map(|t| context.ui.plain(t)).to_vec()
        })
        .collect();
    let table = context.ui.wide_table(&rows);
    for (row, step) in table.lines().zip(&plan.steps) {
        lines.push(row.trim_end().to_owned());
        for change in &step.changes {
            let shown = |v: &Option<serde_json::Value>| v.as_ref().map(|v| context.ui.plain(&v.to_string()));
            let path = context.ui.plain(&change.path);
            lines.push(match (shown(&change.from), shown(&change.to)) {
                (Some(from), Some(to)) if from == to => format!("      {path} changes"),
                (Some(from), Some(to)) => format!("      {path}: {from} -> {to}"),
                (None, Some(to)) => format!("      {path}: {to}"),
                (Some(from), None) => format!("      {path}: without {from}"),
                (None, None) => format!("      {path}"),
            });
        }
    }
    if let Some(reset) = &plan.reset {
        let known = match reset.sessions.as_slice() {
            [] => "no session of it is known here".to_owned(),
            sessions => format!("known here: {}", sessions.join(", ")),
        };
        lines.push(format!(
            "session storage of every session of endpoint {} is lost ({known})",
            reset.endpoints.join(", ")
        ));
    }
    lines.extend(plan.warnings.iter().map(|w| format!("warning: {w}")));
    if plan.is_empty() {
        lines.push("nothing to do".to_owned());
    }
    lines.join("\n")
}

/// Shows the steps and writes what they come to into the project file, each at once.
pub(super) struct Recorder<'a> {
    context: &'a Context,
    file: PathBuf,
    agent: String,
    spinner: Option<super::ui::Spinner>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(context: &'a Context, work: &Work<'_>) -> Self {
        Self { context, file: work.project.file.clone(), agent: work.agent.key.clone(), spinner: None }
    }

    fn write(&self, keys: &[(&[&str], serde_json::Value)]) -> Result<(), String> {
        let written = update(&self.file, |draft| {
            for (path, value) in keys {
                let now = draft.get(&self.agent, path);
                // What is not there needs no null.
                if now != Some(value) && !(now.is_none() && value.is_null()) {
                    draft.set(&self.agent, path, value.clone())?;
                }
            }
            Ok(())
        });
        written.map(drop).map_err(|e| e.to_string())
    }
}

impl Watcher for Recorder<'_> {
    fn begin(&mut self, step: &Step) {
        let verb = match step.action {
            Action::Create => "creating",
            Action::Change => "changing",
            Action::Keep => "checking",
            Action::Delete => "deleting",
        };
        let text = format!("{verb} {} {}", step.resource.words(), step.name);
        let spinner = self.context.ui.spinner("");
        spinner.message(&text);
        self.spinner = Some(spinner);
    }

    fn done(&mut self, _: &Step) {
        self.spinner = None;
    }

    fn record(&mut self, fact: Fact) -> Result<(), String> {
        let null = serde_json::Value::Null;
        match fact {
            Fact::Place { account, region } => {
                self.write(&[(&["aws", "account"], json!(account)), (&["aws", "region"], json!(region))])
            }
            Fact::Role(arn) => self.write(&[
                (&["aws", "execution_role"], json!(arn)),
                (&["aws", "execution_role_auto_create"], json!(false)),
            ]),
            Fact::Repository(uri) => self.write(&[
                (&["aws", "ecr_repository"], json!(uri)),
                (&["aws", "ecr_auto_create"], json!(false)),
            ]),
            Fact::Code(path) => {
                self.write(&[(&["aws", "s3_path"], json!(path)), (&["aws", "s3_auto_create"], json!(false))])
            }
            Fact::Runtime { id, arn } => self.write(&[
                (&["bedrock_agentcore", "agent_id"], json!(id)),
                (&["bedrock_agentcore", "agent_arn"], json!(arn)),
            ]),
            Fact::RuntimeGone => self.write(&[
                (&["bedrock_agentcore", "agent_id"], null.clone()),
                (&["bedrock_agentcore", "agent_arn"], null.clone()),
                (&["bedrock_agentcore", "agent_session_id"], null),
            ]),
            Fact::RoleGone => self.write(&[(&["aws", "execution_role"], null)]),
            Fact::RepositoryGone => self.write(&[(&["aws", "ecr_repository"], null)]),
            Fact::CodeGone => self.write(&[(&["aws", "s3_path"], null)]),
        }
    }
}

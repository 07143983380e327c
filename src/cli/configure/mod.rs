//! `configure`: the project file, written and changed by questions on a terminal or by flags alone.
//!
//! Needs no network and no credentials. What is not asked for stays as it is in the file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Context;
use super::exit::{Class, Failure, OK, Outcome};
use crate::model::RuntimeName;
use crate::project::{
    AgentLaunch, Deployment, Draft, FILE_NAME, Language, NewAgent, Project, ProjectError, detect, npm,
};

mod ask;
mod flags;
mod show;

use flags::Flags;

/// Python version of new agents. [the newest that every Python package of the templates has wheels for]
const DEFAULT_PYTHON: &str = "PYTHON_3_13";

/// Node of archives. [model: AgentManagedRuntimeType]
const NODE: &str = "NODE_22";

/// Write or change the project file: by questions on a terminal, or by flags alone
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  agentcore configure
  agentcore configure --entrypoint src/main.py --session-storage /mnt/workspace --non-interactive
  agentcore configure --env LOG_LEVEL=debug       # changes this alone
  agentcore configure --from agentcore            # takes over a project of @aws/agentcore")]
pub(crate) struct ConfigureArgs {
    #[command(subcommand)]
    verb: Option<ConfigureVerb>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(clap::Subcommand)]
enum ConfigureVerb {
    /// List the agents of the project file
    #[command(after_help = "Examples:
  agentcore configure list --output json")]
    List,
    /// Show what the project file says of an agent, with the defaults
    #[command(after_help = "Examples:
  agentcore configure show --agent coder")]
    Show,
    /// Make an agent the one that commands mean when they name none
    #[command(after_help = "Examples:
  agentcore configure set-default coder")]
    SetDefault {
        /// The agent
        name: String,
    },
}

impl ConfigureArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        match self.verb {
            Some(ConfigureVerb::List) => show::list(context),
            Some(ConfigureVerb::Show) => show::show(context),
            Some(ConfigureVerb::SetDefault { name }) => set_default(context, &name),
            None if self.flags.from.is_some() => import(context, &self.flags),
            None => configure(context, &self.flags),
        }
    }
}

/// The project file that is named or found; where there is none, the one to make here.
fn place(context: &Context, otherwise: &Path) -> Result<PathBuf, Failure> {
    let directory = context.env.directory()?;
    if let Some(file) = &context.globals.config {
        return Ok(directory.join(file));
    }
    match Project::find(&directory) {
        Ok(file) => Ok(file),
        Err(ProjectError::NotFound { .. }) => Ok(otherwise.join(FILE_NAME)),
        Err(e) => Err(e.into()),
    }
}

fn root_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

fn set_default(context: &Context, name: &str) -> Outcome {
    let directory = context.env.directory()?;
    let project = Project::load(context.globals.config.as_deref(), &directory)?;
    let agent = project.agent(Some(name))?.key.clone();
    let changed = crate::project::update(&project.file, |draft| draft.set_default(&agent).map(drop))?;
    let text = match (changed, project.one_agent) {
        (true, _) => format!("`{agent}` is the default agent"),
        (false, true) => format!("`{agent}` is the only agent and needs no default"),
        (false, false) => format!("`{agent}` is the default agent already"),
    };
    let value = json!({ "file": project.file, "defaultAgent": agent, "changed": changed });
    context.ui.result(&value, text)?;
    Ok(OK)
}

/// Takes over a project of the npm tool.
fn import(context: &Context, flags: &Flags) -> Outcome {
    let from = context.env.directory()?.join(flags.from.as_deref().unwrap_or(Path::new(".")));
    let file = place(context, &npm::root_of(&from))?;
    let imported = npm::import(&from, root_of(&file))?;
    let mut draft = Draft::open(&file)?;
    let mut names = Vec::new();
    for (name, keys) in imported.agents {
        if draft.agents().contains(&name) {
            let message = format!("the project file `{}` has an agent `{name}` already", file.display());
            return Err(Failure::new(Class::Project, message)
                .hint("rename one of them, or name another file with `--config FILE`"));
        }
        draft.add_agent(&name, keys)?;
        names.push(name);
    }
    if !imported.left_out.is_empty() {
        context.ui.warn(format!("not taken over, as nothing here uses it: {}", imported.left_out.join(", ")));
    }
    let changed = finish(context, &mut draft, flags.dry_run)?;
    let text = format!("took over {} into `{}`", quoted(&names), file.display());
    let value = json!({
        "file": file, "from": imported.file, "agents": names, "leftOut": imported.left_out, "changed": changed,
    });
    if !flags.dry_run {
        context.ui.result(&value, text)?;
    }
    Ok(OK)
}

fn configure(context: &Context, flags: &Flags) -> Outcome {
    let file = place(context, &context.env.directory()?)?;
    let root = root_of(&file).to_owned();
    let mut draft = Draft::open(&file)?;
    let chosen = existing(context, flags, &draft)?;
    // Whoever names a setting of an agent that is there wants that changed and nothing else.
    let asks = !flags.non_interactive && context.ui.can_ask() && (chosen.is_none() || flags.is_empty());
    let mut ask = asks.then(|| ask::Ask::new(&context.ui)).transpose()?;
    if ask.is_none() && chosen.is_some() && flags.is_empty() {
        return Err(Failure::usage("nothing is to be changed: no setting is named, and nobody can be asked")
            .hint("name what to change, such as `--idle-timeout 20m`; see `agentcore configure --help`"));
    }
    let is_new = chosen.is_none();
    let agent = match chosen {
        Some(agent) => {
            context.ui.note(format!("agent `{agent}` of `{}`", file.display()));
            if let Some(ask) = &mut ask {
                ask.about_entry(&mut draft, &agent, &root)?;
            }
            flags.entry(context, &mut draft, &agent, &root)?;
            agent
        }
        None => add(context, flags, &mut draft, &root, ask.as_mut())?,
    };
    flags.apply(&mut draft, &agent)?;
    if let Some(ask) = &mut ask {
        ask.about_settings(flags, &mut draft, &agent, context.env.region.as_deref())?;
    } else if is_new
        && flags.region.is_none()
        && let Some(region) = &context.env.region
    {
        draft.set(&agent, &["aws", "region"], region.as_str())?;
    }
    if is_new || flags.default {
        draft.set_default(&agent)?;
    }
    drop(ask);
    let changed = finish(context, &mut draft, flags.dry_run)?;
    if flags.dry_run {
        return Ok(OK);
    }
    let project = draft.project()?;
    let settings = show::settings(&project, project.agent(Some(&agent))?);
    let value = json!({ "file": file, "agent": agent, "changed": changed, "settings": settings });
    let text = match (changed, is_new) {
        (false, _) => format!("nothing changed in `{}`", file.display()),
        (true, true) => format!("wrote agent `{agent}` to `{}`", file.display()),
        (true, false) => format!("changed agent `{agent}` in `{}`", file.display()),
    };
    context.ui.result(&value, text)?;
    if changed {
        context.ui.note("next: agentcore local invoke \"hello\", or agentcore deploy");
    }
    Ok(OK)
}

/// The agent of the file that is meant. Nothing: a new one is.
fn existing(context: &Context, flags: &Flags, draft: &Draft) -> Result<Option<String>, Failure> {
    let agents = draft.agents();
    if let Some(name) = &flags.name {
        return Ok(agents.iter().find(|a| *a == name.as_str()).cloned());
    }
    if agents.is_empty() {
        return match &context.globals.agent {
            None => Ok(None),
            Some(name) => Err(Failure::usage(format!("there is no agent `{name}` yet"))
                .hint(format!("add it with `--name {name}`"))),
        };
    }
    let project = draft.project()?;
    Ok(Some(project.agent(context.globals.agent.as_deref())?.key.clone()))
}

/// Writes the file, or shows what would be written.
fn finish(context: &Context, draft: &mut Draft, dry_run: bool) -> Result<bool, Failure> {
    if dry_run {
        draft.project()?;
        let value = json!({ "file": draft.file(), "changed": draft.is_changed(), "text": draft.text() });
        context.ui.result(&value, draft.text().trim_end())?;
        return Ok(draft.is_changed());
    }
    Ok(draft.save()?)
}

/// Adds an agent, named or asked for or found.
fn add(
    context: &Context,
    flags: &Flags,
    draft: &mut Draft,
    root: &Path,
    mut ask: Option<&mut ask::Ask>,
) -> Result<String, Failure> {
    let entry = match (&flags.entrypoint, &mut ask) {
        (None, Some(ask)) => ask.entry(root)?,
        (given, _) => {
            entry_file(&context.env.directory()?, given.as_deref().unwrap_or(Path::new(".")), root)?
        }
    };
    let inferred = detect::name_for(&entry.file);
    let name: RuntimeName = match (&flags.name, &mut ask) {
        (Some(name), _) => name.clone(),
        (None, Some(ask)) => ask.name(inferred.as_ref(), &draft.agents())?,
        (None, None) => inferred.ok_or_else(|| {
            Failure::usage(format!("`{}` says no name for an agent", entry.file.display()))
                .hint("name it with `--name`")
        })?,
    };
    let language = detect::language(&entry.file);
    note_dependencies(context, &entry, root);
    let python = language == Some(Language::Python) && flags.command.is_none();
    // TypeScript has to be built first; what Node reads as it is can go into an archive.
    let script = entry.file.extension().is_some_and(|e| e == "js" || e == "mjs" || e == "cjs");
    let archive = python || script && flags.command.is_none();
    let deployment = match (flags.deployment_type, &mut ask) {
        (Some(deployment), _) => deployment.into(),
        (None, Some(ask)) => ask.deployment(archive)?,
        (None, None) if archive => Deployment::DirectCode,
        (None, None) => Deployment::Container,
    };
    let code = deployment == Deployment::DirectCode;
    let runtime = match (&flags.runtime, &mut ask) {
        (Some(runtime), _) => Some(runtime.clone()),
        (None, Some(ask)) if python && code => Some(ask.runtime(DEFAULT_PYTHON)?),
        (None, _) if code && script => Some(NODE.to_owned()),
        (None, _) if code => Some(DEFAULT_PYTHON.to_owned()),
        (None, _) => None,
    };
    let new = NewAgent {
        name: name.to_string(),
        entrypoint: below(root, &entry.file)?,
        source: below(root, &entry.source)?,
        language,
        deployment,
        runtime,
        command: (!python).then(|| match &flags.command {
            Some(command) => command.0.clone(),
            None => detect::command(&entry.source, &below(&entry.source, &entry.file).unwrap_or_default()),
        }),
    };
    draft.add_agent(name.as_str(), new.keys())?;
    Ok(name.to_string())
}

/// What an agent begins with.
struct Entry {
    file: PathBuf,
    source: PathBuf,
}

/// The entry file that `given` means: itself, or the one in it.
fn entry_file(directory: &Path, given: &Path, root: &Path) -> Result<Entry, Failure> {
    let path = crate::project::clean(&directory.join(given));
    let shown = given.display();
    let inside = |path: &Path| path.starts_with(root);
    if !inside(&path) {
        let message = format!("`{shown}` is outside of `{}`, where the project file is", root.display());
        return Err(Failure::usage(message).hint("name a file below it, or put the project file above both"));
    }
    if path.is_file() {
        let source = detect::source_of(&path, root);
        return Ok(Entry { file: path, source });
    }
    if !path.is_dir() {
        return Err(Failure::usage(format!("the entry file `{shown}` does not exist"))
            .hint("name the file that the agent begins with, or its directory"));
    }
    match detect::entry_files(&path).as_slice() {
        [only] => Ok(Entry { file: only.clone(), source: path }),
        [] => Err(Failure::usage(format!("`{shown}` has no entry file such as `main.py` or `index.js`"))
            .hint("name it with `--entrypoint FILE`")),
        several => {
            let names: Vec<String> = several
                .iter()
                .filter_map(|f| f.file_name())
                .map(|n| n.to_string_lossy().into_owned())
                .collect();
            Err(Failure::usage(format!("`{shown}` has several entry files: {}", quoted(&names)))
                .hint("name the one with `--entrypoint FILE`"))
        }
    }
}

fn note_dependencies(context: &Context, entry: &Entry, root: &Path) {
    match detect::dependencies(&entry.source, root) {
        Some(file) => {
            let shown = file.strip_prefix(root).unwrap_or(&file).display();
            context.ui.note(format!("dependencies: `{shown}`"));
        }
        None => {
            context.ui.note("dependencies: none (no `requirements.txt`, `pyproject.toml` or `package.json`)")
        }
    }
}

/// `path` from the directory `root`, as the file has it.
fn below(root: &Path, path: &Path) -> Result<String, Failure> {
    let inside = path.strip_prefix(root).ok().and_then(Path::to_str);
    let inside = inside
        .ok_or_else(|| Failure::usage(format!("`{}` is not below `{}`", path.display(), root.display())))?;
    Ok(if inside.is_empty() { ".".to_owned() } else { inside.to_owned() })
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Changes what an agent begins with.
fn set_entry(draft: &mut Draft, agent: &str, root: &Path, entry: &Entry) -> Result<(), Failure> {
    draft.set(agent, &["entrypoint"], below(root, &entry.file)?)?;
    draft.set(agent, &["source_path"], below(root, &entry.source)?)?;
    if detect::language(&entry.file) == Some(Language::Python) {
        draft.remove(agent, &["command"])?;
    } else {
        let inner = below(&entry.source, &entry.file)?;
        draft.set(agent, &["command"], json!(detect::command(&entry.source, &inner)))?;
    }
    Ok(())
}

/// Refuses what a runtime that is there cannot become.
fn set_deployment(draft: &mut Draft, agent: &str, wanted: Deployment) -> Result<(), Failure> {
    let project = draft.project()?;
    let now = project.agent(Some(agent))?;
    if now.deployment_type == Some(wanted) {
        return Ok(());
    }
    if now.deployed.id.is_some() {
        let message = format!(
            "agent `{agent}` is deployed as `{}` and cannot become `{}`",
            now.deployment().as_str(),
            wanted.as_str()
        );
        return Err(
            Failure::usage(message).hint("destroy it first, or give the other kind a name of its own")
        );
    }
    let python = matches!(now.launch, AgentLaunch::Python { .. });
    draft.set(agent, &["deployment_type"], wanted.as_str())?;
    match wanted {
        // A repository beside `direct_code_deploy` is a container to the toolkit, and so to us.
        Deployment::DirectCode => {
            draft.remove(agent, &["aws", "ecr_repository"])?;
            draft.remove(agent, &["aws", "ecr_auto_create"])?;
            draft.set(agent, &["aws", "s3_auto_create"], true)?;
            if python && draft.get(agent, &["runtime_type"]).is_none_or(Value::is_null) {
                draft.set(agent, &["runtime_type"], DEFAULT_PYTHON)?;
            }
        }
        Deployment::Container => {
            draft.remove(agent, &["aws", "s3_path"])?;
            draft.remove(agent, &["aws", "s3_auto_create"])?;
            draft.set(agent, &["aws", "ecr_auto_create"], true)?;
        }
    }
    Ok(())
}

/// A role as somebody names it: `auto`, an ARN, or the name of one in the account that the file names.
fn set_role(draft: &mut Draft, agent: &str, role: &str) -> Result<(), Failure> {
    let (role, auto) = if role.eq_ignore_ascii_case("auto") {
        (Value::Null, true)
    } else if role.starts_with("arn:") {
        (json!(role), false)
    } else {
        let known = |key: &str| draft.get(agent, &["aws", key]).and_then(Value::as_str).map(str::to_owned);
        let Some(account) = known("account") else {
            return Err(Failure::usage(format!("the account of the role `{role}` is not known"))
                .hint("name the role by its ARN, or the account with `--account`"));
        };
        let partition = match known("region") {
            Some(r) if r.starts_with("cn-") => "aws-cn",
            Some(r) if r.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        (json!(format!("arn:{partition}:iam::{account}:role/{role}")), false)
    };
    draft.set(agent, &["aws", "execution_role"], role)?;
    draft.set(agent, &["aws", "execution_role_auto_create"], auto)?;
    Ok(())
}

/// A repository or bucket: `auto`, or what is given.
fn set_store(draft: &mut Draft, agent: &str, key: &str, auto: &str, value: &str) -> Result<(), Failure> {
    let made = value.eq_ignore_ascii_case("auto");
    draft.set(agent, &["aws", key], if made { Value::Null } else { json!(value) })?;
    draft.set(agent, &["aws", auto], made)?;
    Ok(())
}

/// The session storage: a path, or nothing.
fn set_storage(draft: &mut Draft, agent: &str, path: Option<&str>) -> Result<(), Failure> {
    let now = draft.get(agent, &["filesystem_configurations"]).and_then(Value::as_array).cloned();
    // Other file systems of the agent stay.
    let mut list: Vec<Value> =
        now.unwrap_or_default().into_iter().filter(|f| f.get("session_storage").is_none()).collect();
    if let Some(path) = path {
        let entry = Map::from_iter([("session_storage".to_owned(), json!({ "mount_path": path }))]);
        list.insert(0, Value::Object(entry));
    }
    draft.set(agent, &["filesystem_configurations"], Value::Array(list))?;
    Ok(())
}

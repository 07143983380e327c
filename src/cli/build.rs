//! `build`: the project's image, by `docker buildx build`, with what it needs checked before and what it made after.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Context;
use super::exit::{Failure, OK, Outcome};
use super::ui::{Spinner, Ui};
use crate::build::{
    BuildContext, BuildError, Choice, Docker, Draft, Event, IGNORE_FILE, Image, Recipe, SERVICE_PLATFORM,
    StepState, needs_emulation, port_of, shell_line,
};
use crate::project::{Agent, Project, ProjectError};

/// Lines that keep a developer's settings and keys out of an image.
const SECRET_LINES: &str = ".env*\n**/.env*\n";
/// What a project's word for this machine's own platform is.
const NATIVE: &str = "native";

/// Build the agent's image for the service: linux/arm64, through `docker buildx build`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore build
  agentcore build --push --tag 123456789012.dkr.ecr.us-west-2.amazonaws.com/coder:1
  agentcore build --dry-run                       # the `docker buildx build …` that it is")]
pub(crate) struct BuildArgs {
    /// Name of the image; may be repeated [default: the project's ECR repository, else `bedrock_agentcore-AGENT`, as `latest`]
    #[arg(short, long = "tag", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    tags: Vec<String>,
    /// Put the image into Docker's engine [default, unless `--push`]
    #[arg(long)]
    load: bool,
    /// Push the image to its registry
    #[arg(long)]
    push: bool,
    /// Platform of the image; `native` is this machine's own, for local use [default: linux/arm64]
    #[arg(long, value_name = "PLATFORM", value_parser = NonEmptyStringValueParser::new())]
    platform: Option<String>,
    /// Dockerfile [default: the project's, else `Dockerfile` in the source directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set a variable of the build; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    build_args: Vec<String>,
    /// Show a secret to the build and keep it out of the image; may be repeated
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    secrets: Vec<String>,
    /// Show an SSH agent or key to the build; may be repeated
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Take steps from this cache; may be repeated
    #[arg(long, value_name = "SOURCE")]
    cache_from: Vec<String>,
    /// Keep steps in this cache; may be repeated
    #[arg(long, value_name = "TARGET")]
    cache_to: Vec<String>,
    /// Stage of the Dockerfile to build
    #[arg(long, value_name = "STAGE", value_parser = NonEmptyStringValueParser::new())]
    target: Option<String>,
    /// Network of the steps, as `docker build` takes it; with `host` their localhost is this machine's
    #[arg(long, value_name = "MODE", value_parser = NonEmptyStringValueParser::new())]
    network: Option<String>,
    /// Builder to use [default: the one in use, else one that can do the platform]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    builder: Option<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Print the command line and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Write a Dockerfile where there is none, and what `.dockerignore` lacks, without asking
    #[arg(short, long)]
    yes: bool,
}

impl BuildArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        context.block_on(async {
            let (project, agent) = project_agent(context)?;
            let ui = &context.ui;
            let mut order = Order::of(&project, &agent, self.platform.as_deref())?;
            if let Some(file) = &self.file {
                order.recipe.dockerfile = context.env.directory()?.join(file);
            }
            let recipe = &mut order.recipe;
            recipe.tags = if self.tags.is_empty() { vec![usual_tag(&agent)] } else { self.tags };
            recipe.build_args.extend(self.build_args);
            recipe.secrets.extend(self.secrets);
            recipe.ssh = self.ssh;
            recipe.cache_from.extend(self.cache_from);
            recipe.cache_to.extend(self.cache_to);
            recipe.target = self.target.or(recipe.target.take());
            recipe.network = self.network.or(recipe.network.take());
            recipe.builder = self.builder;
            recipe.no_cache = self.no_cache;
            recipe.pull = self.pull;
            recipe.push = self.push;
            recipe.load = self.load || !self.push;
            let consent = if self.yes { Consent::Given } else { Consent::Ask };
            if self.dry_run {
                return order.dry_run(context).await;
            }
            let built = order.run(context, consent, true).await?;
            let names = order.recipe.tags.join("`, `");
            let value = json!({
                "event": "image",
                "tags": order.recipe.tags,
                "image": built.image,
                "pushed": order.recipe.push,
                "loaded": order.recipe.load,
                "warnings": built.image.as_ref().map(|i| i.remarks(&order.protocol)).unwrap_or_default(),
            });
            if ui.is_json() {
                ui.event(&value)?;
            } else {
                let done = if order.recipe.push { "built and pushed" } else { "built" };
                let about = built.image.as_ref().map(|i| {
                    format!(": {}, {:.1} MB, {} layers", i.platform, i.bytes as f64 / 1e6, i.layers)
                });
                ui.line(&format!("{done} `{names}`{}", about.unwrap_or_default()))?;
            }
            Ok(OK)
        })
    }
}

fn project_agent(context: &Context) -> Result<(Project, Agent), ProjectError> {
    let directory = context.env.directory().unwrap_or_default();
    let project = Project::load(context.globals.config.as_deref(), &directory)?;
    let agent = project.agent(context.globals.agent.as_deref())?.clone();
    Ok((project, agent))
}

/// The name of an image that nobody named.
fn usual_tag(agent: &Agent) -> String {
    match agent.aws.ecr_repository.as_deref().filter(|r| r.contains('/') && r.contains('.')) {
        Some(repository) => format!("{repository}:latest"),
        None => format!("bedrock_agentcore-{}:latest", repository(agent.name.as_str())),
    }
}

/// Whether files may be written into the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// They may.
    Given,
    /// Whoever sits at the terminal is asked; where nobody does, they may not.
    Ask,
    /// They may not.
    Refused,
}

/// A build that is to be done.
pub(crate) struct Order {
    pub(crate) recipe: Recipe,
    pub(crate) protocol: String,
    agent: Agent,
    /// The image is one for the service, which asks some things of it.
    of_service: bool,
}

/// A build that was done.
pub(crate) struct Built {
    /// The image, where it could be looked at.
    pub(crate) image: Option<Image>,
}

/// A builder that has to be made.
struct Creation {
    choice: Choice,
    /// The command line that makes it.
    line: String,
}

/// An agent's name as part of a repository's: lower case, and one `-` between words.
pub(crate) fn repository(agent: &str) -> String {
    let lower = agent.to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.join("-")
}

impl Order {
    /// What the project file says of its agent's image.
    pub(crate) fn of(project: &Project, agent: &Agent, platform: Option<&str>) -> Result<Self, Failure> {
        let build = &agent.build;
        let context = build.context.clone().unwrap_or_else(|| agent.source.clone());
        let dockerfile = build.dockerfile.clone().unwrap_or_else(|| {
            let usual = context.join("Dockerfile");
            // Where the toolkit puts the one that it makes.
            let toolkits =
                project.root().join(".bedrock_agentcore").join(agent.name.as_str()).join("Dockerfile");
            if !usual.exists() && toolkits.is_file() { toolkits } else { usual }
        });
        let platform = platform_of(platform)?;
        let recipe = Recipe {
            context,
            dockerfile,
            platform,
            build_args: build.args.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            secrets: build.secrets.clone(),
            cache_from: build.cache_from.clone(),
            cache_to: build.cache_to.clone(),
            target: build.target.clone(),
            network: build.network.clone(),
            load: true,
            ..Recipe::default()
        };
        Ok(Self { recipe, protocol: agent.protocol.clone(), agent: agent.clone(), of_service: true })
    }

    /// A build of what code of the agent runs on, which the service never sees.
    pub(crate) fn of_base(agent: &Agent, recipe: Recipe) -> Self {
        Self { recipe, protocol: agent.protocol.clone(), agent: agent.clone(), of_service: false }
    }

    /// What decides over the image beside the files: not where caches and secrets are and by which network steps fetch
    /// something, which differ between machines that make the same image.
    pub(crate) fn words(&self) -> Vec<String> {
        let Recipe { platform, build_args, target, .. } = &self.recipe;
        let mut words = vec![self.agent.name.to_string(), platform.clone()];
        words.extend(build_args.iter().map(|arg| format!("--build-arg {arg}")));
        words.extend(target.iter().map(|target| format!("--target {target}")));
        words
    }

    /// The hash over everything in the project that decides over the image, and `more`: the same on every machine, and
    /// whatever its builder remembers.
    pub(crate) fn hash(&self, more: &[&str]) -> Result<String, Failure> {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Ok(BuildContext::open(&self.recipe.context, &self.recipe.dockerfile)?.hash(&words)?)
    }

    /// After a build: an error if what went into it may not be what this hash was taken of. An image under the name of
    /// other files would be taken for theirs for ever.
    pub(crate) fn check_unchanged(&self, hash: &str, more: &[&str]) -> Result<(), Failure> {
        if self.hash(more)? == hash {
            return Ok(());
        }
        let message = format!("the files of `{}` were changed while its image was built", self.agent.name);
        Err(Failure::failed(message).hint("run the command again"))
    }

    async fn dry_run(&mut self, context: &Context) -> Outcome {
        let ui = &context.ui;
        let mut lines = Vec::new();
        let text = match fs::read_to_string(&self.recipe.dockerfile) {
            Ok(text) => text,
            Err(_) => {
                let draft = Draft::for_agent(&self.agent, port_of(&self.protocol))?;
                ui.note(format!("`{}` would be made first:", draft.file.display()));
                ui.note(draft.text.trim_end());
                draft.text
            }
        };
        let (_, creation) = self.builder(context, &text).await?;
        if let Some(Creation { line, .. }) = creation {
            lines.push(line);
        }
        lines.push(shell_line("docker", &self.recipe.arguments("auto")));
        if self.recipe.push && self.recipe.load {
            let pushes = self.recipe.tags.iter();
            lines.extend(pushes.map(|tag| shell_line("docker", &["push".into(), tag.into()])));
        }
        ui.result(&json!({ "commands": lines }), lines.join("\n"))?;
        Ok(OK)
    }

    /// Finds Docker with all that a build of this Dockerfile needs, and settles which builder does it: with how that
    /// one is made first, where none of those there are can.
    async fn builder(
        &mut self,
        context: &Context,
        dockerfile: &str,
    ) -> Result<(Docker, Option<Creation>), Failure> {
        let docker = Docker::find(context.env.docker())?;
        docker.check_buildx().await?;
        let engine = docker.engine().await?;
        let wanted = self.recipe.builder.clone();
        let emulated = needs_emulation(dockerfile);
        let chosen =
            docker.choose_builder(&engine, wanted.as_deref(), &self.recipe.platform, emulated).await?;
        if let Some(reason) = &chosen.reason {
            context.ui.note(reason);
        }
        self.recipe.builder = chosen.choice.name().map(str::to_owned);
        let line = chosen.choice.creation().map(|words| shell_line("docker", &words));
        Ok((docker, line.map(|line| Creation { choice: chosen.choice, line })))
    }

    /// Checks what the build needs, builds, and looks at what was made. With `events`, what happens is a result
    /// where results are JSON.
    pub(crate) async fn run(
        &mut self,
        context: &Context,
        consent: Consent,
        events: bool,
    ) -> Result<Built, Failure> {
        let ui = &context.ui;
        let text = self.dockerfile(ui, consent)?;
        self.keep_secrets_out(ui, consent)?;
        let (docker, creation) = self.builder(context, &text).await?;
        if let Some(Creation { choice, line }) = creation {
            ui.note(format!("$ {line}"));
            docker.create_builder(&choice).await?;
        }
        ui.note(format!("$ {}", shell_line("docker", &self.recipe.arguments("auto"))));
        let mut screen = Screen::new(ui, events && ui.is_json());
        let done = docker.build(&self.recipe, |event| screen.show(event)).await;
        let unwritable = screen.end();
        done?;
        if let Some(failure) = unwritable {
            return Err(failure);
        }
        if self.recipe.push && self.recipe.load {
            let _spinner = ui.spinner("pushing the image");
            for tag in &self.recipe.tags {
                docker.push(tag).await?;
            }
        }
        let image = match self.recipe.tags.first() {
            Some(tag) if self.recipe.load => docker.image(tag).await?,
            Some(tag) => docker.pushed_image(tag).await.unwrap_or_default(),
            None => None,
        };
        let asked = image.iter().filter(|_| self.of_service);
        for remark in asked.flat_map(|image| image.remarks(&self.protocol)) {
            // An image for this machine alone is what was asked for.
            if self.recipe.platform == SERVICE_PLATFORM || !remark.message.contains("service runs") {
                ui.warn(format!("{}; {}", remark.message, remark.fix));
            }
        }
        Ok(Built { image })
    }

    /// The text of the Dockerfile; one is made where there is none and it may be written.
    fn dockerfile(&self, ui: &Ui, consent: Consent) -> Result<String, Failure> {
        let file = &self.recipe.dockerfile;
        match fs::read_to_string(file) {
            Ok(text) => return Ok(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Failure::failed(format!("`{}` cannot be read: {e}", file.display()))),
        }
        let draft = Draft::for_agent(&self.agent, port_of(&self.protocol))
            .map_err(|e| Failure::from(e).hint(format!("write `{}`", file.display())))?;
        let missing = || {
            Failure::failed(format!("there is no `{}`", file.display()))
                .hint("`agentcore build --yes` writes one; `agentcore build --dry-run` shows it")
        };
        if draft.file != *file {
            return Err(missing().hint("correct `build: {dockerfile: …}` in the project file, or `--file`"));
        }
        ui.note(format!("there is no Dockerfile; this one is for {}:", draft.kind.describe()));
        ui.note(draft.text.lines().map(|line| format!("  | {line}\n")).collect::<String>().trim_end());
        if !agreed(ui, consent, "Write it?")? {
            return Err(missing());
        }
        write_new(&draft.file, &draft.text)?;
        ui.note(format!("wrote `{}`", draft.file.display()));
        if let Some((ignore, text)) = &draft.ignore {
            write_new(ignore, text)?;
            ui.note(format!("wrote `{}`", ignore.display()));
        }
        Ok(draft.text)
    }

    /// Refuses to build where a developer's settings and keys would go into the image, or writes what keeps
    /// them out.
    pub(crate) fn keep_secrets_out(&self, ui: &Ui, consent: Consent) -> Result<(), Failure> {
        let context = BuildContext::open(&self.recipe.context, &self.recipe.dockerfile)?;
        let files = context.secrets()?;
        if files.is_empty() {
            return Ok(());
        }
        let ignore_file = context.ignore_file().to_owned();
        let refusal = BuildError::Secrets { files, ignore_file: ignore_file.clone() };
        if consent != Consent::Given {
            ui.warn(refusal.to_string());
        }
        let name = ignore_file.file_name().and_then(|n| n.to_str()).unwrap_or(IGNORE_FILE);
        if !agreed(ui, consent, &format!("Add `.env*` to `{name}`?"))? {
            return Err(refusal.into());
        }
        let mut text = match fs::read_to_string(&ignore_file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => {
                return Err(Failure::failed(format!("`{}` cannot be read: {e}", ignore_file.display())));
            }
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(SECRET_LINES);
        fs::write(&ignore_file, text)
            .map_err(|e| Failure::failed(format!("`{}` cannot be written: {e}", ignore_file.display())))?;
        ui.note(format!("added `.env*` to `{}`", ignore_file.display()));
        let left = BuildContext::open(&self.recipe.context, &self.recipe.dockerfile)?.secrets()?;
        if left.is_empty() { Ok(()) } else { Err(BuildError::Secrets { files: left, ignore_file }.into()) }
    }
}

/// A platform as builders call it; that of the service where nothing is said.
pub(crate) fn platform_of(word: Option<&str>) -> Result<String, Failure> {
    match word {
        Some(NATIVE) => native_platform(),
        Some(platform) => Ok(platform.to_owned()),
        None => Ok(SERVICE_PLATFORM.to_owned()),
    }
}

fn native_platform() -> Result<String, Failure> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("linux/amd64".to_owned()),
        "aarch64" => Ok("linux/arm64".to_owned()),
        other => Err(Failure::failed(format!("images for this machine's processor `{other}` are not made"))),
    }
}

fn agreed(ui: &Ui, consent: Consent, question: &str) -> Result<bool, Failure> {
    match consent {
        Consent::Given => Ok(true),
        Consent::Refused => Ok(false),
        Consent::Ask => Ok(ui.confirm(question, true)?.unwrap_or(false)),
    }
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = fs::OpenOptions::new().write(true).create_new(true).open(file);
    written
        .and_then(|mut out| io::Write::write_all(&mut out, text.as_bytes()))
        .map_err(|e| Failure::failed(format!("`{}` cannot be written: {e}", file.display())))
}

/// The steps of a build: a line for each that ended, and on a terminal one that turns for what runs.
struct Screen<'u> {
    ui: &'u Ui,
    spinner: Option<Spinner>,
    terminal: bool,
    /// Events are a result.
    json: bool,
    running: Vec<(u32, String)>,
    /// Nobody reads the events any more.
    failure: Option<Failure>,
}

impl<'u> Screen<'u> {
    fn new(ui: &'u Ui, json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let spinner = terminal.then(|| ui.spinner("building"));
        Self { ui, spinner, terminal, json, running: Vec::new(), failure: None }
    }

    fn show(&mut self, event: &Event) {
        if self.json {
            if self.failure.is_none() {
                self.failure = self.ui.event(event).err();
            }
            return;
        }
        match event {
            Event::Step { number, name, state, seconds } => {
                self.running.retain(|(n, _)| n != number);
                let time = seconds.map(|s| format!(" ({s:.1} s)")).unwrap_or_default();
                match state {
                    StepState::Started => self.running.push((*number, name.clone())),
                    StepState::Done => self.step(name, &format!("done   {name}{time}")),
                    StepState::Cached => self.step(name, &format!("cached {name}")),
                    StepState::Failed { .. } => self.ui.note(format!("failed {name}{time}")),
                }
                self.turn("");
            }
            // On a terminal the last line stands beside its step; the whole log comes with a failure or `-v`.
            Event::Log { step, line } if self.terminal && self.ui.verbose() == 0 => {
                let newest = self.running.last().is_some_and(|(n, _)| n == step);
                if newest {
                    self.turn(line);
                }
            }
            Event::Log { line, .. } => self.ui.note(format!("  | {line}")),
            Event::Transfer { name, current, total, .. } if *total > 0 => {
                self.turn(&format!("{name} {:.1} of {:.1} MB", *current as f64 / 1e6, *total as f64 / 1e6));
            }
            Event::Transfer { .. } | Event::Talk { .. } => {}
        }
    }

    /// Steps that are the builder's own business are told with `-v` only.
    fn step(&self, name: &str, line: &str) {
        if !name.starts_with("[internal]") || self.ui.verbose() > 0 {
            self.ui.note(line);
        }
    }

    fn turn(&self, detail: &str) {
        if let (Some(spinner), Some((_, name))) = (&self.spinner, self.running.last()) {
            let text = match detail {
                "" => name.clone(),
                // Half of the line for each.
                _ => format!("{}  {detail}", self.ui.fitting(name, 2)),
            };
            spinner.message(&self.ui.fitting(&text, 1));
        }
    }

    fn end(self) -> Option<Failure> {
        self.failure
    }
}

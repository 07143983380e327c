//! Images by the Docker command line: built for arm64, logged in to a registry, pushed.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::cli::Context;
use crate::cli::exit::{Class, Failure};
use crate::ops::ports::{BuildError, Builder, LocalImage, RegistryLogin};
use crate::project::Agent;

/// The service runs nothing else. [guide]
const PLATFORM: &str = "linux/arm64";
/// Lines of the engine's output that go into an error.
const TAIL_LINES: usize = 20;

/// The Docker command line.
pub(super) struct Docker<'a> {
    pub(super) context: &'a Context,
}

/// Builds the agent's image on this machine. What the build says goes to standard error as it comes.
pub(super) fn build(context: &Context, agent: &Agent) -> Result<LocalImage, Failure> {
    let folder = agent.build.context.as_deref().unwrap_or(&agent.source);
    let dockerfile = match &agent.build.dockerfile {
        Some(file) => file.clone(),
        None => folder.join("Dockerfile"),
    };
    if !dockerfile.is_file() {
        let message = format!("there is no `{}` to build the agent's image from", dockerfile.display());
        return Err(Failure::new(Class::Project, message)
            .hint("write one, name an image with `--image`, or set `deployment_type: direct_code_deploy`"));
    }
    let name = format!("agentcore/{}", agent.name.as_str().to_ascii_lowercase());
    let mut command = Command::new("docker");
    command.args(["buildx", "build", "--platform", PLATFORM, "--load", "--tag", &name]);
    command.arg("--file").arg(&dockerfile);
    if let Some(target) = &agent.build.target {
        command.args(["--target", target]);
    }
    for (key, value) in &agent.build.args {
        command.arg("--build-arg").arg(format!("{key}={value}"));
    }
    for (flag, values) in [
        ("--secret", &agent.build.secrets),
        ("--cache-from", &agent.build.cache_from),
        ("--cache-to", &agent.build.cache_to),
    ] {
        for value in values {
            command.arg(flag).arg(value);
        }
    }
    command.arg(folder).stdin(Stdio::null()).stdout(std::io::stderr()).stderr(std::io::stderr());
    context.ui.note(format!("building the image of `{}` for {PLATFORM}", agent.name));
    let status = command.status().map_err(|e| missing(&e))?;
    if !status.success() {
        return Err(Failure::failed("the image could not be built")
            .hint("the build's own output above says why; `agentcore doctor` checks what a build needs"));
    }
    let inspected = Command::new("docker").args(["image", "inspect", "--format", "{{.Id}}", &name]).output();
    let output = inspected.map_err(|e| missing(&e))?;
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || id.is_empty() {
        return Err(Failure::failed(format!("the image `{name}` was built and is not there"))
            .hint("a builder that keeps its images apart needs `--load`; `docker buildx use default` chooses another"));
    }
    Ok(LocalImage { reference: name, id })
}

fn missing(error: &std::io::Error) -> Failure {
    Failure::new(Class::Engine, format!("`docker` cannot be run: {error}"))
        .hint("install Docker with buildx, or name an image with `--image`")
}

impl Builder for Docker<'_> {
    async fn push(&self, image: &LocalImage, name: &str, login: &RegistryLogin) -> Result<(), BuildError> {
        // The password goes over standard input: an argument is seen by every user of the machine.
        let arguments = ["login", "--username", &login.user, "--password-stdin", &login.registry];
        run(&arguments, Some(&login.password))?;
        run(&["tag", &image.reference, name], None)?;
        self.context.ui.note(format!("pushing {name}"));
        run(&["push", name], None)
    }
}

fn run(arguments: &[&str], input: Option<&str>) -> Result<(), BuildError> {
    let shown = format!("docker {}", arguments.join(" "));
    let failed = |message: String| BuildError { message, hint: None, details: Vec::new() };
    let broken = |e: std::io::Error| failed(format!("`{shown}` cannot be run: {e}"));
    let mut command = Command::new("docker");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(broken)?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).map_err(broken)?;
    }
    let output = child.wait_with_output().map_err(broken)?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    Err(BuildError {
        message: format!("`{shown}` failed"),
        hint: Some("what was done until then is kept; run the command again to go on".to_owned()),
        details: lines.iter().skip(from).map(|l| (*l).to_owned()).collect(),
    })
}

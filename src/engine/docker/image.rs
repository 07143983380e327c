//! What an image says of itself, and whether this machine can run it.

use std::collections::HashSet;
use std::path::Path;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};

use super::daemon::{Daemon, Facts, said, status};
use crate::engine::EngineError;

/// The architecture of the service's machines. [guide: container images must be arm64]
const SERVICE_ARCHITECTURE: &str = "arm64";
/// What a registry of the service is called, which nobody can pull from without an account.
const REGISTRY_MARK: &str = ".dkr.ecr.";
/// What is in the names of images that the command line builds for an emulator.
const BUILT_MARK: &str = "/agentcore-local/";
/// Where Linux lists what it can run through an interpreter.
const FOREIGN_PROGRAMS: &str = "/proc/sys/fs/binfmt_misc";
/// The machine field of arm64 in a program's head, as the list shows it. [ELF: EM_AARCH64]
const ARM64_MAGIC: &str = "b700";
/// How far into a head that field is, in hexadecimal digits. [ELF: e_machine at byte 18]
const MACHINE_AT: usize = 36;

/// Which images sessions are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// linux/arm64, as on the service; emulated where the machine is another.
    #[default]
    Service,
    /// What the daemon's machine is.
    Native,
}

impl Platform {
    /// The architecture in the words of images.
    pub(super) fn architecture(self, facts: &Facts) -> &str {
        match self {
            Self::Service => SERVICE_ARCHITECTURE,
            Self::Native => &facts.architecture,
        }
    }
}

/// An image on the daemon's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its content's name.
    pub(super) id: String,
    /// Entry point and command.
    pub(super) argv: Vec<String>,
    /// Its environment.
    pub(super) environment: Vec<(String, String)>,
    /// Where its programs begin.
    pub(super) directory: String,
    /// Who they run as.
    pub(super) user: Option<String>,
}

/// Finds an image that sessions can be made of, or that stands around code.
pub(super) async fn find(
    client: &Docker,
    name: &str,
    platform: Platform,
    facts: &Facts,
    around_code: bool,
) -> Result<Image, EngineError> {
    let found = match client.inspect_image(name).await {
        Ok(found) => found,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
            return Err(missing(name, platform, around_code));
        }
        Err(e) => return Err(EngineError::Start(format!("the image `{name}` could not be looked up: {e}"))),
    };
    let wanted = platform.architecture(facts);
    let (system, architecture) = (found.os.unwrap_or_default(), found.architecture.unwrap_or_default());
    if system != "linux" || architecture != wanted {
        let supported = wanted.to_owned();
        return Err(EngineError::Architecture { image: name.to_owned(), supported });
    }
    if wanted == SERVICE_ARCHITECTURE && facts.architecture != wanted && facts.local {
        can_run_arm64(Path::new(FOREIGN_PROGRAMS), name)?;
    }
    let config = found.config.unwrap_or_default();
    let argv = config.entrypoint.into_iter().flatten().chain(config.cmd.into_iter().flatten());
    let environment = config.env.into_iter().flatten();
    let environment = environment.map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (pair, String::new()),
    });
    Ok(Image {
        id: found.id.unwrap_or_else(|| name.to_owned()),
        argv: argv.collect(),
        environment: environment.collect(),
        directory: config.working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned()),
        user: config.user.filter(|user| !user.is_empty()),
    })
}

/// Removes the images that were built for this home, but for those of the names to keep. What a container runs of is
/// left; names that somebody else gave an image are his. Gives the number of names.
pub(super) async fn prune(daemon: &Daemon, keep: &HashSet<String>) -> Result<usize, EngineError> {
    let filters = daemon.labels.images_of_home();
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let listed = daemon.client.list_images(Some(options)).await;
    let listed =
        listed.map_err(|e| EngineError::Helper(format!("images could not be listed: {}", said(&e))))?;
    let mut removed = 0;
    for name in listed.into_iter().flat_map(|image| image.repo_tags) {
        if !name.contains(BUILT_MARK) || keep.contains(&name) {
            continue;
        }
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(false).build();
        match daemon.client.remove_image(&name, Some(options), None).await {
            Ok(_) => removed += 1,
            Err(e) if matches!(status(&e), Some(404 | 409)) => {
                tracing::debug!("the image `{name}` is left: {}", said(&e));
            }
            Err(e) => {
                return Err(EngineError::Helper(format!("`{name}` could not be removed: {}", said(&e))));
            }
        }
    }
    Ok(removed)
}

/// What to do about an image that is not there.
fn missing(name: &str, platform: Platform, around_code: bool) -> EngineError {
    if around_code || name.contains(BUILT_MARK) {
        let other =
            if around_code { ", and `agentcore local up --base-image IMAGE` takes another" } else { "" };
        let hint = format!(
            "`agentcore local invoke` or `agentcore local deploy` in the agent's project builds it{other}"
        );
        return EngineError::NoImage { image: name.to_owned(), hint };
    }
    let flag = if platform == Platform::Service { " --platform linux/arm64" } else { "" };
    let pull = if name.contains(REGISTRY_MARK) {
        format!("log in to its registry and `docker pull{flag} {name}`")
    } else {
        format!("`docker pull{flag} {name}`")
    };
    let hint = format!(
        "build it with `docker buildx build{flag} --load -t {name} .`, give one that is there this name with \
         `docker tag IMAGE {name}`, or {pull}"
    );
    EngineError::NoImage { image: name.to_owned(), hint }
}

/// Looks whether this machine runs programs for arm64 through an interpreter. Where the list cannot be read, the
/// agent's first program will tell.
fn can_run_arm64(list: &Path, image: &str) -> Result<(), EngineError> {
    if !list.join("status").exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(list).into_iter().flatten().flatten();
    let runs = |text: String| {
        let magic = text.lines().find_map(|line| line.strip_prefix("magic ")).unwrap_or_default();
        text.starts_with("enabled")
            && magic.get(MACHINE_AT..MACHINE_AT + ARM64_MAGIC.len()) == Some(ARM64_MAGIC)
    };
    if entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(runs) {
        return Ok(());
    }
    Err(EngineError::Unavailable {
        reason: format!("the image `{image}` is for arm64, and this machine cannot run programs for arm64"),
        hint: "install emulation with `sudo apt-get install qemu-user-static binfmt-support`, or with `docker run \
               --privileged --rm tonistiigi/binfmt --install arm64`; or build the image for this machine and start \
               the emulator with `agentcore local up --platform native`"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm64_is_found_by_the_machine_field_of_an_enabled_entry() {
        let list = tempfile::tempdir().unwrap();
        assert!(can_run_arm64(list.path(), "i").is_ok(), "a list that is not there says nothing");
        std::fs::write(list.path().join("status"), "enabled\n").unwrap();
        let error = can_run_arm64(list.path(), "coder:1").unwrap_err();
        let EngineError::Unavailable { reason, hint } = error else { panic!("{error}") };
        assert!(reason.contains("`coder:1`") && hint.contains("qemu-user-static"), "{reason} {hint}");
        assert!(hint.contains("--platform native"), "{hint}");
        let entry = |state: &str, machine: &str| {
            format!(
                "{state}\ninterpreter /usr/libexec/qemu\nflags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200{machine}\n\
                 mask ffffffffffffff00fffffffffffffffffeffffff\n"
            )
        };
        for (name, text) in [("riscv", entry("enabled", "f300")), ("off", entry("disabled", "b700"))] {
            std::fs::write(list.path().join(name), text).unwrap();
            assert!(can_run_arm64(list.path(), "i").is_err(), "{name}");
        }
        std::fs::write(list.path().join("anything"), entry("enabled", "b700")).unwrap();
        assert!(can_run_arm64(list.path(), "i").is_ok());
    }

    #[test]
    fn a_missing_image_is_named_with_the_ways_to_get_it() {
        let uri = "000000000000.dkr.ecr.us-west-2.amazonaws.com/coder:1";
        let said = missing(uri, Platform::Service, false).to_string();
        for part in
            [uri, "docker buildx build --platform linux/arm64 --load", "docker tag", "log in", "docker pull"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!missing("coder", Platform::Native, false).to_string().contains("linux/arm64"));
        let built = "000000000000.dkr.ecr.us-west-2.amazonaws.com/agentcore-local/coder:1";
        for (name, around_code) in [(built, false), ("agentcore-base:latest", true)] {
            let said = missing(name, Platform::Service, around_code).to_string();
            assert!(said.contains(name) && said.contains("`agentcore local invoke`"), "{said}");
            assert_eq!(said.contains("--base-image"), around_code, "{said}");
        }
    }
}

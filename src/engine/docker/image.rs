//! What an image says of itself, and whether this machine can run it.

use std::path::Path;

use bollard::Docker;
use bollard::errors::Error;

use super::daemon::Facts;
use crate::engine::EngineError;

/// The architecture of the service's machines. [guide: container images must be arm64]
const SERVICE_ARCHITECTURE: &str = "arm64";
/// What a registry of the service is called, which nobody can pull from without an account.
const REGISTRY_MARK: &str = ".dkr.ecr.";
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

/// Finds an image that sessions can be made of.
pub(super) async fn find(
    client: &Docker,
    name: &str,
    platform: Platform,
    facts: &Facts,
) -> Result<Image, EngineError> {
    let found = match client.inspect_image(name).await {
        Ok(found) => found,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
            return Err(missing(name, platform));
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

fn missing(name: &str, platform: Platform) -> EngineError {
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
        let said = missing(uri, Platform::Service).to_string();
        for part in
            [uri, "docker buildx build --platform linux/arm64 --load", "docker tag", "log in", "docker pull"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!missing("coder", Platform::Native).to_string().contains("linux/arm64"));
    }
}

//! Which builder makes the image: the one in use where it can, else another one that can, else one made for it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::docker::{Docker, Engine};
use super::{BuildError, SERVICE_PLATFORM};

/// Name of the builder that is made where none can.
const OWN_BUILDER: &str = "agentcore";
/// The driver that brings emulators of its own.
const CONTAINER_DRIVER: &str = "docker-container";
/// Where the kernel says which foreign programs it can run.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";
/// What programs begin with, as the kernel's list shows it: ELF, 64 bits, little-endian, and the machine at the end.
const MAGICS: [(&str, &str, &str); 2] = [
    ("linux/arm64", "aarch64", "7f454c460201010000000000000000000200b700"),
    ("linux/amd64", "x86_64", "7f454c4602010100000000000000000002003e00"),
];

/// A builder, and why it is not the one in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderChoice {
    /// What to do.
    pub choice: Choice,
    /// What to tell about it.
    pub reason: Option<String>,
}

/// Which builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one in use.
    Current,
    /// Another one.
    Other(String),
    /// One that is made first.
    New(String),
}

impl Choice {
    /// What `--builder` says.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Current => None,
            Self::Other(name) | Self::New(name) => Some(name),
        }
    }

    /// The arguments of `docker` that make it.
    pub fn creation(&self) -> Option<Vec<OsString>> {
        match self {
            Self::New(name) => Some(
                ["buildx", "create", "--name", name, "--driver", CONTAINER_DRIVER]
                    .map(OsString::from)
                    .to_vec(),
            ),
            _ => None,
        }
    }
}

/// A builder as `docker buildx inspect` describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Builder {
    driver: String,
    platforms: Vec<String>,
}

impl Builder {
    fn parse(text: &str) -> Self {
        let mut builder = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key.trim() {
                "Driver" => builder.driver = value.trim().to_owned(),
                "Platforms" => {
                    // A star stands at those that somebody asked for.
                    let all = value.split(',').map(|p| p.trim().trim_end_matches('*').to_owned());
                    builder.platforms.extend(all.filter(|p| !p.is_empty()));
                }
                _ => {}
            }
        }
        builder
    }

    /// One of a container driver that has not started yet says nothing, and brings its emulators.
    fn can(&self, platform: &str) -> bool {
        let said = self.platforms.iter().any(|p| p == platform);
        said || (self.driver == CONTAINER_DRIVER && self.platforms.is_empty())
    }
}

/// True when the kernel of this machine runs programs of `platform`: its own, or through an emulator.
pub fn host_runs(platform: &str) -> bool {
    runs(platform, std::env::consts::ARCH, Path::new(BINFMT))
}

fn runs(platform: &str, machine: &str, binfmt: &Path) -> bool {
    let Some((_, own, magic)) = MAGICS.iter().find(|(name, ..)| platform_is(platform, name)) else {
        return false;
    };
    if *own == machine {
        return true;
    }
    let entries =
        fs::read_dir(binfmt).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        text.starts_with("enabled") && text.lines().any(|line| line.strip_prefix("magic ") == Some(magic))
    })
}

/// `linux/arm64/v8` is `linux/arm64`.
fn platform_is(platform: &str, name: &str) -> bool {
    platform == name || platform.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
}

impl Docker {
    /// Chooses the builder for an image of `platform`. `wanted` is what the user named; `emulates` says whether
    /// the build runs programs of the image at all.
    pub async fn choose_builder(
        &self,
        engine: &Engine,
        wanted: Option<&str>,
        platform: &str,
        emulates: bool,
    ) -> Result<BuilderChoice, BuildError> {
        if let Some(name) = wanted {
            return Ok(BuilderChoice { choice: Choice::Other(name.to_owned()), reason: None });
        }
        let current = BuilderChoice { choice: Choice::Current, reason: None };
        let chosen = self.env.builder.clone().or_else(|| self.current_builder());
        let own = format!("linux/{}", engine.architecture);
        let easy = !emulates || platform_is(platform, &own) || (engine.here && host_runs(platform));
        // Buildx is asked only where the answer is open: each question takes it as long as a small build.
        if easy && chosen.is_none() {
            return Ok(current);
        }
        let described = self.said(&["buildx", "inspect"]).await.map(|text| Builder::parse(&text));
        if described.as_ref().is_ok_and(|builder| builder.can(platform)) {
            return Ok(current);
        }
        let name = chosen.unwrap_or_else(|| "default".to_owned());
        let cannot = match described {
            Ok(_) => format!("builder `{name}` cannot build for {platform} here"),
            Err(_) => format!("builder `{name}` does not answer"),
        };
        let list = self.said(&["buildx", "ls"]).await?;
        for other in names(&list).into_iter().filter(|other| *other != name) {
            let Ok(text) = self.said(&["buildx", "inspect", &other]).await else { continue };
            let builder = Builder::parse(&text);
            // Contexts of other engines stand in the list too; an image must not end up there unasked.
            if builder.driver != "docker" && builder.can(platform) {
                let reason = format!("{cannot}: builder `{other}` does it");
                return Ok(BuilderChoice { choice: Choice::Other(other), reason: Some(reason) });
            }
        }
        let reason = format!(
            "{cannot}: a builder `{OWN_BUILDER}` with emulators of its own is made. To do without, install them: {}",
            emulation_fix()
        );
        Ok(BuilderChoice { choice: Choice::New(OWN_BUILDER.to_owned()), reason: Some(reason) })
    }

    /// Makes a builder that was chosen and is not there yet.
    pub async fn create_builder(&self, choice: &Choice) -> Result<(), BuildError> {
        match choice.creation() {
            Some(arguments) => self.said(&arguments).await.map(drop),
            None => Ok(()),
        }
    }

    /// The builder that `docker buildx use` chose, as buildx keeps it.
    fn current_builder(&self) -> Option<String> {
        let file = self.env.config_directory()?.join("buildx/current");
        let text = fs::read(file).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let name = value.get("Name")?.as_str()?;
        (!name.is_empty() && name != "default").then(|| name.to_owned())
    }
}

/// The command that lets a machine run arm64 programs.
pub(super) fn emulation_fix() -> &'static str {
    "sudo apt-get install qemu-user-static binfmt-support, or: docker run --privileged --rm tonistiigi/binfmt --install arm64"
}

/// Where the service's platform stands for what cannot be run.
pub fn emulation_missing() -> BuildError {
    BuildError::Missing {
        message: format!("this machine cannot run programs of {SERVICE_PLATFORM}"),
        fix: emulation_fix().to_owned(),
    }
}

/// The builders' names in the table of `docker buildx ls`: those of their nodes are indented.
fn names(table: &str) -> Vec<String> {
    let lines = table.lines().filter(|line| !line.starts_with([' ', '\t']) && !line.starts_with("NAME"));
    let first = lines.filter_map(|line| line.split_whitespace().next());
    first.map(|name| name.trim_end_matches('*').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_runs_is_read_from_its_list() {
        let dir = tempfile::tempdir().unwrap();
        assert!(runs("linux/amd64", "x86_64", dir.path()));
        assert!(runs("linux/arm64/v8", "aarch64", dir.path()));
        assert!(!runs("linux/arm64", "x86_64", dir.path()));
        assert!(!runs("linux/arm64", "x86_64", &dir.path().join("none")));
        let entry = "interpreter /usr/bin/qemu-aarch64-static\nflags: PF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
        fs::write(dir.path().join("qemu"), format!("disabled\n{entry}")).unwrap();
        assert!(!runs("linux/arm64", "x86_64", dir.path()));
        fs::write(dir.path().join("qemu"), format!("enabled\n{entry}")).unwrap();
        assert!(runs("linux/arm64", "x86_64", dir.path()));
        assert!(!runs("linux/riscv64", "x86_64", dir.path()));
    }

    #[test]
    fn descriptions_of_builders_are_read() {
        let text = "Name:   big\nDriver: docker-container\n\nNodes:\nName:      big0\nPlatforms: linux/amd64, linux/arm64*\n";
        let builder = Builder::parse(text);
        assert!(builder.can("linux/arm64") && builder.can("linux/amd64") && !builder.can("linux/s390x"));
        let idle = Builder::parse(
            "Name: x\nDriver: docker-container\nNodes:\nName: x0\nStatus: inactive\nPlatforms:\n",
        );
        assert!(idle.can("linux/arm64"));
        assert!(!Builder::parse("Driver: docker\nPlatforms: linux/amd64\n").can("linux/arm64"));
    }

    #[test]
    fn names_are_read_from_the_tables_of_old_and_new_plugins() {
        let new = "NAME/NODE     DRIVER/ENDPOINT   STATUS\nbig*          docker-container\n \\_ big0       \\_ unix:///x   inactive\ndefault       docker\n \\_ default    \\_ default       running\n";
        assert_eq!(names(new), ["big", "default"]);
        let old = "NAME/NODE DRIVER/ENDPOINT STATUS  PLATFORMS\nbig *     docker-container\n  big0    unix:///x       inactive\ndefault   docker\n  default default         running\n";
        assert_eq!(names(old), ["big", "default"]);
    }

    #[test]
    fn a_new_builder_brings_its_emulators() {
        let line = Choice::New("agentcore".into()).creation().unwrap();
        let line: Vec<_> = line.iter().map(|w| w.to_str().unwrap()).collect();
        assert_eq!(line, ["buildx", "create", "--name", "agentcore", "--driver", "docker-container"]);
        assert!(Choice::Current.creation().is_none() && Choice::Other("x".into()).creation().is_none());
    }
}

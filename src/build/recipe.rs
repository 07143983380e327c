//! A build as a value, and the command line that it is.

use std::ffi::OsString;
use std::path::PathBuf;

/// Everything that a build is told. Words of repeated options are handed on as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The directory that is sent.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// `--platform`.
    pub platform: String,
    /// `--tag`.
    pub tags: Vec<String>,
    /// `--build-arg`.
    pub build_args: Vec<String>,
    /// `--secret`.
    pub secrets: Vec<String>,
    /// `--ssh`.
    pub ssh: Vec<String>,
    /// `--cache-from`.
    pub cache_from: Vec<String>,
    /// `--cache-to`.
    pub cache_to: Vec<String>,
    /// `--label`.
    pub labels: Vec<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--network`.
    pub network: Option<String>,
    /// `--builder`.
    pub builder: Option<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: bool,
    /// The image goes into the engine.
    pub load: bool,
    /// The image goes to its registry.
    pub push: bool,
}

impl Recipe {
    /// The arguments of `docker`; `progress` is how the builder tells what it does.
    pub fn arguments(&self, progress: &str) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["buildx".into(), "build".into()];
        let mut add = |flag: &str, value: &str| {
            all.push(flag.into());
            all.push(value.into());
        };
        if let Some(builder) = &self.builder {
            add("--builder", builder);
        }
        add("--platform", &self.platform);
        let repeated = [
            ("--tag", &self.tags),
            ("--label", &self.labels),
            ("--build-arg", &self.build_args),
            ("--secret", &self.secrets),
            ("--ssh", &self.ssh),
            ("--cache-from", &self.cache_from),
            ("--cache-to", &self.cache_to),
        ];
        for (flag, values) in repeated {
            values.iter().for_each(|value| add(flag, value));
        }
        if let Some(target) = &self.target {
            add("--target", target);
        }
        if let Some(network) = &self.network {
            add("--network", network);
        }
        add("--progress", progress);
        let switches = [
            ("--no-cache", self.no_cache),
            ("--pull", self.pull),
            // Beside an attestation the image is an index of two, and the service wants one image.
            ("--provenance=false", true),
            ("--load", self.load),
            // Both at once is more than older builders do; what is loaded is pushed afterwards.
            ("--push", self.push && !self.load),
        ];
        all.extend(switches.iter().filter(|(_, on)| *on).map(|(flag, _)| OsString::from(flag)));
        all.push("--file".into());
        all.push(self.dockerfile.clone().into());
        all.push(self.context.clone().into());
        all
    }
}

/// A command line as a shell takes it. A word that is no text cannot be shown whole.
pub fn shell_line(program: &str, arguments: &[OsString]) -> String {
    let words = std::iter::once(program.to_owned())
        .chain(arguments.iter().map(|word| word.to_string_lossy().into_owned()));
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%".contains(c);
    let words = words.map(|word| match shlex::try_quote(&word) {
        Ok(quoted) if !word.chars().all(plain) || word.is_empty() => quoted.into_owned(),
        // Quotes would only stand in a reader's way.
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reaches_the_command_line_and_a_shell_reads_it_back() {
        let one = |text: &str| vec![text.to_owned()];
        let recipe = Recipe {
            context: "/p/my agent".into(),
            dockerfile: "/p/my agent/Dockerfile".into(),
            platform: "linux/arm64".into(),
            tags: one("a:1"),
            build_args: one("GREETING=it's me"),
            secrets: one("id=key,src=/k"),
            ssh: one("default"),
            cache_from: one("type=registry,ref=a:cache"),
            cache_to: one("type=inline"),
            labels: one("k=v"),
            target: Some("run".into()),
            network: Some("host".into()),
            builder: Some("big".into()),
            no_cache: true,
            pull: true,
            load: false,
            push: true,
        };
        let arguments = recipe.arguments("plain");
        let line = shell_line("docker", &arguments);
        let expected = "docker buildx build --builder big --platform linux/arm64 --tag a:1 --label k=v \
             --build-arg \"GREETING=it's me\" --secret id=key,src=/k --ssh default --cache-from \
             type=registry,ref=a:cache --cache-to type=inline --target run --network host --progress plain --no-cache --pull \
             --provenance=false --push --file '/p/my agent/Dockerfile' '/p/my agent'";
        assert_eq!(line, expected);
        let words = shlex::split(&line).unwrap();
        let again: Vec<OsString> = words.into_iter().skip(1).map(OsString::from).collect();
        assert_eq!(again, arguments);
    }

    #[test]
    fn what_is_loaded_is_not_pushed_by_the_same_build() {
        let recipe = Recipe { load: true, push: true, ..Recipe::default() };
        let line = shell_line("docker", &recipe.arguments("plain"));
        assert!(line.contains(" --load") && !line.contains("--push"), "{line}");
    }
}

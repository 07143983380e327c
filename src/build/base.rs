//! The image that code agents run on in containers: an interpreter, what the service's own environment has besides, and
//! the agent's packages. Made from `templates/base`, once for each content.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::dockerfile::{PACKAGES, base_dockerfile};
use super::{BuildError, Recipe};
use crate::project::Build;

/// The directory of the packages' lists in the build's context, as the template has it.
const LISTS: &str = "packages";
/// The project's build argument that names another image to begin with, as the template has it.
const BASE_IMAGE: &str = "BASE_IMAGE";
/// Those that say where packages come from: pip's, as the template has them, and the proxies that every build knows. [docker]
const SOURCES: [&str; 11] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];
/// The network whose localhost is this machine's. [docker]
const HOST_NETWORK: &str = "host";

/// What such an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    text: String,
    from: String,
    args: Vec<String>,
    network: Option<String>,
    lists: Vec<(PathBuf, Vec<u8>)>,
}

impl Base {
    /// For a `runtime` such as `PYTHON_3_13`, with the packages that these files of the project list, from where its `build`
    /// says.
    pub fn new(runtime: &str, build: &Build, lists: Vec<(PathBuf, Vec<u8>)>) -> Self {
        let (text, usual) = base_dockerfile(runtime);
        let packages = if lists.is_empty() { "" } else { PACKAGES };
        let args = build.args.iter().filter(|(name, _)| SOURCES.contains(&name.as_str()));
        Self {
            text: format!("{text}{packages}"),
            from: build.args.get(BASE_IMAGE).cloned().unwrap_or(usual),
            args: args.map(|(name, value)| format!("{name}={value}")).collect(),
            network: build.network.clone(),
            lists,
        }
    }

    /// True when packages are to come from the localhost of this machine, and the build has one of its own.
    pub fn misses_localhost(&self) -> bool {
        let lists = self.lists.iter().map(|(_, content)| String::from_utf8_lossy(content));
        let args = self.args.iter().map(|arg| arg.as_str().into());
        self.network.as_deref() != Some(HOST_NETWORK) && lists.chain(args).any(|text| names_localhost(&text))
    }

    /// The hash over everything that decides over the image; `words` is what else does.
    pub fn hash(&self, words: &[&str]) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.text.as_bytes());
        part(self.from.as_bytes());
        self.args.iter().for_each(|arg| part(arg.as_bytes()));
        for (path, content) in &self.lists {
            part(path.as_os_str().as_encoded_bytes());
            part(content);
        }
        words.iter().for_each(|word| part(word.as_bytes()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The build of it, whose context is written to `directory`.
    pub fn recipe(&self, directory: &Path, platform: &str) -> Result<Recipe, BuildError> {
        let write = |file: PathBuf, content: &[u8]| {
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(super::io("making", parent))?;
            }
            fs::write(&file, content).map_err(super::io("writing", &file)).map(|()| file)
        };
        for (path, content) in &self.lists {
            write(directory.join(LISTS).join(path), content)?;
        }
        let mut build_args = vec![format!("{BASE_IMAGE}={}", self.from)];
        build_args.extend(self.args.iter().cloned());
        Ok(Recipe {
            context: directory.to_owned(),
            dockerfile: write(directory.join("Dockerfile"), self.text.as_bytes())?,
            platform: platform.to_owned(),
            build_args,
            network: self.network.clone(),
            load: true,
            ..Recipe::default()
        })
    }
}

/// True when a URL in the text leads to the localhost of whoever opens it.
fn names_localhost(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority =
            rest.split(|c: char| "/?#".contains(c) || c.is_whitespace()).next().unwrap_or_default();
        let place = authority.rsplit('@').next().unwrap_or_default();
        let host = match place.strip_prefix('[') {
            Some(address) => address.split(']').next(),
            None => place.split(':').next(),
        };
        let host = host.unwrap_or_default();
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(args: &[(&str, &str)]) -> Build {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Build { args: args.collect(), ..Build::default() }
    }

    #[test]
    fn a_base_is_another_one_when_anything_of_it_is() {
        let lists = |text: &str| vec![(PathBuf::from("requirements.txt"), text.as_bytes().to_vec())];
        let usual = build(&[]);
        let all = [
            Base::new("PYTHON_3_13", &usual, Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", &usual, Vec::new()).hash(&["linux/amd64"]),
            Base::new("PYTHON_3_12", &usual, Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", &build(&[("BASE_IMAGE", "own")]), Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", &usual, lists("a")).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", &usual, lists("b")).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", &build(&[("PIP_INDEX_URL", "u")]), lists("b")).hash(&["linux/arm64"]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        // What this build is not asked for is nothing to it, and neither is the way to the packages.
        let same = Build { network: Some("host".into()), ..build(&[("WORD", "w")]) };
        assert_eq!(Base::new("PYTHON_3_13", &same, lists("a")).hash(&["linux/arm64"]), all[4]);
    }

    #[test]
    fn the_context_has_the_lists_and_the_dockerfile_what_installs_them() {
        let directory = tempfile::tempdir().unwrap();
        let lists = vec![(PathBuf::from("sub/more.txt"), b"x".to_vec())];
        let recipe =
            Base::new("NODE_22", &build(&[]), lists).recipe(directory.path(), "linux/arm64").unwrap();
        assert_eq!(fs::read(directory.path().join("packages/sub/more.txt")).unwrap(), b"x");
        let text = fs::read_to_string(recipe.dockerfile).unwrap();
        assert!(text.contains("pip install") && text.contains("COPY packages/"), "{text}");
        assert!(recipe.build_args[0].ends_with("node:22-slim"), "{:?}", recipe.build_args);
        let plain = tempfile::tempdir().unwrap();
        let recipe =
            Base::new("PYTHON_3_13", &build(&[]), Vec::new()).recipe(plain.path(), "linux/arm64").unwrap();
        assert!(!fs::read_to_string(recipe.dockerfile).unwrap().contains("COPY"));
    }

    #[test]
    fn where_packages_come_from_reaches_their_build() {
        let directory = tempfile::tempdir().unwrap();
        let said = Build {
            network: Some("host".into()),
            ..build(&[("BASE_IMAGE", "own"), ("PIP_INDEX_URL", "http://u"), ("WORD", "w"), ("no_proxy", "*")])
        };
        let lists = vec![(PathBuf::from("requirements.txt"), Vec::new())];
        let recipe = Base::new("PYTHON_3_13", &said, lists).recipe(directory.path(), "linux/arm64").unwrap();
        assert_eq!(recipe.build_args, ["BASE_IMAGE=own", "PIP_INDEX_URL=http://u", "no_proxy=*"]);
        assert_eq!(recipe.network.as_deref(), Some("host"));
        let text = fs::read_to_string(recipe.dockerfile).unwrap();
        SOURCES.iter().filter(|name| name.starts_with("PIP_")).for_each(|name| {
            assert!(text.contains(&format!("\nARG {name}\n")), "{name}: {text}");
        });
    }

    #[test]
    fn a_build_with_a_localhost_of_its_own_is_told_from_others() {
        for (url, here) in [
            ("http://localhost:8080/simple", true),
            ("https://user:word@LOCALHOST/simple", true),
            ("http://127.0.0.9", true),
            ("http://[::1]:80/", true),
            ("https://example.com/localhost?x=http:/localhost", false),
            ("https://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("localhost", false),
            ("://", false),
        ] {
            let list = vec![(PathBuf::from("requirements.txt"), format!("a==1\n-i {url}\n").into_bytes())];
            let base = Base::new("PYTHON_3_13", &build(&[]), list.clone());
            assert_eq!(base.misses_localhost(), here, "{url}");
            let base = Base::new("PYTHON_3_13", &build(&[("PIP_EXTRA_INDEX_URL", url)]), Vec::new());
            assert_eq!(base.misses_localhost(), here, "{url}");
            let host = Build { network: Some("host".into()), ..Build::default() };
            assert!(!Base::new("PYTHON_3_13", &host, list).misses_localhost(), "{url}");
        }
    }
}

//! The image that code agents run on in containers: an interpreter, what the service's own environment has besides, and
//! the agent's packages. Made from `templates/base`, once for each content.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::dockerfile::{PACKAGES, base_dockerfile};
use super::{BuildError, Recipe};

/// The directory of the packages' lists in the build's context, as the template has it.
const LISTS: &str = "packages";

/// What such an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    text: String,
    from: String,
    lists: Vec<(PathBuf, Vec<u8>)>,
}

impl Base {
    /// For a `runtime` such as `PYTHON_3_13`, with the packages that these files of the project list. `from` replaces the
    /// image that it begins with.
    pub fn new(runtime: &str, from: Option<&str>, lists: Vec<(PathBuf, Vec<u8>)>) -> Self {
        let (text, usual) = base_dockerfile(runtime);
        let packages = if lists.is_empty() { "" } else { PACKAGES };
        Self { text: format!("{text}{packages}"), from: from.map_or(usual, str::to_owned), lists }
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
        Ok(Recipe {
            context: directory.to_owned(),
            dockerfile: write(directory.join("Dockerfile"), self.text.as_bytes())?,
            platform: platform.to_owned(),
            build_args: vec![format!("BASE_IMAGE={}", self.from)],
            load: true,
            ..Recipe::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_another_one_when_anything_of_it_is() {
        let lists = |text: &str| vec![(PathBuf::from("requirements.txt"), text.as_bytes().to_vec())];
        let all = [
            Base::new("PYTHON_3_13", None, Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", None, Vec::new()).hash(&["linux/amd64"]),
            Base::new("PYTHON_3_12", None, Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", Some("own"), Vec::new()).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", None, lists("a")).hash(&["linux/arm64"]),
            Base::new("PYTHON_3_13", None, lists("b")).hash(&["linux/arm64"]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(Base::new("PYTHON_3_13", None, lists("a")).hash(&["linux/arm64"]), all[4]);
    }

    #[test]
    fn the_context_has_the_lists_and_the_dockerfile_what_installs_them() {
        let directory = tempfile::tempdir().unwrap();
        let lists = vec![(PathBuf::from("sub/more.txt"), b"x".to_vec())];
        let recipe = Base::new("NODE_22", None, lists).recipe(directory.path(), "linux/arm64").unwrap();
        assert_eq!(fs::read(directory.path().join("packages/sub/more.txt")).unwrap(), b"x");
        let text = fs::read_to_string(recipe.dockerfile).unwrap();
        assert!(text.contains("pip install") && text.contains("COPY packages/"), "{text}");
        assert!(recipe.build_args[0].ends_with("node:22-slim"), "{:?}", recipe.build_args);
        let plain = tempfile::tempdir().unwrap();
        let recipe = Base::new("PYTHON_3_13", None, Vec::new()).recipe(plain.path(), "linux/arm64").unwrap();
        assert!(!fs::read_to_string(recipe.dockerfile).unwrap().contains("COPY"));
    }
}

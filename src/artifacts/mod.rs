//! The local store of code bundles: what `local deploy` writes and the emulator runs.
//!
//! A bundle is `<home>/artifacts/<hash>/` with `code/` (the agent's files) and `manifest.json`. The
//! hash is SHA-256 over both, so the same project is stored once and a changed one is a new bundle. In
//! `codeConfiguration` it stands as bucket [`BUCKET`] and prefix `<hash>`. Bundles that nothing names any more are deleted
//! ([`ArtifactStore::sweep`]).

use std::path::{Path, PathBuf};

mod images;
pub mod import;
pub mod lists;
mod pack;
pub mod package;
pub mod python;
mod sweep;

pub use images::{ImagesAlone, ImagesHeld};
pub use pack::{DockerIgnore, PackError, Packed, Stamp};
pub use sweep::{GRACE as SWEEP_GRACE, Swept};

use serde::{Deserialize, Serialize};

/// Bucket name under which the emulator's own store stands in `codeConfiguration.code.s3`.
pub const BUCKET: &str = "agentcore-local-artifacts";

/// What a bundle says beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Format of this file; [`Manifest::FORMAT`].
    pub format: u32,
    /// How the agent is started.
    pub launch: Launch,
    /// Host paths the session needs read-only at their own place: interpreter prefix, environment.
    #[serde(default)]
    pub read_only: Vec<PathBuf>,
    /// Added to the agent's environment before the runtime's own variables (`PATH`, `VIRTUAL_ENV`).
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// The container image with the interpreter and packages that the agent runs on, where it was packed for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Manifest {
    /// The format this program writes and reads.
    pub const FORMAT: u32 = 1;
}

/// How an agent is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Launch {
    /// This command, whatever `entryPoint` says.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// `entryPoint` run by this interpreter.
    Python {
        /// Absolute path of the interpreter (a virtual environment's one where there is one).
        interpreter: PathBuf,
    },
}

/// A bundle that exists and can be run.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Directory with the agent's files.
    pub code: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
}

/// The store below one emulator home.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    root: PathBuf,
}

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No bundle of this name.
    #[error("no code bundle `{0}` in the emulator's artifact store")]
    NotFound(String),
    /// The manifest cannot be read as one.
    #[error("the manifest of code bundle `{bundle}` is not valid: {reason}")]
    Manifest {
        /// The bundle.
        bundle: String,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl ArtifactStore {
    /// The store below the emulator home `home`.
    pub fn below(home: &Path) -> Self {
        Self { root: home.join("artifacts") }
    }

    /// Finds a bundle by the key that stands in `codeConfiguration`, and keeps it from sweeps for [`SWEEP_GRACE`]. Keys that
    /// are not a bundle's hash are unknown.
    pub fn find(&self, key: &str) -> Result<Bundle, ArtifactError> {
        let unknown = || ArtifactError::NotFound(key.to_owned());
        if !is_hash(key) {
            return Err(unknown());
        }
        match self.hold(key) {
            Ok(true) => {}
            Ok(false) => return Err(unknown()),
            Err(source) => {
                return Err(ArtifactError::Io { context: format!("keeping bundle `{key}`"), source });
            }
        }
        let directory = self.root.join(key);
        let text = match std::fs::read(directory.join("manifest.json")) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            Err(source) => {
                return Err(ArtifactError::Io { context: format!("reading bundle `{key}`"), source });
            }
        };
        let bad = |reason: String| ArtifactError::Manifest { bundle: key.to_owned(), reason };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if manifest.format != Manifest::FORMAT {
            return Err(bad(format!("format {} is not format {}", manifest.format, Manifest::FORMAT)));
        }
        Ok(Bundle { code: directory.join("code"), manifest })
    }

    /// Where bundles stand.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// True for what may be the name of a bundle.
fn is_hash(key: &str) -> bool {
    key.len() == 64 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(text: &[u8]) -> Result<Bundle, ArtifactError> {
        let home = tempfile::tempdir().unwrap();
        let store = ArtifactStore::below(home.path());
        let key = "0".repeat(64);
        std::fs::create_dir_all(store.root().join(&key)).unwrap();
        std::fs::write(store.root().join(&key).join("manifest.json"), text).unwrap();
        store.find(&key)
    }

    #[test]
    fn a_manifest_of_another_format_is_refused() {
        let text = |format| format!(r#"{{"format":{format},"launch":{{"kind":"command","argv":["x"]}}}}"#);
        assert!(find(text(Manifest::FORMAT).as_bytes()).is_ok());
        let error = find(text(Manifest::FORMAT + 1).as_bytes()).unwrap_err();
        assert!(matches!(error, ArtifactError::Manifest { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_manifest_is_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            at in 0_usize..80,
            byte in any::<u8>(),
        ) {
            let error = find(&bytes).unwrap_err();
            prop_assert!(matches!(error, ArtifactError::Manifest { .. }), "{error}");
            // A good one with a byte of it changed.
            let mut text = br#"{"format":1,"launch":{"kind":"python","interpreter":"/p"},"readOnly":["/a"]}"#.to_vec();
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
            match find(&text) {
                Ok(bundle) => prop_assert_eq!(bundle.manifest.format, Manifest::FORMAT),
                Err(e) => prop_assert!(matches!(e, ArtifactError::Manifest { .. }), "{e}"),
            }
        }

        #[test]
        fn any_key_is_found_or_unknown(key in "\\PC{0,70}|[./0-9a-f]{64}") {
            let home = tempfile::tempdir().unwrap();
            let error = ArtifactStore::below(home.path()).find(&key).unwrap_err();
            prop_assert!(matches!(error, ArtifactError::NotFound(_)), "{error}");
        }
    }
}

//! From a folder to an image: what goes into a build, what this machine has for it, and the run of
//! `docker buildx build` itself.
//!
//! The builds are Docker's: this room makes the command line, shows it, and reads what it says. It knows
//! files, processes and the project's values, nothing of the AWS SDK, of sessions or of a terminal; whoever
//! builds hands in the environment and gets events.

use std::path::{Path, PathBuf};

mod base;
mod builders;
mod context;
mod docker;
mod dockerfile;
mod image;
mod progress;
mod recipe;

pub use base::Base;
pub use builders::{BuilderChoice, Choice, emulation_missing, host_runs};
pub use context::{BuildContext, ContextState};
pub use docker::{Docker, DockerEnv, Engine, buildx_plugin};
pub use dockerfile::{Draft, IGNORE_FILE, Kind, needs_emulation};
pub use image::{Image, Remark, port_of};
pub use progress::{Event, StepState};
pub use recipe::{Recipe, shell_line};

use crate::artifacts::PackError;

/// The platform of the service. [guide: ARM64 only]
pub const SERVICE_PLATFORM: &str = "linux/arm64";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that a build needs is not there.
    #[error("{message}")]
    Missing {
        /// What is missing.
        message: String,
        /// The command that fixes it.
        fix: String,
    },
    /// The build failed.
    #[error("{message}")]
    Failed {
        /// The step and its error.
        message: String,
        /// The last lines of the step's output.
        log: Vec<String>,
    },
    /// Files that are secrets would go into the image.
    #[error("{} would go into the image", named(files))]
    Secrets {
        /// The files, below the context.
        files: Vec<PathBuf>,
        /// The file that decides what goes along.
        ignore_file: PathBuf,
    },
    /// No Dockerfile can be made for the project.
    #[error("no Dockerfile can be made for `{}`: {reason}", directory.display())]
    NoDockerfile {
        /// The source directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// The context cannot be read.
    #[error(transparent)]
    Context(#[from] PackError),
    /// The system refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, to what.
        context: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Files that are named one by one; of more there is a count. [ours]
const NAMED_FILES: usize = 3;

fn named(files: &[PathBuf]) -> String {
    let mut text: Vec<String> =
        files.iter().take(NAMED_FILES).map(|file| format!("`{}`", file.display())).collect();
    if files.len() > NAMED_FILES {
        text.push(format!("{} more", files.len() - NAMED_FILES));
    }
    text.join(", ")
}

fn io<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> BuildError + 'a {
    move |source| BuildError::Io { context: format!("{doing} `{}`", path.display()), source }
}

//! Changed code: what an edit of the project does to the sessions of its agent.
//!
//! `local invoke` and `local exec` look at names, sizes and times of the agent's files. Only when something
//! moved are they packed; only when the bundle is another one is the emulator told, which runs it in every
//! compute that starts from then on: the same version, with the storage kept. `local deploy` is what makes a
//! version.

use std::path::{Path, PathBuf};

use super::Local;
use super::admin::AdminError;
use super::deploy::{Prepared, builds_for_code, prepare, runtime_in_containers};
use super::image::{self, Held, has_packages};
use crate::artifacts::Stamp;
use crate::artifacts::lists::package_files;
use crate::aws::{Connection, RuntimeSummary};
use crate::cli::exit::Failure;
use crate::cli::memory::{Memory, Seen};
use crate::model::{RuntimeId, Version};
use crate::project::{Agent, AgentLaunch, Project};
use crate::wire::admin::{ChangeSource, SourceChanged, Status};

/// The state of everything that a bundle of `agent` is made from, and the image that it runs on where that is built for it.
pub(crate) fn stamp(
    local: &Local<'_>,
    status: &Status,
    project: &Project,
    agent: &Agent,
) -> Result<Stamp, Failure> {
    look(local.home.path(), builds_for_code(status), project, agent)
}

fn look(home: &Path, image: bool, project: &Project, agent: &Agent) -> Result<Stamp, Failure> {
    if agent.runs_image() {
        let (digest, fresh) = image::stamp(project, agent)?;
        return Ok(Stamp::made(digest, fresh));
    }
    let environment = |directory: &Path| directory.join(".venv/pyvenv.cfg");
    let mut also: Vec<PathBuf> =
        vec![environment(&agent.source), environment(project.root()), project.file.clone()];
    if image && has_packages(&runtime_in_containers(agent)) {
        // Whatever ignores them for the bundle.
        also.extend(package_files(&agent.source, home)?);
    }
    let also: Vec<_> = also.iter().map(PathBuf::as_path).collect();
    let argv = match &agent.launch {
        AgentLaunch::Command { argv } => argv.as_slice(),
        AgentLaunch::Python { .. } | AgentLaunch::Image => &[],
    };
    Ok(Stamp::of(&agent.source, home, argv, &also)?)
}

/// What is remembered of an agent's code that the emulator has been told. An emulator that runs it elsewhere, or images of
/// another platform, is told anew.
pub(crate) fn seen(status: &Status, runtime: &RuntimeSummary, stamp: &Stamp, image: Option<&Held>) -> Seen {
    Seen {
        runtime: runtime.id.clone(),
        version: runtime.version.clone(),
        stamp: format!(
            "{} {} {} {}",
            stamp.as_str(),
            status.engine,
            status.platform,
            status.base_image.as_deref().unwrap_or_default()
        ),
        image: image.map(|image| image.name.clone()),
    }
}

impl Local<'_> {
    /// Sees to it that computes of the agent run the code that is in the project now. With `restart`, those
    /// that run other code are started again. Nothing: there was nothing new to look at.
    pub(crate) async fn follow_source(
        &self,
        status: &Status,
        project: &Project,
        agent: &Agent,
        connection: &Connection,
        runtime: &RuntimeSummary,
        restart: bool,
    ) -> Result<Option<SourceChanged>, Failure> {
        let stamp = stamp(self, status, project, agent)?;
        let memory = Memory::of(&self.home, project.root());
        if let Some(before) = memory.seen(agent.name.as_str()).filter(|_| !restart) {
            let same = Seen { image: before.image.clone(), ..seen(status, runtime, &stamp, None) } == before;
            // Whoever removed the image did not tell.
            let gone = match &before.image {
                Some(image) if same => self.image_is_gone(image).await,
                _ => false,
            };
            if same && !gone {
                return Ok(None);
            }
        }
        let control = connection.control();
        control.wait_ready(&runtime.id).await?;
        let Prepared { settings, image, .. } = prepare(self, status, project, agent, false).await?;
        let difference = control.compare(&runtime.id, &settings).await?;
        if difference.settings {
            self.context.ui.warn(format!(
                "the settings in `{}` are not those of version {}: `agentcore local deploy` applies them, \
                 with empty storage",
                project.file.display(),
                runtime.version
            ));
        }
        if difference.kind {
            // Code in place of an image, or an image in place of code, is a version of its own.
            return Ok(None);
        }
        let change = match self.tell(runtime, settings.artifact.source(), restart).await {
            Ok(change) => change,
            // Somebody deploys at this moment, so what the project holds is looked at again next time.
            Err(AdminError::Refused { status: 409, .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if !stamp.fresh {
            memory.see(agent.name.as_str(), seen(status, runtime, &stamp, image.as_ref()))?;
        }
        self.named(image).await;
        Ok(Some(change))
    }

    /// Tells the emulator the bundle that the version's computes run from now on.
    pub(crate) async fn tell(
        &self,
        runtime: &RuntimeSummary,
        bundle: &str,
        restart: bool,
    ) -> Result<SourceChanged, AdminError> {
        let broken = |what: &str, e: &dyn std::fmt::Display| AdminError::Broken(format!("`{what}`: {e}"));
        let id: RuntimeId = runtime.id.parse().map_err(|e| broken(&runtime.id, &e))?;
        let version: Version = runtime.version.parse().map_err(|e| broken(&runtime.version, &e))?;
        self.admin().change_source(&id, &ChangeSource { version, bundle: bundle.to_owned(), restart }).await
    }

    /// Says what a change of the code means for the sessions that run.
    pub(crate) fn note_source(&self, agent: &Agent, runtime: &RuntimeSummary, change: &SourceChanged) {
        if !change.changed {
            return;
        }
        let running = match change.outdated {
            0 => String::new(),
            1 => "; the running one keeps the old code until `agentcore local stop`".to_owned(),
            n => format!("; the {n} running ones keep the old code until `agentcore local stop`"),
        };
        self.context.ui.note(format!(
            "the code of `{}` has changed: sessions use it from their next start, in version {} with their \
             storage{running}",
            agent.name, runtime.version
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_package_of_the_image_is_looked_at_though_the_bundle_has_it_not() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |file: &str, text: &str| {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write(
            ".bedrock_agentcore.yaml",
            "default_agent: a\nagents:\n  a:\n    name: a\n    entrypoint: main.py\n",
        );
        write("main.py", "");
        write("requirements.txt", "-f wheels\nown\n");
        write(".gitignore", "*.whl\n");
        write("wheels/own-1-py3-none-any.whl", "one");
        let project = Project::load(None, dir.path()).unwrap();
        let agent = project.agent(None).unwrap();
        let stamps = || {
            let stamp = |image| look(home.path(), image, &project, agent).unwrap().as_str().to_owned();
            (stamp(false), stamp(true))
        };
        let before = stamps();
        assert_eq!(stamps(), before);
        // Of another size: times may stand still.
        write("wheels/own-1-py3-none-any.whl", "another");
        let after = stamps();
        assert_eq!(after.0, before.0);
        assert_ne!(after.1, before.1);
        write("wheels/more-1-py3-none-any.whl", "");
        assert_ne!(stamps().1, after.1);
    }
}

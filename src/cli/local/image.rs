//! Agents that are images: built when what they are made of has changed, under a name that says of what.
//!
//! The name is that of a repository in ECR, which is what a runtime can be given, with a hash over the build's
//! context as its tag. So the same project has the same name, a changed one has another, and whether it was built
//! is asked of Docker alone: nothing of it is kept elsewhere. Code that runs in containers has such an image too, with
//! its interpreter and packages. The emulator's home goes into the hash: no home removes what another one runs.

use std::io;
use std::time::{Duration, Instant};

use super::Local;
use crate::artifacts::lists::package_lists;
use crate::artifacts::{ArtifactStore, ImagesAlone, ImagesHeld};
use crate::build::{Base, BuildContext, Docker};
use crate::cli::build::{Consent, Order, platform_of, repository};
use crate::cli::exit::Failure;
use crate::engine::docker::{home_id, of_image};
use crate::model::{AccountId, Region};
use crate::project::{Agent, Project};
use crate::wire::admin::Status;

/// Repositories of images that were built for an emulator.
const REPOSITORY: &str = "agentcore-local";
/// Digits of the hash in a tag. [ours]
const TAG_DIGITS: usize = 20;
/// Time between two looks whether nobody builds or removes images any more.
const IMAGES_POLL: Duration = Duration::from_millis(50);
/// How long that is waited for in silence. [ours]
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// Where images of an emulator belong: the registry that its account would have.
pub(crate) struct Registry {
    pub(crate) region: Region,
    pub(crate) account: AccountId,
    /// `linux/arm64`, or `native`.
    pub(crate) platform: String,
    /// Id of the emulator's home.
    pub(crate) home: String,
}

impl Registry {
    /// That of the running emulator.
    pub(crate) fn of(status: &Status) -> Result<Self, Failure> {
        let home = home_id(status.home.as_ref())
            .map_err(|e| Failure::failed(format!("the id of `{}` cannot be kept: {e}", status.home)))?;
        let broken = |text: &str, e: &dyn std::fmt::Display| Failure::failed(format!("`{text}`: {e}"));
        Ok(Self {
            region: status.region.parse().map_err(|e| broken(&status.region, &e))?,
            account: status.account.parse().map_err(|e| broken(&status.account, &e))?,
            platform: status.platform.clone(),
            home,
        })
    }

    fn image(&self, agent: &str, hash: &str) -> String {
        let tag = hash.get(..TAG_DIGITS).unwrap_or(hash);
        let Self { region, account, .. } = self;
        format!("{account}.dkr.ecr.{region}.amazonaws.com/{REPOSITORY}/{}:{tag}", repository(agent))
    }
}

/// How the context of the agent's image looks, and whether that is a proof for later.
pub(crate) fn stamp(project: &Project, agent: &Agent) -> Result<(String, bool), Failure> {
    let order = Order::of(project, agent, None)?;
    // The platform is the emulator's, and kept beside the stamp.
    let words = order.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let context = BuildContext::open(&order.recipe.context, &order.recipe.dockerfile)?;
    let state = context.state(&words, &[&project.file])?;
    Ok((state.stamp, state.fresh))
}

/// Whether the image for code of such a runtime has the packages that the agent lists.
pub(crate) fn has_packages(runtime: &str) -> bool {
    runtime.starts_with("PYTHON")
}

/// An image that is there, and the promise that it stays until this is dropped: by then a version or a session names it.
pub(crate) struct Held {
    pub(crate) name: String,
    /// It was not there before.
    built: bool,
    _lock: ImagesHeld,
}

impl Local<'_> {
    /// The image of the agent as the project is now; built where Docker does not have it.
    pub(crate) async fn image(
        &self,
        project: &Project,
        agent: &Agent,
        registry: &Registry,
    ) -> Result<Held, Failure> {
        let mut order = Order::of(project, agent, Some(&registry.platform))?;
        if !order.recipe.dockerfile.is_file() {
            let message = format!("there is no `{}`", order.recipe.dockerfile.display());
            return Err(Failure::failed(message).hint(
                "`agentcore build --yes` writes one; `deployment_type: direct_code_deploy` in the project file runs the \
                 code without an image",
            ));
        }
        let hash = order.hash(&[&registry.home])?;
        order.recipe.labels = of_image(&registry.home, agent.name.as_str());
        let note = format!("building the image of `{}`", agent.name);
        let held = self.built(&mut order, registry.image(agent.name.as_str(), &hash), &note).await?;
        if held.built
            && let Err(changed) = order.check_unchanged(&hash, &[&registry.home])
        {
            Docker::find(self.context.env.docker())?.untag(&held.name).await?;
            return Err(changed);
        }
        Ok(held)
    }

    /// The image that code of the agent runs on in containers, with its packages; built where Docker does not have it.
    pub(crate) async fn base(
        &self,
        agent: &Agent,
        runtime: &str,
        registry: &Registry,
    ) -> Result<Held, Failure> {
        let lists = match has_packages(runtime) {
            true => package_lists(&agent.source, self.home.path())?,
            false => Vec::new(),
        };
        let base = Base::new(runtime, &agent.build, lists);
        let platform = platform_of(Some(&registry.platform))?;
        let name = registry.image(&format!("{}-base", agent.name), &base.hash(&[&platform, &registry.home]));
        let scratch = tempfile::Builder::new().prefix("agentcore-base-").tempdir();
        let scratch = scratch.map_err(|e| Failure::failed(format!("no temporary directory: {e}")))?;
        let mut recipe = base.recipe(scratch.path(), &platform)?;
        recipe.labels = of_image(&registry.home, agent.name.as_str());
        let note = format!("building the image that `{}` runs on in containers", agent.name);
        let built = self.built(&mut Order::of_base(agent, recipe), name, &note).await;
        built.map_err(|failure| match failure.hint {
            None if base.misses_localhost() => failure.hint(
                "packages are to come from `localhost`, and a build has one of its own; `build: {network: host}` in the \
                 project file gives it this machine's",
            ),
            _ => failure,
        })
    }

    /// The image of that name; built where Docker does not have it.
    async fn built(&self, order: &mut Order, name: String, note: &str) -> Result<Held, Failure> {
        let removing = "waiting until images that nothing needs any more are removed";
        let lock = self.lock_images(removing, ArtifactStore::try_hold_images).await?;
        let docker = Docker::find(self.context.env.docker())?;
        docker.engine().await?;
        if docker.image(&name).await?.is_some() {
            return Ok(Held { name, built: false, _lock: lock });
        }
        self.context.ui.note(note);
        order.recipe.tags = vec![name.clone()];
        // The result is another command's: what the build does is talk.
        order.run(self.context, Consent::Refused, false).await?;
        Ok(Held { name, built: true, _lock: lock })
    }

    /// True when Docker has answered that there is no image of that name.
    pub(crate) async fn image_is_gone(&self, name: &str) -> bool {
        match Docker::find(self.context.env.docker()) {
            Ok(docker) => matches!(docker.image(name).await, Ok(None)) && docker.engine().await.is_ok(),
            Err(_) => false,
        }
    }

    /// Lets go of an image that a version or a session names by now, and has those removed that it took the place of.
    pub(crate) async fn named(&self, image: Option<Held>) {
        let built = image.as_ref().is_some_and(|image| image.built);
        drop(image);
        if built && let Err(e) = self.prune_images().await {
            self.context.ui.warn(format!("images that nothing needs any more are left: {}", e.message));
        }
    }

    /// Has the emulator remove the images built here that nothing needs; none while somebody builds one, which nothing names
    /// yet. It sees to that itself, and goes on when this process ends.
    pub(crate) async fn prune_images(&self) -> Result<usize, Failure> {
        Ok(self.admin().prune_images().await?.images)
    }

    /// The right to remove images, where no emulator runs that would do it; waits until nobody builds one.
    pub(super) async fn own_images(&self) -> Result<ImagesAlone, Failure> {
        let building = "waiting until an image that is being built here is done";
        self.lock_images(building, ArtifactStore::own_images).await
    }

    /// Asks for the images until they are given, so that Ctrl-C ends the wait; says what it waits for once that takes long.
    async fn lock_images<T>(
        &self,
        waiting: &str,
        ask: impl Fn(&ArtifactStore) -> io::Result<Option<T>>,
    ) -> Result<T, Failure> {
        let (store, begun, mut told) = (self.image_store(), Instant::now(), false);
        loop {
            if let Some(given) = ask(&store).map_err(self.home.unusable())? {
                return Ok(given);
            }
            if !told && begun.elapsed() >= SILENT_WAIT {
                self.context.ui.note(waiting);
                told = true;
            }
            tokio::time::sleep(IMAGES_POLL).await;
        }
    }

    fn image_store(&self) -> ArtifactStore {
        ArtifactStore::below(self.home.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_service_takes_for_an_image() {
        let registry = Registry {
            region: "eu-west-1".parse().unwrap(),
            account: "123456789012".parse().unwrap(),
            platform: "linux/arm64".into(),
            home: String::new(),
        };
        // RuntimeContainerUri of the service's model.
        let pattern = regex::Regex::new(
            r"^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*)(?::([^:@]{1,300}))$",
        )
        .unwrap();
        for agent in ["coder", "My_Agent__2_", "a", "A_b_C"] {
            let name = registry.image(agent, &"0123456789abcdef".repeat(4));
            assert!(pattern.is_match(&name), "{name}");
        }
        assert_eq!(
            registry.image("My_Agent", &"ab".repeat(32)),
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/agentcore-local/my-agent:abababababababababab"
        );
    }
}

//! Agents that are images: built when what they are made of has changed, under a name that says of what.
//!
//! The name is that of a repository in ECR, which is what a runtime can be given, with a hash over the build's
//! context as its tag. So the same project has the same name, a changed one has another, and whether it was built
//! is asked of Docker alone: nothing of it is kept elsewhere.

use super::Local;
use crate::build::{BuildContext, Docker};
use crate::cli::build::{Consent, Order, repository};
use crate::cli::exit::Failure;
use crate::model::{AccountId, Region};
use crate::project::{Agent, Project};
use crate::wire::admin::Status;

/// Repositories of images that were built for an emulator.
const REPOSITORY: &str = "agentcore-local";
/// Digits of the hash in a tag. [ours]
const TAG_DIGITS: usize = 20;
/// Labels by which the images are found: `docker images --filter label=…`.
const AGENT_LABEL: &str = "agentcore.agent";

/// Where images of an emulator belong: the registry that its account would have.
pub(crate) struct Registry {
    pub(crate) region: Region,
    pub(crate) account: AccountId,
    /// `linux/arm64`, or `native`.
    pub(crate) platform: String,
}

impl Registry {
    /// That of the running emulator.
    pub(crate) fn of(status: &Status) -> Result<Self, Failure> {
        let broken = |text: &str, e: &dyn std::fmt::Display| Failure::failed(format!("`{text}`: {e}"));
        Ok(Self {
            region: status.region.parse().map_err(|e| broken(&status.region, &e))?,
            account: status.account.parse().map_err(|e| broken(&status.account, &e))?,
            platform: status.platform.clone(),
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
    let words = order.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let context = BuildContext::open(&order.recipe.context, &order.recipe.dockerfile)?;
    let state = context.state(&words, &[&project.file])?;
    Ok((state.stamp, state.fresh))
}

impl Local<'_> {
    /// The name of the agent's image as the project is now; built where Docker does not have it.
    pub(crate) async fn image(
        &self,
        project: &Project,
        agent: &Agent,
        registry: &Registry,
    ) -> Result<String, Failure> {
        let ui = &self.context.ui;
        let mut order = Order::of(project, agent, Some(&registry.platform))?;
        order.recipe.labels = vec![format!("{AGENT_LABEL}={}", agent.name)];
        if !order.recipe.dockerfile.is_file() {
            let message = format!("there is no `{}`", order.recipe.dockerfile.display());
            return Err(Failure::failed(message).hint(
                "`agentcore build --yes` writes one; `deployment_type: direct_code_deploy` in the project file runs the \
                 code without an image",
            ));
        }
        let name = registry.image(agent.name.as_str(), &order.hash()?);
        let docker = Docker::find(self.context.env.docker())?;
        docker.engine().await?;
        if docker.image(&name).await?.is_some() {
            return Ok(name);
        }
        ui.note(format!("building the image of `{}`", agent.name));
        order.recipe.tags = vec![name.clone()];
        // The result is another command's: what the build does is talk.
        order.run(self.context, Consent::Refused, false).await?;
        Ok(name)
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

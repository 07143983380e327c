//! The image of a deployment: built as `agentcore build` does it, and brought to its registry.

use crate::build::Docker;
use crate::cli::Context;
use crate::cli::build::{Consent, Order, repository};
use crate::cli::exit::Failure;
use crate::ops::ports::{BuildError, Builder, LocalImage, RegistryLogin};
use crate::project::{Agent, Project};

/// Builds the agent's image for the service on this machine. What the build does is talk.
pub(super) async fn build(
    context: &Context,
    project: &Project,
    agent: &Agent,
) -> Result<LocalImage, Failure> {
    let mut order = Order::of(project, agent, None)?;
    if !order.recipe.dockerfile.is_file() {
        let message =
            format!("there is no `{}` to build the agent's image from", order.recipe.dockerfile.display());
        return Err(Failure::failed(message).hint(
            "`agentcore build --yes` writes one; `--image URI` deploys a ready one; `deployment_type: \
             direct_code_deploy` deploys the code without an image",
        ));
    }
    let name = format!("agentcore/{}", repository(agent.name.as_str()));
    order.recipe.tags = vec![name.clone()];
    context.ui.note(format!("building the image of `{}`", agent.name));
    let built = order.run(context, Consent::Refused, false).await?;
    let Some(image) = built.image else {
        let message = format!("the image `{name}` was built and Docker's engine does not have it");
        return Err(
            Failure::failed(message).hint("`docker buildx use default` chooses the engine's own builder")
        );
    };
    Ok(LocalImage { reference: name, id: image.id })
}

/// Docker, as the one who pushes.
pub(super) struct Pusher<'a> {
    pub(super) context: &'a Context,
}

impl Builder for Pusher<'_> {
    async fn push(&self, image: &LocalImage, name: &str, login: &RegistryLogin) -> Result<(), BuildError> {
        let docker = Docker::find(self.context.env.docker()).map_err(told)?;
        // By its id: its name may have been given to another one since.
        let pushed = docker.push_with(&image.id, name, &login.registry, &login.user, &login.password);
        pushed.await.map_err(told)
    }
}

fn told(error: crate::build::BuildError) -> BuildError {
    let failure = Failure::from(error);
    BuildError {
        details: failure.detail_lines().to_vec(),
        hint: failure
            .hint
            .or_else(|| Some("what was done until then is kept; run the command again to go on".into())),
        message: failure.message,
    }
}

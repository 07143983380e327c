//! The image of a deployment: known by what it is made of, built as `agentcore build` does it, brought to its registry.

use crate::build::Docker;
use crate::cli::Context;
use crate::cli::build::{Consent, Order, repository};
use crate::cli::exit::Failure;
use crate::ops::ports::{BuildError, Builder, LocalImage, RegistryLogin};
use crate::project::{Agent, Project};

/// An image that is to be made where the registry does not have it.
pub(super) struct Planned {
    pub(super) image: LocalImage,
    order: Box<Order>,
}

impl Planned {
    /// What the project's image is made of, as it is now. Nothing of Docker is needed yet.
    pub(super) fn of(
        context: &Context,
        project: &Project,
        agent: &Agent,
        force: bool,
    ) -> Result<Self, Failure> {
        let mut order = Order::of(project, agent, None)?;
        if !order.recipe.dockerfile.is_file() {
            let file = order.recipe.dockerfile.display();
            let message = format!("there is no `{file}` to build the agent's image from");
            return Err(Failure::failed(message).hint(
                "`agentcore build --yes` writes one; `--image URI` deploys a ready one; `deployment_type: \
                 direct_code_deploy` deploys the code without an image",
            ));
        }
        order.keep_secrets_out(&context.ui, Consent::Refused)?;
        let name = format!("agentcore/{}", repository(agent.name.as_str()));
        let hash = order.hash(&[])?;
        order.recipe.tags = vec![name.clone()];
        // Whoever wants it made anew wants what it stands on anew.
        order.recipe.pull = force;
        Ok(Self { image: LocalImage { reference: name, hash }, order: Box::new(order) })
    }

    /// Builds it on this machine; gives its id. What the build does is talk.
    pub(super) async fn build(&mut self, context: &Context) -> Result<String, Failure> {
        let name = &self.image.reference;
        context.ui.note(format!("building the image `{name}`"));
        let built = self.order.run(context, Consent::Refused, false).await?.image;
        self.order.check_unchanged(&self.image.hash, &[])?;
        match built {
            Some(image) => Ok(image.id),
            None => {
                let message = format!("the image `{name}` was built and Docker's engine does not have it");
                Err(Failure::failed(message)
                    .hint("`docker buildx use default` chooses the engine's own builder"))
            }
        }
    }
}

/// Docker, as the one who pushes what was built.
pub(super) struct Pusher<'a> {
    pub(super) context: &'a Context,
    /// The image's id: its name may have been given to another one since.
    pub(super) built: Option<String>,
}

impl Builder for Pusher<'_> {
    async fn push(&self, image: &LocalImage, name: &str, login: &RegistryLogin) -> Result<(), BuildError> {
        let docker = Docker::find(self.context.env.docker()).map_err(told)?;
        let built = self.built.as_ref().unwrap_or(&image.reference);
        let pushed = docker.push_with(built, name, &login.registry, &login.user, &login.password);
        pushed.await.map_err(told)
    }
}

fn told(error: crate::build::BuildError) -> BuildError {
    let failure = Failure::from(error);
    let again = || "what was done until then is kept; run the command again to go on".to_owned();
    BuildError {
        details: failure.detail_lines().to_vec(),
        hint: failure.hint.or_else(|| Some(again())),
        message: failure.message,
    }
}

//! AWS as the place of a verb: which runtime, with whose credentials, and what is said before anything
//! leaves this machine.

use clap::builder::NonEmptyStringValueParser;

use super::Context;
use super::exit::{Failure, Outcome};
use super::local::Home;
use super::memory::Memory;
use super::target::{Place, Target};
use crate::aws::{CloudSettings, Connection};
use crate::model::{Region, RuntimeArn};
use crate::project::ProjectError;

/// Options of every verb that works in AWS.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Target")]
pub(crate) struct CloudOptions {
    /// Any runtime, by its ARN [default: the one that the project's agent was deployed to]
    #[arg(long, value_name = "ARN", conflicts_with = "agent")]
    pub(crate) arn: Option<RuntimeArn>,
    /// AWS Region [default: the runtime's own]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<Region>,
    /// Profile of your AWS configuration
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) profile: Option<String>,
    /// Where the service is instead of AWS's own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) endpoint_url: Option<String>,
    /// Token of the runtime's identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]
    #[arg(long, value_name = "TOKEN", conflicts_with = "profile", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) bearer_token: Option<String>,
}

/// A verb with the options that place it in AWS.
#[derive(clap::Args)]
pub(crate) struct OnCloud<A: clap::Args> {
    #[command(flatten)]
    options: CloudOptions,
    #[command(flatten)]
    verb: A,
}

impl<A: clap::Args> OnCloud<A> {
    /// Runs the verb.
    pub(crate) fn run(self, context: &Context, exec: impl FnOnce(A, &Place<'_>) -> Outcome) -> Outcome {
        exec(self.verb, &Place::Cloud(Cloud { context, options: self.options }))
    }
}

/// AWS, as the command line means it.
pub(crate) struct Cloud<'a> {
    pub(crate) context: &'a Context,
    pub(crate) options: CloudOptions,
}

impl Cloud<'_> {
    /// The runtime of `--arn`, or the one that the project's agent was deployed to.
    pub(crate) async fn target(&self) -> Result<Target, Failure> {
        let target = self.chosen()?;
        let connection = self.connect(&target.arn.region, Some(&target.arn)).await?;
        Ok(Target { connection, arn: target.arn, agent: target.agent, memory: Some(target.memory) })
    }

    /// The same without a connection; nothing leaves the machine.
    pub(crate) fn chosen(&self) -> Result<Chosen, Failure> {
        let home = Home::new(self.context.env.home()?);
        let (arn, agent, memory) = match &self.options.arn {
            Some(arn) => {
                let agent = arn.id.name().to_owned();
                let memory = Memory::of_cloud(&home, std::path::Path::new(&arn.to_string()));
                (arn.clone(), agent, memory)
            }
            None => {
                let Some(project) = self.context.project()? else {
                    let from = self.context.env.directory()?;
                    return Err(Failure::from(ProjectError::NotFound { from })
                        .hint("name a runtime with `--arn`, or run this in a project"));
                };
                let agent = project.agent(self.context.globals.agent.as_deref())?;
                let Some(text) = &agent.deployed.arn else {
                    let message = format!(
                        "agent `{}` has not been deployed: `{}` has no `bedrock_agentcore.agent_arn` for it",
                        agent.name,
                        project.file.display()
                    );
                    return Err(Failure::new(super::exit::Class::Project, message)
                        .hint("run `agentcore deploy`, or name a runtime with `--arn`"));
                };
                let arn: RuntimeArn = text.parse().map_err(|e| {
                    let message = format!("`agent_arn` of agent `{}`: {e}", agent.name);
                    Failure::new(super::exit::Class::Project, message)
                })?;
                (arn, agent.name.to_string(), Memory::of_cloud(&home, project.root()))
            }
        };
        if let Some(region) = self.options.region.as_ref().filter(|r| **r != arn.region) {
            return Err(Failure::usage(format!(
                "`--region {region}` is not the region of the runtime, `{}`",
                arn.region
            ))
            .hint("leave `--region` out: the runtime's ARN names it"));
        }
        Ok(Chosen { arn, agent, memory })
    }

    /// A connection; account and region are told first.
    pub(crate) async fn connect(
        &self,
        region: &Region,
        runtime: Option<&RuntimeArn>,
    ) -> Result<Connection, Failure> {
        let env = &self.context.env;
        let at = self.options.endpoint_url.as_ref().or(env.data_endpoint.as_ref());
        let at = at.map(|url| format!(" at {url}")).unwrap_or_default();
        let profile = self.options.profile.as_ref().map(|p| format!(", profile {p}")).unwrap_or_default();
        if let Some(arn) = runtime {
            let note = format!("account {}, region {region}{profile}: runtime {}{at}", arn.account, arn.id);
            self.context.ui.note(note);
        }
        if let Some(token) = self.bearer_token()? {
            let endpoint = self.options.endpoint_url.clone();
            let endpoint = endpoint.or_else(|| env.data_endpoint.clone());
            let (network, profile) = (env.network(), self.options.profile.as_deref());
            let connection = Connection::bearer(token, region, endpoint, &network, profile).await?;
            return Ok(connection.telling(self.context.ui.listener()));
        }
        let settings = CloudSettings {
            profile: self.options.profile.clone(),
            region: Some(region.to_string()),
            endpoint_url: self.options.endpoint_url.clone(),
            path_style: env.own_endpoints,
            network: env.network(),
        };
        let connection = Connection::cloud(settings).await?.with_shells_at(env.data_endpoint.clone());
        Ok(connection.telling(self.context.ui.listener()))
    }

    /// A connection to the region that the command line, the project or the user's AWS set-up names.
    pub(crate) async fn anywhere(&self) -> Result<Connection, Failure> {
        let of_project = || {
            let project = self.context.project().ok()??;
            let agent = project.agent(self.context.globals.agent.as_deref()).ok()?;
            let account = agent.aws.account.clone();
            agent.aws.region.clone().map(|region| (region, account))
        };
        let (region, account) = match (&self.options.arn, &self.options.region) {
            (Some(arn), _) => (Some(arn.region.to_string()), Some(arn.account.to_string())),
            (None, Some(region)) => (Some(region.to_string()), None),
            (None, None) => of_project().map_or((None, None), |(region, account)| (Some(region), account)),
        };
        let settings = CloudSettings {
            profile: self.options.profile.clone(),
            region,
            endpoint_url: self.options.endpoint_url.clone(),
            network: self.context.env.network(),
            ..CloudSettings::default()
        };
        let connection = Connection::cloud(settings).await?;
        let profile = self.options.profile.as_ref().map(|p| format!(", profile {p}")).unwrap_or_default();
        let account = account.unwrap_or_else(|| "of your credentials".to_owned());
        let at = self.options.endpoint_url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
        self.context.ui.note(format!("account {account}, region {}{profile}{at}", connection.region()));
        Ok(connection.telling(self.context.ui.listener()))
    }

    /// True when a token is sent instead of a signature.
    pub(crate) fn has_token(&self) -> bool {
        let from_env = self.context.env.bearer_token.is_some() && self.options.profile.is_none();
        self.options.bearer_token.is_some() || from_env
    }

    fn bearer_token(&self) -> Result<Option<String>, Failure> {
        let env = &self.context.env;
        let given = self.options.bearer_token.as_deref();
        let token = match given.and_then(|t| t.strip_prefix('@')) {
            Some(file) => Some(std::fs::read_to_string(env.directory()?.join(file)).map_err(|e| {
                Failure::failed(format!("the bearer token cannot be read from `{file}`: {e}"))
            })?),
            None => given.map(str::to_owned).or_else(|| {
                let profile = self.options.profile.is_some();
                env.bearer_token.clone().filter(|_| !profile)
            }),
        };
        let Some(token) = token.map(|t| t.trim().to_owned()) else { return Ok(None) };
        // The value itself is a secret, so no message shows it.
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::usage("the bearer token is empty or has characters that no token has"));
        }
        Ok(Some(token))
    }
}

/// A runtime that was chosen and not yet called.
pub(crate) struct Chosen {
    pub(crate) arn: RuntimeArn,
    pub(crate) agent: String,
    pub(crate) memory: Memory,
}

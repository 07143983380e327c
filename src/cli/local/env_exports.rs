//! `local env`: what a script needs so that its SDK talks to the emulator.

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::Local;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::model::AccessKey;
use crate::wire::admin::Status;

/// Print the variables that point SDKs at the emulator: eval "$(agentcore local env)"
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eval \"$(agentcore local env)\"")]
pub(crate) struct EnvArgs {
    /// Whose syntax to use
    #[arg(long, value_enum, default_value_t)]
    shell: ShellChoice,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ShellChoice {
    /// sh, bash, zsh
    #[default]
    Posix,
    Fish,
    Powershell,
}

impl EnvArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        local.context.block_on(async {
            let status = local.ensure_running().await?;
            let variables =
                variables(&status, (!local.context.env.has_credentials).then_some(local.home.access_key()?));
            let mut lines = Vec::new();
            for (name, value) in &variables {
                let value = shlex::try_quote(value)
                    .map_err(|e| Failure::failed(format!("`{name}` cannot be written for a shell: {e}")))?;
                lines.push(match self.shell {
                    ShellChoice::Posix => format!("export {name}={value}"),
                    ShellChoice::Fish => format!("set -gx {name} {value}"),
                    ShellChoice::Powershell => format!("$env:{name} = '{}'", value.trim_matches('\'')),
                });
            }
            let map: Map<_, _> =
                variables.into_iter().map(|(k, v)| (k.to_owned(), Value::String(v))).collect();
            local.context.ui.result(&map, lines.join("\n"))?;
            Ok(OK)
        })
    }
}

/// The variables; the emulator's own key only where the user has no credentials that it would replace.
fn variables(status: &Status, key: Option<AccessKey>) -> Vec<(&'static str, String)> {
    let endpoint = || status.endpoint.clone();
    let mut variables = vec![
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", endpoint()),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", endpoint()),
        // The old toolkit's names for the control and the data plane.
        ("BEDROCK_AGENTCORE_CP_ENDPOINT", endpoint()),
        ("BEDROCK_AGENTCORE_DP_ENDPOINT", endpoint()),
        ("AWS_REGION", status.region.clone()),
        ("AWS_DEFAULT_REGION", status.region.clone()),
    ];
    if let Some(key) = key {
        // SDKs refuse to send a request without any.
        variables.push(("AWS_ACCESS_KEY_ID", key.access_key_id));
        variables.push(("AWS_SECRET_ACCESS_KEY", key.secret_access_key));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_key_never_replaces_real_credentials() {
        let status = Status {
            version: "0".into(),
            pid: 1,
            endpoint: "http://127.0.0.1:8642".into(),
            home: "/h".into(),
            engine: "embedded".into(),
            not_isolated: Vec::new(),
            region: "us-west-2".into(),
            account: "000000000000".into(),
            platform: "linux/arm64".into(),
            base_image: None,
            network: "on".to_owned(),
            network_allow: Vec::new(),
            agent_calls: false,
            aws_identity: "none".to_owned(),
            started_at: "now".into(),
            runtimes: 0,
            live_sessions: 0,
            sessions: 0,
            clock_offset_seconds: 0,
        };
        let names = |key| variables(&status, key).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert!(names(Some(AccessKey::random())).contains(&"AWS_ACCESS_KEY_ID"));
        assert!(!names(None).iter().any(|n| n.contains("KEY")));
        assert!(names(None).contains(&"BEDROCK_AGENTCORE_DP_ENDPOINT"));
    }
}

//! The image that code agents run on where the host itself gives them no session: made from `templates/base`, once
//! for each content of it.

use std::fs;

use sha2::{Digest, Sha256};

use super::docker::Docker;
use super::dockerfile::base_dockerfile;
use super::{BuildError, Event, Recipe};

/// The name that an emulator takes where it is told no other.
pub const BASE_IMAGE: &str = "agentcore-base:latest";
/// The label that says what it was made of.
const CONTENT_LABEL: &str = "agentcore.base";

impl Docker {
    /// Sees to it that the engine has the base `name`, as a rule [`BASE_IMAGE`], for a `runtime` such as `PYTHON_3_13`,
    /// made of what this program has for it. `from` replaces the image that it begins with. True: it was built.
    pub async fn ensure_base(
        &self,
        name: &str,
        runtime: &str,
        platform: &str,
        from: Option<&str>,
        each: impl FnMut(&Event),
    ) -> Result<bool, BuildError> {
        let (text, usual) = base_dockerfile(runtime);
        let from = from.unwrap_or(&usual);
        let content: String = Sha256::digest(format!("{text}\0{from}\0{platform}"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let format = format!("{{{{index .Config.Labels \"{CONTENT_LABEL}\"}}}}");
        let found = self.output(&["image", "inspect", "--format", &format, name]).await?;
        if found.status.success() && String::from_utf8_lossy(&found.stdout).trim() == content {
            return Ok(false);
        }
        let scratch = tempfile::Builder::new().prefix("agentcore-base-").tempdir();
        let scratch = scratch.map_err(super::io("making a directory for", name.as_ref()))?;
        let dockerfile = scratch.path().join("Dockerfile");
        fs::write(&dockerfile, text).map_err(super::io("writing", &dockerfile))?;
        let engine = self.engine().await?;
        let chosen = self.choose_builder(&engine, None, platform, true).await?;
        self.create_builder(&chosen.choice).await?;
        let recipe = Recipe {
            context: scratch.path().to_owned(),
            dockerfile,
            platform: platform.to_owned(),
            tags: vec![name.to_owned()],
            labels: vec![format!("{CONTENT_LABEL}={content}")],
            build_args: vec![format!("BASE_IMAGE={from}")],
            builder: chosen.choice.name().map(str::to_owned),
            load: true,
            ..Recipe::default()
        };
        self.build(&recipe, each).await.map(|()| true)
    }
}

//! The finished image against what the service asks of one.

use serde::{Deserialize, Serialize};

use super::docker::Docker;
use super::{BuildError, SERVICE_PLATFORM};
use crate::model::limits::{IMAGE_BYTES, IMAGE_LAYERS_OF_NAMED_USER};

/// An image, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its id or digest.
    pub id: String,
    /// Its platform, such as `linux/arm64`.
    pub platform: String,
    /// Its size in bytes: unpacked where the engine has it, compressed where a registry has.
    pub bytes: u64,
    /// How many layers it has.
    pub layers: usize,
    /// The ports that it declares, such as `8080/tcp`.
    pub ports: Vec<String>,
    /// Its `USER`.
    pub user: String,
    /// It says what to run.
    pub has_command: bool,
}

/// Something about an image that the service would not like, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct InspectDto {
    id: String,
    architecture: String,
    os: String,
    size: u64,
    config: Option<ConfigDto>,
    #[serde(rename = "RootFS")]
    root_fs: RootFsDto,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigDto {
    exposed_ports: Option<std::collections::BTreeMap<String, serde::de::IgnoredAny>>,
    user: Option<String>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct RootFsDto {
    layers: Option<Vec<String>>,
}

/// What `docker buildx imagetools inspect` tells of an image in a registry.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RemoteDto {
    manifest: RemoteManifestDto,
    image: RemoteImageDto,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RemoteManifestDto {
    digest: String,
    layers: Vec<RemoteLayerDto>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RemoteLayerDto {
    size: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RemoteImageDto {
    architecture: String,
    os: String,
    config: Option<ConfigDto>,
    rootfs: RemoteRootFsDto,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RemoteRootFsDto {
    diff_ids: Vec<String>,
}

impl Image {
    fn parse(text: &str) -> Option<Self> {
        let [found] = serde_json::from_str::<[InspectDto; 1]>(text).ok()?;
        Some(Self::found(found))
    }

    fn found(found: InspectDto) -> Self {
        let layers = found.root_fs.layers.unwrap_or_default().len();
        let platform = format!("{}/{}", found.os, found.architecture);
        Self::of(found.id, platform, found.size, layers, found.config.unwrap_or_default())
    }

    fn parse_remote(text: &str) -> Option<Self> {
        let found: RemoteDto = serde_json::from_str(text).ok()?;
        if found.image.architecture.is_empty() {
            return None;
        }
        let platform = format!("{}/{}", found.image.os, found.image.architecture);
        let bytes = found.manifest.layers.iter().map(|layer| layer.size).sum();
        let layers = found.image.rootfs.diff_ids.len();
        Some(Self::of(found.manifest.digest, platform, bytes, layers, found.image.config.unwrap_or_default()))
    }

    fn of(id: String, platform: String, bytes: u64, layers: usize, config: ConfigDto) -> Self {
        let said = |words: Option<Vec<String>>| words.is_some_and(|words| !words.is_empty());
        Self {
            id,
            platform,
            bytes,
            layers,
            ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
            user: config.user.unwrap_or_default(),
            has_command: said(config.cmd) || said(config.entrypoint),
        }
    }

    /// What the service would not like about it, for an agent of this protocol.
    pub fn remarks(&self, protocol: &str) -> Vec<Remark> {
        let mut all = Vec::new();
        let mut remark = |message: String, fix: &str| all.push(Remark { message, fix: fix.to_owned() });
        if self.platform != SERVICE_PLATFORM {
            let message =
                format!("the image is for {}, and the service runs {SERVICE_PLATFORM} alone", self.platform);
            remark(
                message,
                "build it without `--platform`, from a Dockerfile whose `FROM` names no other platform",
            );
        }
        if self.bytes > IMAGE_BYTES {
            let message = format!(
                "the image has {} MB, and the service takes {} MB",
                self.bytes / 1_000_000,
                IMAGE_BYTES / 1_000_000
            );
            remark(
                message,
                "begin with a smaller base (`-slim`), and name what the agent does not need in `.dockerignore`",
            );
        }
        let numeric = self.user.split(':').next().unwrap_or_default();
        let numeric = numeric.is_empty() || numeric.bytes().all(|b| b.is_ascii_digit());
        if self.layers > IMAGE_LAYERS_OF_NAMED_USER && !numeric {
            let message = format!(
                "the image has {} layers and runs as `{}`: the service cannot mount more than \
                 {IMAGE_LAYERS_OF_NAMED_USER} for a user that is no number",
                self.layers, self.user
            );
            remark(message, "write the user's number, as in `USER 1000`, or join steps into one `RUN`");
        }
        let port = port_of(protocol);
        if !self.ports.iter().any(|p| p.split('/').next() == Some(port.to_string().as_str())) {
            let message = format!("the image does not declare port {port}, where {protocol} agents listen");
            remark(message, &format!("add `EXPOSE {port}`, and see that the agent listens there on 0.0.0.0"));
        }
        if !self.has_command {
            remark("the image does not say what to run".to_owned(), "add a `CMD` that starts the agent");
        }
        all
    }
}

/// The port where agents of a protocol listen. [guide: container contract]
pub fn port_of(protocol: &str) -> u16 {
    match protocol {
        "MCP" => 8000,
        "A2A" => 9000,
        _ => 8080,
    }
}

impl Docker {
    /// The image of that name in the engine; nothing where there is none.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, BuildError> {
        // The client would take as long for the question as for an unchanged build's other parts together.
        if name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
            && let Some(found) = self.asked::<InspectDto>(format!("/images/{name}/json")).await
        {
            return Ok(found.map(Image::found));
        }
        let output = self.output(&["image", "inspect", name]).await?;
        if !output.status.success() {
            return Ok(None);
        }
        Ok(Image::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The image of that name in its registry.
    pub async fn pushed_image(&self, name: &str) -> Result<Option<Image>, BuildError> {
        let text = self.said(&["buildx", "imagetools", "inspect", name, "--format", "{{json .}}"]).await?;
        Ok(Image::parse_remote(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSPECT: &str = r#"[{"Id": "sha256:1", "Architecture": "arm64", "Os": "linux", "Size": 1000,
        "Config": {"ExposedPorts": {"8080/tcp": {}}, "User": "1000", "Cmd": ["python", "main.py"], "Entrypoint": null},
        "RootFS": {"Type": "layers", "Layers": ["sha256:a", "sha256:b"]}}]"#;

    #[test]
    fn a_good_image_has_no_remark() {
        let image = Image::parse(INSPECT).unwrap();
        assert_eq!((image.platform.as_str(), image.layers, image.bytes), ("linux/arm64", 2, 1000));
        assert!(image.remarks("HTTP").is_empty() && image.remarks("AGUI").is_empty());
    }

    #[test]
    fn each_fault_is_told_with_its_fix() {
        let image = Image::parse(INSPECT).unwrap();
        let told = |image: &Image, protocol: &str, what: &str| {
            let remarks = image.remarks(protocol);
            assert_eq!(remarks.len(), 1, "{remarks:?}");
            assert!(remarks[0].message.contains(what) && !remarks[0].fix.is_empty(), "{remarks:?}");
        };
        told(&Image { platform: "linux/amd64".into(), ..image.clone() }, "HTTP", "linux/amd64");
        told(&Image { bytes: IMAGE_BYTES + 1, ..image.clone() }, "HTTP", "MB");
        told(&image, "MCP", "8000");
        told(&image, "A2A", "9000");
        told(&Image { has_command: false, ..image.clone() }, "HTTP", "what to run");
        let many = Image { layers: IMAGE_LAYERS_OF_NAMED_USER + 1, ..image };
        assert!(many.remarks("HTTP").is_empty());
        told(&Image { user: "agent".into(), ..many }, "HTTP", "layers");
    }

    #[test]
    fn an_image_in_a_registry_is_read_too() {
        let text = r#"{"name": "x", "manifest": {"digest": "sha256:d", "layers": [{"size": 5}, {"size": 7}]},
            "image": {"architecture": "arm64", "os": "linux", "config": {"ExposedPorts": {"8080/tcp": {}}, "Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]}}}"#;
        let image = Image::parse_remote(text).unwrap();
        assert_eq!((image.id.as_str(), image.bytes, image.layers), ("sha256:d", 12, 2));
        assert!(image.remarks("HTTP").is_empty());
        assert!(Image::parse_remote("{}").is_none());
    }
}

//! What stands on everything of ours that a daemon keeps, so that it is found again and nothing else is.

use std::collections::HashMap;

use crate::model::{SessionKey, Version};
use crate::storage::StorageId;

/// Which state directory of the emulator a thing belongs to.
const HOME: &str = "agentcore.home";
/// Which emulator made it.
const EMULATOR: &str = "agentcore.emulator";
/// What it is: `session`, `storage`, `look`, `helper`.
const KIND: &str = "agentcore.kind";
const RUNTIME: &str = "agentcore.runtime";
const ENDPOINT: &str = "agentcore.endpoint";
const SESSION: &str = "agentcore.session";
const VERSION: &str = "agentcore.version";
const STORAGE: &str = "agentcore.storage";
/// The image by the name it was asked for.
const IMAGE: &str = "agentcore.image";
/// Whose an image is that was built for an emulator. Not [`HOME`]: containers inherit the labels of their image, and one that
/// somebody makes of it himself is his.
const IMAGE_HOME: &str = "agentcore.image-home";
/// The agent that an image was built for.
const AGENT: &str = "agentcore.agent";
/// Names of other labels begin with this.
const PREFIX: &str = "agentcore.";
/// The kind of a volume that has a copy of this program.
const HELPER: &str = "helper";
/// So much of a home's id tells it from others in a name. [ours: 48 bits]
const HOME_PART: usize = 12;
/// Most of an identifier that a name has.
const NAME_PART: usize = 40;

type Written = HashMap<String, String>;

/// The labels of an image that is built for the emulator of the home with this id, as `name=value`.
pub fn of_image(home: &str, agent: &str) -> Vec<String> {
    vec![format!("{IMAGE_HOME}={home}"), format!("{AGENT}={agent}")]
}

/// The labels of one emulator.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    home: String,
    emulator: String,
}

impl Labels {
    pub(super) fn new(home: String) -> Self {
        Self { home, emulator: uuid::Uuid::new_v4().simple().to_string() }
    }

    fn with(&self, kind: &str, more: impl IntoIterator<Item = (String, String)>) -> Written {
        let own = [(HOME, &*self.home), (EMULATOR, &*self.emulator), (KIND, kind)];
        own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).chain(more).collect()
    }

    /// Of a session's container. `about` has no prefixes yet.
    pub(super) fn of_session(&self, image: &str, about: &[(String, String)]) -> Written {
        let about = about.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.clone()));
        self.with("session", about.chain([(IMAGE.to_owned(), image.to_owned())]))
    }

    /// Of a container that looks into a volume.
    pub(super) fn of_look(&self) -> Written {
        self.with("look", [])
    }

    /// Of a volume with a copy of this program.
    pub(super) fn of_helper(&self) -> Written {
        self.with(HELPER, [])
    }

    /// What such a volume is called.
    pub(super) fn helper_volume(&self, digest: &str) -> String {
        let home: String = self.home.chars().take(HOME_PART).collect();
        format!("agentcore-helper-{home}-{digest}")
    }

    /// What finds those of this home.
    pub(super) fn helper_volumes(&self) -> HashMap<String, Vec<String>> {
        let labels = vec![format!("{HOME}={}", self.home), format!("{KIND}={HELPER}")];
        HashMap::from([("label".to_owned(), labels)])
    }

    /// Of a volume.
    pub(super) fn of_storage(&self, key: &SessionKey, version: Version, id: StorageId) -> Written {
        let more = [
            (RUNTIME, key.runtime.to_string()),
            (ENDPOINT, key.endpoint.to_string()),
            (SESSION, key.session.to_string()),
            (VERSION, version.to_string()),
            (STORAGE, id.0.to_string()),
        ];
        self.with("storage", more.map(|(name, value)| (name.to_owned(), value)))
    }

    /// What finds everything of this home.
    pub(super) fn of_home(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{HOME}={}", self.home)])])
    }

    /// What finds every image that was built for this home.
    pub(super) fn images_of_home(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{IMAGE_HOME}={}", self.home)])])
    }

    /// What finds the volumes of a runtime, or of one session of it.
    pub(super) fn volumes_of(
        &self,
        runtime: &str,
        session: Option<&SessionKey>,
    ) -> HashMap<String, Vec<String>> {
        let mut labels = vec![format!("{HOME}={}", self.home), format!("{RUNTIME}={runtime}")];
        if let Some(key) = session {
            labels.extend([format!("{ENDPOINT}={}", key.endpoint), format!("{SESSION}={}", key.session)]);
        }
        HashMap::from([("label".to_owned(), labels)])
    }

    /// True for what carries every label that is asked for. The daemon is not believed in this: for Podman's volumes
    /// one of them is enough, and what is found is deleted.
    pub(super) fn fit(wanted: &HashMap<String, Vec<String>>, written: &Written) -> bool {
        let carries = |pair: &String| {
            pair.split_once('=').is_some_and(|(name, value)| written.get(name).is_some_and(|w| w == value))
        };
        wanted.get("label").into_iter().flatten().all(carries)
    }

    /// True for what an earlier emulator made.
    pub(super) fn is_old(&self, labels: &Written) -> bool {
        labels.get(EMULATOR) != Some(&self.emulator)
    }

    /// The storage that a volume is.
    pub(super) fn storage(labels: &Written) -> Option<(SessionKey, StorageId)> {
        let key = SessionKey {
            runtime: labels.get(RUNTIME)?.parse().ok()?,
            endpoint: labels.get(ENDPOINT)?.parse().ok()?,
            session: labels.get(SESSION)?.parse().ok()?,
        };
        Some((key, StorageId(labels.get(STORAGE)?.parse().ok()?)))
    }

    /// The name of a volume. The number alone would do: it is random and given once. The rest is for people.
    pub(super) fn volume(key: &SessionKey, id: StorageId) -> String {
        let part = |text: &str| text.chars().take(NAME_PART).collect::<String>();
        format!("agentcore-{}-{}-{:016x}", part(key.runtime.name()), part(key.session.as_str()), id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_tells_what_it_is_and_its_name_is_legal() {
        let labels = Labels::new("0123456789abcdef".into());
        let key = SessionKey {
            runtime: format!("a{}-AbCdEf0123", "b".repeat(60)).parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: format!("s{}", "_".repeat(60)).parse().unwrap(),
        };
        let id = StorageId(i64::MAX);
        let written = labels.of_storage(&key, Version::FIRST, id);
        assert_eq!(Labels::storage(&written), Some((key.clone(), id)));
        assert!(!labels.is_old(&written) && Labels::new("0123456789abcdef".into()).is_old(&written));
        for wanted in [labels.of_home(), labels.volumes_of(key.runtime.as_str(), Some(&key))] {
            assert!(Labels::fit(&wanted, &written));
        }
        let other = Labels::new("another".into());
        let mut elsewhere = key.clone();
        elsewhere.session = "s".repeat(40).parse().unwrap();
        for wanted in [
            other.of_home(),
            other.volumes_of(key.runtime.as_str(), Some(&key)),
            labels.volumes_of("other-AbCdEf0123", None),
            labels.volumes_of(key.runtime.as_str(), Some(&elsewhere)),
        ] {
            assert!(!Labels::fit(&wanted, &written), "{wanted:?}");
        }
        let name = Labels::volume(&key, id);
        assert!(name.len() < 128 && name.starts_with("agentcore-ab"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{name}");
        let session = labels.of_session("coder:1", &[("runtime".into(), "r".into())]);
        assert_eq!(session[RUNTIME], "r");
        assert_eq!(Labels::storage(&session), None);
    }
}

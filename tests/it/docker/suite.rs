//! The suite of `tests/python` again, on the docker engine: the same cases with an emulator that runs agents as images
//! for this machine, and code on a base image.
//!
//! What is here is what engines could answer differently. [`ENGINE_FREE`] names the rest, with the reason.

use std::path::Path;

use agentcore::engine::docker::Platform;
use serde_json::json;

use super::lab::{Home, Lab, agent_image, engine_at, lab, official_image};
use crate::boto3;
use crate::support::{self, Emulator};

/// Cases in which no engine has a part, or none that another case here does not show.
const ENGINE_FREE: &[(&str, &str)] = &[
    ("conflict", "the registry's own answers"),
    ("endpoints", "the registry's own answers"),
    ("fields", "the registry's own answers"),
    ("not_found", "the registry's own answers"),
    ("on_the_wire", "the server's own answers"),
    ("pages", "the registry's own answers"),
    ("refusals", "the server's own limits"),
    ("strangers", "the guard's own answers"),
    ("tags", "the registry's own answers"),
    ("tokens", "the registry's own answers"),
    ("validation", "what is refused before an engine is asked"),
    ("silent_agent", "half a minute of waiting for the connection that `invoke_bodies` tries"),
    ("deaf_agent", "half a minute of waiting for pings over the connection that every case needs"),
];

macro_rules! cases {
    ($($name:ident)*) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            again(stringify!($name));
        })*
    };
}

cases! {
    cli_v1 clock commands headers invoke_bodies official_package official_shell response_limit retryable_conflict
    runtime_client_error sessions story termination
}

fn again(name: &str) {
    let test = format!("docker::suite::{name}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(lab) = runtime.block_on(lab(&test)) else { return };
    let Some(python) = support::python(&test) else { return };
    let (base, images) = runtime.block_on(images(&lab, name, &python));
    let case = boto3::case(name);
    let home = Home::new();
    let own = ["--engine", "docker", "--platform", "native", "--base-image", &base];
    let emulator = Emulator::start_in_with(home.path(), &[&own[..], case.flags].concat());
    let told = [("AGENTCORE_TEST_IMAGES", images.to_string())];
    boto3::run_at(&python, case, emulator.endpoint(), home.path(), &told);
    drop(emulator);
    // Every container has gone with the emulator; the volumes of runtimes that a case left are swept with the home.
    runtime.block_on(async {
        let deleted = engine_at(home.path(), Platform::Native).delete_everything().await.unwrap();
        assert_eq!(deleted.containers, 0, "containers are left");
    });
}

/// The base of code, and the image of each agent that a case may ask for.
async fn images(lab: &Lab, name: &str, python: &Path) -> (String, serde_json::Value) {
    let base = lab.image("python", &["ENV PATH=/usr/local/bin:/usr/bin:/bin"]).await;
    let mut made = vec![("lab", agent_image(lab, "lab", "root").await)];
    made.push(("crash", agent_image(lab, "crash", "root").await));
    if name == "official_package" {
        made.push(("official", official_image(lab, support::venv_of(python)).await));
    }
    let mut images = json!({});
    for (agent, image) in made {
        images[agent] = lab.named(&image, &format!("suite-{agent}")).await.into();
    }
    (base, images)
}

/// A case that is added has to be put into one of the lists.
#[test]
fn every_case_of_the_suite_is_run_or_has_its_reason() {
    let mut named: Vec<&str> =
        CASES.iter().copied().chain(ENGINE_FREE.iter().map(|(name, _)| *name)).collect();
    let mut all: Vec<&str> = boto3::CASES.iter().map(|case| case.name).collect();
    named.sort_unstable();
    all.sort_unstable();
    assert_eq!(named, all);
}

//! The project room from outside: files on disk to values.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops where its world is not as it must be, and reads the PATH it runs under"
)]

use agentcore::project::templates::Template;
use agentcore::project::{Project, ProjectError};

#[test]
fn a_new_project_is_found_from_its_depths() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("coder");
    Template::Minimal.create(&target, &"coder".parse().unwrap()).unwrap();
    let depths = target.join("a/b/c");
    std::fs::create_dir_all(&depths).unwrap();
    let project = Project::load(None, &depths).unwrap();
    assert_eq!(project.root(), target);
    assert_eq!(project.agent(None).unwrap().source, target);
    assert!(matches!(project.agent(Some("x")), Err(ProjectError::UnknownAgent { .. })));
}

#[test]
fn a_file_that_is_not_text_is_an_error_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".bedrock_agentcore.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(Project::load(None, dir.path()), Err(ProjectError::Read { .. })));
    for nasty in ["a: &a [*a]", "- - - - -", "? x", "agents: {}", "agents: []", "\t", "name: !!binary x"] {
        std::fs::write(dir.path().join(".bedrock_agentcore.yaml"), nasty).unwrap();
        let loaded = Project::load(None, dir.path());
        assert!(loaded.map_or(true, |p| p.agent(None).is_err()), "{nasty}");
    }
}

#[test]
fn the_file_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".bedrock_agentcore.yaml"), block).unwrap();
    let project = Project::load(None, dir.path()).unwrap();
    let agent = project.agent(None).unwrap();
    assert_eq!(agent.session_storage().unwrap().as_str(), "/mnt/workspace");
    assert_eq!(agent.endpoints.value().unwrap().len(), 1);
    assert_eq!(agent.build.target.as_deref(), Some("run"));
}

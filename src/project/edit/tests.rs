use std::collections::BTreeSet;

use serde_json::json;

use super::*;

const AGENT: &str = "a";

fn draft(text: &str) -> Draft {
    let data = read(text).unwrap();
    Draft {
        file: "/p/.bedrock_agentcore.yaml".into(),
        before: Some(text.as_bytes().to_vec()),
        text: text.to_owned(),
        data,
    }
}

/// Files that are hard to edit, each with one agent `a` that has `aws: {region: null, account: '1…'}` and a key
/// of somebody else.
const HARD: [(&str, &str); 12] = [
    (
        "comments",
        "# top\nagents:\n  a: # the agent\n    name: a # its name\n    entrypoint: a.py\n    # before aws\n    aws:\n      region: null # later\n      account: '123456789012'\n    # after aws\n    zzz: 1 # last\n# end\n",
    ),
    (
        "CRLF",
        "# top\r\nagents:\r\n  a:\r\n    name: a\r\n    entrypoint: a.py\r\n    aws:\r\n      region: null # later\r\n      account: '123456789012'\r\n    zzz: 1\r\n",
    ),
    (
        "flow",
        "agents: {a: {name: a, entrypoint: a.py, aws: {region: null, account: '123456789012'}, zzz: 1}} # c\n",
    ),
    (
        "flow over lines",
        "agents:\n  a: {\n    name: a, # n\n    entrypoint: a.py,\n    aws: {\n      region: null, # r\n      account: '123456789012',\n    },\n    zzz: 1,\n  }\n",
    ),
    (
        "merge key",
        "base: &base\n  account: '123456789012'\nagents:\n  a:\n    name: a\n    entrypoint: a.py\n    aws:\n      <<: *base\n      region: null\n    zzz: 1\n",
    ),
    (
        "block scalars, no last line break",
        "agents:\n  a:\n    name: a\n    entrypoint: a.py\n    note: |\n      x: y\n      # no comment\n    aws:\n      region: null\n      account: >-\n        123456789012\n    zzz: 1",
    ),
    (
        "quoted keys, wide indent",
        "\"agents\":\n    'a':\n        \"name\": a\n        \"entrypoint\": a.py\n        \"aws\":\n            \"region\": null\n            \"account\": \"123456789012\"\n        zzz: 1\n",
    ),
    (
        "question mark",
        "agents:\n  ? a\n  :\n    name: a\n    entrypoint: a.py\n    aws:\n      region: null\n      account: '123456789012'\n    zzz: 1\n",
    ),
    (
        "JSON",
        "{\n  \"agents\": {\n    \"a\": {\n      \"name\": \"a\",\n      \"entrypoint\": \"a.py\",\n      \"aws\": {\n        \"region\": null,\n        \"account\": \"123456789012\"\n      },\n      \"zzz\": 1\n    }\n  }\n}\n",
    ),
    (
        "no value, list at the key's indent",
        "---\nagents:\n  a:\n    name: a\n    entrypoint: a.py\n    list:\n    - x # first\n    - y\n    aws:\n      region:\n      account: '123456789012'\n    zzz: 1\n\n\n# end\n",
    ),
    (
        "one agent",
        "# old\nname: a\nentrypoint: a.py\naws:\n  # where\n  region: null\n  account: '123456789012'\nzzz: 1\n",
    ),
    (
        "several agents",
        "default_agent: b\nagents:\n  b: {name: b, entrypoint: b.py, aws: {region: null}}\n\n  a:\n    name: a\n    entrypoint: a.py\n    aws: {region: null, account: '123456789012'}\n\n    zzz: 1\n\n  # the third\n  c:\n    name: c\n    entrypoint: c.py\n",
    ),
];

/// What stands behind `#` outside of values, in order.
fn comments(text: &str) -> Vec<String> {
    use serde_saphyr::granit_parser::{Event, Parser};
    let mut parser = Parser::new_from_str(text);
    let mut found = Vec::new();
    while let Some(Ok((event, _))) = parser.next_event() {
        if let Event::Comment(text, _) = event {
            found.push(text.to_string());
        }
    }
    found
}

#[test]
fn hard_files_keep_everything_but_what_is_changed() {
    let storage = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
    let changes: [(&[&str], Value); 12] = [
        (&["aws", "region"], json!("eu-west-1")),
        (&["aws", "s3_path"], json!("s3://bucket/agents")),
        (&["aws", "execution_role_auto_create"], json!(true)),
        (&["aws", "lifecycle_configuration", "max_lifetime"], json!(3600)),
        (
            &["aws", "network_configuration"],
            json!({"network_mode": "VPC", "network_mode_config": {"subnets": ["subnet-12345678"], "security_groups": []}}),
        ),
        (&["filesystem_configurations"], storage),
        (&["environment_variables"], json!({"A": "yes", "B.C": "012", "D": "two\nlines"})),
        (&["environment_variables", "A.B[0]\\"], json!("1")),
        (&["tags"], json!({})),
        (&["models"], json!([])),
        (
            &["bedrock_agentcore", "agent_arn"],
            json!("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-AbCdEf0123"),
        ),
        (&["name"], json!("a2")),
    ];
    for (case, text) in HARD {
        let mut all = draft(text);
        for (path, value) in &changes {
            let mut one = draft(text);
            let changed =
                one.set(AGENT, path, value.clone()).unwrap_or_else(|e| panic!("{case}: {path:?}: {e}"));
            assert!(changed, "{case}: {path:?}");
            assert_eq!(one.get(AGENT, path), Some(value), "{case}: {path:?}\n{}", one.text());
            assert_eq!(comments(one.text()), comments(text), "{case}: {path:?}\n{}", one.text());
            assert!(!one.set(AGENT, path, value.clone()).unwrap(), "{case}: a second time");
            // Lines of the old text are there as they were, but for the one or two that the value is on.
            let new: BTreeSet<&str> = one.text().lines().collect();
            let lost = text.lines().filter(|line| !new.contains(line)).count();
            assert!(lost <= 1, "{case}: {path:?} changed {lost} lines\n{}", one.text());
            if text.contains("\r\n") {
                assert_eq!(one.text().matches('\n').count(), one.text().matches("\r\n").count(), "{case}");
            }
            // One after the other as well; the name last, as the file of one agent is known by it.
            all.set(AGENT, path, value.clone())
                .unwrap_or_else(|e| panic!("{case}: {path:?}: {e}\n{}", all.text()));
        }
        assert_eq!(comments(all.text()), comments(text), "{case}\n{}", all.text());
        assert_eq!(all.get(AGENT, &["zzz"]), Some(&json!(1)), "{case}");
        let mut again = draft(all.text());
        for path in
            [&["filesystem_configurations"][..], &["environment_variables", "B.C"], &["aws", "s3_path"]]
        {
            assert!(again.remove(AGENT, path).unwrap(), "{case}: {path:?}");
            assert_eq!(again.get(AGENT, path), None, "{case}: {path:?}");
            assert!(!again.remove(AGENT, path).unwrap(), "{case}: {path:?}");
        }
        assert_eq!(comments(again.text()), comments(text), "{case}\n{}", again.text());
    }
}

#[test]
fn what_is_shared_by_an_alias_is_not_changed_behind_the_others_back() {
    let text = "shared: &s {region: null}\nagents:\n  a: {name: a, entrypoint: a.py, aws: *s}\n  b: {name: b, entrypoint: b.py, aws: *s}\n";
    let mut one = draft(text);
    let error = one.set(AGENT, &["aws", "region"], "eu-west-1").unwrap_err();
    assert!(matches!(error, ProjectError::NotEditable { .. }), "{error}");
    assert_eq!(one.text(), text);
    // An anchor whose aliases would be left without it.
    let text = "agents:\n  a: {name: a, entrypoint: a.py, aws: &s {region: null}}\n  b: {name: b, entrypoint: b.py, aws: *s}\n";
    let mut one = draft(text);
    let result = one.set(AGENT, &["aws"], json!({"region": "x"}));
    assert!(result.is_err() || one.get("b", &["aws"]) == Some(&json!({"region": null})), "{}", one.text());
}

#[test]
fn new_keys_stand_where_the_schema_has_them() {
    let text = "agents:\n  a:\n    name: a\n    entrypoint: a.py\n    aws:\n      execution_role: null\n      region: null\n      lifecycle_configuration: {}\n    bedrock_agentcore: {}\n";
    let mut one = draft(text);
    one.set(AGENT, &["aws", "account"], "123456789012").unwrap();
    one.set(AGENT, &["filesystem_configurations"], json!([])).unwrap();
    one.set(AGENT, &["aws", "lifecycle_configuration", "max_lifetime"], 60).unwrap();
    one.set_default("a").unwrap();
    assert_eq!(
        one.text(),
        "default_agent: a\nagents:\n  a:\n    name: a\n    entrypoint: a.py\n    filesystem_configurations: []\n    aws:\n      execution_role: null\n      account: '123456789012'\n      region: null\n      lifecycle_configuration: {max_lifetime: 60}\n    bedrock_agentcore: {}\n"
    );
}

#[test]
fn a_file_of_one_agent_stays_one_until_a_second_comes() {
    let (_, text) = HARD[10];
    let mut one = draft(text);
    one.set(AGENT, &["aws", "region"], "eu-west-1").unwrap();
    assert!(!one.set_default(AGENT).unwrap());
    assert_eq!(one.text(), text.replace("region: null", "region: eu-west-1"));
    let keys = json!({"name": "b", "entrypoint": "b.py"});
    one.add_agent("b", keys.as_object().unwrap().clone()).unwrap();
    assert_eq!(one.agents(), ["a", "b"]);
    assert_eq!(
        one.text(),
        "default_agent: a\nagents:\n  a:\n    # old\n    name: a\n    entrypoint: a.py\n    aws:\n      # where\n      region: eu-west-1\n      account: '123456789012'\n    zzz: 1\n  b:\n    name: b\n    entrypoint: b.py\n"
    );
    assert_eq!(one.project().unwrap().agents["a"].aws.region.as_deref(), Some("eu-west-1"));
    assert!(one.remove_agent("a").unwrap());
    assert_eq!(one.agents(), ["b"]);
    assert_eq!(one.project().unwrap().default, None);
}

#[test]
fn a_first_agent_makes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".bedrock_agentcore.yaml");
    let mut one = Draft::open(&file).unwrap();
    assert!(one.is_new() && !one.is_changed() && !one.save().unwrap() && !file.exists());
    let keys = json!({"name": "a", "entrypoint": "a.py", "aws": {"account": "012345678901"}});
    one.add_agent("a", keys.as_object().unwrap().clone()).unwrap();
    assert!(one.save().unwrap() && !one.save().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text,
        "default_agent: a\nagents:\n  a:\n    name: a\n    entrypoint: a.py\n    aws:\n      account: '012345678901'\n"
    );
    // A file of comments alone is begun below them.
    fs::write(&file, "# mine\n").unwrap();
    let mut one = Draft::open(&file).unwrap();
    one.add_agent("a", keys.as_object().unwrap().clone()).unwrap();
    one.save().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("# mine\n{text}"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn a_file_that_others_have_changed_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".bedrock_agentcore.yaml");
    fs::write(&file, "name: a\nentrypoint: a.py\n").unwrap();
    let mut mine = Draft::open(&file).unwrap();
    mine.set(AGENT, &["tags"], json!({"x": "y"})).unwrap();
    fs::write(&file, "name: a\nentrypoint: b.py\n").unwrap();
    assert!(matches!(mine.save(), Err(ProjectError::Changed { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "name: a\nentrypoint: b.py\n");
    fs::remove_file(&file).unwrap();
    assert!(matches!(mine.save(), Err(ProjectError::Changed { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn changes_at_the_same_time_are_all_made() {
    const WRITERS: usize = 4;
    const CHANGES: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".bedrock_agentcore.yaml");
    fs::write(&file, "name: a # mine\nentrypoint: a.py\n").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = &file;
            scope.spawn(move || {
                for number in 0..CHANGES {
                    let key = format!("k{writer}-{number}");
                    // Who loses the race too often tells it, and nothing is lost.
                    while let Err(e) = update(file, |d| d.set(AGENT, &["tags", &key], "v").map(drop)) {
                        assert!(matches!(e, ProjectError::Changed { .. }), "{e}");
                    }
                }
            });
        }
    });
    let text = fs::read_to_string(&file).unwrap();
    let project = file::parse(&file, &text).unwrap();
    assert_eq!(project.agents["a"].tags.value().unwrap().len(), WRITERS * CHANGES, "{text}");
    assert!(text.starts_with("name: a # mine\n"));
}

#[test]
fn mode_and_links_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("real.yaml"), dir.path().join("link.yaml"));
    fs::write(&file, "name: a\nentrypoint: a.py\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.yaml", &link).unwrap();
    assert!(update(&link, |d| d.set(AGENT, &["aws", "region"], "us-west-2").map(drop)).unwrap());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&file).unwrap().contains("region: us-west-2"));
    assert!(!update(&link, |d| d.set(AGENT, &["aws", "region"], "us-west-2").map(drop)).unwrap());
}

#[test]
fn a_change_that_makes_the_file_wrong_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".bedrock_agentcore.yaml");
    let text = "name: a\nentrypoint: a.py\n";
    fs::write(&file, text).unwrap();
    let error = update(&file, |d| d.set(AGENT, &["aws", "account"], "12").map(drop)).unwrap_err();
    assert!(matches!(error, ProjectError::Invalid { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    fs::write(&file, [0xff, 0x00]).unwrap();
    assert!(matches!(Draft::open(&file), Err(ProjectError::Read { .. })));
    fs::write(&file, "a: [").unwrap();
    assert!(matches!(Draft::open(&file), Err(ProjectError::Invalid { .. })));
}

proptest::proptest! {
    /// Any change of any text leaves it alone or changes that alone: the comparison inside is what is tried here.
    #[test]
    fn no_text_makes_an_edit_panic(text in "(name: a\n)?([a-z&*!{}\\[\\]:,|>'\"# -]{0,12}\n){0,6}", value in "\\PC{0,10}") {
        if let Some(data) = read(&text) {
            let mut one = Draft { file: "/p".into(), before: None, text, data };
            let before = one.data.clone();
            match one.set(AGENT, &["aws", "region"], value.as_str()) {
                Ok(_) => proptest::prop_assert_eq!(one.get(AGENT, &["aws", "region"]), Some(&Value::from(value))),
                Err(_) => proptest::prop_assert_eq!(&one.data, &before),
            }
        }
    }
}

//! The suite of `tests/python`: unmodified boto3, AWS CLI v1 and the official agent package against
//! the emulator. Each Python test case is a test here, with an emulator of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use agentcore::model::CommandEvent;
use agentcore::server::errors::respond_error;
use agentcore::wire::error::{AwsError, ErrorKind};
use agentcore::wire::eventstream;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;

use crate::support::{self, Emulator};

/// A Python test case: the name of its test, its module, its class and the flags of its emulator.
pub(super) struct Case {
    pub(super) name: &'static str,
    module: &'static str,
    class: &'static str,
    pub(super) flags: &'static [&'static str],
}

macro_rules! cases {
    ($($name:ident = $module:literal $class:literal [$($flag:literal)*];)*) => {
        pub(super) const CASES: &[Case] = &[$(Case {
            name: stringify!($name), module: $module, class: $class, flags: &[$($flag),*],
        }),*];

        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*
    };
}

cases! {
    cli_v1 = "test_cli_v1" "AwsCli" [];
    clock = "test_lifecycle" "Clock" [];
    commands = "test_commands" "Commands" [];
    conflict = "test_errors" "Conflict" [];
    deaf_agent = "test_commands" "DeafAgent" [];
    endpoints = "test_control" "Endpoints" [];
    fields = "test_control" "Fields" [];
    headers = "test_streaming" "Headers" [];
    invoke_bodies = "test_streaming" "Bodies" [];
    not_found = "test_errors" "NotFound" [];
    official_package = "test_official" "Official" [];
    official_shell = "test_shell" "OfficialShell" [];
    on_the_wire = "test_errors" "OnTheWire" [];
    pages = "test_control" "Pages" [];
    refusals = "test_errors" "Refusals" [];
    response_limit = "test_commands" "ResponseLimit" [];
    retryable_conflict = "test_conflicts" "RetryableConflict" ["--conflicts" "aws"];
    runtime_client_error = "test_errors" "RuntimeClient" [];
    sessions = "test_lifecycle" "Sessions" [];
    silent_agent = "test_streaming" "SilentAgent" [];
    story = "test_lifecycle" "Story" [];
    strangers = "test_guard" "Strangers" [];
    tags = "test_control" "Tags" [];
    termination = "test_lifecycle" "Termination" [];
    tokens = "test_control" "Tokens" [];
    validation = "test_errors" "Validation" [];
}

/// A case whose emulator is [`answer_with_an_error`].
const ERROR_TABLE: Case =
    Case { name: "error_table", module: "test_error_table", class: "Table", flags: &[] };

/// The case of a test.
pub(super) fn case(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

fn run(name: &str) {
    let Some(python) = support::python(&format!("boto3::{name}")) else { return };
    let case = case(name);
    let emulator = Emulator::start(case.flags);
    run_at(&python, case, emulator.endpoint(), emulator.home(), &[]);
}

/// Runs a case against an emulator; `environment` tells its harness what that one is.
pub(super) fn run_at(
    python: &Path,
    case: &Case,
    endpoint: &str,
    home: &Path,
    environment: &[(&str, String)],
) {
    let mut command = support::clean(python);
    command
        .current_dir(support::repository().join("tests/python"))
        .env("AGENTCORE_BIN", support::BIN)
        .env("AGENTCORE_HOME", home)
        .env("AGENTCORE_ENDPOINT", endpoint)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .args(["-W", "ignore::ResourceWarning", "-m", "unittest", "--verbose"])
        .arg(format!("{}.{}", case.module, case.class));
    let output = support::succeed(&mut command);
    let report = String::from_utf8_lossy(&output.stderr);
    println!("{report}");
    let passed = report.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed > 0, "no test ran:\n{report}");
    assert!(!report.contains("skipped"), "skipped inside the suite:\n{report}");
}

/// The answers of the emulator's own table of errors: `/KIND/...` has that error, `/in-stream/KIND/...` a
/// command's stream that ends with it, `/kinds` what there is.
async fn answer_with_an_error(request: axum::extract::Request) -> axum::response::Response {
    let (head, body) = request.into_parts();
    // A connection whose request was not read to its end cannot be used again.
    body.collect().await.unwrap();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let kind = |name: &str| ErrorKind::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
    let text = |kind: ErrorKind| format!("the text of {}", kind.name());
    if path[0] == "kinds" {
        let kinds: BTreeMap<_, _> = ErrorKind::ALL.iter().map(|kind| (kind.name(), kind.status())).collect();
        return axum::response::Response::new(serde_json::to_string(&kinds).unwrap().into());
    }
    if path[0] == "in-stream" {
        let kind = kind(path[1]);
        let start = eventstream::event(&CommandEvent::Start).unwrap();
        let frames = [start, eventstream::exception(kind, &text(kind)).unwrap()].concat();
        let answer = http::Response::builder().header(CONTENT_TYPE, eventstream::CONTENT_TYPE);
        return answer.body(frames.into()).unwrap();
    }
    let kind = kind(path[0]);
    respond_error(&AwsError::new(kind, text(kind)))
}

/// Every error of the service, those too that nothing here can bring about.
#[test]
fn error_table() {
    let Some(python) = support::python("boto3::error_table") else { return };
    let home = support::short_temp_dir();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer_with_an_error);
    runtime.spawn(async { axum::serve(listener, router).await });
    run_at(&python, &ERROR_TABLE, &endpoint, home.path(), &[]);
}

/// A Python test case that nobody runs would prove nothing.
#[test]
fn every_python_case_is_run() {
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(support::repository().join("tests/python")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !module.starts_with("test_") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(class) = line.strip_prefix("class ").and_then(|l| l.strip_suffix("(Suite):")) {
                written.insert(format!("{module}.{class}"));
            }
        }
    }
    let all = CASES.iter().chain([&ERROR_TABLE]);
    let run: BTreeSet<_> = all.map(|c| format!("{}.{}", c.module, c.class)).collect();
    assert_eq!(written, run);
}

/// The decoder that judges our frames is itself tried on frames with known checksums and on damage.
#[test]
fn the_independent_frame_decoder_finds_damage() {
    let Some(python) = support::which("python3") else {
        return support::skip("boto3::frames", "no `python3` in PATH");
    };
    let script = support::repository().join("tests/python/check_frames.py");
    let output = support::succeed(support::clean(python).arg(script).env("PYTHONDONTWRITEBYTECODE", "1"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "17 damaged frames refused\n");
}

/// The harness must not wait for ever for something that never comes.
#[test]
fn a_crashed_emulator_leaves_no_endpoint_behind() {
    let mut emulator = Emulator::start(&[]);
    emulator.crash();
    let address = emulator.endpoint().trim_start_matches("http://").to_owned();
    support::eventually(Duration::from_secs(5), "the port is closed", || {
        std::net::TcpStream::connect(&address).is_err().then_some(())
    });
}

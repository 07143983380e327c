//! Offline means offline: parts of the suite with an empty environment and no network but loopback.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{self, Project};

const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Prepares a shell command that runs `script` in a network namespace where only loopback is up, with
/// an environment that names nothing but a home of its own. `None`, after a skip, where there is none to be had.
fn isolated(test: &str, home: &Path, script: &str) -> Option<Command> {
    let (Some(unshare), Some(ip)) = (support::which("unshare"), tool("ip")) else {
        support::skip(test, "needs `unshare` (util-linux) and `ip` (iproute2)");
        return None;
    };
    let root = nix::unistd::geteuid().is_root();
    // An ordinary user is himself in a namespace of users, and has rights there until loopback is up.
    let flags: &[&str] =
        if root { &["--net"] } else { &["--user", "--map-current-user", "--keep-caps", "--net"] };
    let without: &[&str] = &["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"];
    let tried = Command::new(&unshare).args(flags).arg("true").output().unwrap();
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        support::skip(test, &format!("network namespaces are not allowed here ({why})"));
        return None;
    }
    let mut command = Command::new("/usr/bin/env");
    command.arg("-i").arg(format!("PATH={SYSTEM_PATH}"));
    command.arg(format!("HOME={}", home.display())).arg(format!("AGENTCORE={}", support::BIN));
    // The namespace has a loopback that is down; everything else is absent, which the script proves first.
    let prepare = format!("{ip} link set lo up; exec \"$@\"", ip = ip.display());
    command.arg(unshare).args(flags).args(["sh", "-euc", &prepare, "sh"]);
    if !root {
        command.args(without);
    }
    command.args(["sh", "-euc"]).arg(format!(
        "test \"$({ip} -o link show | grep -v ' LOOPBACK\\|LOOPBACK,' | wc -l)\" = 0\n\
         cd \"$HOME\"\n{script}",
        ip = ip.display()
    ));
    Some(command)
}

fn tool(name: &str) -> Option<std::path::PathBuf> {
    let found = ["/usr/sbin", "/sbin"].iter().map(|dir| Path::new(dir).join(name)).find(|p| p.exists());
    support::which(name).or(found)
}

/// The whole story in one command, as the README promises it.
#[test]
fn local_demo() {
    let home = support::short_temp_dir();
    let script = "\"$AGENTCORE\" --output json local demo";
    let Some(mut command) = isolated("offline::local_demo", home.path(), script) else { return };
    let output = support::succeed(&mut command);
    let text = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
    assert!(!steps.is_empty(), "{text}");
}

#[test]
fn create_deploy_invoke_stop_resume() {
    // The template's agent is Python; the machine's own one, because the environment says no other.
    if !Path::new("/usr/bin/python3").exists() && !Path::new("/usr/local/bin/python3").exists() {
        return support::skip(
            "offline::create_deploy_invoke_stop_resume",
            "no python3 in /usr; install python3",
        );
    }
    let home = support::short_temp_dir();
    let script = r#"
        "$AGENTCORE" create helper --template minimal
        cd helper
        trap '"$AGENTCORE" local down' EXIT
        "$AGENTCORE" local deploy
        "$AGENTCORE" local invoke --session work '{"prompt": "remember the milk"}' > "$HOME/first"
        "$AGENTCORE" local exec --session work -- sh -c 'echo kept > /mnt/workspace/offline'
        "$AGENTCORE" local stop --session work
        "$AGENTCORE" local exec --session work -- cat /mnt/workspace/offline > "$HOME/second"
        "$AGENTCORE" --output json local session ls > "$HOME/sessions"
    "#;
    let name = "offline::create_deploy_invoke_stop_resume";
    let Some(mut command) = isolated(name, home.path(), script) else { return };
    support::succeed(&mut command);
    let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    assert!(!read("first").trim().is_empty());
    assert_eq!(read("second"), "kept\n");
    let sessions: Value = serde_json::from_str(&read("sessions")).unwrap();
    assert_eq!(sessions[0]["name"], "work", "{sessions}");
    assert_eq!(sessions[0]["storage"]["mountPath"], "/mnt/workspace", "{sessions}");
    // Nothing is left running: the emulator's pid is gone with `local down`.
    let state = home.path().join(".local/share/agentcore");
    assert!(state.is_dir(), "the default home is the data directory of the user");
    assert!(!state.join("emulator.json").exists());
}

/// The first deploy may need a network; from then on only changed requirements do.
#[test]
fn an_environment_is_made_once_from_the_requirements() {
    let name = "offline::an_environment_is_made_once_from_the_requirements";
    if !Path::new("/usr/bin/python3").exists() {
        return support::skip(name, "no /usr/bin/python3; install python3 and python3-venv");
    }
    // Where this environment could be made, another one can.
    if support::python(name).is_none() {
        return;
    }
    let home = support::short_temp_dir();
    let project = Project::new("lab", "lab", json!({}));
    fs::write(project.path().join("requirements.txt"), "six==1.17.0\n").unwrap();
    let main = project.path().join("main.py");
    let agent = fs::read_to_string(&main).unwrap();
    let with_package = agent.replacen("import hashlib\n", "import six\nimport hashlib\n", 1);
    assert_ne!(agent, with_package);
    fs::write(&main, &with_package).unwrap();
    let run = |args: &[&str]| {
        let mut command = support::clean(support::BIN);
        command.env("AGENTCORE_HOME", home.path().join("state")).env("PATH", SYSTEM_PATH);
        support::succeed(command.current_dir(project.path()).args(args));
    };
    run(&["local", "deploy"]);
    run(&["local", "down"]);

    fs::write(&main, with_package + "# other code, the same requirements\n").unwrap();
    let script = format!(
        r#"
        export AGENTCORE_HOME="$HOME/state"
        cd {}
        trap '"$AGENTCORE" local down' EXIT
        "$AGENTCORE" local deploy
        "$AGENTCORE" local invoke --session a '{{"do": "echo", "n": 1}}' > "$HOME/answer"
        "#,
        project.path().display()
    );
    let Some(mut command) = isolated(name, home.path(), &script) else { return };
    support::succeed(&mut command);
    let answer: Value =
        serde_json::from_str(&fs::read_to_string(home.path().join("answer")).unwrap()).unwrap();
    assert_eq!(answer, json!({ "n": 1 }));
}

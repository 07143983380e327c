//! What a session may use of the machine, and what must work in spite of everything that holds it.
//!
//! As in [`super::engine`], each test runs as whoever runs the tests and, for root, as users too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentcore::engine::{Compute, ProcessExit};
use agentcore::model::limits::{SESSION_CPUS, SESSION_MEMORY_BYTES, SESSION_PROCESSES};

use super::engine::{
    Room, argv, both, children, finish, finish_within, first_process, is_root, line, run, sh,
};
use super::support;

/// The control groups of a compute, as its record has them, that exist.
fn groups(compute: &dyn Compute) -> Vec<PathBuf> {
    let record: serde_json::Value = serde_json::from_str(&compute.record().0).unwrap();
    let groups = record["groups"].as_array().unwrap().iter();
    groups.map(|path| PathBuf::from(path.as_str().unwrap())).filter(|path| path.exists()).collect()
}

/// What one of the files with these names says in the groups.
fn setting(groups: &[PathBuf], names: [&str; 2]) -> Option<String> {
    let mut files = groups.iter().flat_map(|group| names.map(|name| group.join(name)));
    files.find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
}

#[test]
fn a_session_has_the_services_share_of_the_machine() {
    both("isolation::a_session_has_the_services_share_of_the_machine", async |room: Room| {
        let compute = room.compute().await;
        let groups = groups(&*compute);
        let (limits, _, _) = run(&*compute, "ulimit -c; ulimit -d; ulimit -u 2>/dev/null || ulimit -p").await;
        let limits: Vec<&str> = limits.split_whitespace().collect();
        assert_eq!(limits[0], "0", "core dumps");
        match setting(&groups, ["memory.limit_in_bytes", "memory.max"]) {
            Some(bytes) => {
                let bytes: u64 = bytes.parse().unwrap();
                assert!(bytes > 0 && bytes <= SESSION_MEMORY_BYTES, "{bytes}");
            }
            None => {
                let kilobytes: u64 = limits[1].parse().unwrap();
                assert!(kilobytes > 0 && kilobytes <= SESSION_MEMORY_BYTES / 1024, "{kilobytes}");
            }
        }
        match setting(&groups, ["pids.max", "pids.max"]) {
            Some(processes) => assert_eq!(processes, SESSION_PROCESSES.to_string()),
            None => assert_eq!(limits[2], SESSION_PROCESSES.to_string()),
        }
        if let Some(quota) = setting(&groups, ["cpu.cfs_quota_us", "cpu.max"]) {
            let quota: u64 = quota.split(' ').next().unwrap().parse().unwrap();
            assert!(quota > 0 && quota <= SESSION_CPUS * 100_000, "{quota}");
        }
        // Every process is in the groups, and goes before the emulator when the machine is out of memory.
        let mut process = compute.spawn(sh("echo up; sleep 60")).await.unwrap();
        line(&mut process).await;
        let first = first_process(&compute.record());
        let mut all = vec![first];
        all.extend(children(first));
        for pid in all {
            let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
            assert_eq!(score.trim(), "500");
            for group in &groups {
                let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
                assert!(members.lines().any(|member| member == pid.to_string()), "{pid} is not in {group:?}");
            }
        }
        compute.terminate(Duration::ZERO).await.unwrap();
        for group in groups {
            assert!(!group.exists(), "left behind: {group:?}");
        }
    });
}

#[test]
fn a_fork_bomb_stays_in_its_session() {
    both("isolation::a_fork_bomb_stays_in_its_session", async |room: Room| {
        let compute = room.compute().await;
        let bomb = "import os, signal, sys\ncount = 0\ntry:\n while True:\n  if os.fork() == 0:\n   signal.pause()\n  \
                    count += 1\nexcept OSError as e:\n print(count, e.strerror, flush=True)\nsignal.pause()\n";
        let mut process = compute.spawn(argv(&["python3", "-c", bomb])).await.unwrap();
        let said = line(&mut process).await;
        let (count, reason) = said.split_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        assert_eq!(reason, "Resource temporarily unavailable");
        assert!(count > SESSION_PROCESSES / 2 && count < SESSION_PROCESSES, "{count} processes");
        // The session can do nothing more, and says so; another one does not notice, and the end is quick.
        assert!(compute.spawn(sh("true")).await.is_err());
        let other = room.compute().await;
        assert_eq!(run(&*other, "echo fine").await.0, "fine\n");
        let start = Instant::now();
        compute.terminate(Duration::from_millis(100)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        drop(other);
    });
}

#[test]
fn memory_is_bounded_and_its_end_is_the_sessions_alone() {
    both("isolation::memory_is_bounded_and_its_end_is_the_sessions_alone", async |mut room: Room| {
        let memory = 256 << 20;
        room.engine.limit_memory(memory);
        let compute = room.compute().await;
        let mut bystander = compute.spawn(sh("echo up; exec sleep 300")).await.unwrap();
        line(&mut bystander).await;
        let greedy = "b = bytearray(600 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('all')\n";
        let (output, errors, exit) =
            finish(compute.spawn(argv(&["python3", "-c", greedy])).await.unwrap()).await;
        let by_group = setting(&groups(&*compute), ["memory.limit_in_bytes", "memory.max"]).is_some();
        if by_group {
            assert_eq!((output.as_str(), exit), ("", ProcessExit::Signal(9)), "{errors}");
        } else {
            assert_eq!((output.as_str(), exit), ("", ProcessExit::Code(1)));
            assert!(errors.contains("MemoryError"), "{errors}");
        }
        assert!(!is_root() || by_group || !PathBuf::from("/sys/fs/cgroup/memory/cgroup.procs").exists());
        // Files in memory have bounds of their own, below that.
        let fill = "for d in /tmp /var/task /dev/shm; do head -c 200000000 /dev/zero > $d/x; wc -c < $d/x; rm -f $d/x; done";
        let (output, errors, _) = run(&*compute, fill).await;
        assert_eq!(errors.matches("No space left on device").count(), 3, "{errors}");
        for size in output.lines() {
            let size: u64 = size.trim().parse().unwrap();
            assert!(size > memory / 4 && size <= memory / 2, "{size}");
        }
        assert_eq!(run(&*compute, "echo alive").await.0, "alive\n");
        assert!(tokio::time::timeout(Duration::from_millis(50), bystander.control.wait()).await.is_err());
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}

/// Longest time for an installation from files that are there. [on a busy machine it took more than a minute]
const WORK: Duration = Duration::from_secs(600);

/// Runs real work in the storage; all of it must end well. Nothing is said when a tool is missing on a laptop.
fn works(name: &'static str, tool: &'static str, script: &'static str, expected: &'static str) {
    let found =
        std::process::Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    if !found.status.success() {
        support::skip(name, tool);
        return;
    }
    both(&format!("isolation::{name}"), async |room: Room| {
        let compute = room.compute().await;
        compute.mount_storage().await.unwrap();
        let script = format!("exec 3>&1 > /tmp/log 2>&1; set -ex; cd /mnt/workspace; {script}");
        let process = compute.spawn(sh(&script)).await.unwrap();
        let (output, _, exit) = finish_within(WORK, process).await;
        let (log, _, _) = run(&*compute, "tail -c 3000 /tmp/log").await;
        assert_eq!((output.as_str(), exit), (expected, ProcessExit::Code(0)), "{log}");
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn archives_with_foreign_owners_unpack() {
    works(
        "archives_with_foreign_owners_unpack",
        "tar",
        "mkdir tree && echo content > tree/file && ln -s file tree/link && mkdir tree/bin && cp /bin/true tree/bin; \
         tar --owner=someone:1000 --group=staff:1001 -czf archive.tar.gz tree && rm -r tree; \
         tar -xpzf archive.tar.gz && tar --same-owner --numeric-owner -xpzf archive.tar.gz -C /tmp; \
         cp -a tree copy && install -o 1000 -g 1000 -m 640 tree/file installed && chown -R 1000:1000 copy; \
         test \"$(stat -c %a installed)\" = 640; cat copy/link /tmp/tree/file >&3; copy/bin/true",
        "content\ncontent\n",
    );
}

#[test]
fn npm_installs_a_locked_tree() {
    works(
        "npm_installs_a_locked_tree",
        "npm",
        "mkdir dependency app; \
         echo '{\"name\":\"dependency\",\"version\":\"1.0.0\",\"main\":\"i.js\",\"bin\":\"b.js\",\
               \"scripts\":{\"install\":\"touch built\"}}' > dependency/package.json; \
         echo 'module.exports = \"required\"' > dependency/i.js; \
         printf '#!/usr/bin/env node\\nconsole.log(\"run\")\\n' > dependency/b.js; \
         npm pack ./dependency; cd app; npm init -y; npm install --offline ../dependency-1.0.0.tgz; \
         rm -r node_modules; npm ci --offline --no-audit; test -e node_modules/dependency/built; \
         node -p 'require(\"dependency\")' >&3; npx --offline dependency >&3",
        "required\nrun\n",
    );
}

#[test]
fn pip_installs_into_an_environment() {
    works(
        "pip_installs_into_an_environment",
        "python3",
        "python3 -m venv environment; \
         python3 -c \"import zipfile as z; w = z.ZipFile('dependency-1.0-py3-none-any.whl', 'w'); \
         d = 'dependency-1.0.dist-info/'; w.writestr('dependency.py', 'def main(): print(42)'); \
         w.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: dependency\\nVersion: 1.0\\n'); \
         w.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'); \
         w.writestr(d + 'entry_points.txt', '[console_scripts]\\nanswer = dependency:main\\n'); \
         w.writestr(d + 'RECORD', ''); w.close()\"; \
         environment/bin/pip install --no-index --find-links . dependency; environment/bin/answer >&3; \
         environment/bin/pip uninstall -y dependency",
        "42\n",
    );
}

#[test]
fn git_clones_and_commits() {
    works(
        "git_clones_and_commits",
        "git",
        "git config --global user.name n; git config --global user.email e@example.com; \
         git init -b main origin; cd origin; echo one > file; git add .; git commit -m one; cd ..; \
         git clone origin linked; git clone file:///mnt/workspace/origin packed; cd packed; echo two > file; \
         git commit -am two; git push origin HEAD:other; git fsck; git gc; git log --format=%s >&3; \
         git -C ../linked fetch; git -C ../linked log -1 --format=%s origin/other >&3",
        "two\none\ntwo\n",
    );
}

#[test]
fn where_namespaces_are_denied_the_reason_and_the_way_out_are_told() {
    both("isolation::where_namespaces_are_denied_the_reason_and_the_way_out_are_told", async |room: Room| {
        // A session is such a place: its filter refuses namespaces as a container's does.
        let compute = room.compute().await;
        let tool = agentcore::engine::TOOL_PATH;
        for verb in ["up", "demo"] {
            let (output, errors, exit) =
                run(&*compute, &format!("{tool} local --home /tmp/home {verb}")).await;
            assert_eq!((output.as_str(), exit), ("", ProcessExit::Code(5)), "{errors}");
            let (message, hint) = errors.split_once("hint: ").expect(&errors);
            assert!(message.contains("error: this host cannot run sessions: making namespaces"), "{errors}");
            assert!(hint.contains("--security-opt seccomp=unconfined"), "{errors}");
            assert!(hint.contains("--isolation process"), "the last resort is named: {errors}");
        }
        let (left, _, _) = run(&*compute, "ls /tmp/home/run 2>/dev/null; ls -d /tmp/agentcore-*").await;
        assert_eq!(left, "", "left behind");
        let (output, errors, exit) = run(&*compute, &format!("{tool} --output json doctor")).await;
        assert_eq!(exit, ProcessExit::Code(5), "{errors}");
        let report: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(report["ok"], false);
        let sessions = &report["checks"][0];
        assert_eq!(
            (sessions["name"].as_str(), sessions["state"].as_str()),
            (Some("sessions"), Some("missing"))
        );
        assert!(sessions["fix"].as_str().unwrap().contains("seccomp=unconfined"), "{sessions}");

        // What is named works: the whole story, and agents that are called, stopped and called again.
        let (output, errors, exit) = run(&*compute, &format!("{tool} local demo --isolation process")).await;
        assert_eq!(exit, ProcessExit::Code(0), "{output}{errors}");
        assert!(output.contains("engine process") && output.contains("resume"), "{output}");
        assert!(errors.contains("agents are not isolated"), "{errors}");
        let project = "mkdir -p /tmp/project && cd /tmp/project && export AGENTCORE_HOME=/tmp/home && printf %s \
             '{\"agents\": {\"lab\": {\"name\": \"lab\", \"command\": [\"TOOL\", \"demo-agent\"], \
             \"filesystem_configurations\": [{\"session_storage\": {\"mount_path\": \"/mnt/workspace\"}}]}}}' \
             > .bedrock_agentcore.yaml";
        let project = project.replace("TOOL", tool);
        let loop_ = format!(
            "set -e; {project}; {tool} -q local up --isolation process > /dev/null; {tool} -q local deploy > /dev/null; \
             {tool} -q local invoke --session s one; {tool} -q local stop --session s > /dev/null; \
             {tool} -q local invoke --session s two; {tool} local status | grep 'not isolated' | wc -l; \
             {tool} -q local down > /dev/null; ls /tmp/home/run | wc -l"
        );
        let (output, errors, exit) = run(&*compute, &loop_).await;
        assert_eq!(exit, ProcessExit::Code(0), "{output}{errors}");
        let lines: Vec<&str> = output.lines().collect();
        assert!(lines.iter().any(|line| line.contains("[\"one\",\"two\"]")), "{output}");
        assert_eq!(lines.last(), Some(&"0"), "left behind: {output}");
        let (left, _, _) = run(&*compute, "ls -d /tmp/agentcore-*").await;
        assert_eq!(left, "", "left behind");
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn the_limits_in_force_are_shown() {
    for flags in [&[][..], &["--isolation", "process"]] {
        let emulator = support::Emulator::start(flags);
        let command = serde_json::json!([agentcore::engine::TOOL_PATH, "demo-agent"]);
        let project = support::Project::new("lab", "lab", serde_json::json!({ "command": command }));
        emulator.run(project.path(), &["local", "deploy"]);
        let exec = ["local", "exec", "--session", "s", "--", "sh", "-c", "ulimit -d; cat /proc/self/cgroup"];
        let inside = emulator.run(project.path(), &exec);
        let by_group = String::from_utf8_lossy(&inside.stdout).starts_with("unlimited");
        let show = |more: &[&str]| {
            let line = [&["local", "session", "show", "s"], more].concat();
            String::from_utf8(emulator.run(project.path(), &line).stdout).unwrap()
        };
        let session: serde_json::Value = serde_json::from_str(&show(&["--output", "json"])).unwrap();
        let limits = session["limits"].as_array().unwrap();
        let names: Vec<&str> = limits.iter().map(|limit| limit["of"].as_str().unwrap()).collect();
        assert_eq!(names, ["memory", "processes", "processors"]);
        let expected = if by_group { "controlGroup" } else { "process" };
        assert_eq!(limits[0]["enforcedBy"], expected, "{session}");
        let amount = limits[0]["amount"].as_u64().unwrap();
        assert!(amount > 0 && amount <= SESSION_MEMORY_BYTES, "{session}");
        let text = show(&[]);
        assert!(
            text.contains("memory") && text.contains(if by_group { "control group" } else { "each process" }),
            "{text}"
        );
        emulator.run(project.path(), &["local", "stop", "--session", "s"]);
        let session: serde_json::Value = serde_json::from_str(&show(&["--output", "json"])).unwrap();
        assert!(session.get("limits").is_none(), "a stopped session has none: {session}");
    }
}

#[test]
fn a_machine_that_has_everything_is_told_so() {
    let home = tempfile::tempdir().unwrap();
    let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_agentcore"));
    let output =
        doctor.args(["--output", "json", "doctor"]).env("AGENTCORE_HOME", home.path()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && report["ok"] == true, "{report}");
    let checks = report["checks"].as_array().unwrap();
    for name in ["sessions", "ids", "limits", "disk", "port", "python3", "uv"] {
        let check = checks.iter().find(|check| check["name"] == name).expect(name);
        // Whatever is not as it could be comes with what to do.
        assert!(
            check["state"] == "ok" || check["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
            "{check}"
        );
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "a check leaves nothing");
}

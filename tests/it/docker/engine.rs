//! The docker engine in the scenarios of the embedded one, and in those that only it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentcore::engine::docker::{DockerEngine, Platform};
use agentcore::engine::{Compute, ComputeRecord, ComputeSpec, Engine, EngineError, Holder, ProcessExit};
use agentcore::model::{SessionKey, Version};
use agentcore::storage::{Place, Storage, StorageId, Usage};
use bollard::query_parameters::StopContainerOptionsBuilder;

use super::lab::{Home, Lab, engine_at, lab, label_of};
use crate::engine::{Kind, Room, SOON, argv, finish, line, run, sh, until};
use crate::{engine, escape};

/// The lines of a Dockerfile that the image of every scenario has.
const LINES: [&str; 1] = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// The engine with what its tests need besides.
struct Tested {
    engine: DockerEngine,
    image: String,
    lab: Lab,
    home: Home,
}

impl std::ops::Deref for Tested {
    type Target = DockerEngine;

    fn deref(&self) -> &DockerEngine {
        &self.engine
    }
}

type Made<'a, T> = futures_util::future::BoxFuture<'a, Result<T, EngineError>>;

impl Engine for Tested {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        self.engine.storage_owner()
    }

    fn start(&self, spec: ComputeSpec) -> Made<'_, Box<dyn Compute>> {
        self.engine.start(spec)
    }

    fn end_leftover(&self, record: ComputeRecord, grace: Duration) -> Made<'_, ()> {
        self.engine.end_leftover(record, grace)
    }

    fn delete_storage(&self, place: Place) -> Made<'_, ()> {
        self.engine.delete_storage(place)
    }

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        self.engine.storage()
    }

    fn check_image<'a>(&'a self, image: &'a str) -> Made<'a, ()> {
        self.engine.check_image(image)
    }

    fn sweep(&self, known: Vec<ComputeRecord>) -> Made<'_, ()> {
        self.engine.sweep(known)
    }
}

impl Kind for Tested {
    fn image(&self) -> Option<String> {
        Some(self.image.clone())
    }

    async fn another_storage(room: &Room<Self>) -> Place {
        volume(&room.engine, "b").await.1
    }

    /// Neither containers nor sockets. Volumes go with their sessions.
    async fn assert_nothing_left(room: &Room<Self>) {
        let label = label_of(room.engine.home.path());
        until("containers are removed", async || room.engine.lab.labelled(&label).await.0.is_empty()).await;
        let links = std::fs::read_dir(room.engine.home.path().join("d")).unwrap().count();
        assert_eq!(links, 0, "sockets are left");
    }
}

fn key(letter: &str) -> SessionKey {
    SessionKey {
        runtime: "coder-AbCdEf0123".parse().unwrap(),
        endpoint: "DEFAULT".parse().unwrap(),
        session: letter.repeat(40).parse().unwrap(),
    }
}

async fn volume(engine: &DockerEngine, letter: &str) -> (StorageId, Place) {
    let storage = engine.storage().unwrap();
    let id = storage.create(&key(letter), Version::FIRST, None).await.unwrap();
    (id, storage.place(&key(letter), id))
}

/// Plays a scenario with the engine of a home of its own.
fn play<F: Future<Output = ()>>(name: &str, scenario: impl FnOnce(Room<Tested>) -> F) {
    play_on(name, &LINES, scenario);
}

fn play_on<F: Future<Output = ()>>(name: &str, lines: &[&str], scenario: impl FnOnce(Room<Tested>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(lab) = lab(&format!("docker::engine::{name}")).await else { return };
        let image = lab.image("python", lines).await;
        let home = Home::new();
        let engine = Tested { engine: engine_at(home.path(), Platform::Native), image, lab, home };
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("code")).unwrap();
        let (_, storage) = volume(&engine, "a").await;
        scenario(Room { directory, engine, storage }).await;
    });
}

#[test]
fn output_is_split_and_the_exit_code_told() {
    play("output_is_split_and_the_exit_code_told", engine::on::output_is_split_and_the_exit_code_told);
}

#[test]
fn a_process_has_the_environment_of_its_compute_and_its_own_and_no_other() {
    play(
        "a_process_has_the_environment_of_its_compute_and_its_own_and_no_other",
        engine::on::a_process_has_the_environment_of_its_compute_and_its_own_and_no_other,
    );
}

#[test]
fn commands_run_in_parallel() {
    play("commands_run_in_parallel", engine::on::commands_run_in_parallel);
}

#[test]
fn many_sessions_start_at_once_and_never_mix() {
    play("many_sessions_start_at_once_and_never_mix", engine::on::many_sessions_start_at_once_and_never_mix);
}

#[test]
fn storage_persists_and_nothing_else() {
    play("storage_persists_and_nothing_else", engine::on::storage_persists_and_nothing_else);
}

#[test]
fn kill_ends_the_whole_tree() {
    play("kill_ends_the_whole_tree", engine::on::kill_ends_the_whole_tree);
}

#[test]
fn terminate_asks_first_and_kills_then() {
    play("terminate_asks_first_and_kills_then", engine::on::terminate_asks_first_and_kills_then);
}

#[test]
fn connections_reach_listeners_inside_only() {
    play("connections_reach_listeners_inside_only", engine::on::connections_reach_listeners_inside_only);
}

#[test]
fn calls_that_act_on_the_machine_are_refused() {
    play("calls_that_act_on_the_machine_are_refused", escape::on::calls_that_act_on_the_machine_are_refused);
}

#[test]
fn no_process_has_more_rights_than_a_container() {
    play(
        "no_process_has_more_rights_than_a_container",
        escape::on::no_process_has_more_rights_than_a_container,
    );
}

#[test]
fn other_sessions_are_out_of_reach() {
    play("other_sessions_are_out_of_reach", escape::on::other_sessions_are_out_of_reach);
}

#[test]
fn the_helper_is_out_of_reach() {
    play("the_helper_is_out_of_reach", escape::on::the_helper_is_out_of_reach);
}

fn container(record: &ComputeRecord) -> String {
    let record: serde_json::Value = serde_json::from_str(&record.0).unwrap();
    record["container"].as_str().unwrap().to_owned()
}

/// A session of the image alone.
fn of_image(room: &Room<Tested>) -> ComputeSpec {
    ComputeSpec { code: None, ..room.spec() }
}

#[test]
fn the_agent_is_started_as_its_image_says_and_commands_run_as_root() {
    let lines = [
        "ENV PATH=/opt/own:/usr/bin:/bin",
        "ENV GREETING=hello=you",
        "WORKDIR /srv/agent",
        "USER 1000:998",
        "ENTRYPOINT [\"python3\", \"-c\"]",
        "CMD [\"import os; print(os.getuid(), os.getgid(), os.getgroups(), os.getcwd(), os.environ['HOME'], os.environ['GREETING'], os.environ['SPEC'], flush=True); open('/mnt/workspace/mine', 'w').write('x'); open('/dev/stdout', 'w').write('by name')\"]",
    ];
    play_on("the_agent_is_started_as_its_image_says", &lines, async |room| {
        let compute = room.engine.start(of_image(&room)).await.unwrap();
        let agent = compute.agent().unwrap();
        assert_eq!(agent.user.as_deref(), Some("1000:998"));
        let (output, errors, exit) = finish(compute.spawn(agent).await.unwrap()).await;
        assert_eq!(errors, "");
        assert_eq!(output, "1000 998 [998] /srv/agent / hello=you of the compute\nby name");
        assert_eq!(exit, ProcessExit::Code(0));
        // Commands: root, where the image's programs begin, with its environment.
        let (output, _, _) = run(
            &*compute,
            "id -u; pwd; echo $GREETING $HOME; stat -c '%u %a' /mnt/workspace/mine /mnt/workspace",
        )
        .await;
        assert_eq!(output, "0\n/srv/agent\nhello=you /root\n1000 644\n0 777\n");
        // Nothing of the environment stands in what the daemon shows.
        let shown =
            room.engine.lab.client.inspect_container(&container(&compute.record()), None).await.unwrap();
        let shown = serde_json::to_string(&shown).unwrap();
        assert!(!shown.contains("of the compute"), "{shown}");
        assert!(!shown.contains("SPEC"), "{shown}");
    });
}

#[test]
fn a_user_that_the_image_does_not_know_is_told() {
    let lines = ["USER nobody-here", "CMD [\"/bin/true\"]"];
    play_on("a_user_that_the_image_does_not_know_is_told", &lines, async |room| {
        let compute = room.engine.start(of_image(&room)).await.unwrap();
        let error = compute.spawn(compute.agent().unwrap()).await.err().unwrap().to_string();
        assert!(error.contains("`USER nobody-here`"), "{error}");
        assert_eq!(run(&*compute, "id -u").await.0, "0\n");
    });
}

#[test]
fn a_container_has_no_network_and_the_limits_of_a_session() {
    play("a_container_has_no_network_and_the_limits_of_a_session", async |room| {
        let compute = room.compute().await;
        let (interfaces, _, _) = run(&*compute, "ls /sys/class/net").await;
        assert_eq!(interfaces, "lo\n");
        let shown =
            room.engine.lab.client.inspect_container(&container(&compute.record()), None).await.unwrap();
        let host = shown.host_config.unwrap();
        let info = room.engine.lab.client.info().await.unwrap();
        // What is told is what is so: a daemon without root may hold nothing although it says so.
        let held = |of: &str| {
            let limit = compute.limits().into_iter().find(|limit| limit.of == of).unwrap();
            limit.held_by == Holder::Group
        };
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(held("memory"), host.memory.is_some_and(|memory| memory > 0));
        if held("memory") {
            assert_eq!(host.memory, Some(info.mem_total.unwrap().min(8 << 30)));
        } else {
            assert!(!root || info.memory_limit != Some(true), "a daemon of root's holds no memory");
        }
        if held("processes") {
            assert!(host.pids_limit.unwrap() > 100);
        } else {
            assert!(!root || info.pids_limit != Some(true), "a daemon of root's holds no processes");
        }
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.auto_remove, Some(false));
        let labels = shown.config.unwrap().labels.unwrap();
        assert_eq!(labels["agentcore.kind"], "session");
        let id = std::fs::read_to_string(room.engine.home.path().join("docker-id")).unwrap();
        assert_eq!(labels["agentcore.home"], id);
    });
}

#[test]
fn a_session_sees_nothing_of_the_host_but_this_program() {
    play("a_session_sees_nothing_of_the_host_but_this_program", async |room| {
        let secret = room.path("secret");
        std::fs::write(&secret, "secret").unwrap();
        let compute = room.compute().await;
        let path = secret.display();
        assert_ne!(run(&*compute, &format!("cat {path}")).await.2, ProcessExit::Code(0));
        for attempt in [
            "echo x > /opt/agentcore/bin/agentcore",
            "echo x > /opt/agentcore/link/x",
            "rm /opt/agentcore/link/s",
            "ls /var/run/docker.sock",
            "mount -t tmpfs t /mnt",
            "echo 1 > /proc/sys/kernel/panic",
            // Nobody listens there any more: the session's first process was the first and only one to come.
            "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/opt/agentcore/link/s')\"",
        ] {
            let (output, _, exit) = run(&*compute, attempt).await;
            assert_ne!(exit, ProcessExit::Code(0), "`{attempt}` worked: {output}");
        }
    });
}

#[test]
fn a_container_that_is_killed_is_gone_and_its_volume_is_not() {
    play("a_container_that_is_killed_is_gone_and_its_volume_is_not", async |room| {
        let compute = room.compute().await;
        run(&*compute, "echo kept > /mnt/workspace/file").await;
        let mut process = compute.spawn(sh("echo up; sleep 300")).await.unwrap();
        line(&mut process).await;
        room.engine.lab.kill(&container(&compute.record())).await;
        let mut gone = compute.gone();
        tokio::time::timeout(SOON, gone.wait_for(|gone| *gone)).await.unwrap().unwrap();
        assert!(matches!(compute.spawn(sh("true")).await, Err(EngineError::Gone)));
        assert!(matches!(process.control.wait().await, Err(EngineError::Gone)));
        compute.terminate(Duration::from_secs(10)).await.unwrap();
        assert_eq!(room.stored("file").await, "kept\n");
        room.assert_nothing_left().await;
    });
}

#[test]
fn a_container_that_somebody_stops_ends_with_grace() {
    play("a_container_that_somebody_stops_ends_with_grace", async |room| {
        let compute = room.compute().await;
        let graceful =
            "trap 'echo seen > /mnt/workspace/term; exit 5' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = compute.spawn(sh(graceful)).await.unwrap();
        line(&mut process).await;
        let options = StopContainerOptionsBuilder::default().t(30).build();
        let begun = Instant::now();
        room.engine.lab.client.stop_container(&container(&compute.record()), Some(options)).await.unwrap();
        assert!(begun.elapsed() < SOON, "it was killed after its time");
        assert_eq!(process.control.wait().await.unwrap(), ProcessExit::Code(5));
        compute.terminate(Duration::ZERO).await.unwrap();
        assert_eq!(room.stored("term").await, "seen\n");
    });
}

#[test]
fn a_dropped_compute_leaves_nothing() {
    play("a_dropped_compute_leaves_nothing", async |room| {
        let compute = room.compute().await;
        let mut process = compute.spawn(sh("trap '' TERM; setsid sleep 300 & echo up; wait")).await.unwrap();
        line(&mut process).await;
        drop(compute);
        assert!(matches!(process.control.wait().await, Err(EngineError::Gone)));
        room.assert_nothing_left().await;
    });
}

#[test]
fn what_a_dead_emulator_left_is_ended_by_its_record_or_swept() {
    play("what_a_dead_emulator_left_is_ended_by_its_record_or_swept", async |room| {
        // An emulator that dies takes its runtime with it: nothing of it runs any more, and its sockets close.
        let home = room.engine.home.path().to_owned();
        let (known, unknown) = {
            let (spec, other) = (room.spec(), ComputeSpec { storage: None, ..room.spec() });
            tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let records = runtime.block_on(async {
                    let engine = engine_at(&home, Platform::Native);
                    let (known, unknown) = (engine.start(spec).await.unwrap(), engine.start(other).await.unwrap());
                    run(&*known, "echo kept > /mnt/workspace/file").await;
                    let mut process =
                        known.spawn(sh("trap 'sleep 0.2; echo late > /mnt/workspace/late; exit' TERM; echo up; while :; do sleep 0.05; done")).await.unwrap();
                    line(&mut process).await;
                    process.control.detach();
                    let records = (known.record(), unknown.record());
                    std::mem::forget((known, unknown, process));
                    records
                });
                drop(runtime);
                records
            })
            .await
            .unwrap()
        };
        room.engine.end_leftover(known.clone(), Duration::from_secs(10)).await.unwrap();
        room.engine.end_leftover(known.clone(), Duration::ZERO).await.unwrap();
        assert_eq!(room.stored("file").await, "kept\n");
        assert_eq!(room.stored("late").await, "late\n");
        let mine = room.compute().await;
        room.engine.sweep(vec![known]).await.unwrap();
        let label = label_of(room.engine.home.path());
        let left = room.engine.lab.labelled(&label).await.0;
        assert_eq!(left, [container(&mine.record())], "swept too much or too little");
        assert_ne!(left[0], container(&unknown));
        assert!(room.engine.end_leftover(ComputeRecord("?".into()), Duration::ZERO).await.is_err());
    });
}

#[test]
fn volumes_are_labelled_counted_and_discarded() {
    play("volumes_are_labelled_counted_and_discarded", async |room| {
        let storage = room.engine.storage().unwrap();
        let (first, place) = volume(&room.engine, "c").await;
        let (second, _) = volume(&room.engine, "c").await;
        let (other, _) = volume(&room.engine, "d").await;
        assert_ne!(first, second);
        let Place::Volume(name) = &place else { panic!("{place:?}") };
        let labels = room.engine.lab.client.inspect_volume(name).await.unwrap().labels;
        for (label, value) in [
            ("runtime", "coder-AbCdEf0123"),
            ("endpoint", "DEFAULT"),
            ("session", key("c").session.as_str()),
            ("version", "1"),
            ("kind", "storage"),
        ] {
            assert_eq!(labels[&format!("agentcore.{label}")], value);
        }
        // Empty although the image has something there, and counted with and without a session.
        let mut spec = room.spec();
        spec.storage.as_mut().unwrap().source = place.clone();
        let compute = room.engine.start(spec).await.unwrap();
        let script = "ls -A /mnt/workspace; mkdir /mnt/workspace/d; printf 12345 > /mnt/workspace/d/f; ln -s /etc /mnt/workspace/l";
        assert_eq!(run(&*compute, script).await, (String::new(), String::new(), ProcessExit::Code(0)));
        assert_eq!(storage.usage(&key("c"), first).await.unwrap(), Usage { bytes: 5, files: 2 });
        compute.terminate(Duration::from_secs(5)).await.unwrap();
        storage.flush(&key("c"), first).await.unwrap();
        // The second one has no word of the session's end, and looks for itself.
        storage.flush(&key("c"), first).await.unwrap();
        assert_eq!(storage.usage(&key("c"), first).await.unwrap(), Usage { bytes: 5, files: 2 });

        assert!(storage.exists(&key("c"), first).await.unwrap());
        assert_eq!(storage.discard(&key("c"), first).await.unwrap(), Some(place.clone()));
        room.engine.delete_storage(place.clone()).await.unwrap();
        room.engine.delete_storage(place).await.unwrap();
        assert!(!storage.exists(&key("c"), first).await.unwrap());
        assert_eq!(storage.discard(&key("c"), first).await.unwrap(), None);
        assert_eq!(storage.discard_session(&key("c")).await.unwrap(), [storage.place(&key("c"), second)]);
        assert_eq!(storage.discard_runtime(&key("c").runtime).await.unwrap().len(), 3);

        // Another emulator of the same home knows only what was recorded; what it makes itself is left alone.
        let again = engine_at(room.engine.home.path(), Platform::Native);
        let (fresh, _) = volume(&again, "e").await;
        let later = again.storage().unwrap();
        let known = [(key("d"), other)].into();
        let mut unknown = later.discard_unknown(vec![key("c").runtime], known).await.unwrap();
        let mut expected = vec![room.storage.clone(), storage.place(&key("c"), second)];
        let order = |place: &Place| format!("{place:?}");
        unknown.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(unknown, expected);
        assert!(later.exists(&key("e"), fresh).await.unwrap());
        // A home of another machine sees nothing of it.
        let stranger = Home::new();
        let theirs = engine_at(stranger.path(), Platform::Native);
        assert_eq!(theirs.storage().unwrap().discard_runtime(&key("c").runtime).await.unwrap(), []);
        assert_eq!(theirs.delete_everything().await.unwrap(), Default::default());
        volume(&theirs, "f").await;
        assert_eq!(theirs.delete_everything().await.unwrap().volumes, 1);
        assert!(later.exists(&key("d"), other).await.unwrap());
    });
}

#[test]
fn sixty_container_sessions_at_once() {
    play("sixty_container_sessions_at_once", async |room| {
        let count = crate::support::count(8, 60);
        let begun = Instant::now();
        let sessions = (0..count).map(|n| {
            let spec = ComputeSpec { storage: None, label: format!("session-{n}"), ..room.spec() };
            room.engine.start(spec)
        });
        let sessions: Vec<_> =
            futures_util::future::join_all(sessions).await.into_iter().map(Result::unwrap).collect();
        let started = begun.elapsed();
        let names = sessions.iter().map(|compute| run(&**compute, "hostname"));
        let names = futures_util::future::join_all(names).await;
        assert!((0..count).all(|n| names[n].0 == format!("session-{n}\n")), "{names:?}");
        let ends = sessions.iter().map(|compute| compute.terminate(Duration::from_secs(5)));
        assert!(futures_util::future::join_all(ends).await.into_iter().all(|end| end.is_ok()));
        println!("{count} sessions stood after {started:?}");
        room.assert_nothing_left().await;
    });
}

#[test]
fn an_image_that_is_not_there_or_not_for_this_machine_is_told() {
    play("an_image_that_is_not_there_or_not_for_this_machine_is_told", async |room| {
        let missing = ComputeSpec { image: Some("no-such-image:1".into()), ..of_image(&room) };
        let error = room.engine.start(missing).await.err().unwrap();
        assert!(
            matches!(&error, EngineError::NoImage { image, .. } if image == "no-such-image:1"),
            "{error}"
        );
        // The service's architecture, which the image does not have on most machines.
        let service = engine_at(room.engine.home.path(), Platform::Service);
        if super::lab::NATIVE != "arm64" {
            let error = service.check_image(&room.engine.image).await.err().unwrap();
            let expected = format!(
                "Architecture incompatible for uri '{}'. Supported architectures: [arm64]",
                room.engine.image
            );
            assert_eq!(error.to_string(), expected);
        }
        room.engine.check_image(&room.engine.image).await.unwrap();
        // One that starts nothing.
        let error = room.engine.start(of_image(&room)).await.err().unwrap().to_string();
        assert!(error.contains("neither `ENTRYPOINT` nor `CMD`"), "{error}");
        let true_ = argv(&["true"]);
        assert_eq!(finish(room.compute().await.spawn(true_).await.unwrap()).await.2, ProcessExit::Code(0));
    });
}

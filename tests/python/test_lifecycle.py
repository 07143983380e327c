"""The main job: invoke, stop, resume, update, delete."""

import concurrent.futures
import glob
import os
import time
import uuid

from harness import HOME, IMAGES, STORAGE, Daemon, Suite, cli, create, data, deploy, new_session, state_of, until

NOTE = "/mnt/workspace/src/note.txt"


class Story(Suite):
    def test_create_invoke_command_stop_command_update_delete(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        self.assertEqual(runtime.get()["filesystemConfigurations"], STORAGE)

        first = runtime.invoke({"do": "list", "path": "/mnt/workspace"}, session)
        self.assertEqual(first["names"], [], "the first invocation finds an empty directory")
        runtime.invoke({"do": "write", "path": NOTE, "text": "written by the agent\n"}, session)
        seen = runtime.command(f"cat {NOTE}; echo by the command >> {NOTE}", session)
        self.assertEqual((seen.stdout, seen.exit_code, seen.status), ("written by the agent\n", 0, "COMPLETED"))

        self.assertEqual(runtime.stop(session)["runtimeSessionId"], session)
        kept = runtime.command(f"cat {NOTE}", session)
        self.assertEqual(kept.stdout, "written by the agent\nby the command\n")
        self.assertEqual(kept.answer["runtimeSessionId"], session)

        runtime.stop(session)
        version = runtime.update(description="the same code")["agentRuntimeVersion"]
        self.assertEqual(version, "2")
        fresh = runtime.command("ls -A /mnt/workspace | wc -l", session)
        self.assertEqual(fresh.stdout.strip(), "0", "a new version begins with empty storage")

        runtime.delete()
        self.error("ResourceNotFoundException", runtime.invoke, {"do": "echo"}, session)

    def test_running_session_keeps_its_version_until_it_stops(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        runtime.invoke({"do": "write", "path": NOTE, "text": "v1"}, session)
        boot = runtime.invoke({"do": "who"}, session)["boot"]
        runtime.update(environmentVariables={"LAB_VERSION": "two"})
        still = runtime.invoke({"do": "who"}, session)
        self.assertEqual(still["boot"], boot)
        self.assertNotIn("LAB_VERSION", still["environment"])
        self.assertEqual(runtime.invoke({"do": "read", "path": NOTE}, session)["text"], "v1")
        runtime.stop(session)
        after = runtime.invoke({"do": "who"}, session)
        self.assertEqual(after["environment"]["LAB_VERSION"], "two")
        self.assertIn("error", runtime.invoke({"do": "read", "path": NOTE}, session))
        runtime.delete()

    def test_empty_list_disables_storage(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        runtime.update(filesystemConfigurations=[])
        self.assertNotIn("filesystemConfigurations", runtime.get())
        answer = self.error("RuntimeClientError", runtime.invoke, {
            "do": "append_existing", "path": "/mnt/workspace/x", "text": "x"}, session)
        self.assertIn("Received error (500) from runtime.", answer["Error"]["Message"])
        runtime.update(filesystemConfigurations=STORAGE)
        self.assertEqual(runtime.get()["filesystemConfigurations"], STORAGE)
        runtime.delete()

    def test_delete_removes_the_storage_of_every_session(self):
        runtime, marker = create(filesystemConfigurations=STORAGE), uuid.uuid4().hex
        path = f"/mnt/workspace/{marker}"
        for session in (new_session(), new_session()):
            runtime.invoke({"do": "write", "path": path, "text": "x"}, session)
        pattern, label = os.path.join(HOME, "**", marker), f"agentcore.runtime={runtime.id}"

        def storages():
            if IMAGES:
                return Daemon().volumes(label)
            return glob.glob(pattern, recursive=True)

        self.assertEqual(len(storages()), 2, "a directory below the home, or a volume of the daemon, each")
        runtime.delete()
        until("storage deleted", lambda: not storages())

    def test_a_project_with_storage_in_its_file(self):
        runtime = deploy(filesystem_configurations=[{"session_storage": {"mount_path": "/mnt/data"}}],
                         environment_variables={"LAB_KEY": "lab value"})
        self.assertEqual(runtime.get()["filesystemConfigurations"], [{"sessionStorage": {"mountPath": "/mnt/data"}}])
        self.assertEqual(runtime.get()["environmentVariables"]["LAB_KEY"], "lab value")
        self.assertEqual(runtime.command("printenv LAB_KEY; ls -d /mnt/data", new_session()).stdout,
                         "lab value\n/mnt/data\n")
        runtime.delete()


class Sessions(Suite):
    SETTINGS = {"filesystemConfigurations": STORAGE}

    def test_only_storage_survives_a_stop(self):
        session = new_session()
        before = self.runtime.invoke({"do": "who"}, session)
        for path in ("/tmp/x", "/mnt/workspace/x", os.path.join(before["cwd"], "x"), "/root/x"):
            self.runtime.invoke({"do": "write", "path": path, "text": "x"}, session)
        self.runtime.stop(session)
        after = self.runtime.invoke({"do": "who"}, session)
        self.assertNotEqual(after["boot"], before["boot"], "a resume is a fresh compute")
        left = self.runtime.command(
            f"ls /tmp/x /mnt/workspace/x {before['cwd']}/x /root/x 2>/dev/null", session)
        self.assertEqual(left.stdout, "/mnt/workspace/x\n")

    def test_storage_is_a_directory_with_hard_links_and_fifos(self):
        session = new_session()
        done = self.runtime.command(
            "cd /mnt/workspace && echo x > a && ln a b && mkfifo f && stat -c %h b && test -p f", session)
        self.assertEqual((done.stdout, done.exit_code), ("2\n", 0), done.stderr)

    def test_one_session_is_one_compute_and_its_calls_run_in_parallel(self):
        session = new_session()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            boots = {f.result()["boot"] for f in [
                pool.submit(self.runtime.invoke, {"do": "who"}, session) for _ in range(8)]}
            self.assertEqual(len(boots), 1, "concurrent first calls share one compute")
            begin = time.monotonic()
            for future in [pool.submit(self.runtime.invoke, {"do": "sleep", "seconds": 1}, session)
                           for _ in range(8)]:
                self.assertEqual(future.result(), {"slept": 1})
        self.assertLess(time.monotonic() - begin, 7.5, "one after the other")

    def test_parallel_sessions_never_mix(self):
        def life(number):
            session, boots = new_session(), set()
            for round_number in range(3):
                text = f"{number}:{round_number};"
                answer = self.runtime.invoke({"do": "write", "path": NOTE, "text": text}, session)
                boots.add(answer["boot"])
                command = self.runtime.command(f"echo -n '{number}!' >> {NOTE}", session)
                self.assertEqual(command.exit_code, 0)
                self.runtime.stop(session)
            return self.runtime.invoke({"do": "read", "path": NOTE}, session)["text"], boots

        # Containers are made one after the other.
        count = 6 if IMAGES else 20
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            results = list(pool.map(life, range(count)))
        for number, (text, boots) in enumerate(results):
            self.assertEqual(text, "".join(f"{number}:{r};{number}!" for r in range(3)))
            self.assertEqual(len(boots), 3)
        self.assertEqual(len(set.union(*(boots for _, boots in results))), 3 * count, "no compute served two sessions")

    def test_the_same_id_at_two_endpoints_is_two_sessions(self):
        session = new_session()
        self.runtime.control.create_agent_runtime_endpoint(agentRuntimeId=self.runtime.id, name="second")
        until("endpoint READY", lambda: self.runtime.control.get_agent_runtime_endpoint(
            agentRuntimeId=self.runtime.id, endpointName="second")["status"] == "READY")
        self.runtime.invoke({"do": "write", "path": NOTE, "text": "default"}, session)
        other = self.runtime.invoke({"do": "list", "path": "/mnt/workspace"}, session, qualifier="second")
        self.assertEqual(other["names"], [])

    def test_stop_of_what_does_not_run(self):
        session = new_session()
        answer = self.error("ResourceNotFoundException", self.runtime.stop, session)
        self.assertEqual(answer["Error"]["Message"], "Session not found or already terminated")
        self.runtime.invoke({"do": "echo"}, session)
        self.runtime.stop(session)
        self.error("ResourceNotFoundException", self.runtime.stop, session)

    def test_stop_with_the_same_client_token_gives_the_same_answer(self):
        session, token = new_session(), str(uuid.uuid4())
        self.runtime.invoke({"do": "echo"}, session)
        first = self.runtime.stop(session, clientToken=token)
        again = self.runtime.stop(session, clientToken=token)
        for answer in (first, again):
            self.assertEqual((answer["statusCode"], answer["runtimeSessionId"]), (200, session))

    def test_stop_ends_open_streams_with_an_error(self):
        session = new_session()
        answer = self.runtime.invoke_raw({"do": "sse", "count": 1000, "gap": 0.05}, session)
        stream = answer["response"].iter_lines()
        self.assertTrue(next(stream))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stop = pool.submit(self.runtime.stop, session)
            # A clean end would look like a complete answer to the caller.
            with self.assertRaises(Exception) as caught:
                for _ in stream:
                    pass
            self.assertNotIsInstance(caught.exception, AssertionError)
            stop.result()

    def test_stop_ends_fast_streams_that_end_with_their_connection_with_an_error(self):
        for _ in range(6):
            session = new_session()
            stream = self.runtime.invoke_raw({"do": "flood"}, session)["response"]
            self.assertTrue(stream.read(1 << 20))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                stop = pool.submit(self.runtime.stop, session)
                with self.assertRaises(Exception) as caught:
                    while stream.read(1 << 16):
                        pass
                    self.fail("the stream ended as if it were complete")
                self.assertNotIsInstance(caught.exception, AssertionError)
                stop.result()

    def test_a_call_right_after_stop_finds_the_files(self):
        session = new_session()
        for number in range(5):
            self.runtime.invoke({"do": "write", "path": NOTE, "text": str(number)}, session)
            self.runtime.stop(session)
            text = self.runtime.invoke({"do": "read", "path": NOTE}, session)["text"]
            self.assertEqual(text, "".join(str(n) for n in range(number + 1)))

    def test_a_large_tree_with_links_and_modes_survives(self):
        session = new_session()
        made = self.runtime.command(
            "cd /mnt/workspace && mkdir -p a/b && for i in $(seq 200); do echo $i > a/b/$i; done"
            " && ln -s b/7 a/link && chmod 750 a/b && chmod 755 a/b/9"
            " && head -c 5000000 /dev/urandom > big && sha256sum big", session)
        self.assertEqual((made.exit_code, made.stderr), (0, ""))
        self.runtime.stop(session)
        seen = self.runtime.command(
            "cd /mnt/workspace && sha256sum big && ls a/b | wc -l && cat a/link"
            " && stat -c %a a/b a/b/9 && readlink a/link", session)
        self.assertEqual(seen.stdout, made.stdout + "200\n7\n750\n755\nb/7\n")

    def test_an_agent_that_ends_is_started_anew_at_the_next_call(self):
        session = new_session()
        before = self.runtime.invoke({"do": "write", "path": NOTE, "text": "kept"}, session)["boot"]
        self.error("RuntimeClientError", self.runtime.invoke, {"do": "exit", "code": 3}, session)
        after = self.runtime.invoke({"do": "read", "path": NOTE}, session)
        self.assertEqual(after["text"], "kept")
        self.assertNotEqual(after["boot"], before)


class Clock(Suite):
    """Idle and lifetime limits, on the clock that `local clock` moves."""

    def setUp(self):
        self.addCleanup(cli, "local", "clock", "reset")

    def ping(self, runtime, session, **answer):
        """Sets what the agent says to pings, and lets the emulator hear it before the clock moves."""
        runtime.invoke({"do": "ping"} | answer, session)
        time.sleep(6)

    def boots(self, runtime, session, advance, ends=False):
        before = runtime.invoke({"do": "who"}, session)["boot"]
        cli("local", "clock", "advance", advance)
        # The limit is noticed by a task of its own.
        if ends:
            until(f"the end of {session}", lambda: state_of(session) == "stopped")
        else:
            time.sleep(1.5)
        return before, runtime.invoke({"do": "who"}, session)["boot"]

    def test_idle_sessions_stop_and_keep_their_files(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        runtime.invoke({"do": "write", "path": NOTE, "text": "kept"}, session)
        before, after = self.boots(runtime, session, "14m")
        self.assertEqual(before, after, "15 minutes are not over")
        before, after = self.boots(runtime, session, "16m", ends=True)
        self.assertNotEqual(before, after)
        self.assertEqual(runtime.invoke({"do": "read", "path": NOTE}, session)["text"], "kept")
        runtime.delete()

    def test_a_busy_agent_is_not_idle(self):
        runtime, session = create(), new_session()
        self.ping(runtime, session, status="HealthyBusy")
        before, after = self.boots(runtime, session, "16m")
        self.assertEqual(before, after)
        self.ping(runtime, session, status="Healthy")
        before, after = self.boots(runtime, session, "16m", ends=True)
        self.assertNotEqual(before, after)
        runtime.delete()

    def test_an_update_time_that_moves_on_keeps_the_session(self):
        runtime, session = create(), new_session()
        self.ping(runtime, session, status="Healthy", advance=True)
        before, after = self.boots(runtime, session, "16m")
        self.assertEqual(before, after)
        runtime.delete()

    def test_a_call_in_flight_is_not_idled(self):
        runtime, session = create(), new_session()
        boot = runtime.invoke({"do": "who"}, session)["boot"]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(runtime.invoke, {"do": "sleep", "seconds": 3}, session)
            time.sleep(0.5)
            cli("local", "clock", "advance", "1h")
            self.assertEqual(call.result(), {"slept": 3})
        self.assertEqual(runtime.invoke({"do": "who"}, session)["boot"], boot)
        runtime.delete()

    def test_max_lifetime_ends_even_a_busy_session(self):
        runtime, session = create(lifecycleConfiguration={
            "idleRuntimeSessionTimeout": 600, "maxLifetime": 1200}), new_session()
        self.ping(runtime, session, status="HealthyBusy")
        before, after = self.boots(runtime, session, "21m", ends=True)
        self.assertNotEqual(before, after)
        runtime.delete()

    def test_storage_expires_after_14_days(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        runtime.invoke({"do": "write", "path": NOTE, "text": "old"}, session)
        runtime.stop(session)
        cli("local", "clock", "advance", "13d")
        self.assertEqual(runtime.invoke({"do": "read", "path": NOTE}, session)["text"], "old")
        runtime.stop(session)
        cli("local", "clock", "advance", "15d")
        self.assertIn("error", runtime.invoke({"do": "read", "path": NOTE}, session))
        runtime.delete()


class Termination(Suite):
    def test_sigterm_reaches_the_agent_and_what_it_writes_then_is_kept(self):
        runtime = create(filesystemConfigurations=STORAGE,
                         environmentVariables={"LAB_TERM_NOTE": "/mnt/workspace/term", "LAB_GRACE": "0.3"})
        session = new_session()
        runtime.invoke({"do": "echo"}, session)
        runtime.stop(session)
        self.assertEqual(runtime.command("cat /mnt/workspace/term", session).stdout, "terminated\n")
        runtime.delete()

    def test_a_retry_of_a_conflict_is_not_needed_right_after_stop(self):
        runtime, session = create(), new_session()
        runtime.invoke({"do": "echo"}, session)
        once = data(retries={"max_attempts": 1, "mode": "standard"})
        runtime.stop(session, client=once)
        self.assertEqual(runtime.invoke({"do": "echo", "n": 1}, session, client=once), {"n": 1})
        runtime.delete()

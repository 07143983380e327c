"""InvokeAgentRuntimeCommand."""

import concurrent.futures
import http.client
import json
import time
import urllib.parse

from harness import ENDPOINT, LIMIT, Command, Raw, Suite, create, data, new_session, path_of, until

from frames import events


class Commands(Suite):
    SETTINGS = {}

    def setUp(self):
        self.session = new_session()

    def run_command(self, text, **more):
        return self.runtime.command(text, self.session, **more)

    def test_order_and_exit_code(self):
        done = self.run_command("echo out; echo err >&2; exit 7")
        self.assertEqual((done.stdout, done.stderr, done.exit_code, done.status), ("out\n", "err\n", 7, "COMPLETED"))
        self.assertEqual(done.events[0], {"contentStart": {}})
        self.assertEqual([list(e) for e in done.events].count(["contentStart"]), 1)
        self.assertEqual([list(e) for e in done.events].count(["contentStop"]), 1)
        self.assertEqual(list(done.events[-1]), ["contentStop"])
        self.assertEqual(done.answer["runtimeSessionId"], self.session)
        self.assertEqual(done.answer["contentType"], "application/vnd.amazon.eventstream")
        self.assertEqual(done.answer["statusCode"], 200)

    def test_exit_codes(self):
        for text, code in {"true": 0, "ls /nope": 2, "no-such-program": 127, "kill -9 $$": 137, "exit 255": 255}.items():
            with self.subTest(text):
                done = self.run_command(text)
                self.assertEqual((done.exit_code, done.status), (code, "COMPLETED"))

    def test_root_bash_and_nothing_carried_over(self):
        self.assertEqual(self.run_command("whoami; id -u").stdout, "root\n0\n")
        self.assertEqual(self.run_command("echo ${BASH_VERSION:+bash}; [[ a == a ]] && echo yes").stdout, "bash\nyes\n")
        self.run_command("export CARRIED=1; cd /tmp; touch here")
        self.assertEqual(self.run_command("echo [$CARRIED]; ls /tmp/here; pwd").stdout.splitlines()[:2],
                         ["[]", "/tmp/here"])
        self.assertEqual(self.run_command('/bin/bash -c "echo wrapped"').stdout, "wrapped\n")
        self.assertEqual(self.run_command("cat").stdout, "", "there is no standard input")

    def test_same_machine_as_the_agent(self):
        who = self.runtime.invoke({"do": "who"}, self.session)
        seen = self.run_command("hostname; pwd; python3 --version >/dev/null 2>&1; kill -0 "
                                f"{who['pid']} && echo agent").stdout
        self.assertEqual(seen, f"{who['host']}\n{who['cwd']}\nagent\n")
        self.run_command("echo from the command > /tmp/shared")
        self.assertEqual(self.runtime.invoke({"do": "read", "path": "/tmp/shared"}, self.session)["text"],
                         "from the command\n")

    def test_output_arrives_as_it_is_written(self):
        answer = self.runtime.command_raw(
            "for i in 1 2 3 4; do echo $i; until [ -e /tmp/gate$i ]; do sleep 0.02; done; done", self.session)
        arrivals = []
        for event in answer["stream"]:
            if "contentDelta" in event["chunk"]:
                arrivals.append(event["chunk"]["contentDelta"]["stdout"])
                # The next is written only now: whoever holds output back waits for ever.
                self.run_command(f"touch /tmp/gate{len(arrivals)}")
        self.assertEqual(arrivals, ["1\n", "2\n", "3\n", "4\n"])

    def test_utf_8_is_never_torn(self):
        # Each byte of each character is written alone, with time for it to be sent alone.
        done = self.run_command(
            "for b in '\\303' '\\244' '\\342' '\\202' '\\254' '\\360' '\\237' '\\230' '\\200'; do"
            " printf \"$b\"; sleep 0.05; done")
        self.assertEqual(done.stdout, "ä€😀")
        for event in done.events:
            self.assertNotIn("\ufffd", json.dumps(event, ensure_ascii=False))
        big = self.run_command("for i in $(seq 40000); do printf 'ä€😀'; done")
        self.assertEqual(big.stdout, "ä€😀" * 40000)

    def test_bytes_that_are_no_text(self):
        done = self.run_command("printf 'a\\377b'")
        self.assertEqual(done.stdout, "a\ufffdb")

    def test_chunks_stay_below_64_kb(self):
        done = self.run_command("head -c 3000000 /dev/zero | tr '\\0' x")
        self.assertEqual(len(done.stdout), 3_000_000)
        largest = max(len(e["contentDelta"].get("stdout", "").encode()) for e in done.events if "contentDelta" in e)
        self.assertLessEqual(largest, 64 * 1024)

    def test_timeout(self):
        begin = time.monotonic()
        done = self.run_command("echo start; (sleep 60; echo late) & setsid sleep 61 & sleep 62", timeout=1)
        self.assertLess(time.monotonic() - begin, 40)
        self.assertEqual((done.stdout, done.exit_code, done.status), ("start\n", -1, "TIMED_OUT"))
        left = self.run_command("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done"
                                " | grep -c '^sleep 6[012]'")
        self.assertEqual(left.stdout.strip(), "0", "the whole process group is ended, setsid children too")

    def test_the_timeout_holds_although_nobody_reads(self):
        answer = self.runtime.command_raw(
            "yes & while :; do date >> /tmp/ticks; sleep 0.1; done", self.session, timeout=1)
        ticks = lambda: self.run_command("wc -l < /tmp/ticks; pgrep -c yes").stdout.split()
        until("the end of the command", lambda: ticks()[-1] == "0")
        before = ticks()
        time.sleep(0.5)
        self.assertEqual(ticks(), before)
        events = [event for event in answer["stream"]]
        self.assertEqual(events[-1]["chunk"]["contentStop"], {"exitCode": -1, "status": "TIMED_OUT"})

    def test_in_parallel(self):
        self.run_command("true")
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda n: self.run_command(f"sleep 2; echo {n}"), range(6)))
        self.assertLess(time.monotonic() - begin, 11, "one after the other")
        self.assertEqual([d.stdout for d in done], [f"{n}\n" for n in range(6)])

    def test_background_children_live_on_after_the_end(self):
        # The child waits for what is done only after the command's end.
        done = self.run_command("(until [ -e /tmp/enough ]; do sleep 0.02; done; echo late > /tmp/late) & echo done")
        self.assertEqual((done.stdout, done.exit_code), ("done\n", 0))
        self.run_command("touch /tmp/enough")
        until("the child's file", lambda: self.run_command("cat /tmp/late 2>/dev/null").stdout == "late\n")

    def test_a_caller_that_leaves_ends_the_command(self):
        answer = self.runtime.command_raw("echo begun; sleep 300; touch /tmp/ran-on", self.session)
        for event in answer["stream"]:
            if "contentDelta" in event["chunk"]:
                break
        answer["stream"].close()
        until("the sleep ended", lambda: self.run_command(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done"
            " | grep -c '^sleep 300'").stdout.strip() == "0")

    def test_an_unknown_session_is_started(self):
        self.assertEqual(self.runtime.command("echo first", new_session()).stdout, "first\n")

    def test_frames_with_a_decoder_of_our_own(self):
        url = urllib.parse.urlsplit(ENDPOINT)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT)
        self.addCleanup(connection.close)
        body = json.dumps({"command": "printf 'a€'; printf 'b' >&2; exit 3"})
        connection.request("POST", path_of(self.runtime.arn, "commands"), body, {
            "Content-Type": "application/json", "Accept": "application/vnd.amazon.eventstream"})
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("content-type")),
                         (200, "application/vnd.amazon.eventstream"))
        self.assertGreaterEqual(len(answer.getheader("x-amzn-bedrock-agentcore-runtime-session-id")), 33)
        found = list(events(answer.read1))
        ours = Command(None, found)
        self.assertEqual((ours.stdout, ours.stderr, ours.exit_code, ours.status), ("a€", "b", 3, "COMPLETED"))
        self.assertEqual(found[0], {"contentStart": {}})


class DeafAgent(Suite):
    AGENT = "deaf"
    SETTINGS = {}

    def test_commands_need_no_healthy_agent(self):
        begin = time.monotonic()
        self.assertEqual(self.runtime.command("echo still", new_session()).stdout, "still\n")
        self.assertLess(time.monotonic() - begin, 25, "the agent was waited for")

    def test_beside_a_crashed_agent_too(self):
        runtime, session = create("crash"), new_session()
        self.assertEqual(runtime.command("echo one > /tmp/f; cat /tmp/f", session).stdout, "one\n")
        runtime.delete()

    def test_an_agent_that_never_answers_pings(self):
        begin = time.monotonic()
        answer = self.error("RuntimeClientError", self.runtime.invoke, {"do": "echo"}, new_session(),
                            client=data(read_timeout=90))
        self.assertEqual(answer["Error"]["Message"].split("\n")[0],
                         "Runtime initialization time exceeded. "
                         "Please make sure that initialization completes in 30s.")
        self.assertGreater(time.monotonic() - begin, 25)


class ResponseLimit(Suite):
    SETTINGS = {}

    def test_the_100_mb_end_of_a_response(self):
        answer = Raw("POST", path_of(self.runtime.arn, "commands"),
                     json.dumps({"command": "yes 0123456789abcdef | head -c 110000000; echo end >&2"}),
                     {"Content-Type": "application/json"})
        self.assertEqual(answer.status, 200)
        view, at = memoryview(answer.body), 0

        def read(count):
            nonlocal at
            piece = bytes(view[at:at + count])
            at += len(piece)
            return piece

        from frames import frames
        total, last = 0, None
        for headers, payload in frames(read):
            last = (headers, payload)
            if headers[":message-type"] == "event":
                delta = json.loads(payload).get("contentDelta", {})
                total += sum(len(text.encode()) for text in delta.values())
        self.assertLessEqual(total, 100_000_000)
        self.assertGreater(total, 90_000_000)
        headers, _ = last
        # Either way the caller is told; silence would look like complete output.
        self.assertIn(headers.get(":exception-type") or headers.get(":event-type"),
                      ("chunk", "serviceQuotaExceededException", "validationException", "runtimeClientError"))

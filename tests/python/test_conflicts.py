"""409 while a session starts or stops; the emulator runs with `--conflicts aws`."""

import concurrent.futures

from harness import Suite, create, data, new_session, state_of, until

ONCE = {"retries": {"total_max_attempts": 1}}
TEXT = "Session operation in progress, please retry"


class RetryableConflict(Suite):
    def refused(self, call):
        answer = self.error("RetryableConflictException", call)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 409)
        self.assertEqual(answer["Error"]["Message"], TEXT)

    def wait_for(self, session, *states):
        until(f"{session} {states}", lambda: state_of(session) in states)

    def test_while_a_session_starts(self):
        runtime, session = create(environmentVariables={"LAB_SLOW_START": "8"}), new_session()
        once = data(**ONCE)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(runtime.invoke, {"do": "echo", "n": 1}, session)
            # It is shown as ready when its compute is, which the agent makes wait.
            self.wait_for(session, "provisioning", "ready")
            self.refused(lambda: runtime.invoke({"do": "echo"}, session, client=once))
            self.assertEqual(first.result(), {"n": 1}, "the call that starts the session is not disturbed")
        runtime.delete()

    def test_while_a_session_stops_and_boto3_repeats_by_itself(self):
        runtime, session = create(environmentVariables={"LAB_GRACE": "3"}), new_session()
        once, patient = data(**ONCE), data(retries={"max_attempts": 12, "mode": "standard"})
        runtime.invoke({"do": "echo"}, session)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stop = pool.submit(runtime.stop, session)
            self.wait_for(session, "stopping")
            self.refused(lambda: runtime.invoke({"do": "echo"}, session, client=once))
            self.assertEqual(runtime.invoke({"do": "echo", "n": 2}, session, client=patient), {"n": 2})
            stop.result()
        runtime.delete()

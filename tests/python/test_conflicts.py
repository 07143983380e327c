"""409 while a session starts or stops; the emulator runs with `--conflicts aws`."""

import concurrent.futures
import time

from harness import Suite, create, data, new_session

ONCE = {"retries": {"max_attempts": 1, "mode": "standard"}}
TEXT = "Session operation in progress, please retry"


class RetryableConflict(Suite):
    def refused(self, call):
        answer = self.error("RetryableConflictException", call)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 409)
        self.assertEqual(answer["Error"]["Message"], TEXT)

    def test_while_a_session_starts(self):
        runtime, session = create(environmentVariables={"LAB_SLOW_START": "2"}), new_session()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(runtime.invoke, {"do": "echo", "n": 1}, session)
            time.sleep(0.7)
            self.refused(lambda: runtime.invoke({"do": "echo"}, session, client=data(**ONCE)))
            self.assertEqual(first.result(), {"n": 1}, "the call that starts the session is not disturbed")
        runtime.delete()

    def test_while_a_session_stops_and_boto3_repeats_by_itself(self):
        runtime, session = create(environmentVariables={"LAB_GRACE": "1.5"}), new_session()
        runtime.invoke({"do": "echo"}, session)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stop = pool.submit(runtime.stop, session)
            time.sleep(0.5)
            self.refused(lambda: runtime.invoke({"do": "echo"}, session, client=data(**ONCE)))
            patient = data(retries={"max_attempts": 8, "mode": "standard"})
            self.assertEqual(runtime.invoke({"do": "echo", "n": 2}, session, client=patient), {"n": 2})
            stop.result()
        runtime.delete()

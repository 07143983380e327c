"""InvokeAgentRuntime's bodies and headers."""

import hashlib
import http.client
import json
import urllib.parse

from harness import ENDPOINT, LIMIT, Raw, Suite, create, data, new_session, path_of

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"


class Bodies(Suite):
    SETTINGS = {}

    def test_sse_arrives_in_the_pieces_that_were_sent(self):
        session = new_session()
        answer = self.runtime.invoke_raw({"do": "sse", "count": 5, "gate": "/tmp/gate"}, session)
        self.assertEqual(answer["contentType"], "text/event-stream")
        numbers = []
        for line in answer["response"].iter_lines(chunk_size=1):
            if line:
                numbers.append(json.loads(line.removeprefix(b"data: "))["number"])
                # The next is sent only now: whoever holds a piece back waits for ever.
                self.runtime.invoke({"do": "write", "path": f"/tmp/gate{len(numbers)}", "text": ""}, session)
        self.assertEqual(numbers, list(range(5)))

    def test_each_piece_is_a_chunk_of_its_own(self):
        url = urllib.parse.urlsplit(ENDPOINT)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT)
        self.addCleanup(connection.close)
        connection.request("POST", path_of(self.runtime.arn, "invocations"),
                           json.dumps({"do": "sse", "count": 3, "gap": 0.3}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        pieces = [answer.read1(65536) for _ in range(3)]
        self.assertEqual(pieces, [b'data: {"number": %d}\n\n' % n for n in range(3)])

    def test_binary_goes_both_ways_unchanged(self):
        body = bytes(range(256)) * 4096
        answer = self.runtime.invoke_raw(body, new_session(), contentType="application/x-echo",
                                         accept="application/x-echo")
        self.assertEqual(answer["contentType"], "application/x-echo")
        self.assertEqual(hashlib.sha256(answer["response"].read()).hexdigest(), hashlib.sha256(body).hexdigest())

    def test_100_mb_request(self):
        body = b"\x00\x01\x02\x03" * 25_000_000
        answer = self.runtime.invoke(body, new_session(), contentType="application/x-digest")
        self.assertEqual(answer, {"bytes": 100_000_000, "sha256": hashlib.sha256(body).hexdigest()})

    def test_more_than_100_mb_is_refused(self):
        url = urllib.parse.urlsplit(ENDPOINT)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT)
        self.addCleanup(connection.close)
        connection.putrequest("POST", path_of(self.runtime.arn, "invocations"))
        connection.putheader("Content-Length", "100000001")
        connection.putheader("Content-Type", "application/x-digest")
        connection.endheaders()
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("x-amzn-errortype")), (400, "ValidationException"))

    def test_an_empty_and_a_plain_body(self):
        answer = self.runtime.invoke(b"", new_session(), contentType="application/x-digest")
        self.assertEqual(answer["bytes"], 0)


class Headers(Suite):
    SETTINGS = {"requestHeaderConfiguration": {"requestHeaderAllowlist": [
        "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant", "X-Api-Key"]}}

    def seen(self, headers=None, body=b'{"do": "headers"}', runtime=None):
        answer = Raw("POST", path_of((runtime or self.runtime).arn, "invocations"), body, headers)
        self.assertEqual(answer.status, 200, answer.body)
        return answer, dict(answer.json()["headers"])

    def test_exactly_the_documented_headers(self):
        session = new_session()
        answer, seen = self.seen({
            SESSION: session, "X-Amzn-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793", "baggage": "k=v",
            "User-Agent": "tester", "Authorization": "Bearer x", "X-Other": "no", "Cookie": "no"})
        self.assertEqual(set(seen) - {"accept-encoding"}, {
            "x-amzn-requestid", "baggage", "content-length", "host", SESSION, "x-amzn-trace-id"})
        self.assertEqual(seen[SESSION], session)
        self.assertEqual(seen["baggage"], "k=v")
        self.assertEqual(seen["x-amzn-trace-id"], "Root=1-5759e988-bd862e3fe1be46a994272793")
        self.assertEqual(seen["x-amzn-requestid"], answer.headers["x-amzn-requestid"])
        self.assertEqual(answer.headers[SESSION], session)

    def test_content_type_and_accept_only_when_given(self):
        _, seen = self.seen({"Content-Type": "application/json", "Accept": "text/event-stream"})
        self.assertEqual((seen["content-type"], seen["accept"]), ("application/json", "text/event-stream"))

    def test_allowlisted_headers(self):
        _, seen = self.seen({"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant": "t1", "x-api-key": "k"})
        self.assertEqual(seen["x-amzn-bedrock-agentcore-runtime-custom-tenant"], "t1")
        self.assertEqual(seen["x-api-key"], "k")
        plain = create()
        _, seen = self.seen({"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant": "t1", "x-api-key": "k"}, runtime=plain)
        self.assertNotIn("x-amzn-bedrock-agentcore-runtime-custom-tenant", seen)
        self.assertNotIn("x-api-key", seen)
        plain.delete()

    def test_a_session_id_is_made_and_returned(self):
        first, seen = self.seen()
        second, _ = self.seen()
        made = first.headers[SESSION]
        self.assertTrue(33 <= len(made) <= 100)
        self.assertEqual(seen[SESSION], made)
        self.assertNotEqual(made, second.headers[SESSION])

    def test_boto3_fills_a_session_id_by_itself(self):
        answer = self.runtime.invoke_raw({"do": "echo"})
        self.assertEqual(len(answer["runtimeSessionId"]), 36)
        self.assertEqual(answer["statusCode"], 200)

    def test_user_id_is_taken(self):
        session = new_session()
        answer = data().invoke_agent_runtime(agentRuntimeArn=self.runtime.arn, runtimeSessionId=session,
                                             runtimeUserId="somebody", payload=b'{"do": "echo", "n": 1}')
        self.assertEqual(json.loads(answer["response"].read()), {"n": 1})


class SilentAgent(Suite):
    SETTINGS = {}

    def test_20_seconds_of_silence_in_mid_stream(self):
        answer = self.runtime.invoke_raw(
            {"do": "sse", "count": 3, "silent_after": 1, "silence": 20}, new_session())
        lines = [line for line in answer["response"].iter_lines() if line]
        self.assertEqual(len(lines), 3)

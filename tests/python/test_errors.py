"""Every error of the service that the emulator raises, by its boto3 class."""

import json
import os
import resource
import socket
import sqlite3
import time
import urllib.parse

from harness import (ENDPOINT, HOME, ROLE, Raw, Suite, artifact, control, create, data, new_name, new_session,
                     path_of, until)

UNCHECKED = {"parameter_validation": False}


class Validation(Suite):
    SETTINGS = {}

    def create(self, **changes):
        settings = {"agentRuntimeName": new_name(), "agentRuntimeArtifact": artifact(), "roleArn": ROLE,
                    "networkConfiguration": {"networkMode": "PUBLIC"}} | changes
        return control(**UNCHECKED).create_agent_runtime(**settings)

    def refused(self, *fields, message=None, **changes):
        answer = self.error("ValidationException", self.create, **changes)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 400)
        self.assertIn(answer.get("reason"), ("FieldValidationFailed", "CannotParse"))
        names = [field["name"] for field in answer.get("fieldList", [])]
        for field in fields:
            self.assertTrue(any(field in name for name in names), f"{field} is not named in {answer}")
        if message:
            self.assertIn(message, json.dumps(answer["Error"]) + json.dumps(answer.get("fieldList", [])))
        return answer

    def test_every_wrong_field_is_named(self):
        self.refused("agentRuntimeName", "roleArn", "idleRuntimeSessionTimeout",
                     agentRuntimeName="1-starts-with-a-digit", roleArn="not an arn",
                     lifecycleConfiguration={"idleRuntimeSessionTimeout": 30})

    def test_required_members(self):
        answer = self.error("ValidationException", control(**UNCHECKED).create_agent_runtime,
                            agentRuntimeName=new_name())
        names = json.dumps(answer.get("fieldList"))
        self.assertIn("agentRuntimeArtifact", names)
        self.assertIn("roleArn", names)

    def test_idle_above_lifetime(self):
        self.refused(message="idleRuntimeSessionTimeout must be less than or equal to maxLifetime",
                     lifecycleConfiguration={"idleRuntimeSessionTimeout": 700, "maxLifetime": 600})

    def test_file_system_rules(self):
        def at(path):
            return {"sessionStorage": {"mountPath": path}}
        for wrong in ([at("/data")], [at("/mnt/a/b")], [at("/mnt/")], [at("/mnt/a"), at("/mnt/b")],
                      [at("/mnt/a"), at("/mnt/a/")], [at(f"/mnt/{n}") for n in range(6)]):
            with self.subTest(wrong):
                self.refused("filesystemConfigurations", filesystemConfigurations=wrong)

    def test_a_trailing_slash_is_ignored(self):
        runtime = create(filesystemConfigurations=[{"sessionStorage": {"mountPath": "/mnt/data/"}}])
        self.assertEqual(runtime.command("ls -d /mnt/data", new_session()).stdout, "/mnt/data\n")
        runtime.delete()

    def put(self, **members):
        body = {"agentRuntimeName": new_name(), "agentRuntimeArtifact": artifact(), "roleArn": ROLE,
                "networkConfiguration": {"networkMode": "PUBLIC"}} | members
        return Raw("PUT", "/runtimes/", json.dumps(body).encode(), {"Content-Type": "application/json"})

    def test_unknown_members_are_ignored_but_not_in_file_systems(self):
        self.assertEqual(self.put(notAMember=1).status, 202)
        answer = self.put(filesystemConfigurations=[{"sessionStorage": {"mountPath": "/mnt/a", "sizeInGiB": 10}}])
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (400, "ValidationException"))
        self.assertIn("sizeInGiB", answer.body.decode())
        self.assertIn("mountPath", answer.body.decode())

    def test_a_body_that_is_not_json(self):
        answer = Raw("PUT", "/runtimes/", b"{not json", {"Content-Type": "application/json"})
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (400, "ValidationException"))
        self.assertEqual(answer.json()["reason"], "CannotParse")

    def test_what_the_emulator_does_not_do_is_refused_by_name(self):
        efs = {"efsAccessPoint": {"accessPointArn":
               "arn:aws:elasticfilesystem:us-west-2:123456789012:access-point/fsap-0123456789abcdef0",
                                  "mountPath": "/mnt/efs"}}
        s3_files = {"s3FilesAccessPoint": {"accessPointArn":
                    "arn:aws:s3files:us-west-2:123456789012:file-system/fs-0123456789abcdef0/"
                    "access-point/fsap-0123456789abcdef0", "mountPath": "/mnt/s3"}}
        bundle = json.loads(json.dumps(artifact()))
        bundle["codeConfiguration"]["code"]["s3"]["bucket"] = "somebody-elses-bucket"
        for name, change in {
            "somebody-elses-bucket": {"agentRuntimeArtifact": bundle},
            "VPC": {"networkConfiguration": {"networkMode": "VPC", "networkModeConfig": {
                "securityGroups": ["sg-0123456789abcdef0"], "subnets": ["subnet-0123456789abcdef0"]}}},
            "efsAccessPoint": {"filesystemConfigurations": [efs]},
            "s3FilesAccessPoint": {"filesystemConfigurations": [s3_files]},
            "customJWTAuthorizer": {"authorizerConfiguration": {"customJWTAuthorizer": {
                "discoveryUrl": "https://idp.example/.well-known/openid-configuration"}}},
            "serverProtocol": {"protocolConfiguration": {"serverProtocol": "MCP"}},
        }.items():
            with self.subTest(name):
                self.refused(message=name, **change)

    def test_data_plane_inputs(self):
        client = data(**UNCHECKED)
        calls = {
            "a short session id": lambda: self.runtime.invoke({"do": "echo"}, "too-short", client=client),
            "an illegal session id": lambda: self.runtime.invoke({"do": "echo"}, "-" + "a" * 40, client=client),
            "a long session id": lambda: self.runtime.invoke({"do": "echo"}, "a" * 300, client=client),
            "a timeout of 0": lambda: self.runtime.command("true", client=client, timeout=0),
            "a timeout of 3601": lambda: self.runtime.command("true", client=client, timeout=3601),
            "an empty command": lambda: self.runtime.command("", client=client),
            "a long command": lambda: self.runtime.command("#" + "x" * 65536, client=client),
            "a bad ARN": lambda: client.invoke_agent_runtime(
                agentRuntimeArn="arn:aws:bedrock:us-west-2:123456789012:agent/x", payload=b"{}"),
            "a bare id without accountId": lambda: client.invoke_agent_runtime(
                agentRuntimeArn=self.runtime.id, payload=b"{}"),
        }
        for name, call in calls.items():
            with self.subTest(name):
                answer = self.error("ValidationException", call)
                self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 400)
                self.assertTrue(answer.get("reason"))
                self.assertTrue(answer["Error"]["Message"])

    def test_the_longest_command_and_timeout_are_taken(self):
        text = "echo ok #"
        longest = text + "x" * (65536 - len(text))
        self.assertEqual(self.runtime.command(longest, new_session(), timeout=3600).stdout, "ok\n")


class NotFound(Suite):
    SETTINGS = {}

    def text(self, qualifier, arn):
        return f"No endpoint or agent found with qualifier '{qualifier}' for agent '{arn}'"

    def test_unknown_endpoint_and_runtime(self):
        answer = self.error("ResourceNotFoundException", self.runtime.invoke, {"do": "echo"}, qualifier="nowhere")
        self.assertEqual(answer["Error"]["Message"], self.text("nowhere", self.runtime.arn))
        arn = self.runtime.arn[:-10] + "0000000000"
        for call in (
            lambda: data().invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}"),
            lambda: data().invoke_agent_runtime_command(agentRuntimeArn=arn, body={"command": "true"}),
            lambda: data().stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=new_session()),
        ):
            answer = self.error("ResourceNotFoundException", call)
            self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 404)
            self.assertEqual(answer["Error"]["Message"], self.text("DEFAULT", arn))

    def test_control_plane(self):
        unknown = self.runtime.id[:-10] + "0000000000"
        for call in (
            lambda: control().get_agent_runtime(agentRuntimeId=unknown),
            lambda: control().get_agent_runtime(agentRuntimeId=self.runtime.id, agentRuntimeVersion="77"),
            lambda: control().delete_agent_runtime(agentRuntimeId=unknown),
            lambda: control().update_agent_runtime(
                agentRuntimeId=unknown, agentRuntimeArtifact=artifact(), roleArn=ROLE),
            lambda: control().get_agent_runtime_endpoint(agentRuntimeId=self.runtime.id, endpointName="nowhere"),
        ):
            self.error("ResourceNotFoundException", call)

    def test_bare_id_with_account(self):
        account = self.runtime.arn.split(":")[4]
        call = dict(agentRuntimeArn=self.runtime.id, payload=b'{"do": "echo", "n": 1}')
        answer = data().invoke_agent_runtime(accountId=account, **call)
        self.assertEqual(json.loads(answer["response"].read()), {"n": 1})
        other = "999999999999" if account != "999999999999" else "888888888888"
        with self.assertRaises(Exception) as caught:
            data().invoke_agent_runtime(accountId=other, **call)
        self.assertIn(caught.exception.response["Error"]["Code"],
                      ("ResourceNotFoundException", "AccessDeniedException"))


class Conflict(Suite):
    SETTINGS = {}

    def test_a_taken_name(self):
        name = self.runtime.get()["agentRuntimeName"]
        answer = self.error("ConflictException", create, agentRuntimeName=name)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 409)

    def test_a_runtime_in_transition(self):
        # The change is quick by default, so a call may come too late for it; in twenty attempts one is in time.
        client, seen = control(), None
        for _ in range(20):
            now = self.runtime.get()
            change = {k: now[k] for k in ("agentRuntimeArtifact", "roleArn", "networkConfiguration")}
            try:
                client.update_agent_runtime(agentRuntimeId=self.runtime.id, **change)
                client.update_agent_runtime(agentRuntimeId=self.runtime.id, **change)
            except client.exceptions.ConflictException as error:
                seen = error
                break
            finally:
                self.runtime.wait_ready()
        self.assertIsNotNone(seen, "an update during an update is refused")

    def test_default_endpoint_is_not_deleted_by_hand(self):
        with self.assertRaises(Exception) as caught:
            control().delete_agent_runtime_endpoint(agentRuntimeId=self.runtime.id, endpointName="DEFAULT")
        self.assertIn(caught.exception.response["Error"]["Code"], ("ConflictException", "ValidationException"))

    def test_a_client_token_with_another_input(self):
        token = "token-" + "x" * 40
        first = create(clientToken=token, agentRuntimeName=(name := new_name()))
        again = control().create_agent_runtime(
            agentRuntimeName=name, agentRuntimeArtifact=artifact(), roleArn=ROLE, clientToken=token,
            networkConfiguration={"networkMode": "PUBLIC"})
        self.assertEqual(again["agentRuntimeId"], first.id)
        answer = self.error("ValidationException", create, clientToken=token)
        self.assertEqual(answer["reason"], "IdempotentParameterMismatchException")
        first.delete()


class RuntimeClient(Suite):
    SETTINGS = {}

    def test_the_agents_own_errors_become_424_and_are_not_repeated(self):
        session = new_session()
        for status in (500, 404, 400, 503):
            key = f"k{status}"
            answer = self.error("RuntimeClientError", self.runtime.invoke,
                                {"do": "fail", "status": status, "key": key}, session)
            self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 424)
            self.assertEqual(answer["Error"]["Message"],
                             f"Received error ({status}) from runtime. "
                             "Please check your CloudWatch logs for more information.")
            self.assertEqual(self.runtime.invoke({"do": "count", "key": key}, session)["count"], 1)

    def test_the_agents_error_body_stays_inside(self):
        answer = Raw("POST", path_of(self.runtime.arn, "invocations"), b'{"do": "fail", "status": 500}')
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (424, "RuntimeClientError"))
        self.assertNotIn(b"secret", answer.body)
        self.assertTrue(answer.headers["x-amzn-requestid"])

    def test_an_agent_that_ends_at_start(self):
        runtime, begin = create("crash"), time.monotonic()
        answer = self.error("RuntimeClientError", runtime.invoke, {"do": "echo"}, new_session())
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 424)
        self.assertTrue(answer["Error"]["Message"].startswith(
            "Runtime initialization time exceeded. Please make sure that initialization completes in 30s."),
            answer["Error"]["Message"])
        self.assertLess(time.monotonic() - begin, 28, "what has ended is not waited for")
        runtime.delete()


class Refusals(Suite):
    """What has nothing to do with the input."""

    SETTINGS = {}
    # boto3 repeats what is throttled and what failed in the service.
    ONCE = {"retries": {"total_max_attempts": 1}}

    def status(self, answer):
        return answer["ResponseMetadata"]["HTTPStatusCode"]

    def test_a_web_pages_calls_are_denied(self):
        for client, call in ((control(), lambda c: c.list_agent_runtimes()),
                             (data(), lambda c: self.runtime.invoke({"do": "echo"}, client=c))):
            client.meta.events.register("before-sign", lambda request, **_:
                                        request.headers.add_header("Origin", "https://evil.example"))
            answer = self.error("AccessDeniedException", call, client)
            self.assertEqual(self.status(answer), 403)
            self.assertIn("https://evil.example", answer["Error"]["Message"])

    def test_one_endpoint_too_many(self):
        client = control()
        for number in range(1, 10):
            client.create_agent_runtime_endpoint(agentRuntimeId=self.runtime.id, name=f"e{number}")
            self.runtime.wait_ready()
        answer = self.error("ServiceQuotaExceededException", lambda: client.create_agent_runtime_endpoint(
            agentRuntimeId=self.runtime.id, name="more"))
        self.assertEqual(self.status(answer), 402)

    def test_one_connection_too_many(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        url = urllib.parse.urlsplit(ENDPOINT)
        held = []
        try:
            # As many as the emulator lets in, and a few for what it tells the others.
            for _ in range(2048 + 16):
                held.append(socket.create_connection((url.hostname, url.port)))
            for client, call in ((control(**self.ONCE), lambda c: c.list_agent_runtimes()),
                                 (data(**self.ONCE), lambda c: self.runtime.invoke({"do": "echo"}, client=c))):
                answer = self.error("ThrottlingException", call, client)
                self.assertEqual(self.status(answer), 429)
        finally:
            for connection in held:
                connection.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # boto3's own repetitions are patient enough once there is room.
        until("room again", lambda: control().list_agent_runtimes()["agentRuntimes"])

    def test_a_state_that_cannot_be_written(self):
        state = sqlite3.connect(os.path.join(HOME, "state.db"), isolation_level=None)
        state.execute("BEGIN IMMEDIATE")
        try:
            answer = self.error("InternalServerException", control(**self.ONCE).tag_resource,
                                resourceArn=self.runtime.arn, tags={"a": "b"})
            self.assertEqual(self.status(answer), 500)
        finally:
            state.rollback()
            state.close()
        control().tag_resource(resourceArn=self.runtime.arn, tags={"a": "b"})
        self.assertEqual(control().list_tags_for_resource(resourceArn=self.runtime.arn)["tags"], {"a": "b"})


class OnTheWire(Suite):
    SETTINGS = {}

    def test_errors_and_answers_carry_request_ids(self):
        missing = Raw("GET", f"/runtimes/{self.runtime.id[:-10]}0000000000/")
        self.assertEqual((missing.status, missing.headers["x-amzn-errortype"]), (404, "ResourceNotFoundException"))
        self.assertIn("message", missing.json())
        found = Raw("GET", f"/runtimes/{self.runtime.id}/")
        self.assertEqual(found.status, 200)
        self.assertNotEqual(missing.headers["x-amzn-requestid"], found.headers["x-amzn-requestid"])

    def test_what_is_no_path_no_query_or_too_long_is_a_validation_exception(self):
        invocations = path_of(self.runtime.arn, "invocations")
        for path, headers in (
            ("/runtimes/%FF/invocations", {}),
            (invocations + "?qualifier=a&qualifier=b", {}),
            (invocations, {"traceparent": "x" * 129}),
            (invocations, {"X-Amzn-Bedrock-AgentCore-Runtime-User-Id": "u" * 1025}),
            (path_of(self.runtime.arn, "commands"), {"traceparent": "x" * 1025, "Content-Type": "application/json"}),
        ):
            answer = Raw("POST", path, b"{}", headers)
            self.assertEqual((answer.status, answer.headers.get("x-amzn-errortype")),
                             (400, "ValidationException"), (path, answer.body))

    def test_operations_that_are_not_done_are_named(self):
        answer = Raw("GET", path_of(self.runtime.arn, "invocations/.well-known/agent-card.json"))
        self.assertGreaterEqual(answer.status, 400)
        self.assertIn("x-amzn-errortype", answer.headers)
        self.assertIn(b"GetAgentCard", answer.body)

    def test_other_hosts_and_origins_are_refused(self):
        path = f"/runtimes/{self.runtime.id}/"
        self.assertEqual(Raw("GET", path, headers={"Host": "evil.example"}).status, 403)
        self.assertEqual(Raw("GET", path, headers={"Origin": "https://evil.example"}).status, 403)

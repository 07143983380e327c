"""Control plane beyond the main story: versions, endpoints, pages, tags, tokens."""

import copy
import datetime
import uuid

from harness import (ROLE, STORAGE, Runtime, Suite, artifact, control, create, new_name, new_session, until)


class Fields(Suite):
    def test_every_field_comes_back_as_it_was_given(self):
        given = {
            "description": "an agent",
            "environmentVariables": {"A": "1", "B": "ä"},
            "filesystemConfigurations": STORAGE,
            "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 120, "maxLifetime": 3600},
            "protocolConfiguration": {"serverProtocol": "HTTP"},
            "requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-Api-Key"]},
            "networkConfiguration": {"networkMode": "PUBLIC"},
            "roleArn": ROLE,
        }
        runtime = create(**given)
        got = runtime.get()
        self.assertEqual({k: got[k] for k in given}, given)
        self.assertEqual(got["agentRuntimeArtifact"], artifact())
        self.assertRegex(got["agentRuntimeId"], r"^[a-zA-Z][a-zA-Z0-9_]*-[a-zA-Z0-9]{10}$")
        self.assertRegex(got["agentRuntimeArn"],
                         r"^arn:aws:bedrock-agentcore:[a-z0-9-]+:[0-9]{12}:runtime/" + got["agentRuntimeId"] + "$")
        self.assertEqual((got["agentRuntimeVersion"], got["status"]), ("1", "READY"))
        self.assertIsInstance(got["createdAt"], datetime.datetime)
        self.assertIn("workloadIdentityArn", got["workloadIdentityDetails"])
        runtime.delete()

    def test_an_update_resets_what_it_leaves_out(self):
        runtime = create(description="first", environmentVariables={"A": "1"})
        runtime.control.update_agent_runtime(
            agentRuntimeId=runtime.id, agentRuntimeArtifact=artifact(), roleArn=ROLE,
            networkConfiguration={"networkMode": "PUBLIC"})
        got = runtime.wait_ready()
        self.assertNotIn("environmentVariables", got)
        self.assertNotIn("description", got)
        self.assertEqual(got["agentRuntimeVersion"], "2")
        old = runtime.get(agentRuntimeVersion="1")
        self.assertEqual((old["description"], old["environmentVariables"]), ("first", {"A": "1"}))
        runtime.delete()

    def test_read_modify_write_keeps_the_rest(self):
        runtime = create(environmentVariables={"A": "1"}, lifecycleConfiguration={
            "idleRuntimeSessionTimeout": 120, "maxLifetime": 3600})
        runtime.update(filesystemConfigurations=STORAGE)
        got = runtime.get()
        self.assertEqual(got["filesystemConfigurations"], STORAGE)
        self.assertEqual(got["environmentVariables"], {"A": "1"})
        self.assertEqual(got["lifecycleConfiguration"]["idleRuntimeSessionTimeout"], 120)
        runtime.delete()

    def test_create_answers_at_once_and_is_ready_soon(self):
        answer = control().create_agent_runtime(
            agentRuntimeName=new_name(), agentRuntimeArtifact=artifact(), roleArn=ROLE,
            networkConfiguration={"networkMode": "PUBLIC"})
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 202)
        self.assertEqual((answer["status"], answer["agentRuntimeVersion"]), ("CREATING", "1"))
        # An invocation now waits for READY instead of failing.
        runtime = Runtime(answer["agentRuntimeId"])
        self.assertEqual(runtime.invoke({"do": "echo", "n": 1}, new_session()), {"n": 1})
        runtime.delete()

    def test_a_package_that_cannot_be_fetched_makes_a_version_that_fails(self):
        elsewhere = copy.deepcopy(artifact())
        elsewhere["codeConfiguration"]["code"]["s3"]["bucket"] = "somebody-elses-bucket"
        given = {"roleArn": ROLE, "networkConfiguration": {"networkMode": "PUBLIC"},
                 "agentRuntimeArtifact": elsewhere}
        answer = control().create_agent_runtime(agentRuntimeName=new_name(), **given)
        self.assertEqual((answer["ResponseMetadata"]["HTTPStatusCode"], answer["status"]), (202, "CREATING"))
        runtime = Runtime(answer["agentRuntimeId"])

        def settled():
            got = runtime.get()
            return got["status"] not in ("CREATING", "UPDATING") and got
        got = until("CREATE_FAILED", settled)
        self.assertEqual(got["status"], "CREATE_FAILED")
        self.assertIn("s3://somebody-elses-bucket/", got["failureReason"])
        self.assertEqual(got["agentRuntimeArtifact"], elsewhere)
        # What serves goes on serving when the next version fails.
        runtime.control.update_agent_runtime(agentRuntimeId=runtime.id, **{**given, "agentRuntimeArtifact": artifact()})
        runtime.wait_ready()
        runtime.control.update_agent_runtime(agentRuntimeId=runtime.id, **given)
        got = until("UPDATE_FAILED", settled)
        self.assertEqual((got["status"], got["agentRuntimeVersion"]), ("UPDATE_FAILED", "3"))
        self.assertEqual(runtime.invoke({"do": "echo", "n": 1}, new_session()), {"n": 1})
        runtime.delete()


class Endpoints(Suite):
    def ready(self, runtime, name):
        def look():
            got = runtime.control.get_agent_runtime_endpoint(agentRuntimeId=runtime.id, endpointName=name)
            return got["status"] == "READY" and got
        return until(f"endpoint {name} READY", look)

    def test_default_follows_and_named_ones_stay(self):
        runtime = create(environmentVariables={"V": "1"})
        runtime.control.create_agent_runtime_endpoint(
            agentRuntimeId=runtime.id, name="prod", agentRuntimeVersion="1", description="pinned")
        got = self.ready(runtime, "prod")
        self.assertEqual((got["liveVersion"], got["description"], got["name"]), ("1", "pinned", "prod"))
        self.assertEqual(got["agentRuntimeEndpointArn"], f"{runtime.arn}/runtime-endpoint/prod")
        runtime.update(environmentVariables={"V": "2"})
        self.assertEqual(self.ready(runtime, "DEFAULT")["liveVersion"], "2")
        self.assertEqual(self.ready(runtime, "prod")["liveVersion"], "1")

        def version(qualifier):
            return runtime.invoke({"do": "who"}, new_session(), qualifier=qualifier)["environment"]["V"]
        self.assertEqual((version("DEFAULT"), version("prod")), ("2", "1"))
        runtime.control.update_agent_runtime_endpoint(
            agentRuntimeId=runtime.id, endpointName="prod", agentRuntimeVersion="2")
        self.assertEqual(self.ready(runtime, "prod")["liveVersion"], "2")
        self.assertEqual(version("prod"), "2")
        runtime.delete()

    def test_deleting_an_endpoint_ends_its_sessions_only(self):
        runtime, session = create(filesystemConfigurations=STORAGE), new_session()
        runtime.control.create_agent_runtime_endpoint(agentRuntimeId=runtime.id, name="extra")
        self.ready(runtime, "extra")
        for qualifier in ("extra", "DEFAULT"):
            runtime.invoke({"do": "write", "path": "/mnt/workspace/f", "text": qualifier}, session,
                           qualifier=qualifier)
        runtime.control.delete_agent_runtime_endpoint(agentRuntimeId=runtime.id, endpointName="extra")

        def names():
            return [e["name"] for e in runtime.control.list_agent_runtime_endpoints(
                agentRuntimeId=runtime.id)["runtimeEndpoints"]]
        until("endpoint gone", lambda: names() == ["DEFAULT"])
        self.error("ResourceNotFoundException", runtime.invoke, {"do": "echo"}, session, qualifier="extra")
        self.assertEqual(runtime.invoke({"do": "read", "path": "/mnt/workspace/f"}, session)["text"], "DEFAULT")
        runtime.delete()


class Pages(Suite):
    def test_runtimes_versions_and_endpoints(self):
        runtimes = [create(agentRuntimeName=new_name("page")) for _ in range(5)]
        pages = list(control().get_paginator("list_agent_runtimes").paginate(PaginationConfig={"PageSize": 2}))
        self.assertTrue(all(len(page["agentRuntimes"]) <= 2 for page in pages))
        ids = [r["agentRuntimeId"] for page in pages for r in page["agentRuntimes"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertLessEqual({r.id for r in runtimes}, set(ids))

        first = runtimes[0]
        for number in range(4):
            first.update(description=str(number))
        pages = list(control().get_paginator("list_agent_runtime_versions").paginate(
            agentRuntimeId=first.id, PaginationConfig={"PageSize": 2}))
        versions = [v["agentRuntimeVersion"] for page in pages for v in page["agentRuntimes"]]
        self.assertEqual(sorted(versions), ["1", "2", "3", "4", "5"])
        self.assertEqual(len(pages), 3)

        for name in ("a", "b", "c"):
            first.control.create_agent_runtime_endpoint(agentRuntimeId=first.id, name=name)
        pages = list(control().get_paginator("list_agent_runtime_endpoints").paginate(
            agentRuntimeId=first.id, PaginationConfig={"PageSize": 3}))
        names = [e["name"] for page in pages for e in page["runtimeEndpoints"]]
        self.assertEqual(sorted(names), ["DEFAULT", "a", "b", "c"])
        for runtime in runtimes:
            runtime.delete()

    def test_a_token_that_is_none_of_ours(self):
        self.error("ValidationException", control().list_agent_runtimes, nextToken="nonsense")


class Tags(Suite):
    def test_tag_untag_list(self):
        runtime = create(tags={"team": "a", "stage": "dev"})
        client = runtime.control
        self.assertEqual(client.list_tags_for_resource(resourceArn=runtime.arn)["tags"], {"team": "a", "stage": "dev"})
        client.tag_resource(resourceArn=runtime.arn, tags={"team": "b", "x y": "1 2"})
        client.untag_resource(resourceArn=runtime.arn, tagKeys=["stage"])
        self.assertEqual(client.list_tags_for_resource(resourceArn=runtime.arn)["tags"], {"team": "b", "x y": "1 2"})
        unknown = runtime.arn[:-10] + "0000000000"
        self.error("ResourceNotFoundException", client.list_tags_for_resource, resourceArn=unknown)
        runtime.delete()


class Tokens(Suite):
    def test_the_same_token_makes_one_runtime(self):
        token, name = f"token-{uuid.uuid4()}", new_name()
        settings = dict(agentRuntimeName=name, agentRuntimeArtifact=artifact(), roleArn=ROLE,
                        networkConfiguration={"networkMode": "PUBLIC"}, clientToken=token)
        first = control().create_agent_runtime(**settings)
        again = control().create_agent_runtime(**settings)
        for key in ("agentRuntimeId", "agentRuntimeArn", "agentRuntimeVersion", "createdAt"):
            self.assertEqual(first[key], again[key])

    def test_the_same_token_makes_one_version(self):
        runtime, token = create(), f"token-{uuid.uuid4()}"
        change = dict(agentRuntimeId=runtime.id, agentRuntimeArtifact=artifact(), roleArn=ROLE,
                      description="once", clientToken=token)
        first = control().update_agent_runtime(**change)
        runtime.wait_ready()
        again = control().update_agent_runtime(**change)
        self.assertEqual((first["agentRuntimeVersion"], again["agentRuntimeVersion"]), ("2", "2"))
        self.assertEqual(runtime.wait_ready()["agentRuntimeVersion"], "2")
        runtime.delete()

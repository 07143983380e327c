"""The AWS CLI, version 1: create, get, invoke, stop, list, delete."""

import json
import os
import subprocess
import sys
import tempfile

from harness import ENDPOINT, LIMIT, ROLE, STORAGE, Suite, artifact, new_name, new_session, region, until

AWS = os.path.join(os.path.dirname(sys.executable), "aws")


class AwsCli(Suite):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def aws(self, *arguments, check=True):
        # Only what the README tells people to set: no configuration file, no `--endpoint-url`.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": ENDPOINT,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": ENDPOINT,
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": region(), "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        done = subprocess.run([AWS, *arguments], capture_output=True, text=True, env=environment, timeout=LIMIT)
        if not check:
            return done
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def test_create_get_invoke_stop_list_delete(self):
        name, session, out = new_name("cli"), new_session(), os.path.join(self.directory, "out")
        created = self.aws(
            "bedrock-agentcore-control", "create-agent-runtime", "--agent-runtime-name", name,
            "--agent-runtime-artifact", json.dumps(artifact()), "--role-arn", ROLE,
            "--network-configuration", '{"networkMode":"PUBLIC"}',
            "--filesystem-configurations", json.dumps(STORAGE))
        runtime_id, arn = created["agentRuntimeId"], created["agentRuntimeArn"]

        def get():
            return self.aws("bedrock-agentcore-control", "get-agent-runtime", "--agent-runtime-id", runtime_id)
        until("READY", lambda: get()["status"] == "READY")
        self.assertEqual(get()["filesystemConfigurations"], STORAGE)

        answer = self.aws(
            "bedrock-agentcore", "invoke-agent-runtime", "--agent-runtime-arn", arn,
            "--runtime-session-id", session, "--payload", '{"do": "write", "path": "/mnt/workspace/f", "text": "by the CLI"}', out)
        self.assertEqual((answer["statusCode"], answer["runtimeSessionId"]), (200, session))
        with open(out, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["bytes"], 10)

        stop = ("bedrock-agentcore", "stop-runtime-session", "--agent-runtime-arn", arn,
                "--runtime-session-id", session)
        self.assertEqual(self.aws(*stop)["runtimeSessionId"], session)
        again = self.aws(*stop, check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("ResourceNotFoundException", again.stderr)

        listed = self.aws("bedrock-agentcore-control", "list-agent-runtimes", "--max-items", "1000")
        self.assertIn(runtime_id, [r["agentRuntimeId"] for r in listed["agentRuntimes"]])
        deleted = self.aws("bedrock-agentcore-control", "delete-agent-runtime", "--agent-runtime-id", runtime_id)
        self.assertEqual(deleted["status"], "DELETING")
        until("deleted", lambda: "ResourceNotFoundException" in self.aws(
            "bedrock-agentcore-control", "get-agent-runtime", "--agent-runtime-id", runtime_id,
            check=False).stderr)

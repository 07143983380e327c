"""The signatures of boto3, as another user of the machine sends them."""

import ctypes
import json
import os
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from harness import ENDPOINT, Suite, cli, new_session, region

SETFSUID = ctypes.CDLL(None, use_errno=True).setfsuid
NOBODY = 65534


class Strangers(Suite):
    SETTINGS = {}

    def clients(self, key, secret):
        session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=region())
        return [session.client(name, endpoint_url=ENDPOINT, config=Config(retries={"total_max_attempts": 1}))
                for name in ("bedrock-agentcore-control", "bedrock-agentcore")]

    def as_another_user(self, call):
        """The call's outcome when its connection is another user's; as it is where we cannot be another."""
        if os.geteuid() != 0:
            return call()
        SETFSUID(NOBODY)
        try:
            return call()
        finally:
            SETFSUID(0)

    def test_boto3_signs_what_the_emulator_verifies(self):
        key = json.loads(cli("local", "env", "--output", "json").stdout)
        # What botocore loads lazily is loaded before this thread becomes somebody who cannot read it.
        warm_control, warm_data = self.clients("test", "test")
        warm_control.list_agent_runtimes()
        self.runtime.command("true", new_session(), client=warm_data)
        control, data = self.clients(key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"])
        session = new_session()

        def calls():
            listed = control.list_agent_runtimes(maxResults=1)["agentRuntimes"]
            control.tag_resource(resourceArn=self.runtime.arn, tags={"a b": "c+d/e =", "x+/b=": ""})
            control.untag_resource(resourceArn=self.runtime.arn, tagKeys=["x+/b=", "z"])
            tags = control.list_tags_for_resource(resourceArn=self.runtime.arn)["tags"]
            answer = self.runtime.invoke({"do": "echo", "n": 1}, session, client=data, qualifier="DEFAULT",
                                         contentType="application/json")
            said = self.runtime.command("echo  two  spaces", session, client=data).stdout
            self.runtime.stop(session, client=data)
            return len(listed), tags, answer, said

        found = self.as_another_user(calls)
        self.assertEqual(found, (1, {"a b": "c+d/e ="}, {"n": 1}, "two spaces\n"))

    def test_another_key_is_refused(self):
        control, _ = self.clients("AKIAIOSFODNN7EXAMPLE", uuid.uuid4().hex)
        if os.geteuid() != 0:
            return
        with self.assertRaises(ClientError) as caught:
            self.as_another_user(control.list_agent_runtimes)
        self.assertEqual(caught.exception.response["Error"]["Code"], "AccessDeniedException")
        self.assertIn("local env", caught.exception.response["Error"]["Message"])

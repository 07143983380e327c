"""The shells of the emulator, by the official client."""

import asyncio
import urllib.parse

import boto3
from bedrock_agentcore.runtime.agent_core_runtime_client import AgentCoreRuntimeClient
from bedrock_agentcore.runtime.shell import ReconnectConfig
from bedrock_agentcore.runtime.shell.protocol import ShellChannel
from harness import ENDPOINT, LIMIT, Suite, new_session, region


class Client(AgentCoreRuntimeClient):
    """The official client. It speaks TLS to AWS's own host alone; the address is all that is changed."""

    def connect_shell(self, *arguments, **options):
        url, headers = super().connect_shell(*arguments, **options)
        parts = urllib.parse.urlsplit(url)
        address = urllib.parse.urlsplit(ENDPOINT).netloc
        headers = {name: value for name, value in headers.items() if name.lower() != "host"}
        return urllib.parse.urlunsplit(parts._replace(scheme="ws", netloc=address)), headers


class OfficialShell(Suite):
    SETTINGS = {}

    def client(self):
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region())
        return Client(region(), session=session)

    def run_async(self, work):
        return asyncio.run(asyncio.wait_for(work, LIMIT))

    def test_a_shell_is_typed_into_and_ends_with_its_exit_code(self):
        async def work():
            async with self.client().open_shell(self.runtime.arn, session_id=new_session(), shell_id="one") as shell:
                await shell.resize(111, 33)
                await shell.send("stty size; echo sum-$((20+22)); exit 6\n")
                shown = ""
                async for frame in shell:
                    if frame.channel == ShellChannel.STDOUT:
                        shown += frame.text
                return shown, shell.exit_code, shell.shell_id

        shown, code, name = self.run_async(work())
        self.assertIn("33 111", shown)
        self.assertIn("sum-42", shown)
        self.assertEqual((code, name), (6, "one"))

    def test_it_is_found_again_with_what_it_had_shown(self):
        async def until(shell, text):
            shown = ""
            async for frame in shell:
                if frame.channel == ShellChannel.STDOUT:
                    shown += frame.text
                if text in shown:
                    return shown

        async def work():
            session = new_session()
            first = self.client().open_shell(self.runtime.arn, session_id=session, shell_id="main")
            async with first as shell:
                await shell.send("X=kept; echo first-$((1+1))\n")
                await until(shell, "first-2")
            again = self.client().open_shell(self.runtime.arn, session_id=session, shell_id="main",
                                             reconnect_config=ReconnectConfig())
            async with again as shell:
                await until(shell, "first-2")
                await shell.send("echo =$X=\n")
                await until(shell, "=kept=")
                # Somebody else takes it, and this one knows that it was not the network.
                async with self.client().open_shell(self.runtime.arn, session_id=session, shell_id="main") as other:
                    async for _ in shell:
                        pass
                    self.assertTrue(shell.kicked)
                    await other.send("exit\n")
                    async for _ in other:
                        pass
                    return other.exit_code

        self.assertEqual(self.run_async(work()), 0)

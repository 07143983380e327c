"""`python -m unittest`: the agent with a model that follows a script, so that no network is needed."""

import asyncio
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import main
from strands.models import Model


class Scripted(Model):
    """Asks for one command, then says how many messages it has seen."""

    def update_config(self, **config):
        pass

    def get_config(self):
        return {}

    async def structured_output(self, output_model, prompt, system_prompt=None, **rest):
        raise NotImplementedError
        yield

    async def stream(self, messages, *args, **rest):
        answered = any("toolResult" in part for part in messages[-1]["content"])
        yield {"messageStart": {"role": "assistant"}}
        if answered:
            yield {"contentBlockDelta": {"delta": {"text": f"{len(messages)} messages"}}}
        else:
            use = {"toolUseId": "t1", "name": "run"}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"command": "echo hello >> log"}'}}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if answered else "tool_use"}}


class CodingAgent(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.workspace = main.WORKSPACE = Path(directory.name)
        main.model = Scripted

    def call(self, payload):
        context = SimpleNamespace(session_id="ticket-8421")
        return asyncio.run(main.invoke(payload, context))

    def test_it_runs_commands_and_remembers(self):
        self.assertEqual(self.call({"prompt": "write a log"})["result"], "3 messages")
        self.assertEqual((self.workspace / "log").read_text(), "hello\n")
        # A new process would begin from the files as this call does.
        self.assertEqual(self.call({"prompt": "again"})["result"], "7 messages")
        self.assertEqual((self.workspace / "log").read_text(), "hello\nhello\n")

    def test_it_streams(self):
        async def collect():
            context = SimpleNamespace(session_id="ticket-8421")
            answer = await main.invoke({"prompt": "write a log", "stream": True}, context)
            return [piece async for piece in answer]

        self.assertEqual("".join(asyncio.run(collect())), "3 messages")

    def test_files_stay_inside(self):
        self.assertEqual(main.write_file(path="a/b.txt", text="x"), "wrote 1 characters")
        self.assertEqual(main.read_file(path="a/b.txt"), "x")
        with self.assertRaises(ValueError):
            main.read_file(path="../../etc/passwd")

    def test_commands_end(self):
        self.assertEqual(main.run(command="sleep 9", timeout=1), "ended after 1 s")
        self.assertEqual(main.run(command="echo out; exit 3"), "exit code 3\nout\n")


if __name__ == "__main__":
    unittest.main()

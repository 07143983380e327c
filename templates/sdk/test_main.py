"""`python -m unittest`: the entrypoint, called as the package calls it."""

import asyncio
import tempfile
import unittest
from types import SimpleNamespace

import main


class Agent(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        main.WORKSPACE = directory.name

    def call(self, payload):
        return asyncio.run(main.invoke(payload, SimpleNamespace(session_id="shopping")))

    def test_it_remembers(self):
        self.assertEqual(self.call({"prompt": "milk"})["notes"], ["milk"])
        answer = self.call({"prompt": "bread"})
        self.assertEqual((answer["notes"], answer["session"]), (["milk", "bread"], "shopping"))

    def test_it_streams(self):
        async def collect():
            context = SimpleNamespace(session_id="shopping")
            return [part async for part in await main.invoke({"prompt": "eggs", "stream": True}, context)]

        self.assertEqual(asyncio.run(collect()), ["note 1: eggs"])


if __name__ == "__main__":
    unittest.main()

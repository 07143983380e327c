"""`python -m unittest`: the agent on a port of its own, with a directory in the storage's place."""

import json
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

import main


class Agent(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        main.NOTES = Path(directory.name) / "notes.txt"
        server = ThreadingHTTPServer(("127.0.0.1", 0), main.Handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{server.server_port}"

    def call(self, path, body=None):
        try:
            with urllib.request.urlopen(self.base + path, body) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def test_it_is_healthy(self):
        self.assertEqual(self.call("/ping"), (200, '{"status": "Healthy"}'))

    def test_it_remembers(self):
        self.assertEqual(json.loads(self.call("/invocations", b'{"prompt": "milk"}')[1])["notes"], ["milk"])
        self.assertEqual(json.loads(self.call("/invocations", b'"bread"')[1])["notes"], ["milk", "bread"])
        status, stream = self.call("/invocations", b'{"prompt": "eggs", "stream": true}')
        self.assertEqual((status, stream.splitlines()[-2]), (200, 'data: "note 3: eggs"'))

    def test_it_refuses_what_it_cannot_read(self):
        self.assertEqual(self.call("/invocations", b"{")[0], 400)
        self.assertEqual(self.call("/other")[0], 404)


if __name__ == "__main__":
    unittest.main()

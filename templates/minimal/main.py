"""An agent for Amazon Bedrock AgentCore Runtime that needs nothing but Python.

It answers POST /invocations and GET /ping on port 8080, and keeps its notes in the session's
storage: they are there again when the session was stopped and is resumed.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKSPACE = os.environ.get("WORKSPACE", "/mnt/workspace")
NOTES = os.path.join(WORKSPACE, "notes.txt")


def remember(prompt):
    """Appends the prompt to the notes and returns all of them, oldest first."""
    # The storage appears with the first call, so nothing is opened when the program starts.
    with open(NOTES, "a+", encoding="utf-8") as notes:
        notes.write(prompt.replace("\n", " ") + "\n")
        notes.seek(0)
        return notes.read().splitlines()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ping":
            self.answer(200, {"status": "Healthy"})
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/invocations":
            self.answer(404, {"error": "not found"})
            return
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            self.answer(400, {"error": "the payload is not JSON"})
            return
        if not isinstance(request, dict):
            request = {"prompt": request}
        prompt = str(request.get("prompt", ""))
        notes = remember(prompt)
        if request.get("stream"):
            self.stream(f"note {number}: {note}" for number, note in enumerate(notes, 1))
        else:
            self.answer(200, {"result": f"noted: {prompt}", "notes": notes})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, parts):
        """Sends server-sent events, each as soon as it is known."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
            self.wfile.flush()

    def log_message(self, text, *values):
        if self.path != "/ping":
            super().log_message(text, *values)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()

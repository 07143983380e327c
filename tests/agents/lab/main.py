"""The agent that most tests run: plain standard library, told by its JSON payload what to do.

A payload is an object with a key `do`; the content types `application/x-echo` and `application/x-digest`
mean that the body is data (see `binary`).
"""

import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOOT_ID = uuid.uuid4().hex
COUNTS = {}
COUNTS_LOCK = threading.Lock()
PING = {"status": "Healthy", "time_of_last_update": int(time.time()), "advance": False}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/ping":
            return self.answer(404, {"error": "not here"})
        if PING["advance"]:
            PING["time_of_last_update"] = int(time.time())
        self.answer(200, {k: PING[k] for k in ("status", "time_of_last_update")})

    def do_POST(self):
        if self.path != "/invocations":
            return self.answer(404, {"error": "not here"})
        kind = self.headers.get("content-type") or ""
        if kind == "application/x-echo" or kind == "application/x-digest":
            return self.binary(kind)
        body = b"".join(self.pieces())
        request = json.loads(body)
        getattr(self, "do_" + request.pop("do"))(**request)

    # -- reading and writing ---------------------------------------------------------------

    def pieces(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    return
                left = size
                while left:
                    piece = self.rfile.read1(min(left, 1 << 16))
                    left -= len(piece)
                    yield piece
                self.rfile.readline()
        left = int(self.headers.get("content-length") or 0)
        while left:
            piece = self.rfile.read1(min(left, 1 << 16))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def binary(self, kind):
        if kind == "application/x-echo":
            self.begin(kind)
            for piece in self.pieces():
                self.piece(piece)
            return self.end()
        digest, size = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            size += len(piece)
        self.answer(200, {"bytes": size, "sha256": digest.hexdigest()})

    # -- what a payload can ask for --------------------------------------------------------

    def do_flood(self):
        """Bytes without an end, as fast as they go; the body ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b"x" * 65536)

    def do_echo(self, **values):
        self.answer(200, values)

    def do_headers(self):
        self.answer(200, {"headers": [[k.lower(), v] for k, v in self.headers.items()]})

    def do_who(self):
        self.answer(200, {
            "boot": BOOT_ID, "pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(),
            "environment": dict(os.environ), "host": socket.gethostname(),
        })

    def do_write(self, path, text):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
        self.answer(200, {"boot": BOOT_ID, "bytes": os.path.getsize(path)})

    def do_read(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                self.answer(200, {"boot": BOOT_ID, "text": file.read()})
        except OSError as error:
            self.answer(200, {"boot": BOOT_ID, "error": type(error).__name__, "errno": error.errno})

    def do_append_existing(self, path, text):
        """Writes without making directories; what the system refuses becomes the agent's own 500."""
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            return self.answer(500, {"error": str(error)})
        self.answer(200, {"ok": True})

    def do_list(self, path):
        names = sorted(os.listdir(path)) if os.path.isdir(path) else None
        self.answer(200, {"boot": BOOT_ID, "names": names})

    def do_sleep(self, seconds):
        time.sleep(seconds)
        self.answer(200, {"slept": seconds})

    def do_sse(self, count, gap=0.0, silent_after=None, silence=0.0, gate=None, dies_after=None):
        """Sends `count` events; with a `gate`, each but the first waits until the file `gate` + its number is there."""
        self.begin("text/event-stream")
        for number in range(count):
            if number == dies_after:
                os._exit(1)
            while gate and number and not os.path.exists(f"{gate}{number}"):
                time.sleep(0.02)
            if number == silent_after:
                time.sleep(silence)
            elif number:
                time.sleep(gap)
            self.piece(f"data: {json.dumps({'number': number})}\n\n".encode())
        self.end()

    def do_fail(self, status, key="fail"):
        with COUNTS_LOCK:
            COUNTS[key] = COUNTS.get(key, 0) + 1
        self.answer(status, {"secret": "an error body stays inside"})

    def do_count(self, key="fail"):
        with COUNTS_LOCK:
            self.answer(200, {"count": COUNTS.get(key, 0)})

    def do_ping(self, status, advance=False):
        PING.update(status=status, advance=advance, time_of_last_update=int(time.time()))
        self.answer(200, {"ping": status})

    def do_exit(self, code):
        print("asked to end with", code, file=sys.stderr, flush=True)
        os._exit(code)


def terminated(*_):
    print("SIGTERM", flush=True)
    grace = float(os.environ.get("LAB_GRACE", "0"))
    note = os.environ.get("LAB_TERM_NOTE")
    if note:
        with open(note, "a", encoding="utf-8") as file:
            file.write("terminated\n")
            file.flush()
            os.fsync(file.fileno())
    time.sleep(grace)
    os._exit(0)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    time.sleep(float(os.environ.get("LAB_SLOW_START", "0")))
    print("lab agent", BOOT_ID, "listens", flush=True)
    Server(("0.0.0.0", 8080), Handler).serve_forever()

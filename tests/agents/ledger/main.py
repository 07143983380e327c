"""The agent of the crash tests: appends the number it is given to a file, and answers when it is kept.

It imports little, because the crash tests start it hundreds of times. With `"sync": true` the answer
comes after fsync, of the file and of the directory that the file is in.
"""

import json
import os
import socket
import sys
import threading

DIRECTORY = "/mnt/workspace"


def keep(number, sync, name):
    file = os.open(os.path.join(DIRECTORY, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, b"%d\n" % number)
        if sync:
            os.fsync(file)
            directory = os.open(DIRECTORY, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
    finally:
        os.close(file)


def serve(connection):
    reader = connection.makefile("rb")
    while True:
        line = reader.readline()
        if not line:
            return
        length = 0
        while True:
            header = reader.readline().strip().lower()
            if not header:
                break
            name, _, value = header.partition(b":")
            if name == b"content-length":
                length = int(value)
        body = reader.read(length)
        answer = {"status": "Healthy"}
        status = b"200 OK"
        if line.startswith(b"POST"):
            request = json.loads(body)
            try:
                for _ in range(request.get("log", 0)):
                    print("x" * 1000)
                if "number" in request:
                    keep(request["number"], request["sync"], request.get("file", "agent"))
                answer = {"kept": request.get("number")}
            except OSError as error:
                print("refused:", error, file=sys.stderr, flush=True)
                status, answer = b"500 Refused", {"error": str(error)}
        text = json.dumps(answer).encode()
        connection.sendall(
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, len(text), text)
        )


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", 8080))
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()

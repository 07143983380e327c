"""Tries frames.py on a frame taken apart by hand: whole, it decodes; with any one byte changed, it does not."""

import io
import json
import struct
import zlib

from frames import FrameError, events


def frame(headers, payload):
    block = b"".join(bytes([len(k)]) + k + b"\x07" + struct.pack(">H", len(v)) + v for k, v in headers)
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


HEADERS = [(b":message-type", b"event"), (b":event-type", b"chunk"), (b":content-type", b"application/json")]
good = frame(HEADERS, b'{"contentStart":{}}')
assert list(events(io.BytesIO(good * 2).read)) == [{"contentStart": {}}] * 2
# A prelude whose checksum was computed beforehand: an empty message of 16 bytes.
assert frame([], b"")[:12].hex() == "00000010" "00000000" "05c248eb"

refused = 0
damaged = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1:] for at in range(0, len(good), 9)]
damaged += [good[:-1], good[:7], frame(HEADERS[:2], b"{}"), frame(HEADERS, json.dumps({"a": 1, "b": 2}).encode())]
for data in damaged:
    try:
        list(events(io.BytesIO(data).read))
    except FrameError:
        refused += 1
assert refused == len(damaged), f"{refused} of {len(damaged)}"
print(refused, "damaged frames refused")

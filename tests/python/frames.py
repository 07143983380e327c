"""A decoder of AWS event-stream frames, written from the specification and using no AWS code.

    prelude   total length (4), length of headers (4), CRC-32 of the eight bytes before it (4)
    headers   length of name (1), name, type of value (1), value
    payload
    trailer   CRC-32 of everything before it (4)

All numbers are big-endian. Of the header types the service uses 7 (string: length (2), text) here.
"""

import json
import struct
import zlib

PRELUDE = struct.Struct(">III")
STRING = 7


class FrameError(Exception):
    pass


def frames(read):
    """Yields (headers, payload) of each frame; `read(n)` gives at most n bytes and b"" at the end."""
    while True:
        prelude = exactly(read, PRELUDE.size, may_end=True)
        if prelude is None:
            return
        total, header_length, crc = PRELUDE.unpack(prelude)
        if zlib.crc32(prelude[:8]) != crc:
            raise FrameError("the prelude's checksum is wrong")
        if total < 16 + header_length or total > 24 * 1024 * 1024:
            raise FrameError(f"a frame of {total} bytes with {header_length} bytes of headers")
        rest = exactly(read, total - PRELUDE.size)
        if zlib.crc32(prelude + rest[:-4]) != struct.unpack(">I", rest[-4:])[0]:
            raise FrameError("the frame's checksum is wrong")
        yield parse_headers(rest[:header_length]), rest[header_length:-4]


def exactly(read, count, may_end=False):
    data = b""
    while len(data) < count:
        piece = read(count - len(data))
        if not piece:
            if may_end and not data:
                return None
            raise FrameError("the stream ends inside a frame")
        data += piece
    return data


def parse_headers(data):
    headers, at = {}, 0
    while at < len(data):
        name_length = data[at]
        name = data[at + 1:at + 1 + name_length].decode("ascii")
        at += 1 + name_length
        if data[at] != STRING:
            raise FrameError(f"header {name} has type {data[at]}, not a string")
        length, = struct.unpack_from(">H", data, at + 1)
        at += 3
        value = data[at:at + length]
        if len(value) != length or name in headers:
            raise FrameError(f"header {name} is cut short or there twice")
        headers[name] = value.decode("utf-8")
        at += length
    return headers


def events(read):
    """Yields the JSON of each event and asserts that each is framed as an event of the command's stream."""
    for headers, payload in frames(read):
        if headers != {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}:
            raise FrameError(f"headers {headers} with {payload!r}")
        event = json.loads(payload.decode("utf-8", errors="strict"))
        if len(event) != 1:
            raise FrameError(f"not exactly one member: {event}")
        yield event

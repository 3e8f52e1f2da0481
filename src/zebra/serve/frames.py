"""What a server and its model's process exchange: a head in JSON, then bytes as they are. Nothing is pickled."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LENGTH_PREFIX = struct.Struct("<IQ")
"""How every frame begins: the bytes of its head, and of what follows the head."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    header: Mapping[str, Any]
    payloads: Sequence[bytearray] = ()


def encode_frame(
    header: Mapping[str, Any], payloads: Sequence[bytes | memoryview] = ()
) -> list[bytes | memoryview]:
    """Return a frame as pieces to be sent one after the other; the parts, which are contiguous, are not copied."""
    sizes = [memoryview(part).nbytes for part in payloads]
    text = json.dumps({**header, "sizes": sizes}, separators=(",", ":")).encode()
    return [LENGTH_PREFIX.pack(len(text), sum(sizes)) + text, *payloads]


class FrameDecoder:
    """Puts frames together from bytes as they come.

    >>> frames = Frames()
    >>> sent = b"".join(pack({"call": 1}, [b"ab", b"c"]))
    >>> list(frames.feed(sent[:9])), [frame.parts for frame in frames.feed(sent[9:])]
    ([], [[bytearray(b'ab'), bytearray(b'c')]])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take some bytes; yield what has become whole."""
        self._buffer += data
        while len(self._buffer) >= LENGTH_PREFIX.size:
            head, rest = LENGTH_PREFIX.unpack_from(self._buffer)
            start = LENGTH_PREFIX.size + head
            if len(self._buffer) < start + rest:
                return
            told = json.loads(self._buffer[LENGTH_PREFIX.size : start])
            parts, place = [], start
            for size in told.pop("sizes"):
                parts.append(self._buffer[place : place + size])
                place += size
            del self._buffer[:place]
            yield Frame(told, parts)

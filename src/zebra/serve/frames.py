"""What a server and its model's process exchange: a head in JSON, then bytes as they are. Nothing is pickled."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LENGTHS = struct.Struct("<IQ")
"""How every frame begins: the bytes of its head, and of what follows the head."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    head: Mapping[str, Any]
    parts: Sequence[bytearray] = ()


def pack(head: Mapping[str, Any], parts: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """Return a frame as pieces to be sent one after the other; the parts, which are contiguous, are not copied."""
    sizes = [memoryview(part).nbytes for part in parts]
    text = json.dumps({**head, "sizes": sizes}, separators=(",", ":")).encode()
    return [LENGTHS.pack(len(text), sum(sizes)) + text, *parts]


class Frames:
    """Puts frames together from bytes as they come.

    >>> frames = Frames()
    >>> sent = b"".join(pack({"call": 1}, [b"ab", b"c"]))
    >>> list(frames.feed(sent[:9])), [frame.parts for frame in frames.feed(sent[9:])]
    ([], [[bytearray(b'ab'), bytearray(b'c')]])
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take some bytes; yield what has become whole."""
        self._held += data
        while len(self._held) >= LENGTHS.size:
            head, rest = LENGTHS.unpack_from(self._held)
            start = LENGTHS.size + head
            if len(self._held) < start + rest:
                return
            told = json.loads(self._held[LENGTHS.size : start])
            parts, place = [], start
            for size in told.pop("sizes"):
                parts.append(self._held[place : place + size])
                place += size
            del self._held[:place]
            yield Frame(told, parts)

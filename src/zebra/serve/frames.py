"""Binary frames between server and worker: a JSON header and raw payloads.

Nothing is pickled, so a frame cannot execute code.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LENGTH_PREFIX = struct.Struct("<IQ")
"""The first bytes of every frame: the length of the header, and of all payloads together."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    header: Mapping[str, Any]
    payloads: Sequence[bytearray] = ()


def encode_frame(header: Mapping[str, Any], payloads: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """Return a frame as buffers to send in order; the payloads must be contiguous and are not copied."""
    sizes = [memoryview(payload).nbytes for payload in payloads]
    text = json.dumps({**header, "sizes": sizes}, separators=(",", ":")).encode()
    return [LENGTH_PREFIX.pack(len(text), sum(sizes)) + text, *payloads]


class FrameDecoder:
    """Decode frames from a byte stream.

    >>> decoder = FrameDecoder()
    >>> data = b"".join(encode_frame({"call_id": 1}, [b"ab", b"c"]))
    >>> list(decoder.feed(data[:9])), [frame.payloads for frame in decoder.feed(data[9:])]
    ([], [[bytearray(b'ab'), bytearray(b'c')]])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Append bytes, and yield the frames that are complete."""
        self._buffer += data
        while len(self._buffer) >= LENGTH_PREFIX.size:
            header_length, payload_length = LENGTH_PREFIX.unpack_from(self._buffer)
            start = LENGTH_PREFIX.size + header_length
            if len(self._buffer) < start + payload_length:
                return
            header = json.loads(self._buffer[LENGTH_PREFIX.size : start])
            payloads, position = [], start
            for size in header.pop("sizes"):
                payloads.append(self._buffer[position : position + size])
                position += size
            del self._buffer[:position]
            yield Frame(header, payloads)

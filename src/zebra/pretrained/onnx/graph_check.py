"""Check of ONNX files before they are opened, without the package onnx.

onnxruntime opens the files that a graph names as external data. A graph from elsewhere could name any file, so this
module walks through the protobuf message and looks at the location, offset and length of every tensor.

Reference: onnx.proto of ONNX 1.23, and the wire format of Protocol Buffers.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from zebra.errors import WeightsError, show_value

MAX_GRAPH_BYTES = (1 << 31) - 1
"""Limit of protobuf, and so of a graph without its external data."""
MAX_DEPTH = 16
"""Limit on nested graphs; towers have none."""
_LENGTHS = {1: 8, 5: 4}
"""Bytes of a value by wire type; 0 is a varint and 2 has its length before it."""
_EXTERNAL = 1
"""`TensorProto.data_location` of a tensor in another file."""
# Fields of the messages that contain tensors: number → kind of the message below.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_MODEL_IR_VERSION, _MODEL_GRAPH, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 1, 7, 13, 14


def check_graph(path: Path, allowed_data: str | None = None) -> None:
    """Check that a file is an ONNX model whose tensors are in it, or in one file beside it.

    Args:
        allowed_data: Plain name of the file that may have the tensors; None: all must be in `path`.

    Raises:
        WeightsError: The file is damaged or truncated, or names another file or bytes beyond its end.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_GRAPH_BYTES:
        raise WeightsError(f"{path} has {size:,} bytes, which no ONNX graph has. Copy it again.")
    data_path = None if allowed_data is None else path.parent / allowed_data
    data_size = data_path.stat().st_size if data_path is not None and data_path.is_file() else 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            fields = {number for number, _, _ in _fields(data, 0, size)}
            if not {_MODEL_IR_VERSION, _MODEL_GRAPH} <= fields:
                raise WeightsError(f"{path} is not an ONNX model. Copy it again.")
            for location, offset, length in _external_tensors(data, 0, size, "model", 0):
                if location != allowed_data:
                    raise WeightsError(
                        f"{path} reads its weights from {show_value(location)}, which is not a file of the model. Do "
                        "not trust this folder."
                    )
                if offset < 0 or length < 0 or offset + length > data_size:
                    raise WeightsError(
                        f"{path} reads the bytes {offset}–{offset + length} of {location}, which has {data_size}. Copy "
                        "the folder again."
                    )
        except (ValueError, IndexError) as error:
            raise WeightsError(f"{path} is a damaged or truncated ONNX model ({error}). Copy it again.") from error


def _external_tensors(
    data: mmap.mmap, start: int, end: int, kind: str, depth: int
) -> Iterator[tuple[str | None, int, int]]:
    """Yield location, offset and length of every tensor of a message that is in another file."""
    if depth > MAX_DEPTH:
        raise ValueError(f"messages are nested deeper than {MAX_DEPTH}")
    if kind == "tensor":
        yield from _read_external_tensor(data, start, end)
        return
    for number, value, length in _fields(data, start, end):
        below = _FIELDS[kind].get(number)
        if below is not None and length is not None:
            yield from _external_tensors(data, value, value + length, below, depth + 1)


def _read_external_tensor(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[str | None, int, int]]:
    entries: dict[str, str] = {}
    is_external = False
    for number, value, length in _fields(data, start, end):
        if number == _TENSOR_EXTERNAL_DATA and length is not None:
            parts = _fields(data, value, value + length)
            pair = {key: data[at : at + size].decode() for key, at, size in parts if size}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif number == _TENSOR_LOCATION and length is None:
            is_external = value == _EXTERNAL
    if is_external or entries:
        yield entries.get("location"), int(entries.get("offset", "0")), int(entries.get("length", "0"))


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield the number of each field of a message and its value; of bytes, their position and length.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    position = start
    while position < end:
        tag, position = _read_varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _read_varint(data, position, end)
            yield number, value, None
            continue
        length = _LENGTHS.get(wire_type)
        if wire_type == 2:
            length, position = _read_varint(data, position, end)
        if length is None or not number:
            raise ValueError(f"byte {position} is not a field")
        if position + length > end:
            raise ValueError(f"byte {position} starts a field of {length} bytes, beyond the end")
        if wire_type == 2:
            yield number, position, length
        position += length


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """Return an unsigned number and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError(f"byte {position} is beyond the end")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError(f"byte {position} ends no number")

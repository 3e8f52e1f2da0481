"""A torch zip archive in, name → tensor out, memory-mapped, without running anything that lies in it.

Reads what `torch.save` writes of a state dict and what `torch.jit.save` writes of a model. Both are zips of
uncompressed entries: `<root>/data.pkl` describes the objects, `<root>/data/<key>` holds the bytes of one storage.
Source: PyTorch's serialization notes; the opcodes are those of Python's `pickletools`.

The description is a pickle, and a pickle is a program. It is read here by a machine that knows only the opcodes
these files need, builds nothing but dicts, lists, tuples, numbers, strings and tensors, and looks no name up.
Differs: Python's own Unpickler, even with a guarded `find_class`, can be made to allocate gigabytes by ten bytes
(a far memo index) and to crash the interpreter (the hash of a deeply nested tuple).
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.errors import WeightsError
from zebra.pretrained.openai.zip_entries import ZipEntries

MAX_PICKLE_BYTES = 1 << 20
"""The largest published model needs a tenth of it; a hostile pickle takes up to a hundred times its size in memory."""
MAX_DIMENSIONS = 8
MAX_EXTENT = 1 << 40
"""Keeps torch's own arithmetic from overflowing, also where a length of 0 hides the others."""
MAX_NAME_LENGTH = 500
MAX_ATTRIBUTES = 500_000
"""Bounds on a walk through objects that may hold each other; published models hold some ten thousand."""

_DTYPES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
}
_ORDERED_DICT = "collections.OrderedDict"
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_LIST_BUILDERS = {f"torch.jit._pickle.build_{kind}list" for kind in ("bool", "int", "double", "tensor")}
_KNOWN_GLOBALS = {*_DTYPES, _ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *_LIST_BUILDERS}


def read_archive(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict or of a TorchScript model under their dotted names.

    Tensors lie in a private memory map of the file: nothing is copied before it is used, and writing to a tensor
    does not change the file. Those that share a storage in the archive share it here. Attributes that are not
    tensors are ignored; a tensor that is no parameter is read like a buffer.

    Raises:
        WeightsError: There is no such file, it is damaged or compressed, it comes from a machine of another byte
            order, or its pickle refers to anything but tensors. Nothing in the file was run.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path or copy it again")
    with path.open("rb") as file:
        entries = ZipEntries(path, file)
        unpickler = _Unpickler(path, entries)
        try:
            held = unpickler.load()
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise unpickler.damaged_error(repr(error)[:200]) from error
    if not isinstance(held, dict):
        raise WeightsError(f"{path} holds a {type(held).__name__} and no named tensors; it is not a model")
    tensors = _flatten(held, path)
    # Names may share a storage; without a bound, a small file could ask its reader for any amount of memory.
    if sum(tensor.nbytes for tensor in tensors.values()) > 4 * entries.file_bytes:
        raise WeightsError(f"{path} names its bytes too many times over; it is not a model, do not trust it")
    return tensors


@dataclass(frozen=True, slots=True)
class _Global:
    """A name the pickle refers to: compared with the known ones, never looked up."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """The bytes of one or more tensors."""

    dtype: torch.dtype
    data: torch.UntypedStorage

    @property
    def num_elements(self) -> int:
        return self.data.nbytes() // self.dtype.itemsize


def _type_name(value: object) -> str:
    """Say what a value is; never its contents, which may be nested without end."""
    return value.name[:80] if isinstance(value, _Global) else type(value).__name__


class _Unpickler:
    """Builds what a pickle describes, one opcode at a time; every call it can make is spelled out in `reduce`."""

    def __init__(self, path: Path, entries: ZipEntries) -> None:
        self._path, self._entries = path, entries
        self._pickle, self._position = entries.read("data.pkl", MAX_PICKLE_BYTES), 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, torch.UntypedStorage] = {}

    def load(self) -> object:
        """Return the value that the pickle ends with."""
        while (opcode := self.read(1)) != pickle.STOP:
            if opcode not in _OPCODES:
                raise self.damaged_error(f"opcode {opcode!r}")
            _OPCODES[opcode](self)
        return self.pop()

    def damaged_error(self, detail: str) -> WeightsError:
        return WeightsError(
            f"{self._path}: data.pkl is damaged or not of a model, at byte {self._position} ({detail}); nothing in it "
            "was run. Copy the file again, or ask its author for safetensors"
        )

    # Reading opcodes.

    def read(self, num_bytes: int) -> bytes:
        start, self._position = self._position, self._position + num_bytes
        if self._position > len(self._pickle):
            raise self.damaged_error("it ends too early")
        return self._pickle[start : self._position]

    def read_number(self, struct_format: str) -> Any:
        return struct.unpack(struct_format, self.read(struct.calcsize(struct_format)))[0]

    def read_text(self, length_format: str) -> str:
        return self.read(self.read_number(length_format)).decode("utf-8")

    def read_line(self) -> str:
        return self.read(self._pickle.index(b"\n", self._position) + 1 - self._position)[:-1].decode("utf-8")

    # Moving values.

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def pop_many(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop_mark(self) -> tuple[Any, ...]:
        start = self._marks.pop()
        values = tuple(self._stack[start:])
        del self._stack[start:]
        return values

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        self.push(self._memo[index])

    # Building values.

    def extend(self, values: tuple[Any, ...]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self.damaged_error(f"items for a {_type_name(target)}")
        target.extend(values)

    def update(self, items: tuple[Any, ...]) -> None:
        target = self._stack[-1]
        # Only keys whose hash is one step: that of a tuple walks all that is nested in it.
        if not isinstance(target, dict) or not all(type(key) in (str, int) for key in items[::2]):
            raise self.damaged_error(f"items for a {_type_name(target)}")
        target.update(zip(items[::2], items[1::2], strict=True))

    def push_global(self, module: str, name: str) -> None:
        found = f"{module}.{name}"
        if found not in _KNOWN_GLOBALS and module.partition(".")[0] != "__torch__":
            raise WeightsError(
                f"{self._path} refers to {found[:80]}, which no model needs; nothing was run. Do not trust it; ask "
                "its author for safetensors"
            )
        self.push(_Global(found))

    def push_stack_global(self) -> None:
        module, name = self.pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.damaged_error(f"a name of {_type_name(module)} and {_type_name(name)}")
        self.push_global(module, name)

    def new_object(self) -> None:
        match self.pop_many(2):
            case _Global(name), () if name.startswith("__torch__."):
                self.push({})  # its attributes are all that is of use; `build` fills them in
            case what, _:
                raise self.damaged_error(f"an object of {_type_name(what)}")

    def build(self) -> None:
        state, target = self.pop(), self._stack[-1]
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise self.damaged_error(f"a state for a {_type_name(target)}")
        target.update(state)  # of a state dict: `_metadata`, numbers that `_flatten` passes over

    def load_persistent_id(self) -> None:
        match self.pop():
            case "storage", _Global(kind), str(key), str(), int(count) if kind in _DTYPES:
                if key not in self._storages:
                    self._storages[key] = self._entries.map_storage(f"data/{key}")
                storage, dtype = self._storages[key], _DTYPES[kind]
                if storage.nbytes() != count * dtype.itemsize:
                    raise self.damaged_error(
                        f"data/{key} has {storage.nbytes()} bytes, not {count} × {dtype}"
                    )
                self.push(_Storage(dtype, storage))
            case _:
                raise self.damaged_error("a reference to something else than a storage")

    def reduce(self) -> None:
        match self.pop_many(2):
            case _Global(name), () if name == _ORDERED_DICT:
                self.push({})
            case _Global(name), (list() as values,) if name in _LIST_BUILDERS:
                self.push(values)
            case _Global(name), (Tensor() as tensor, *_) if name == _REBUILD_PARAMETER:
                self.push(tensor)
            case (
                _Global(name),
                (_Storage() as storage, int(offset), tuple(size), tuple(stride), *_),
            ) if name == _REBUILD_TENSOR:
                self.push(self._rebuild_tensor(storage, offset, size, stride))
            case what, _:
                raise self.damaged_error(f"a call of {_type_name(what)}")

    def _rebuild_tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        there = storage.num_elements
        numbers = (offset, *size, *stride)
        if (
            len(size) > MAX_DIMENSIONS
            or not all(isinstance(number, int) and 0 <= number < MAX_EXTENT for number in numbers)
            or prod(length or 1 for length in size) >= MAX_EXTENT
        ):
            raise self.damaged_error(f"a tensor of {len(size)} impossible dimensions")
        if prod(size) == 0:
            return torch.empty(size, dtype=storage.dtype)
        end = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
        # The size on its own, too: a stride of 0 would make any size out of one number.
        if end > there or prod(size) > there:
            raise self.damaged_error(f"a tensor {size} at {offset}, outside its {there} numbers")
        return torch.empty(0, dtype=storage.dtype).set_(storage.data, offset, size, stride)


_OPCODES: dict[bytes, Callable[[_Unpickler], object]] = {
    pickle.PROTO: lambda unpickler: unpickler.read(1),
    pickle.FRAME: lambda unpickler: unpickler.read(8),
    pickle.NONE: lambda unpickler: unpickler.push(None),
    pickle.NEWTRUE: lambda unpickler: unpickler.push(True),
    pickle.NEWFALSE: lambda unpickler: unpickler.push(False),
    pickle.BININT: lambda unpickler: unpickler.push(unpickler.read_number("<i")),
    pickle.BININT1: lambda unpickler: unpickler.push(unpickler.read_number("<B")),
    pickle.BININT2: lambda unpickler: unpickler.push(unpickler.read_number("<H")),
    pickle.LONG1: lambda unpickler: unpickler.push(
        int.from_bytes(unpickler.read(unpickler.read_number("<B")), "little", signed=True)
    ),
    pickle.BINFLOAT: lambda unpickler: unpickler.push(unpickler.read_number(">d")),
    pickle.BINUNICODE: lambda unpickler: unpickler.push(unpickler.read_text("<I")),
    pickle.SHORT_BINUNICODE: lambda unpickler: unpickler.push(unpickler.read_text("<B")),
    pickle.EMPTY_TUPLE: lambda unpickler: unpickler.push(()),
    pickle.EMPTY_LIST: lambda unpickler: unpickler.push([]),
    pickle.EMPTY_DICT: lambda unpickler: unpickler.push({}),
    pickle.MARK: _Unpickler.mark,
    pickle.TUPLE: lambda unpickler: unpickler.push(unpickler.pop_mark()),
    pickle.TUPLE1: lambda unpickler: unpickler.push(unpickler.pop_many(1)),
    pickle.TUPLE2: lambda unpickler: unpickler.push(unpickler.pop_many(2)),
    pickle.TUPLE3: lambda unpickler: unpickler.push(unpickler.pop_many(3)),
    pickle.APPEND: lambda unpickler: unpickler.extend(unpickler.pop_many(1)),
    pickle.APPENDS: lambda unpickler: unpickler.extend(unpickler.pop_mark()),
    pickle.SETITEM: lambda unpickler: unpickler.update(unpickler.pop_many(2)),
    pickle.SETITEMS: lambda unpickler: unpickler.update(unpickler.pop_mark()),
    pickle.BINPUT: lambda unpickler: unpickler.put(unpickler.read_number("<B")),
    pickle.LONG_BINPUT: lambda unpickler: unpickler.put(unpickler.read_number("<I")),
    pickle.MEMOIZE: _Unpickler.memoize,
    pickle.BINGET: lambda unpickler: unpickler.get(unpickler.read_number("<B")),
    pickle.LONG_BINGET: lambda unpickler: unpickler.get(unpickler.read_number("<I")),
    pickle.GLOBAL: lambda unpickler: unpickler.push_global(unpickler.read_line(), unpickler.read_line()),
    pickle.STACK_GLOBAL: _Unpickler.push_stack_global,
    pickle.NEWOBJ: _Unpickler.new_object,
    pickle.REDUCE: _Unpickler.reduce,
    pickle.BUILD: _Unpickler.build,
    pickle.BINPERSID: _Unpickler.load_persistent_id,
}
"""All that a data.pkl may do. What is missing cannot happen: no INST, OBJ, EXT, no sets, no bytes, no text numbers."""


def _flatten(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Name the tensors of nested dicts by the way to them, as `state_dict` does."""
    tensors: dict[str, Tensor] = {}
    waiting = [("", state)]
    attributes = 0
    while waiting:
        prefix, holder = waiting.pop()
        for key, value in holder.items():
            attributes += 1
            name = f"{prefix}{key}"
            if len(name) > MAX_NAME_LENGTH or attributes > MAX_ATTRIBUTES:
                raise WeightsError(f"{path} is nested without end, at {name[:80]}…; it is not a model")
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, dict):
                waiting.append((name + ".", value))
    return tensors

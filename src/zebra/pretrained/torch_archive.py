"""Safe, memory-mapped reading of the tensors in torch zip archives.

Reads state dicts written by `torch.save` and models written by `torch.jit.save`. Both are zips of uncompressed entries:
`<root>/data.pkl` describes the objects, `<root>/data/<key>` contains the bytes of one storage.
References: PyTorch's serialization notes; `pickletools` of Python for the opcodes.

The description is a pickle, and a pickle is a program. The unpickler in this module knows only the opcodes that these
files need, builds only dicts, lists, tuples, numbers, strings and tensors, and imports nothing. Python's own Unpickler
is not safe, even with a restricted `find_class`: ten bytes can make it allocate gigabytes (a large memo index) or crash
the interpreter (the hash of a deeply nested tuple).
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
from zebra.pretrained.zip_entries import ZipEntries

MAX_PICKLE_BYTES = 1 << 20
"""The largest published model needs a tenth of it. A malicious pickle uses up to 100 times its size in memory."""
MAX_DIMENSIONS = 8
MAX_EXTENT = 1 << 40
"""Prevents overflows in torch, also where a dimension of length 0 hides the others."""
MAX_NAME_LENGTH = 500
MAX_ATTRIBUTES = 500_000
"""Bounds on the traversal of objects that may be cyclic; published models have about ten thousand attributes."""

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

    The tensors are in a private memory map of the file: they are read when they are used, and writing to them does not
    change the file. Tensors that share a storage in the archive share it in memory. Attributes that are not tensors are
    ignored.

    Raises:
        WeightsError: The file is missing, damaged, compressed or of another byte order, or its pickle refers to
            anything but tensors. No code in the file is executed.
    """
    if not path.is_file():
        raise WeightsError(f"weight file not found: {path}. Check the path.")
    with path.open("rb") as file:
        entries = ZipEntries(path, file)
        unpickler = _Unpickler(path, entries)
        try:
            state = unpickler.load()
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise unpickler.damaged_error(repr(error)[:200]) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path} contains a {type(state).__name__}, not named tensors. Name the file of a model.")
    tensors = _flatten(state, path)
    # Tensors may share a storage. Without a bound, a copy of a small file's tensors could need any amount of memory.
    if sum(tensor.nbytes for tensor in tensors.values()) > 4 * entries.file_bytes:
        raise WeightsError(f"{path} has many tensors that share their bytes. Do not trust this file.")
    return tensors


@dataclass(frozen=True, slots=True)
class _Global:
    """A name in the pickle, which is compared with the known names and never imported."""

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
    """Return the type of a value for error messages; its contents may be deeply nested."""
    return value.name[:80] if isinstance(value, _Global) else type(value).__name__


class _Unpickler:
    """Interpreter of pickle opcodes; `reduce` lists every call that a pickle can make."""

    def __init__(self, path: Path, entries: ZipEntries) -> None:
        self._path, self._entries = path, entries
        self._pickle, self._position = entries.read("data.pkl", MAX_PICKLE_BYTES), 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, torch.UntypedStorage] = {}

    def load(self) -> object:
        """Execute the pickle and return its value."""
        while (opcode := self.read(1)) != pickle.STOP:
            if opcode not in _OPCODES:
                raise self.damaged_error(f"opcode {opcode!r}")
            _OPCODES[opcode](self)
        return self.pop()

    def damaged_error(self, detail: str) -> WeightsError:
        return WeightsError(
            f"{self._path}: data.pkl is damaged or not that of a model, at byte {self._position} ({detail}). "
            "No code in it was executed. Copy the file again, or ask its author for safetensors."
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
        # Only keys with a cheap hash: that of a tuple visits everything nested in it.
        if not isinstance(target, dict) or not all(type(key) in (str, int) for key in items[::2]):
            raise self.damaged_error(f"items for a {_type_name(target)}")
        target.update(zip(items[::2], items[1::2], strict=True))

    def push_global(self, module: str, name: str) -> None:
        full_name = f"{module}.{name}"
        if full_name not in _KNOWN_GLOBALS and module.partition(".")[0] != "__torch__":
            raise WeightsError(
                f"{self._path} refers to {full_name[:80]}, which no model needs. No code was executed. "
                "Do not trust the file, and ask its author for safetensors."
            )
        self.push(_Global(full_name))

    def push_stack_global(self) -> None:
        module, name = self.pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.damaged_error(f"a name of {_type_name(module)} and {_type_name(name)}")
        self.push_global(module, name)

    def new_object(self) -> None:
        match self.pop_many(2):
            case _Global(name), () if name.startswith("__torch__."):
                self.push({})  # `build` adds the attributes, which are all that is needed
            case cls, _:
                raise self.damaged_error(f"an object of {_type_name(cls)}")

    def build(self) -> None:
        state, target = self.pop(), self._stack[-1]
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise self.damaged_error(f"a state for a {_type_name(target)}")
        target.update(state)  # of a state dict: `_metadata`, numbers that `_flatten` ignores

    def load_persistent_id(self) -> None:
        match self.pop():
            case "storage", _Global(kind), str(key), str(), int(count) if kind in _DTYPES:
                if key not in self._storages:
                    self._storages[key] = self._entries.map_storage(f"data/{key}")
                storage, dtype = self._storages[key], _DTYPES[kind]
                if storage.nbytes() != count * dtype.itemsize:
                    raise self.damaged_error(f"data/{key} has {storage.nbytes()} bytes, not {count} × {dtype}")
                self.push(_Storage(dtype, storage))
            case _:
                raise self.damaged_error("a reference to anything but a storage")

    def reduce(self) -> None:
        match self.pop_many(2):
            case _Global(name), () if name == _ORDERED_DICT:
                self.push({})
            case _Global(name), (list() as values,) if name in _LIST_BUILDERS:
                self.push(values)
            case _Global(name), (Tensor() as tensor, *_) if name == _REBUILD_PARAMETER:
                self.push(tensor)
            case (_Global(name), (_Storage() as storage, int(offset), tuple(size), tuple(stride), *_)) if (
                name == _REBUILD_TENSOR
            ):
                self.push(self._rebuild_tensor(storage, offset, size, stride))
            case function, _:
                raise self.damaged_error(f"a call of {_type_name(function)}")

    def _rebuild_tensor(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        num_available = storage.num_elements
        numbers = (offset, *size, *stride)
        if (
            len(size) > MAX_DIMENSIONS
            or not all(isinstance(number, int) and 0 <= number < MAX_EXTENT for number in numbers)
            or prod(length or 1 for length in size) >= MAX_EXTENT
        ):
            raise self.damaged_error(f"a tensor of {len(size)} invalid dimensions")
        if prod(size) == 0:
            return torch.empty(size, dtype=storage.dtype)
        end = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
        # Also compare the size: with a stride of 0, one element would make a tensor of any size.
        if end > num_available or prod(size) > num_available:
            raise self.damaged_error(f"a tensor {size} at {offset}, outside its {num_available} elements")
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
"""All supported opcodes. Excluded are INST, OBJ, EXT, sets, bytes and numbers as text."""


def _flatten(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of nested dicts by their dotted paths, as in `state_dict`."""
    tensors: dict[str, Tensor] = {}
    stack = [("", state)]
    num_attributes = 0
    while stack:
        prefix, attributes = stack.pop()
        for key, value in attributes.items():
            num_attributes += 1
            name = f"{prefix}{key}"
            if len(name) > MAX_NAME_LENGTH or num_attributes > MAX_ATTRIBUTES:
                raise WeightsError(f"{path} is nested too deeply, at {name[:80]}…. Do not trust this file.")
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, dict):
                stack.append((name + ".", value))
    return tensors

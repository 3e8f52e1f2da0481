"""Torch archives are read completely or refused; code in them is never executed."""

import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from copy import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from zebra.errors import WeightsError
from zebra.pretrained.torch_archive import MAX_PICKLE_BYTES, read_archive

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Model(nn.Module):
    """One attribute of every kind that a model saved by torch.jit can have."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        pool = OrderedDict([("-1", nn.AvgPool2d(2)), ("0", nn.Conv2d(4, 4, 1))])
        self.downsample = nn.Sequential(pool)
        self.tied = self.downsample
        self.scale = nn.Parameter(torch.tensor(1.5).half())
        self.register_parameter("absent", None)
        self.register_buffer("mask", torch.arange(9.0).view(3, 3).T)
        self.size: int = 224
        self.name = "model"

    def forward(self, x):
        return self.downsample(self.stem(x)) * self.scale.float() + self.mask.sum() + self.size


def saved_by_script(path):
    torch.jit.save(torch.jit.script(Model()), path)


def saved_by_trace(path):
    torch.jit.save(torch.jit.trace(Model().eval(), torch.zeros(1, 3, 8, 8)), path)


def saved_as_state_dict(path):
    torch.save(Model().state_dict(), path)


WRITERS = [saved_by_script, saved_by_trace, saved_as_state_dict]


def archive(path, data_pkl, storages=(), *, root="model", compression=zipfile.ZIP_STORED, byteorder=b"little"):
    """Write an archive that contains any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{root}/data.pkl", data_pkl)
        file.writestr(f"{root}/byteorder", byteorder)
        for key, content in dict(storages).items():
            file.writestr(f"{root}/data/{key}", content, compression)
    return path


def string(text):
    return pickle.BINUNICODE + struct.pack("<I", len(text)) + text.encode()


def number(value):
    return pickle.LONG1 + b"\x08" + value.to_bytes(8, "little", signed=True)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(key="0", count=4, kind="FloatStorage"):
    parts = string("storage") + name("torch", kind) + string(key) + string("cpu") + number(count)
    return pickle.MARK + parts + pickle.TUPLE + pickle.BINPERSID


def tensor(offset=0, size=(2, 2), stride=(2, 1), storage_pickle=None):
    """Return the pickled call that torch writes for a tensor, with any arguments."""
    numbers = [pickle.MARK + b"".join(map(number, part)) + pickle.TUPLE for part in (size, stride)]
    hooks = name("collections", "OrderedDict") + b")R"
    parts = (storage_pickle or storage()) + number(offset) + b"".join(numbers) + pickle.NEWFALSE + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + parts + pickle.TUPLE + pickle.REDUCE


def named(value):
    """Return the pickle of a state dict with one entry."""
    return b"\x80\x02}" + string("weight") + value + b"s."


MAPS = Path("/proc/self/maps")
FOUR = {"0": torch.arange(4.0).numpy().tobytes()}


@pytest.mark.parametrize("write", WRITERS)
def test_every_tensor_has_the_bits_that_torch_reads(write, tmp_path):
    write(tmp_path / "model.pt")
    if write is saved_as_state_dict:
        expected = torch.load(tmp_path / "model.pt", weights_only=True)
    else:
        expected = torch.jit.load(tmp_path / "model.pt").state_dict()
    read = read_archive(tmp_path / "model.pt")
    assert read.keys() == expected.keys()
    for key, value in expected.items():
        assert read[key].dtype == value.dtype, key
        assert read[key].stride() == value.stride(), key
        assert torch.equal(read[key], value), key


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_pickle_protocol_of_torch_is_read(protocol, tmp_path):
    weight = torch.randn(3, 70_000, generator=torch.Generator().manual_seed(0))
    torch.save({"weight": nn.Parameter(weight)}, tmp_path / "model.pt", pickle_protocol=protocol)
    assert torch.equal(read_archive(tmp_path / "model.pt")["weight"], weight)


def test_tensors_of_one_storage_still_share_it(tmp_path):
    full = torch.arange(6.0)
    torch.save({"full": full, "part": full[2:4]}, tmp_path / "model.pt")
    read = read_archive(tmp_path / "model.pt")
    read["full"][2] = 9
    assert read["part"].tolist() == [9, 3]


def test_writing_to_a_tensor_does_not_change_the_file(tmp_path):
    torch.save({"weight": torch.ones(4)}, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    read_archive(tmp_path / "model.pt")["weight"].zero_()
    assert (tmp_path / "model.pt").read_bytes() == before


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what is mapped")
def test_tensors_are_mapped_and_not_copied(tmp_path):
    torch.save({"weight": torch.ones(4 << 20)}, tmp_path / "model.pt")
    mapped = read_archive(tmp_path / "model.pt")
    assert str(tmp_path) in MAPS.read_text()
    del mapped  # the file stays mapped while a tensor exists
    assert str(tmp_path) not in MAPS.read_text()


def test_unaligned_storages_are_read(tmp_path):
    for root in ("m", "mo", "mod", "mode"):
        call = tensor() + b"s" + string("tied") + tensor()
        read = read_archive(archive(tmp_path / root, named(call), FOUR, root=root))
        assert read["weight"].tolist() == [[0, 1], [2, 3]]
        assert read["weight"].data_ptr() == read["tied"].data_ptr()
        assert read["weight"].data_ptr() % 4 == 0


def test_a_tensor_without_elements_is_read(tmp_path):
    torch.save({"none": torch.zeros(0, 5), "half": torch.ones(2)[2:]}, tmp_path / "model.pt")
    read = read_archive(tmp_path / "model.pt")
    assert (read["none"].shape, read["half"].shape) == ((0, 5), (0,))


# --- code ---


class Call:
    """An object that is pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class WithState:
    def __setstate__(self, state):
        raise AssertionError("the archive ran code")


def attacks(marker):
    shell = Call(os.system, f"touch {marker}")
    posix = name("posix", "system")
    run = pickle.MARK + string(f"touch {marker}") + pickle.TUPLE + pickle.REDUCE
    dumps = pickle.dumps
    stateful = WithState()
    stateful.value = 1
    return {
        "os.system": (dumps(shell, 2), f"{os.system.__module__}.system"),
        "posix.system": (posix + run + b".", "posix.system"),
        "builtins.eval": (dumps(Call(eval, f"open({str(marker)!r}, 'w')"), 4), "builtins.eval"),
        "eval of protocol 2": (dumps(Call(eval, "1"), 2), "__builtin__.eval"),
        "among weights": (dumps({"weight": shell}, 4), "system"),
        "nested in an ordered dict": (name("collections", "OrderedDict") + posix + run + b"\x85R.", "posix"),
        "as an argument of a tensor": (named(tensor(storage_pickle=posix + run)), "posix.system"),
        "after an inert object": (name("__torch__", "M") + b")\x81}" + posix + run + b"sb.", "posix.system"),
        "a dotted name": (name("collections", "OrderedDict.__init__.__globals__") + b".", "OrderedDict.__init__"),
        "a dotted name of torch's": (name("__torch__x", "os.system") + b".", "__torch__x"),
        "an object with a state": (dumps(stateful, 2), "WithState"),
        "a class of torch's": (name("torch.nn", "Linear") + b")\x81.", "torch.nn.Linear"),
        "getattr": (dumps(Call(getattr, "a", "b"), 4), "builtins.getattr"),
        "INST": (b"(S'true'\niposix\nsystem\n.", "opcode"),
        "OBJ": (b"(" + posix + b"o.", "posix.system"),
        "EXT": (b"\x82\x01.", "opcode"),
    }


@pytest.mark.parametrize("attack", attacks("x"))
def test_a_name_that_no_tensor_needs_is_refused_and_not_executed(attack, tmp_path):
    data, blamed = attacks(tmp_path / "ran")[attack]
    with pytest.raises(WeightsError, match=r"No code (in it )?was executed") as refused:
        read_archive(archive(tmp_path / "model.pt", data, FOUR))
    assert blamed in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "function", ["OrderedDict", "__torch__", "build_intlist", "_rebuild_parameter", "FloatStorage"]
)
def test_known_names_cannot_be_called_in_other_ways(function, tmp_path):
    module = {
        "OrderedDict": "collections",
        "__torch__": "__torch__",
        "build_intlist": "torch.jit._pickle",
        "_rebuild_parameter": "torch._utils",
        "FloatStorage": "torch",
    }[function]
    with pytest.raises(WeightsError, match="a call of"):
        read_archive(archive(tmp_path / "model.pt", name(module, function) + string("x") + b"\x85R."))


def test_an_inert_object_takes_any_state_as_plain_attributes(tmp_path):
    state = b"}" + b"".join(string(key) + b"Ns" for key in ("__class__", "__setstate__", "__dict__", "update"))
    data = b"\x80\x02" + name("__torch__", "M") + b")\x81" + state + b"b" + state + string("w") + tensor() + b"sb."
    assert list(read_archive(archive(tmp_path / "model.pt", data, FOUR))) == ["w"]


# --- sizes ---


@pytest.mark.parametrize(
    "call",
    [
        tensor(offset=1),
        tensor(offset=-1),
        tensor(size=(2, 3)),
        tensor(size=(-2, -2)),
        tensor(stride=(3, 1)),
        tensor(stride=(-2, 1)),
        tensor(stride=(2,)),
        tensor(size=(1 << 30,), stride=(0,)),
        tensor(size=(1 << 62, 1 << 62, 0), stride=(1, 1, 1)),
        tensor(size=(1,) * 9, stride=(1,) * 9),
        tensor(storage_pickle=storage(count=5)),
        tensor(storage_pickle=storage(count=-4)),
        tensor(storage_pickle=storage(kind="DoubleStorage")),
        tensor(storage_pickle=storage(key="1")),
        tensor(storage_pickle=storage(key="../data.pkl")),
        tensor(storage_pickle=string("storage") + pickle.BINPERSID),
        tensor(storage_pickle=pickle.NONE),
    ],
)
def test_a_tensor_must_fit_its_storage(call, tmp_path):
    with pytest.raises(WeightsError, match=r"data\.pkl is damaged|lacks its entry"):
        read_archive(archive(tmp_path / "model.pt", named(call), FOUR))


def test_an_empty_tensor_with_a_huge_dimension_is_refused(tmp_path):
    call = tensor(size=(0, 1 << 39, 1 << 39), stride=(1, 1, 1))
    with pytest.raises(WeightsError):
        read_archive(archive(tmp_path / "model.pt", named(call), FOUR))


def test_many_names_for_one_storage_are_refused(tmp_path):
    items = b"".join(
        string(f"layer{i}") + tensor(size=(1000,), stride=(1,), storage_pickle=b"h\x00") + b"s" for i in range(900)
    )
    data = b"\x80\x02" + storage(count=1000) + b"q\x00}" + items + b"."
    with pytest.raises(WeightsError, match="share their bytes"):
        read_archive(archive(tmp_path / "model.pt", data, {"0": bytes(4000)}))


@pytest.mark.parametrize("root", ["m", "mode"])
def test_entries_that_are_one_and_the_same_are_refused(tmp_path, root):
    """Aligned or not: an entry at an odd place is copied."""
    size, names = 100_000, [f"{number}" for number in range(400)]
    items = b"".join(
        string(key) + tensor(size=(size,), stride=(1,), storage_pickle=storage(key, size)) + b"s" for key in names
    )
    path = archive(tmp_path / "model.pt", b"\x80\x02}" + items + b".", {"0": bytes(4 * size)}, root=root)
    with zipfile.ZipFile(path, "a") as file:
        original = file.getinfo(f"{root}/data/0")
        for key in names[1:]:
            entry = copy(original)
            entry.filename = f"{root}/data/{key}"
            file.filelist.append(entry)
        file._didModify = True  # write the directory again
    assert path.stat().st_size < 1 << 20
    assert peak_bytes(path, "entries share their bytes") < 4 << 20


# --- memory ---


def peak_bytes(path, message):
    """Return the peak memory of refusing a file."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=message):
            read_archive(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_compressed_entry_is_refused_without_decompressing_it(tmp_path):
    zeros = bytes(64 << 20)
    path = archive(tmp_path / "bomb.pt", named(tensor()), {"0": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert peak_bytes(path, "data/0 is compressed") < 1 << 20


def test_a_compressed_pickle_is_refused_without_decompressing_it(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", bytes(64 << 20))
    assert peak_bytes(path, r"data\.pkl is compressed") < 1 << 20


def test_an_entry_larger_than_the_file_is_refused(tmp_path):
    path = archive(tmp_path / "model.pt", named(tensor(storage_pickle=storage(count=1 << 28))), FOUR)
    claim, size = struct.pack("<II", 1 << 30, 1 << 30), struct.pack("<II", 16, 16)
    content = path.read_bytes()
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, claim))
    assert peak_bytes(path, "data/0 is truncated") < 1 << 20


def test_a_large_memo_index_needs_no_memory(tmp_path):
    path = archive(tmp_path / "model.pt", b"\x80\x02Nr\xff\xff\xff\xff.")
    assert peak_bytes(path, "contains a NoneType") < 1 << 20


def test_a_large_pickle_is_refused_before_it_is_read(tmp_path):
    path = archive(tmp_path / "model.pt", b"]" * (MAX_PICKLE_BYTES + 1))
    assert peak_bytes(path, "more than the limit of 1048576") < 1 << 20


def test_a_pickle_needs_at_most_a_hundred_times_its_size_in_memory(tmp_path):
    """With the limit on its size, the worst pickle needs 100 MB."""
    path = archive(tmp_path / "model.pt", b"]" * 100_000 + b".")
    assert peak_bytes(path, "not named tensors") < 100 * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 100_000 + b".",
        b")" + b"\x85" * 100_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
        b"]" + b"]" * 100_000 + b"a" * 100_000 + b".",
        b"(" + b")" + b"\x85" * 100_000 + b"l.",
        name("collections", "OrderedDict") + b")" + b"\x85" * 100_000 + b"R.",
        b")" + b"\x85" * 100_000 + b"N\x93.",
        b"}" + string("a") + b"q\x00" + (b"}h\x00" * 100_000) + b"N" + b"s" * 100_001 + b".",
    ],
    ids=["marks", "tuples", "key", "lists", "unknown", "argument", "name", "dicts"],
)
def test_deep_nesting_is_refused(data, tmp_path):
    with pytest.raises(WeightsError):
        read_archive(archive(tmp_path / "model.pt", data))


def test_a_module_that_contains_itself_is_refused(tmp_path):
    data = b"}q\x00" + string("a") + b"h\x00s."
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_archive(archive(tmp_path / "model.pt", data))


def test_modules_that_contain_the_next_one_twice_are_refused(tmp_path):
    doubled = b"".join(
        b"}" + string("a") + b"h%c" % i + b"s" + string("b") + b"h%c" % i + b"sq%c" % (i + 1) for i in range(60)
    )
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_archive(archive(tmp_path / "model.pt", b"}q\x00" + doubled + b"."))


# --- damage ---


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"weight file not found: .*gone\.pt"):
        read_archive(tmp_path / "gone.pt")


def test_the_message_names_the_format_of_old_torch_versions(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"older than 1\.6"):
        read_archive(tmp_path / "old.pt")


def test_another_byte_order_is_refused(tmp_path):
    path = archive(tmp_path / "model.pt", named(tensor()), FOUR, byteorder=b"big")
    with pytest.raises(WeightsError, match="the byte order 'big'"):
        read_archive(path)


def test_any_other_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"0 data\.pkl in 1 entries"):
        read_archive(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_duplicate_entry_is_refused(tmp_path):
    path = archive(tmp_path / "model.pt", named(tensor()), FOUR)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("model/data/0", bytes(16))
    with pytest.raises(WeightsError, match="no duplicate names"):
        read_archive(path)


def test_a_value_that_is_no_dict_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="contains a Tensor"):
        torch.save(torch.ones(2), tmp_path / "model.pt")
        read_archive(tmp_path / "model.pt")


def mutate(content, rng, start, stop):
    """Flip up to three bytes in a range, or truncate the file there."""
    if rng.random() < 0.2:
        return content[: rng.randrange(start, stop)]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(start, stop)] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("place", ["description", "directory", "anywhere"])
def test_damage_anywhere_is_refused_or_harmless(write, place, tmp_path):
    """Only WeightsError is raised, and tensors do not extend beyond the file."""
    original = tmp_path / "original.pt"
    write(original)
    content = original.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        info = next(info for info in file.infolist() if info.filename.endswith("data.pkl"))
        start, stop = {
            "description": (info.header_offset, info.header_offset + info.file_size + 64),
            "directory": (file.start_dir, len(content)),
            "anywhere": (0, len(content)),
        }[place]
    rng = random.Random(place)
    refused = 0
    for index in range(150):
        path = tmp_path / f"{index}.pt"
        path.write_bytes(mutate(content, rng, start, stop))
        try:
            read = read_archive(path)
        except WeightsError:
            refused += 1
        else:
            assert all(value.double().sum() is not None for value in read.values())
    assert refused > 10

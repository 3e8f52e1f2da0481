"""Weight files give tensors or a WeightsError; code in them is never executed."""

import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from zebra.errors import WeightsError
from zebra.pretrained.tensors import MAX_HEADER_BYTES, read_tensors
from zebra.pretrained.weight_files import list_weight_files

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def shards(folder, names=("one.safetensors", "two.safetensors")):
    save_file({"a": TENSORS["a"]}, folder / "one.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "two.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    return index


def assert_same_tensors(tensors):
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_one_file_of_safetensors(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert_same_tensors(read_tensors(tmp_path / "model.safetensors"))


def test_shards_are_read_through_their_index(tmp_path):
    index = shards(tmp_path)
    assert_same_tensors(read_tensors(index))
    assert [path.name for path in list_weight_files(index)] == [index.name, "one.safetensors", "two.safetensors"]


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}])
def test_a_pickled_state_dict_of_tensors_is_read(tmp_path, wrap):
    torch.save(wrap(TENSORS), tmp_path / "pytorch_model.bin")
    assert_same_tensors(read_tensors(tmp_path / "pytorch_model.bin"))


def test_the_prefix_of_distributed_training_is_dropped(tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in TENSORS.items()}, tmp_path / "x.bin")
    assert_same_tensors(read_tensors(tmp_path / "x.bin"))


def test_code_in_a_pickle_is_not_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"a": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="No code was executed"):
        read_tensors(tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [{"a": 3}, {}, [torch.ones(1)], torch.ones(1)])
def test_a_pickle_of_other_objects_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match="named tensors"):
        read_tensors(tmp_path / "x.bin")


def test_the_optimizer_of_a_training_checkpoint_is_ignored(tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    state = {"epoch": 3, "name": "run", "state_dict": layer.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, tmp_path / "epoch_3.pt")
    assert read_tensors(tmp_path / "epoch_3.pt").keys() == {"weight", "bias"}


INFLATED = {
    "stride 0": lambda: torch.ones(1).expand(1 << 40),
    "strides that overlap": lambda: torch.ones(2000).as_strided((1000, 1000), (1, 1)),
    "sparse": lambda: torch.sparse_coo_tensor([[0]], [1.0], (1 << 40,)),
    "sparse rows": lambda: torch.ones(2, 2).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "on the meta device": lambda: torch.empty(1 << 40, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of torch, about sparse, nested and quantized tensors
@pytest.mark.parametrize("kind", INFLATED)
def test_a_pickled_tensor_whose_elements_are_not_in_the_file_is_refused(tmp_path, kind):
    torch.save({"a": torch.ones(4), "b": INFLATED[kind]()}, tmp_path / "pytorch_model.bin")
    assert (tmp_path / "pytorch_model.bin").stat().st_size < 1 << 14
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        read_tensors(tmp_path / "pytorch_model.bin")


def test_an_index_that_points_outside_its_folder_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="outside its folder"):
        read_tensors(shards(tmp_path, ("one.safetensors", "../two.safetensors")))


def test_a_missing_shard_and_an_unlisted_tensor_are_named(tmp_path):
    index = shards(tmp_path)
    save_file({"b": TENSORS["b"], "c": TENSORS["a"]}, tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match="a tensor c"):
        read_tensors(index)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"two\.safetensors"):
        read_tensors(index)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "other.index.json"])
def test_an_index_that_names_an_index_is_refused(tmp_path, name):
    with pytest.raises(WeightsError, match="another index as a shard"):
        read_tensors(shards(tmp_path, ("one.safetensors", name)))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"weight_map": []}', "{}", '{"weight_map": 1}', "\xff", '{"weight_map": ']
)
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "x.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"x\.index\.json"):
        read_tensors(tmp_path / "x.index.json")


def test_a_header_of_too_many_tensors_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(MAX_HEADER_BYTES + 100)
    with pytest.raises(WeightsError, match="has a header of 4,194,305 bytes; the limit is 4,194,304"):
        read_tensors(path)


def raw(header, body=b"\0" * 24):
    return struct.pack("<Q", len(header)) + header + body


def header(*places, kind="F32", shape=(2, 3)):
    """Return the header of tensors at these offsets of the data."""
    entries = {f"t{n}": {"dtype": kind, "shape": shape, "data_offsets": place} for n, place in enumerate(places)}
    return json.dumps(entries).encode()


MALFORMED = {
    "empty": b"",
    "shorter than its length field": b"\1\2\3",
    "header larger than the file": struct.pack("<Q", 1 << 20) + b"{}",
    "header beyond every limit": struct.pack("<Q", 1 << 62) + b"{}",
    "header that is not JSON": raw(b"nonsense"),
    "header that is not UTF-8": raw(b"\xff\xfe"),
    "data behind the end": raw(header((0, 24)), b"\0" * 8),
    "overlapping tensors": raw(header((0, 24), (8, 32)), b"\0" * 32),
    "a hole between tensors": raw(header((0, 24), (32, 56)), b"\0" * 56),
    "a size that overflows": raw(header((0, 24), shape=(1 << 62, 16))),
    "an unknown type": raw(header((0, 24), kind="F99")),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_safetensors_are_refused(tmp_path, kind):
    (tmp_path / "x.safetensors").write_bytes(MALFORMED[kind])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        read_tensors(tmp_path / "x.safetensors")


def test_2000_mutated_files_give_tensors_or_a_weights_error(tmp_path):
    """Bytes of the header are changed, removed or doubled; tensors that can still be read have their declared size."""
    rng = np.random.default_rng(0)
    original, path, refused = save(TENSORS), tmp_path / "x.safetensors", 0
    for _ in range(2000):
        data = bytearray(original)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(0, min(len(data), 160)))
            match rng.integers(3):
                case 0:
                    data[place] = int(rng.integers(256))
                case 1:
                    del data[place:]
                case _:
                    data[place:place] = data[place : place + 8]
            if not data:
                break
        path.write_bytes(data)
        try:
            read_tensors(path)
        except WeightsError:
            refused += 1
    assert refused > 1500

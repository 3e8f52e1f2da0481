"""Shards are read by position, and the writer's samples are read back."""

import contextlib
import json
import os
import pickle
import tarfile
from itertools import islice
from pathlib import Path

import pytest

from zebra.config.data import DataConfig
from zebra.data import shards as shards_module
from zebra.data.ignored import Ignored
from zebra.data.shard_writer import ShardWriter
from zebra.data.shards import ShardSource
from zebra.errors import BadSample, DataError


def open_folder(folder: Path) -> ShardSource:
    return ShardSource(list(folder.glob("*.tar")), str(folder))


def write_one(tmp_path: Path, fields: dict[str, bytes]) -> ShardSource:
    with ShardWriter(tmp_path / "one") as writer:
        writer.write("k", fields)
    return open_folder(tmp_path / "one")


def count_open_shards(folder: Path) -> int:
    """Return the number of tar files below a folder that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(descriptor.readlink())
    return sum(link.is_relative_to(folder) and link.suffix == ".tar" for link in links)


def reason(source: ShardSource, index: int = 0) -> str:
    with pytest.raises(BadSample) as error:
        source.read(index)
    return error.value.reason


def test_every_sample_of_every_shard_is_read_at_its_position(shards, make_image) -> None:
    source = open_folder(shards(25, samples_per_shard=2))
    assert len(source) == 25
    for index in (24, 0, 13, 12):
        record = source.read(index)
        assert record.id == f"{index // 2:05d}.tar/{index:06d}"
        assert record.image == make_image(index)
        assert record.captions == (f"color {index}",)
        assert record.label is None


def test_shards_are_sorted_naturally_by_name(tmp_path: Path) -> None:
    for name in ("10", "9", "1"):
        with ShardWriter(tmp_path, prefix=f"{name}-", num_digits=1) as writer:
            writer.write(name, {"jpg": b"x", "txt": b"y"})
    source = open_folder(tmp_path)
    assert [source.read(i).id for i in range(3)] == ["1-0.tar/1", "9-0.tar/9", "10-0.tar/10"]


def test_ids_of_shards_in_several_folders_are_unique(shards) -> None:
    paths = [shards(1, name) / "00000.tar" for name in ("a", "b")]
    source = ShardSource(paths, "both")
    assert [source.read(i).id for i in range(2)] == ["a/00000.tar/000000", "b/00000.tar/000000"]


def test_txt_takes_precedence_over_json(tmp_path: Path) -> None:
    fields = {"jpg": b"x", "txt": b"from txt", "json": b'{"caption": "from json"}'}
    assert write_one(tmp_path, fields).read(0).captions == ("from txt",)
    del fields["txt"]
    assert write_one(tmp_path, fields).read(0).captions == ("from json",)


def test_a_sample_with_a_label_needs_no_caption(tmp_path: Path) -> None:
    record = write_one(tmp_path, {"png": b"x", "cls": b"12\n"}).read(0)
    assert (record.label, record.captions) == (12, ())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"jpg": b"x"}, "missing caption"),
        ({"jpg": b"x", "json": b"{}"}, "missing caption"),
        ({"txt": b"y", "seg.png": b"x"}, "missing image"),
        ({"jpg": b"x", "txt": b" \n"}, "empty caption"),
        ({"jpg": b"x", "txt": b"caf\xe9"}, "caption is not UTF-8"),
        ({"jpg": b"x", "txt": b"N\0L"}, "NUL character"),
        ({"jpg": b"x", "json": b'{"caption": "\\ud800"}'}, "caption is not UTF-8"),
        ({"jpg": b"x", "json": b"{"}, "broken JSON"),
        ({"jpg": b"x", "json": b'{"caption": 3}'}, "caption is not text"),
        ({"jpg": b"x", "cls": b"cat"}, "label is not a number"),
    ],
)
def test_each_incomplete_sample_has_its_reason(tmp_path: Path, fields: dict[str, bytes], expected: str) -> None:
    assert reason(write_one(tmp_path, fields)) == expected


def test_a_field_that_occurs_twice_is_ambiguous(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.write("k", {"jpg": b"1", "txt": b"one"})
        writer.write("k", {"jpg": b"2", "txt": b"two"})
    source = open_folder(tmp_path)
    assert len(source) == 1
    assert reason(source) == "duplicate field"


def test_a_key_that_occurs_again_later_is_another_sample(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for key, caption in (("a", b"1"), ("b", b"2"), ("a", b"3")):
            writer.write(key, {"jpg": b"x", "txt": caption})
    source = open_folder(tmp_path)
    assert [(source.read(i).id, source.read(i).captions[0]) for i in range(3)] == [
        ("00000.tar/a", "1"),
        ("00000.tar/b", "2"),
        ("00000.tar/a#2", "3"),
    ]


def test_a_shard_that_changed_after_indexing_is_an_error(shards) -> None:
    folder = shards(3)
    source = open_folder(folder)
    os.utime(folder / "00000.tar", ns=(1, 1))
    with pytest.raises(DataError, match=r"00000\.tar has changed while it was in use"):
        source.read(0)


def test_a_deleted_shard_is_an_error_and_no_bad_sample(shards) -> None:
    folder = shards(3)
    source = open_folder(folder)
    (folder / "00000.tar").unlink()
    with pytest.raises(DataError, match="cannot open") as error:
        source.read(0)
    assert not isinstance(error.value, BadSample)


def test_counts_of_img2dataset_must_agree(shards) -> None:
    folder = shards(3)
    stats = folder / "00000_stats.json"
    stats.write_text(json.dumps({"count": 5, "successes": 3}))
    assert len(open_folder(folder)) == 3
    stats.write_text(json.dumps({"count": 5, "successes": 4}))
    with pytest.raises(DataError, match=r"has 3 samples, but 00000_stats\.json beside it counts 4"):
        open_folder(folder)
    stats.write_text("[]")
    with pytest.raises(DataError, match="no count of successes"):
        open_folder(folder)


def test_a_source_with_open_files_can_be_pickled(shards) -> None:
    source = open_folder(shards(3))
    record = source.read(2)
    assert pickle.loads(pickle.dumps(source)).read(2) == record


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_many_shards_need_few_open_files(shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "MAX_OPEN_SHARDS", 3)
    source = open_folder(shards(40, samples_per_shard=1))
    captions = [source.read(i).captions[0] for i in (*range(40), 0, 39)]
    assert captions == [f"color {i}" for i in (*range(40), 0, 39)]
    assert count_open_shards(tmp_path) == 3
    assert [record.captions[0] for record in source.read_many(range(40))] == captions[:40]
    assert count_open_shards(tmp_path) == 3
    del source
    assert count_open_shards(tmp_path) == 0


def test_the_digest_depends_on_the_content_and_not_the_path(shards, tmp_path: Path) -> None:
    first = open_folder(shards(4, "one"))
    assert open_folder(shards(4, "two")).digest == first.digest
    assert open_folder(shards(5, "three")).digest != first.digest


def test_equal_samples_are_written_as_equal_bytes(shards) -> None:
    assert (shards(4, "one") / "00000.tar").read_bytes() == (shards(4, "two") / "00000.tar").read_bytes()


def test_written_shards_are_ordinary_tars(shards, make_image) -> None:
    with tarfile.open(shards(2) / "00000.tar") as tar:
        assert tar.getnames() == ["000000.jpg", "000000.txt", "000001.jpg", "000001.txt"]
        assert tar.extractfile("000001.jpg").read() == make_image(1)


def test_an_interrupted_writer_leaves_no_incomplete_shard(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, samples_per_shard=2) as writer:
        for number in range(3):
            writer.write(str(number), {"jpg": b"x"})
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["00000.tar"]


@pytest.mark.parametrize("key", ["", "a.b", "folder/", ".hidden"])
def test_keys_that_readers_cannot_restore_are_refused(tmp_path: Path, key: str) -> None:
    with ShardWriter(tmp_path) as writer, pytest.raises(DataError, match="without dots"):
        writer.write(key, {"jpg": b"x"})


def test_a_named_pipe_or_device_in_the_place_of_a_shard_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    (tmp_path / "1.tar").symlink_to("/dev/zero")
    for name, kind in (("0.tar", "a named pipe"), ("1.tar", "a device")):
        with pytest.raises(DataError, match=rf"cannot open .*{name}: {kind}, not a regular file"):
            ShardSource([tmp_path / name], "x")


def test_ignored_members_of_all_shards_are_counted_with_the_first_shard(shards) -> None:
    folder = shards(4, samples_per_shard=2)
    for path in folder.glob("*.tar"):
        with tarfile.open(path, "a") as tar:
            tar.addfile(tarfile.TarInfo("README"))
    source = open_folder(folder)
    assert len(source) == 4
    assert source.ignored == (Ignored("no suffix", 2, "00000.tar/README"),)


def test_a_sample_with_an_unsupported_image_names_its_format(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x") as writer:
        writer.write("0", {"psd": b"x", "txt": b"a cat"})
    with pytest.raises(BadSample, match=r"missing image \(only \.psd, \.txt; zebra does not read PSD images"):
        open_folder(tmp_path / "x").read(0)


KEYS = {"alt": "from alt", "keywords": ["cat", "pet"], "sku": 7}


def write_keys(tmp_path: Path, *samples: dict[str, bytes]) -> list[Path]:
    with ShardWriter(tmp_path / "keys") as writer:
        for number, fields in enumerate(samples):
            writer.write(f"{number}", {"jpg": b"x", **fields})
    return list((tmp_path / "keys").glob("*.tar"))


def test_captions_and_groups_come_from_keys_of_the_json(tmp_path: Path) -> None:
    paths = write_keys(
        tmp_path,
        {"txt": b"from txt", "json": json.dumps(KEYS).encode()},
        {"txt": b"from txt", "json": b'{"sku": null}'},
        {"txt": b"from txt"},
        {"txt": b" ", "json": b'{"alt": " "}'},
        {"txt": b"from txt", "json": b"{"},
    )
    columns = DataConfig(caption_columns=("alt", "keywords"), caption_weights=(0.5, 0.5), group_column="sku")
    source = ShardSource(paths, "x", columns)
    record = source.read(0)
    assert (record.captions, record.group) == (("from alt", "cat", "pet"), "7")
    assert record.caption_probabilities == (0.5, 0.25, 0.25)
    assert [reason(source, index) for index in range(1, 5)] == ["missing caption"] * 3 + ["broken JSON"]
    with_txt = ShardSource(paths, "x", DataConfig(caption_columns=("txt", "alt"), group_column="sku"))
    assert [with_txt.read(index).captions for index in range(3)] == [("from txt", "from alt"), *[("from txt",)] * 2]
    by_default = ShardSource(paths, "x", DataConfig(group_column="sku"))
    assert [(r.captions, r.group) for r in map(by_default.read, range(3))] == [
        (("from txt",), "7"),
        (("from txt",), None),
        (("from txt",), None),
    ]
    assert [ref.load().captions for ref in islice(source.scan(), 2)] == [("from alt", "cat", "pet"), ()]


@pytest.mark.parametrize("config", [DataConfig(caption_columns=("txt", "alte")), DataConfig(group_column="alte")])
def test_a_key_that_no_sample_has_is_an_error(tmp_path: Path, config: DataConfig) -> None:
    paths = write_keys(tmp_path, {"txt": b"from txt", "json": json.dumps(KEYS).encode()})
    with pytest.raises(DataError, match=r"no column 'alte' in the \.json members.*Did you mean 'alt'\?"):
        ShardSource(paths, "x", config)

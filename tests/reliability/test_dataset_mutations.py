"""Mutated datasets: every verb finds the same samples, nothing is lost in silence, and errors help.

The nightly profile of Hypothesis draws 20 times as many datasets as the default one.
"""

import json
import os
import random
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from zebra.cli.main import main
from zebra.data import inspection
from zebra.data.folders import SECOND_CAPTION, FolderSource
from zebra.data.shards import ShardSource
from zebra.images.formats import IMAGE_SUFFIXES

from .mutations.agreement import check_dataset, read_as_train
from .mutations.folders import FOLDER_MUTATIONS, captioned_tree
from .mutations.samples import caption, encode_image
from .mutations.shards import SHARD_MUTATIONS, Member, Shard, captioned_shard
from .mutations.tables import FORMATS, TABLE_MUTATIONS, Table, labeled_table, write_table_images

EXAMPLES = settings(max_examples=settings().max_examples // 5)
SEEDS = st.integers(0, 2**32 - 1)
NUM_SAMPLES = (2, 4, 6)


def draw_mutations(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(sorted(names)), max_size=4)


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[[], Path]:
    """A function that returns a new folder, without those of earlier examples."""

    def make() -> Path:
        for child in tmp_path.iterdir():
            shutil.rmtree(child)
        return Path(tempfile.mkdtemp(prefix="place-", dir=tmp_path))

    return make


@EXAMPLES
@given(names=draw_mutations(FOLDER_MUTATIONS), seed=SEEDS)
def test_a_folder_is_read_alike_by_every_verb(make_place: Callable[[], Path], names: list[str], seed: int) -> None:
    note(f"mutations {names} with seed {seed}")
    place, rng = make_place(), random.Random(seed)
    tree = captioned_tree(rng, rng.choice(NUM_SAMPLES))
    for name in names:
        FOLDER_MUTATIONS[name](rng, tree)
    root = place / "data"
    tree.write(root)
    source, _ = check_dataset(root, place)
    if isinstance(source, FolderSource) and "linked folder" not in names:
        files = list_files(root)
        visible = [path for path in files if not path.name.startswith(".")]
        images = [path for path in visible if path.name.lower().endswith(IMAGE_SUFFIXES)]
        captions = [path for path in visible if path.name.lower().endswith(".txt")]
        assert source.num_images() == len(images)
        assert len(files) - len(images) - len(captions) == sum(
            entry.count for entry in source.ignored if entry.reason != SECOND_CAPTION
        )


def list_files(root: Path) -> list[Path]:
    """Return everything below a folder but visible folders; a hidden folder is one entry."""
    found = []
    for parent, folders, names in os.walk(root):
        hidden = [name for name in folders if name.startswith(".")]
        found += [Path(parent, name) for name in (*names, *hidden)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return found


@pytest.mark.parametrize("format", FORMATS)
@EXAMPLES
@given(names=draw_mutations(TABLE_MUTATIONS), seed=SEEDS)
def test_a_table_is_read_alike_by_every_verb(
    make_place: Callable[[], Path], format: str, names: list[str], seed: int
) -> None:
    note(f"mutations {names} with seed {seed}")
    place, rng = make_place(), random.Random(seed)
    (place / "t").mkdir()
    table = labeled_table(rng, rng.choice(NUM_SAMPLES), format)
    for name in names:
        TABLE_MUTATIONS[name](rng, table)
    write_table_images(place / "t", 6)
    _, reading = check_dataset(table.write(place / "t"), place)
    if reading and len(table.columns) > 1 and not {"dialect", "encoding", "raw line", "damage"}.intersection(names):
        assert reading.num_found == len(table.rows)


@pytest.mark.parametrize("argument", ["shard", "folder", "parent folder"])
@EXAMPLES
@given(names=draw_mutations(SHARD_MUTATIONS), seed=SEEDS)
def test_a_shard_is_read_alike_by_every_verb(
    make_place: Callable[[], Path], argument: str, names: list[str], seed: int
) -> None:
    note(f"mutations {names} with seed {seed}")
    place, rng = make_place(), random.Random(seed)
    shard = captioned_shard(rng, rng.choice(NUM_SAMPLES))
    for name in names:
        SHARD_MUTATIONS[name](rng, shard)
    folder = place / "data" / rng.choice(("test", "shards"))
    folder.mkdir(parents=True)
    path = shard.write(folder)
    source, reading = check_dataset({"shard": path, "folder": folder}.get(argument, folder.parent), place)
    is_plain = not {"damage", "pax headers", "sibling"}.intersection(names)
    if is_plain and isinstance(source, ShardSource) and reading and "duplicate field" not in reading.bad.values():
        samples = [index.sample(position) for index in source.shards for position in range(len(index))]
        num_fields = sum(len(sample.fields) for sample in samples)
        with tarfile.open(path, errors="surrogateescape") as tar:
            num_members = sum(not member.isdir() for member in tar)
        assert num_members == num_fields + sum(entry.count for entry in source.ignored)


@pytest.mark.parametrize("layout", ["folder", "csv", "jsonl", "parquet", "shard"])
def test_the_commands_report_the_same_counts(
    layout: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 12 samples, one has a damaged image, one is no image, and one is an empty file."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.01)
    monkeypatch.setattr(inspection, "usable_cores", lambda: 1)
    images = [encode_image(number, size=(64, 48)) for number in range(12)]
    images[3], images[5], images[8] = images[3][:400], b"no image", b""
    reasons = {"damaged image": 1, "not an image": 1, "empty file": 1}
    data = write_captioned(tmp_path / "data", layout, images)

    def run(*arguments: object) -> Any:
        assert main([*map(str, arguments), "--json", "--data-options.max-skip-rate", "0.5"]) == 0
        return json.loads(capsys.readouterr().out)

    doctor = run("doctor", data)
    assert doctor["found"] == 12
    assert {entry["reason"]: entry["count"] for entry in doctor["survey"]["skipped"]} == reasons
    embed = run("embed", model, data, "--out", tmp_path / "store", "--workers", 1)
    assert embed["skipped"] == reasons
    assert embed["num_rows"] == 9
    reading = read_as_train(data)
    assert (reading.num_found, Counter(reading.bad.values())) == (12, reasons)


def write_captioned(folder: Path, layout: str, images: Sequence[bytes]) -> Path:
    """Write images with captions in a layout; return its path."""
    folder.mkdir()
    if layout == "shard":
        members = [
            (f"{n}.{kind}", data)
            for n, image in enumerate(images)
            for kind, data in (("jpg", image), ("txt", caption(n).encode()))
        ]
        return Shard([Member(name, data) for name, data in members]).write(folder)
    for number, image in enumerate(images):
        (folder / f"{number}.jpg").write_bytes(image)
        if layout == "folder":
            (folder / f"{number}.txt").write_text(caption(number))
    if layout == "folder":
        return folder
    return Table(layout, ["path", "caption"], [[f"{n}.jpg", caption(n)] for n in range(len(images))]).write(folder)

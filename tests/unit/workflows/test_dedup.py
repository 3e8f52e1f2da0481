"""`zebra dedup`: what is listed, what is moved or deleted, and what must stay."""

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from zebra.config.dedup import DedupConfig
from zebra.config.embed import EmbedConfig
from zebra.curate import duplicate_files
from zebra.errors import ConfigError, DataError
from zebra.menagerie.sample import generate_sample
from zebra.search.searcher import open_searcher
from zebra.store import Store, StoreMetadata
from zebra.workflows import dedup, embed

if TYPE_CHECKING:
    from _pytest.capture import CaptureResult


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a cat at three sizes and as a crop, each with a caption, and another image."""
    root = tmp_path / "photos"
    (root / "old").mkdir(parents=True)
    cat, other = (generate_sample(0, "train", index)[0] for index in (0, 1))
    images = {
        "old/cat.jpg": cat.resize((60, 60)),
        "cat.png": cat,
        "cat.web.jpg": cat.resize((80, 80)),
        "crop.png": cat.crop((0, 10, 86, 96)),
        "other.png": other,
    }
    for name, image in images.items():
        image.save(root / name, quality=90)
        (root / name).with_suffix(".txt").write_text(f"caption of {name}")
    return root


def run_dedup(folder: Path, **settings: object) -> dedup.DedupResult:
    return dedup.run(DedupConfig(data=str(folder), out=str(folder.parent / "out"), **settings))


def list_files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def read_groups(folder: Path) -> list[tuple[str, str]]:
    with (folder.parent / "out/groups.csv").open() as stream:
        return [(row["kind"], str(Path(row["image"]).relative_to(folder))) for row in csv.DictReader(stream)]


def test_groups_are_listed_with_the_largest_image_first_and_nothing_is_changed(folder: Path) -> None:
    before = list_files(folder)
    shutil.copy(folder / "other.png", folder / "second.png")
    (folder / "broken.png").write_bytes(b"not an image")
    result = run_dedup(folder)
    assert read_groups(folder) == [
        ("kept", "cat.png"),
        ("crop", "crop.png"),
        ("same", "cat.web.jpg"),
        ("same", "old/cat.jpg"),
        ("kept", "other.png"),
        ("same bytes", "second.png"),
    ]
    assert (result.num_images, result.num_duplicates) == (6, 4)
    assert [bad.reason for bad in result.bad_samples] == ["not an image"]
    assert list_files(folder) == before | {"second.png", "broken.png"}
    page = (folder.parent / "out/duplicates.html").read_text()
    assert page.count("data:image/png;base64") == 6
    assert "old/cat.jpg · 60 × 60" in page


def test_copies_move_with_their_captions_below_the_same_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "cat.web.jpg.xmp").write_text("<rating>")
    (folder / "cat.web.captions.json").write_text("[]")
    result = run_dedup(folder, move_to=str(tmp_path / "moved"))
    moved = {"crop.png", "crop.txt", "cat.web.jpg", "cat.web.txt", "cat.web.jpg.xmp", "cat.web.captions.json"}
    assert list_files(tmp_path / "moved") == moved | {"old/cat.jpg", "old/cat.txt"}
    assert list_files(folder) == {"cat.png", "cat.txt", "other.png", "other.txt"}
    assert result.outcomes == {"moved": 3}
    with (tmp_path / "out/removed.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert {Path(line["target"]).relative_to(tmp_path / "moved").as_posix() for line in lines} == list_files(
        tmp_path / "moved"
    )
    assert {line["copy_of"] for line in lines} == {str(folder / "cat.png")}
    assert run_dedup(folder, move_to=str(tmp_path / "moved")).outcomes == {}


@pytest.mark.parametrize("num_changes", range(1, 6))
def test_an_interrupted_run_leaves_no_image_without_a_copy_and_continues(
    folder: Path, tmp_path: Path, num_changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, changes = duplicate_files._remove, iter(range(num_changes))

    def remove_some(path: Path, target: Path | None) -> None:
        if next(changes, None) is None:
            raise KeyboardInterrupt
        remove(path, target)

    contents = {name: (folder / name).read_bytes() for name in list_files(folder)}
    with monkeypatch.context() as patch:
        patch.setattr(duplicate_files, "_remove", remove_some)
        with pytest.raises(KeyboardInterrupt):
            run_dedup(folder, move_to=str(tmp_path / "moved"))
    run_dedup(folder, move_to=str(tmp_path / "moved"))
    assert list_files(folder) == {"cat.png", "cat.txt", "other.png", "other.txt"}
    for name, content in contents.items():
        assert [root for root in (folder, tmp_path / "moved") if (root / name).is_file()] != []
        assert {path.read_bytes() for path in (folder / name, tmp_path / "moved" / name) if path.is_file()} == {content}
    lines = (tmp_path / "out/removed.csv").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 1 + 6


def test_deleting_keeps_the_largest_image_and_its_caption_and_files_of_other_kinds(folder: Path) -> None:
    (folder / "crop.CR2").write_bytes(b"a raw image")
    assert run_dedup(folder, delete=True).outcomes == {"deleted": 3}
    assert list_files(folder) == {"cat.png", "cat.txt", "other.png", "other.txt", "crop.CR2"}


def test_a_caption_of_two_images_goes_with_the_last_of_them(folder: Path) -> None:
    Image.open(folder / "cat.png").resize((50, 50)).save(folder / "cat.jpg")
    run_dedup(folder, delete=True)
    assert list_files(folder) == {"cat.png", "cat.txt", "other.png", "other.txt"}


def test_a_link_to_an_image_is_no_copy_of_it(folder: Path) -> None:
    (folder / "a-link.png").symlink_to(folder / "cat.png")
    os.link(folder / "other.png", folder / "hard.png")
    result = run_dedup(folder, delete=True)
    assert result.num_same_files == 2
    assert list_files(folder) == {"a-link.png", "cat.png", "cat.txt", "hard.png", "other.png", "other.txt"}


def test_an_image_that_has_changed_meanwhile_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_groups = dedup._find_groups

    def change_images(*args: object) -> object:
        groups = find_groups(*args)
        Image.new("RGB", (20, 20), "red").save(folder / "crop.png")
        (folder / "old/cat.jpg").unlink()
        return groups

    monkeypatch.setattr(dedup, "_find_groups", change_images)
    assert run_dedup(folder, delete=True).outcomes == {
        "deleted": 1,
        "left: it has changed": 1,
        "left: its name is not UTF-8, or it is gone": 1,
    }
    assert (folder / "crop.png").is_file()


def test_copies_stay_when_their_original_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_groups = dedup._find_groups

    def delete_original(*args: object) -> object:
        groups = find_groups(*args)
        (folder / "cat.png").unlink()
        return groups

    monkeypatch.setattr(dedup, "_find_groups", delete_original)
    assert run_dedup(folder, delete=True).outcomes == {"left: its original is gone": 3}


def test_an_existing_file_at_the_target_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/crop.txt").write_text("something else")
    with pytest.raises(DataError, match=r"crop\.txt exists\. Use another --move-to"):
        run_dedup(folder, move_to=str(tmp_path / "moved"))
    assert (folder / "crop.txt").is_file()
    assert (tmp_path / "moved/crop.txt").read_text() == "something else"


def test_a_folder_that_cannot_be_changed_is_an_error_with_the_next_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(DataError, match=r"cannot move .*crop\.txt: Permission denied\. Make both folders writable"):
            run_dedup(folder, move_to=str(tmp_path / "moved"))
    assert run_dedup(folder, move_to=str(tmp_path / "moved")).outcomes == {"moved": 3}


def test_settings_that_would_harm_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both set"):
        run_dedup(folder, move_to="elsewhere", delete=True)
    with pytest.raises(ConfigError, match="inside of"):
        run_dedup(folder, move_to=str(folder / "duplicates"))
    (tmp_path / "table.csv").write_text("image\nphotos/cat.png\nphotos/crop.png\n")
    with pytest.raises(ConfigError, match="needs a folder of image files"):
        dedup.run(DedupConfig(data=str(tmp_path / "table.csv"), out=str(tmp_path / "out"), delete=True))


def test_tables_are_listed_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image\nphotos/cat.png\nphotos/crop.png\nphotos/other.png\n")
    result = dedup.run(DedupConfig(data=str(tmp_path / "table.csv"), out=str(tmp_path / "out")))
    assert (result.num_images, result.num_duplicates) == (3, 1)


def test_a_store_is_listed_by_its_images(folder: Path, tmp_path: Path, model: Path) -> None:
    embed.run(EmbedConfig(model=str(model), data=str(folder), out=str(tmp_path / "store"), precision="fp32"))
    (folder / "old/cat.jpg").unlink()
    config = DedupConfig(data=str(tmp_path / "store"), out=str(tmp_path / "out"), column="duplicate_of")
    result = dedup.run(config)
    found = open_searcher(tmp_path / "store").list_rows("duplicate_of is not null").rows
    assert {Path(str(row["path"])).name for row in found} == {"crop.png", "cat.web.jpg"}
    assert read_groups(folder) == [("kept", "cat.png"), ("crop", "crop.png"), ("same", "cat.web.jpg")]
    assert [bad.reason for bad in result.bad_samples] == ["missing image"]


@pytest.fixture
def vector_store(tmp_path: Path) -> Path:
    """Return a store of five rows without image files: 0, 2 and 4 are alike, and 2 is the largest of them."""
    vectors_NE = (
        np.eye(4, dtype=np.float32)[[0, 1, 0, 2, 0]] + 0.01 * np.arange(20, dtype=np.float32).reshape(5, 4) / 20
    )
    rows = {
        "id": [f"id-{n}" for n in range(5)],
        "digest": ["0" * 64] * 5,
        "path": [f"/images/{n}.png" for n in range(5)],
        "width": pa.array([60, 60, 90, 60, None], pa.int32()),
        "height": pa.array([60, 60, 90, 60, None], pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), 4),
    }
    with Store.create(tmp_path / "vectors", StoreMetadata("f" * 16, "model", 4, "fp32", "float32")) as store:
        store.append(pa.table(rows))
    return tmp_path / "vectors"


def test_images_with_almost_equal_vectors_are_listed_without_reading_them(
    vector_store: Path, tmp_path: Path, cli: Callable[..., "CaptureResult[str]"]
) -> None:
    output = cli("dedup", vector_store, "--by", "vectors", "--out", "out", "--column", "duplicate_of").out
    assert output.splitlines()[0] == "2 of 5 images are duplicates; groups: 1"
    assert output.splitlines()[-1] == "column: duplicate_of"
    with (tmp_path / "out/groups.csv").open() as stream:
        rows = [(row["kind"], row["image"], row["width"], row["bytes"]) for row in csv.DictReader(stream)]
    assert rows == [
        ("kept", "/images/2.png", "90", ""),
        ("similar", "/images/0.png", "60", ""),
        ("similar", "/images/4.png", "", ""),
    ]
    page = (tmp_path / "out/duplicates.html").read_text()
    assert "the model can hardly tell apart" in page
    assert "images/0.png · 60 × 60" in page
    found = open_searcher(vector_store).list_rows("duplicate_of is not null").rows
    assert {(row["id"], row["duplicate_of"]) for row in found} == {("id-0", "id-2"), ("id-4", "id-2")}


def test_a_run_that_finds_nothing_clears_the_column(vector_store: Path, tmp_path: Path) -> None:
    config = DedupConfig(data=str(vector_store), out=str(tmp_path / "out"), by="vectors", column="duplicate_of")
    assert dedup.run(config).num_duplicates == 2
    assert dedup.run(replace(config, min_cosine=0.99999)).num_duplicates == 0
    assert open_searcher(vector_store).list_rows("duplicate_of is not null").num_matches == 0


def test_vectors_and_columns_need_a_store(folder: Path, vector_store: Path) -> None:
    with pytest.raises(ConfigError, match=r"--by vectors needs a store; .*photos is none\. Embed the images first"):
        run_dedup(folder, by="vectors")
    with pytest.raises(ConfigError, match=r"--column needs a store"):
        run_dedup(folder, column="duplicate_of")
    with pytest.raises(ConfigError, match=r"--delete needs a folder of image files"):
        run_dedup(vector_store, by="vectors", delete=True)
    with pytest.raises(ConfigError, match=r"--min-cosine is 1; it must be above 0 and below 1"):
        run_dedup(vector_store, min_cosine=1.0)


def test_the_command_prints_counts_and_files(folder: Path, cli: Callable[..., "CaptureResult[str]"]) -> None:
    output = cli("dedup", folder, "--out", "out", "--no-crops", "--delete").out
    counts, deleted, *files = output.splitlines()
    assert (counts, deleted) == ("2 of 5 images are duplicates; groups: 1", "2 deleted")
    assert files == ["list: out/groups.csv", "page: out/duplicates.html"]

import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.errors import DataError
from zebra.menagerie import write
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.splits import SEEN_KINDS
from zebra.menagerie.write import MenageriePaths, write_menagerie


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of ten pictures: what is tested here does not depend on their size."""
    monkeypatch.setattr(
        write,
        "DRAWN_DATASETS",
        {name: replace(one, num_samples=10) for name, one in write.DRAWN_DATASETS.items()},
    )
    monkeypatch.setattr(write, "iter_handwritten_digits", lambda: islice(iter_handwritten_digits(), 10))
    monkeypatch.setattr(write, "CHUNK_SIZE", 7)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path) -> None:
    write_menagerie(tmp_path / "one", 40, seed=5, workers=1)
    write_menagerie(tmp_path / "two", 40, seed=5, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_gives_another_world_with_the_same_sets(tmp_path: Path) -> None:
    one = write_menagerie(tmp_path / "one", 10, seed=0, workers=1)
    two = write_menagerie(tmp_path / "two", 10, seed=1, workers=1)
    assert digests(one.train_dir) != digests(two.train_dir)
    for name, folder in one.evaluation_dirs.items():
        assert (folder / "classnames.txt").read_text() == (
            two.evaluation_dirs[name] / "classnames.txt"
        ).read_text()


def test_a_training_sample_is_a_picture_with_its_caption_and_its_facts(tmp_path: Path) -> None:
    world = write_menagerie(tmp_path / "world", 12, seed=0, workers=1)
    with tarfile.open(world.train_dir / "00000.tar") as shard:
        members = shard.getnames()
        facts = [json.load(shard.extractfile(name)) for name in members if name.endswith(".json")]
    assert members[:3] == ["000000000.jpg", "000000000.txt", "000000000.json"]
    assert len(facts) == 12
    for fact in facts:
        assert fact["topic"] == "sign" or (fact["animal"], fact["coat"]) in SEEN_KINDS


def test_every_evaluation_set_is_read_back_by_the_reader_of_benchmarks(tmp_path: Path) -> None:
    world = write_menagerie(tmp_path / "world", 1, seed=0, workers=1)
    assert set(world.evaluation_dirs) == {*write.DRAWN_DATASETS, "handwritten-digits"}
    for name, folder in world.evaluation_dirs.items():
        benchmark = read_classification(folder)
        assert benchmark.name == name
        assert len(benchmark.source) == 10
        assert benchmark.source.read(9).image.startswith(b"\x89PNG")


def test_a_finished_world_is_returned_untouched(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    world = write_menagerie(tmp_path / "world", 5, seed=0, workers=1)
    (world.train_dir / "00000.tar").write_bytes(b"marked")
    again = write_menagerie(
        tmp_path / "world", 5, seed=0, workers=1, callback=lambda *step: calls.append(step)
    )
    assert again == world
    assert (world.train_dir / "00000.tar").read_bytes() == b"marked"
    assert not calls


def test_a_world_left_half_written_is_written_anew(tmp_path: Path) -> None:
    whole = write_menagerie(tmp_path / "whole", 20, seed=0, workers=1)

    def stop(done: int, _total: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_menagerie(tmp_path / "cut", 20, seed=0, workers=1, callback=stop)
    assert digests(tmp_path / "cut") != digests(tmp_path / "whole")
    cut = write_menagerie(tmp_path / "cut", 20, seed=0, workers=1)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert cut.train_dir.name == whole.train_dir.name


@pytest.mark.parametrize(("samples", "seed"), [(6, 0), (5, 1)])
def test_another_world_in_the_folder_is_an_error_and_stays(tmp_path: Path, samples: int, seed: int) -> None:
    write_menagerie(tmp_path / "world", 5, seed=0, workers=1)
    before = digests(tmp_path / "world")
    with pytest.raises(DataError, match="another world"):
        write_menagerie(tmp_path / "world", samples, seed=seed, workers=1)
    assert digests(tmp_path / "world") == before


def holds_a_letter(out: Path) -> None:
    out.mkdir()
    (out / "letter.txt").write_text("dear friend")


def is_a_file(out: Path) -> None:
    out.write_text("dear friend")


def holds_a_broken_passport(out: Path) -> None:
    out.mkdir()
    (out / "world.json").write_text("{")


def holds_a_foreign_passport(out: Path) -> None:
    out.mkdir()
    (out / "world.json").write_text('["earth"]')


@pytest.mark.parametrize(
    "fill", [holds_a_letter, is_a_file, holds_a_broken_passport, holds_a_foreign_passport]
)
def test_a_place_with_something_else_in_it_is_an_error_and_stays(
    tmp_path: Path, fill: Callable[[Path], None]
) -> None:
    fill(tmp_path / "world")
    before = digests(tmp_path)
    with pytest.raises(DataError, match="choose"):
        write_menagerie(tmp_path / "world", 5, seed=0, workers=1)
    assert digests(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    assert isinstance(write_menagerie(tmp_path / "world", 2, seed=0, workers=1), MenageriePaths)


def test_progress_counts_every_drawn_picture(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_menagerie(tmp_path / "world", 20, seed=0, workers=1, callback=lambda *step: steps.append(step))
    total = 20 + 10 * len(write.DRAWN_DATASETS)
    assert steps[-1] == (total, total)
    assert steps == sorted(set(steps))

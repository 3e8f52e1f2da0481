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
def small_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the datasets to ten images; these tests do not depend on the size."""
    monkeypatch.setattr(
        write,
        "DRAWN_DATASETS",
        {name: replace(dataset, num_samples=10) for name, dataset in write.DRAWN_DATASETS.items()},
    )
    monkeypatch.setattr(write, "iter_handwritten_digits", lambda: islice(iter_handwritten_digits(), 10))
    monkeypatch.setattr(write, "CHUNK_SIZE", 7)


def digests(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    write_menagerie(tmp_path / "one", 40, seed=5, workers=1)
    write_menagerie(tmp_path / "two", 40, seed=5, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_gives_other_images_in_the_same_datasets(tmp_path: Path) -> None:
    one = write_menagerie(tmp_path / "one", 10, seed=0, workers=1)
    two = write_menagerie(tmp_path / "two", 10, seed=1, workers=1)
    assert digests(one.train_dir) != digests(two.train_dir)
    for name, path in one.evaluation_dirs.items():
        assert (path / "classnames.txt").read_text() == (two.evaluation_dirs[name] / "classnames.txt").read_text()


def test_a_training_sample_is_an_image_with_its_caption_and_attributes(tmp_path: Path) -> None:
    paths = write_menagerie(tmp_path / "menagerie", 12, seed=0, workers=1)
    with tarfile.open(paths.train_dir / "00000.tar") as shard:
        members = shard.getnames()
        attributes = [json.load(shard.extractfile(name)) for name in members if name.endswith(".json")]
    assert members[:3] == ["000000000.jpg", "000000000.txt", "000000000.json"]
    assert len(attributes) == 12
    for entry in attributes:
        assert entry["topic"] == "sign" or (entry["animal"], entry["coat"]) in SEEN_KINDS


def test_every_evaluation_dataset_is_readable_as_clip_benchmark(tmp_path: Path) -> None:
    paths = write_menagerie(tmp_path / "menagerie", 1, seed=0, workers=1)
    assert set(paths.evaluation_dirs) == {*write.DRAWN_DATASETS, "handwritten-digits"}
    for name, path in paths.evaluation_dirs.items():
        benchmark = read_classification(path)
        assert benchmark.name == name
        assert len(benchmark.source) == 10
        assert benchmark.source.read(9).image.startswith(b"\x89PNG")


def test_a_complete_menagerie_is_left_untouched(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    paths = write_menagerie(tmp_path / "menagerie", 5, seed=0, workers=1)
    (paths.train_dir / "00000.tar").write_bytes(b"marked")
    again = write_menagerie(tmp_path / "menagerie", 5, seed=0, workers=1, callback=lambda *step: calls.append(step))
    assert again == paths
    assert (paths.train_dir / "00000.tar").read_bytes() == b"marked"
    assert not calls


def test_an_incomplete_menagerie_is_written_again(tmp_path: Path) -> None:
    full = write_menagerie(tmp_path / "full", 20, seed=0, workers=1)

    def stop(done: int, _total: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_menagerie(tmp_path / "interrupted", 20, seed=0, workers=1, callback=stop)
    assert digests(tmp_path / "interrupted") != digests(tmp_path / "full")
    interrupted = write_menagerie(tmp_path / "interrupted", 20, seed=0, workers=1)
    assert digests(tmp_path / "interrupted") == digests(tmp_path / "full")
    assert interrupted.train_dir.name == full.train_dir.name


@pytest.mark.parametrize(("samples", "seed"), [(6, 0), (5, 1)])
def test_another_menagerie_in_the_directory_is_an_error_and_stays(tmp_path: Path, samples: int, seed: int) -> None:
    write_menagerie(tmp_path / "menagerie", 5, seed=0, workers=1)
    before = digests(tmp_path / "menagerie")
    with pytest.raises(DataError, match="another menagerie"):
        write_menagerie(tmp_path / "menagerie", samples, seed=seed, workers=1)
    assert digests(tmp_path / "menagerie") == before


def has_another_file(out: Path) -> None:
    out.mkdir()
    (out / "letter.txt").write_text("dear friend")


def is_a_file(out: Path) -> None:
    out.write_text("dear friend")


def has_broken_metadata(out: Path) -> None:
    out.mkdir()
    (out / "menagerie.json").write_text("{")


def has_foreign_metadata(out: Path) -> None:
    out.mkdir()
    (out / "menagerie.json").write_text('["earth"]')


@pytest.mark.parametrize("fill", [has_another_file, is_a_file, has_broken_metadata, has_foreign_metadata])
def test_a_path_with_other_content_is_an_error_and_stays(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    fill(tmp_path / "menagerie")
    before = digests(tmp_path)
    with pytest.raises(DataError, match="Choose"):
        write_menagerie(tmp_path / "menagerie", 5, seed=0, workers=1)
    assert digests(tmp_path) == before


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "menagerie").mkdir()
    assert isinstance(write_menagerie(tmp_path / "menagerie", 2, seed=0, workers=1), MenageriePaths)


def test_progress_counts_every_drawn_image(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_menagerie(tmp_path / "menagerie", 20, seed=0, workers=1, callback=lambda *step: steps.append(step))
    total = 20 + 10 * len(write.DRAWN_DATASETS)
    assert steps[-1] == (total, total)
    assert steps == sorted(set(steps))

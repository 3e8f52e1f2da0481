"""A survey counts every sample once, decodes it as training would, and looks evenly."""

import io
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import pytest
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.dataset_stats import DatasetStats, compute_dataset_stats, evenly_spaced_indices, quantiles
from zebra.data.sources import Source, open_source
from zebra.errors import DataError


def encoded(image: Image.Image, format: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Source]:
    """A function that writes pictures with captions, and opens them."""

    def write(*samples: tuple[bytes, str | None]) -> Source:
        (tmp_path / "photos").mkdir()
        for number, (image, caption) in enumerate(samples):
            (tmp_path / "photos" / f"{number:03d}.png").write_bytes(image)
            if caption is not None:
                (tmp_path / "photos" / f"{number:03d}.txt").write_text(caption)
        return open_source(tmp_path / "photos", DataConfig())

    return write


def plain(width: int, height: int, shade: int = 0, mode: str = "RGB") -> bytes:
    return encoded(Image.new(mode, (width, height), shade))


def looked(source: Source, **how: int) -> DatasetStats:
    return compute_dataset_stats(
        source, image_size=32, max_pixels=10_000, **{"num_samples": len(source), **how}
    )[0]


def test_bad_samples_are_counted_by_reason_with_examples(folder) -> None:
    source = folder(
        (plain(20, 20), "a"),
        (b"", "b"),
        (plain(20, 20, 1), None),
        (encoded(Image.new("RGB", (20, 20)), "JPEG")[:-2], "c"),
        (b"", "d"),
    )
    found = looked(source)
    assert (found.num_examined, found.num_usable) == (5, 1)
    assert {part.reason: part.count for part in found.skipped} == {
        "empty file": 2,
        "missing caption": 1,
        "truncated image": 1,
    }
    assert found.skipped[0].reason == "empty file"
    assert sorted(found.skipped[0].examples) == ["001.png (0 bytes)", "004.png (0 bytes)"]


def test_no_more_than_three_examples_of_a_reason_are_kept(folder) -> None:
    found = looked(folder(*[(b"", "x")] * 9))
    assert (found.skipped[0].count, len(found.skipped[0].examples)) == (9, 3)
    assert found.images is None


def test_a_picture_too_large_for_training_is_a_bad_sample(folder) -> None:
    found = looked(folder((plain(101, 100), "a"), (plain(100, 100), "b")))
    assert [part.reason for part in found.skipped] == ["too many pixels"]


def test_a_sample_with_a_label_alone_is_of_no_use_for_training(tmp_path: Path, picture) -> None:
    from zebra.data.shard_writer import ShardWriter

    with ShardWriter(tmp_path / "shards") as writer:
        writer.write("a", {"jpg": picture(), "cls": b"3"})
    found = looked(open_source(tmp_path / "shards", DataConfig()))
    assert [part.reason for part in found.skipped] == ["missing caption"]


def test_sizes_are_told_with_the_samples_at_the_ends(folder) -> None:
    sizes = [(40, 20), (31, 60), (60, 33), (50, 50)]
    found = looked(folder(*((plain(*size), "a") for size in sizes)))
    pictures = found.images
    assert (pictures.smallest.width, pictures.smallest.height, pictures.smallest.id) == (40, 20, "000.png")
    assert (pictures.largest.width, pictures.largest.height, pictures.largest.id) == (50, 50, "003.png")
    assert (pictures.width.p5, pictures.width.p50, pictures.width.p95) == (31, 40, 60)
    assert (pictures.height.p5, pictures.height.p50, pictures.height.p95) == (20, 33, 60)
    assert (pictures.aspect.p5, pictures.aspect.p50, pictures.aspect.p95) == (31 / 60, 1.0, 2.0)
    assert pictures.num_small == 2


def test_formats_and_what_decoding_changes_are_counted(folder) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    red, blue = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    found = looked(
        folder(
            (plain(20, 20), "a"),
            (encoded(Image.new("RGB", (20, 30)), "JPEG", exif=turned), "b"),
            (plain(20, 20, mode="L"), "c"),
            (encoded(Image.new("L", (20, 20)), "JPEG"), "d"),
            (plain(20, 20, mode="RGBA"), "e"),
            (encoded(red, "GIF", save_all=True, append_images=[blue]), "f"),
        )
    )
    pictures = found.images
    assert pictures.formats == {"PNG": 3, "JPEG": 2, "GIF": 1}
    assert pictures.conversions == {
        "L to RGB": 2, "turned by EXIF": 1, "RGBA to RGB": 1, "P to RGB": 1, "first of several frames": 1,
    }  # fmt: skip
    assert pictures.largest.width == 30  # the turned one, upright


def test_samples_that_share_a_file_are_counted_and_whether_their_captions_differ(folder) -> None:
    found = looked(
        folder(
            *[(plain(20, 20, 1), "a"), (plain(20, 20, 1), "b"), (plain(20, 20, 1), "a")],
            *[(plain(20, 20, 2), "c"), (plain(20, 20, 2), "c")],
            (plain(20, 20, 3), "c"),
        )
    )
    pictures = found.images
    assert (
        pictures.num_duplicate_samples,
        pictures.num_duplicated_images,
        pictures.num_caption_conflicts,
    ) == (5, 2, 1)


def test_captions_come_back_in_the_order_of_the_source(folder) -> None:
    source = folder(*((plain(20, 20, number), f"caption {number}") for number in range(40)))
    _, captions = compute_dataset_stats(source, image_size=32, max_pixels=10_000, num_samples=40)
    assert captions == [(f"caption {number}",) for number in range(40)]


def test_workers_find_what_one_process_finds(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(
        *((plain(20, 20 + number % 7, number) if number % 9 else b"", "x") for number in range(410))
    )
    results = []
    for cores in (0, 2):
        monkeypatch.setattr("zebra.data.dataset_stats.usable_cores", lambda cores=cores: cores)
        results.append(compute_dataset_stats(source, image_size=32, max_pixels=10_000, num_samples=405))
    assert results[0] == results[1]
    assert results[0][0].num_examined == 405


def test_an_error_of_the_whole_source_comes_home_from_a_worker(
    folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(*((plain(20, 20), "x") for number in range(200)))

    def broken(_index: int) -> None:
        raise DataError("the disk is gone")

    monkeypatch.setattr(source, "read", broken)
    monkeypatch.setattr("zebra.data.dataset_stats.usable_cores", lambda: 1)
    with pytest.raises(DataError, match="the disk is gone"):
        looked(source)


def test_looking_ends_when_its_time_is_up(folder) -> None:
    source = folder(*((plain(20, 20), "x") for number in range(100)))
    counts = []
    found, _ = compute_dataset_stats(
        source,
        image_size=32,
        max_pixels=10_000,
        num_samples=100,
        max_seconds=0,
        callback=lambda *at: counts.append(at),
    )
    assert counts == [(found.num_examined, 100)]
    assert 0 < found.num_examined < 100


@pytest.mark.parametrize("found", [1, 2, 3, 10, 97, 1000])
def test_a_spread_visits_every_position_once(found: int) -> None:
    assert sorted(evenly_spaced_indices(found, found)) == list(range(found))


@pytest.mark.parametrize("looks", [10, 100, 777])
def test_every_beginning_of_a_spread_is_even(looks: int) -> None:
    """No gap is more than about three times what it would be if they were equal."""
    found = 1_000_003
    places = [-1, *sorted(islice(evenly_spaced_indices(found, found), looks)), found]
    assert max(b - a for a, b in pairwise(places)) < 3 * found / looks


def test_percentiles_are_values_that_occur() -> None:
    assert quantiles([5, 1, 9], (0, 0.05, 0.34, 0.95, 1)) == (1, 1, 5, 9, 9)

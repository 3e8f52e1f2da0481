"""Dataset statistics count every sample once, decoded as in training, at even spacing."""

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


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Source]:
    """A function that writes images with captions, and opens them as a source."""

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


def compute_stats(source: Source) -> DatasetStats:
    stats, _ = compute_dataset_stats(source, image_size=32, max_pixels=10_000, num_samples=len(source))
    return stats


def test_bad_samples_are_counted_by_reason_with_examples(folder) -> None:
    source = folder(
        (plain(20, 20), "a"),
        (b"", "b"),
        (plain(20, 20, 1), None),
        (encoded(Image.new("RGB", (20, 20)), "JPEG")[:-2], "c"),
        (b"", "d"),
    )
    stats = compute_stats(source)
    assert (stats.num_examined, stats.num_usable) == (5, 1)
    assert {part.reason: part.count for part in stats.skipped} == {
        "empty file": 2,
        "missing caption": 1,
        "truncated image": 1,
    }
    assert stats.skipped[0].reason == "empty file"
    assert sorted(stats.skipped[0].examples) == ["001.png (0 bytes)", "004.png (0 bytes)"]


def test_at_most_three_examples_per_reason_are_listed(folder) -> None:
    stats = compute_stats(folder(*[(b"", "x")] * 9))
    assert (stats.skipped[0].count, len(stats.skipped[0].examples)) == (9, 3)
    assert stats.images is None


def test_an_image_with_too_many_pixels_is_a_bad_sample(folder) -> None:
    stats = compute_stats(folder((plain(101, 100), "a"), (plain(100, 100), "b")))
    assert [part.reason for part in stats.skipped] == ["too many pixels"]


def test_a_sample_with_only_a_label_is_a_bad_sample(tmp_path: Path, make_image) -> None:
    from zebra.data.shard_writer import ShardWriter

    with ShardWriter(tmp_path / "shards") as writer:
        writer.write("a", {"jpg": make_image(), "cls": b"3"})
    stats = compute_stats(open_source(tmp_path / "shards", DataConfig()))
    assert [part.reason for part in stats.skipped] == ["missing caption"]


def test_sizes_include_the_smallest_and_largest_sample(folder) -> None:
    sizes = [(40, 20), (31, 60), (60, 33), (50, 50)]
    stats = compute_stats(folder(*((plain(*size), "a") for size in sizes)))
    images = stats.images
    assert (images.smallest.width, images.smallest.height, images.smallest.id) == (40, 20, "000.png")
    assert (images.largest.width, images.largest.height, images.largest.id) == (50, 50, "003.png")
    assert (images.width.p5, images.width.p50, images.width.p95) == (31, 40, 60)
    assert (images.height.p5, images.height.p50, images.height.p95) == (20, 33, 60)
    assert (images.aspect.p5, images.aspect.p50, images.aspect.p95) == (31 / 60, 1.0, 2.0)
    assert images.num_small == 2


def test_formats_and_conversions_are_counted(folder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    red, blue = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    stats = compute_stats(
        folder(
            (plain(20, 20), "a"),
            (encoded(Image.new("RGB", (20, 30)), "JPEG", exif=exif), "b"),
            (plain(20, 20, mode="L"), "c"),
            (encoded(Image.new("L", (20, 20)), "JPEG"), "d"),
            (plain(20, 20, mode="RGBA"), "e"),
            (encoded(red, "GIF", save_all=True, append_images=[blue]), "f"),
        )
    )
    images = stats.images
    assert images.formats == {"PNG": 3, "JPEG": 2, "GIF": 1}
    assert images.conversions == {
        "L to RGB": 2, "rotated by EXIF": 1, "RGBA to RGB": 1, "P to RGB": 1, "first of several frames": 1,
    }  # fmt: skip
    assert images.largest.width == 30  # after the EXIF rotation


def test_duplicate_files_and_differing_captions_are_counted(folder) -> None:
    stats = compute_stats(
        folder(
            *[(plain(20, 20, 1), "a"), (plain(20, 20, 1), "b"), (plain(20, 20, 1), "a")],
            *[(plain(20, 20, 2), "c"), (plain(20, 20, 2), "c")],
            (plain(20, 20, 3), "c"),
        )
    )
    images = stats.images
    assert (images.num_duplicate_samples, images.num_duplicated_images, images.num_caption_conflicts) == (5, 2, 1)


def test_captions_have_the_order_of_the_source(folder) -> None:
    source = folder(*((plain(20, 20, number), f"caption {number}") for number in range(40)))
    _, captions = compute_dataset_stats(source, image_size=32, max_pixels=10_000, num_samples=40)
    assert captions == [(f"caption {number}",) for number in range(40)]


def test_workers_give_the_same_statistics_as_one_process(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(*((plain(20, 20 + number % 7, number) if number % 9 else b"", "x") for number in range(410)))
    results = []
    for cores in (0, 2):
        monkeypatch.setattr("zebra.data.dataset_stats.usable_cores", lambda cores=cores: cores)
        results.append(compute_dataset_stats(source, image_size=32, max_pixels=10_000, num_samples=405))
    assert results[0] == results[1]
    assert results[0][0].num_examined == 405


def test_a_data_error_in_a_worker_is_raised(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(*((plain(20, 20), "x") for number in range(200)))

    def broken(_index: int) -> None:
        raise DataError("the disk is gone")

    monkeypatch.setattr(source, "read", broken)
    monkeypatch.setattr("zebra.data.dataset_stats.usable_cores", lambda: 1)
    with pytest.raises(DataError, match="the disk is gone"):
        compute_stats(source)


def test_examining_ends_at_the_time_limit(folder) -> None:
    source = folder(*((plain(20, 20), "x") for number in range(100)))
    counts = []
    stats, _ = compute_dataset_stats(
        source,
        image_size=32,
        max_pixels=10_000,
        num_samples=100,
        max_seconds=0,
        callback=lambda *progress: counts.append(progress),
    )
    assert counts == [(stats.num_examined, 100)]
    assert 0 < stats.num_examined < 100


@pytest.mark.parametrize("num_samples", [1, 2, 3, 10, 97, 1000])
def test_evenly_spaced_indices_visit_every_position_once(num_samples: int) -> None:
    assert sorted(evenly_spaced_indices(num_samples, num_samples)) == list(range(num_samples))


@pytest.mark.parametrize("count", [10, 100, 777])
def test_the_first_indices_are_evenly_spaced(count: int) -> None:
    """No gap is more than about three times the mean gap."""
    num_samples = 1_000_003
    positions = [-1, *sorted(islice(evenly_spaced_indices(num_samples, num_samples), count)), num_samples]
    assert max(b - a for a, b in pairwise(positions)) < 3 * num_samples / count


def test_quantiles_are_values_of_the_data() -> None:
    assert quantiles([5, 1, 9], (0, 0.05, 0.34, 0.95, 1)) == (1, 1, 5, 9, 9)

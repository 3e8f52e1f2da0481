"""Scorecard rows on single samples: each unusual image and caption is consumed or skipped as documented."""

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.sample_counter import SampleCounter
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import Source, open_source
from zebra.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SIDE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plain(color=RED, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, color)


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def png_claiming(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


def ramp_16_bit() -> Image.Image:
    """Return all 16-bit grays, whose mean in 8 bits is 127.5."""
    return Image.fromarray(np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64))


def rotated_by_exif() -> bytes:
    """Return an image with red left of blue, and an EXIF rotation that moves red to the top."""
    image = plain(RED, (64, 32))
    image.paste(BLUE, (32, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, exif=exif)


def animation(format: str) -> bytes:
    return encoded(plain(GREEN), format, save_all=True, append_images=[plain(BLUE)])


FIXTURES: dict[str, tuple[bytes, str | tuple[float, float, float] | None]] = {
    "a JPEG cut in half": (encoded(noise())[:2000], "truncated image"),
    "a JPEG without its last two bytes": (encoded(noise())[:-2], "truncated image"),
    "a JPEG with one bit flipped": (flipped(encoded(noise()), 3000), None),
    "no bytes at all": (b"", "empty file"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "a CMYK JPEG": (encoded(plain((200, 30, 60)).convert("CMYK")), (200, 30, 60)),
    "gray of 16 bits": (encoded(ramp_16_bit(), "PNG"), (127.5, 127.5, 127.5)),
    "a TIFF of floats": (encoded(Image.fromarray(np.ones((16, 16), np.float32)), "TIFF"), "float pixels"),
    "clear gray": (encoded(Image.new("LA", (40, 40), (7, 0)), "PNG"), WHITE),
    "clear red": (encoded(Image.new("RGBA", (40, 40), (*RED, 0)), "PNG"), WHITE),
    "a transparent palette color": (encoded(plain().convert("P"), "PNG", transparency=b"\0" * 256), WHITE),
    "an image rotated by EXIF": (rotated_by_exif(), "red above blue"),
    "an animated GIF": (animation("GIF"), GREEN),
    "an animated WebP": (animation("WEBP"), GREEN),
    "a header of 169 million pixels": (png_claiming(13_000), "too many pixels"),
    "a header of 4 billion pixels": (png_claiming(65_000), "too many pixels"),
    "one pixel": (encoded(plain(size=(1, 1)), "PNG"), "too thin"),
    "a strip": (encoded(plain(size=(1, 5000)), "PNG"), "too thin"),
}
"""Name → bytes, and the documented result: a skip reason, the mean color of the crop, or None for any crop."""


class Result(NamedTuple):
    """The crop of a consumed sample, or the reason of a skipped one."""

    crop: np.ndarray | None
    reason: str | None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Load a shard of all images once with two workers; so no image kills a worker."""
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch, ShardWriter(folder) as writer:
        patch.setenv("ZEBRA_CACHE", str(folder / "cache"))
        for number, (data, _) in enumerate(FIXTURES.values()):
            writer.write(str(number), {"jpg": data, "txt": b"a caption"})
    names = list(FIXTURES)
    results_by_name: dict[str, Result] = {}
    source = open_source(folder, DataConfig())
    for batch in iter_batches(
        source,
        image_size=SIDE,
        batch_size=1,
        seed=0,
        start_sample=0,
        num_steps=len(FIXTURES),
        num_workers=2,
        config=DataConfig(min_crop_area=1),  # center squares, whose mean is not random
    ):
        if batch.skips:
            (skip,) = batch.skips
            results_by_name[names[int(skip.id.rpartition("/")[2])]] = Result(None, skip.reason)
        else:
            (id,) = batch.ids
            results_by_name[names[int(id.rpartition("/")[2])]] = Result(batch.images[0].numpy().astype(float), None)
    return results_by_name


@pytest.mark.parametrize("name", FIXTURES)
def test_r21_every_unusual_image_gives_the_documented_result(name: str, results: dict[str, Result]) -> None:
    _, expected = FIXTURES[name]
    crop, reason = results[name]
    if expected == "red above blue":
        assert np.abs(crop[:, 2, :].mean(axis=1) - RED).max() < 3
        assert np.abs(crop[:, -3, :].mean(axis=1) - BLUE).max() < 3
    elif isinstance(expected, tuple):
        assert np.abs(crop.mean(axis=(1, 2)) - expected).max() <= 1
    else:
        assert reason == expected


SHARDS = {
    "fine": ({"jpg": encoded(plain()), "txt": b"a red square"}, None),
    "not UTF-8": ({"jpg": encoded(plain()), "txt": b"caf\xe9"}, "caption is not UTF-8"),
    "empty": ({"jpg": encoded(plain()), "txt": b""}, "empty caption"),
    "blank": ({"jpg": encoded(plain()), "txt": b" \n\t"}, "empty caption"),
    "NUL": ({"jpg": encoded(plain()), "txt": b"a\0b"}, "NUL character"),
    "a megabyte": ({"jpg": encoded(plain()), "txt": b"word " * 200_000}, None),
    "only emoji": ({"jpg": encoded(plain()), "txt": "🦓🦓".encode()}, None),
    "in JSON": ({"jpg": encoded(plain()), "json": b'{"caption": "red"}'}, None),
    "broken JSON": ({"jpg": encoded(plain()), "json": b'{"caption": '}, "broken JSON"),
    "a number in JSON": ({"jpg": encoded(plain()), "json": b'{"caption": 7}'}, "caption is not text"),
    "no caption": ({"jpg": encoded(plain())}, "missing caption"),
    "no image": ({"txt": b"a caption alone"}, "missing image"),
}
"""Fields of a sample, and the reason to skip it."""


def epoch(source: Source, batch_size: int, options: DataConfig | None = None) -> tuple[dict, list[str], list[str]]:
    """Load one epoch; return its counts, and the IDs and captions of the batches."""
    counter = SampleCounter(len(source), 1.0, None)
    steps = len(source) // batch_size
    assert steps * batch_size == len(source)
    ids: list[str] = []
    captions: list[str] = []
    for step, batch in enumerate(
        iter_batches(
            source,
            image_size=8,
            batch_size=batch_size,
            seed=1,
            start_sample=0,
            num_steps=steps,
            num_workers=0,
            config=options or DataConfig(),
        )
    ):
        counter.add(step * batch_size, batch)
        ids += batch.ids
        captions += batch.captions
    (counts,) = counter.summary()["epochs"]
    return counts, ids, captions


def assert_adds_up(counts: dict, source: Source, expected: Counter[str]) -> None:
    assert counts["skipped"] == dict(expected)
    assert counts["consumed"] + sum(counts["skipped"].values()) == len(source)
    assert counts["complete"]


def test_r22_unusual_captions_of_shards_are_counted_by_reason(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for number, (fields, _) in enumerate(SHARDS.values()):
            writer.write(f"s{number}", fields)
        for key in ("near", "near", "far", "between", "far"):
            writer.write(key, SHARDS["fine"][0])
    source = open_source(tmp_path, DataConfig())
    counts, ids, captions = epoch(source, 4)
    expected = Counter(reason for _, reason in SHARDS.values() if reason)
    # Adjacent files with the same key are one ambiguous sample. A key that occurs again later is another sample.
    expected["duplicate field"] += 1
    assert_adds_up(counts, source, expected)
    assert {"00000.tar/far", "00000.tar/far#2", "00000.tar/between"} <= set(ids)
    assert {"🦓🦓", "word " * 200_000, "red"} <= set(captions)


def test_r22_unusual_captions_of_a_folder_are_counted_by_reason(tmp_path: Path) -> None:
    expected: Counter[str] = Counter()
    for number, (fields, reason) in enumerate(SHARDS.values()):
        if "json" in fields:
            continue
        for suffix, data in fields.items():
            (tmp_path / f"{number}.{suffix}").write_bytes(data)
        expected.update([reason] if reason else [])
    source = open_source(tmp_path, DataConfig())
    counts, _, captions = epoch(source, 3)
    assert_adds_up(counts, source, expected)
    assert {"🦓🦓", "word " * 200_000} <= set(captions)


def test_r22_unusual_captions_of_a_table_are_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(encoded(plain()))
    rows: list[tuple[object, object, str | None]] = [
        ("red.jpg", "a red square", None),
        ("red.jpg", "", "empty caption"),
        ("red.jpg", "a\0b", "NUL character"),
        ("red.jpg", "word " * 200_000, None),
        ("red.jpg", "🦓🦓", None),
        ("red.jpg", 7, "caption is not text"),
        ("red.jpg", "\ud800", "caption is not UTF-8"),
        ("red.jpg", None, "empty caption"),
        ("gone.jpg", "a caption alone", "unreadable file"),
        ("", "a caption alone", "missing image"),
        ("red.jpg", "a red square", None),
    ]
    lines = [json.dumps({"image": image, "caption": caption}) for image, caption, _ in rows]
    (tmp_path / "table.jsonl").write_text("\n".join([*lines, "{broken"]))
    source = open_source(tmp_path / "table.jsonl", DataConfig())
    counts, _, captions = epoch(source, 4)
    expected = Counter(reason for _, _, reason in rows if reason)
    expected["broken JSON line"] += 1
    assert_adds_up(counts, source, expected)
    assert {"🦓🦓", "word " * 200_000} <= set(captions)


def write_shards(folder: Path, samples: int, bad: Callable[[int], str | None]) -> Source:
    good = encoded(plain(size=(8, 8)))
    files = {
        None: {"jpg": good, "txt": b"a red square"},
        "truncated image": {"jpg": good[:-2], "txt": b"a red square"},
        "empty caption": {"jpg": good, "txt": b""},
    }
    with ShardWriter(folder, samples_per_shard=300) as writer:
        for number in range(samples):
            writer.write(f"{number:05d}", files[bad(number)])
    return open_source(folder, DataConfig())


def test_r23_an_epoch_with_one_percent_bad_samples_has_exact_counts(tmp_path: Path) -> None:
    source = write_shards(tmp_path, 1000, lambda number: "truncated image" if number % 100 == 37 else None)
    counts, ids, _ = epoch(source, 50)
    assert_adds_up(counts, source, Counter({"truncated image": 10}))
    assert len(set(ids)) == 990


def test_r23_five_percent_bad_samples_are_an_error_with_the_top_reason(tmp_path: Path) -> None:
    reasons = {3: "empty caption", 23: "truncated image", 43: "truncated image", 63: "truncated image"}
    source = write_shards(tmp_path, 1000, lambda number: reasons.get(number % 80))
    counter = SampleCounter(len(source), DataConfig().max_skip_rate, None)
    stream = iter_batches(
        source, image_size=8, batch_size=50, seed=1, start_sample=0, num_steps=20, num_workers=0, config=DataConfig()
    )
    with pytest.raises(DataError, match=r"cannot be used in epoch 0.*allowed: \d+ truncated image, \d+ empty caption"):
        for step, batch in enumerate(stream):
            counter.add(50 * step, batch)

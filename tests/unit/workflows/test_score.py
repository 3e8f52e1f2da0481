"""`zebra score`: a table with a row per pair, which an interrupted run continues."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.score import ScoreConfig
from zebra.errors import ConfigError, DataError
from zebra.pretrained.bundle import Bundle
from zebra.workflows import score

from ...tiny_model import save_tiny_model

if TYPE_CHECKING:
    from _pytest.capture import CaptureResult


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of five images with captions and a damaged one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"horse number {number}")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "torn.txt").write_text("torn")
    return folder


def make_config(data: Path, model: Path, out: Path, **settings: object) -> ScoreConfig:
    return ScoreConfig(data=str(data), model=str(model), out=str(out), precision="fp32", **settings)


def test_every_pair_and_every_unusable_sample_has_a_row(data: Path, model: Path, tmp_path: Path) -> None:
    result = score.run(make_config(data, model, tmp_path / "scores.parquet", flipped=True))
    table = pq.read_table(tmp_path / "scores.parquet")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["0.png", "1.png", "2.png", "3.png", "4.png", "torn.png"]
    assert [row["caption"] for row in rows] == [*(f"horse number {number}" for number in range(5)), None]
    assert [row["reason"] for row in rows] == [None] * 5 + ["truncated image"]
    for name in ("alignment", "neg_clip_loss", "flipped_alignment"):
        assert [row[name] is None for row in rows] == [False] * 5 + [True]
    assert (result.num_pairs, result.unusable, result.finished) == (5, {"truncated image": 1}, True)
    assert [entry[1:] for entry in result.lowest] == [
        (row["id"], row["caption"]) for row in sorted(rows[:5], key=lambda row: row["alignment"])[:3]
    ]
    assert json.loads(table.schema.metadata[b"zebra"])["precision"] == "fp32"


def test_a_killed_run_continues_and_writes_the_same_bytes(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SAMPLES_PER_PART", 2)
    score.run(make_config(data, model, tmp_path / "whole.parquet"))
    config = make_config(data, model, tmp_path / "scores.parquet")
    encode, calls = Bundle.encode_pixels, [0]

    def fail_at_second(self: Bundle, pixels: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return encode(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "encode_pixels", fail_at_second)
        with pytest.raises(KeyboardInterrupt):
            score.run(config)
    assert not (tmp_path / "scores.parquet").exists()
    score.run(config)
    assert (tmp_path / "scores.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob(".*.parts"))


def test_a_signal_ends_the_run_after_a_part(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: "Callable[..., CaptureResult[str]]"
) -> None:
    monkeypatch.setattr(score, "SAMPLES_PER_PART", 2)
    stopped = Event()
    stopped.set()
    monkeypatch.setattr(score, "stop_on_signals", lambda: nullcontext(stopped))
    output = cli("score", data, "--model", model, "--out", tmp_path / "scores.parquet", code=75)
    assert "Run the same command again" in output.err
    assert not (tmp_path / "scores.parquet").exists()


def test_finished_scores_are_not_computed_again_and_other_files_are_not_replaced(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data, model, tmp_path / "scores.parquet")
    first = score.run(config)
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "encode_pixels", lambda *_: pytest.fail("encoded again"))
        assert score.run(config) == first
    for other in (
        make_config(data, save_tiny_model(tmp_path / "other", seed=1), tmp_path / "scores.parquet"),
        make_config(data, model, tmp_path / "scores.parquet", flipped=True),
    ):
        with pytest.raises(ConfigError, match="Use another --out"):
            score.run(other)
    (tmp_path / "notes.parquet").write_text("no table")
    with pytest.raises(ConfigError, match="Use another --out"):
        score.run(make_config(data, model, tmp_path / "notes.parquet"))


def test_data_without_a_usable_pair_is_an_error_that_names_the_reasons(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"\x89PNG torn")
        (folder / f"{number}.txt").write_text("torn")
    with pytest.raises(DataError, match=r"no pair .* has a score: 3 not an image"):
        score.run(make_config(folder, model, tmp_path / "scores.parquet"))


def test_several_captions_are_pairs_of_one_image_that_is_encoded_once(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "captions.csv").write_text("image,caption,title\n0.png,a horse,ein Pferd\n1.png,a dog,\n")
    encode, counts = Bundle.encode_pixels, []
    monkeypatch.setattr(
        Bundle, "encode_pixels", lambda self, pixels: counts.append(len(pixels)) or encode(self, pixels)
    )
    score.run(make_config(data / "captions.csv", model, tmp_path / "scores.parquet"))
    assert pq.read_table(tmp_path / "scores.parquet")["caption"].to_pylist() == ["a horse", "ein Pferd", "a dog"]
    assert sum(counts) == 2


def test_prompts_add_the_probability_that_classify_gives(data: Path, model: Path, clip: Bundle, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(
        "# what is drawn\nhorse: a photo of a horse | a striped cat\n\nsnow: snow|grass\n"
    )
    score.run(make_config(data, model, tmp_path / "scores.parquet", prompts=str(tmp_path / "prompts.txt")))
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names[-2:] == ["horse", "snow"]
    predictions = clip.classify([data / f"{n}.png" for n in range(5)], ["a photo of a horse", "a striped cat"], ["{}"])
    expected = [next(p.score for p in ranked if p.label == "a photo of a horse") for ranked in predictions]
    np.testing.assert_allclose(table["horse"][:5].to_numpy(), expected, atol=2e-3)
    assert table["horse"][5].as_py() is None


@pytest.mark.parametrize(
    "line", ["watermark", "a: b", "a: | b", "A b: c | d", "alignment: a | b", "a: b | c\na: d | e", ""]
)
def test_prompts_that_cannot_be_used_are_refused_before_the_model_is_loaded(
    line: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text(line)
    with pytest.raises(ConfigError, match=r"prompts\.txt"):
        score.run(make_config(data, tmp_path / "none", tmp_path / "s.parquet", prompts=str(tmp_path / "prompts.txt")))


def test_the_command_prints_the_spread_and_the_lowest_pairs(
    data: Path, model: Path, tmp_path: Path, cli: "Callable[..., CaptureResult[str]]"
) -> None:
    output = cli("score", data, "--model", model, "--out", tmp_path / "scores.parquet").out
    assert "5 pairs" in output
    assert "1 samples without a score: 1 truncated image" in output
    assert "lowest" in output
    document = json.loads(cli("score", data, "--model", model, "--out", tmp_path / "scores.parquet", "--json").out)
    assert document["num_pairs"] == 5
    assert ".parquet" in cli("score", data, "--model", model, "--out", "scores.csv", code=2).err

"""A data report describes captioned images as the given training would see them."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.config.presets import get_preset
from zebra.config.train import TrainConfig
from zebra.data import inspection
from zebra.data.sources import open_source
from zebra.errors import ConfigError
from zebra.text.bpe import BPETokenizer
from zebra.train.setup import load_or_train_tokenizer


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure briefly, with at most one worker."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.02)
    monkeypatch.setattr(inspection, "usable_cores", lambda: 1)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A function that writes images with these captions and returns the config to train on them."""

    def write(*captions: str) -> TrainConfig:
        folder = tmp_path / "photos"
        folder.mkdir()
        for number, caption in enumerate(captions):
            noise = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number:03d}.png")
            (folder / f"{number:03d}.txt").write_text(caption)
        return TrainConfig(data=str(folder), out="", steps=1, batch_size=4, model=get_preset("tiny-resnet"))

    return write


def open_tokenizer(path: str) -> BPETokenizer:
    return BPETokenizer.load(path, inspection.UNLIMITED_CONTEXT)


def test_tokens_are_counted_with_the_vocabulary_of_training(config, monkeypatch) -> None:
    tokenizers = []
    train = BPETokenizer.train
    monkeypatch.setattr(
        BPETokenizer, "train", lambda *arguments: tokenizers.append(train(*arguments)) or tokenizers[-1]
    )
    train_config = config(*(f"a {'striped ' * (number % 3)}horse {number % 4}" for number in range(30)))
    captions = inspection.inspect_data(train_config).captions
    expected = load_or_train_tokenizer(train_config, open_source(train_config.data, train_config.data_options))
    assert tokenizers[0].decode(range(512, 520)) == expected.decode(range(512, 520))
    assert f"vocabulary of {expected.vocab_size:,} learned" in captions.tokenizer


def test_tokens_are_counted_with_a_given_tokenizer(config, tmp_path: Path) -> None:
    BPETokenizer.train(["zebra " * 4], 600).save(tmp_path / "tokenizer.json")
    train_config = replace(
        config("zebra", "zebra zebra", "zebra zebra zebra", "é"), tokenizer=str(tmp_path / "tokenizer.json")
    )
    captions = inspection.inspect_data(train_config, tokenizer=open_tokenizer(train_config.tokenizer)).captions
    assert captions.tokenizer == train_config.tokenizer
    assert (captions.tokens.min, captions.tokens.p50, captions.tokens.max) == (3, 4, 5)


def test_truncated_captions_are_counted_with_their_full_length(config, tmp_path: Path) -> None:
    BPETokenizer.train(["zebra " * 4], 600).save(tmp_path / "tokenizer.json")
    train_config = config("zebra " * 30, "zebra " * 31, "zebra " * 400, "zebra")
    train_config = replace(train_config, tokenizer=str(tmp_path / "tokenizer.json"))
    captions = inspection.inspect_data(train_config, tokenizer=open_tokenizer(train_config.tokenizer)).captions
    assert (captions.context_length, captions.num_truncated, captions.tokens.max) == (32, 2, 402)


def test_one_long_caption_does_not_flatten_the_histogram(config) -> None:
    captions = inspection.inspect_data(
        config(*("x " * (number % 20 + 1) for number in range(199)), "x " * 900)
    ).captions
    bars = captions.histogram
    assert sum(bar.count for bar in bars) == captions.num_captions == 200
    assert all(after.first == before.last + 1 for before, after in pairwise(bars))
    assert (bars[0].first, bars[-1].last) == (captions.tokens.min, captions.tokens.max)
    assert len([bar for bar in bars if bar.count > 10]) >= 6


def test_repeated_captions_are_listed_most_frequent_first(config) -> None:
    captions = inspection.inspect_data(config("a", "b", "a", "c", "b", "a", "d")).captions
    assert (captions.num_repeated, captions.most_frequent) == (2, (("a", 3), ("b", 2)))


def test_a_caption_that_one_image_has_twice_is_not_repeated(tmp_path: Path, config) -> None:
    image = Path(config("x").data, "000.png")
    row = {"image": str(image), "caption": ["a zebra", "a zebra"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    assert (
        inspection.inspect_data(TrainConfig(data=str(tmp_path / "t.jsonl"), out="", steps=1)).captions.num_repeated == 0
    )


def test_throughput_is_measured_for_each_number_of_workers(config) -> None:
    report = inspection.inspect_data(config(*"abcdef"))
    assert [rate.num_workers for rate in report.loading] == [0, 1]
    assert all(rate.pairs_per_second > 0 for rate in report.loading)
    assert report.is_usable


def test_throughput_is_measured_on_less_than_one_batch(config) -> None:
    report = inspection.inspect_data(replace(config("a", "b"), batch_size=64))
    assert report.loading and report.batch_size == 64


def test_the_fewest_workers_near_the_fastest_are_sufficient(config) -> None:
    rates = [(0, 900.0), (1, 400.0), (2, 780.0), (4, 800.0), (8, 790.0)]
    report = replace(
        inspection.inspect_data(config("a", "b")), loading=tuple(inspection.LoaderThroughput(*rate) for rate in rates)
    )
    assert report.sufficient_workers.num_workers == 2


@pytest.mark.parametrize(("num_bad", "is_usable"), [(1, True), (2, False)])
def test_more_skips_than_training_accepts_make_data_unusable(num_bad: int, is_usable: bool, config) -> None:
    train_config = config(*"abcdefghij")
    for number in range(num_bad):
        Path(train_config.data, f"{number:03d}.txt").write_text(" ")
    train_config = replace(train_config, data_options=replace(train_config.data_options, max_skip_rate=0.1))
    report = inspection.inspect_data(train_config)
    assert (report.is_usable, report.skip_rate) == (is_usable, pytest.approx(num_bad / 10))
    assert bool(report.loading) == is_usable


def test_data_without_a_usable_sample_is_unusable(config) -> None:
    train_config = config(" ", " ")
    report = inspection.inspect_data(
        replace(train_config, data_options=replace(train_config.data_options, max_skip_rate=1))
    )
    assert not report.is_usable
    assert (report.captions, report.survey.images, report.loading) == (None, None, ())


def test_the_number_of_examined_samples_can_be_limited(config) -> None:
    report = inspection.inspect_data(config(*"abcdefghij"), max_samples=3)
    assert (report.num_found, report.survey.num_examined) == (10, 3)
    with pytest.raises(ConfigError, match="max_samples must be at least 1; got 0"):
        inspection.inspect_data(replace(TrainConfig(data="", out="", steps=1)), max_samples=0)


def test_progress_is_reported(config) -> None:
    calls: list[tuple[int, int, str]] = []
    inspection.inspect_data(config(*"abc"), callback=lambda *progress: calls.append(progress))
    assert calls[0] == (3, 3, "")
    assert [step for _, _, step in calls if step] == ["loading with 0 workers", "loading with 1 workers"]

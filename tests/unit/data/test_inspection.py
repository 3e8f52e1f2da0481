"""The doctor sees captioned images as the training they are meant for would."""

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
    """Measure for a moment, with one process at most."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.02)
    monkeypatch.setattr(inspection, "usable_cores", lambda: 1)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A function that writes pictures with these captions and gives the config to train on them."""

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


def test_tokens_are_counted_by_the_vocabulary_that_training_would_learn(config, monkeypatch) -> None:
    learned = []
    train = BPETokenizer.train
    monkeypatch.setattr(BPETokenizer, "train", lambda *given: learned.append(train(*given)) or learned[-1])
    meant = config(*(f"a {'striped ' * (number % 3)}horse {number % 4}" for number in range(30)))
    captions = inspection.inspect_data(meant).captions
    theirs = load_or_train_tokenizer(meant, open_source(meant.data, meant.data_options))
    assert learned[0].decode(range(512, 520)) == theirs.decode(range(512, 520))
    assert f"vocabulary of {theirs.vocab_size:,} learned" in captions.tokenizer


def test_a_given_tokenizer_counts(config, tmp_path: Path) -> None:
    BPETokenizer.train(["zebra " * 4], 600).save(tmp_path / "tokenizer.json")
    meant = replace(
        config("zebra", "zebra zebra", "zebra zebra zebra", "é"), tokenizer=str(tmp_path / "tokenizer.json")
    )
    captions = inspection.inspect_data(meant, tokenizer=open_tokenizer(meant.tokenizer)).captions
    assert captions.tokenizer == meant.tokenizer
    assert (captions.tokens.min, captions.tokens.p50, captions.tokens.max) == (3, 4, 5)


def test_captions_over_the_context_are_counted_and_measured_whole(config, tmp_path: Path) -> None:
    BPETokenizer.train(["zebra " * 4], 600).save(tmp_path / "tokenizer.json")
    meant = config("zebra " * 30, "zebra " * 31, "zebra " * 400, "zebra")
    meant = replace(meant, tokenizer=str(tmp_path / "tokenizer.json"))
    captions = inspection.inspect_data(meant, tokenizer=open_tokenizer(meant.tokenizer)).captions
    assert (captions.context_length, captions.num_truncated, captions.tokens.max) == (32, 2, 402)


def test_the_histogram_holds_every_caption_once_and_one_long_one_does_not_flatten_it(config) -> None:
    captions = inspection.inspect_data(
        config(*("x " * (number % 20 + 1) for number in range(199)), "x " * 900)
    ).captions
    bars = captions.histogram
    assert sum(bar.count for bar in bars) == captions.num_captions == 200
    assert all(after.first == before.last + 1 for before, after in pairwise(bars))
    assert (bars[0].first, bars[-1].last) == (captions.tokens.min, captions.tokens.max)
    assert len([bar for bar in bars if bar.count > 10]) >= 6


def test_captions_at_several_pictures_are_counted_most_frequent_first(config) -> None:
    captions = inspection.inspect_data(config("a", "b", "a", "c", "b", "a", "d")).captions
    assert (captions.num_repeated, captions.most_frequent) == (2, (("a", 3), ("b", 2)))


def test_a_caption_that_one_picture_has_twice_is_not_repeated(tmp_path: Path, config) -> None:
    image = Path(config("x").data, "000.png")
    row = {"image": str(image), "caption": ["a zebra", "a zebra"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    assert (
        inspection.inspect_data(
            TrainConfig(data=str(tmp_path / "t.jsonl"), out="", steps=1)
        ).captions.num_repeated
        == 0
    )


def test_loading_is_measured_for_each_number_of_workers(config) -> None:
    found = inspection.inspect_data(config(*"abcdef"))
    assert [rate.num_workers for rate in found.loading] == [0, 1]
    assert all(rate.pairs_per_second > 0 for rate in found.loading)
    assert found.is_usable


def test_data_smaller_than_a_batch_is_measured_too(config) -> None:
    found = inspection.inspect_data(replace(config("a", "b"), batch_size=64))
    assert found.loading and found.batch_size == 64


def test_the_fewest_workers_that_nearly_reach_the_fastest_are_enough(config) -> None:
    rates = [(0, 900.0), (1, 400.0), (2, 780.0), (4, 800.0), (8, 790.0)]
    found = replace(
        inspection.inspect_data(config("a", "b")),
        loading=tuple(inspection.LoaderThroughput(*rate) for rate in rates),
    )
    assert found.sufficient_workers.num_workers == 2


@pytest.mark.parametrize(("bad", "sound"), [(1, True), (2, False)])
def test_more_skips_than_training_accepts_are_not_sound(bad: int, sound: bool, config) -> None:
    meant = config(*"abcdefghij")
    for number in range(bad):
        Path(meant.data, f"{number:03d}.txt").write_text(" ")
    meant = replace(meant, data_options=replace(meant.data_options, max_skip_rate=0.1))
    found = inspection.inspect_data(meant)
    assert (found.is_usable, found.skip_rate) == (sound, pytest.approx(bad / 10))
    assert bool(found.loading) == sound


def test_data_without_one_usable_sample_is_not_sound(config) -> None:
    meant = config(" ", " ")
    found = inspection.inspect_data(replace(meant, data_options=replace(meant.data_options, max_skip_rate=1)))
    assert not found.is_usable
    assert (found.captions, found.survey.images, found.loading) == (None, None, ())


def test_a_sample_of_the_data_can_be_asked_for(config) -> None:
    found = inspection.inspect_data(config(*"abcdefghij"), max_samples=3)
    assert (found.num_found, found.survey.num_examined) == (10, 3)
    with pytest.raises(ConfigError, match="samples is 0"):
        inspection.inspect_data(replace(TrainConfig(data="", out="", steps=1)), max_samples=0)


def test_progress_is_told(config) -> None:
    told: list[tuple[int, int, str]] = []
    inspection.inspect_data(config(*"abc"), callback=lambda *at: told.append(at))
    assert told[0] == (3, 3, "")
    assert [what for _, _, what in told if what] == ["loading with 0 workers", "loading with 1 workers"]

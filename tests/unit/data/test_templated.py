"""Captions in sentences: one of each template, for training, tokenizer and validation alike."""

from pathlib import Path

import pytest

from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.sources import BatchedSource, Source, open_source
from zebra.data.splits import train_val_test_split
from zebra.data.templated import fill_caption_templates
from zebra.errors import BadSample, ConfigError, DataError

DEFAULT = DataConfig()
TEMPLATES = ("a photo of a {}.", "{c}", "{} on white")


@pytest.fixture
def table(tmp_path: Path, make_image):
    """Write rows of image, caption and further cells as a table; return its source."""

    def write(rows: list[str], config: DataConfig = DEFAULT, header: str = "path,caption") -> Source:
        for number in range(len(rows)):
            (tmp_path / f"{number}.png").write_bytes(make_image(number, "PNG"))
        lines = [header, *(f"{number}.png,{row}" for number, row in enumerate(rows))]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        return open_source(tmp_path / "t.csv", config)

    return write


def test_every_caption_is_in_every_template(table) -> None:
    record = fill_caption_templates(table([" red {cat} "]), TEMPLATES).read(0)
    assert record.captions == ("a photo of a red {cat}.", "red {cat}", "red {cat} on white")


def test_sentences_of_one_label_are_a_group_unless_the_data_has_groups(table) -> None:
    source = table(["cat,7", "cat,", "dog,7", "7,"], DataConfig(group_column="sku"), "path,caption,sku")
    groups = [fill_caption_templates(source, TEMPLATES).read(index).group for index in range(4)]
    assert groups[0] == groups[2] == "7"
    assert len(set(groups)) == 3, "the label 7 is not the group 7"


def test_each_template_gets_a_share_of_the_weight_of_the_column(table) -> None:
    config = DataConfig(caption_columns=("name", "words"), caption_weights=(3.0, 1.0))
    record = fill_caption_templates(table(["cat,pet"], config, "path,name,words"), ("a {}", "the {}")).read(0)
    assert record.captions == ("a cat", "the cat", "a pet", "the pet")
    assert record.caption_probabilities == (0.375, 0.375, 0.125, 0.125)


def test_training_draws_all_templates_and_repeats_its_draw(table) -> None:
    source = fill_caption_templates(table(["cat", "dog"]), TEMPLATES)
    options = {"image_size": 16, "batch_size": 2, "seed": 0, "num_workers": 0, "config": DataConfig()}
    first, second = ([*iter_batches(source, start_sample=0, num_steps=30, **options)] for _ in range(2))
    captions = [batch.captions for batch in first]
    assert captions == [batch.captions for batch in second]
    assert {caption for pair in captions for caption in pair} == set(source.read(0).captions + source.read(1).captions)
    (resumed,) = iter_batches(source, start_sample=58, num_steps=1, **options)
    assert resumed.captions == captions[29]


def test_shards_are_still_read_in_batches_and_bad_samples_stay_bad(shards, make_image) -> None:
    plain = open_source(shards(3), DataConfig())
    source = fill_caption_templates(plain, TEMPLATES)
    assert isinstance(source, BatchedSource)
    assert source.read_many([1, 2])[1].captions[0] == "a photo of a color 2."
    assert (source.name, source.digest, len(source)) == (plain.name, plain.digest, 3)


def test_an_image_without_a_caption_stays_a_bad_sample(table) -> None:
    source = fill_caption_templates(table(["cat", ""]), TEMPLATES)
    with pytest.raises(BadSample, match="empty caption"):
        source.read(1)


@pytest.mark.parametrize("template", ["a photo", "{} and {}", ""])
def test_a_template_without_one_placeholder_is_refused(table, template: str) -> None:
    with pytest.raises(ConfigError, match=r"placeholder; write \{\} once"):
        fill_caption_templates(table(["cat"]), ("{}", template))


def test_equal_labels_stay_an_error(table) -> None:
    """The splits see the labels: sentences of one label differ, but nothing else does."""
    with pytest.raises(DataError, match="all training images have the caption 'cat'"):
        train_val_test_split(table(["cat"] * 12), 0.1)

"""The catalogue is consistent with itself, with the paper, and with what its readers need."""

import re
from collections import Counter

import pytest

from zebra.data.benchmarks.archives import ListFileArchive, MatlabArchive
from zebra.data.benchmarks.catalog import find_catalog_entry, load_catalog, read_catalog_dataset
from zebra.data.benchmarks.writer import write_classification, write_retrieval
from zebra.errors import DataError

RECORDS = list(load_catalog().values())
METRICS = {
    "classification": {"accuracy", "mean_per_class", "roc_auc", "mean_top1_top5"},
    "multilabel": {"map", "map11"},
    "retrieval": {"recall"},
    "compositionality": {"compositionality"},
}
every = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)


def gains() -> dict[str, float]:
    """Zero-shot less the probe on ResNet-50 features, Figure 5 of the paper."""
    told = [
        (one.name, p) for one in RECORDS for p in one.published_scores if p.task == "zero-shot-resnet-50-gain"
    ]
    return {name: published.value for name, published in told}


def test_the_paper_has_27_sets_and_seven_shifts() -> None:
    groups = Counter(record.group for record in RECORDS)
    assert (groups["paper"], groups["shift"]) == (27, 7)


def test_figure_5_of_the_paper_is_there_but_for_no_set_and_zero_shot_wins_16_of_27() -> None:
    paper = {record.name for record in RECORDS if record.group == "paper"}
    assert set(gains()) == paper
    assert sum(gain > 0 for gain in gains().values()) == 16


def test_no_name_means_two_sets() -> None:
    owners: dict[str, set[str]] = {}
    for record in RECORDS:
        for name in record.all_names():
            owners.setdefault(re.sub(r"[_/]", "-", name.lower()), set()).add(record.name)
    assert {name: sets for name, sets in owners.items() if len(sets) > 1} == {}


@every
def test_a_metric_fits_its_task(record) -> None:
    assert record.metric in METRICS[record.task]


@every
def test_only_sets_with_labels_have_classes(record) -> None:
    assert (record.num_classes >= 2) == (record.task in {"classification", "multilabel"})
    assert (
        record.classnames == () or len(record.classnames) == len(set(record.classnames)) == record.num_classes
    )


@every
def test_a_template_has_one_place_for_the_class(record) -> None:
    assert record.template.count("{}") == 1


@every
def test_splits_are_named_once_and_sizes_are_numbers(record) -> None:
    assert len({split.name for split in record.splits}) == len(record.splits)
    assert all(split.size > 0 for split in record.splits)


@every
def test_an_archive_reads_splits_that_the_record_lists(record) -> None:
    parts = [part.split for archive in record.archives for part in archive.splits]
    assert len(parts) == len(set(parts))
    assert set(parts) <= {split.name for split in record.splits}


@every
def test_a_published_score_is_a_percentage(record) -> None:
    for published in record.published_scores:
        low = -100 if published.task.endswith("gain") else 0
        assert low < published.value <= 100


@every
def test_patterns_of_lines_have_the_groups_that_are_read(record) -> None:
    for archive in record.archives:
        if isinstance(archive, ListFileArchive):
            groups = set(re.compile(archive.line_pattern).groupindex)
            assert groups in ({"file", "name"}, {"file", "number"})
        if isinstance(archive, MatlabArchive):
            assert archive.image_pattern.count("{}") == 1


@every
def test_a_set_has_a_source_or_says_what_is_to_be_done(record) -> None:
    assert record.hub_name or record.archives or record.task == "compositionality" or record.name in {
        "birdsnap", "ucf101", "kinetics700", "imagenet_vid", "youtube_bb",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("pets", "pets"),
        ("OxfordIIITPet", "pets"),
        ("vtab/pets", "pets"),
        ("wds_vtab-pets", "pets"),
        ("IMAGENET1K", "imagenet"),
        ("imagenet-a", "imagenet_a"),
    ],
)
def test_a_set_is_found_by_each_of_its_names(asked: str, found: str) -> None:
    assert find_catalog_entry(asked).name == found


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'cifar100'"):
        find_catalog_entry("cifar1000")


def test_a_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(DataError, match=r"The catalogue has: food101, cifar10, .*winoground"):
        find_catalog_entry("qqqq")


def test_a_copy_in_the_layout_of_clip_benchmark_is_found_under_the_hubs_name(tmp_path) -> None:
    write_classification(tmp_path / "wds_vtab-pets", [(b"x", "png", 0)], ["cat"], ["a {c}"])
    benchmark = read_catalog_dataset(find_catalog_entry("pets"), tmp_path)
    assert (benchmark.name, benchmark.metric, benchmark.templates) == ("pets", "mean_per_class", ("a {c}",))
    assert benchmark.notes == (
        "1 samples, where the catalogue expects 3,669 in test: scores may not compare",
        "1 classes, where the catalogue expects 37",
    )


def test_a_retrieval_set_is_found_too(tmp_path) -> None:
    write_retrieval(tmp_path / "coco", [(b"x", "png", ["a cat"])])
    assert read_catalog_dataset(find_catalog_entry("mscoco"), tmp_path).source.read(0).captions == ("a cat",)

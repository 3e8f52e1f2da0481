"""The catalog is consistent with itself, with the paper and with its readers."""

import re
from collections import Counter

import pytest

from zebra.data.benchmarks.catalog import find_catalog_entry, list_prompt_names, load_catalog, read_catalog_dataset
from zebra.data.benchmarks.listed_archives import ListFileArchive
from zebra.data.benchmarks.matlab_archives import MatlabArchive
from zebra.data.benchmarks.writer import write_classification, write_retrieval
from zebra.errors import DataError
from zebra.protocols.classname_matching import find_name

ENTRIES = list(load_catalog().values())
METRICS = {
    "classification": {
        "accuracy",
        "mean_per_class",
        "roc_auc",
        "mean_top1_top5",
        "macro_f1",
        "worst_group",
        "worst_group_top5",
    },
    "multilabel": {"map", "map11"},
    "frame-sets": {"pm0_pm10"},
    "actions": {"mwap"},
    "lexicons": {"accuracy"},
    "geolocation": {"within_25km"},
    "retrieval": {"recall", "mean_recall@1", "text_to_image_recall@1", "matching_of_8"},
    "compositionality": {"accuracy", "text", "image", "group", "macro_accuracy", "macro_image"},
    "association": {"jaccard", "jaccard_10-12"},
    "instances": {"recall@1", "auroc"},
    "gallery": {"map_medium"},
}
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def gains() -> dict[str, float]:
    """Return the zero-shot score minus that of the ResNet-50 probe, from Figure 5 of the paper."""
    return {
        entry.name: score.value
        for entry in ENTRIES
        for score in entry.published_scores
        if score.task == "zero-shot-resnet-50-gain"
    }


def test_the_paper_has_27_datasets_and_seven_shifts() -> None:
    groups = Counter(entry.group for entry in ENTRIES)
    assert (groups["paper"], groups["shifts"]) == (27, 7)


def test_figure_5_has_all_27_datasets_and_zero_shot_wins_16() -> None:
    paper = {entry.name for entry in ENTRIES if entry.group == "paper"}
    assert set(gains()) == paper
    assert sum(gain > 0 for gain in gains().values()) == 16


def test_no_name_belongs_to_two_datasets() -> None:
    owners: dict[str, set[str]] = {}
    for entry in ENTRIES:
        for name in entry.all_names():
            owners.setdefault(re.sub(r"[_/]", "-", name.lower()), set()).add(entry.name)
    assert {name: datasets for name, datasets in owners.items() if len(datasets) > 1} == {}


UNKNOWN_LICENSES = {
    "coco_cn", "dmlab", "flickr30k_200", "iiit5k", "iiit5k_50", "naturalbench", "urban1k", "vl_checklist", "xflickrco",
    "xtd200",
    "ood_inaturalist", "ood_places", "ood_sun", "roxford5k", "rparis6k", "stanford_online_products",
}  # fmt: skip
"""Datasets whose terms could not be found; the list may only shrink."""
UNKNOWN_SIZES = {
    "imagenet_vid", "youtube_bb", "sugar_crepe", "sugar_crepe_pp", "naturalbench", "aro_coco_order", "aro_flickr_order",
    "vl_checklist", "winogavil", "sdci_crops", "imagenet_x",
}  # fmt: skip


@each_entry
def test_license_and_sizes_are_given_or_known_to_be_unknown(entry) -> None:
    assert bool(entry.license) != (entry.name in UNKNOWN_LICENSES)
    assert bool(entry.splits) != (entry.name in UNKNOWN_SIZES)


@each_entry
def test_a_metric_fits_its_task(entry) -> None:
    assert entry.metric in METRICS[entry.task]


@each_entry
def test_only_datasets_with_labels_have_classes(entry) -> None:
    has_classes = entry.task in {"classification", "multilabel", "frame-sets", "actions"}
    assert (entry.num_classes >= 2) == (has_classes and entry.name != "svhn_numbers")  # depends on the copy
    assert entry.classnames == () or len(entry.classnames) == len(set(entry.classnames)) == entry.num_classes


@each_entry
def test_a_template_has_one_place_for_the_class(entry) -> None:
    assert entry.template.count("{}") == 1


@each_entry
def test_splits_are_named_once_and_sizes_are_numbers(entry) -> None:
    assert len({split.name for split in entry.splits}) == len(entry.splits)
    assert all(split.size > 0 for split in entry.splits)


@each_entry
def test_the_entry_lists_the_splits_of_its_archives(entry) -> None:
    splits = [files.split for archive in entry.archives for files in archive.splits]
    assert len(splits) == len(set(splits))
    assert set(splits) <= {split.name for split in entry.splits} or not entry.splits


@each_entry
def test_a_published_score_is_a_percentage(entry) -> None:
    for score in entry.published_scores:
        low = -100 if score.task.endswith("gain") else 0
        assert low < score.value <= 100


@each_entry
def test_patterns_of_lines_have_the_groups_that_are_read(entry) -> None:
    for archive in entry.archives:
        if isinstance(archive, ListFileArchive):
            groups = set(re.compile(archive.line_pattern).groupindex)
            assert groups in ({"file", "name"}, {"file", "number"})
        if isinstance(archive, MatlabArchive):
            assert archive.image_pattern.count("{}") == 1


@each_entry
def test_a_dataset_has_a_source_or_is_listed_here(entry) -> None:
    assert entry.hub_name or entry.archives or entry.task in ("compositionality", "association") or entry.name in {
        "birdsnap", "ucf101", "kinetics700", "imagenet_vid", "youtube_bb",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("pets", "pets"),
        ("OxfordIIITPet", "pets"),
        ("vtab/pets", "pets"),
        ("wds_vtab-pets", "pets"),
        ("IMAGENET1K", "imagenet"),
        ("imagenet-a", "imagenet_a"),
    ],
)
def test_a_dataset_is_found_by_each_of_its_names(alias: str, name: str) -> None:
    assert find_catalog_entry(alias).name == name


OPENAI_SECTIONS = [
    "Birdsnap", "CIFAR10", "CIFAR100", "CLEVRCounts", "Caltech101", "Country211", "DescribableTextures",
    "EuroSAT", "FGVCAircraft", "FacialEmotionRecognition2013", "Flowers102", "Food101", "GTSRB", "HatefulMemes",
    "KITTI", "Kinetics700", "MNIST", "OxfordPets", "PascalVOC2007", "PatchCamelyon", "RESISC45", "SST2", "STL10",
    "SUN397", "StanfordCars", "UCF101",
]  # fmt: skip
CLIP_BENCHMARK_KEYS = [
    "cifar10", "cifar100", "imagenet1k", "food101", "sun397", "cars", "fgvc_aircraft", "dtd", "pets",
    "caltech101", "flowers", "mnist", "stl10", "eurosat", "gtsrb", "country211", "renderedsst2",
    "voc2007_multilabel", "fer2013", "clevr_count_all", "pcam", "svhn", "resisc45",
    "kitti_closest_vehicle_distance", "clevr_closest_object_distance", "diabetic_retinopathy", "dmlab",
    "dsprites_label_orientation", "dsprites_label_x_position", "smallnorb_label_azimuth", "smallnorb_label_elevation",
]  # fmt: skip


def test_each_dataset_of_the_paper_finds_its_section_in_openais_file() -> None:
    """The file has no section for ImageNet, whose prompts are in a notebook."""
    paper = [entry.name for entry in ENTRIES if entry.group == "paper"]
    sections = {name: find_name(list_prompt_names(name), OPENAI_SECTIONS) for name in paper}
    assert [name for name, section in sections.items() if section is None] == ["imagenet"]
    assert sorted(filter(None, sections.values())) == sorted(OPENAI_SECTIONS)


def test_each_dataset_finds_its_entry_in_clip_benchmarks_files() -> None:
    groups = ("paper", "shifts", "other", "vtab", "datacomp")
    tasks = ("classification", "multilabel")
    labeled = [entry.name for entry in ENTRIES if entry.task in tasks and entry.group in groups]
    keys = {name: find_name(list_prompt_names(name), CLIP_BENCHMARK_KEYS) for name in labeled}
    assert {name for name, key in keys.items() if key is None} == {
        "birdsnap", "ucf101", "kinetics700", "hateful_memes",
        "voc2007_objects", "iwildcam", "camelyon17", "fmow", "dollar_street", "geode",
    }  # fmt: skip
    assert {keys[name] for name in ("imagenetv2", "imagenet_a", "imagenet_sketch")} == {"imagenet1k"}
    assert (keys["aircraft"], keys["clevr_counts"], keys["cifar10.1"]) == (
        "fgvc_aircraft",
        "clevr_count_all",
        "cifar10",
    )


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="Did you mean 'cifar100'"):
        find_catalog_entry("cifar1000")


def test_an_unknown_name_gets_the_list_of_names() -> None:
    with pytest.raises(DataError, match=r"The catalog has: .*food101, cifar10, .*imagenetv2"):
        find_catalog_entry("qqqq")


def test_a_copy_in_the_layout_of_clip_benchmark_is_found_under_the_hubs_name(tmp_path) -> None:
    write_classification(tmp_path / "wds_vtab-pets", [(b"x", "png", 0)], ["cat"], ["a {c}"])
    benchmark = read_catalog_dataset(find_catalog_entry("pets"), tmp_path)
    assert (benchmark.name, benchmark.metric, benchmark.templates) == ("pets", "mean_per_class", ("a {c}",))
    assert benchmark.notes == (
        "1 samples, but the catalog expects 3,669 in test: scores may not be comparable",
        "1 classes, but the catalog expects 37",
    )


def test_a_retrieval_dataset_is_found_too(tmp_path) -> None:
    write_retrieval(tmp_path / "coco", [(b"x", "png", ["a cat"])])
    assert read_catalog_dataset(find_catalog_entry("mscoco"), tmp_path).source.read(0).captions == ("a cat",)

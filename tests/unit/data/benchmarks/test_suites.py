"""The suites name datasets that exist, and published scores of their members."""

import pytest

from zebra.data.benchmarks.catalog import load_catalog
from zebra.data.benchmarks.suites import find_suites, is_suite, load_suites, parse_suite
from zebra.errors import ConfigError
from zebra.evaluators.datasets import list_builtin_datasets

SUITES = list(load_suites().values())
each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
MEMBERS = "title: T\nsource: S\nmembers:\n"


def names_of(argument: str) -> list[str]:
    return [suite.name for suite in find_suites(argument)]


@each_suite
def test_each_member_is_a_dataset_of_the_catalog_or_built_in(suite) -> None:
    assert suite.members
    assert {member.dataset for member in suite.members} <= {*load_catalog(), *list_builtin_datasets()}


@each_suite
def test_published_scores_are_percentages_of_members_with_a_source(suite) -> None:
    for published in suite.published:
        assert published.source
        scores = suite.published_scores(published)
        assert published.mean is not None or scores
        assert all(isinstance(value, int | float) and 0 <= value <= 100 for value in scores.values())


@each_suite
def test_a_published_mean_is_that_of_the_published_scores_where_all_are_known(suite) -> None:
    for published in suite.published:
        scores = suite.published_scores(published)
        if published.mean is not None and len(scores) == len(suite.members) and suite.average == "members":
            assert published.mean == pytest.approx(sum(scores.values()) / len(scores), abs=0.1)


@each_suite
def test_groups_are_for_all_members_or_for_none(suite) -> None:
    with_group = [bool(member.group) for member in suite.members]
    assert all(with_group) or (suite.average != "groups" and not any(with_group))


def test_the_paper_has_27_members_and_seven_shifts() -> None:
    catalog, suites = load_catalog(), load_suites()
    for name, group in (("paper-27", "paper"), ("robustness", "shifts")):
        expected = {entry.name for entry in catalog.values() if entry.group == group}
        assert {member.dataset for member in suites[name].members} == expected


def test_members_have_the_primary_metric_of_their_dataset_in_the_paper() -> None:
    metrics = {member.dataset: member.metric for member in load_suites()["paper-27"].members}
    for name, metric in metrics.items():
        assert {"accuracy": "top1"}.get(load_catalog()[name].metric, load_catalog()[name].metric) == metric


def test_one_argument_names_several_suites_or_all_without_training() -> None:
    assert names_of("suite:paper-27,robustness") == ["paper-27", "robustness"]
    assert names_of("suite:Robustness, paper-27,robustness") == ["robustness", "paper-27"]
    assert set(names_of("suite:all")) == {suite.name for suite in SUITES if not suite.is_trained}
    assert is_suite("suite:paper-27")
    assert not is_suite("paper-27")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("suite:paper27", "no suite 'paper27'. Did you mean 'paper-27'"),
        ("suite:paper-27,zzz", "no suite 'zzz'. Known: all, "),
        ("suite:", "no suite ''"),
    ],
)
def test_an_unknown_suite_is_an_error_with_a_suggestion(argument, message) -> None:
    with pytest.raises(ConfigError, match=message):
        find_suites(argument)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "x.yaml must be a mapping"),
        (MEMBERS + "- {dataset: pets}", "x.yaml.members.0. lacks metric"),
        (MEMBERS + "- {dataset: pets, metric: top1, wheight: 2}", "unknown setting x.yaml.members.0..wheight"),
        (MEMBERS + "- {dataset: pets, metric: top1}\n- {dataset: pets, metric: top5}", "several members named 'pets'"),
        (
            MEMBERS + "- {dataset: pets, metric: top1}\npublished: [{model: M, source: S, scores: {pest: 1}}]",
            "'pest' of M is no member. Did you mean 'pets'",
        ),
    ],
)
def test_a_damaged_suite_is_an_error_that_names_the_place(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_suite(text, "x.yaml")


def test_labels_distinguish_two_scores_of_one_dataset() -> None:
    text = MEMBERS + "- {dataset: pets, metric: top1}\n- {dataset: pets, metric: top5, label: pets top-5}"
    assert [member.name for member in parse_suite(text, "x.yaml").members] == ["pets", "pets top-5"]


def test_published_scores_of_a_suite_take_precedence_over_those_of_the_catalog() -> None:
    text = MEMBERS + (
        "- {dataset: pets, metric: mean_per_class}\n- {dataset: mnist, metric: top1}\n"
        "published: [{model: ViT-L/14@336px, source: S, scores: {pets: 12}}]"
    )
    suite = parse_suite(text, "x.yaml")
    assert suite.published_scores(suite.published[0]) == {"pets": 12, "mnist": 88.3}


def test_the_source_says_how_many_numbers_are_not_verified() -> None:
    text = MEMBERS + (
        "- {dataset: kitti, metric: top1}\n- {dataset: mnist, metric: top1}\n"
        "published: [{model: ViT-L/14@336px, source: S}, {model: ViT-L/14@336px, source: S, scores: {kitti: 21.9}}]"
    )
    suite = parse_suite(text, "x.yaml")
    sources = [suite.describe_source(published) for published in suite.published]
    assert sources == ["S; 1 of the 2 numbers are not verified", "S"]

"""A suite is evaluated on the datasets that are there, each once, and its number is never more than it says."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from PIL import Image

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks import suites
from zebra.data.benchmarks.suites import Suite, SuiteMember, parse_suite
from zebra.data.benchmarks.writer import write_classification, write_retrieval
from zebra.errors import ConfigError, DataError
from zebra.evaluators import suite_datasets
from zebra.evaluators.results_io import read_results
from zebra.evaluators.suite_datasets import find_task, load_requested_datasets
from zebra.evaluators.suite_results import SuiteResult, _describe_shared_images
from zebra.report.style import format_score
from zebra.report.suites import describe_number, select_neighbors, suite_headlines, summarize_suites
from zebra.values import Score
from zebra.workflows import evaluate

from ...tiny_model import save_tiny_model

SHIPPED_SUITES = suites.load_suites()
CLASSNAMES, TEMPLATES = ["horse", "cat", "dog"], ["a photo of a {c}"]
SUITES = {
    "small": """
title: Three datasets
source: These tests
members:
  - {dataset: pets, metric: mean_per_class, num_templates: 7}
  - {dataset: mnist, metric: top1}
  - {dataset: flickr8k, metric: image_to_text_recall@1, task: retrieval}
published:
  - {model: Weak, source: Table 1, scores: {pets: 10, mnist: 20, flickr8k: 60}}
  - {model: Strong, source: Table 2, mean: 90, scores: {pets: 80, mnist: 95}}
""",
    "digits": """
title: Two datasets
source: These tests
average: groups
members:
  - {dataset: mnist, metric: top5, group: digits, images: digits}
  - {dataset: svhn, metric: top1, group: numbers, images: digits}
""",
    "probes": """
title: A linear probe
source: These tests
members:
  - {dataset: svhn, metric: top1, task: linear-probe}
""",
    "weak": """
title: Weaknesses
source: These tests
average: none
members:
  - {dataset: mnist, metric: top1, group: digits}
published:
  - {model: Weak, source: Table 1, scores: {mnist: 20}}
""",
}


def encode_image(seed: int) -> bytes:
    buffer = io.BytesIO()
    side = 16 + seed % 7  # the digest of shards has the sizes of their members
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(folder: Path, seed: int, classnames: list[str] = CLASSNAMES) -> None:
    samples = ((encode_image(100 * seed + n), "png", n % len(classnames)) for n in range(12))
    write_classification(folder, samples, classnames, TEMPLATES)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data-root")
    write_dataset(root / "pets", 1)
    write_dataset(root / "mnist", 2, [str(digit) for digit in range(10)])
    write_dataset(root / "wds_vtab-svhn", 3)
    write_retrieval(root / "flickr8k", ((encode_image(n), "png", [f"image {n}", f"number {n}"]) for n in range(6)))
    return root


@pytest.fixture(autouse=True)
def _small_suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SHIPPED_SUITES | {name: parse_suite(text, f"{name}.yaml") for name, text in SUITES.items()}
    monkeypatch.setattr(suites, "load_suites", lambda: found)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def run_suites(
    model: Path, root: Path | None, out: Path, *datasets: str, tasks: tuple[str, ...] = ("zero-shot",)
) -> dict[str, SuiteResult]:
    results: list[SuiteResult] = []
    config = EvaluateConfig(
        model=str(model), datasets=datasets, out=str(out), tasks=tasks, data_root=None if root is None else str(root)
    )
    evaluate.run(config, suite_callback=results.append)
    return {result.suite.name: result for result in results}


def copy_root(data_root: Path, folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(data_root / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def complete(model: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Evaluate all suites at once, and return the directory and the results."""
    out = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _small_suites.__wrapped__(monkeypatch, out)
        return out, run_suites(model, data_root, out, "suite:small,digits", "suite:weak,probes", "suite:small")


def test_the_number_is_the_mean_of_the_scores_in_metrics_json(complete) -> None:
    out, results = complete
    metrics = json.loads((out / "metrics.json").read_text())
    scores = [
        metrics["pets"]["zero-shot"]["mean_per_class"]["value"],
        metrics["mnist"]["zero-shot"]["top1"]["value"],
        metrics["flickr8k"]["retrieval"]["image_to_text_recall@1"]["value"],
    ]
    assert results["small"].is_complete
    assert results["small"].mean.value == pytest.approx(np.mean(scores))
    document = json.loads((out / "suites.json").read_text())
    assert document["small"]["mean"]["value"] == results["small"].mean.value
    assert document["small"]["incomplete_mean"] is None


def test_a_task_of_a_suite_runs_although_it_is_not_requested(complete) -> None:
    _, results = complete
    assert "flickr8k" in results["small"].scores  # retrieval is not among the tasks of the command


def test_a_dataset_of_several_suites_is_evaluated_once_and_counts_in_each(complete) -> None:
    out, results = complete
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["metric"] for line in lines if line["dataset"] == "mnist"].count("top1") == 1
    assert all("mnist" in results[name].scores for name in ("small", "digits", "weak"))


def test_a_suite_without_a_defined_mean_has_none(complete) -> None:
    out, results = complete
    assert results["weak"].mean is None
    assert [mean.value for mean in results["weak"].published_means()] == [None]
    assert json.loads((out / "suites.json").read_text())["weak"]["mean"] is None


def test_members_on_shared_images_are_noted_and_their_uncertainties_added(complete) -> None:
    result = complete[1]["digits"]
    scores = [result.scores["mnist"], result.scores["svhn"]]
    assert result.mean.value - result.mean.low == pytest.approx(np.mean([score.value - score.low for score in scores]))
    assert [note for note in result.notes if note.endswith("mnist, svhn (shared images)")]
    alone = _describe_shared_images([SuiteMember(dataset="mnist", metric="top1", images="digits")])
    assert alone == []
    assert list(result.group_means()) == ["digits", "numbers"]


def test_another_number_of_prompt_templates_is_noted(complete) -> None:
    assert [note for note in complete[1]["small"].notes if "pets 1 instead of 7" in note]


def test_a_copy_of_another_size_than_the_catalog_expects_is_named(complete) -> None:
    assert [note for note in complete[1]["small"].notes if note.endswith("may not compare: pets, mnist, flickr8k")]


def test_a_probe_on_half_of_the_dataset_is_named(complete) -> None:
    result = complete[1]["probes"]
    assert result.scores["svhn"].n == 6
    assert result.notes[-1] == "trained on half of the dataset without a training split: svhn"


def test_published_numbers_are_sorted_and_stated_or_computed(complete) -> None:
    means = complete[1]["small"].published_means()
    assert [(mean.published.model, mean.value) for mean in means] == [("Strong", 0.9), ("Weak", pytest.approx(0.3))]


def test_the_report_begins_with_the_suites(complete) -> None:
    page = (complete[0] / "report.html").read_text()
    assert page.index("<h2>Suites</h2>") < page.index("<h2>Suite small</h2>") < page.index("<h2>Zero-shot")


def test_the_card_has_each_suite_with_interval_and_neighbors_and_no_path(complete) -> None:
    card = (complete[0] / "card.md").read_text()
    assert ModelCard(card).data.eval_results
    mean = format_score(complete[1]["small"].mean)
    assert f"| [small](#suite-small) | 3 | {mean} | Strong 90.0%; Weak 30.0% |" in card
    assert "## Suite small" in card
    assert "| mnist | top1 |" in card
    assert "| flickr8k | retrieval image_to_text_recall@1 |" in card
    assert "tmp" not in card.partition("\n")[2]


def test_the_hub_reads_the_scores_of_the_card(complete) -> None:
    results = ModelCard((complete[0] / "card.md").read_text()).data.eval_results
    values = {(result.dataset_name, result.metric_type): result.metric_value for result in results}
    expected = complete[1]["small"].scores["pets"].value
    assert values["Oxford-IIIT Pets", "mean_per_class"] == pytest.approx(expected, abs=1e-6)


def test_the_lead_says_which_suites_are_complete(complete) -> None:
    lead = summarize_suites(list(complete[1].values()))
    assert lead.startswith("6 scores of 4 suites. Complete: small, digits, weak, probes. ")


def test_headlines_are_the_numbers_of_the_suites(complete) -> None:
    headlines = suite_headlines(list(complete[1].values()))
    assert [headline.label for headline in headlines] == ["suite small", "suite digits", "suite probes"]


def test_neighbors_are_the_models_with_the_nearest_numbers() -> None:
    published = "".join(f"  - {{model: M{value}, source: S, mean: {value}}}\n" for value in (10, 20, 30, 40, 50, 60))
    text = f"title: T\nsource: S\nmembers: [{{dataset: mnist, metric: top1}}]\npublished:\n{published}"
    result = SuiteResult(parse_suite(text, "x.yaml"), {"mnist": Score(0.41, 0.4, 0.42, 9)}, {})
    assert [mean.published.model for mean in select_neighbors(result, 3)] == ["M50", "M40", "M30"]


def test_a_missing_dataset_is_named_and_the_mean_is_not_shown_as_whole(model, data_root, tmp_path) -> None:
    root = copy_root(data_root, tmp_path / "root", "pets", "mnist")
    result = run_suites(model, root, tmp_path / "out", "suite:small")["small"]
    assert list(result.missing) == ["flickr8k"]
    assert "hf:clip-benchmark/wds_flickr8k" in result.missing["flickr8k"] or "hub cache" in result.missing["flickr8k"]
    assert describe_number(result).endswith("; not comparable with the mean of 3")
    assert describe_number(result).startswith("mean of 2 of 3: ")
    assert "flickr8k" in (tmp_path / "out" / "card.md").read_text().partition("Missing: ")[2]
    document = json.loads((tmp_path / "out" / "suites.json").read_text())["small"]
    assert document["mean"] is None
    assert document["incomplete_mean"]["value"] == result.mean.value
    means = {mean.published.model: mean.value for mean in result.published_means()}
    assert means == {"Strong": pytest.approx(0.875), "Weak": pytest.approx(0.15)}  # of pets and MNIST


def test_a_published_model_without_a_score_of_an_evaluated_member_has_no_number(model, data_root, tmp_path) -> None:
    root = copy_root(data_root, tmp_path / "root", "pets", "flickr8k")
    result = run_suites(model, root, tmp_path / "out", "suite:small")["small"]
    assert {mean.published.model: mean.value for mean in result.published_means()} == {
        "Strong": None,
        "Weak": pytest.approx(0.35),
    }


def test_a_dataset_that_is_half_there_is_an_error_and_the_others_are_evaluated(model, data_root, tmp_path) -> None:
    root = copy_root(data_root, tmp_path / "root", "pets", "mnist", "flickr8k")
    (root / "mnist" / "test" / "0.tar").unlink()
    results: list[SuiteResult] = []
    config = EvaluateConfig(model=str(model), datasets=("suite:small",), out=str(tmp_path / "out"), data_root=str(root))
    with pytest.warns(UserWarning, match=r"left out.*mnist"), pytest.raises(DataError, match=r"1 of 3 datasets|mnist"):
        evaluate.run(config, suite_callback=results.append)
    assert list(results[0].scores) == ["pets", "flickr8k"]
    assert "0.tar" in results[0].missing["mnist"] or "nshards" in results[0].missing["mnist"]


def test_a_run_resumed_with_another_model_has_no_score_of_the_first(model, data_root, tmp_path) -> None:
    root = copy_root(data_root, tmp_path / "root", "pets", "mnist")
    (root / "mnist" / "test" / "0.tar").rename(tmp_path / "0.tar")
    with pytest.warns(UserWarning, match=r"left out.*mnist"), pytest.raises(DataError):
        run_suites(model, root, tmp_path / "out", "suite:small")
    (tmp_path / "0.tar").rename(root / "mnist" / "test" / "0.tar")
    other = save_tiny_model(tmp_path / "other", seed=1)
    assert run_suites(other, root, tmp_path / "out", "suite:small")["small"].scores.keys() == {"pets", "mnist"}
    records = [record for record in read_results(tmp_path / "out" / "results.jsonl") if record.metric == "top1"]
    fingerprints = [(record.dataset, record.provenance["fingerprint"]) for record in records]
    first, *others = fingerprints
    assert first[0] == "pets"
    assert [name for name, _ in others] == ["pets", "mnist"]
    assert len({fingerprint for _, fingerprint in others} | {first[1]}) == 2


def test_a_dataset_that_changed_since_an_earlier_evaluation_is_named(model, data_root, tmp_path) -> None:
    root = copy_root(data_root, tmp_path / "root", "mnist", "pets")
    first = run_suites(model, root, tmp_path / "out", "suite:small")["small"]
    assert not [note for note in first.notes if "changed" in note]
    shutil.rmtree(root / "pets")
    write_dataset(root / "pets", 9)
    second = run_suites(model, root, tmp_path / "out", "suite:small")["small"]
    assert [note for note in second.notes if note.startswith("the data changed: pets since 20")]


def test_a_suite_without_any_dataset_is_an_error_that_names_each(model, tmp_path) -> None:
    with pytest.raises(DataError, match=r"none of the 3 datasets of suite:small is available(.|\n)*pets(.|\n)*mnist"):
        run_suites(model, tmp_path, tmp_path / "out", "suite:small")
    with pytest.raises(DataError, match="nowhere is not a directory"):
        run_suites(model, tmp_path / "nowhere", tmp_path / "out", "suite:small")


def test_an_unknown_suite_is_an_error_before_the_model_is_loaded(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no suite 'smal'\. Did you mean 'small'"):
        run_suites(tmp_path / "no-model", None, tmp_path / "out", "suite:smal")


def load(root: Path, *datasets: str) -> suite_datasets.RequestedDatasets:
    tasks = ("zero-shot", "linear-probe")
    return load_requested_datasets(
        EvaluateConfig(model="", datasets=datasets, out="", tasks=tasks, data_root=str(root))
    )


def test_a_dataset_of_a_suite_that_is_also_named_by_itself_is_evaluated_once(data_root) -> None:
    for argument in ("mnist", str(data_root / "mnist")):
        datasets = load(data_root, argument, "suite:digits").datasets
        assert [dataset.benchmark.name for dataset in datasets] == ["mnist", "svhn"]
        assert datasets[0].config.tasks == ("zero-shot", "linear-probe")


def test_another_dataset_with_the_name_of_a_member_is_refused(data_root, tmp_path) -> None:
    write_dataset(tmp_path / "mnist", 8)
    with pytest.raises(ConfigError, match="two datasets have the name 'mnist'"):
        load(data_root, str(tmp_path / "mnist"), "suite:digits")


def test_the_hub_is_tried_once_if_it_does_not_respond(tmp_path, monkeypatch) -> None:
    attempts = []
    open_dataset = suite_datasets.load_dataset

    def count(argument, split, data_root):
        attempts.append(argument)
        return open_dataset(argument, split, data_root)

    monkeypatch.setattr(suite_datasets, "load_dataset", count)
    (tmp_path / "svhn").mkdir()
    requested = load(tmp_path, "suite:small,digits")
    assert [argument for argument in attempts if argument.startswith("hf:")] == ["hf:clip-benchmark/wds_vtab-pets"]
    assert set(requested.missing) == {"pets", "mnist", "flickr8k"}
    assert set(requested.errors) == {"svhn"}


def test_suites_that_take_different_splits_of_a_dataset_are_refused(data_root, monkeypatch) -> None:
    other = "title: T\nsource: S\nmembers:\n- {dataset: mnist, metric: top1, split: val}"
    found: dict[str, Suite] = {**suites.load_suites(), "other": parse_suite(other, "other.yaml")}
    monkeypatch.setattr(suites, "load_suites", lambda: found)
    with pytest.raises(ConfigError, match="suite:other takes the split val of mnist, and another suite takes test"):
        load(data_root, "suite:digits,other")


def test_the_task_of_a_result_is_that_of_the_longest_name() -> None:
    assert find_task("few-shot-16") == "few-shot"
    assert find_task("retrieval") == "retrieval"

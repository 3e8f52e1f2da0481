"""The front matter of model cards. Reference: huggingface_hub, which reads it back."""

from huggingface_hub import ModelCard

from zebra.evaluators.results_io import ResultRecord
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.report.hub_card import format_front_matter
from zebra.report.score_table import to_rows
from zebra.values import Score

SCORE = Score(2 / 3, 0.6, 0.7333333, 3669)


def read_back(card):
    return {(r.task_name, r.dataset_type, r.metric_type): r for r in ModelCard(card).data.eval_results}


def test_the_hub_reads_every_score_with_its_dataset_task_and_metric():
    records = [
        ResultRecord(dataset, task, metric, SCORE, "d1", provenance={"split": "test"})
        for dataset, task, metric in (
            ("pets", "zero-shot", "top1"),
            ("pets", "zero-shot", "mean_per_class"),
            ("pets", "linear-probe", "top1"),
            ("my: photos", "zero-shot-bare-name", "top1"),
            ("my: photos", "retrieval", "image_to_text_recall@1"),
        )
    ]
    results = read_back(format_front_matter(["runs/horse"], to_rows(records)))
    assert set(results) == {
        ("zero-shot", "clip-benchmark/wds_vtab-pets", "accuracy"),
        ("zero-shot", "clip-benchmark/wds_vtab-pets", "mean_per_class"),
        ("linear-probe", "clip-benchmark/wds_vtab-pets", "accuracy"),
        ("zero-shot-bare-name", "my: photos", "accuracy"),
        ("retrieval", "my: photos", "image_to_text_recall@1"),
    }
    types = {result.task_name: result.task_type for result in results.values()}
    assert types == {
        "zero-shot": "zero-shot-image-classification",
        "zero-shot-bare-name": "zero-shot-image-classification",
        "linear-probe": "image-classification",
        "retrieval": "retrieval",
    }
    first = results["zero-shot", "clip-benchmark/wds_vtab-pets", "accuracy"]
    assert (first.metric_value, first.dataset_split, first.dataset_args) == (0.666667, "test", {"digest": "d1"})
    assert first.metric_name == "top1 (95 % interval 0.6 to 0.7333, n = 3,669)"
    assert "Pets" in first.dataset_name


def test_each_run_is_a_model_with_the_scores_that_it_has():
    rows = [
        ComparisonRow("pets", "zero-shot", "top1", (SCORE, None)),
        ComparisonRow("cars", "zero-shot", "top1", (SCORE, SCORE)),
    ]
    card = ModelCard(format_front_matter(["runs/horse", "hf:zoo/horse@v1"], rows))
    assert card.data.model_name == "zoo/horse"
    assert [
        result.dataset_type.rpartition("-")[2].removeprefix("benchmark/wds_") for result in card.data.eval_results
    ] == ["pets", "cars", "cars"]


def test_a_card_without_scores_is_valid():
    assert format_front_matter(["runs/horse"], []) == "---\nmodel-index:\n- name: horse\n  results: []\n---\n"

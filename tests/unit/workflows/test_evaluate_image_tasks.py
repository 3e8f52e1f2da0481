"""`zebra evaluate` with the tasks on images: retrieval by images, clustering, calibration, unknown classes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.tiny_model import save_tiny_model
from tests.unit.data.benchmarks import instance_layouts

from zebra.config.evaluate import EvaluateConfig
from zebra.errors import ConfigError, DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.suite_datasets import RequestedDataset
from zebra.workflows import evaluate

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}
TASKS = ("image-retrieval", "clustering", "calibration", "ood")


def write_image(path, color, seed):
    noise = np.random.default_rng(seed).integers(-25, 26, (16, 16, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Save a model, a dataset of three colors and one of two others, and evaluate all tasks."""
    root = tmp_path_factory.mktemp("image-tasks")
    save_tiny_model(root / "model")
    for number in range(12):
        name, color = list(COLORS.items())[number % 3]
        write_image(root / "colors" / name / f"{number}.png", color, number)
    for number in range(8):
        name, color = [("gray", (128, 128, 128)), ("Red", (250, 0, 0))][number % 2]
        write_image(root / "others" / name / f"{number}.png", color, 100 + number)
    evaluate.run(config(root))
    return root


def config(root, tasks=TASKS, out="out", **settings):
    settings = {"ood_datasets": (str(root / "others"),)} | settings if "ood" in tasks else settings
    return EvaluateConfig(
        model=str(root / "model"), datasets=(str(root / "colors"),), out=str(root / out), tasks=tasks, **settings
    )


def test_each_task_has_its_scores(root):
    metrics = json.loads((root / "out" / "metrics.json").read_text())["colors"]
    assert {task: next(iter(scores)) for task, scores in metrics.items()} == {
        "image-retrieval": "map",
        "clustering": "v_measure",
        "calibration": "ece",
        "ood-others": "auroc",
    }
    assert {"ece_calibrated", "nll", "brier_calibrated"} <= set(metrics["calibration"])
    assert {"fpr95", "aupr_in", "aupr_out", "max_cosine_auroc", "energy_fpr95"} <= set(metrics["ood-others"])
    assert all(s["low"] <= s["value"] <= s["high"] for scores in metrics.values() for s in scores.values())


def test_each_image_has_its_predictions(root):
    folder = root / "out" / "predictions"
    found = pq.read_table(folder / "colors.image-retrieval.parquet").to_pydict()
    names = [id.split("/")[0] for id in found["id"]]
    assert [a == b.split("/")[0] for a, b in zip(names, found["retrieved_id"], strict=True)] == found["correct"]
    clusters = pq.read_table(folder / "colors.clustering.parquet").to_pydict()
    assert len(set(clusters["cluster"])) == 3 and len(clusters["id"]) == 12
    confidences = pq.read_table(folder / "colors.calibration.parquet").to_pydict()["calibrated_confidence"]
    assert sum(value is None for value in confidences) == 6
    detection = pq.read_table(folder / "colors.ood-others.parquet").to_pydict()
    assert detection["known"] == [True] * 12 + [False] * 8


def test_the_report_shows_the_tasks(root):
    page = (root / "out" / "report.html").read_text()
    assert "Calibration on colors" in page and "ood-others" in page
    assert "1 classes of others are classes of the dataset" in page and "Red" in page


def test_negative_log_likelihood_is_no_percentage(root, cli):
    result = cli("evaluate", root / "model", root / "colors", "--tasks", "calibration", "--out", root / "nll")
    printed = result.out.split("nll ")[1].split()[0]
    metrics = json.loads((root / "nll" / "metrics.json").read_text())["colors"]["calibration"]
    assert printed == f"{metrics['nll']['value']:.3f}"


def test_unknown_images_need_their_dataset_and_the_task(root):
    with pytest.raises(ConfigError, match="needs --ood-datasets"):
        config(root, ood_datasets=())
    with pytest.raises(ConfigError, match="for the task ood only"):
        evaluate.run(config(root, tasks=("clustering",), ood_datasets=("others",)))


def test_a_dataset_has_no_unknown_images_of_itself(root):
    with pytest.raises(DataError, match="whose classes are known"):
        evaluate.run(config(root, ("ood",), "itself", ood_datasets=(str(root / "colors"),)))


def test_other_unknown_images_are_another_evaluation(root):
    def hash_dataset():
        return evaluate._hash_dataset(RequestedDataset("colors", load_dataset(root / "colors"), config(root)))

    digest = hash_dataset()
    assert hash_dataset() == digest
    write_image(root / "others" / "gray" / "new.png", (100, 100, 100), 5)
    assert hash_dataset() != digest


def test_tasks_that_a_dataset_is_too_small_for_are_left_out_with_a_warning(root, tmp_path):
    for name, color in COLORS.items():
        write_image(tmp_path / "single" / name / "1.png", color, 1)
    single = EvaluateConfig(
        model=str(root / "model"),
        datasets=(str(tmp_path / "single"),),
        out=str(tmp_path / "out"),
        tasks=("image-retrieval", "calibration", "clustering"),
    )
    with pytest.warns(UserWarning, match="left out") as warned:
        metrics = evaluate.run(single)
    assert list(metrics["single"]) == ["clustering"]
    messages = " ".join(str(warning.message) for warning in warned)
    assert "image retrieval needs a class with two images" in messages
    assert "calibration needs a class with two images" in messages


def test_galleries_and_instances_of_the_catalog_are_evaluated(root, tmp_path):
    instance_layouts.write_revisited(tmp_path)
    instance_layouts.write_products(tmp_path)
    metrics = evaluate.run(
        EvaluateConfig(
            model=str(root / "model"), datasets=("roxford5k", "sop"), out=str(tmp_path / "out"), data_root=str(tmp_path)
        )
    )
    revisited = metrics["roxford5k"]["image-retrieval"]
    assert {"map_easy", "map_medium", "map_hard", "mp@1_easy", "mp@10_hard"} <= set(revisited)
    # Only the first query has a hard positive, and both have easy ones.
    assert (revisited["map_hard"].n, revisited["map_easy"].n) == (1, 2)
    assert revisited["map_easy"].value == pytest.approx(1)  # the left halves have the color of the easy positives
    products = metrics["stanford_online_products"]["image-retrieval"]
    assert (products["map"].value, products["recall@1"].n) == (1, 6)

"""Tests of `zebra demo` as a user runs it, and of the Python code in the README."""

import json
import re
import subprocess
import sys

import pytest

from .conftest import ROOT, draw_shape, encode_image

DATASETS = {
    "seen-kinds", "unseen-kinds", "zebra", "counting", "distance", "fine-grained", "typed-digits",
    "handwritten-digits", "sketch", "inverted", "noisy",
}  # fmt: skip
QUICK = ("demo", "--out", "runs/demo", "--samples", 600, "--steps", 4)


@pytest.fixture(scope="module")
def demo(zebra, tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    result = zebra(*QUICK, cwd=root, timeout=600)
    return root, result


def test_every_dataset_gets_scores_with_intervals(demo):
    root, _ = demo
    metrics = json.loads((root / "runs/demo/metrics.json").read_text())
    assert set(metrics) == DATASETS
    for name, tasks in metrics.items():
        for task in ("zero-shot", "zero-shot-one-prompt"):
            score = tasks[task]["top1"]
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1, name
    assert metrics["unseen-kinds"]["zero-shot"]["top1"]["n"] >= 1000


def test_the_report_is_one_self_contained_page(demo):
    root, _ = demo
    page = (root / "runs/demo/report.html").read_text()
    external_links = re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|url\((?!data:|#)[^)]*\)|<script', page)
    assert external_links == []
    for word in ("zebra", "unseen", "prompt", "confused with", "examples per class", "linear probe"):
        assert word in page.lower()


def test_demo_can_be_run_twice(zebra, demo):
    root, _ = demo
    before = (root / "runs/demo/model/model.safetensors").stat().st_mtime_ns
    result = zebra(*QUICK, cwd=root, timeout=600)
    assert (root / "runs/demo/model/model.safetensors").stat().st_mtime_ns == before
    assert "report.html" in result.stdout


def test_the_python_of_the_readme_runs_on_the_demo_model(demo, environment):
    root, _ = demo
    (root / "photo.jpg").write_bytes(encode_image(draw_shape("red", "circle", 0), "jpg"))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        code = re.sub(r'"hf:[^"]*"', '"runs/demo/model"', block)  # without a download
        subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True)


def test_evaluate_gives_the_numbers_of_the_demo(zebra, demo):
    root, _ = demo
    dataset = "runs/demo/menagerie/evaluation/distance"
    zebra("evaluate", "runs/demo/model", dataset, "--out", "scores", cwd=root)
    metrics = json.loads((root / "scores/metrics.json").read_text())
    demo_metrics = json.loads((root / "runs/demo/metrics.json").read_text())["distance"]
    assert set(metrics["distance"]) == {"zero-shot", "zero-shot-one-prompt", "zero-shot-bare-name"}
    assert metrics["distance"] == {task: demo_metrics[task] for task in metrics["distance"]}

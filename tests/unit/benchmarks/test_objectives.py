"""The benchmark of objectives on a tiny menagerie: rows, receipt, figure and selection."""

import importlib.util
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from zebra.menagerie import write
from zebra.menagerie.handwriting import iter_handwritten_digits

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "objectives.py"


@pytest.fixture
def objectives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # the script imports receipt.py from its folder
    spec = importlib.util.spec_from_file_location("objectives", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "objectives", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys.modules["receipt"], "RESULTS", tmp_path / "results")
    return module


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(
        write, "DRAWN_DATASETS", {name: replace(one, num_samples=12) for name, one in write.DRAWN_DATASETS.items()}
    )
    monkeypatch.setattr(write, "iter_handwritten_digits", lambda: islice(iter_handwritten_digits(), 2))
    write.write_menagerie(tmp_path / "world", 40, seed=0, workers=1)
    return tmp_path / "world"


def test_every_objective_is_measured_and_saved_with_a_receipt(objectives, world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", f"objectives.py {world} --steps 4 --batch-size 8 --workers 0 --rates 1e-3 2e-3".split()
    )
    objectives.main()
    *rows, comparison = map(json.loads, (tmp_path / "results" / "objectives.jsonl").read_text().splitlines())
    assert [row["objective"] for row in rows[::2]] == list(objectives.OBJECTIVES)
    assert [row["lr"] for row in rows] == 4 * [1e-3, 2e-3]
    for row in rows:
        assert [point["images"] for point in row["curve"]] == [8, 16, 32]
        assert row["curve"][-1]["seen-kinds"]["n"] == row["curve"][-1]["unseen-kinds"]["n"] == 3
        assert row["parameters"]["image tower"] == rows[0]["parameters"]["image tower"]
        assert "commit" in row["receipt"]
    assert set(comparison["images to reach"]) == {"seen-kinds", "unseen-kinds"}
    assert (tmp_path / "results" / "objectives.svg").read_text().count("<svg") == 1


def test_selection_and_evaluation_images_are_disjoint(objectives, world):
    dataset = objectives.LabeledImages.read(world / "evaluation" / "seen-kinds", objectives.Preprocess(image_size=64))
    first, second = ({image.numpy().tobytes() for image in dataset.quarter(n).images} for n in (0, 1))
    assert len(first) == len(second) == 3
    assert not first & second


def test_the_images_to_reach_an_accuracy_are_interpolated_over_their_logarithm(objectives):
    curve = [{"images": images, "dataset": {"value": value}} for images, value in ((100, 0.1), (400, 0.3), (800, 0.2))]
    assert objectives.images_to_reach(curve, "dataset", 0.2) == 200
    assert objectives.images_to_reach(curve, "dataset", 0.3) == 400
    assert objectives.images_to_reach(curve, "dataset", 0.4) is None
    assert objectives.images_to_reach(curve, "dataset", 0.05) is None


def test_the_best_rate_is_selected_and_of_two_runs_the_latest(objectives, tmp_path):
    runs = [("captioning", 1e-3, 0.9, "old"), ("captioning", 1e-3, 0.2, "new"), ("captioning", 3e-3, 0.3, "best")]
    rows = [{"objective": name, "lr": lr, "top1 to choose by": top1, "curve": which} for name, lr, top1, which in runs]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "objectives.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {name: row["curve"] for name, row in objectives.select_rows().items()} == {"captioning": "best"}

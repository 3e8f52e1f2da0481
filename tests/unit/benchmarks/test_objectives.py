"""The script that compares objectives runs from a world to rows and a figure, on a world of a few pictures."""

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
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # it imports the receipt that lies beside it
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


def test_every_objective_is_followed_and_kept_with_its_receipt(objectives, world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", f"objectives.py {world} --steps 4 --batch-size 8 --workers 0 --rates 1e-3 2e-3".split()
    )
    objectives.main()
    *rows, compared = map(json.loads, (tmp_path / "results" / "objectives.jsonl").read_text().splitlines())
    assert [row["objective"] for row in rows[::2]] == list(objectives.OBJECTIVES)
    assert [row["lr"] for row in rows] == 4 * [1e-3, 2e-3]
    for row in rows:
        assert [point["images"] for point in row["curve"]] == [8, 16, 32]
        assert row["curve"][-1]["seen-kinds"]["n"] == row["curve"][-1]["unseen-kinds"]["n"] == 3
        assert row["parameters"]["image tower"] == rows[0]["parameters"]["image tower"]
        assert "commit" in row["receipt"]
    assert set(compared["images to reach"]) == {"seen-kinds", "unseen-kinds"}
    assert (tmp_path / "results" / "objectives.svg").read_text().count("<svg") == 1


def test_pictures_that_choose_are_not_those_that_measure(objectives, world):
    pictures = objectives.Pictures.read(world / "evaluation" / "seen-kinds", objectives.Preprocess(image_size=64))
    first, second = ({image.numpy().tobytes() for image in pictures.quarter(n).images} for n in (0, 1))
    assert len(first) == len(second) == 3
    assert not first & second


def test_the_price_of_an_accuracy_lies_on_a_straight_line_over_the_logarithm_of_images(objectives):
    curve = [{"images": images, "set": {"value": value}} for images, value in ((100, 0.1), (400, 0.3), (800, 0.2))]
    assert objectives.price(curve, "set", 0.2) == 200
    assert objectives.price(curve, "set", 0.3) == 400
    assert objectives.price(curve, "set", 0.4) is None
    assert objectives.price(curve, "set", 0.05) is None


def test_the_rate_that_did_best_on_the_pictures_to_choose_by_is_shown_and_of_two_runs_the_newest(objectives, tmp_path):
    kept = [("captioning", 1e-3, 0.9, "old"), ("captioning", 1e-3, 0.2, "new"), ("captioning", 3e-3, 0.3, "best")]
    rows = [{"objective": name, "lr": lr, "top1 to choose by": top1, "curve": which} for name, lr, top1, which in kept]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "objectives.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {name: row["curve"] for name, row in objectives.chosen().items()} == {"captioning": "best"}

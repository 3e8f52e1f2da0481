"""The files of SugarCrepe and Winoground become questions about images."""

import json
from pathlib import Path

import pytest

from zebra.data.benchmarks.compositionality import is_compositionality_dataset, read_compositionality
from zebra.data.benchmarks.tasks import CompositionalityQuestion
from zebra.errors import DataError


def entry(name: str, number: int) -> dict[str, str]:
    return {"filename": name, "caption": f"true {number}", "negative_caption": f"false {number}"}


@pytest.fixture
def sugar(tmp_path: Path, make_image) -> Path:
    root = tmp_path / "sugar"
    (root / "val2017").mkdir(parents=True)
    for number in range(2):
        (root / "val2017" / f"{number}.jpg").write_bytes(make_image(number))
    (root / "add_att.json").write_text(json.dumps({"0": entry("0.jpg", 0), "7": entry("1.jpg", 1)}))
    (root / "swap_obj.json").write_text(json.dumps({"0": entry("1.jpg", 2)}))
    return root


@pytest.fixture
def wino(tmp_path: Path, make_image) -> Path:
    root = tmp_path / "wino"
    (root / "images").mkdir(parents=True)
    for number in range(2):
        (root / "images" / f"ex_0_img_{number}.png").write_bytes(make_image(number, "PNG"))
    line = {
        "image_0": "ex_0_img_0",
        "image_1": "ex_0_img_1",
        "caption_0": "a b",
        "caption_1": "b a",
        "collapsed_tag": "Object",
    }
    (root / "examples.jsonl").write_text(json.dumps(line) + "\n")
    return root


def test_sugarcrepe_has_two_captions_per_image(sugar: Path, make_image) -> None:
    benchmark = read_compositionality(sugar)
    assert benchmark.questions == (
        CompositionalityQuestion((0,), ("true 0", "false 0"), "add_att"),
        CompositionalityQuestion((1,), ("true 1", "false 1"), "add_att"),
        CompositionalityQuestion((1,), ("true 2", "false 2"), "swap_obj"),
    )
    assert [benchmark.source.read(i).image for i in range(2)] == [make_image(0), make_image(1)]


def test_an_image_of_two_questions_is_in_the_source_once(sugar: Path) -> None:
    assert len(read_compositionality(sugar).source) == 2


def test_one_category_is_read_by_its_file(sugar: Path) -> None:
    benchmark = read_compositionality(sugar / "swap_obj.json")
    assert (benchmark.name, benchmark.questions) == (
        "swap_obj",
        (CompositionalityQuestion((0,), ("true 2", "false 2"), "swap_obj"),),
    )


def test_winoground_has_two_images_and_two_captions(wino: Path, make_image) -> None:
    benchmark = read_compositionality(wino)
    assert benchmark.questions == (CompositionalityQuestion((0, 1), ("a b", "b a"), "Object"),)
    assert benchmark.source.read(1).image == make_image(1, "PNG")


def test_other_folders_are_no_compositionality_datasets(sugar: Path, wino: Path, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text("{}")
    assert [is_compositionality_dataset(path) for path in (sugar, wino, tmp_path)] == [True, True, False]


def test_a_missing_image_is_an_error(sugar: Path) -> None:
    (sugar / "val2017" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"the image 1\.jpg is missing in"):
        read_compositionality(sugar)


def test_an_entry_without_a_caption_is_an_error_that_names_it(sugar: Path) -> None:
    (sugar / "add_att.json").write_text(json.dumps({"3": entry("0.jpg", 0) | {"negative_caption": ""}}))
    with pytest.raises(DataError, match=r"add_att\.json: 3 has no negative_caption"):
        read_compositionality(sugar)


def test_a_broken_line_of_winoground_is_an_error_with_its_number(wino: Path) -> None:
    with (wino / "examples.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(DataError, match=r"examples\.jsonl:2: broken JSON line"):
        read_compositionality(wino)

"""The files of compositionality benchmarks, in their authors' layouts, become questions about images."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.data.benchmarks.catalog import find_catalog_entry, find_questions, read_catalog_dataset
from zebra.data.benchmarks.compositionality import read_compositionality
from zebra.data.benchmarks.tasks import CompositionalityQuestion
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset


def entry(name: str, number: int) -> dict[str, str]:
    return {"filename": name, "caption": f"true {number}", "negative_caption": f"false {number}"}


def read(path: Path):
    found = find_questions(path)
    assert found is not None
    return read_compositionality(found, path)


def write_images(folder: Path, make_image, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(make_image(number))


def write_json(path: Path, rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


@pytest.fixture
def sugar(tmp_path: Path, make_image) -> Path:
    root = tmp_path / "sugar"
    write_images(root / "val2017", make_image, "0.jpg", "1.jpg")
    write_json(root / "add_att.json", {"0": entry("0.jpg", 0), "7": entry("1.jpg", 1)})
    write_json(root / "swap_obj.json", {"0": entry("1.jpg", 2)})
    return root


@pytest.fixture
def wino(tmp_path: Path, make_image) -> Path:
    root = tmp_path / "wino"
    write_images(root / "images", make_image, "ex_0_img_0.png", "ex_0_img_1.png")
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
    benchmark = read(sugar)
    assert benchmark.questions == (
        CompositionalityQuestion((0,), ("true 0", "false 0"), (0, None), "add_att"),
        CompositionalityQuestion((1,), ("true 1", "false 1"), (0, None), "add_att"),
        CompositionalityQuestion((1,), ("true 2", "false 2"), (0, None), "swap_obj"),
    )
    assert [benchmark.source.read(i).image for i in range(2)] == [make_image(0), make_image(1)]
    assert (benchmark.name, benchmark.metric) == ("sugar", "macro_accuracy")


def test_an_image_of_two_questions_is_in_the_source_once(sugar: Path) -> None:
    assert len(read(sugar).source) == 2


def test_one_category_is_read_by_its_file(sugar: Path) -> None:
    benchmark = read(sugar / "swap_obj.json")
    assert (benchmark.name, benchmark.questions) == (
        "swap_obj",
        (CompositionalityQuestion((0,), ("true 2", "false 2"), (0, None), "swap_obj"),),
    )


def test_sugarcrepe_pp_has_a_second_right_caption(tmp_path: Path, make_image) -> None:
    root = tmp_path / "scpp"
    write_images(root / "images", make_image, "0.jpg")
    write_json(root / "replace_att.json", [entry("0.jpg", 0) | {"id": 0, "caption2": "also true"}])
    write_json(root / "croissant_metadata.json", {"name": "no questions"})
    benchmark = load_dataset("sugar_crepe_pp", data_root=tmp_path)
    assert benchmark.questions == (
        CompositionalityQuestion((0,), ("true 0", "also true", "false 0"), (0, 0, None), "replace_att"),
    )
    assert read(root).questions == benchmark.questions  # and not SugarCrepe, whose keys it has too


def test_winoground_has_two_images_and_two_captions(wino: Path, make_image) -> None:
    benchmark = read(wino)
    assert benchmark.questions == (CompositionalityQuestion((0, 1), ("a b", "b a"), (0, 1), "Object"),)
    assert benchmark.source.read(1).image == make_image(1)


def test_naturalbench_retrieval_has_pairs_of_pairs(tmp_path: Path, make_image) -> None:
    root = tmp_path / "NaturalBench-Retrieval"
    write_images(root / "images", make_image, "a.jpg", "b.jpg")
    row = {"index": 0, "image_0": "a.jpg", "image_1": "b.jpg", "caption_0": "one", "caption_1": "two"}
    write_json(root / "metadata.json", [row])
    benchmark = load_dataset("naturalbench", data_root=tmp_path)
    assert (benchmark.questions, benchmark.metric) == (
        (CompositionalityQuestion((0, 1), ("one", "two"), (0, 1)),),
        "group",
    )


MMVP_ROWS = (
    "Question ID,Type,Statement\n1,Orientation,dog left\n2,Orientation,dog right\n3,Texts,a sign\n4,Texts,no sign\n"
)


@pytest.mark.parametrize("folder", ["MLLM_VLM Images", "MMVP_VLM_Images"])
def test_two_rows_of_mmvp_are_one_question_with_its_prompt(tmp_path: Path, make_image, folder) -> None:
    root = tmp_path / "MMVP_VLM"
    write_images(root / folder, make_image, "Orientation/1.jpg", "Orientation/2.jpg", "Texts/3.jpg", "Texts/4.jpg")
    (root / "Questions.csv").write_text(MMVP_ROWS)
    benchmark = load_dataset("mmvp_vlm", data_root=tmp_path)
    assert benchmark.questions == (
        CompositionalityQuestion((0, 1), ("a photo of dog left", "a photo of dog right"), (0, 1), "Orientation"),
        CompositionalityQuestion((2, 3), ("a photo of a sign", "a photo of no sign"), (0, 1), "Texts"),
    )
    assert benchmark.notes == ("2 samples, but the catalog expects 135 in test: scores may not be comparable",)


def test_a_file_that_ends_inside_a_pair_is_an_error(tmp_path: Path, make_image) -> None:
    root = tmp_path / "MMVP_VLM"
    write_images(root / "MLLM_VLM Images", make_image, "Orientation/1.jpg", "Orientation/2.jpg", "Texts/3.jpg")
    (root / "Questions.csv").write_text(MMVP_ROWS.rpartition("4,")[0])
    with pytest.raises(DataError, match=r"Questions\.csv ends inside a question of 2 rows"):
        load_dataset("mmvp_vlm", data_root=tmp_path)


@pytest.fixture
def aro(tmp_path: Path) -> Path:
    """An image with a red left and a blue right half, a question on each, and another one on the whole image."""
    root = tmp_path / "aro"
    (root / "images").mkdir(parents=True)
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    Image.fromarray(pixels).save(root / "images" / "1.png")
    captions = {"image_path": "1.png", "true_caption": "a dog is on a mat", "false_caption": "a mat is on a dog"}
    boxes = [(0, 0, 20, 20), (20, 0, 20, 20), (0, 0, 40, 20)]
    keys = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    rows = [captions | dict(zip(keys, box, strict=True)) for box in boxes]
    relations = [row | {"relation_name": name} for row, name in zip(rows, ("on", "near", "on"), strict=True)]
    write_json(root / "visual_genome_relation.json", relations)
    write_json(root / "visual_genome_attribution.json", [row | {"attributes": ["wet", "old"]} for row in rows])
    return root


def test_a_question_of_aro_shows_a_part_of_an_image(aro: Path) -> None:
    benchmark = load_dataset("aro_vg_relation", data_root=aro.parent)
    images = [np.asarray(Image.open(io.BytesIO(benchmark.source.read(index).image))) for index in range(3)]
    assert [image.shape for image in images] == [(20, 20, 3), (20, 20, 3), (20, 40, 3)]
    assert (images[0] == [255, 0, 0]).all()
    assert (images[1] == [0, 0, 255]).all()
    assert benchmark.source.sample_id(1) == benchmark.source.read(1).id == "images/1.png#20,0,20,20"
    assert benchmark.file_of_image == (0, 0, 0)
    assert [question.category for question in benchmark.questions] == ["on", "near", "on"]


def test_attributes_are_paired_and_rare_pairs_do_not_count(aro: Path) -> None:
    benchmark = load_dataset("aro_vg_attribution", data_root=aro.parent)
    assert ({question.category for question in benchmark.questions}, benchmark.min_category_size) == ({"wet_old"}, 25)


def test_a_folder_with_two_benchmarks_asks_for_the_file_of_one(aro: Path) -> None:
    with pytest.raises(DataError, match=r"several benchmarks: aro_vg_relation, aro_vg_attribution\. Name the file"):
        load_dataset(aro)
    assert load_dataset(aro / "visual_genome_relation.json").name == "visual_genome_relation"


def test_categories_to_leave_out_are_read_from_a_file(aro: Path) -> None:
    (aro / "excluded_categories.txt").write_text("near\nbeside\n")
    assert load_dataset("aro_vg_relation", data_root=aro.parent).excluded_categories == ("near", "beside")


@pytest.mark.parametrize("box", [{"bbox_w": 0}, {"bbox_w": "20"}, {"bbox_x": None}])
def test_a_question_without_a_usable_box_is_an_error(aro: Path, box) -> None:
    path = aro / "visual_genome_relation.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0], rows[1] | box]))
    with pytest.raises(DataError, match=r"relation\.json: 1 has no bounding box bbox_x, bbox_y, bbox_w, bbox_h"):
        load_dataset("aro_vg_relation", data_root=aro.parent)


def test_other_boxes_are_other_data(aro: Path) -> None:
    path = aro / "visual_genome_relation.json"
    before = load_dataset(path).source.digest
    path.write_text(path.read_text().replace('"bbox_x": 20', '"bbox_x": 19'))
    assert load_dataset(path).source.digest != before


def test_orders_of_aro_are_the_test_cases_of_its_authors(aro: Path, make_image) -> None:
    write_images(aro, make_image, "val2014/COCO_val2014_000000000001.jpg")
    options = ["a dog runs", "dog a runs", "runs a dog", "a runs dog", "runs dog a"]
    write_json(
        aro / "coco_order.json", [{"image": "val2014/COCO_val2014_000000000001.jpg", "caption_options": options}]
    )
    benchmark = load_dataset("aro_coco_order", data_root=aro.parent)
    assert benchmark.questions == (CompositionalityQuestion((0,), tuple(options), (0, None, None, None, None)),)


@pytest.fixture
def checklist(tmp_path: Path, make_image) -> Path:
    root = tmp_path / "VL-CheckList"
    write_images(root, make_image, "vg/VG_100K/1.jpg", "swig/dialing_8.jpg", "hake/hcvrd/1.jpg")
    texts = {"POS": ["small floor", "unused"], "NEG": ["large floor"]}
    files = {
        "Attribute/vg/size.json": "VG_100K/1.jpg",
        "Attribute/vaw/size.json": "VG_100K/1.jpg",
        "Object/Size/hake_size/hake_obj_large.json": "hcvrd/1.jpg",
        "Object/Location/swig_location/swig_tool/swig_tool_mid.json": "dialing_8.jpg",
        "Relation/swig_action.json": "dialing_8.jpg",
        "Relation/vg/spatial.json": "VG_100K/1.jpg",
    }
    for file, image in files.items():
        write_json(root / "data" / file, [[image, texts]])
    return root


def test_vl_checklist_takes_kinds_and_sources_from_its_folders(checklist: Path) -> None:
    benchmark = load_dataset("vl_checklist", data_root=checklist.parent)
    assert {question.category for question in benchmark.questions} == {
        "Attribute/size/vg",
        "Attribute/size/vaw",
        "Object/Size/large/hake/hake_obj_large",
        "Object/Location/mid/swig/swig_tool_mid",
        "Relation/action/swig",
        "Relation/spatial/vg",
    }
    assert {question.captions for question in benchmark.questions} == {("small floor", "large floor")}
    assert len(benchmark.source) == 3  # the collections have equal names of images, in folders of their own


def test_a_missing_collection_of_images_is_an_error_that_names_its_folder(checklist: Path) -> None:
    (checklist / "hake" / "hcvrd" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"hcvrd/1\.jpg is missing .*VL-CheckList/hake$"):
        load_dataset("vl_checklist", data_root=checklist.parent)


def test_other_folders_are_no_compositionality_datasets(sugar: Path, wino: Path, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text("{}")
    (tmp_path / "list.json").write_text('["text", 3, null]')
    found = [find_questions(path) for path in (sugar, wino, tmp_path, tmp_path / "world.json", tmp_path / "list.json")]
    assert [entry and entry.name for entry in found] == ["sugar_crepe", "winoground", None, None, None]


def test_a_copy_that_is_missing_says_where_to_put_what(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"put visual_genome_relation\.json into .*aro, with the images in images/"):
        read_catalog_dataset(find_catalog_entry("aro_vg_relation"), tmp_path)


def test_a_missing_image_is_an_error(sugar: Path) -> None:
    (sugar / "val2017" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"the image 1\.jpg is missing in"):
        read(sugar)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside.jpg"])
def test_an_image_outside_of_the_dataset_is_refused(sugar: Path, name) -> None:
    write_json(sugar / "add_att.json", {"3": entry(name, 0)})
    with pytest.raises(DataError, match=r"names an image outside of it"):
        read(sugar)


@pytest.mark.parametrize("caption", ["", "  ", None, ["a", "b"], {"text": "a"}])
def test_an_entry_without_a_caption_is_an_error_that_names_it(sugar: Path, caption) -> None:
    rows = {"0": entry("0.jpg", 0), "3": entry("0.jpg", 0) | {"negative_caption": caption}}
    write_json(sugar / "add_att.json", rows)
    with pytest.raises(DataError, match=r"add_att\.json: 3 has no negative_caption"):
        read(sugar)


def test_a_truncated_file_is_an_error_and_not_left_out(sugar: Path) -> None:
    path = sugar / "swap_obj.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match=r"swap_obj\.json cannot be read"):
        read(sugar)


def test_a_large_file_of_something_else_is_not_read_whole(sugar: Path) -> None:
    (sugar / "annotations.json").write_text('{"images": [' + "1, " * 100_000)  # would be an error if it were parsed
    assert len(read(sugar).questions) == 3


def test_an_entry_that_is_no_object_is_an_error(sugar: Path) -> None:
    write_json(sugar / "add_att.json", {"0": entry("0.jpg", 0), "1": "text"})
    with pytest.raises(DataError, match=r"add_att\.json: 1 has no filename"):
        read(sugar)


def test_a_broken_line_of_winoground_is_an_error_with_its_number(wino: Path) -> None:
    with (wino / "examples.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(DataError, match=r"examples\.jsonl:2: broken JSON line"):
        read(wino)

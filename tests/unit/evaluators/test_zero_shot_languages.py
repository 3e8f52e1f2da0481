"""Zero-shot classification by language, with prompts from files in four layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_model import build_tiny_model
from tests.unit.data.benchmarks import caption_layouts as layouts

from zebra.cli.main import main
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot_languages import evaluate_zero_shot_by_language, hash_prompts_by_language
from zebra.pretrained.bundle import Bundle
from zebra.protocols.language_prompts import has_languages, read_language_prompts

TEMPLATES = {"de": ("ein Foto von {}.", "{}"), "zh": ("{}的照片",)}
COLORS = tuple(layouts.COLORS)


@pytest.fixture(scope="module")
def clip() -> Bundle:
    return build_tiny_model()


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of each color, as a classification dataset."""
    folder = tmp_path_factory.mktemp("data") / "colors"
    samples = (
        (layouts.draw(color, 20 + size), "jpg", label) for label, color in enumerate(COLORS) for size in range(3)
    )
    write_classification(folder, samples, COLORS, ("a photo of {c}",), "test")
    return folder


@pytest.fixture(scope="module")
def benchmark(colors: Path) -> ClassificationBenchmark:
    loaded = load_dataset(colors)
    assert isinstance(loaded, ClassificationBenchmark)
    return loaded


def write_json(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def write_file(root: Path) -> Path:
    document = {code: {"classnames": layouts.WORDS[code], "templates": TEMPLATES[code]} for code in TEMPLATES}
    return write_json(root / "prompts.json", document)


def write_folders(root: Path) -> Path:
    for code, templates in TEMPLATES.items():
        (root / code).mkdir()
        (root / code / "classnames.txt").write_text("\n".join(layouts.WORDS[code]) + "\n", encoding="utf-8")
        path = root / code / "zeroshot_classification_templates.txt"
        path.write_text("\n".join(templates) + "\n", encoding="utf-8")
    return root


def write_clip_benchmark(root: Path) -> Path:
    for code, templates in TEMPLATES.items():
        write_json(root / f"{code}_classnames.json", {"colors": layouts.WORDS[code], "other": ["a"]})
        write_json(root / f"{code}_zeroshot_classification_templates.json", {"Colors": templates})
    write_json(root / "it_classnames.json", {"other": ["a"]})
    return root


def write_babel(root: Path) -> Path:
    document = {code.upper(): [list(range(4)), layouts.WORDS[code]] for code in TEMPLATES}
    write_json(root / "babel_imagenet.json", document)
    write_json(root / "nllb_dist13b_prompts.json", {code.upper(): TEMPLATES[code] for code in TEMPLATES})
    return root


def evaluate(clip: Bundle, benchmark: ClassificationBenchmark, path: Path, *languages: str) -> dict[str, TaskResult]:
    return {result.task: result for result in evaluate_zero_shot_by_language(clip, benchmark, str(path), languages)}


@pytest.mark.parametrize("write", [write_file, write_folders, write_clip_benchmark, write_babel])
def test_each_layout_gives_the_same_prompts(tmp_path: Path, write) -> None:
    path = write(tmp_path)
    assert has_languages(str(path))
    prompts = read_language_prompts(str(path), ("colors",), COLORS, ())
    assert list(prompts) == ["de", "zh"]
    for code, entry in prompts.items():
        assert entry.labels == (0, 1, 2, 3)
        assert entry.prompts.classnames == layouts.WORDS[code]
        assert entry.prompts.templates == TEMPLATES[code]


def test_prompts_of_one_language_are_no_prompts_by_language(tmp_path: Path) -> None:
    write_folders(tmp_path)
    assert not has_languages(str(tmp_path / "de"))
    assert not has_languages(str(write_json(tmp_path / "own.json", {"colors": ["a {}"]})))
    assert not has_languages("general")


def test_the_accuracy_of_a_language_is_that_of_its_authors(clip, benchmark, tmp_path) -> None:
    """Average the vectors of the prompts of a class, and take the best class (Babel-ImageNet's evaluation)."""
    classes = {"DE": [[1, 3], ["grün", "weiß"]], "ZH": [[0, 1, 2], ["红", "绿", "蓝"]]}
    write_json(tmp_path / "babel_imagenet.json", classes)
    write_json(tmp_path / "nllb_dist13b_prompts.json", {code.upper(): TEMPLATES[code] for code in TEMPLATES})
    results = evaluate(clip, benchmark, tmp_path)
    image_NE = clip.encode_images([benchmark.source.read(n).image for n in range(12)]).numpy()
    labels = np.repeat(np.arange(4), 3)
    values = []
    for code in ("de", "zh"):
        indices, names = classes[code.upper()]
        texts = [template.replace("{}", name) for name in names for template in TEMPLATES[code]]
        class_CE = clip.encode_texts(texts).numpy().reshape(len(names), len(TEMPLATES[code]), -1).mean(axis=1)
        class_CE /= np.linalg.norm(class_CE, axis=1, keepdims=True)
        used = np.isin(labels, indices)
        predicted = np.array(indices)[(image_NE[used] @ class_CE.T).argmax(axis=1)]
        score = results[f"zero-shot-{code}"].scores["top1"]
        assert (score.value, score.n) == (pytest.approx((predicted == labels[used]).mean()), used.sum())
        values.append(score.value)
    mean = results["zero-shot"].scores["top1"]
    assert mean.value == pytest.approx(
        np.mean([results[f"zero-shot-{code}"].scores["top1"].value for code in ("de", "zh")])
    )
    assert mean.n == 12
    assert "de: 2 of 4 classes have no name; their images are left out" in results["zero-shot-de"].notes
    assert any(
        note.startswith("zh: 100% of the tokens are parts") or "zh: " in note for note in results["zero-shot-zh"].notes
    )


def test_translations_by_name_need_not_cover_all_classes(clip, benchmark, tmp_path) -> None:
    document = {"sw": {"classnames": {"blue": "buluu", "Red": "nyekundu"}}}
    results = evaluate(clip, benchmark, write_json(tmp_path / "p.json", document))
    assert results["zero-shot-sw"].scores["top1"].n == 6
    labels = read_language_prompts(str(tmp_path / "p.json"), ("colors",), COLORS, ("{}",))["sw"]
    assert (labels.labels, labels.prompts.classnames) == ((0, 2), ("nyekundu", "buluu"))


def test_other_prompts_have_another_hash(benchmark, tmp_path) -> None:
    path = write_file(tmp_path)
    first = hash_prompts_by_language(benchmark, str(path), ())
    path.write_text(path.read_text(encoding="utf-8").replace("rot", "Rot"), encoding="utf-8")
    assert hash_prompts_by_language(benchmark, str(path), ()) != first


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"de": {"classnames": ["rot"], "templates": ["{}"]}}, "has 1 class names, but the dataset has 4"),
        ({"de": {"classnames": {"pink": "rosa"}}}, "there is no class 'pink'"),
        ({"de": {"classnames": {"red": "rot"}}}, "names for 1 classes"),
        ({"de": {"classnames": "rot"}}, "expected a list of class names"),
        ({"de": {"classnames": layouts.WORDS["de"], "templates": "{}"}}, "expected a list of templates"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(tmp_path: Path, document: object, message: str) -> None:
    path = write_json(tmp_path / "p.json", document)
    with pytest.raises(DataError, match=message):
        read_language_prompts(str(path), ("colors",), COLORS, ("{}",))


def test_labels_outside_the_dataset_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "babel_imagenet.json", {"DE": [[0, 9], ["rot", "grün"]]})
    with pytest.raises(DataError, match="labels outside the 4 classes"):
        read_language_prompts(str(tmp_path), ("colors",), COLORS, ("{}",))


def test_the_command_continues_only_with_equal_prompts(clip, colors, tmp_path, capsys) -> None:
    clip.save(tmp_path / "model")
    path = write_file(tmp_path)
    args = ["evaluate", str(tmp_path / "model"), str(colors), "--prompts", str(path), "--out", str(tmp_path / "out")]
    assert main([*args, "--languages", "zh"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["colors"]
    assert set(metrics) == {"zero-shot-zh", "zero-shot"}
    assert "Zero-shot classification by language on colors" in (tmp_path / "out" / "report.html").read_text()
    assert "zero-shot-zh" in capsys.readouterr().out

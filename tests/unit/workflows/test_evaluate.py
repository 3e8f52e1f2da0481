"""The evaluation as a whole: files in, the same numbers whichever way they are asked for, files out."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zebra
from zebra.cli.main import main
from zebra.config.compare import CompareConfig
from zebra.config.evaluate import EvaluateConfig
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.writer import write_classification, write_multilabel, write_retrieval
from zebra.errors import ConfigError, DataError
from zebra.evaluators import embeddings, zero_shot
from zebra.evaluators.limitations import list_limitation_datasets
from zebra.evaluators.results_io import read_results
from zebra.evaluators.validation import open_zero_shot_validators
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.workflows import compare, evaluate

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}
TEMPLATES = ("a {c} picture", "something {c}", "{c} all over")


def picture(colour, seed):
    noise = np.random.default_rng(seed).integers(-25, 26, (24, 24, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(count, seed):
    for number in range(count):
        label = number % 3
        yield picture(list(COLOURS.values())[label], seed * 1000 + number), "png", label


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Save two models, and write a labelled set with a training split and a captioned one."""
    root = tmp_path_factory.mktemp("world")
    for seed in (0, 1):
        torch.manual_seed(seed)
        words = BPETokenizer.train(
            [template.format(c="red green blue") for template in TEMPLATES] * 5, 560, 48
        )
        text = TextConfig(width=64, layers=1, heads=1, vocab_size=words.vocab_size, context_length=48)
        vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=8)
        config = ModelConfig(embed_dim=32, image_size=24, vision=vision, text=text)
        Bundle(CLIP(config), words, Preprocess(image_size=24)).save(root / f"model{seed}")
    for split, count, seed in (("test", 60, 1), ("train", 60, 2)):
        write_classification(root / "colours", samples(count, seed), list(COLOURS), TEMPLATES, split)
    captioned = ((picture(colour, 7), "png", [f"a {name} picture"]) for name, colour in COLOURS.items())
    write_retrieval(root / "captioned", captioned)
    return root


def config(world, out, **changes):
    told = {"model": str(world / "model0"), "datasets": (str(world / "colours"),), "out": str(out)} | changes
    return EvaluateConfig(**told)


def passes(clip):
    """Count how often a model's image tower runs."""
    seen = []
    clip.model.visual.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_images_are_encoded_once(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(world / "model0"), read_classification(world / "colours").source
    seen = passes(clip)
    first = embeddings.embed_source(clip, source)
    once = len(seen)
    again = embeddings.embed_source(clip, source)
    assert len(seen) == once > 0
    assert np.array_equal(first.vectors, again.vectors)
    assert (first.ids, first.labels.tolist()) == (again.ids, again.labels.tolist())


@pytest.mark.parametrize("change", ["weights", "precision", "data", "features"])
def test_changed_weights_precision_or_data_are_embedded_again(world, tmp_path, monkeypatch, change):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(world / "model0"), read_classification(world / "colours").source
    first = embeddings.embed_source(clip, source)
    if change == "weights":
        clip.model.visual.proj.data[0, 0] += 1
    elif change == "precision":
        clip = clip.to_precision("bf16")
    elif change == "data":
        source = read_classification(world / "colours", "train").source
    seen = []
    monkeypatch.setattr(
        clip, "encode_images", lambda images, projected: seen.extend(images) or torch.zeros(60, 32)
    )
    second = embeddings.embed_source(clip, source, projected=change != "features")
    assert len(seen) == 60
    assert not np.array_equal(first.vectors, second.vectors)


def test_damaged_embeddings_are_computed_again(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(world / "model0"), read_classification(world / "colours").source
    first = embeddings.embed_source(clip, source)
    for path in (tmp_path / "embeddings").rglob("*.lance"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.warns(UserWarning):
        again = embeddings.embed_source(clip, source)
    assert np.array_equal(first.vectors, again.vectors)


def test_the_oldest_embeddings_are_evicted(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    monkeypatch.setattr(embeddings, "MAX_EMBEDDING_CACHE_BYTES", 1)
    clip = zebra.load(world / "model0")
    for split in ("test", "train"):
        embeddings.embed_source(clip, read_classification(world / "colours", split).source)
    assert len(list((tmp_path / "embeddings").iterdir())) == 1


def test_a_validator_gives_the_score_of_the_evaluation(world, tmp_path):
    metrics = evaluate.run(config(world, tmp_path))
    (check,) = open_zero_shot_validators([str(world / "colours")], num_samples=10_000)
    assert check(zebra.load(world / "model0")) == metrics["colours"]["zero-shot"]["top1"].value


def test_the_files_contain_the_provenance_of_each_score(world, tmp_path):
    metrics = evaluate.run(config(world, tmp_path, tasks=("zero-shot", "prompts")))
    assert set(metrics["colours"]) == {"zero-shot", "zero-shot-one-prompt", "zero-shot-bare-name"}
    held = json.loads((tmp_path / "metrics.json").read_text())
    assert held["colours"]["zero-shot"]["top1"]["n"] == 60
    results = read_results(tmp_path / "results.jsonl")
    top1 = next(result for result in results if (result.task, result.metric) == ("zero-shot", "top1"))
    assert top1.score == metrics["colours"]["zero-shot"]["top1"]
    assert top1.provenance["fingerprint"] == zebra.load(world / "model0").fingerprint
    assert top1.dataset_digest == read_classification(world / "colours").source.digest
    assert len(top1.prompts_hash) == 16
    answers = pq.read_table(tmp_path / "predictions" / "colours.zero-shot.parquet")
    assert answers["correct"].to_pylist().count(True) == round(60 * top1.score.value)
    assert "Zero-shot" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_results_are_appended(world, tmp_path):
    for _ in range(2):
        evaluate.run(config(world, tmp_path, tasks=("zero-shot",)))
    results = read_results(tmp_path / "results.jsonl")
    assert [result.metric for result in results].count("top1") == 2


def test_a_probe_is_trained_on_the_training_split(world, tmp_path):
    told = config(world, tmp_path, tasks=("linear-probe", "few-shot"), shots=(1, 2, 4))
    metrics = evaluate.run(told)["colours"]
    assert metrics["linear-probe"]["top1"].value > 0.9
    assert metrics["linear-probe"]["top1"].n == 60
    assert set(metrics) == {"linear-probe", "few-shot-zero-shot", "few-shot-1", "few-shot-2", "few-shot-4"}


def test_without_a_training_split_the_dataset_is_split_in_half(world, tmp_path):
    write_classification(tmp_path / "alone", samples(60, 3), list(COLOURS), TEMPLATES)
    told = config(
        world, tmp_path / "out", datasets=(str(tmp_path / "alone"),), tasks=("few-shot",), shots=(1, 16)
    )
    metrics = evaluate.run(told)["alone"]
    assert metrics["few-shot-zero-shot"]["top1"].n == 30
    assert "few-shot-16" not in metrics  # ten examples of each class
    notes = read_results(tmp_path / "out" / "results.jsonl")[0].notes
    assert any("one half of the dataset" in note for note in notes)


def test_a_captioned_dataset_supports_only_retrieval(world, tmp_path):
    metrics = evaluate.run(config(world, tmp_path, datasets=(str(world / "captioned"),)))
    assert set(metrics["captioned"]) == {"retrieval"}
    with pytest.raises(ConfigError, match="none of the tasks few-shot is possible"):
        evaluate.run(config(world, tmp_path, datasets=(str(world / "captioned"),), tasks=("few-shot",)))


def test_a_prompt_search_reports_its_gain_on_unused_images(world, tmp_path):
    metrics = evaluate.run(config(world, tmp_path, tasks=("prompt-search",)))
    assert metrics["colours"]["prompt-search"]["gain"].n == 30


def test_an_unusable_output_path_is_refused_before_anything_is_computed(world, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="cannot create the directory --out"):
        evaluate.run(config(world, tmp_path / "out", model="nowhere"))


def test_two_datasets_with_one_name_are_refused(world, tmp_path):
    write_classification(tmp_path / "colours", samples(30, 9), list(COLOURS), TEMPLATES)
    both = (str(world / "colours"), str(tmp_path / "colours"))
    with pytest.raises(ConfigError, match="two datasets have the name 'colours'"):
        evaluate.run(config(world, tmp_path / "out", datasets=both))


def test_the_commands_print_scores_notes_and_a_paired_test(world, tmp_path, capsys):
    for seed in (0, 1):
        told = [
            "evaluate",
            str(world / f"model{seed}"),
            str(world / "colours"),
            "--out",
            str(tmp_path / str(seed)),
        ]
        assert main([*told, "--tasks", "zero-shot,few-shot", "--shots", "1,2"]) == 0
    said = capsys.readouterr().out
    assert "few-shot-2" in said
    assert "λ of the linear probe" in said
    assert main(["compare", str(tmp_path / "0"), str(tmp_path / "1")]) == 0
    assert "won" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "0"), str(tmp_path / "1"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["dataset"] == "colours"
    assert main(["compare", str(tmp_path / "0")]) == 2
    assert (
        main(["evaluate", str(world / "model0"), str(world / "colours"), "--out", "x", "--tasks", "zeroshot"])
        == 2
    )
    assert "zero-shot" in capsys.readouterr().err


@pytest.mark.parametrize("prompts", ["dataset", "general", "folder", "json"])
def test_prompts_come_from_the_dataset_the_package_or_the_user(world, tmp_path, prompts):
    (tmp_path / "mine.json").write_text(json.dumps({"colours": ["my {c} thing"]}))
    told = {"folder": str(world / "colours"), "json": str(tmp_path / "mine.json")}.get(prompts, prompts)
    found = zero_shot.resolve_prompts(read_classification(world / "colours"), told)
    assert found.classnames == tuple(COLOURS)
    assert len(found.templates) == {"dataset": 3, "general": 40, "folder": 3, "json": 1}[prompts]


def test_two_runs_are_compared_image_by_image(world, tmp_path):
    for seed in (0, 1):
        evaluate.run(
            config(world, tmp_path / str(seed), model=str(world / f"model{seed}"), tasks=("zero-shot",))
        )
    rows = compare.run(CompareConfig(runs=(str(tmp_path / "0"), str(tmp_path / "1"))))
    row = next(row for row in rows if row.metric == "top1")
    (test,) = row.comparisons.values()
    assert test.difference.value == pytest.approx(row.scores[0].value - row.scores[1].value)
    assert test.num_wins - test.num_losses == round(60 * test.difference.value)


def test_runs_on_different_data_are_not_compared(world, tmp_path):
    write_classification(tmp_path / "colours", samples(30, 9), list(COLOURS), TEMPLATES)
    for out, folder in (("a", world / "colours"), ("b", tmp_path / "colours")):
        evaluate.run(config(world, tmp_path / out, datasets=(str(folder),), tasks=("zero-shot",)))
    with pytest.raises(DataError, match="different data under the name colours"):
        compare.run(CompareConfig(runs=(str(tmp_path / "a"), str(tmp_path / "b"))))


def test_results_of_a_newer_version_are_refused_with_the_line(world, tmp_path):
    evaluate.run(config(world, tmp_path, tasks=("zero-shot",)))
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"version": 1', '"version": 99')]))
    with pytest.raises(DataError, match=r"results\.jsonl:2 was written by a newer zebra"):
        read_results(path)
    path.write_text("{}\n")
    with pytest.raises(DataError, match=r"results\.jsonl:1 is not a result"):
        read_results(path)


def test_class_vectors_average_over_synonyms(world):
    clip, own = (
        zebra.load(world / "model0"),
        zero_shot.resolve_prompts(read_classification(world / "colours"), "dataset"),
    )
    plain = zero_shot.build_zero_shot_classifier(clip, own)
    more = zero_shot.build_zero_shot_classifier(clip, replace(own, synonyms={"red": ("crimson",)}))
    assert np.allclose(plain[1:], more[1:], atol=1e-6)
    assert not np.allclose(plain[0], more[0], atol=1e-3)


def test_a_multilabel_dataset_gets_one_probe_per_class(world, tmp_path):
    folder = tmp_path / "several"
    for split, seed in (("test", 1), ("train", 2)):
        labelled = [(image, suffix, np.arange(3) == label) for image, suffix, label in samples(60, seed)]
        write_multilabel(folder, labelled, list(COLOURS), TEMPLATES, split)
    told = config(world, tmp_path / "out", datasets=(str(folder),), tasks=("linear-probe",))
    assert evaluate.run(told)["several"]["linear-probe"]["map"].value > 0.9


def test_a_multilabel_dataset_without_training_split_is_refused(world, tmp_path):
    labelled = [(image, suffix, np.arange(3) == label) for image, suffix, label in samples(9, 1)]
    write_multilabel(tmp_path / "several", labelled, list(COLOURS), TEMPLATES)
    told = config(world, tmp_path / "out", datasets=(str(tmp_path / "several"),), tasks=("linear-probe",))
    with pytest.raises(DataError, match="several has no training split"):
        evaluate.run(told)


def test_limitations_are_the_built_in_datasets_and_local_ones_of_the_paper(tmp_path):
    built_in = list_limitation_datasets(None)
    assert all(name.startswith("menagerie/") for name in built_in)
    (tmp_path / "mnist").mkdir()
    assert list_limitation_datasets(str(tmp_path)) == (*built_in, "mnist")
    with pytest.raises(DataError, match="nowhere is not a directory"):
        list_limitation_datasets(str(tmp_path / "nowhere"))


def test_the_report_shows_limitations_that_were_evaluated(world, tmp_path):
    shutil.copytree(world / "colours", tmp_path / "kitti")
    for folder, shown in ((tmp_path / "kitti", True), (world / "colours", False)):
        told = config(world, tmp_path / "out", datasets=(str(folder),), tasks=("zero-shot",))
        evaluate.run(told)
        page = (tmp_path / "out" / "report.html").read_text()
        assert ("distance: kitti" in page) is shown

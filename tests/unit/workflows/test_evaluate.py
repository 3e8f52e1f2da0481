"""Tests of `zebra evaluate` and `zebra compare`."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import zebra
from zebra.cli.main import main
from zebra.config.compare import CompareConfig
from zebra.config.evaluate import EvaluateConfig
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.writer import write_classification, write_multilabel, write_retrieval
from zebra.errors import ConfigError, DataError
from zebra.evaluators import embeddings, shard_cache, zero_shot
from zebra.evaluators.read_counter import ReadCounter
from zebra.evaluators.results_io import read_results
from zebra.evaluators.validation import open_zero_shot_validators
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import find_equal_classes
from zebra.text.bpe import BPETokenizer
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.workflows import compare, evaluate

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}
TEMPLATES = ("a {c} picture", "something {c}", "{c} all over")


def make_image(color, seed):
    noise = np.random.default_rng(seed).integers(-25, 26, (24, 24, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(count, seed):
    for number in range(count):
        label = number % 3
        yield make_image(list(COLORS.values())[label], seed * 1000 + number), "png", label


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Save two models and write a labeled dataset with a training split and a captioned dataset."""
    root = tmp_path_factory.mktemp("evaluation")
    for seed in (0, 1):
        torch.manual_seed(seed)
        tokenizer = BPETokenizer.train([template.format(c="red green blue") for template in TEMPLATES] * 5, 560, 48)
        text = TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=48)
        vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=8)
        config = ModelConfig(embed_dim=32, image_size=24, vision=vision, text=text)
        Bundle(CLIP(config), tokenizer, Preprocess(image_size=24)).save(root / f"model{seed}")
    for split, count, seed in (("test", 60, 1), ("train", 60, 2)):
        write_classification(root / "colors", samples(count, seed), list(COLORS), TEMPLATES, split)
    captioned = ((make_image(color, 7), "png", [f"a {name} picture"]) for name, color in COLORS.items())
    write_retrieval(root / "captioned", captioned)
    return root


def make_config(directory, out, **changes):
    args = {"model": str(directory / "model0"), "datasets": (str(directory / "colors"),), "out": str(out)} | changes
    return EvaluateConfig(**args)


def count_encoder_calls(clip):
    """Count the calls of the image encoder."""
    calls = []
    clip.model.visual.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_images_are_encoded_once(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(directory / "model0"), read_classification(directory / "colors").source
    calls = count_encoder_calls(clip)
    first = embeddings.embed_source(clip, source)
    num_calls = len(calls)
    second = embeddings.embed_source(clip, source)
    assert len(calls) == num_calls > 0
    assert np.array_equal(first.vectors, second.vectors)
    assert (first.ids, first.labels.tolist()) == (second.ids, second.labels.tolist())


def test_images_that_are_encoded_are_reported_once(directory, tmp_path, monkeypatch):
    reports = []
    config = make_config(directory, tmp_path, tasks=("zero-shot", "prompts", "linear-probe", "few-shot"), seed=3)
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    evaluate.run(config, progress=lambda *report: reports.append(report))
    assert reports == [(done, 60, name) for name in ("colors", "colors training split") for done in range(61)]
    evaluate.run(replace(config, out=str(tmp_path / "again")), progress=lambda *report: reports.append(report))
    assert len(reports) == 122  # nothing is encoded again


def test_the_images_of_captioned_data_are_reported_once(directory, tmp_path, monkeypatch):
    reports = []
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    config = make_config(directory, tmp_path, datasets=(str(directory / "captioned"),))
    evaluate.run(config, progress=lambda *report: reports.append(report))
    assert [done for done, _total, _name in reports] == [0, 1, 2, 3]


def test_a_log_has_lines_for_the_images_and_the_scores(directory, tmp_path, cli, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    output = cli("evaluate", directory / "model0", directory / "colors", "--out", tmp_path / "run")
    first, last = output.err.splitlines()
    assert first == "evaluating 0/60 · colors"
    assert last.startswith("evaluating 60/60 · colors · took ")
    assert "zero-shot" in output.out


@pytest.mark.parametrize("change", ["weights", "precision", "data", "features"])
def test_changed_weights_precision_or_data_are_embedded_again(directory, tmp_path, monkeypatch, change):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(directory / "model0"), read_classification(directory / "colors").source
    first = embeddings.embed_source(clip, source)
    if change == "weights":
        clip.model.visual.proj.data[0, 0] += 1
    elif change == "precision":
        clip = clip.to_precision("bf16")
    elif change == "data":
        source = read_classification(directory / "colors", "train").source
    reads = []
    counted = ReadCounter(source, lambda done, _total: reads.append(done))
    second = embeddings.embed_source(clip, counted, projected=change != "features")
    assert reads[-1] == 60
    assert not np.array_equal(first.vectors, second.vectors)


def test_damaged_embeddings_are_computed_again(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    clip, source = zebra.load(directory / "model0"), read_classification(directory / "colors").source
    first = embeddings.embed_source(clip, source)
    (shard,) = (tmp_path / "embeddings").rglob("*.safetensors")
    complete = shard.read_bytes()
    for damaged in (b"", complete[:-1], complete[:-1] + bytes([complete[-1] ^ 1])):
        shard.write_bytes(damaged)
        second = embeddings.embed_source(clip, source)
        assert np.array_equal(first.vectors, second.vectors)
        assert len(shard.read_bytes()) == len(complete)


def test_the_oldest_embeddings_are_evicted(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    monkeypatch.setattr(shard_cache, "MAX_EMBEDDING_CACHE_BYTES", 1)
    clip = zebra.load(directory / "model0")
    for split in ("test", "train"):
        embeddings.embed_source(clip, read_classification(directory / "colors", split).source)
    assert len(list((tmp_path / "embeddings").iterdir())) == 1


def test_a_validator_gives_the_score_of_the_evaluation(directory, tmp_path):
    metrics = evaluate.run(make_config(directory, tmp_path))
    (validator,) = open_zero_shot_validators([str(directory / "colors")], num_samples=10_000)
    assert validator(zebra.load(directory / "model0")) == {"colors": metrics["colors"]["zero-shot"]["top1"].value}


def test_the_scores_are_written_as_a_table_and_the_terminal_names_the_worst_class(directory, tmp_path, cli):
    table = tmp_path / "scores.csv"
    result = cli(*("evaluate", directory / "model0", directory / "colors", "--out", tmp_path / "out", "--table", table))
    with table.open(newline="") as file:
        rows = {(row["task"], row["metric"]): row for row in csv.DictReader(file)}
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["colors"]
    assert float(rows["zero-shot", "top1"]["value"]) == scores["zero-shot"]["top1"]["value"]
    assert len(rows) == sum(map(len, scores.values()))
    assert "least accurate classes: " in result.out and " taken for " in result.out
    assert "Worst errors on colors" in (tmp_path / "out" / "report.html").read_text()


def test_a_format_without_a_file_is_printed_alone_on_standard_output(directory, tmp_path, cli):
    arguments = ("evaluate", directory / "model0", directory / "colors", "--out", tmp_path / "out", "--format")
    result = cli(*arguments, "csv", "--tasks", "zero-shot")
    lines = list(csv.DictReader(result.out.splitlines()))
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["colors"]["zero-shot"]
    assert {line["metric"]: float(line["value"]) for line in lines} == {m: s["value"] for m, s in scores.items()}
    assert "least accurate classes: " in result.err and "metrics.json" in result.err
    card = ModelCard(cli(*arguments, "hf-card", "--tasks", "prompts").out)
    assert {result.task_name for result in card.data.eval_results} == {"zero-shot-one-prompt", "zero-shot-bare-name"}
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    readme = tmp_path / "README.md"
    cli(*arguments, "hf-card", "--table", readme)
    assert len(ModelCard.load(readme).data.eval_results) > len(lines)


def test_the_files_contain_the_provenance_of_each_score(directory, tmp_path):
    metrics = evaluate.run(make_config(directory, tmp_path, tasks=("zero-shot", "prompts")))
    assert set(metrics["colors"]) == {"zero-shot", "zero-shot-one-prompt", "zero-shot-bare-name"}
    metrics_json = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics_json["colors"]["zero-shot"]["top1"]["n"] == 60
    results = read_results(tmp_path / "results.jsonl")
    top1 = next(result for result in results if (result.task, result.metric) == ("zero-shot", "top1"))
    assert top1.score == metrics["colors"]["zero-shot"]["top1"]
    assert top1.provenance["fingerprint"] == zebra.load(directory / "model0").fingerprint
    assert top1.dataset_digest == read_classification(directory / "colors").source.digest
    assert len(top1.prompts_hash) == 16
    predictions = pq.read_table(tmp_path / "predictions" / "colors.zero-shot.parquet")
    assert predictions["correct"].to_pylist().count(True) == round(60 * top1.score.value)
    assert "Zero-shot" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_results_are_appended(directory, tmp_path):
    for _ in range(2):
        evaluate.run(make_config(directory, tmp_path, tasks=("zero-shot",)))
    results = read_results(tmp_path / "results.jsonl")
    assert [result.metric for result in results].count("top1") == 2


def test_a_probe_is_trained_on_the_training_split(directory, tmp_path):
    args = make_config(directory, tmp_path, tasks=("linear-probe", "few-shot"), shots=(1, 2, 4))
    metrics = evaluate.run(args)["colors"]
    assert metrics["linear-probe"]["top1"].value > 0.9
    assert metrics["linear-probe"]["top1"].n == 60
    assert set(metrics) == {"linear-probe", "few-shot-zero-shot", "few-shot-1", "few-shot-2", "few-shot-4"}


def test_without_a_training_split_the_dataset_is_split_in_half(directory, tmp_path):
    write_classification(tmp_path / "alone", samples(60, 3), list(COLORS), TEMPLATES)
    args = make_config(
        directory, tmp_path / "out", datasets=(str(tmp_path / "alone"),), tasks=("few-shot",), shots=(1, 16)
    )
    metrics = evaluate.run(args)["alone"]
    assert metrics["few-shot-zero-shot"]["top1"].n == 30
    assert "few-shot-16" not in metrics  # ten examples of each class
    notes = read_results(tmp_path / "out" / "results.jsonl")[0].notes
    assert any("one half of the dataset" in note for note in notes)


def test_a_captioned_dataset_supports_only_retrieval(directory, tmp_path):
    metrics = evaluate.run(make_config(directory, tmp_path, datasets=(str(directory / "captioned"),)))
    assert set(metrics["captioned"]) == {"retrieval"}
    with pytest.raises(ConfigError, match="none of the tasks few-shot is possible"):
        evaluate.run(make_config(directory, tmp_path, datasets=(str(directory / "captioned"),), tasks=("few-shot",)))


def test_a_prompt_search_reports_its_gain_on_unused_images(directory, tmp_path):
    metrics = evaluate.run(make_config(directory, tmp_path, tasks=("prompt-search",)))
    assert metrics["colors"]["prompt-search"]["gain"].n == 30


def test_an_unusable_output_path_is_refused_before_anything_is_computed(directory, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="cannot create the directory --out"):
        evaluate.run(make_config(directory, tmp_path / "out", model="nowhere"))


def test_two_datasets_with_one_name_are_refused(directory, tmp_path):
    write_classification(tmp_path / "colors", samples(30, 9), list(COLORS), TEMPLATES)
    both = (str(directory / "colors"), str(tmp_path / "colors"))
    with pytest.raises(ConfigError, match="two datasets have the name 'colors'"):
        evaluate.run(make_config(directory, tmp_path / "out", datasets=both))


def test_the_commands_print_scores_notes_and_a_paired_test(directory, tmp_path, capsys):
    for seed in (0, 1):
        args = [
            "evaluate",
            str(directory / f"model{seed}"),
            str(directory / "colors"),
            "--out",
            str(tmp_path / str(seed)),
        ]
        assert main([*args, "--tasks", "zero-shot,few-shot", "--shots", "1,2"]) == 0
    output = capsys.readouterr().out
    assert "few-shot-2" in output
    assert "λ of the linear probe" in output
    assert main(["compare", str(tmp_path / "0"), str(tmp_path / "1")]) == 0
    assert "won" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "0"), str(tmp_path / "1"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["dataset"] == "colors"
    assert main(["compare", str(tmp_path / "0")]) == 2
    assert (
        main(["evaluate", str(directory / "model0"), str(directory / "colors"), "--out", "x", "--tasks", "zeroshot"])
        == 2
    )
    assert "zero-shot" in capsys.readouterr().err


@pytest.mark.parametrize("prompts", ["dataset", "general", "folder", "json"])
def test_prompts_come_from_the_dataset_the_package_or_the_user(directory, tmp_path, prompts):
    (tmp_path / "prompts.json").write_text(json.dumps({"colors": ["my {c} thing"]}))
    spec = {"folder": str(directory / "colors"), "json": str(tmp_path / "prompts.json")}.get(prompts, prompts)
    prompt_set = zero_shot.resolve_prompts(read_classification(directory / "colors"), spec, DEFAULT_TEMPLATES)
    assert prompt_set.classnames == tuple(COLORS)
    assert len(prompt_set.templates) == {"dataset": 3, "general": 40, "folder": 3, "json": 1}[prompts]


def test_a_dataset_without_templates_is_evaluated_with_those_of_the_model(directory):
    benchmark = replace(read_classification(directory / "colors"), templates=())
    clip = zebra.load(directory / "model0")
    clip.templates = ("{}", "my {}")
    result = zero_shot.evaluate_zero_shot(clip, benchmark).task_results()[0]
    assert any("{} | my {}" in note for note in result.notes)
    expected = zero_shot.PromptSet("colors", "custom", ("{}", "my {}"), benchmark.classnames)
    assert result.prompts_hash == expected.hash
    assert zero_shot.resolve_prompts(read_classification(directory / "colors"), "model", ("{}",)).templates == ("{}",)


def test_a_prompt_search_tries_the_bare_name_and_the_model_s_templates(directory):
    benchmark = read_classification(directory / "colors")
    clip = zebra.load(directory / "model0")
    clip.templates = ("zz {}",)
    prompts = zero_shot.resolve_prompts(benchmark, "dataset", clip.templates)
    tried = []
    encode_texts = clip.encode_texts
    clip.encode_texts = lambda texts: (tried.extend(texts), encode_texts(texts))[1]
    zero_shot.evaluate_prompt_search(clip, benchmark, prompts, seed=0)
    assert {benchmark.classnames[0], f"zz {benchmark.classnames[0]}"} <= set(tried)


@pytest.fixture
def repeated(directory, tmp_path):
    """Return a function that copies the dataset of three colors with other class names, for both splits."""

    def copy(names):
        folder = shutil.copytree(directory / "colors", tmp_path / "repeated")
        (folder / "classnames.txt").write_text("".join(f"{name}\n" for name in names))
        return folder

    return copy


@pytest.mark.parametrize("names", [["red", "green", "red"], ["red", "green", "Red"], ["red ", "green", " red"]])
@pytest.mark.parametrize("prompts", ["dataset", "general", "folder", "json"])
def test_of_classes_that_are_one_text_the_first_is_predicted_with_a_note(directory, tmp_path, repeated, names, prompts):
    folder = repeated(names)
    (tmp_path / "prompts.json").write_text(json.dumps({"repeated": ["my {c} thing"]}))
    spec = {"folder": str(folder), "json": str(tmp_path / "prompts.json")}.get(prompts, prompts)
    evaluate.run(make_config(directory, tmp_path / "out", datasets=(str(folder),), prompts=spec))
    predictions = pq.read_table(tmp_path / "out" / "predictions" / "repeated.zero-shot.parquet")
    assert {ranked[0] for ranked in predictions["ranked"].to_pylist()} <= {0, 1}
    assert all(ranked.index(0) + 1 == ranked.index(2) for ranked in predictions["ranked"].to_pylist())
    (notes,) = {
        result.notes for result in read_results(tmp_path / "out" / "results.jsonl") if result.task == "zero-shot"
    }
    assert any("1 of 3 classes are the same text to the model" in note and "2 " in note for note in notes)


def test_a_probe_needs_no_distinct_names(directory, tmp_path, repeated):
    config = make_config(
        directory, tmp_path / "out", datasets=(str(repeated(["red", "red", "red"])),), tasks=("linear-probe",)
    )
    assert evaluate.run(config)["repeated"]["linear-probe"]["top1"].value > 0.9


def test_a_class_with_an_empty_name_is_scored_with_a_note(directory, tmp_path, repeated):
    config = make_config(
        directory, tmp_path / "out", datasets=(str(repeated(["red", "", "blue"])),), tasks=("zero-shot",)
    )
    assert evaluate.run(config)["repeated"]["zero-shot"]["top1"].n == 60
    notes = read_results(tmp_path / "out" / "results.jsonl")[0].notes
    assert "the class 1 has an empty name, so its prompts are the templates alone" in notes


def test_a_validator_scores_repeated_names_with_a_warning(directory, repeated):
    (validator,) = open_zero_shot_validators([str(repeated(["red", "green", "red"]))], num_samples=60)
    with pytest.warns(UserWarning, match="repeated: 1 of 3 classes are the same text to the model"):
        validator(zebra.load(directory / "model0"))


def test_synonyms_distinguish_classes_with_one_name(directory):
    clip = zebra.load(directory / "model0")
    sentences = {"a": ("red all over",), "b": ("Red all over",), "c": ("red all over", "something red")}
    class_CE = zero_shot.build_zero_shot_classifier(
        clip, PromptSet("s", "custom", (), ("a", "b", "c"), sentences=sentences)
    )
    assert find_equal_classes(class_CE) == [0, 0, 2]


def test_each_prompt_set_of_the_ablation_has_its_own_hash(directory, tmp_path):
    evaluate.run(make_config(directory, tmp_path))
    hashes = {result.task: result.prompts_hash for result in read_results(tmp_path / "results.jsonl")}
    own = PromptSet("colors", "dataset", TEMPLATES, tuple(COLORS))
    assert hashes == {
        "zero-shot": own.hash,
        "zero-shot-one-prompt": replace(own, templates=TEMPLATES[:1]).hash,
        "zero-shot-bare-name": replace(own, templates=("{}",)).hash,
    }
    assert len(set(hashes.values())) == 3


def test_two_runs_are_compared_image_by_image(directory, tmp_path):
    for seed in (0, 1):
        evaluate.run(
            make_config(directory, tmp_path / str(seed), model=str(directory / f"model{seed}"), tasks=("zero-shot",))
        )
    rows = compare.run(CompareConfig(runs=(str(tmp_path / "0"), str(tmp_path / "1"))))
    row = next(row for row in rows if row.metric == "top1")
    (test,) = row.comparisons.values()
    assert test.difference.value == pytest.approx(row.scores[0].value - row.scores[1].value)
    assert test.num_wins - test.num_losses == round(60 * test.difference.value)


def test_runs_on_different_data_are_not_compared(directory, tmp_path):
    write_classification(tmp_path / "colors", samples(30, 9), list(COLORS), TEMPLATES)
    for out, folder in (("a", directory / "colors"), ("b", tmp_path / "colors")):
        evaluate.run(make_config(directory, tmp_path / out, datasets=(str(folder),), tasks=("zero-shot",)))
    with pytest.raises(DataError, match="different data under the name colors"):
        compare.run(CompareConfig(runs=(str(tmp_path / "a"), str(tmp_path / "b"))))


def test_results_of_a_newer_version_are_refused_with_the_line(directory, tmp_path):
    evaluate.run(make_config(directory, tmp_path, tasks=("zero-shot",)))
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"version": 1', '"version": 99')]))
    with pytest.raises(DataError, match=r"results\.jsonl:2 was written by a newer zebra"):
        read_results(path)
    path.write_text("{}\n")
    with pytest.raises(DataError, match=r"results\.jsonl:1 is not a result"):
        read_results(path)


def test_class_vectors_average_over_synonyms(directory):
    clip, own = (
        zebra.load(directory / "model0"),
        zero_shot.resolve_prompts(read_classification(directory / "colors"), "dataset", DEFAULT_TEMPLATES),
    )
    without_synonyms = zero_shot.build_zero_shot_classifier(clip, own)
    with_synonyms = zero_shot.build_zero_shot_classifier(clip, replace(own, synonyms={"red": ("crimson",)}))
    assert np.allclose(without_synonyms[1:], with_synonyms[1:], atol=1e-6)
    assert not np.allclose(without_synonyms[0], with_synonyms[0], atol=1e-3)


def test_a_multilabel_dataset_gets_one_probe_per_class(directory, tmp_path):
    folder = tmp_path / "several"
    for split, seed in (("test", 1), ("train", 2)):
        multilabel = [(image, suffix, np.arange(3) == label) for image, suffix, label in samples(60, seed)]
        write_multilabel(folder, multilabel, list(COLORS), TEMPLATES, split)
    args = make_config(directory, tmp_path / "out", datasets=(str(folder),), tasks=("linear-probe",))
    assert evaluate.run(args)["several"]["linear-probe"]["map"].value > 0.9


def test_a_multilabel_dataset_without_training_split_is_refused(directory, tmp_path):
    multilabel = [(image, suffix, np.arange(3) == label) for image, suffix, label in samples(9, 1)]
    write_multilabel(tmp_path / "several", multilabel, list(COLORS), TEMPLATES)
    args = make_config(directory, tmp_path / "out", datasets=(str(tmp_path / "several"),), tasks=("linear-probe",))
    with pytest.raises(DataError, match="several has no training split"):
        evaluate.run(args)


def test_the_report_shows_limitations_that_were_evaluated(directory, tmp_path):
    shutil.copytree(directory / "colors", tmp_path / "kitti")
    for folder, shown in ((tmp_path / "kitti", True), (directory / "colors", False)):
        args = make_config(directory, tmp_path / "out", datasets=(str(folder),), tasks=("zero-shot",))
        evaluate.run(args)
        page = (tmp_path / "out" / "report.html").read_text()
        assert ("distance: kitti" in page) is shown

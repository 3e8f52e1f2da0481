"""Retrieval in several languages with a model: one pass over the images, one result per language, and the mean."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_model import build_tiny_model
from tests.unit.data.benchmarks import caption_layouts as layouts

from zebra.cli.main import main
from zebra.data.benchmarks.languages import (
    detect_script,
    find_language,
    load_languages,
    name_language,
    select_languages,
)
from zebra.data.benchmarks.tasks import MultilingualRetrievalBenchmark, RetrievalBenchmark
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.languages import evaluate_multilingual_retrieval
from zebra.evaluators.predictions import get_sample_scores
from zebra.evaluators.results import TaskResult
from zebra.evaluators.retrieval import evaluate_retrieval
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import match_in_batches


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("languages")
    layouts.write_crossmodal(root)
    layouts.write_urban1k(root)
    return layouts.write_dci(root)


@pytest.fixture(scope="module")
def clip() -> Bundle:
    return build_tiny_model()


@pytest.fixture(scope="module")
def benchmark(root: Path) -> MultilingualRetrievalBenchmark:
    loaded = load_dataset("crossmodal_3600", data_root=root)
    assert isinstance(loaded, MultilingualRetrievalBenchmark)
    return loaded


@pytest.fixture(scope="module")
def results(clip: Bundle, benchmark: MultilingualRetrievalBenchmark) -> list[TaskResult]:
    return list(evaluate_multilingual_retrieval(clip, benchmark, ""))


def recall_by_hand(clip: Bundle, benchmark: MultilingualRetrievalBenchmark, language: str) -> dict[str, float]:
    """Return recall at 1 in both directions by the formula of Babel-ImageNet: any caption of the image, top 1."""
    images = clip.encode_images([benchmark.source.read(n).image for n in range(len(benchmark.source))])
    rows = benchmark.captions[language]
    image_of_text = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    scores = (clip.encode_texts([text for row in rows for text in row]) @ images.T).numpy()
    return {
        "text_to_image_recall@1": float((scores.argmax(axis=1) == image_of_text).mean()),
        "image_to_text_recall@1": float((image_of_text[scores.argmax(axis=0)] == np.arange(len(rows))).mean()),
    }


def test_there_is_a_result_per_language_and_the_mean(results, benchmark) -> None:
    assert [result.task for result in results] == [*(f"retrieval-{code}" for code in layouts.WORDS), "retrieval"]
    assert {result.dataset for result in results} == {"crossmodal_3600"}
    for metric, score in results[-1].scores.items():
        assert score.value == pytest.approx(np.mean([result.scores[metric].value for result in results[:-1]]))
        assert score.low <= score.value <= score.high
    assert benchmark.metric in results[-1].scores


@pytest.mark.filterwarnings("ignore:.*truncated")
@pytest.mark.parametrize("language", ["de", "he", "zh"])
def test_the_recall_of_a_language_is_that_of_its_authors(results, clip, benchmark, language) -> None:
    result = next(result for result in results if result.task == f"retrieval-{language}")
    expected = recall_by_hand(clip, benchmark, language)
    assert {metric: result.scores[metric].value for metric in expected} == pytest.approx(expected)


def test_images_pass_the_model_once(clip, benchmark, monkeypatch) -> None:
    reads: list[int] = []
    source = benchmark.source
    counted = replace(source, load=lambda index: (reads.append(index), source.load(index))[1])
    list(evaluate_multilingual_retrieval(clip, replace(benchmark, source=counted), ""))
    assert sorted(reads) == list(range(len(source)))


def test_the_mean_names_the_worst_language_and_what_it_is_over(results) -> None:
    notes = " ".join(results[-1].notes)
    assert "mean over 10 languages, each with equal weight" in notes
    assert "text_to_image_recall@1: worst in " in notes


def test_a_script_that_the_tokenizer_does_not_know_is_noted_for_its_language(results) -> None:
    notes = {result.task.removeprefix("retrieval-"): " ".join(result.notes) for result in results}
    assert "zh: 100% of the tokens are parts of characters" in notes["zh"]
    assert "th: 12 of 12" not in notes["th"]
    assert "parts of characters" not in notes["en"]
    assert "see the notes on" in notes["retrieval"]


def test_rows_of_the_mean_average_to_its_scores(results) -> None:
    for metric, score in results[-1].scores.items():
        samples = get_sample_scores(results[-1].predictions, metric)
        assert samples is not None
        assert np.mean(samples.value_N) == pytest.approx(score.value)


def test_only_requested_languages_are_evaluated(clip, benchmark) -> None:
    results = list(evaluate_multilingual_retrieval(clip, benchmark, "", ["deu", "sw"]))
    assert [result.task for result in results] == ["retrieval-de", "retrieval"]
    assert "no captions in Swahili" in results[-1].notes
    assert any(note.startswith("mean over 1 of 10 languages") for note in results[-1].notes)


@pytest.mark.parametrize(("requested", "message"), [("sw", "no Swahili"), ("dee", "no language 'dee'")])
def test_a_language_that_is_not_there_is_refused(clip, benchmark, requested, message) -> None:
    with pytest.raises(DataError, match=message):
        list(evaluate_multilingual_retrieval(clip, benchmark, "", [requested]))


def test_an_image_without_a_caption_in_a_language_is_left_out_there(clip, benchmark, results) -> None:
    captions = {**benchmark.captions, "de": (*benchmark.captions["de"][:3], ())}
    partial = list(evaluate_multilingual_retrieval(clip, replace(benchmark, captions=captions), ""))
    german = next(result for result in partial if result.task == "retrieval-de")
    assert german.scores["image_to_text_recall@1"].n == 3
    assert "de: 1 of 4 images have no caption and are left out" in german.notes
    assert partial[0].scores == results[0].scores


def test_truncated_captions_are_counted(clip, root) -> None:
    benchmark = load_dataset("urban1k", data_root=root)
    assert isinstance(benchmark, RetrievalBenchmark)
    result = evaluate_retrieval(clip, benchmark, "a very long prefix of many words that the context has no room for ")
    assert any("3 of 3 texts are longer than the context of 16 tokens" in note for note in result.notes)


def test_the_matching_of_dci_is_the_only_score_of_its_crops(clip, root) -> None:
    benchmark = load_dataset("sdci_crops", data_root=root)
    assert isinstance(benchmark, RetrievalBenchmark)
    assert list(evaluate_retrieval(clip, benchmark, "").scores) == ["matching_of_8"]


def test_the_report_shows_scores_that_are_no_recall(clip, root, tmp_path, capsys) -> None:
    clip.save(tmp_path / "model")
    out = tmp_path / "out"
    args = ["sdci_crops", "urban1k", "--data-root", str(root), "--out", str(out)]
    assert main(["evaluate", str(tmp_path / "model"), *args]) == 0
    page = (out / "report.html").read_text()
    assert "Matching on sdci_crops" in page
    assert "Retrieval on urban1k" in page


def test_matching_is_the_formula_of_the_authors_of_dci() -> None:
    rng = np.random.default_rng(0)
    image_NE, text_NE = (rng.standard_normal((2, 21, 5)) + 0.2).astype(np.float32)
    correct = 0
    for start in range(0, 21, 8):  # argmax over the captions of a batch, the last of five
        similarity = image_NE[start : start + 8] @ text_NE[start : start + 8].T
        correct += int((similarity.argmax(axis=1) == np.arange(len(similarity))).sum())
    score = match_in_batches(image_NE, text_NE, 8, np.arange(21) // 3)
    assert score.value == pytest.approx(correct / 21)
    assert 0 < correct < 21


def test_equal_captions_are_no_match() -> None:
    image_NE = np.eye(3, dtype=np.float32)
    assert match_in_batches(image_NE, np.ones((3, 3), np.float32), 8, np.arange(3)).value == 0


def test_the_command_prints_a_line_per_language(clip, root, tmp_path, capsys) -> None:
    clip.save(tmp_path / "model")
    out = tmp_path / "out"
    args = ["crossmodal_3600", "--data-root", str(root), "--languages", "de,ru", "--out", str(out)]
    assert main(["evaluate", str(tmp_path / "model"), *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("crossmodal_3600")] == [
        "retrieval-de",
        "retrieval-ru",
        "retrieval",
    ]
    metrics = json.loads((out / "metrics.json").read_text())["crossmodal_3600"]
    assert set(metrics) == {"retrieval-de", "retrieval-ru", "retrieval"}
    assert (out / "predictions" / "crossmodal_3600.retrieval-ru.parquet").exists()


def test_codes_find_languages() -> None:
    assert {find_language(code).name for code in ("de", "DEU", "deu_Latn", "de-AT")} == {"German"}  # type: ignore[union-attr]
    assert [find_language(code).code for code in ("jp", "cn", "zho_Hant", "iw")] == ["ja", "zh", "zh", "he"]  # type: ignore[union-attr]
    assert find_language("tlh") is None
    assert (name_language("zho_Hant"), name_language("tlh")) == ("Chinese (Hant)", "tlh")


def test_a_language_selects_all_its_scripts() -> None:
    available = ["deu_Latn", "zho_Hans", "zho_Hant", "rus_Cyrl"]
    assert select_languages(available, ["zh", "de"], "x") == (("deu_Latn", "zho_Hans", "zho_Hant"), ())
    assert select_languages(available, ["zho_hant"], "x") == (("zho_Hant",), ())
    assert select_languages(available, ["all"], "x") == select_languages(available, [], "x") == (tuple(available), ())


def test_homes_are_on_the_globe_and_codes_are_distinct() -> None:
    languages = {language.code: language for language in load_languages().values()}
    assert all(abs(home[0]) < 72 and abs(home[1]) <= 180 for language in languages.values() if (home := language.home))
    assert len(languages) > 200


def test_scripts_are_those_of_the_letters() -> None:
    scripts = {code: detect_script(words) for code, words in layouts.WORDS.items()}
    assert scripts == {
        "en": "Latin",
        "de": "Latin",
        "ru": "Cyrillic",
        "el": "Greek",
        "he": "Hebrew",
        "ar": "Arabic",
        "hi": "Devanagari",
        "th": "Thai",
        "ko": "Hangul",
        "zh": "Han",
    }
    assert detect_script(["42!"]) == ""

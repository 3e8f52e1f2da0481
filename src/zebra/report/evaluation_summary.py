"""Title, lead and key numbers of the evaluation report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from zebra.evaluators.results import TaskResult
from zebra.pretrained.locate import is_hub_model
from zebra.report.page import Headline
from zebra.report.style import format_percent
from zebra.values import Score

MAX_HEADLINES = 4
MAIN_METRICS = {
    ("zero-shot", "top1"): "zero-shot accuracy",
    ("zero-shot", "map"): "zero-shot mean average precision",
    ("retrieval", "image_to_text_recall@1"): "of images find their caption first",
    ("retrieval", "text_to_image_recall@1"): "of captions find their image first",
    ("linear-probe", "top1"): "linear-probe accuracy",
    ("linear-probe", "map"): "linear-probe mean average precision",
    ("compositionality", "macro_accuracy"): "of correct captions preferred, mean over categories",
    ("compositionality", "group"): "group score",
    ("image-retrieval", "map"): "mean average precision of images by images",
    ("image-retrieval", "map_medium"): "mean average precision of images by images, medium",
    ("clustering", "v_measure"): "V-measure of clusters and classes",
    ("calibration", "ece"): "expected calibration error",
}
"""(task, metric) → what the key number measures; the ablations have none."""


def format_model_name(model: str) -> str:
    """Shorten a path of a model to its last two parts; a name on the hub stays whole.

    >>> format_model_name("/data/runs/demo/model"), format_model_name("hf:openai/clip-vit-base-patch32")
    ('demo/model', 'hf:openai/clip-vit-base-patch32')
    """
    return model if is_hub_model(model) else "/".join(Path(model).parts[-2:])


def summarize_results(results: Sequence[TaskResult]) -> str:
    """Say in a few sentences how good the model is."""
    sentences = [
        _summarize_zero_shot(_find_scores(results, "zero-shot", "top1"), results),
        _summarize_retrieval(_find_scores(results, "retrieval", "image_to_text_recall@1")),
    ]
    if not any(sentences):
        num_datasets = len({result.dataset for result in results})
        sentences = [f"Scores of the model on {num_datasets} dataset{'' if num_datasets == 1 else 's'}."]
    return " ".join((*filter(None, sentences), "Square brackets contain 95% confidence intervals."))


def _summarize_zero_shot(scores: Mapping[str, Score], results: Sequence[TaskResult]) -> str:
    if len(scores) > 1:
        return (
            f"Without training on them, the model recognizes {_mean(scores)} of the images of {len(scores)} datasets "
            f"on average: {_range(scores)}."
        )
    for dataset, score in scores.items():
        chance = next(result.chance_accuracy for result in results if result.task == "zero-shot")
        guessing = f"; guessing would reach {format_percent(chance)}" if chance else ""
        return (
            f"Without training on them, the model recognizes {format_percent(score.value)} of the {score.n:,} images "
            f"of {dataset}{guessing}."
        )
    return ""


def _summarize_retrieval(scores: Mapping[str, Score]) -> str:
    if len(scores) > 1:
        return (
            f"A caption of the image ranks first for {_mean(scores)} of the images of {len(scores)} datasets on "
            f"average: {_range(scores)}."
        )
    for dataset, score in scores.items():
        return (
            f"A caption of the image ranks first for {format_percent(score.value)} of the {score.n:,} images of "
            f"{dataset}."
        )
    return ""


def _mean(scores: Mapping[str, Score]) -> str:
    return format_percent(fmean(score.value for score in scores.values()))


def _range(scores: Mapping[str, Score]) -> str:
    lowest, highest = (extreme(scores, key=lambda name: scores[name].value) for extreme in (min, max))
    return (
        f"most on {highest} ({format_percent(scores[highest].value)}), "
        f"fewest on {lowest} ({format_percent(scores[lowest].value)})"
    )


def select_headlines(results: Sequence[TaskResult]) -> list[Headline]:
    """Return the most important scores, with their intervals or, over several datasets, their range."""
    headlines = []
    for (task, metric), label in MAIN_METRICS.items():
        scores = _find_scores(results, task, metric)
        if len(scores) == 1:
            dataset, score = next(iter(scores.items()))
            note = f"{dataset}, {format_percent(score.low)} to {format_percent(score.high)}"
            headlines.append(Headline(format_percent(score.value), label, note))
        elif scores:
            values = [score.value for score in scores.values()]
            note = f"mean over {len(scores)} datasets, {format_percent(min(values))} to {format_percent(max(values))}"
            headlines.append(Headline(format_percent(fmean(values)), label, note))
    return headlines[:MAX_HEADLINES]


def _find_scores(results: Sequence[TaskResult], task: str, metric: str) -> dict[str, Score]:
    return {
        result.dataset: result.scores[metric] for result in results if result.task == task and metric in result.scores
    }

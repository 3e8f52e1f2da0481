"""`zebra evaluate`: a model and data sets in; scores with intervals, predictions and a report out.

Pictures pass the image tower once, whatever is measured (`embeddings.py`); everything after that works on vectors.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.evaluate import EvaluateConfig, Task
from zebra.data.benchmarks import Benchmark, MultilabelBenchmark, RetrievalBenchmark
from zebra.data.catalog import AnyBenchmark
from zebra.data.selections import SelectionBenchmark
from zebra.errors import ConfigError, DataError
from zebra.evaluate.fewshot import SHOTS, FewShot, data_efficiency, few_shot
from zebra.evaluate.probe import LinearProbe, linear_probe, take
from zebra.evaluate.prompt_search import search_prompts
from zebra.evaluate.prompts import (
    PromptSet,
    class_head,
    general_prompts,
    read_folder,
    read_json,
    read_markdown,
)
from zebra.evaluate.retrieval import retrieve
from zebra.evaluate.selection import pairs, true_or_false
from zebra.evaluate.zeroshot import MultiLabel, ZeroShot, zero_shot, zero_shot_multilabel
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.report.results import Metrics, Result, append_results, provenance, write_metrics, write_predictions
from zebra.text.templates import fill
from zebra.values import Embeddings, Score
from zebra.workflows.embeddings import embed_source
from zebra.workflows.sets import open_set


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task on one set."""

    set: str
    task: str
    scores: Mapping[str, Score]
    digest: str
    """Of the set."""
    prompts: str = ""
    """Hash of what was said, where something was."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    answers: pa.Table | None = field(default=None, repr=False)
    """A row per sample."""
    chance: float | None = None
    """Top-1 of guessing, where there are classes."""


def run(config: EvaluateConfig, *, watch: Callable[[Outcome], None] = lambda _outcome: None) -> Metrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    Raises:
        WeightsError: The model is not whole.
        DataError: A set is incomplete or damaged, or does not suit what is asked; a subset is never scored in silence.
        ConfigError: No task suits any of the sets.
    """
    sets = [open_set(name, config.split, config.data_root) for name in config.datasets]
    clip = load(config.model, precision=config.precision)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for name, benchmark in zip(config.datasets, sets, strict=True):
        for task in config.tasks:
            began = time.perf_counter()
            for measured in measure(clip, benchmark, task, name, config):
                outcomes.append(replace(measured, seconds=round(time.perf_counter() - began, 3)))
                watch(outcomes[-1])
    if not outcomes:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} suits any of the sets; labelled sets take zero-shot, "
            "prompts, prompt-search, linear-probe and few-shot, captioned ones retrieval, others selection"
        )
    metrics = keep(out, clip, config.model, outcomes, config.seed)
    from zebra.workflows.evaluate_page import write_evaluation_page  # matplotlib takes a second to import

    write_evaluation_page(out / "report.html", clip, config.model, outcomes)
    return metrics


def keep(out: Path, clip: Bundle, model: str, outcomes: Sequence[Outcome], seed: int) -> Metrics:
    """Write `metrics.json`, add to `results.jsonl`, and write the predictions."""
    metrics = as_metrics(outcomes)
    write_metrics(out / "metrics.json", metrics)
    about = provenance(clip.fingerprint, model, str(clip.preprocess), clip.precision, clip.backend, seed)
    append_results(
        out / "results.jsonl", [result for outcome in outcomes for result in as_results(outcome, about)]
    )
    for outcome in outcomes:
        if outcome.answers is not None:
            write_predictions(out / "predictions", outcome.set, outcome.task, outcome.answers)
    return metrics


def as_metrics(outcomes: Sequence[Outcome]) -> Metrics:
    """Return set → task → metric → score."""
    metrics: dict[str, dict[str, Mapping[str, Score]]] = {}
    for outcome in outcomes:
        metrics.setdefault(outcome.set, {})[outcome.task] = outcome.scores
    return metrics


def as_results(outcome: Outcome, about: Mapping[str, object]) -> list[Result]:
    """Return a record for each score."""
    return [
        Result(
            set=outcome.set,
            task=outcome.task,
            metric=metric,
            score=score,
            dataset=outcome.digest,
            prompts=outcome.prompts,
            seconds=outcome.seconds,
            notes=outcome.notes,
            about=about,
        )
        for metric, score in outcome.scores.items()
    ]


def measure(
    clip: Bundle, benchmark: AnyBenchmark, task: Task, name: str, config: EvaluateConfig
) -> list[Outcome]:
    """Measure one task on one set; nothing if it does not suit it."""
    match benchmark, task:
        case Benchmark(), "zero-shot":
            return climb(clip, benchmark, prompts_for(benchmark, config.prompts)).outcomes()[:1]
        case Benchmark(), "prompts":
            return climb(clip, benchmark, prompts_for(benchmark, config.prompts)).outcomes()[1:]
        case MultilabelBenchmark(), "zero-shot":
            return [multilabel(clip, benchmark, prompts_for(benchmark, config.prompts))]
        case Benchmark(), "prompt-search":
            return [search(clip, benchmark, prompts_for(benchmark, config.prompts), config.seed)]
        case Benchmark(), "linear-probe" | "few-shot":
            train = examples(name, benchmark, config)
            prompts = prompts_for(benchmark, config.prompts)
            probed = probe_set(clip, benchmark, train, prompts, config.shots, config.repeats, config.seed)
            return probed.outcomes(few=task == "few-shot")
        case RetrievalBenchmark(), "retrieval":
            return [retrieval(clip, benchmark, config.caption_prefix)]
        case SelectionBenchmark(), "selection":
            return selection(clip, benchmark)
    return []


def prompts_for(benchmark: Benchmark | MultilabelBenchmark, told: str) -> PromptSet:
    """Return what is to be said about the classes of a set."""
    own = PromptSet(benchmark.name, "own", benchmark.templates, benchmark.classnames)
    if told == "own":
        return own
    if told == "general":
        return general_prompts().on(benchmark.classnames)
    path = Path(told).expanduser()
    if path.is_dir():
        return read_folder(path).on(benchmark.classnames)
    if path.suffix == ".json":
        return read_json(benchmark.name, path).on(benchmark.classnames)
    if path.suffix == ".md":
        return read_markdown(path, benchmark.name).on(benchmark.classnames)
    raise ConfigError(f"--prompts {told}: say own, general, a .json or .md file, or a folder with templates")


def head(clip: Bundle, prompts: PromptSet) -> NDArray[np.float32]:
    """Build the class vectors [C, E] of a prompt set."""
    assert prompts.classnames is not None
    if not (prompts.synonyms or prompts.sentences or prompts.repeated):
        plain: NDArray[np.float32] = clip.class_vectors(prompts.classnames, prompts.templates).numpy()
        return plain
    said = prompts.prompts()
    vectors = clip.encode_texts([sentence for sentences in said for sentence in sentences]).numpy()
    return class_head(vectors, [len(sentences) for sentences in said])


@dataclass(frozen=True, slots=True)
class Rungs:
    """One model on one labelled set, with the bare name, with one prompt and with all (§3.1.4)."""

    benchmark: Benchmark
    prompts: PromptSet
    bare_name: ZeroShot
    one_prompt: ZeroShot
    ensemble: ZeroShot

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return task → metric → score."""
        return {task: outcome.scores() for task, outcome in self.by_task().items()}

    def by_task(self) -> dict[str, ZeroShot]:
        """Return the rungs by the names they have in results, the ensemble first."""
        return {
            "zero-shot": self.ensemble,
            "zero-shot-one-prompt": self.one_prompt,
            "zero-shot-bare-name": self.bare_name,
        }

    def outcomes(self) -> list[Outcome]:
        """Return what a report and results.jsonl take: the ensemble, then one prompt, then the bare name."""
        source = self.benchmark.source
        ids = [source.locate(index) for index in range(len(source))]
        return [
            Outcome(
                set=self.benchmark.name,
                task=task,
                scores=_with_own_metric(outcome, self.benchmark.metric),
                digest=source.digest,
                prompts=self.prompts.hash,
                notes=self.benchmark.notes,
                answers=_answers(ids, outcome),
                chance=1 / outcome.classes,
            )
            for task, outcome in self.by_task().items()
        ]


def climb(clip: Bundle, benchmark: Benchmark, prompts: PromptSet | None = None) -> Rungs:
    """Embed the pictures once, then score them under all three kinds of prompts."""
    prompts = prompts or prompts_for(benchmark, "own")
    images = embed_source(clip, benchmark.source)
    bare, one = (
        replace(prompts, templates=templates, synonyms={}, sentences={})
        for templates in (("{}",), prompts.templates[:1] or ("{}",))
    )
    heads = [head(clip, rung) for rung in (bare, one, prompts)]
    return Rungs(benchmark, prompts, *(zero_shot(images, head_CE) for head_CE in heads))


def multilabel(clip: Bundle, benchmark: MultilabelBenchmark, prompts: PromptSet) -> Outcome:
    """Score every class in every picture."""
    images = embed_source(clip, benchmark.source)
    outcome: MultiLabel = zero_shot_multilabel(images, benchmark.labels_NC, head(clip, prompts))
    absent = int(outcome.absent_C.sum())
    notes = (
        *benchmark.notes,
        *([f"{absent} classes without a picture are left out of the mean"] if absent else []),
    )
    return Outcome(
        benchmark.name, "zero-shot", outcome.scores(), benchmark.source.digest, prompts.hash, notes=notes
    )


def search(clip: Bundle, benchmark: Benchmark, prompts: PromptSet, seed: int) -> Outcome:
    """Search for templates on one half of the set, and measure the gain on the other."""
    templates = tuple(dict.fromkeys((*prompts.templates, *general_prompts().templates)))
    names = benchmark.classnames
    said = [fill(template, name) for template in templates for name in names]
    vectors_TCE = clip.encode_texts(said).numpy().reshape(len(templates), len(names), -1)
    validation, test = halves(embed_source(clip, benchmark.source), seed)
    found = search_prompts(vectors_TCE, validation, test)
    chosen = tuple(templates[index] for index in found.chosen)
    return Outcome(
        benchmark.name,
        "prompt-search",
        {"gain": found.gain.difference},
        benchmark.source.digest,
        PromptSet("found", "zebra", chosen, names).hash,
        notes=(*benchmark.notes, f"chosen on half of the set, gain on the other: {' | '.join(chosen)}"),
    )


@dataclass(frozen=True, slots=True)
class Probed:
    """Probes on the features of one set, beside zero-shot on the same test pictures."""

    benchmark: Benchmark
    zero_shot: ZeroShot
    linear: LinearProbe
    few: tuple[FewShot, ...]
    labels_per_class: float
    """Of the full probe."""
    notes: tuple[str, ...]

    def outcomes(self, *, few: bool) -> list[Outcome]:
        """Return what a report and results.jsonl take."""
        digest, notes = self.benchmark.source.digest, self.notes
        if not few:
            stopped = (
                [f"{self.linear.stopped} fits ended at the limit of iterations"]
                if self.linear.stopped
                else []
            )
            said = (*notes, f"λ = {self.linear.probe.penalty:.3g}", *stopped)
            scores = _with_own_metric(self.linear.outcome, self.benchmark.metric)
            return [Outcome(self.benchmark.name, "linear-probe", scores, digest, notes=said)]
        curve = [
            Outcome(
                self.benchmark.name,
                f"few-shot-{point.shots}",
                {"top1": point.mean().score},
                digest,
                notes=(
                    *notes,
                    f"interval over {point.mean().doubt}",
                    "λ of the linear probe, found with all examples",
                ),
                chance=1 / self.zero_shot.classes,
            )
            for point in self.few
        ]
        line = {"top1": self.zero_shot.scores()["top1"]}
        same = Outcome(
            self.benchmark.name,
            "few-shot-zero-shot",
            line,
            digest,
            notes=(*notes, "on the probes' test pictures"),
        )
        return [same, *curve]

    def efficiency(self) -> str:
        """Say at how many labels per class the probe equals zero-shot (Fig. 7)."""
        found = data_efficiency(
            [point.shots for point in self.few],
            [point.mean().score.value for point in self.few],
            (self.labels_per_class, self.linear.outcome.scores()["top1"].value),
            self.zero_shot.scores()["top1"].value,
        )
        sign = {"exactly": "", "below": "fewer than ", "above": "more than "}[found.bound]
        return f"{sign}{found.labels:.3g}"


def examples(name: str, benchmark: Benchmark, config: EvaluateConfig) -> Benchmark | None:
    """Open the training split of a set; None if it has none."""
    try:
        train = open_set(name, "train", config.data_root)
    except DataError:
        return None
    if not isinstance(train, Benchmark) or train.classnames != benchmark.classnames:
        raise DataError(f"the training split of {name} has other classes than its {config.split} split")
    return train


def probe_set(
    clip: Bundle,
    benchmark: Benchmark,
    train: Benchmark | None,
    prompts: PromptSet,
    shots: Sequence[int] = SHOTS,
    repeats: int = 3,
    seed: int = 0,
) -> Probed:
    """Fit probes to the features before the projection: of the training split, else of one half of the set."""
    test = embed_source(clip, benchmark.source, projected=False)
    vectors = embed_source(clip, benchmark.source)
    notes = benchmark.notes
    if train is None:
        pool, test = halves(test, seed)
        kept = set(test.ids)
        vectors = take(vectors, np.array([n for n, id in enumerate(vectors.ids) if id in kept]))
        notes = (*notes, "without a training split: examples are one half of the set, scores the other's")
    else:
        pool = embed_source(clip, train.source, projected=False)
    classes = len(benchmark.classnames)
    linear = linear_probe(pool, test, classes, seed=seed)
    assert pool.labels is not None
    counts = np.bincount(pool.labels, minlength=classes)
    possible = [count for count in shots if count <= counts.min()]
    if not possible:
        raise DataError(
            f"{benchmark.classnames[int(counts.argmin())]!r} of {benchmark.name} has {counts.min()} examples, fewer "
            f"than the {min(shots)} shots asked for"
        )
    if len(possible) < len(shots):
        notes = (*notes, f"{counts.min()} examples of a class allow {max(possible)} shots at most")
    few = few_shot(pool, test, classes, linear.probe.penalty, shots=possible, repeats=repeats, seed=seed)
    outcome = zero_shot(vectors, head(clip, prompts))
    return Probed(benchmark, outcome, linear, few, float(counts.mean()), notes)


def halves(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Divide labelled images into two halves of each class, by a seed."""
    assert images.labels is not None
    rng = np.random.default_rng(seed)
    first = np.zeros(len(images.labels), dtype=np.bool_)
    for label in np.unique(images.labels):
        rows = rng.permutation(np.flatnonzero(images.labels == label))
        first[rows[: len(rows) // 2]] = True
    return take(images, np.flatnonzero(first)), take(images, np.flatnonzero(~first))


def retrieval(clip: Bundle, benchmark: RetrievalBenchmark, prefix: str) -> Outcome:
    """Find captions by pictures and pictures by captions."""
    images = embed_source(clip, benchmark.source)
    said = [benchmark.source.read(index).captions for index in range(len(benchmark.source))]
    owner_M = np.repeat(np.arange(len(said)), [len(captions) for captions in said])
    ids = tuple(f"{images.ids[n]}#{k}" for n, captions in enumerate(said) for k in range(len(captions)))
    vectors = clip.encode_texts([prefix + caption for captions in said for caption in captions]).numpy()
    found = retrieve(images, Embeddings(vectors, ids, fingerprint=clip.fingerprint), owner_M)
    repeated = [f"{found.repeated} captions stand with several pictures"] if found.repeated else []
    notes = (*benchmark.notes, f"captions begin with {prefix!r}", *repeated)
    return Outcome(benchmark.name, "retrieval", found.scores(), benchmark.source.digest, notes=notes)


def selection(clip: Bundle, benchmark: SelectionBenchmark) -> list[Outcome]:
    """Choose between captions that differ in a detail."""
    image_NE = embed_source(clip, benchmark.source).vectors
    first, second = (
        clip.encode_texts([question.captions[side] for question in benchmark.questions]).numpy()
        for side in (0, 1)
    )
    pictures = np.array([question.pictures for question in benchmark.questions])
    if pictures.shape[1] == 1:
        categories = [question.category for question in benchmark.questions]
        scores = true_or_false(image_NE[pictures[:, 0]], first, second, categories).scores()
    else:
        scores = pairs(image_NE[pictures], np.stack([first, second], axis=1)).scores()
    return [Outcome(benchmark.name, "selection", scores, benchmark.source.digest, notes=benchmark.notes)]


def _with_own_metric(outcome: ZeroShot, metric: str) -> dict[str, Score]:
    scores = outcome.scores()
    return scores | ({metric: outcome.mean_top1_top5()} if metric == "mean_top1_top5" else {})


def _answers(ids: Sequence[str], outcome: ZeroShot) -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "label": outcome.label_N,
            "ranked": list(outcome.ranked_NK),
            "correct": outcome.correct_N,
        }
    )

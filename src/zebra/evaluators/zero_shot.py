"""A model and a labelled set in, zero-shot outcomes under several prompts out (CLIP §3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ConfigError
from zebra.evaluators.embeddings import embed_source, stratified_halves
from zebra.evaluators.results import TaskResult, scores_with_primary_metric
from zebra.pretrained.bundle import Bundle
from zebra.protocols.prompt_search import search_prompts
from zebra.protocols.prompts import (
    PromptSet,
    average_prompt_vectors,
    load_general_prompts,
    read_prompt_dir,
    read_prompt_json,
    read_prompt_markdown,
)
from zebra.protocols.zero_shot import (
    ClassificationResult,
    MultilabelResult,
    classify_zero_shot,
    score_zero_shot_multilabel,
)
from zebra.text.templates import fill_template
from zebra.values import Score


def resolve_prompts(benchmark: ClassificationBenchmark | MultilabelBenchmark, spec: str) -> PromptSet:
    """Return what is to be said about the classes of a set."""
    dataset_prompts = PromptSet(benchmark.name, "dataset", benchmark.templates, benchmark.classnames)
    if spec == "dataset":
        return dataset_prompts
    if spec == "general":
        return load_general_prompts().with_classnames(benchmark.classnames)
    path = Path(spec).expanduser()
    if path.is_dir():
        return read_prompt_dir(path).with_classnames(benchmark.classnames)
    if path.suffix == ".json":
        return read_prompt_json(benchmark.name, path).with_classnames(benchmark.classnames)
    if path.suffix == ".md":
        return read_prompt_markdown(path, benchmark.name).with_classnames(benchmark.classnames)
    raise ConfigError(
        f"--prompts is {spec!r}; give dataset, general, a .json or .md file, or a folder with templates"
    )


def build_zero_shot_classifier(clip: Bundle, prompts: PromptSet) -> NDArray[np.float32]:
    """Build the class vectors [C, E] of a prompt set."""
    assert prompts.classnames is not None
    if not (prompts.synonyms or prompts.sentences or prompts.duplicate_names):
        plain: NDArray[np.float32] = clip.class_vectors(prompts.classnames, prompts.templates).numpy()
        return plain
    said = prompts.prompts()
    vectors = clip.encode_texts([sentence for sentences in said for sentence in sentences]).numpy()
    return average_prompt_vectors(vectors, [len(sentences) for sentences in said])


@dataclass(frozen=True, slots=True)
class PromptAblation:
    """One model on one labelled set, with the bare name, with one prompt and with all (§3.1.4)."""

    benchmark: ClassificationBenchmark
    prompts: PromptSet
    bare_name: ClassificationResult
    one_prompt: ClassificationResult
    ensemble: ClassificationResult

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return task → metric → score."""
        return {task: outcome.scores() for task, outcome in self.results_by_task().items()}

    def results_by_task(self) -> dict[str, ClassificationResult]:
        """Return the rungs by the names they have in results, the ensemble first."""
        return {
            "zero-shot": self.ensemble,
            "zero-shot-one-prompt": self.one_prompt,
            "zero-shot-bare-name": self.bare_name,
        }

    def task_results(self) -> list[TaskResult]:
        """Return what a report and results.jsonl take: the ensemble, then one prompt, then the bare name."""
        source = self.benchmark.source
        ids = [source.sample_id(index) for index in range(len(source))]
        return [
            TaskResult(
                dataset=self.benchmark.name,
                task=task,
                scores=scores_with_primary_metric(outcome, self.benchmark.metric),
                dataset_digest=source.digest,
                prompts_hash=self.prompts.hash,
                notes=self.benchmark.notes,
                predictions=_build_prediction_table(ids, outcome),
                chance_accuracy=1 / outcome.num_classes,
            )
            for task, outcome in self.results_by_task().items()
        ]


def evaluate_zero_shot(
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    prompts: PromptSet | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> PromptAblation:
    """Embed the pictures once, a share in each process, then score them under all three kinds of prompts."""
    prompts = prompts or resolve_prompts(benchmark, "dataset")
    images = embed_source(clip, benchmark.source, group=group)
    bare, one = (
        replace(prompts, templates=templates, synonyms={}, sentences={})
        for templates in (("{}",), prompts.templates[:1] or ("{}",))
    )
    heads = [build_zero_shot_classifier(clip, rung) for rung in (bare, one, prompts)]
    return PromptAblation(benchmark, prompts, *(classify_zero_shot(images, head_CE) for head_CE in heads))


def evaluate_zero_shot_multilabel(
    clip: Bundle, benchmark: MultilabelBenchmark, prompts: PromptSet
) -> TaskResult:
    """Score every class in every picture."""
    images = embed_source(clip, benchmark.source)
    outcome: MultilabelResult = score_zero_shot_multilabel(
        images, benchmark.labels_NC, build_zero_shot_classifier(clip, prompts)
    )
    absent = int(outcome.is_absent_C.sum())
    notes = (
        *benchmark.notes,
        *([f"{absent} classes without a picture are left out of the mean"] if absent else []),
    )
    return TaskResult(
        benchmark.name, "zero-shot", outcome.scores(), benchmark.source.digest, prompts.hash, notes=notes
    )


def evaluate_prompt_search(
    clip: Bundle, benchmark: ClassificationBenchmark, prompts: PromptSet, seed: int
) -> TaskResult:
    """Search for templates on one half of the set, and measure the gain on the other."""
    templates = tuple(dict.fromkeys((*prompts.templates, *load_general_prompts().templates)))
    names = benchmark.classnames
    said = [fill_template(template, name) for template in templates for name in names]
    vectors_TCE = clip.encode_texts(said).numpy().reshape(len(templates), len(names), -1)
    validation, test = stratified_halves(embed_source(clip, benchmark.source), seed)
    found = search_prompts(vectors_TCE, validation, test)
    chosen = tuple(templates[index] for index in found.best_templates)
    return TaskResult(
        benchmark.name,
        "prompt-search",
        {"gain": found.gain.difference},
        benchmark.source.digest,
        PromptSet("found", "zebra", chosen, names).hash,
        notes=(*benchmark.notes, f"chosen on half of the set, gain on the other: {' | '.join(chosen)}"),
    )


def _build_prediction_table(ids: Sequence[str], result: ClassificationResult) -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "label": result.label_N,
            "ranked": list(result.ranked_NK),
            "correct": result.correct_N,
        }
    )

"""Zero-shot classification of a dataset with several prompt sets (CLIP §3.1)."""

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
    """Return the prompts for the classes of a dataset.

    Args:
        spec: "dataset", "general", or a path to a .json or .md file or a folder with templates.

    Raises:
        ConfigError: `spec` is none of these.
    """
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
        f"--prompts {spec} is not known. Give dataset, general, a .json or .md file, or a folder with templates."
    )


def build_zero_shot_classifier(clip: Bundle, prompts: PromptSet) -> NDArray[np.float32]:
    """Build the zero-shot classifier [C, E] of a prompt set: one embedding per class (§3.1.4)."""
    assert prompts.classnames is not None
    if not (prompts.synonyms or prompts.sentences or prompts.duplicate_names):
        class_CE: NDArray[np.float32] = clip.class_vectors(prompts.classnames, prompts.templates).numpy()
        return class_CE
    prompts_by_class = prompts.prompts()
    prompt_PE = clip.encode_texts([prompt for texts in prompts_by_class for prompt in texts]).numpy()
    return average_prompt_vectors(prompt_PE, [len(texts) for texts in prompts_by_class])


@dataclass(frozen=True, slots=True)
class PromptAblation:
    """Zero-shot results with the class name alone, with one prompt and with all prompts (§3.1.4)."""

    benchmark: ClassificationBenchmark
    prompts: PromptSet
    bare_name: ClassificationResult
    one_prompt: ClassificationResult
    ensemble: ClassificationResult

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return task → metric → score."""
        return {task: result.scores() for task, result in self.results_by_task().items()}

    def results_by_task(self) -> dict[str, ClassificationResult]:
        """Return the results by task name, the ensemble of all prompts first."""
        return {
            "zero-shot": self.ensemble,
            "zero-shot-one-prompt": self.one_prompt,
            "zero-shot-bare-name": self.bare_name,
        }

    def task_results(self) -> list[TaskResult]:
        """Return one TaskResult per task: the ensemble, one prompt, the class name alone."""
        source = self.benchmark.source
        ids = [source.sample_id(index) for index in range(len(source))]
        return [
            TaskResult(
                dataset=self.benchmark.name,
                task=task,
                scores=scores_with_primary_metric(result, self.benchmark.metric),
                dataset_digest=source.digest,
                prompts_hash=self.prompts.hash,
                notes=self.benchmark.notes,
                predictions=_build_prediction_table(ids, result),
                chance_accuracy=1 / result.num_classes,
            )
            for task, result in self.results_by_task().items()
        ]


def evaluate_zero_shot(
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    prompts: PromptSet | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> PromptAblation:
    """Embed the images once, each process its slice, and classify them with all three prompt sets."""
    prompts = prompts or resolve_prompts(benchmark, "dataset")
    images = embed_source(clip, benchmark.source, group=group)
    bare_name, one_prompt = (
        replace(prompts, templates=templates, synonyms={}, sentences={})
        for templates in (("{}",), prompts.templates[:1] or ("{}",))
    )
    classifiers = [build_zero_shot_classifier(clip, prompt_set) for prompt_set in (bare_name, one_prompt, prompts)]
    return PromptAblation(benchmark, prompts, *(classify_zero_shot(images, class_CE) for class_CE in classifiers))


def evaluate_zero_shot_multilabel(clip: Bundle, benchmark: MultilabelBenchmark, prompts: PromptSet) -> TaskResult:
    """Score every class on every image of a multilabel dataset."""
    images = embed_source(clip, benchmark.source)
    result: MultilabelResult = score_zero_shot_multilabel(
        images, benchmark.labels_NC, build_zero_shot_classifier(clip, prompts)
    )
    num_absent = int(result.is_absent_C.sum())
    notes = (
        *benchmark.notes,
        *([f"{num_absent} classes without an image are left out of the mean"] if num_absent else []),
    )
    return TaskResult(benchmark.name, "zero-shot", result.scores(), benchmark.source.digest, prompts.hash, notes=notes)


def evaluate_prompt_search(
    clip: Bundle, benchmark: ClassificationBenchmark, prompts: PromptSet, seed: int
) -> TaskResult:
    """Search for templates on one half of the dataset, and evaluate the gain on the other half."""
    templates = tuple(dict.fromkeys((*prompts.templates, *load_general_prompts().templates)))
    names = benchmark.classnames
    texts = [fill_template(template, name) for template in templates for name in names]
    vectors_TCE = clip.encode_texts(texts).numpy().reshape(len(templates), len(names), -1)
    validation, test = stratified_halves(embed_source(clip, benchmark.source), seed)
    search = search_prompts(vectors_TCE, validation, test)
    best_templates = tuple(templates[index] for index in search.best_templates)
    return TaskResult(
        benchmark.name,
        "prompt-search",
        {"gain": search.gain.difference},
        benchmark.source.digest,
        PromptSet("found", "zebra", best_templates, names).hash,
        notes=(
            *benchmark.notes,
            f"selected on one half of the dataset, gain on the other half: {' | '.join(best_templates)}",
        ),
    )


def _build_prediction_table(ids: Sequence[str], result: ClassificationResult) -> pa.Table:
    return pa.table(
        {"id": list(ids), "label": result.label_N, "ranked": list(result.ranked_NK), "correct": result.correct_N}
    )

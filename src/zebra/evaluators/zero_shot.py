"""Zero-shot classification of a dataset with several prompt sets (CLIP §3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.catalog import list_prompt_names
from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark, PromptedBenchmark
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ConfigError
from zebra.evaluators.classification_scores import score_classification
from zebra.evaluators.embeddings import embed_source, stratified_halves
from zebra.evaluators.predictions import build_classification_predictions, build_multilabel_predictions
from zebra.evaluators.results import TaskResult
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
    accept_labels,
    classify_zero_shot,
    find_equal_classes,
    score_zero_shot_multilabel,
)
from zebra.text.equal_texts import find_equal_texts
from zebra.text.templates import fill_template
from zebra.values import Embeddings, Score

ENSEMBLE_TASK, ONE_PROMPT_TASK, BARE_NAME_TASK = "zero-shot", "zero-shot-one-prompt", "zero-shot-bare-name"


def resolve_prompts(benchmark: PromptedBenchmark, spec: str, model_templates: Sequence[str]) -> PromptSet:
    """Return the prompts for the classes of a dataset.

    Args:
        spec: "dataset", which takes the model's templates if the dataset has none; "model"; "general"; or a path to a
            .json or .md file or a folder with templates. Files with prompts of several datasets are searched for all
            names of the dataset in the catalog.
        model_templates: The model's own templates.

    Raises:
        ConfigError: `spec` is none of these.
        DataError: The file has no prompts for this dataset, or for other classes.
    """
    if spec == "dataset" and benchmark.templates:
        return PromptSet(benchmark.name, "dataset", benchmark.templates, benchmark.classnames)
    if spec in ("dataset", "model"):
        note = f"prompt templates of the model: {' | '.join(model_templates)}"
        return PromptSet(benchmark.name, "model", tuple(model_templates), benchmark.classnames, notes=(note,))
    path = Path(spec).expanduser()
    if spec == "general":
        prompts = load_general_prompts()
    elif path.is_dir():
        prompts = read_prompt_dir(path)
    elif path.suffix == ".json":
        prompts = read_prompt_json(benchmark.name, path, aliases=list_prompt_names(benchmark.name))
    elif path.suffix == ".md":
        prompts = read_prompt_markdown(path, benchmark.name, aliases=list_prompt_names(benchmark.name))
    else:
        raise ConfigError(
            f"--prompts {spec} is not known. Give dataset, model, general, a .json or .md file, or a folder with "
            "templates."
        )
    return prompts.with_classnames(benchmark.classnames)


def build_zero_shot_classifier(clip: Bundle, prompts: PromptSet) -> NDArray[np.float32]:
    """Build the zero-shot classifier [C, E] of a prompt set: one embedding per class (§3.1.4).

    Classes that are one text to the model have bitwise equal embeddings.
    """
    assert prompts.classnames is not None
    if not (prompts.synonyms or prompts.sentences):
        class_CE: NDArray[np.float32] = clip.class_vectors(prompts.classnames, prompts.templates).numpy()
        return class_CE
    prompts_by_class = prompts.prompts()
    first_C = find_equal_texts(clip.require_tokenizer(), prompts_by_class)
    prompt_PE = clip.encode_texts([prompt for texts in prompts_by_class for prompt in texts]).numpy()
    return average_prompt_vectors(prompt_PE, [len(texts) for texts in prompts_by_class])[first_C]


def equal_class_notes(class_CE: NDArray[np.float32], classnames: Sequence[str]) -> tuple[str, ...]:
    """Return a note on classes that the model cannot tell apart, and one on classes without a name; () without any."""
    notes = []
    pairs = [(first, label) for label, first in enumerate(find_equal_classes(class_CE)) if first != label]
    if pairs:
        examples = ", ".join(
            f"{label} {classnames[label]!r} as {first} {classnames[first]!r}" for first, label in pairs[:5]
        )
        notes.append(
            f"{len(pairs)} of {len(classnames)} classes are the same text to the model as an earlier class, which is "
            f"predicted in their place: {examples}{', …' if pairs[5:] else ''}"
        )
    if nameless := [label for label, name in enumerate(classnames) if not name.strip()]:
        notes.append(f"the class {nameless[0]} has an empty name, so its prompts are the templates alone")
    return tuple(notes)


@dataclass(frozen=True, slots=True)
class PromptedResult:
    """Predictions with one prompt set."""

    prompts: PromptSet
    result: ClassificationResult
    notes: tuple[str, ...]
    """Notes on classes that the prompts do not distinguish."""


@dataclass(frozen=True, slots=True)
class PromptAblation:
    """Zero-shot results with the class name alone, with one prompt and with all prompts (§3.1.4)."""

    benchmark: ClassificationBenchmark
    results: Mapping[str, PromptedResult]
    """Results by task name, the ensemble of all prompts first."""

    @property
    def ensemble(self) -> ClassificationResult:
        """The result with all prompts."""
        return self.results[ENSEMBLE_TASK].result

    @property
    def one_prompt(self) -> ClassificationResult:
        """The result with the first template."""
        return self.results[ONE_PROMPT_TASK].result

    @property
    def bare_name(self) -> ClassificationResult:
        """The result with the class name alone."""
        return self.results[BARE_NAME_TASK].result

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return task → metric → score."""
        return {task: prompted.result.scores() for task, prompted in self.results.items()}

    def task_results(self) -> list[TaskResult]:
        """Return one TaskResult per task: the ensemble, one prompt, the class name alone."""
        return [self._task_result(task, prompted) for task, prompted in self.results.items()]

    def _task_result(self, task: str, prompted: PromptedResult) -> TaskResult:
        benchmark = self.benchmark
        ids = [benchmark.source.sample_id(index) for index in range(len(benchmark.source))]
        scored = score_classification(prompted.result, benchmark, ids)
        return TaskResult(
            dataset=benchmark.name,
            task=task,
            scores=scored.scores,
            dataset_digest=benchmark.source.digest,
            prompts_hash=prompted.prompts.hash,
            notes=(*benchmark.notes, *prompted.notes, *scored.notes),
            predictions=build_classification_predictions(ids, prompted.result, benchmark.classnames, benchmark.groups),
            chance_accuracy=1 / prompted.result.num_classes,
        )


def evaluate_zero_shot(
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    prompts: PromptSet | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> PromptAblation:
    """Embed the images once, each process its slice, and classify them with all three prompt sets."""
    prompts = prompts or resolve_prompts(benchmark, "dataset", clip.templates)
    images = embed_source(clip, benchmark.source, group=group)
    one_prompt, bare_name = (
        replace(prompts, templates=templates, synonyms={}, sentences={})
        for templates in (prompts.templates[:1] or ("{}",), ("{}",))
    )
    prompts_by_task = {ENSEMBLE_TASK: prompts, ONE_PROMPT_TASK: one_prompt, BARE_NAME_TASK: bare_name}
    return PromptAblation(
        benchmark,
        {task: _classify_with_prompts(clip, images, benchmark, prompts) for task, prompts in prompts_by_task.items()},
    )


def _classify_with_prompts(
    clip: Bundle, images: Embeddings, benchmark: ClassificationBenchmark, prompts: PromptSet
) -> PromptedResult:
    class_CE = build_zero_shot_classifier(clip, prompts)
    assert prompts.classnames is not None
    notes = (*prompts.notes, *equal_class_notes(class_CE, prompts.classnames))
    result = classify_zero_shot(images, class_CE, scale=clip.logit_scale, bias=clip.logit_bias)
    if (right_labels := benchmark.right_labels) is not None:
        result = accept_labels(result, [right_labels[sample_id] for sample_id in images.ids])
        num_several = sum(len(labels) > 1 for labels in right_labels.values())
        notes = (*notes, f"{num_several:,} images have several right labels, of which the best ranked counts")
    return PromptedResult(prompts, result, notes)


def evaluate_zero_shot_multilabel(clip: Bundle, benchmark: MultilabelBenchmark, prompts: PromptSet) -> TaskResult:
    """Score every class on every image of a multilabel dataset."""
    images = embed_source(clip, benchmark.source)
    class_CE = build_zero_shot_classifier(clip, prompts)
    result: MultilabelResult = score_zero_shot_multilabel(images, benchmark.labels_NC, class_CE)
    num_absent = int(result.is_absent_C.sum())
    notes = (
        *benchmark.notes,
        *prompts.notes,
        *equal_class_notes(class_CE, prompts.classnames or ()),
        *([f"{num_absent} classes without an image are left out of the mean"] if num_absent else []),
    )
    return TaskResult(
        benchmark.name,
        ENSEMBLE_TASK,
        result.scores(),
        benchmark.source.digest,
        prompts.hash,
        notes=notes,
        predictions=build_multilabel_predictions(images.ids, result, benchmark.classnames),
    )


def evaluate_prompt_search(
    clip: Bundle, benchmark: ClassificationBenchmark, prompts: PromptSet, seed: int
) -> TaskResult:
    """Search for templates on one half of the dataset, and evaluate the gain on the other half."""
    candidates = ("{}", *prompts.templates, *clip.templates, *load_general_prompts().templates)
    templates = tuple(dict.fromkeys(template.replace("{c}", "{}") for template in candidates))
    names = prompts.classnames or benchmark.classnames
    texts = [fill_template(template, name) for template in templates for name in names]
    vectors_TCE = clip.encode_texts(texts).numpy().reshape(len(templates), len(names), -1)
    texts_by_class = [texts[index :: len(names)] for index in range(len(names))]
    vectors_TCE = vectors_TCE[:, find_equal_texts(clip.require_tokenizer(), texts_by_class)]
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

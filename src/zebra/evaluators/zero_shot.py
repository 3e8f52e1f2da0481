"""A model and a labelled set in, zero-shot outcomes under several prompts out (CLIP §3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.clip_benchmark import Benchmark, MultilabelBenchmark
from zebra.distributed import ALONE, World
from zebra.errors import ConfigError
from zebra.evaluators.embeddings import embed_source, halves
from zebra.evaluators.results import Outcome, scores_by
from zebra.pretrained.bundle import Bundle
from zebra.protocols.prompt_search import search_prompts
from zebra.protocols.prompts import (
    PromptSet,
    class_head,
    general_prompts,
    read_folder,
    read_json,
    read_markdown,
)
from zebra.protocols.zero_shot import MultiLabel, ZeroShot, zero_shot, zero_shot_multilabel
from zebra.text.templates import fill
from zebra.values import Score


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
                scores=scores_by(outcome, self.benchmark.metric),
                digest=source.digest,
                prompts=self.prompts.hash,
                notes=self.benchmark.notes,
                answers=_answers(ids, outcome),
                chance=1 / outcome.classes,
            )
            for task, outcome in self.by_task().items()
        ]


def climb(
    clip: Bundle, benchmark: Benchmark, prompts: PromptSet | None = None, world: World = ALONE
) -> Rungs:
    """Embed the pictures once, a share in each process, then score them under all three kinds of prompts."""
    prompts = prompts or prompts_for(benchmark, "own")
    images = embed_source(clip, benchmark.source, world=world)
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


def _answers(ids: Sequence[str], outcome: ZeroShot) -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "label": outcome.label_N,
            "ranked": list(outcome.ranked_NK),
            "correct": outcome.correct_N,
        }
    )

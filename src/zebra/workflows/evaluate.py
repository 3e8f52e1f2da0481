"""`zebra evaluate`: a model and data sets in; scores with intervals, predictions and a report out.

Pictures pass the image tower once, whatever is measured (`embeddings.py`); everything after that works on vectors.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.catalog import AnyBenchmark
from zebra.data.benchmarks.clip_benchmark import (
    Benchmark,
    MultilabelBenchmark,
    RetrievalBenchmark,
)
from zebra.data.benchmarks.compositionality import SelectionBenchmark
from zebra.errors import ConfigError
from zebra.evaluators.datasets import open_set
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.limitations import NAME as LIMITS
from zebra.evaluators.limitations import limit_sets
from zebra.evaluators.linear_probe import examples, probe_multilabel, probe_set
from zebra.evaluators.results import Outcome, keep, open_folder
from zebra.evaluators.results_io import Metrics
from zebra.evaluators.zero_shot import climb, multilabel, prompts_for, search
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.protocols.compositionality import pairs, true_or_false
from zebra.protocols.retrieval import retrieve
from zebra.values import Embeddings


def run(config: EvaluateConfig, *, watch: Callable[[Outcome], None] = lambda _outcome: None) -> Metrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    Raises:
        WeightsError: The model is not whole.
        DataError: A set is incomplete or damaged, or does not suit what is asked; a subset is never scored in silence.
        ConfigError: No task suits any of the sets.
    """
    out = open_folder(config.out)
    names = tuple(
        name
        for told in config.datasets
        for name in (limit_sets(config.data_root) if told == LIMITS else (told,))
    )
    sets = [open_set(name, config.split, config.data_root) for name in names]
    repeated = [name for name, count in Counter(benchmark.name for benchmark in sets).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"two of the data sets are called {repeated[0]}, and their scores would take each other's place; "
            "evaluate them one by one, or rename a folder"
        )
    clip = load(config.model, precision=config.precision)
    outcomes: list[Outcome] = []
    for name, benchmark in zip(names, sets, strict=True):
        began = time.perf_counter()
        for measured in measure(clip, benchmark, name, config):
            outcomes.append(replace(measured, seconds=round(time.perf_counter() - began, 3)))
            watch(outcomes[-1])
            began = time.perf_counter()
    if not outcomes:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} suits any of the sets; labelled sets take zero-shot, "
            "prompts, prompt-search, linear-probe and few-shot, captioned ones retrieval, others selection"
        )
    metrics = keep(out, clip, config.model, outcomes, split=config.split, seed=config.seed)
    from zebra.report.evaluation import write_evaluation_page  # matplotlib takes a second to import

    write_evaluation_page(out / "report.html", clip, config.model, outcomes)
    return metrics


def measure(clip: Bundle, benchmark: AnyBenchmark, name: str, config: EvaluateConfig) -> Iterator[Outcome]:
    """Measure what was asked for and suits a set."""
    tasks = config.tasks
    match benchmark:
        case Benchmark():
            prompts = prompts_for(benchmark, config.prompts)
            if "zero-shot" in tasks or "prompts" in tasks:
                ensemble, *rungs = climb(clip, benchmark, prompts).outcomes()
                yield from [ensemble] if "zero-shot" in tasks else []
                yield from rungs if "prompts" in tasks else []
            if "prompt-search" in tasks:
                yield search(clip, benchmark, prompts, config.seed)
            if "linear-probe" in tasks or "few-shot" in tasks:
                train = examples(name, benchmark, config)
                probed = probe_set(clip, benchmark, train, prompts, config.shots, config.repeats, config.seed)
                yield from [probed.with_all()] if "linear-probe" in tasks else []
                yield from probed.with_few() if "few-shot" in tasks else []
        case MultilabelBenchmark():
            if "zero-shot" in tasks:
                yield multilabel(clip, benchmark, prompts_for(benchmark, config.prompts))
            if "linear-probe" in tasks:
                yield probe_multilabel(clip, benchmark, examples(name, benchmark, config), config.seed)
        case RetrievalBenchmark():
            if "retrieval" in tasks:
                yield retrieval(clip, benchmark, config.caption_prefix)
        case SelectionBenchmark():
            if "selection" in tasks:
                yield selection(clip, benchmark)


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


def selection(clip: Bundle, benchmark: SelectionBenchmark) -> Outcome:
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
    return Outcome(benchmark.name, "selection", scores, benchmark.source.digest, notes=benchmark.notes)

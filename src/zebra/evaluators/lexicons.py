"""Evaluate zero-shot recognition of words from lexicons (CLIP Table 14)."""

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.tasks import LexiconBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import ENSEMBLE_TASK, build_zero_shot_classifier
from zebra.pretrained.bundle import Bundle
from zebra.protocols.lexicon import choose_words
from zebra.protocols.metrics import proportion
from zebra.protocols.prompts import PromptSet


def evaluate_lexicons(clip: Bundle, benchmark: LexiconBenchmark, prompts: PromptSet) -> TaskResult:
    """Choose the word of each image from its own lexicon.

    Words that are one text to the model, such as words in other letter case, count as one: any of them is right.
    """
    images = embed_source(clip, benchmark.source)
    word_ME = build_zero_shot_classifier(clip, prompts)
    chosen_N = choose_words(images.vectors, word_ME, benchmark.lexicons)
    same_text_N = (word_ME[chosen_N] == word_ME[benchmark.answer_N]).all(axis=1)
    num_other_words = int((same_text_N & (chosen_N != benchmark.answer_N)).sum())
    columns = {
        "id": list(images.ids),
        "word": [benchmark.classnames[word] for word in benchmark.answer_N],
        "chosen_word": [benchmark.classnames[word] for word in chosen_N],
        "correct": same_text_N,
    }
    sizes = np.array([len(words) for words in benchmark.lexicons])
    notes = [
        f"lexicons of {sizes.min():,} to {sizes.max():,} words" if np.ptp(sizes) else f"lexicons of {sizes[0]:,} words"
    ]
    if num_other_words:
        notes.append(f"{num_other_words} chosen words differ from the right one in nothing that the model sees")
    return TaskResult(
        benchmark.name,
        ENSEMBLE_TASK,
        {"top1": proportion(int(same_text_N.sum()), len(images.ids))},
        benchmark.source.digest,
        prompts.hash,
        notes=(*benchmark.notes, *prompts.notes, *notes),
        predictions=pa.table(columns),
        chance_accuracy=float((1 / sizes).mean()),
    )

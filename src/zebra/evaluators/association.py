"""Evaluate associations: choose the images that belong to a cue."""

import pyarrow as pa

from zebra.data.benchmarks.tasks import AssociationBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.association import evaluate_associations

VOWELS = "aeiou"


def evaluate_association(clip: Bundle, benchmark: AssociationBenchmark) -> TaskResult:
    """Choose the images of every cue among its candidates."""
    images = embed_source(clip, benchmark.source)
    questions = benchmark.questions
    cue_QE = clip.encode_texts([format_cue(question.cue) for question in questions]).numpy()
    result = evaluate_associations(
        images.vectors,
        cue_QE,
        [question.candidates for question in questions],
        [question.associated for question in questions],
    )
    predictions = pa.table(
        {
            "id": [str(number) for number in range(len(questions))],
            "cue": [question.cue for question in questions],
            "num_candidates": result.num_candidates_N,
            "jaccard": result.jaccard_N,
        }
    )
    notes = (*benchmark.notes, f"prompt of a cue, as in DataComp: {format_cue('{}')!r}, with An before a vowel")
    return TaskResult(
        benchmark.name, "association", result.scores(), benchmark.source.digest, notes=notes, predictions=predictions
    )


def format_cue(cue: str) -> str:
    """Return the prompt of a cue, as in DataComp: its lower case after an article.

    >>> format_cue("Moon"), format_cue("owl")
    ('A moon', 'An owl')
    """
    text = cue.lower()
    return f"{'An' if text.startswith(tuple(VOWELS)) else 'A'} {text}"

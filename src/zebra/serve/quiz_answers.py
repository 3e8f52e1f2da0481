"""The answers of the model to a quiz, computed in a process of their own.

`python -m zebra.serve.quiz_answers MODEL DATASET DEVICE` prints them. That process holds torch and a copy of the
model; the server's own process needs neither.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.serve.errors import HTTPError

if TYPE_CHECKING:
    from zebra.evaluators.quiz_dataset import QuizDataset
    from zebra.pretrained.bundle import Bundle

log = logging.getLogger(__name__)


def classify_quiz(clip: "Bundle", dataset: "QuizDataset") -> dict[str, bool]:
    """Return image id → whether the model is right, with the prompts of the dataset."""
    from zebra.evaluators.embeddings import embed_source
    from zebra.evaluators.zero_shot import build_zero_shot_classifier, resolve_prompts
    from zebra.protocols.zero_shot import classify_zero_shot

    benchmark = dataset.benchmark
    head = build_zero_shot_classifier(clip, resolve_prompts(benchmark, "dataset", clip.templates))
    result = classify_zero_shot(embed_source(clip, benchmark.source), head)
    return dict(zip(dataset.ids, result.correct_N.tolist(), strict=True))


def classify_in_process(model: str, device: str, dataset: "QuizDataset") -> Mapping[str, bool]:
    """Return the result of `classify_quiz` of a process of its own.

    Args:
        model: Any model that `zebra.load` reads.
        device: Device of the model, as `zebra.load` takes it.

    Raises:
        HTTPError: The process fails (503); its errors are logged.
    """
    command = [sys.executable, "-P", "-m", "zebra.serve.quiz_answers", model, str(dataset.path.resolve()), device]
    process = subprocess.run(  # noqa: S603 -- this interpreter, and arguments that no shell parses
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if process.returncode:
        log.error("failed to compute the model's answers to the quiz %s:\n%s", dataset.name, process.stderr)
        message = "failed to compute the model's answers to the quiz; see the server log"
        raise HTTPError(503, message, retry_after_seconds=60)
    return dict(json.loads(process.stdout))


def main(argv: Sequence[str]) -> None:
    """Print the answers as JSON."""
    from zebra.evaluators.quiz_dataset import QuizDataset
    from zebra.pretrained.load import load

    model, path, device = argv
    json.dump(classify_quiz(load(model, device=device), QuizDataset(Path(path))), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])

"""`zebra evaluate MODEL DATASET... --out DIR`: zero-shot scores with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalText, PositionalTexts, parse
from zebra.cli.main import DONE, USAGE, say
from zebra.config.evaluate import EvaluateConfig


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra evaluate` is told."""

    model: PositionalText
    """A model folder, for instance runs/demo/model."""
    datasets: PositionalTexts
    """CLIP_benchmark folders."""
    out: str
    """The folder for metrics.json."""


def run(words: Sequence[str]) -> int:
    """Evaluate, print a line per set and write metrics.json."""
    told = parse(Words, "evaluate", words, description="Score a model on CLIP_benchmark folders (zero-shot).")
    if not told.datasets:
        say("zebra evaluate: name at least one data set", error=True)
        return USAGE
    from zebra.workflows import evaluate

    def show(outcome: evaluate.SetOutcome) -> None:
        score = outcome.ensemble.scores()["top1"]
        interval = f"[{score.low:.1%}, {score.high:.1%}]"
        say(f"{outcome.benchmark.name:<20} top-1 {score.value:6.1%}  {interval}  n={score.n}")

    evaluate.run(EvaluateConfig(model=told.model, datasets=told.datasets, out=told.out), watch=show)
    say(f"scores: {told.out}/metrics.json")
    return DONE

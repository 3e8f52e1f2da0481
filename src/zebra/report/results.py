"""Scores in, `metrics.json` out, and back: {set: {task: {metric: {value, low, high, n}}}}."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from zebra.errors import DataError
from zebra.values import Score

Metrics = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""Set → task → metric → score, for instance ["unseen-kinds"]["zero-shot"]["top1"]."""


def write_metrics(path: str | Path, metrics: Metrics) -> None:
    """Write scores as JSON, in the order given; the file appears whole or not at all."""
    document = {
        name: {
            task: {metric: asdict(score) for metric, score in scores.items()}
            for task, scores in tasks.items()
        }
        for name, tasks in metrics.items()
    }
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_metrics(path: str | Path) -> Metrics:
    """Read a `metrics.json`.

    Raises:
        DataError: the file is missing or has another layout.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            name: {
                task: {metric: Score(**score) for metric, score in scores.items()}
                for task, scores in tasks.items()
            }
            for name, tasks in document.items()
        }
    except FileNotFoundError as error:
        raise DataError(f"there are no scores at {path}; `zebra evaluate` writes them") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a metrics.json of set → task → metric → value, low, high, n ({error}); evaluate again"
        ) from error

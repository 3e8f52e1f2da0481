"""Describe unusable samples by reason, with examples; list them in skipped.jsonl."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from zebra.errors import BadSample, DataError

MAX_EXAMPLES = 3


class NoUsableSamples(DataError):
    """None of the samples that were tried is usable."""

    def __init__(self, name: str, num_samples: int, bad_samples: Sequence[BadSample]) -> None:
        """Create the error.

        Args:
            name: Name of the dataset.
            num_samples: Number of all its samples.
            bad_samples: What was tried; a sample that was tried several times counts once.
        """
        self.name, self.num_samples = name, num_samples
        self.bad_samples = list({bad.location: bad for bad in bad_samples}.values())
        count = len(self.bad_samples)
        super().__init__(
            f"{count:,} of {count:,} {'samples' if count == num_samples else 'tried samples'} are unusable in {name}: "
            f"{describe_bad_samples(self.bad_samples)}. Repair them; `zebra doctor {name}` reports on all samples"
        )

    def __reduce__(self) -> tuple[type["NoUsableSamples"], tuple[str, int, list[BadSample]]]:
        """Support pickling, which sends the error from a worker process."""
        return NoUsableSamples, (self.name, self.num_samples, self.bad_samples)


def describe_bad_samples(bad_samples: Sequence[BadSample]) -> str:
    """Return the counts by reason, and examples of different reasons first."""
    examples = {bad.reason: bad for bad in reversed(bad_samples)}  # the first of each reason
    first = [examples[reason] for reason in count_reasons(bad_samples)]
    others = [bad for bad in bad_samples if bad not in first]
    texts = [format_example(bad.location, bad.reason, bad.detail) for bad in [*first, *others][:MAX_EXAMPLES]]
    return f"{format_reasons(count_reasons(bad_samples))}. Examples: {'; '.join(texts)}"


def count_reasons(bad_samples: Iterable[BadSample]) -> dict[str, int]:
    """Return reason → number of samples, the most frequent first."""
    return dict(Counter(bad.reason for bad in bad_samples).most_common())


def format_reasons(counts: dict[str, int]) -> str:
    """Return the counts as text.

    >>> format_reasons({"missing caption": 8, "empty caption": 1})
    '8 missing caption, 1 empty caption'
    """
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def format_example(location: str, reason: str, detail: str) -> str:
    """Return a sample with the reason why it is unusable."""
    return f"{location} ({reason}{': ' * bool(detail)}{detail})"


def write_bad_samples(path: Path, bad_samples: Iterable[BadSample]) -> None:
    """Write one JSON line per sample, as for the first epoch of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ({"epoch": 0, "id": bad.location, "reason": bad.reason, "detail": bad.detail} for bad in bad_samples)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

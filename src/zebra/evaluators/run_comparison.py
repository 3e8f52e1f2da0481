"""One metric of several evaluations side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zebra.protocols.paired_test import PairedComparison
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One metric of one task on one dataset, for all runs."""

    dataset: str
    task: str
    metric: str
    scores: tuple[Score | None, ...]
    """One score for each run; None if the run does not have it."""
    published_scores: str = ""
    """The numbers that the paper reports for this dataset and task; empty if there are none."""
    comparisons: Mapping[str, PairedComparison] = field(default_factory=dict)
    """Run → the first run against it; only for runs with predictions of the same task."""
    split: str = ""
    """The split of the dataset; empty if unknown."""
    dataset_digest: str = ""
    """Digest of the data; empty if unknown."""

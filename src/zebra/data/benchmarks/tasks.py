"""Evaluation datasets by task: images with labels, captions or questions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import Source


@dataclass(frozen=True, slots=True)
class ClassificationBenchmark:
    """A labelled set for zero-shot classification."""

    name: str
    """The folder's name."""
    classnames: tuple[str, ...]
    """C names; the position is the label."""
    templates: tuple[str, ...]
    """Prompts with `{c}` (CLIP_benchmark) or `{}` (OpenAI) where the class name goes."""
    source: Source
    """Records with labels in [0, C)."""
    metric: str = "accuracy"
    """What the set is usually scored by: accuracy, mean_per_class, roc_auc or mean_top1_top5."""
    notes: tuple[str, ...] = ()
    """What a reader of its scores should know: classes without a picture, a size that differs from the catalogue's."""


@dataclass(frozen=True, slots=True)
class MultilabelBenchmark:
    """Pictures that may show several classes at once, or none."""

    name: str
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    source: Source
    """Records without labels; row i of `labels_NC` is of record i."""
    labels_NC: NDArray[np.bool_]
    metric: str = "map"
    """map or map11 (VOC2007's, over 11 points of recall)."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetrievalBenchmark:
    """Pictures with one or more captions each, to be found by each other."""

    name: str
    source: Source
    """Records with captions."""
    metric: str = "recall"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompositionalityQuestion:
    """One picture and two captions, the first of them true; or two pictures, the second caption true of the second."""

    image_indices: tuple[int, ...]
    """Positions in the set's source."""
    captions: tuple[str, str]
    category: str
    """What is asked for: SugarCrepe's `add_att`, …, or Winoground's tag."""


@dataclass(frozen=True, slots=True)
class CompositionalityBenchmark:
    """Questions over pictures, each of which is there once however often it is asked about."""

    name: str
    source: Source
    """Records without captions and labels."""
    questions: tuple[CompositionalityQuestion, ...]
    metric: str = "compositionality"
    notes: tuple[str, ...] = ()


AnyBenchmark = ClassificationBenchmark | MultilabelBenchmark | RetrievalBenchmark | CompositionalityBenchmark
"""One split of a set of any task."""

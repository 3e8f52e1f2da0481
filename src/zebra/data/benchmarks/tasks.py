"""Evaluation datasets by task: images with labels, captions or questions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import Source


@dataclass(frozen=True, slots=True)
class ClassificationBenchmark:
    """Images with one label each, for zero-shot classification."""

    name: str
    """The folder name, or the name in the catalog."""
    classnames: tuple[str, ...]
    """C class names in the order of the labels."""
    templates: tuple[str, ...]
    """Prompt templates with the placeholder `{c}` (CLIP_benchmark) or `{}` (OpenAI); () takes those of the model."""
    source: Source
    """Records with labels in [0, C)."""
    metric: str = "accuracy"
    """The usual metric: accuracy, mean_per_class, roc_auc, mean_top1_top5, macro_f1 or worst_group(_top5)."""
    notes: tuple[str, ...] = ()
    """Notes on the scores: classes without an image, a size that differs from the catalog."""
    groups: Mapping[str, str] | None = None
    """Image id → group, such as the region of the world; None if the dataset has no groups."""
    right_labels: Mapping[str, tuple[int, ...]] | None = None
    """Image id → all its right labels, any of which is correct in zero-shot classification; None: the label alone."""


@dataclass(frozen=True, slots=True)
class MultilabelBenchmark:
    """Images with any number of labels each."""

    name: str
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    source: Source
    """Records without labels; row i of `labels_NC` belongs to record i."""
    labels_NC: NDArray[np.bool_]
    metric: str = "map"
    """map, or map11 (11-point interpolated, as for VOC 2007)."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetrievalBenchmark:
    """Images with one or more captions each, for image and text retrieval."""

    name: str
    source: Source
    """Records with captions."""
    metric: str = "mean_recall@1"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultilingualRetrievalBenchmark:
    """Images with captions in several languages, for retrieval in each language and their mean."""

    name: str
    source: Source
    """Records of images; the captions are not read from them."""
    captions: Mapping[str, tuple[tuple[str, ...], ...]]
    """Language → captions of each image; () for an image without any in this language."""
    metric: str = "text_to_image_recall@1"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompositionalityQuestion:
    """Images and captions, some of which belong together."""

    image_indices: tuple[int, ...]
    """Indices of records in the source."""
    captions: tuple[str, ...]
    image_of_caption: tuple[int | None, ...]
    """Position among the question's images of the one that each caption describes; None for a wrong caption."""
    category: str = ""
    """What is asked: SugarCrepe's `add_att`; kinds of kinds are separated by `/`, the widest first."""


@dataclass(frozen=True, slots=True)
class CompositionalityBenchmark:
    """Questions on images, all with equally many images and captions; each image is in the source once."""

    name: str
    source: Source
    """Records without captions and labels."""
    questions: tuple[CompositionalityQuestion, ...]
    file_of_image: tuple[int, ...] = ()
    """Number of the file of each record; several records may be parts of one file. (): each is a file."""
    metric: str = "accuracy"
    """The score that stands for the dataset: accuracy, text, image, group, or macro_… for its mean over categories."""
    min_category_size: int = 1
    """Smaller categories have no score and do not count in means over categories."""
    excluded_categories: tuple[str, ...] = ()
    """Categories that have no score and do not count in means over categories."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssociationQuestion:
    """A cue, and the images among candidates that belong to it."""

    cue: str
    candidates: tuple[int, ...]
    """Indices of records in the source."""
    associated: tuple[int, ...]
    """Those of the candidates that belong to the cue, at least one."""


@dataclass(frozen=True, slots=True)
class AssociationBenchmark:
    """Questions on sets of images; each image is in the source once."""

    name: str
    source: Source
    """Records without captions and labels."""
    questions: tuple[AssociationQuestion, ...]
    metric: str = "jaccard"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceBenchmark:
    """Images of instances or of unnamed classes, for tasks without text."""

    name: str
    source: Source
    """Records with labels, which are any numbers."""
    metric: str = "recall@1"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameSetBenchmark:
    """Sets of neighboring video frames, for zero-shot classification that must be right on all frames of a set."""

    name: str
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    source: Source
    """M frames."""
    labels_MC: NDArray[np.bool_]
    """The right classes of each frame; a prediction of any of them is right."""
    frame_sets: tuple[tuple[int, ...], ...]
    """Positions of the frames of each set, the anchor first."""
    metric: str = "pm0_pm10"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryRelevance:
    """The images of a gallery that a query should find, as positions in the gallery."""

    easy: tuple[int, ...]
    hard: tuple[int, ...] = ()
    """Positives that are difficult; () for datasets without this distinction."""
    ignored: tuple[int, ...] = ()
    """Images that count neither as found nor as wrong ("junk")."""


@dataclass(frozen=True, slots=True)
class GalleryBenchmark:
    """Query images and a separate gallery, for retrieval of images by images."""

    name: str
    source: Source
    """Records of the queries and of the gallery."""
    queries: tuple[int, ...]
    """Positions of the queries in the source."""
    gallery: tuple[int, ...]
    relevance: tuple[QueryRelevance, ...]
    """One per query."""
    metric: str = "map"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionAnnotations:
    """Clips that were each annotated for one action, a verb and a noun."""

    video_N: NDArray[np.int64]
    """The video of each clip."""
    class_N: NDArray[np.int64]
    """The action that the clip was annotated for."""
    annotation_N: NDArray[np.int64]
    """0: neither; 1: the action; 2, 3, 4: only the verb, only the noun, both but not together."""
    actions: tuple[tuple[str, str], ...]
    """Verb and noun of each of the C actions."""


@dataclass(frozen=True, slots=True)
class ActionBenchmark:
    """Clips with annotations of actions and hard negatives (RareAct)."""

    name: str
    templates: tuple[str, ...]
    source: Source
    """N clips."""
    annotations: ActionAnnotations
    metric: str = "mwap"
    notes: tuple[str, ...] = ()

    @property
    def classnames(self) -> tuple[str, ...]:
        """C actions as text."""
        return tuple(" ".join(action) for action in self.annotations.actions)


@dataclass(frozen=True, slots=True)
class LexiconBenchmark:
    """Images of words, each with its own lexicon of candidates."""

    name: str
    templates: tuple[str, ...]
    source: Source
    """N images."""
    classnames: tuple[str, ...]
    """M words of all lexicons."""
    answer_N: NDArray[np.int64]
    """The word that each image shows."""
    lexicons: tuple[NDArray[np.int64], ...]
    """Candidates of each image."""
    metric: str = "accuracy"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GeolocationBenchmark:
    """Images with coordinates, whose places are those of their nearest neighbors in a gallery."""

    name: str
    source: Source
    """N images."""
    place_N2: NDArray[np.float64]
    """Latitude and longitude in degrees."""
    gallery: Source
    """G images."""
    gallery_place_G2: NDArray[np.float64]
    metric: str = "within_25km"
    notes: tuple[str, ...] = ()


PromptedBenchmark = (
    ClassificationBenchmark | MultilabelBenchmark | FrameSetBenchmark | ActionBenchmark | LexiconBenchmark
)
"""A dataset whose classes need prompts."""
AnyBenchmark = (
    ClassificationBenchmark
    | MultilabelBenchmark
    | RetrievalBenchmark
    | MultilingualRetrievalBenchmark
    | CompositionalityBenchmark
    | AssociationBenchmark
    | InstanceBenchmark
    | GalleryBenchmark
    | FrameSetBenchmark
    | ActionBenchmark
    | LexiconBenchmark
    | GeolocationBenchmark
)
"""One split of a dataset for any task."""

"""Benchmarks from captioned images in any layout that training reads."""

from dataclasses import replace
from pathlib import Path

from zebra.config.data import DataConfig
from zebra.data.bad_samples import NoUsableSamples, describe_bad_samples
from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilingualRetrievalBenchmark, RetrievalBenchmark
from zebra.data.columns import LABEL_COLUMNS, find_optional_caption_columns, match_column
from zebra.data.folder_walk import walk_folder
from zebra.data.folders import CAPTION_SUFFIX
from zebra.data.hugging_face import SavedDataset, is_saved_dataset
from zebra.data.ignored import Ignored, IgnoredCounter, format_ignored
from zebra.data.image_source import empty_class_notes, hash_values
from zebra.data.shard_patterns import expand_braces
from zebra.data.shards import list_shards
from zebra.data.sources import Source, open_source, read_many
from zebra.data.table_files import TABLE_FORMATS, open_table, table_suffix
from zebra.errors import BadSample, DataError, MissingSplit, SeveralSplits
from zebra.images.formats import IMAGE_SUFFIXES, image_digest
from zebra.values import Record

SAMPLES_PER_READ = 64
LANGUAGE_COLUMN = "language"
UNKNOWN_LANGUAGE = "und"
"""The code of ISO 639 for rows without a language."""


class CaptionedSource:
    """Samples of a source with captions; samples with the same image are one sample with all their captions.

    A sample that the source cannot read, or that has no caption, is left out and listed in `bad_samples`.
    """

    def __init__(self, source: Source) -> None:
        """Read all samples once; only their captions stay in memory."""
        self.source, self.name = source, source.name
        self.ignored: tuple[Ignored, ...] = source.ignored
        self.bad_samples: list[BadSample] = []
        self.num_repeated = 0
        """Samples whose image an earlier sample has."""
        samples: dict[str, tuple[int, dict[tuple[str | None, str], None]]] = {}
        for start in range(0, len(source), SAMPLES_PER_READ):
            indices = range(start, min(start + SAMPLES_PER_READ, len(source)))
            for index, record in zip(indices, read_many(source, indices), strict=True):
                if isinstance(record, BadSample):
                    self.bad_samples.append(record)
                elif not record.captions:
                    self.bad_samples.append(BadSample("missing caption", record.id))
                else:
                    digest = image_digest(record.image)
                    self.num_repeated += digest in samples
                    samples.setdefault(digest, (index, {}))[1].update(
                        dict.fromkeys((record.group, caption) for caption in record.captions)
                    )
        pairs_by_image = [tuple(pairs) for _, pairs in samples.values()]
        self._samples = [
            (index, tuple(dict.fromkeys(caption for _, caption in pairs))) for index, pairs in samples.values()
        ]
        groups = dict.fromkeys(group for pairs in pairs_by_image for group, _ in pairs)
        self.captions_by_group: dict[str | None, tuple[tuple[str, ...], ...]] = {
            group: tuple(tuple(caption for owner, caption in pairs if owner == group) for pairs in pairs_by_image)
            for group in groups
        }
        """Group → captions of each image; the only group is None unless the source has a column of groups."""
        content = [self.captions_by_group] if len(groups) > 1 else []
        self.digest = hash_values("captioned", source.digest, self._samples, *content)
        """SHA-256 in hex over the digest of the source, and the positions and captions that are used."""

    def __len__(self) -> int:
        return len(self._samples)

    def sample_id(self, index: int) -> str:
        """Return the ID of the first sample with this image, without reading it."""
        return self.source.sample_id(self._samples[index][0])

    def read(self, index: int) -> Record:
        """Read one image with all its captions; raise BadSample if it cannot be used."""
        source_index, captions = self._samples[index]
        return replace(self.source.read(source_index), captions=captions)


def read_captioned(
    path: str | Path, split: str = "test"
) -> RetrievalBenchmark | MultilingualRetrievalBenchmark | ClassificationBenchmark:
    """Open images of any layout that `zebra train` reads: those with captions for retrieval.

    A dataset saved by `datasets` that has labels with class names is opened for classification. A table with a column
    `language` is opened for retrieval in each language.

    Args:
        path: As for `open_source`.
        split: The split, if the data has several; otherwise all data is the split "test".

    Raises:
        MissingSplit: There is no such split.
        DataError: There is no such data, it is damaged, or no sample has a caption.
    """
    language_column = _find_language_column(Path(path))
    source = _open_split(str(path), split, DataConfig(group_column=language_column))
    name = Path(str(path).rstrip("/")).name
    if isinstance(source, SavedDataset) and source.classnames:
        return _classify(name, source)
    captioned = CaptionedSource(source)
    if not len(captioned):
        raise NoUsableSamples(source.name, len(source), captioned.bad_samples)
    if len(captioned.captions_by_group) > 1:
        languages = {language or UNKNOWN_LANGUAGE: rows for language, rows in captioned.captions_by_group.items()}
        ordered = {language: languages[language] for language in sorted(languages)}
        return MultilingualRetrievalBenchmark(name, captioned, ordered, notes=_describe(captioned))
    return RetrievalBenchmark(name, captioned, notes=_describe(captioned))


def is_captioned_argument(name: str) -> bool:
    """Return whether a name that is no path is a URL, a pattern of shards, or PATH/SPLIT of captioned data."""
    parent = Path(name).expanduser().parent
    has_parent = parent.is_file() or ("/" in name and parent.is_dir() and is_captioned_folder(parent))
    return "://" in name or expand_braces(name) != [name] or has_parent


def is_captioned_table(path: Path) -> bool:
    """Return whether a table has a column of captions and none of labels."""
    columns = open_table(path).columns
    has_labels = any(match_column(name, columns, path) for name in LABEL_COLUMNS)
    return not has_labels and bool(find_optional_caption_columns(columns, path, DataConfig()))


def is_captioned_folder(path: Path) -> bool:
    """Return whether a folder holds a saved dataset, tar shards, Parquet files, or images with captions.

    For images, the first folder with images decides: most of them need a caption beside them.
    """
    has_tables = any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))
    if has_tables or is_saved_dataset(path) or list_shards(path):
        return True
    for _, names in walk_folder(path, IgnoredCounter()):
        captions = {Path(name).stem for name in names if name.lower().endswith(CAPTION_SUFFIX)}
        images = [Path(name).stem for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        if images:
            return 2 * sum(stem in captions for stem in images) > len(images)
    return False


def _find_language_column(path: Path) -> str | None:
    """Return the column of languages of a table; None without one, and for data of another layout."""
    if not path.is_file() or table_suffix(path) not in TABLE_FORMATS:
        return None
    return match_column(LANGUAGE_COLUMN, open_table(path).columns, path)


def _open_split(path: str, split: str, config: DataConfig) -> Source:
    try:
        source = open_source(path, config)
    except SeveralSplits:
        return open_source(f"{path.rstrip('/')}/{split}", config)
    if split != "test":
        raise MissingSplit(f"{path} has no splits, so it cannot provide {split!r}. Give the path of the data alone")
    return source


def _classify(name: str, source: SavedDataset) -> ClassificationBenchmark:
    labels: list[int] = []
    for index in range(len(source)):
        record = source.read(index)
        if record.label is None:
            raise DataError(f"{source.name}: {record.id} has no label. Remove the rows without one")
        labels.append(record.label)
    notes = ("classified by the labels of the dataset", *empty_class_notes(labels, source.classnames))
    return ClassificationBenchmark(name, source.classnames, (), source, notes=notes)


def _describe(source: CaptionedSource) -> tuple[str, ...]:
    """Return the notes on what decides the task and on samples that are merged or left out."""
    notes = ["the data has captions and no labels, so the task is retrieval"]
    if source.num_repeated:
        notes.append(
            f"{source.num_repeated:,} samples have the image of an earlier one; their captions belong to one image"
        )
    if source.bad_samples:
        notes.append(f"left out: {describe_bad_samples(source.bad_samples)}")
    if source.ignored:
        notes.append(format_ignored(source.ignored))
    return tuple(notes)

"""The task `zebra queries`: the list of entries by which a set is balanced."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zebra
from zebra.config.queries import SOURCE_KINDS, QueriesConfig, SourceKind
from zebra.config.structure import unstructure
from zebra.curate.queries.entry_list import EntryList, SourceCount, is_entry_table, read_entries
from zebra.curate.queries.lists import (
    INDEX_FILE,
    PAGE_VIEWS_FILE,
    SYNSET_FILE,
    WORDNET_OTHER_FILE,
    count_views,
    read_synset_names,
)
from zebra.curate.queries.ngrams import count_frequent_words, find_bigrams
from zebra.curate.queries.text_files import read_text_blocks
from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.errors import ConfigError
from zebra.text.labels import read_labels

Callback = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class QueriesResult:
    """A list of entries and where they are from."""

    out: Path
    num_entries: int
    source_counts: list[SourceCount]
    num_words: int
    """Occurrences of words in the text."""
    skipped: tuple[Ignored, ...]
    """Lines that could not be read."""


def run(config: QueriesConfig, callback: Callback = lambda _done, _total, _stage: None) -> QueriesResult:
    """Write the entries of all sources to `config.out`: numbers, lists, words, bigrams, titles.

    The order of the sources of a kind does not matter. At most 4 million distinct words or bigrams are in memory, or
    the 64th part of them if that is more; the text is read twice.

    Args:
        callback: Called with the number of files read, their total and the stage.

    Raises:
        ConfigError: A source is missing or of an unknown kind, or there are no entries.
        DataError: A file cannot be read.
    """
    paths = find_sources(config.sources)
    total = sum(len(files) * (2 if kind == "text" else 1) for kind, files in paths.items())
    done = 0

    def progress(kind: SourceKind, stage: str) -> Iterator[Path]:
        nonlocal done
        for path in paths[kind]:
            callback(done, total, stage)
            yield path
            done += 1

    skipped = IgnoredCounter()
    entries = EntryList(config.language, config.max_chars)
    entries.add("number", ((str(number), None) for number in range(config.numbers)))
    for path in progress("entries", "lists"):
        entries.add("entries", ((entry, None) for entry in read_entries(path)))
    for path in progress("names", "lists"):
        entries.add("name", ((name, None) for name in read_labels(path)))
    names = (name for path in progress("wordnet", "WordNet") for name in read_synset_names(path, skipped))
    if paths["wordnet"]:
        entries.add("synset", ((name, None) for name in dict.fromkeys(names)))
    num_words = 0
    if paths["text"]:
        num_words = _add_text(config, entries, progress, skipped)
    if paths["titles"]:
        views = count_views(
            progress("titles", "titles"),
            config.language,
            min_hourly_views=config.min_hourly_views,
            min_views=config.min_views,
            skipped=skipped,
        )
        entries.add("title", views.items(), config.max_titles)
    callback(total, total, "writing")
    if not entries.rows:
        raise ConfigError(
            f"{', '.join(config.sources)} give no entries. Lower min_count or min_views, or name more sources."
        )
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    entries.write(out, {"zebra": zebra.__version__, "config": unstructure(config)})
    return QueriesResult(out, len(entries.rows), entries.source_counts, num_words, skipped.entries())


def find_sources(sources: Sequence[str]) -> dict[SourceKind, list[Path]]:
    """Return the files of each kind in alphabetical order, each once; of folders, all files in them.

    Raises:
        ConfigError: A source does not exist, is named twice with different kinds, or is an empty folder.
    """
    paths: dict[SourceKind, list[Path]] = {kind: [] for kind in SOURCE_KINDS}
    kind_of: dict[Path, SourceKind] = {}
    for source in sources:
        prefix, separator, rest = source.partition(":")
        kind = next((kind for kind in SOURCE_KINDS if kind == prefix), None) if separator else None
        path = Path(rest if kind else source)
        if not path.exists():
            kinds = ", ".join(SOURCE_KINDS)
            raise ConfigError(f"source {source!r} does not exist. Name a file or folder, or KIND:PATH with {kinds}.")
        files = _list_files(path) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"source {source!r} is a folder without files. Name one that has some.")
        for file in files:
            file_kind = kind or detect_kind(file)
            if kind_of.setdefault(file, file_kind) != file_kind:
                raise ConfigError(f"{file} is named as {kind_of[file]} and as {file_kind}. Name it once.")
    for file, file_kind in sorted(kind_of.items()):
        paths[file_kind].append(file)
    return paths


def detect_kind(path: Path) -> SourceKind:
    """Return the kind of a source by the name of its file, or by the column `entry` of a Parquet file."""
    if PAGE_VIEWS_FILE.fullmatch(path.name):
        return "titles"
    if SYNSET_FILE.fullmatch(path.name) or INDEX_FILE.fullmatch(path.name):
        return "wordnet"
    return "entries" if is_entry_table(path) else "text"


def _add_text(
    config: QueriesConfig,
    entries: EntryList,
    progress: Callable[[SourceKind, str], Iterator[Path]],
    skipped: IgnoredCounter,
) -> int:
    """Add words and bigrams of the text; return the number of all words."""

    def read(stage: str, counter: IgnoredCounter) -> Iterator[str]:
        return (block for path in progress("text", stage) for block in read_text_blocks(path, counter))

    with tempfile.TemporaryDirectory() as words_folder, tempfile.TemporaryDirectory() as bigrams_folder:
        words = count_frequent_words(read("words", skipped), config.min_count, Path(words_folder))
        bigrams = find_bigrams(
            read("bigrams", IgnoredCounter()),  # the same lines were counted in the first pass
            words,
            min_count=config.min_count,
            min_pmi=config.min_pmi,
            folder=Path(bigrams_folder),
        )
    entries.add("word", words.counts.items(), config.max_words)
    entries.add("bigram", ((bigram.text, bigram.count) for bigram in bigrams), config.max_bigrams)
    return words.num_words


def _list_files(folder: Path) -> list[Path]:
    """Return the visible files of a folder; of WordNet's database only the data files."""
    files = [file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder))]
    wordnet = {file.parent for file in files if SYNSET_FILE.fullmatch(file.name)}
    return [file for file in files if file.parent not in wordnet or not WORDNET_OTHER_FILE.fullmatch(file.name)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)

"""Titles by page views, and synset names of WordNet."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from zebra.curate.queries.text_files import open_text
from zebra.data.ignored import IgnoredCounter

SYNSET_FILE = re.compile(r"data\.(noun|verb|adj|adv)(\.gz)?")
INDEX_FILE = re.compile(r"index\.(noun|verb|adj|adv|sense)(\.gz)?")
WORDNET_OTHER_FILE = re.compile(
    r"index\.(noun|verb|adj|adv|sense)|(noun|verb|adj|adv)\.exc|cntlist(\.rev)?|(sents|sentidx|frames)\.vrb|lexnames"
)
"""Files beside the data files of WordNet, which have no further synsets."""
PAGE_VIEWS_FILE = re.compile(r"(pageviews|pagecounts)-.*")
_SYNTACTIC_MARKER = re.compile(r"\((a|p|ip)\)$")
"""Position of an adjective, as in "galore(ip)"."""


def count_views(
    paths: Iterable[Path], language: str, *, min_hourly_views: int, min_views: int, skipped: IgnoredCounter
) -> dict[str, int]:
    """Return title → views in files of hourly page views, the most viewed first.

    A line is "language title views bytes". Titles with a colon, such as File:Horse.jpg, are pages about pages.

    Args:
        language: The first word of the lines to read.
        min_hourly_views: Fewest views of a line.
        min_views: Fewest views in all files.
        skipped: Counts lines of other formats.
    """
    views: Counter[str] = Counter()
    prefix = f"{language} "
    for path in paths:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if not line.startswith(prefix):
                    continue
                fields = line.split()
                if len(fields) != 4 or not fields[2].isdecimal():
                    skipped.add("line is not: language title views bytes", f"{path.name}:{number}")
                elif int(fields[2]) >= min_hourly_views and ":" not in fields[1]:
                    views[fields[1].replace("_", " ").strip()] += int(fields[2])
    titles = [(title, count) for title, count in views.items() if count >= min_views]
    return dict(sorted(titles, key=lambda item: (-item[1], item[0])))


def read_synset_names(path: Path, skipped: IgnoredCounter) -> Iterator[str]:
    """Yield names of synsets from a file of WordNet's database.

    A data file gives the first word of each synset, an index file gives all words, in lower case.

    Args:
        skipped: Counts lines of other formats.
    """
    is_index = INDEX_FILE.fullmatch(path.name) is not None
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if line.startswith("  ") or not fields:  # the license
                continue
            if is_index:
                word = fields[0].partition("%")[0]
            elif len(fields) > 4 and fields[0].isdecimal():
                word = _SYNTACTIC_MARKER.sub("", fields[4])
            else:
                skipped.add("line is no synset of WordNet", f"{path.name}:{number}")
                continue
            yield word.replace("_", " ")

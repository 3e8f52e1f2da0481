"""`zebra search STORE QUERY`: the pictures of a store that are nearest to words, to a picture, or to both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zebra.cli.arguments import Hits, PositionalText, RepeatedNot, RepeatedText, parse
from zebra.cli.main import DONE, USAGE, say
from zebra.config.search import SearchConfig

if TYPE_CHECKING:
    from zebra.store.index_metadata import IndexFacts
    from zebra.values import Hit
    from zebra.workflows.search import Answer

DESCRIPTION = """Find pictures by saying what is in them.

QUERY is text, or the path of an image. --where filters by columns:
  zebra search store "a zebra" --where 'width >= 640 and not caption contains "zoo"'
"""


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra search` is told."""

    store: PositionalText
    """A store that zebra embed made."""
    query: PositionalText = ""
    """What the pictures should show, in words; or the path of an image."""
    k: Hits = 10
    """Hits to show."""
    where: str = ""
    """A filter on columns: = != < <= > >=, in (…), contains "…", is null; and, or, not, parentheses."""
    without: RepeatedNot = ()
    """What the pictures should not show, in words; again for more."""
    image: str = ""
    """An image to search for together with the words."""
    like: RepeatedText = ()
    """The id of a row: pictures that resemble its own."""
    captions: str = ""
    """A file with a query on each line."""
    min_score: float | None = None
    """Least cosine of a hit."""
    fold: float | None = None
    """Fold near duplicates, of at least this cosine, into the best of them; 0.95 for instance."""
    offset: int = 0
    """Hits to leave out at the front."""
    method: Literal["auto", "exact", "approximate"] = "auto"
    """auto searches exactly up to a million pictures, and above by the index if there is one."""
    index: bool = False
    """Make or renew the store's index first, for approximate searches."""
    model: str | None = None
    """The model that filled the store, if it is no longer where it was."""
    page: str = ""
    """Write the hits with their pictures to this HTML file."""
    json: bool = False
    """Print one JSON document instead of lines; with --captions, one on each line."""


def run(words: Sequence[str]) -> int:
    """Search and print."""
    told = parse(Words, "search", words, description=DESCRIPTION)
    asked = bool(told.query.strip() or told.image or told.like or told.captions or told.without)
    if not asked and not told.index:
        say("zebra search: say what to search for, or --index to make an index", error=True)
        return USAGE
    from zebra.workflows import search

    if told.index:
        say(f"{told.store}: {_built(search.build_index(told.store))}", error=asked or told.json)
    if not asked:
        return DONE
    settings = {
        name: getattr(told, name) for name in Words.__slots__ if name not in ("index", "page", "json")
    }
    result = search.run(SearchConfig(**settings))
    for note in result.notes:
        say(f"zebra search: {note}", error=True)
    for answer in result.answers:
        _tell(told, answer)
    if told.page:
        from zebra.report.search import write_hits

        write_hits(result, Path(told.page))
        say(f"the pictures are in {told.page}", error=True)
    return DONE


def _tell(told: Words, answer: "Answer") -> None:
    found = answer.found
    if told.json:
        say(json.dumps(document(answer), indent=None if told.captions else 1, default=str))
        return
    if told.captions:
        say(answer.query)
    for hit in found.hits:
        say(("  " if told.captions else "") + _line(hit))
    if told.captions:
        return
    recall = f" (recall {found.recall:.3f})" if found.recall is not None else ""
    more = f"; more with --offset {told.offset + told.k}" if found.more else ""
    hits = "nothing" if not found.hits else f"{len(found.hits)}"
    say(
        f"{hits} of {found.searched:,} pictures, {found.method}{recall}, {1000 * found.seconds:.0f} ms{more}",
        error=True,
    )


def _built(facts: "IndexFacts") -> str:
    return (
        f"an index of {facts.rows:,} pictures, made in {facts.build_seconds:.1f} s, finds {facts.recall:.1%} of the "
        f"ten nearest to {facts.queries} pictures moved a little"
    )


def document(answer: "Answer") -> dict[str, object]:
    """Return an answer as it is printed in JSON."""
    found = answer.found
    return {
        "query": answer.query,
        "method": found.method,
        "recall": found.recall,
        "searched": found.searched,
        "seconds": round(found.seconds, 6),
        "more": found.more,
        "hits": [
            {"id": hit.id, "score": round(hit.score, 6), "folded": list(hit.folded)} | dict(hit.row)
            for hit in found.hits
        ],
    }


def _line(hit: "Hit") -> str:
    place = str(hit.row.get("location") or hit.row["path"])
    here = Path.cwd()
    shown = str(Path(place).relative_to(here)) if Path(place).is_relative_to(here) else place
    alike = f"  (+{len(hit.folded)} alike)" if hit.folded else ""
    return f"{hit.score:6.3f}  {shown}  {hit.row['caption'] or ''}".rstrip() + alike

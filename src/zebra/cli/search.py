"""`zebra search STORE QUERY`: the pictures of a store that are nearest to words, to a picture, or to both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zebra.cli.arguments import KFlag, NotFlag, PositionalStr, RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.config.search import SearchConfig

if TYPE_CHECKING:
    from zebra.search.results import QueryResult
    from zebra.store.index_metadata import IndexMetadata
    from zebra.values import Hit

DESCRIPTION = """Find pictures by saying what is in them.

QUERY is text, or the path of an image. --where filters by columns:
  zebra search store "a zebra" --where 'width >= 640 and not caption contains "zoo"'
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra search` is told."""

    store: PositionalStr
    """A store that zebra embed made."""
    query: PositionalStr = ""
    """What the pictures should show, in words; or the path of an image."""
    k: KFlag = 10
    """Hits to show."""
    where: str = ""
    """A filter on columns: = != < <= > >=, in (…), contains "…", is null; and, or, not, parentheses."""
    without: NotFlag = ()
    """What the pictures should not show, in words; again for more."""
    image: str = ""
    """An image to search for together with the words."""
    like: RepeatedStr = ()
    """The id of a row: pictures that resemble its own."""
    captions: str = ""
    """A file with a query on each line."""
    min_score: float | None = None
    """Least cosine of a hit."""
    dedup: float | None = None
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


def run(argv: Sequence[str]) -> int:
    """Search and print."""
    told = parse_args(Args, "search", argv, description=DESCRIPTION)
    asked = bool(told.query.strip() or told.image or told.like or told.captions or told.without)
    if not asked and not told.index:
        echo("zebra search: say what to search for, or --index to make an index", err=True)
        return EXIT_USAGE
    from zebra.workflows import search

    if told.index:
        echo(f"{told.store}: {_format_index_stats(search.build_index(told.store))}", err=asked or told.json)
    if not asked:
        return EXIT_OK
    settings = {name: getattr(told, name) for name in Args.__slots__ if name not in ("index", "page", "json")}
    result = search.run(SearchConfig(**settings))
    for note in result.notes:
        echo(f"zebra search: {note}", err=True)
    for answer in result.results:
        _print_answer(told, answer)
    if told.page:
        from zebra.report.search import write_search_page

        write_search_page(result, Path(told.page))
        echo(f"the pictures are in {told.page}", err=True)
    return EXIT_OK


def _print_answer(args: Args, answer: "QueryResult") -> None:
    found = answer.result
    if args.json:
        echo(json.dumps(answer_to_json(answer), indent=None if args.captions else 1, default=str))
        return
    if args.captions:
        echo(answer.query)
    for hit in found.hits:
        echo(("  " if args.captions else "") + _format_hit(hit))
    if args.captions:
        return
    recall = f" (recall {found.recall:.3f})" if found.recall is not None else ""
    more = f"; more with --offset {args.offset + args.k}" if found.has_more else ""
    hits = "nothing" if not found.hits else f"{len(found.hits)}"
    echo(
        f"{hits} of {found.num_rows:,} pictures, {found.method}{recall}, {1000 * found.seconds:.0f} ms{more}",
        err=True,
    )


def _format_index_stats(stats: "IndexMetadata") -> str:
    return (
        f"an index of {stats.num_rows:,} pictures, made in {stats.build_seconds:.1f} s, finds {stats.recall:.1%} of the "
        f"ten nearest to {stats.num_queries} pictures moved a little"
    )


def answer_to_json(answer: "QueryResult") -> dict[str, object]:
    """Return an answer as it is printed in JSON."""
    found = answer.result
    return {
        "query": answer.query,
        "method": found.method,
        "recall": found.recall,
        "searched": found.num_rows,
        "seconds": round(found.seconds, 6),
        "more": found.has_more,
        "hits": [
            {"id": hit.id, "score": round(hit.score, 6), "folded": list(hit.duplicates)} | dict(hit.row)
            for hit in found.hits
        ],
    }


def _format_hit(hit: "Hit") -> str:
    place = str(hit.row.get("location") or hit.row["path"])
    here = Path.cwd()
    shown = str(Path(place).relative_to(here)) if Path(place).is_relative_to(here) else place
    alike = f"  (+{len(hit.duplicates)} alike)" if hit.duplicates else ""
    return f"{hit.score:6.3f}  {shown}  {hit.row['caption'] or ''}".rstrip() + alike

"""The command `zebra search STORE QUERY`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.cli.arguments import KFlag, NotFlag, QueryArg, RepeatedStr, StoreArg, parse_args
from zebra.cli.main import EXIT_OK, echo, shorten_path
from zebra.config.search import SearchConfig
from zebra.errors import ConfigError

if TYPE_CHECKING:
    from zebra.search.results import QueryResult
    from zebra.search.searcher import RowPage
    from zebra.search.video_ranges import HitRange
    from zebra.store.index_metadata import IndexMetadata

DESCRIPTION = """Find images by describing them.

QUERY is text, or the path of an image. --where filters by columns, and lists the matching rows without a QUERY:
  zebra search store "a zebra" --where 'width >= 640 and not caption contains "zoo"'
  zebra search store --where 'class = "zebra"' -k 100
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(SearchConfig):
    """Arguments of `zebra search`."""

    store: StoreArg
    query: QueryArg = ""
    without: NotFlag = ()
    like: RepeatedStr = ()
    k: KFlag = 10
    index: bool = False
    """Build the store's index for approximate search first, or add new images to it; QUERY may then be left out."""
    pca: bool = False
    """Compute the principal axes of the store's vectors first, for --dimensions; QUERY may then be left out."""
    page: str = ""
    """Also write the hits with their images to this HTML file."""
    json: bool = False
    """Print one JSON document instead of text; with --queries, one document per line."""

    def __post_init__(self) -> None:
        if self.has_query or self.where or not (self.index or self.pca):
            SearchConfig.__post_init__(self)
        if self.page and not self.has_query:
            raise ConfigError("--page needs something to search for; give a text, --image, --like or --queries")


def run(argv: Sequence[str]) -> int:
    """Search and print the hits."""
    args = parse_args(Args, "search", argv, description=DESCRIPTION)
    from zebra.workflows import search

    if args.index:
        stats = _format_index_stats(
            search.build_index(args.store, lambda message: echo(f"{args.store}: {message}", err=True))
        )
        echo(f"{args.store}: {stats}", err=args.has_query or bool(args.where) or args.json)
    if args.pca:
        axes = search.fit_axes(args.store)
        echo(f"{args.store}: principal axes in {axes.name}", err=args.has_query or bool(args.where) or args.json)
    if not args.has_query:
        if args.where:
            _print_rows(args, search.list_rows(args))
        return EXIT_OK
    result = search.run(args)
    for note in result.notes:
        echo(f"zebra search: {note}", err=True)
    for query_result in result.results:
        _print_query_result(args, query_result)
    if args.page:
        from zebra.report.search import write_search_page

        write_search_page(result, Path(args.page))
        echo(f"page: {args.page}", err=True)
    return EXIT_OK


def _print_query_result(args: Args, query_result: "QueryResult") -> None:
    result = query_result.result
    if args.json:
        echo(json.dumps(query_result_to_json(query_result), indent=None if args.queries else 1, default=str))
        return
    if args.queries:
        echo(query_result.query)
    from zebra.search.video_ranges import merge_video_hits

    for hit_range in merge_video_hits(result.hits):
        echo(("  " if args.queries else "") + _format_hit(hit_range))
    if args.queries:
        return
    recall = f" (recall {result.recall:.3f})" if result.recall is not None else ""
    more = _format_next_page(args, result.has_more)
    milliseconds = 1000 * result.seconds
    echo(
        f"{len(result.hits)} of {result.num_rows:,} images, {result.method}{recall}, {milliseconds:.0f} ms{more}",
        err=True,
    )


def _print_rows(args: Args, page: "RowPage") -> None:
    """Print the rows that match a filter."""
    if args.json:
        document = {
            "where": args.where,
            "matches": page.num_matches,
            "searched": page.num_rows,
            "seconds": round(page.seconds, 6),
            "more": page.has_more,
            "hits": [dict(row) for row in page.rows],
        }
        echo(json.dumps(document, indent=1, default=str))
        return
    for row in page.rows:
        echo(_format_row(row))
    echo(
        f"{len(page.rows)} of {page.num_matches:,} matching images, {page.num_rows:,} in the store"
        f"{_format_next_page(args, page.has_more)}",
        err=True,
    )


def _format_index_stats(stats: "IndexMetadata") -> str:
    return (
        f"index of {stats.num_rows:,} images built in {stats.build_seconds:.1f} s; recall at 10 of {stats.num_queries} "
        f"queries like images: {stats.image_recall:.1%}, like texts: {stats.text_recall:.1%}"
    )


def query_result_to_json(query_result: "QueryResult") -> dict[str, object]:
    """Return the JSON document of one query."""
    result = query_result.result
    return {
        "query": query_result.query,
        "method": result.method,
        "recall": result.recall,
        "searched": result.num_rows,
        "seconds": round(result.seconds, 6),
        "more": result.has_more,
        "hits": [
            {"id": hit.id, "score": round(hit.score, 6), "duplicates": list(hit.duplicates)} | dict(hit.row)
            for hit in result.hits
        ],
    }


def _format_hit(hit_range: "HitRange") -> str:
    hit = hit_range.best
    frames = f"  ({hit_range.num_hits} frames)" if hit_range.num_hits > 1 else ""
    duplicates = f"  (+{len(hit.duplicates)} duplicates)" if hit.duplicates else ""
    return f"{hit.score:6.3f}  {_format_row(hit.row, hit_range.path)}" + frames + duplicates


def _format_row(row: Mapping[str, object], path: str | None = None) -> str:
    """Format path and caption of a row; `path` takes the place of its own."""
    from zebra.search.results import image_path

    return f"{shorten_path(path or image_path(row))}  {row['caption'] or ''}".rstrip()


def _format_next_page(args: Args, has_more: bool) -> str:
    return f"; next page: --offset {args.offset + args.k}" if has_more else ""

"""Results of `zebra search`, one for each query."""

from dataclasses import dataclass

from zebra.search.searcher import Searcher, SearchResult


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The hits of one query."""

    query: str
    """The query as text, for display."""
    result: SearchResult


@dataclass(frozen=True, slots=True)
class SearchRun:
    """The results of all queries of one run."""

    results: tuple[QueryResult, ...]
    notes: tuple[str, ...]
    """Warnings for the user: a truncated query, a missing index."""
    searcher: Searcher
    """The opened store, for reading images."""

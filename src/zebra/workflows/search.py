"""`zebra search`: find images in a store by text, image, or similar rows."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.config.search import SearchConfig
from zebra.errors import ConfigError, DataError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.store_model import load_store_model
from zebra.search.ivf_index import build_ivf_index
from zebra.search.query import WeightedVector, combine_vectors
from zebra.search.query_paths import folder_note, is_image_query, require_text
from zebra.search.results import QueryResult, SearchRun
from zebra.search.searcher import OriginalImage, RowPage, Searcher, SearchResult, open_searcher
from zebra.search.short_vectors import fit_store_axes
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata

__all__ = [
    "OriginalImage",
    "QueryResult",
    "RowPage",
    "SearchResult",
    "SearchRun",
    "Searcher",
    "build_index",
    "find_truncated_texts",
    "fit_axes",
    "list_rows",
    "open_searcher",
    "run",
]


def run(config: SearchConfig) -> SearchRun:
    """Search for one query, or for each line of a file.

    Raises:
        StoreError: The store is missing or damaged, or was embedded by another model than the one in the config.
        ConfigError: The query is empty, the filter is invalid, an id is not in the store, or a text looks like the path
            of an image.
        DataError: An image or the file of queries is missing or unusable.
        WeightsError: The model of the store has moved or is damaged.
    """
    if not config.has_query:
        raise ConfigError("nothing to search for; `list_rows` lists the rows that match a filter")
    searcher = open_searcher(config.store, method=config.method)
    if config.queries:
        texts = _read_queries(Path(config.queries))
        queries = [(text, [text]) for text in texts]
    else:
        texts = [config.query] if config.query and not is_image_query(config.query) else []
        queries = [(_format_query(config), texts)]
    for text in config.without:
        require_text(text, "--not")
    unique_texts = [*dict.fromkeys([*texts, *config.without])]
    needs_model = unique_texts or config.image or (config.query and not texts) or config.dimensions
    clip = _load_model(searcher, config) if needs_model else None
    if clip and config.dimensions:
        searcher = searcher.shorten(config.dimensions, clip.model.config.dimensions)
    notes = [*_truncation_notes(clip, unique_texts), searcher.hint, folder_note(config.query) if config.query else ""]
    vectors = _encode_texts(clip, unique_texts) if clip and unique_texts else {}
    shared: list[WeightedVector] = [(vectors[text], -1.0) for text in config.without]
    shared += [(vector_E, 1.0) for vector_E in searcher.read_vectors(config.like)]
    images = [path for path in (config.image, "" if texts else config.query) if path]
    if clip and images:
        shared += [(vector_E, 1.0) for vector_E in clip.encode_images(images).numpy()]
    searcher.warm_up()
    results = tuple(
        QueryResult(
            title, _search(searcher, combine_vectors([*((vectors[text], 1.0) for text in query), *shared]), config)
        )
        for title, query in queries
    )
    return SearchRun(results, tuple(note for note in notes if note), searcher)


def list_rows(config: SearchConfig) -> RowPage:
    """Return the rows that match the filter of the config, without a query.

    Raises:
        StoreError: The store is missing or damaged.
        ConfigError: The filter is invalid.
    """
    return open_searcher(config.store).list_rows(config.where, k=config.k, offset=config.offset)


def build_index(store_path: str | Path, notify: Callable[[str], None] = lambda _message: None) -> IndexMetadata:
    """Build or replace a store's index for approximate search, and measure its recall.

    Args:
        notify: Called with a message before each long step.

    Raises:
        StoreError: The store is missing or damaged, or another process is writing to it.
        ConfigError: The store has too few rows, or memory or disk is too small.
    """
    with Store.open(Path(store_path)) as store:
        return build_ivf_index(store, notify)


def fit_axes(store_path: str | Path) -> Path:
    """Compute the principal axes of a store's vectors, for searches with fewer dimensions; return their file.

    Raises:
        StoreError: The store is missing or damaged, or the file cannot be written.
        ConfigError: The store is empty.
    """
    return fit_store_axes(Store.open(Path(store_path)))


def find_truncated_texts(clip: Bundle, texts: Sequence[str]) -> list[str]:
    """Return the texts that are longer than the context of the model."""
    tokenizer = clip.require_tokenizer()
    return [text for text in texts if tokenizer.encode([text], truncate=True).num_truncated]


def _encode_texts(clip: Bundle, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    with warnings.catch_warnings():
        # reported in a note, which names the texts
        warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ texts were truncated")
        return dict(zip(texts, clip.encode_texts(texts).numpy(), strict=True))


def _search(searcher: Searcher, query_E: NDArray[np.float32], config: SearchConfig) -> SearchResult:
    return searcher.search(
        query_E,
        k=config.k,
        offset=config.offset,
        where=config.where or None,
        min_score=config.min_score,
        dedup=config.dedup,
        exclude=config.like,
    )


def _load_model(searcher: Searcher, config: SearchConfig) -> Bundle:
    """Load the model of the store."""
    clip = load_store_model(config.store, searcher.model, searcher.dimensions, model=config.model, device=config.device)
    searcher.require_fingerprint(clip.fingerprint)
    return clip


def _truncation_notes(clip: Bundle | None, texts: Sequence[str]) -> list[str]:
    if clip is None or not texts:
        return []
    return [
        f"{text[:60]!r}… is longer than the model's context of {clip.context_length} tokens. The rest was not used"
        for text in find_truncated_texts(clip, texts)
    ]


def _format_query(config: SearchConfig) -> str:
    """Return the query as text for display."""
    parts = [config.query, config.image, *(f"like {id[:12]}" for id in config.like)]
    return " + ".join(filter(None, parts)) + "".join(f" − {text}" for text in config.without)


def _read_queries(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read the queries in {path}: {reason}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ConfigError(f"{path} contains no queries. Write one per line")
    for text in texts:
        require_text(text, f"--queries {path}")
    return texts

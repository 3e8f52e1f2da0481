"""`zebra search`: a store, and words, pictures or rows to look for, in; the pictures nearest to them out."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.config.search import SearchConfig
from zebra.data.folders import IMAGE_SUFFIXES
from zebra.errors import ConfigError, DataError, DownloadError, WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.search.ivf_index import build_ivf_index
from zebra.search.query import WeightedVector, combine_vectors
from zebra.search.results import QueryResult, SearchRun
from zebra.search.searcher import OriginalImage, Searcher, SearchResult, open_searcher
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata

__all__ = [
    "OriginalImage",
    "QueryResult",
    "SearchResult",
    "SearchRun",
    "Searcher",
    "build_index",
    "find_truncated_texts",
    "open_searcher",
    "run",
]


def run(config: SearchConfig) -> SearchRun:
    """Search for one query, or for every line of a file.

    Raises:
        StoreError: There is no store, it is damaged, or another model than the one named filled it.
        ConfigError: There is nothing to search for, the filter cannot be read, or an id is not in the store.
        DataError: A picture or the file of captions is missing or unusable.
        WeightsError: The model is not where it was when the store was filled, or not whole.
    """
    searcher = open_searcher(config.store, method=config.method)
    if config.queries:
        texts = _read_queries(Path(config.queries))
        queries = [(text, [text]) for text in texts]
    else:
        picture = _is_image_path(config.query)
        texts = [config.query] if config.query and not picture else []
        queries = [(_format_query(config), texts)]
    words = [*dict.fromkeys([*texts, *config.without])]
    clip = _load_model(searcher, config) if words or config.image or (config.query and not texts) else None
    notes = [*_truncation_notes(clip, words), searcher.hint]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "[0-9]+ of [0-9]+ texts were cut"
        )  # said in a note, which names them
        vectors = dict(zip(words, clip.encode_texts(words).numpy(), strict=True)) if clip and words else {}
    common: list[WeightedVector] = [(vectors[text], -1.0) for text in config.without]
    common += [(vector_E, 1.0) for vector_E in searcher.read_vectors(config.like)]
    images = [path for path in (config.image, "" if texts else config.query) if path]
    if clip and images:
        common += [(vector_E, 1.0) for vector_E in clip.encode_images(images).numpy()]
    searcher.warm_up()
    answers = tuple(
        QueryResult(
            title,
            _search(searcher, combine_vectors([*((vectors[text], 1.0) for text in said), *common]), config),
        )
        for title, said in queries
    )
    return SearchRun(answers, tuple(note for note in notes if note), searcher)


def build_index(store_path: str | Path) -> IndexMetadata:
    """Make or renew a store's index for approximate searches, and measure what it finds.

    Raises:
        StoreError: There is no store, it is damaged, or another process is writing to it.
        ConfigError: It has too few rows.
    """
    with Store.open(Path(store_path)) as store:
        return build_ivf_index(store)


def find_truncated_texts(clip: Bundle, texts: Sequence[str]) -> list[str]:
    """Return those texts that are longer than the model reads, so that what follows is not searched for."""
    words = clip.require_tokenizer()
    return [text for text in texts if words.encode([text], truncate=True).num_truncated]


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
    """Load the model that filled the store."""
    try:
        clip = load(config.model or searcher.model)
    except (WeightsError, DownloadError) as error:
        if config.model:
            raise
        raise type(error)(
            f"{error}. The store {config.store} remembers its model there; if it has moved, name it: --model MODEL"
        ) from error
    searcher.require_fingerprint(clip.fingerprint)
    return clip


def _truncation_notes(clip: Bundle | None, texts: Sequence[str]) -> list[str]:
    if clip is None or not texts:
        return []
    return [
        f"{text[:60]!r}… is longer than the {clip.context_length} tokens that the model reads; what follows them was "
        "not searched for"
        for text in find_truncated_texts(clip, texts)
    ]


def _is_image_path(query: str) -> bool:
    """Say whether a query is the path of an image; DataError if it looks like one, and nothing is there."""
    if not query.lower().endswith(IMAGE_SUFFIXES):
        return False
    if not Path(query).is_file() and " " not in query:
        raise DataError(
            f"there is no image at {query}; to search for these words, write them without {query[-4:]}"
        )
    return Path(query).is_file()


def _format_query(config: SearchConfig) -> str:
    """Write what is searched for as people read it."""
    wanted = [config.query, config.image, *(f"like {id[:12]}" for id in config.like)]
    return " + ".join(filter(None, wanted)) + "".join(f" − {text}" for text in config.without)


def _read_queries(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read the captions in {path}: {reason}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ConfigError(f"{path} holds no captions; write one on each line")
    return texts

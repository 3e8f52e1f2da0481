"""A distributed engine, which gets copies of everything, writes the bytes of the threads of one process."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.crawl import image_link, serve_images, wat_document, write_wat

from zebra.config.curate import CurateConfig, TextRules
from zebra.config.curate_copies import CopyRules
from zebra.config.fetch import FetchConfig
from zebra.workflows import curate

MakePool = Callable[..., Path]
CAPTIONS = [f"{color} horse number {number}" for number, color in enumerate(["red", "blue", "gray", "green"] * 5)]


class CopyingEngine:
    """Runs each job on copies of the function and the item, as another machine does."""

    is_distributed = True

    def __init__(self) -> None:
        self.functions: list[Any] = []

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield the results in order."""
        self.functions.append(function)
        remote_function = copy.deepcopy(function)
        for item in items:
            yield remote_function(copy.deepcopy(item))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CopyingEngine:
    engine, open_engine = CopyingEngine(), curate.open_engine

    @contextmanager
    def open_copying_engine(name: Any, num_workers: int | None) -> Iterator[Any]:
        with open_engine("threads", num_workers) as threads:
            yield engine if name == "ray" else threads

    monkeypatch.setattr(curate, "open_engine", open_copying_engine)
    monkeypatch.setattr(curate, "require_ray", lambda _purpose: None)
    monkeypatch.setattr("zebra.curate.scan.SAMPLES_PER_UNIT", 8)
    return engine


def write_twice(config: CurateConfig, folder: Path) -> list[dict[str, bytes]]:
    """Return the files that threads and the distributed engine write."""
    sets = []
    for name in ("threads", "ray"):
        out = folder / name
        result = curate.run(replace(config, out=str(out), engine=name))  # type: ignore[arg-type]
        assert 0 < result.num_kept < result.num_pairs
        files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
        sets.append({name: data.replace(str(out).encode(), b"SET") for name, data in files.items()})
    return sets


def test_images_are_read_and_compared_elsewhere(make_pool: MakePool, tmp_path: Path, engine: CopyingEngine) -> None:
    pool = make_pool(CAPTIONS)
    (pool / "0-copy.png").write_bytes((pool / "0.png").read_bytes())
    (pool / "0-copy.txt").write_text("a copy")
    config = CurateConfig(pool=str(pool), out="", copies=CopyRules(max_distance=10))
    threads, distributed = write_twice(config, tmp_path)
    assert threads == distributed
    # Scan and signatures run elsewhere, besides the rules.
    assert sum("Scan" in type(function).__name__ for function in engine.functions) == 1
    assert any("copies" in str(getattr(function, "args", "")) for function in engine.functions)


def test_shards_with_tables_are_read_elsewhere(make_pool: MakePool, tmp_path: Path, engine: CopyingEngine) -> None:
    curate.run(CurateConfig(pool=str(make_pool(CAPTIONS)), out=str(tmp_path / "shards")))
    config = CurateConfig(pool=str(tmp_path / "shards"), out="", text=TextRules(boilerplate=("number 3",)))
    threads, distributed = write_twice(config, tmp_path)
    assert threads == distributed


def test_links_are_read_and_downloaded_elsewhere(make_pool: MakePool, tmp_path: Path, engine: CopyingEngine) -> None:
    images = {f"/{number}.png": path.read_bytes() for number, path in enumerate(make_pool(CAPTIONS).glob("*.png"))}
    with serve_images(images) as server:
        links = [image_link(f"/{number}.png", alt=caption) for number, caption in enumerate([*CAPTIONS, "gone horse"])]
        pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/index.html", links)])
        fetch = FetchConfig(allow_private=True, max_tries=1, timeout_seconds=10)
        threads, distributed = write_twice(CurateConfig(pool=str(pool), out="", fetch=fetch), tmp_path)
        requests = {path: count for path, count in server.requests.items() if path.endswith(".png")}
    assert threads == distributed
    assert requests == dict.fromkeys([*images, f"/{len(CAPTIONS)}.png"], 2)

"""`zebra curate --engine ray` writes the bytes of the threads of one process, with any number of workers."""

import importlib.util
from pathlib import Path

import pytest
from tests.crawl import image_link, serve_images, wat_document, write_wat

from zebra.config.curate import BalanceRules, CurateConfig, TextRules
from zebra.config.curate_copies import CopyRules
from zebra.config.fetch import FetchConfig
from zebra.engines import open_engine
from zebra.errors import DataError
from zebra.workflows import curate

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray")


def read_files(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files["account.json"] = files["account.json"].replace(str(folder).encode(), b"SET")
    return files


def fail_at_three(item: int) -> int:
    if item == 3:
        raise DataError("item 3 is bad")
    return item


def test_one_and_two_workers_write_the_bytes_of_threads(pairs, tmp_path, monkeypatch):
    pool, entries = tmp_path / "pool", tmp_path / "entries.txt"
    pool.mkdir()
    for number, (key, suffix, data, caption) in enumerate(pairs[:40]):
        (pool / f"{key}.{suffix}").write_bytes(data)
        (pool / f"{key}.txt").write_text(caption if number % 4 else "IMG_2043.jpg")
        (pool / f"{key}-copy.{suffix}").write_bytes(data)
        (pool / f"{key}-copy.txt").write_text(caption)
    entries.write_text("\n".join(sorted({word for _, _, _, caption in pairs[:40] for word in caption.split()})) + "\n")
    monkeypatch.setattr("zebra.curate.scan.SAMPLES_PER_UNIT", 8)
    monkeypatch.setattr("zebra.curate.pairs.MIN_BLOCK_PAIRS", 16)
    written = []
    for engine, workers in (("threads", 1), ("ray", 1), ("ray", 2)):
        out = tmp_path / f"{engine}-{workers}"
        config = CurateConfig(
            pool=str(pool),
            out=str(out),
            text=TextRules(max_frequency=30),
            balance=BalanceRules(entries=str(entries), keep=20),
            engine=engine,
            workers=workers,
        )
        result = curate.run(config)
        assert 0 < result.num_kept < 40
        written.append(read_files(out))
    assert written[0] == written[1] == written[2]


def test_workers_download_links_and_compare_the_images(pairs, tmp_path):
    captions = {f"/{key}.{suffix}": (data, caption) for key, suffix, data, caption in pairs[:20]}
    captions |= {f"/copy{path}": (data, f"again: {caption}") for path, (data, caption) in captions.items()}
    with serve_images({path: data for path, (data, _) in captions.items()}) as server:
        links = [image_link(path, alt=caption) for path, (_, caption) in captions.items()]
        pool = write_wat(tmp_path / "links.wat", [wat_document(f"{server.url}/", links)])
        fetch = FetchConfig(allow_private=True, timeout_seconds=10)
        written = []
        for engine in ("threads", "ray"):
            out = tmp_path / engine
            copies = CopyRules(max_distance=10)
            curate.run(CurateConfig(pool=str(pool), out=str(out), fetch=fetch, copies=copies, engine=engine, workers=2))
            written.append(read_files(out))
        requests = {path: count for path, count in server.requests.items() if path in captions}
    assert written[0] == written[1]
    assert requests == dict.fromkeys(captions, 2)


def test_an_error_of_a_job_is_raised_as_it_is():
    with open_engine("ray", 2) as engine:
        assert list(engine.map(str, range(40))) == [str(item) for item in range(40)]
        with pytest.raises(DataError, match=r"^item 3 is bad$"):
            list(engine.map(fail_at_three, range(10)))

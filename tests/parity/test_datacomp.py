"""DataComp's published filters and LAION's rules keep the same uids, on synthetic metadata.

The references say each rule once more, row by row in plain Python, after DataComp's paper (arXiv 2304.14108), the
commands of its README and the behavior of its published baselines. The language is a column, because both its detectors
need models that must be downloaded.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.config.curate import CurateConfig
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.curate.pairs import Pairs
from zebra.curate.pipeline import Stage, apply_stages
from zebra.curate.subset import write_subset
from zebra.workflows.curate_stages import build_stages

NUM_ROWS = 4_000
CLIP_SCORES = ("clip_b32_similarity_score", "clip_l14_similarity_score")
WORDS = ["a", "dog", "zebra", "café", "日本", "🦓", "IMG_2043.jpg", "x", "the", "photo", "&amp;", "12345"]
GAPS = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\u200b", " - "]
Row = dict[str, object]


@pytest.fixture(scope="module")
def metadata() -> pa.Table:
    """Return metadata as DataComp publishes it, with values at and beside each limit."""
    rng = np.random.default_rng(0)
    side = rng.choice([0, 1, 66, 67, 199, 200, 201, 400, 599, 600, 601, 1000], (NUM_ROWS, 2))
    texts = []
    for _ in range(NUM_ROWS):
        words = rng.choice(WORDS, rng.integers(0, 6))
        texts.append("".join(str(rng.choice(GAPS)) + str(word) for word in words) + str(rng.choice(["", " ", "\n"])))
    scores = np.round(rng.normal(0.25, 0.05, (NUM_ROWS, 2)), 2)  # rounded, so that many are at a threshold
    uids = [rng.bytes(16).hex() for _ in range(NUM_ROWS - 2)] + ["0" * 32, "0" * 31 + "1"]
    return pa.table(
        {
            "uid": uids,
            "url": [f"https://example.org/{row}.jpg" for row in range(NUM_ROWS)],
            "text": texts,
            "original_width": side[:, 0],
            "original_height": side[:, 1],
            CLIP_SCORES[0]: scores[:, 0].astype(np.float32),
            CLIP_SCORES[1]: scores[:, 1],
            "language": rng.choice(["en", "de", "zh"], NUM_ROWS, p=[0.8, 0.1, 0.1]),
        }
    )


def is_basic(row: Row) -> bool:
    """DataComp: English, over 2 words, over 5 characters, shorter side of 200 or more, aspect ratio of 3 or less."""
    width, height = row["original_width"], row["original_height"]
    return (
        row["language"] == "en"
        and len(row["text"].split()) > 2
        and len(row["text"]) > 5
        and min(width, height) >= 200
        and max(width, height) / min(width, height) <= 3.0
    )


def find_top(table: pa.Table, column: str, fraction: float) -> float:
    """DataComp: the threshold is the score at position int(N · fraction) of the scores in descending order."""
    scores = sorted(table[column].to_pylist(), reverse=True)
    return scores[int(len(scores) * fraction)]


def to_subset(uids: list[str]) -> list[tuple[int, int]]:
    """DataComp: pairs of the upper and lower 64 bits, sorted."""
    return sorted(divmod(int(uid, 16), 2**64) for uid in uids)


def run(table: pa.Table, folder: Path, recipe: str, **settings: object) -> list[tuple[int, int]]:
    """Return the subset that zebra writes; the metadata are in three units."""
    columns = table.set_column(0, "uid", pa.array(map(bytes.fromhex, table["uid"].to_pylist()), pa.binary(16)))
    columns = columns.append_column("id", table["url"])
    files = []
    for number in range(3):
        files.append(folder / f"{number}.parquet")
        pq.write_table(columns[number * NUM_ROWS // 3 : (number + 1) * NUM_ROWS // 3], files[-1])
    raw = read_recipe(recipe, "curate")
    for name, value in settings.items():
        raw[name] = raw.get(name, {}) | value if isinstance(value, dict) else value
    config = structure(CurateConfig, raw | {"pool": "pool", "out": "set"})
    pairs = Pairs(files)
    apply_stages(pairs, without_image_stages(build_stages(config, {}, columns.column_names), columns), folder)
    write_subset(folder / "subset.npy", pairs)
    return np.load(folder / "subset.npy").tolist()


def without_image_stages(stages: list[Stage], table: pa.Table) -> list[Stage]:
    """Return the stages that need no image; each reads columns of the metadata or of a stage before."""
    known = set(table.column_names)
    usable = []
    for stage in stages:
        reads = {stage.column} if hasattr(stage, "column") else set(stage.columns)
        if reads <= known:
            usable.append(stage)
            known |= set(getattr(stage, "schema", pa.schema([])).names)
    return usable


def check(table: pa.Table, found: list[tuple[int, int]], is_kept: Callable[[Row], bool]) -> None:
    expected = [row["uid"] for row in table.to_pylist() if is_kept(row)]
    assert found == to_subset(expected)
    assert len(table) // 50 < len(expected) < len(table) * 49 // 50


def test_the_basic_filter_keeps_the_same_uids(metadata: pa.Table, tmp_path: Path) -> None:
    check(metadata, run(metadata, tmp_path, "datacomp-basic"), is_basic)


@pytest.mark.parametrize("column", CLIP_SCORES)
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_the_fraction_with_the_best_clip_scores_is_the_same(
    metadata: pa.Table, tmp_path: Path, column: str, fraction: float
) -> None:
    threshold = find_top(metadata, column, fraction)
    assert metadata[column].to_pylist().count(threshold) > 1  # ties
    found = run(metadata, tmp_path, "everything", columns=[f"{column} top {fraction}"])
    check(metadata, found, lambda row: row[column] >= threshold)


@pytest.mark.parametrize("threshold", [0.25, 0.3])
def test_a_threshold_on_the_clip_score_keeps_the_same_uids(
    metadata: pa.Table, tmp_path: Path, threshold: float
) -> None:
    found = run(metadata, tmp_path, "everything", columns=[f"{CLIP_SCORES[0]} >= {threshold}"])
    check(metadata, found, lambda row: np.float32(row[CLIP_SCORES[0]]) >= np.float32(threshold))


def test_the_filter_of_laion_2b_keeps_the_same_uids(metadata: pa.Table, tmp_path: Path) -> None:
    language = {"keep": ["en"], "keep_unsure": False}
    found = run(metadata, tmp_path, "everything", language=language, columns=[f"{CLIP_SCORES[0]} >= 0.28"])
    is_kept = lambda row: row["language"] == "en" and np.float32(row[CLIP_SCORES[0]]) >= np.float32(0.28)  # noqa: E731
    check(metadata, found, is_kept)


def test_the_rules_of_laion_for_links_keep_the_same_uids(metadata: pa.Table, tmp_path: Path) -> None:
    """LAION-400M: 5 characters or more, each address and caption once, a cosine of 0.3 or more.

    Which of several equal links stays is no rule; here it is the one with the smallest uid.
    """
    urls = [f"https://example.org/{row % 1500}.jpg" for row in range(NUM_ROWS)]
    table = metadata.set_column(1, "url", pa.array(urls))
    table = table.set_column(
        2, "text", pa.array([f"{text}{row % 7}" for row, text in enumerate(table["text"].to_pylist())])
    )
    table = pa.concat_tables([table[: NUM_ROWS // 2], table[: NUM_ROWS // 2]])  # every link twice
    table = table.set_column(0, "uid", metadata["uid"])
    links = zip(table["url"].to_pylist(), table["text"].to_pylist(), table["uid"].to_pylist(), strict=True)
    smallest: dict[tuple[str, str], str] = {}
    for url, text, uid in links:
        smallest[url, text] = min(uid, smallest.get((url, text), uid))

    def is_kept(row: Row) -> bool:
        is_one = smallest[row["url"], row["text"]] == row["uid"]
        return is_one and len(row["text"]) >= 5 and row[CLIP_SCORES[1]] >= 0.3

    found = run(table, tmp_path, "laion", columns=[f"{CLIP_SCORES[1]} >= 0.3"])
    check(table, found, is_kept)


def test_a_subset_of_datacomp_selects_its_uids(metadata: pa.Table, tmp_path: Path) -> None:
    chosen = metadata["uid"].to_pylist()[::3]
    halves = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in chosen], np.dtype("u8,u8"))
    halves.sort()
    np.save(tmp_path / "chosen.npy", halves)
    assert run(metadata, tmp_path, "everything", subset=str(tmp_path / "chosen.npy")) == to_subset(chosen)

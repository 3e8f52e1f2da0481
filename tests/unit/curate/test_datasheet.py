"""The documents of a curated set say where it is from, what was dropped and what each entry kept."""

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.curate import BalanceRules, CurateConfig
from zebra.curate.croissant import CROISSANT_FILE, describe_set
from zebra.curate.datasheet import DATASHEET_FILE, ENTRIES_FILE, count_entry_pairs, count_hosts, format_datasheet
from zebra.curate.pairs import Pairs
from zebra.curate.write import SHARD_SCHEMA
from zebra.workflows import curate

ACCOUNT: dict[str, Any] = {
    "zebra": "1.2.3",
    "config": {"pool": "pool", "out": "set", "text": {"min_words": 3, "boilerplate": []}},
    "pool_sha256": "abc",
    "pairs": {"found": 200, "kept": 90, "dropped": 110},
    "captions": {"language": {"en": 80, "de": 10}, "masked": {}},
    "images": {"found": 200, "kept": 90},
    "rules": [
        {"stage": "text", "reason": "caption under 3 words", "found": 200, "dropped": 100},
        {"stage": "download", "reason": "excluded by robots.txt", "found": 100, "dropped": 4},
        {"stage": "download", "reason": "status 404", "found": 96, "dropped": 5},
        {"stage": "download", "reason": "rights reserved by TDMRep", "found": 91, "dropped": 1},
    ],
    "measurements": {"score": "clip-abc fp32"},
    "ignored_files": [{"reason": ".tif", "count": 2}],
    "unused": [{"reason": "record without images", "count": 7}],
}


def make_pairs(folder: Path, columns: dict[str, list[Any]], dropped: list[bool]) -> Pairs:
    pq.write_table(pa.table(columns), folder / "unit.parquet")
    pairs = Pairs([folder / "unit.parquet"])
    pairs.drop(0, np.array(dropped), 0)
    return pairs


def test_hosts_are_counted_among_kept_pairs(tmp_path: Path) -> None:
    urls = [
        "https://A.example/1.jpg",
        "http://a.example:8080/2.jpg?x=@b",
        "https://user:pw@b.example",
        "https://[::1]/x",
        "https://dropped.example/",
        "no address",
        None,
    ]
    pairs = make_pairs(tmp_path, {"url": urls}, [False] * 4 + [True] + [False] * 2)
    assert count_hosts(pairs) == {"a.example": 2, "[::1]": 1, "b.example": 1}
    assert count_hosts(make_pairs(tmp_path, {"id": ["a"]}, [False])) == {}


def test_entries_are_counted_before_and_after_balancing(tmp_path: Path) -> None:
    lists = pa.array([[0, 1], [0], [1], [], None], pa.list_(pa.int32()))
    pairs = make_pairs(tmp_path, {"entries": lists}, [False, True, False, True, True])
    counts = count_entry_pairs(pairs, ["dog", "cat", "zebra"])
    assert counts.matched_E.tolist() == [2, 2, 0]
    assert counts.kept_E.tolist() == [1, 2, 0]
    page = format_datasheet(ACCOUNT, {}, counts)
    assert "2 of 3 entries matched, 4 times in all; 2 have pairs in the set, 3 in all" in page
    assert "| dog | 2 | 1 | 50.0% |" in page


def test_the_page_tells_opt_outs_by_signal_and_link_rot_by_reason() -> None:
    page = format_datasheet(ACCOUNT, {}, None)
    assert "5.00% of 100 addresses failed; 5 are opt-outs." in page
    assert "| opt-out | excluded by robots.txt | 4 | 4.00% |" in page
    assert "| opt-out | rights reserved by TDMRep | 1 | 1.00% |" in page
    assert "| failed | status 404 | 5 | 5.00% |" in page
    for line in ("| text.min\\_words | 3 |", "| de | 10 |", "| score | clip-abc fp32 |", "| zebra | 1.2.3 |", ".tif"):
        assert line in page
    for title in ("Hosts", "Entries", "Captions: masked"):
        assert f"## {title}" not in page  # there is nothing to say
    local = ACCOUNT | {"rules": ACCOUNT["rules"][:1]}
    assert "## Downloads" not in format_datasheet(local, {}, None)


def test_the_largest_hosts_are_listed_and_all_are_counted() -> None:
    hosts = {f"{number}.example": 1000 - number for number in range(150)}
    page = format_datasheet(ACCOUNT, hosts, None)
    assert "images of 150 hosts. The 100 largest:" in page
    assert "| 99.example | 901 |" in page
    assert "100.example" not in page


def test_text_of_the_web_cannot_change_the_page() -> None:
    account = ACCOUNT | {"captions": {"language": {"a|b\n# c <script>": 1}}}
    page = format_datasheet(account, {"[x](javascript:1)": 1}, None)
    assert "a\\|b # c &lt;script>" in page
    assert "\\[x](javascript:1)" in page


def test_croissant_describes_each_column_of_the_tables() -> None:
    document = describe_set("set", "pairs", SHARD_SCHEMA, has_splits=True)
    (record_set,) = document["recordSet"]
    fields = {field["source"]["extract"]["column"]: field for field in record_set["field"]}
    assert list(fields) == SHARD_SCHEMA.names
    assert fields["captions"]["repeated"] is True
    assert fields["width"]["dataType"] == "sc:Integer"
    names = {distribution["@id"] for distribution in document["distribution"]}
    assert {field["source"]["fileSet"]["@id"] for field in fields.values()} <= names
    assert {distribution["includes"] for distribution in document["distribution"]} == {
        "*/[0-9]*.tar",
        "*/[0-9]*.parquet",
    }
    assert document["@context"]["recordSet"] == "cr:recordSet"


def test_a_curation_writes_the_documents(make_pool: Callable[..., Path], tmp_path: Path) -> None:
    pool = make_pool(["a red dog"] * 6 + ["a cat", "a zebra", "nothing here"])
    (tmp_path / "entries.txt").write_text("dog\ncat\nzebra\nunicorn\n")
    contents = []
    for _ in range(2):
        out = tmp_path / "set"
        config = CurateConfig(
            pool=str(pool), out=str(out), balance=BalanceRules(entries=str(tmp_path / "entries.txt"), max_per_entry=2)
        )
        curate.run(config)
        contents.append({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
        names = set(contents[-1])
        out.rename(tmp_path / f"set-{len(contents)}")
    assert contents[0] == contents[1]
    assert {DATASHEET_FILE, CROISSANT_FILE, ENTRIES_FILE} <= names
    rows = {row["entry"]: row for row in pq.read_table(tmp_path / "set-1" / ENTRIES_FILE).to_pylist()}
    assert {entry: row["matched"] for entry, row in rows.items()} == {"dog": 6, "cat": 1, "zebra": 1, "unicorn": 0}
    assert rows["cat"]["kept"] == rows["zebra"]["kept"] == 1
    assert rows["dog"]["kept"] < 6
    assert "not drawn by any of its entries" in contents[0][DATASHEET_FILE].decode()
    for distribution in json.loads(contents[0][CROISSANT_FILE])["distribution"]:
        matches = {name for name in names if fnmatch(name, distribution["includes"])}
        assert len(matches) == 1
        assert all(name.startswith("00000.") for name in matches)

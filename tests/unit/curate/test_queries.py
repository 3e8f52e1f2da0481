"""Lists of entries: words, bigrams, titles, synsets and names, merged, counted and the same on every run."""

import gzip
import json
from collections.abc import Callable
from math import log2
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.config.queries import QueriesConfig
from zebra.curate.queries import counts
from zebra.curate.queries.counts import SpillingCounter
from zebra.curate.queries.entry_list import EntryList, read_entries
from zebra.curate.queries.ngrams import count_frequent_words, find_bigrams
from zebra.curate.queries.text_files import read_text_blocks
from zebra.data.ignored import IgnoredCounter
from zebra.errors import ConfigError, DataError
from zebra.workflows import queries

TEXT = "The red horse runs. A red horse (a mare) stands\nin New York, New York.\n"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., dict[str, dict[str, object]]]:
    """Return a function that writes files, builds a list of them and returns its rows by entry."""

    def run(files: dict[str, str | bytes], prefix: str = "", **options: object) -> dict[str, dict[str, object]]:
        for name, content in files.items():
            path = tmp_path / "sources" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        sources = tuple(f"{prefix}{tmp_path / 'sources' / name}" for name in files)
        settings: dict[str, object] = {"numbers": 0, "min_count": 2, "min_pmi": 0.0} | options
        queries.run(QueriesConfig(sources=sources, out=str(tmp_path / "queries.parquet"), **settings))
        rows = pq.read_table(tmp_path / "queries.parquet").to_pylist()
        return {row["entry"]: row for row in rows}

    return run


def test_words_and_bigrams_are_counted_between_punctuation(build: Callable) -> None:
    rows = build({"a.txt": TEXT})
    assert {entry: row["count"] for entry, row in rows.items()} == {
        "red": 2, "horse": 2, "New": 2, "York": 2, "red horse": 2, "New York": 2,
    }  # fmt: skip
    assert rows["red horse"]["source"] == "bigram"
    assert rows["red"]["source"] == "word"
    rows = build({"a.txt": TEXT}, min_count=1)
    assert {"horse a", "mare stands", "stands in", "York New", "runs A"}.isdisjoint(rows)
    assert {"A red", "a mare", "in New"} <= set(rows)


def test_pointwise_mutual_information_is_in_bits_over_all_words(tmp_path: Path) -> None:
    text = "a b\n" * 3 + "a c\n" * 5 + "b c\n" * 8
    words = count_frequent_words([text], 1, tmp_path)
    assert (words.counts, words.num_words) == ({"c": 13, "b": 11, "a": 8}, 32)
    bigrams = find_bigrams([text], words, min_count=1, min_pmi=-9.0, folder=tmp_path)
    expected = {"a b": log2(3 * 32 / (8 * 11)), "a c": log2(5 * 32 / (8 * 13)), "b c": log2(8 * 32 / (11 * 13))}
    assert {bigram.text: bigram.pmi for bigram in bigrams} == pytest.approx(expected)
    assert [bigram.text for bigram in bigrams] == sorted(expected, key=lambda text: -expected[text])
    kept = find_bigrams([text], words, min_count=1, min_pmi=expected["a c"], folder=tmp_path)
    assert [bigram.text for bigram in kept] == ["b c", "a c"]


def test_entries_of_several_sources_are_merged_with_their_counts(build: Callable) -> None:
    synsets = "  1 license\n00001740 03 n 02 New_York 0 Big_Apple 0 000 | x\n00002 00 a 01 galore(ip) 0 000 | x\n"
    views = "en New_York 80 0\nen New_York 20 0\nen Horse 49 0\nen Horse 60 0\nen Horse 60 0\nen File:Horse 90 0\n"
    rows = build({"a.txt": TEXT, "data.noun": synsets, "pageviews-1": views + "de Pferd 99 0\n"})
    assert rows["New York"] == {"entry": "New York", "source": "synset,bigram,title", "language": "en", "count": 2}
    assert rows["Horse"] == {"entry": "Horse", "source": "title", "language": "en", "count": 120}
    assert rows["galore"]["count"] is None
    assert not {"Pferd", "File:Horse", "Big Apple"} & set(rows)
    assert list(rows)[:2] == ["New York", "galore"]


def test_index_files_of_wordnet_give_all_words(build: Callable) -> None:
    rows = build({"index.noun": "  1 license\nbig_apple n 1 1 @ 1 0 00001\nhorse n 1 0 1 0 00002\n"})
    assert list(rows) == ["big apple", "horse"]


def test_a_folder_of_wordnet_gives_its_synsets_only(tmp_path: Path) -> None:
    folder = tmp_path / "wordnet"
    folder.mkdir()
    (folder / "data.noun").write_text("00002 03 n 01 horse 0 000 | x\n")
    for name in ("index.noun", "index.sense", "noun.exc", "cntlist.rev", "sents.vrb", ".hidden"):
        (folder / name).write_text("feet foot feet foot\n" * 200)
    (folder / "mine.txt").write_text("zebra\n" * 200)
    out = tmp_path / "q.parquet"
    queries.run(QueriesConfig(sources=(str(folder),), out=str(out), numbers=0))
    assert read_entries(out) == ["horse", "zebra"]


@pytest.mark.parametrize("prefix", ["names:", "entries:"])
def test_lists_of_one_entry_per_line_have_no_counts(build: Callable, prefix: str) -> None:
    rows = build({"list.txt": "horse\n  \n red  fox \nhorse\n...\n" + "x" * 300 + "\n"}, prefix)
    assert {entry: row["count"] for entry, row in rows.items()} == {"horse": None, "red fox": None}


def test_an_earlier_list_can_be_a_source(build: Callable, tmp_path: Path) -> None:
    build({"a.txt": TEXT})
    earlier = (tmp_path / "queries.parquet").read_bytes()
    rows = build({"earlier.parquet": earlier, "more.txt": "zebra zebra\n"}, numbers=3)
    assert {"0", "1", "2", "red horse", "zebra"} <= set(rows)
    assert rows["red horse"]["source"] == "entries"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0)),
        ("a.jsonl", json.dumps({"text": TEXT, "id": 1})),
        ("a.jsonl.gz", gzip.compress(json.dumps({"caption": TEXT.split("\n")}).encode(), mtime=0)),
        ("a.csv", f'path,caption\n1.png,"{TEXT}"\n'),
        ("wiki_00", f'<doc id="1" title="red horse red horse">\n{TEXT}</doc>\n'),
    ],
    ids=["gzip", "jsonl", "jsonl.gz", "csv", "wikiextractor"],
)
def test_text_is_read_from_many_formats(build: Callable, name: str, content: str | bytes) -> None:
    assert build({name: content}) == build({"b.txt": TEXT})


def test_parquet_tables_of_captions_are_text(build: Callable, tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    pq.write_table(pa.table({"caption": [TEXT, None, ""]}), path)
    rows = build({"captions.parquet": path.read_bytes()})
    assert rows == build({"b.txt": TEXT})


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a a"}\nnot json\n[1]\n{"text": 3}\n{"text": "\xff b\\ud800"}\n')
    (tmp_path / "pageviews-1").write_text("en Horse many 0\nen Horse 90 0\nen short\n")
    (tmp_path / "data.verb").write_text("  1 license\nnonsense here\n00001 0 v 01 run 0\n")
    config = QueriesConfig(sources=(str(tmp_path),), out=str(tmp_path / "q.parquet"), min_count=2, numbers=0)
    result = queries.run(config)
    assert {(item.reason, item.count, item.example) for item in result.skipped} == {
        ("line is no JSON object", 2, "a.jsonl:2"),
        ("text is no string", 1, "a.jsonl:4"),
        ("line is not: language title views bytes", 2, "pageviews-1:1"),
        ("line is no synset of WordNet", 1, "data.verb:2"),
    }
    assert set(read_entries(Path(config.out))) == {"a", "Horse", "run"}


def test_limits_take_the_most_frequent_and_the_account_adds_up(build: Callable, tmp_path: Path) -> None:
    text = "a b c d\n" * 3 + "a b c\n" * 2 + "a b\n"
    rows = build({"a.txt": text}, max_words=2, max_bigrams=1, max_chars=3)
    assert list(rows) == ["a", "b", "c d"]  # the bigram with the highest PMI
    config = QueriesConfig(sources=(str(tmp_path / "sources"),), out=str(tmp_path / "q"), min_count=2, max_words=2)
    for count in queries.run(config).source_counts:
        assert count.found == count.added + count.repeated + count.over_limit + count.unusable


def test_scripts_without_spaces_have_bigrams_without_a_space(build: Callable) -> None:
    rows = build({"a.txt": "黒 猫 は 黒 猫 cat\n"})
    assert "黒猫" in rows
    assert "黒 猫" not in rows


def test_words_keep_marks_of_other_scripts_and_inner_punctuation(build: Callable) -> None:
    rows = build({"a.txt": "«हिन्दी» हिन्दी isn’t isn’t T-shirt (T-shirt) “” 🦓 🦓\n"})
    assert set(rows) == {"हिन्दी", "isn’t", "T-shirt", "🦓"}


def test_the_same_sources_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.txt", "a.txt", "pageviews-2", "pageviews-1")]
    for number, path in enumerate(paths):
        path.write_text(f"en A{number} 90 0\nen B 90 0\n" if number > 1 else TEXT * (number + 1))
    contents = set()
    for order in (paths, paths[::-1]):
        config = QueriesConfig(sources=tuple(map(str, order)), out=str(tmp_path / "q.parquet"), min_count=2)
        queries.run(config)
        table = pq.read_table(config.out)
        contents.add(str(table.to_pylist()))
        first = Path(config.out).read_bytes()
        queries.run(config)
        assert Path(config.out).read_bytes() == first
    assert len(contents) == 1


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=8), st.integers(1, 3), st.booleans())
def test_counts_on_disk_are_exact(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[int]], min_count: int, as_text: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "MAX_VALUES", 5)
        counter = SpillingCounter(tmp_path_factory.mktemp("counts"), pa.string() if as_text else pa.int64())
        for block in blocks:
            values = [f"w{value}" for value in block] if as_text else block
            counter.add(pa.array(values, counter.value_type), pa.array([1] * len(block), pa.int64()))
        totals = [row for table in counter.totals(min_count) for row in table.to_pylist()]
    flat = [value for block in blocks for value in block]
    expected = {value: flat.count(value) for value in flat if flat.count(value) >= min_count}
    assert {row["value"]: row["count"] for row in totals} == {
        (f"w{value}" if as_text else value): count for value, count in expected.items()
    }
    assert len(totals) == len(expected)


def test_blocks_of_text_end_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.curate.queries.text_files.BLOCK_CHARS", 16)
    text = "one two three\nfour five six seven\n" + "long" * 30 + " end"
    path = tmp_path / "a.txt"
    path.write_text(text)
    blocks = list(read_text_blocks(path, IgnoredCounter()))
    assert "".join(blocks) == text
    assert len(blocks) > 4
    assert [word for block in blocks[:2] for word in block.split()] == text.split()[: len(" ".join(blocks[:2]).split())]


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ((), {}, "no source"),
        (("missing.txt",), {}, "does not exist"),
        (("page-views:a.txt",), {}, "KIND:PATH"),
        (("empty",), {}, "without files"),
        (("text:a.txt", "names:a.txt"), {}, "as text and as names"),
        (("a.txt",), {"numbers": 0}, "no entries"),
        (("a.txt",), {"min_count": 0}, "min_count is 0"),
        (("a.txt",), {"max_words": -1}, "max_words is -1"),
        (("a.txt",), {"language": " "}, "language is empty"),
        (("entries:bad.parquet",), {}, "column 'entry'"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a b\n")
    pq.write_table(pa.table({"word": ["a"]}), tmp_path / "bad.parquet")
    with pytest.raises(ConfigError, match=message):
        queries.run(QueriesConfig(sources=sources, out="q.parquet", **options))
    assert not (tmp_path / "q.parquet").exists()


def test_a_truncated_archive_is_reported_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 100)[:-20])
    with pytest.raises(DataError, match=r"a\.txt\.gz"):
        queries.run(QueriesConfig(sources=(str(path),), out=str(tmp_path / "q.parquet")))


def test_entries_repeated_in_a_source_add_up() -> None:
    entries = EntryList("en", max_chars=10)
    entries.add("title", [("a  b", 3), ("a b", 4), (" ", 1), ("c", None)])
    entries.add("title", [("c", 2), ("a b", None)])
    assert entries.rows == {"a b": (["title"], 7), "c": (["title"], 2)}

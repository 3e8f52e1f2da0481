"""From a pool to a set: every pair is kept or dropped for one reason, and the set can be trained on."""

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.curate import BalanceRules, CurateConfig, ImageRules, TextRules
from zebra.config.curate_text import PrivacyRules
from zebra.config.data import DataConfig
from zebra.data.sources import open_source, read_many
from zebra.errors import ConfigError, DataError
from zebra.images.formats import image_digest
from zebra.images.perceptual_hash import compute_perceptual_hashes
from zebra.store import Store, StoreMetadata
from zebra.workflows import curate

MakePool = Callable[..., Path]


def run_curate(pool: Path, out: Path, **settings: object) -> curate.CurateResult:
    return curate.run(CurateConfig(pool=str(pool), out=str(out), **settings))


def dropped(result: curate.CurateResult) -> dict[str, int]:
    return {count.reason: count.dropped for count in result.counts if count.dropped}


def read_all(folder: Path) -> dict[bytes, tuple[str, ...]]:
    source = open_source(folder, DataConfig())
    records = [source.read(index) for index in range(len(source))]
    return {record.image: record.captions for record in records}


def test_each_kind_of_useless_pair_is_dropped_for_its_reason(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "IMG_2043.jpg", "https://example.com/a.png", "dsc 00412", "ok", "a blue dog"])
    shutil.copy(pool / "0.png", pool / "copy.png")
    (pool / "copy.txt").write_text("the same horse")
    Image.new("RGB", (40, 30), "gray").save(pool / "gray.png")
    (pool / "gray.txt").write_text("a gray area")
    (pool / "damaged.png").write_bytes((pool / "0.png").read_bytes()[:300])
    (pool / "damaged.txt").write_text("a torn photo")
    (pool / "lonely.png").write_bytes((pool / "0.png").read_bytes())
    result = run_curate(pool, tmp_path / "set")
    assert dropped(result) == {
        "caption is a file name": 1,
        "caption is a URL": 1,
        "caption is a hash or a number": 1,
        "image of one color": 1,
        "repeated image": 1,
        "truncated image": 1,
        "missing caption": 1,
    }
    assert (result.num_pairs, result.num_kept, result.num_images) == (10, 3, 3)
    assert sorted(read_all(tmp_path / "set").values()) == [("a blue dog",), ("a red horse",), ("ok",)]


def test_the_account_and_the_decisions_agree(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "12", "a blue dog", "a blue dog"])
    run_curate(pool, tmp_path / "set", text=TextRules(max_frequency=1))
    account = json.loads((tmp_path / "set/account.json").read_text())
    decisions = pq.read_table(tmp_path / "set/decisions.parquet").to_pylist()
    assert account["pairs"] == {"found": 4, "kept": 1, "dropped": 3}
    assert account["pairs"]["kept"] == sum(row["reason"] is None for row in decisions)
    by_reason = {rule["reason"]: rule["dropped"] for rule in account["rules"] if rule["dropped"]}
    assert by_reason == {"caption is a hash or a number": 1, "caption of over 1 pairs": 2}
    for reason, count in by_reason.items():
        assert sum(row["reason"] == reason and row["stage"] == "text" for row in decisions) == count
    assert len({row["uid"] for row in decisions}) == 4


def test_all_captions_of_an_image_are_kept_together(tmp_path: Path, make_pool: MakePool) -> None:
    pool = make_pool(["x"] * 2)
    table = pool / "captions.csv"
    table.write_text("image,caption,title\n0.png,a red horse,0.png\n1.png,a blue dog,ein blauer Hund\n")
    result = run_curate(table, tmp_path / "set")
    assert dropped(result) == {"caption is a file name": 1}
    assert sorted(read_all(tmp_path / "set").values()) == [("a blue dog", "ein blauer Hund"), ("a red horse",)]


def test_images_are_copied_byte_by_byte_into_shards(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool([f"horse number {number} of five" for number in range(5)])
    run_curate(pool, tmp_path / "set", samples_per_shard=2)
    names = sorted(path.name for path in (tmp_path / "set").iterdir() if path.name[0] == "0")
    assert names == sorted(f"{n:05d}{end}" for n in range(3) for end in (".tar", ".parquet", "_stats.json"))
    assert set(read_all(tmp_path / "set")) == {(pool / f"{n}.png").read_bytes() for n in range(5)}
    assert [len(pq.read_table(tmp_path / f"set/{n:05d}.parquet")) for n in range(3)] == [2, 2, 1]


def test_a_run_that_was_killed_gives_the_same_bytes_when_it_is_repeated(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool([f"horse number {number} of nine" for number in range(9)])
    monkeypatch.setattr("zebra.curate.scan.SAMPLES_PER_UNIT", 2)
    run_curate(pool, tmp_path / "whole", samples_per_shard=4)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir() if path.is_file()}

    class Killed(Exception):
        pass

    for stop in ("reading 4", "reading 8", "text", "duplicates", "writing 1", "writing 6", "writing 9"):

        def kill(done: int, _total: int, stage: str, stop: str = stop) -> None:
            if stop in (stage, f"{stage} {done}"):
                raise Killed

        with pytest.raises(Killed):
            curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set"), samples_per_shard=4), kill)
        run_curate(pool, tmp_path / "set", samples_per_shard=4)
        found = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir() if path.is_file()}
        found["account.json"] = found["account.json"].replace(b"/set", b"/whole")
        assert found == expected, stop
        shutil.rmtree(tmp_path / "set")


def test_an_image_that_changes_after_the_scan_is_an_error(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a blue dog"])

    def change(_done: int, _total: int, stage: str) -> None:
        if stage == "duplicates":
            shutil.copy(pool / "1.png", pool / "0.png")

    with pytest.raises(DataError, match="has changed"):
        curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set")), change)


def test_a_folder_with_other_files_is_left_alone(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse"])
    for name in ("00000.tar", "notes.txt"):
        out = tmp_path / name.replace(".", "-")
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(ConfigError, match="other files"):
            run_curate(pool, out)
        assert (out / name).read_text() == "mine"
    run_curate(pool, tmp_path / "set")
    with pytest.raises(ConfigError, match="finished set"):
        run_curate(pool, tmp_path / "set")


def test_nothing_left_is_an_error_with_the_decisions(make_pool: MakePool, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair"):
        run_curate(make_pool(["a red horse"]), tmp_path / "set", image=ImageRules(min_side=100))
    [row] = pq.read_table(tmp_path / "set/decisions.parquet").to_pylist()
    assert row["reason"] == "image side under 100 pixels"


def test_frequent_entries_are_drawn_from_and_rare_ones_kept(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a dog"] * 30 + ["a zebra"] * 3 + ["a chair"] * 2)
    entries = tmp_path / "entries.txt"
    entries.write_text("dog\nzebra\n")
    result = run_curate(pool, tmp_path / "set", balance=BalanceRules(entries=str(entries), keep=13))
    assert dropped(result)["no entry in the caption"] == 2
    captions = sorted(read_all(tmp_path / "set").values())
    assert captions.count(("a zebra",)) == 3
    assert 2 <= captions.count(("a dog",)) <= 18  # 10 expected; three standard deviations


@pytest.mark.parametrize("lines", ["", "dog\ndog\n"])
def test_unusable_entries_are_refused_with_the_file(make_pool: MakePool, tmp_path: Path, lines: str) -> None:
    entries = tmp_path / "entries.txt"
    entries.write_text(lines)
    with pytest.raises(ConfigError, match=r"entries\.txt"):
        run_curate(make_pool(["a dog"]), tmp_path / "set", balance=BalanceRules(entries=str(entries)))
    assert not (tmp_path / "set").exists()  # found before the pool is read


def test_a_look_counts_each_rule_alone_and_in_order_and_writes_nothing(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "12", "x.jpg", "a red horse"])
    (pool / "damaged.png").write_bytes((pool / "0.png").read_bytes()[:300])
    (pool / "damaged.txt").write_text("a torn photo")
    config = CurateConfig(pool=str(pool), out="", text=TextRules(min_words=2, max_frequency=1))
    looks = {look.reason: look for look in curate.look(config) if look.alone}
    assert {reason: (look.alone, look.in_order) for reason, look in looks.items()} == {
        "truncated image": (1, 1),
        "caption under 2 words": (2, 2),
        "caption is a file name": (1, 0),
        "caption is a hash or a number": (1, 0),
        "caption of over 1 pairs": (2, 2),
    }
    assert looks["caption under 2 words"].examples == ["'12'", "'x.jpg'"]
    assert looks["truncated image"].examples == ["damaged.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_a_look_judges_captions_with_personal_data_by_the_other_rules_too(make_pool: MakePool) -> None:
    pool = make_pool(["a@example.org", "a horse in the rain", "write to b@example.org about a horse"])
    config = CurateConfig(pool=str(pool), out="", text=TextRules(min_words=2), privacy=PrivacyRules(captions="drop"))
    looks = {look.reason: (look.alone, look.in_order) for look in curate.look(config) if look.alone}
    assert looks == {"e-mail address": (2, 2), "caption under 2 words": (1, 0)}


def test_a_look_reads_evenly_spaced_samples(make_pool: MakePool) -> None:
    pool = make_pool([f"horse number {number}" for number in range(9)])
    looks = curate.look(CurateConfig(pool=str(pool), out="", image=ImageRules(min_side=100)), num_samples=3)
    assert {look.num_pairs for look in looks} == {3}
    [look] = [look for look in looks if look.alone]
    assert look.examples == ["'horse number 0'", "'horse number 3'", "'horse number 6'"]


def test_shards_of_an_interrupted_run_with_other_rules_do_not_stay(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a dog", "a blue dog", "two cats here"])

    def stop(done: int, _total: int, stage: str) -> None:
        if (stage, done) == ("writing", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set"), samples_per_shard=1), stop)
    assert (tmp_path / "set/00002.tar").exists()
    run_curate(pool, tmp_path / "set", samples_per_shard=1, text=TextRules(min_words=3, max_chars=11))
    assert sorted(path.name for path in (tmp_path / "set").glob("*.tar")) == ["00000.tar", "00001.tar"]
    assert sorted(read_all(tmp_path / "set").values()) == [("a blue dog",), ("a red horse",)]


def test_removals_are_applied_and_follow_the_set(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a blue dog", "a green bird"])
    digests = [sha256((pool / f"{number}.png").read_bytes()).hexdigest() for number in range(3)]
    for number in range(2):
        (tmp_path / f"list{number}.txt").write_text(f"sha256 {digests[number]}\n")
    run_curate(pool, tmp_path / "all")
    result = run_curate(pool, tmp_path / "set", removals=(str(tmp_path / "list0.txt"),))
    assert dropped(result) == {"listed sha256": 1}
    assert (tmp_path / "set/removals.txt").read_text() == f"sha256 {digests[0]}\n"
    shutil.copy(tmp_path / "set/removals.txt", tmp_path / "all")  # a set with an image that was removed later
    one_shard = run_curate(tmp_path / "all/00000.tar", tmp_path / "shard")
    assert dropped(one_shard) == {"listed sha256": 1}
    (pool / "removals.txt").write_text("notes that are no list")
    later = run_curate(tmp_path / "all", tmp_path / "later", blocklist=(str(tmp_path / "list1.txt"),))
    assert [(count.stage, count.dropped) for count in later.counts if count.dropped] == [
        ("removals", 1),
        ("blocklist", 1),
    ]
    assert list(read_all(tmp_path / "later").values()) == [("a green bird",)]
    assert (tmp_path / "later/removals.txt").read_text() == f"sha256 {digests[0]}\n"
    assert run_curate(pool, tmp_path / "no-set").num_kept == 3


def test_the_subset_of_a_run_selects_the_same_pairs_in_another(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "12", "a blue dog"])
    run_curate(pool, tmp_path / "set")
    result = run_curate(
        pool, tmp_path / "again", text=TextRules(drop_names=False), subset=str(tmp_path / "set/subset.npy")
    )
    assert dropped(result) == {"not in the subset": 1}
    assert read_all(tmp_path / "again") == read_all(tmp_path / "set")
    assert (tmp_path / "again/subset.npy").read_bytes() == (tmp_path / "set/subset.npy").read_bytes()


def test_a_condition_on_a_column_that_the_pool_lacks_is_an_error(make_pool: MakePool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'similarity'"):
        run_curate(make_pool(["a red horse"]), tmp_path / "set", columns=("similarity >= 0.3",))
    assert not (tmp_path / "set").exists()


def test_a_second_run_on_the_same_folder_is_refused_with_the_process_of_the_first(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(["a red horse", "a blue dog"])
    errors: list[str] = []

    def run_again(_done: int, _total: int, stage: str) -> None:
        if stage == "writing":
            with pytest.raises(ConfigError) as error:
                run_curate(pool, tmp_path / "set")
            errors.append(str(error.value))

    curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set")), run_again)
    assert errors
    assert all(f"in use by process {os.getpid()}" in error for error in errors)
    assert not (tmp_path / "set/.scan").exists()


@pytest.mark.parametrize("writer", ["write_table", "ParquetWriter"])
def test_a_full_disk_is_reported_and_a_later_run_continues(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    pool = make_pool([f"horse number {number} of five" for number in range(5)])
    run_curate(pool, tmp_path / "whole")
    monkeypatch.setattr("zebra.curate.scan.SAMPLES_PER_UNIT", 2)
    write, num_writes = getattr(pq, writer), 0

    def fill_disk(*args: object, **kwargs: object) -> object:
        nonlocal num_writes
        num_writes += 1
        if num_writes in (1, 3):  # twice, in different places
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*args, **kwargs)

    monkeypatch.setattr(pq, writer, fill_disk)
    for _ in range(2 if writer == "write_table" else 1):
        with pytest.raises(DataError, match=r"No space left on device.*continues"):
            run_curate(pool, tmp_path / "set")
    run_curate(pool, tmp_path / "set")
    for name in ("00000.tar", "decisions.parquet"):
        assert (tmp_path / "set" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_captions_of_the_wrong_kind_are_counted_by_reason(make_pool: MakePool, tmp_path: Path) -> None:
    captions = [
        None, float("nan"), 12, {"a": 1}, "\ud800 broken", "a \x00 dog", "long " * 210_000, "",
        ["a dog", "a dog"], "\u202eesroh\u202c a", "&lt;b&gt;a&lt;/b&gt; <script>x()</script>cat", "\ud83e\udd93 zebra",
    ]  # fmt: skip
    pool = make_pool(["x"] * len(captions))
    lines = [json.dumps({"image": f"{row}.png", "caption": caption}) for row, caption in enumerate(captions)]
    (pool / "captions.jsonl").write_text("\n".join(lines))
    result = run_curate(pool / "captions.jsonl", tmp_path / "set")
    assert dropped(result) == {
        "empty caption": 2,
        "caption is not text": 3,
        "caption is not UTF-8": 1,
        "NUL character": 1,
        "caption is too long": 1,
        "repeated pair": 1,
    }
    assert result.caption_counts["cleaned"] == {"invisible characters": 1, "entities": 1, "markup": 1, "white space": 1}
    assert sorted(read_all(tmp_path / "set").values()) == [("a cat",), ("a dog",), ("esroh a",), ("🦓 zebra",)]


def test_coordinates_are_removed_from_images_and_counted(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a blue dog"])
    exif = Image.Exif()
    exif[0x0110] = "Stripe 1"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    Image.open(pool / "0.png").save(pool / "0.png", exif=exif)
    for locations, is_kept in (("keep", True), ("remove", False)):
        out = tmp_path / locations
        run_curate(pool, out, privacy=PrivacyRules(locations=locations))
        images = read_all(out)
        assert ((pool / "0.png").read_bytes() in images) == is_kept
        assert (pool / "1.png").read_bytes() in images
        for data in images:
            exif = Image.open(io.BytesIO(data)).getexif()
            assert is_kept or not exif.get_ifd(0x8825)
        digests = {sha256(data).hexdigest() for data in images}
        assert set(pq.read_table(out / "00000.parquet")["sha256"].to_pylist()) == digests
        account = json.loads((out / "account.json").read_text())
        assert account["images"] == {"found": 2, "kept": 2, "locations_removed": int(not is_kept)}


def test_a_listed_perceptual_hash_finds_the_rescaled_image(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a blue dog", "a green bird"], sizes={0: (8, 6)})
    listed = Image.open(pool / "0.png").resize((160, 120), Image.Resampling.BICUBIC)
    Image.open(pool / "0.png").resize((320, 240), Image.Resampling.BICUBIC).save(pool / "0.png")
    [value] = compute_perceptual_hashes([listed])
    for number, (kind, changed_bits, count) in enumerate(
        (("blocklist", 0, 1), ("removals", 3, 1), ("removals", 0x1F, 0))
    ):
        (tmp_path / "list.txt").write_text(f"phash {int(value) ^ changed_bits:016x}\nphash {1:016x}\n")
        result = run_curate(pool, tmp_path / f"set{number}", **{kind: (str(tmp_path / "list.txt"),)})
        assert dropped(result) == ({"listed phash": 1} if count else {})


def test_a_store_is_a_pool_of_the_images_that_it_was_made_of(make_pool: MakePool, tmp_path: Path) -> None:
    photos = make_pool(["x"] * 3)
    captions = ["a red horse", "IMG_2043.jpg", "a cat"]
    paths = [photos / f"{number}.png" for number in range(3)]
    rows = {
        "id": ["a", "b", "c"],
        "digest": [image_digest(path.read_bytes()) for path in paths],
        "path": list(map(str, paths)),
        "caption": captions,
        "other_captions": [["a mare"], None, None],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 0.0] * 3, pa.float32()), 2),
    }
    with Store.create(tmp_path / "store", StoreMetadata("f" * 64, "model", 2, "fp32", "float16")) as store:
        store.append(pa.table(rows))
    shutil.copy(paths[0], paths[2])
    result = run_curate(tmp_path / "store", tmp_path / "set")
    assert dropped(result) == {"caption is a file name": 1, "image of the store is missing or has changed": 1}
    assert read_all(tmp_path / "set") == {paths[0].read_bytes(): ("a red horse", "a mare")}


def test_files_that_a_killed_run_was_writing_do_not_stay(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse", "a blue dog"])

    def stop(_done: int, _total: int, stage: str) -> None:
        if stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set")), stop)
    for name in (".00000.tar.17-ab.partial", ".scan/.x.parquet.17-ab.partial", "removals.txt"):
        (tmp_path / "set" / name).write_bytes(b"a part")
    run_curate(pool, tmp_path / "set")
    run_curate(pool, tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_an_empty_set_names_the_rules_that_drop_most(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["12", "7", "horse.jpg"])
    with pytest.raises(
        DataError, match=r"left of 3: 2 × caption is a hash or a number \(text\), 1 × caption is a file"
    ):
        run_curate(pool, tmp_path / "set")


def test_what_a_run_killed_at_the_very_end_left_is_removed(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(["a red horse"])
    run_curate(pool, tmp_path / "set")
    (tmp_path / "set/.scan").mkdir()
    with pytest.raises(ConfigError, match="finished set"):
        run_curate(pool, tmp_path / "set")
    assert not (tmp_path / "set/.scan").exists()


def test_a_unit_is_read_in_parts(make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoded images of a unit of camera photos do not fit into memory together."""
    monkeypatch.setattr("zebra.curate.scan.SAMPLES_PER_READ", 2)
    sizes = []

    def count(source: object, indices: range) -> object:
        sizes.append(len(indices))
        return read_many(source, indices)

    monkeypatch.setattr("zebra.curate.scan.read_many", count)
    result = run_curate(make_pool([f"horse number {number}" for number in range(5)]), tmp_path / "set")
    assert sizes == [2, 2, 1]
    assert result.num_kept == 5

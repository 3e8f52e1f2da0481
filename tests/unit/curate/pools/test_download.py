"""From links to a set: rules for captions, the download, rules for images, and interruptions at any point."""

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.crawl import ImageServer, image_link, serve_images, wat_document, write_warc, write_wat

from zebra.config.curate import BalanceRules, CurateConfig, ImageRules, TextRules
from zebra.config.curate_score import SemanticRules
from zebra.config.data import DataConfig
from zebra.config.fetch import FetchConfig
from zebra.data.sources import open_source
from zebra.errors import ConfigError
from zebra.workflows import curate


def encode_image(seed: int, image_format: str = "png", size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with serve_images({f"/{n}.png": encode_image(n) for n in range(12)}) as server:
        yield server


def run_curate(pool: Path, out: Path, **settings: Any) -> curate.CurateResult:
    return curate.run(make_config(pool, out, **settings))


def make_config(pool: Path, out: Path, **settings: Any) -> CurateConfig:
    settings = {"fetch": FetchConfig(allow_private=True, max_tries=1, timeout_seconds=10)} | settings
    return CurateConfig(pool=str(pool), out=str(out), **settings)


def dropped(result: curate.CurateResult) -> dict[tuple[str, str], int]:
    return {(count.stage, count.reason): count.dropped for count in result.counts if count.dropped}


def read_all(folder: Path) -> dict[tuple[str, ...], bytes]:
    source = open_source(folder, DataConfig())
    records = [source.read(index) for index in range(len(source))]
    return {record.captions: record.image for record in records}


def test_downloads_in_a_folder_serve_later_runs_and_passing_failures_are_repeated_when_asked(
    tmp_path: Path, server: ImageServer
) -> None:
    image = server.files["/3.png"]
    server.files["/3.png"] = 503
    links = [image_link(f"/{n}.png", alt=f"horse number {n}") for n in (1, 2, 3, 20)]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/index.html", links)])
    config = {"allow_private": True, "max_tries": 1, "folder": str(tmp_path / "downloads")}
    first = run_curate(pool, tmp_path / "first", fetch=FetchConfig(**config))
    assert dropped(first) == {("download", "HTTP status 503"): 1, ("download", "HTTP status 404"): 1}
    server.files["/3.png"], server.files["/20.png"] = image, image
    server.requests.clear()
    second = run_curate(
        pool, tmp_path / "second", fetch=FetchConfig(**config), text=TextRules(boilerplate=("number 2",))
    )
    assert not server.requests
    assert second.num_kept == 1
    third = run_curate(pool, tmp_path / "third", fetch=FetchConfig(**config, again=True))
    assert set(server.requests) - {"/robots.txt", "/.well-known/tdmrep.json"} == {"/3.png"}  # 404 is not asked again
    assert dropped(third) == {("download", "HTTP status 404"): 1}
    assert read_all(tmp_path / "third")[("horse number 3",)] == image


def test_links_become_a_set_of_images_with_each_drop_accounted_for(tmp_path: Path, server: ImageServer) -> None:
    files = server.files
    files["/copy.png"] = files["/0.png"]
    files["/page.png"] = b"<html>not found</html>"
    files["/cut.jpg"] = encode_image(50, "jpeg", (400, 300))[:-2_000]
    files["/tiny.png"] = encode_image(51, size=(12, 12))
    files["/wrong-suffix.gif"] = encode_image(52, "webp")
    texts = {
        "/0.png": "a red horse",
        "/1.png": "IMG_2043.jpg",
        "/copy.png": "the same horse",
        "/gone.png": "a dead link",
        "/page.png": "an error page",
        "/cut.jpg": "a torn photo",
        "/tiny.png": "a tracking pixel",
        "/wrong-suffix.gif": "a blue dog",
        "/2.png": "a cat",
    }
    links = [image_link(path, alt=text) for path, text in texts.items()]
    links += [image_link("ftp://a.org/3.png", alt="a file server"), image_link("/3.png")]
    pool = write_wat(tmp_path / "a.wat.gz", [wat_document(f"{server.url}/index.html", links), b"{IMG@"])
    result = run_curate(pool, tmp_path / "set", image=ImageRules(min_side=20))
    assert dropped(result) == {
        ("read", "broken JSON"): 1,
        ("address", "address is not http or https"): 1,
        ("text", "caption is a file name"): 1,
        ("download", "HTTP status 404"): 1,
        ("download", "truncated image"): 1,
        ("download", "web page instead of an image"): 1,
        ("image", "image side under 20 pixels"): 1,
        ("duplicates", "repeated image"): 1,
    }
    assert (result.num_pairs, result.num_kept) == (11, 3)
    assert [(entry.reason, entry.count) for entry in result.unused] == [("image without a text", 1)]
    found = read_all(tmp_path / "set")
    assert found[("a blue dog",)] == files["/wrong-suffix.gif"]
    assert found[("a cat",)] == files["/2.png"]
    assert server.requests["/1.png"] == server.requests["/3.png"] == 0  # dropped before the download
    account = json.loads((tmp_path / "set/account.json").read_text())
    assert account["pairs"] == {"found": 11, "kept": 3, "dropped": 8}
    assert account["unused"] == [{"reason": "image without a text", "count": 1}]
    assert f"{server.url}/2.png" in pq.read_table(tmp_path / "set/00000.parquet")["url"].to_pylist()


def test_damaged_hostile_and_unusual_images_have_their_reasons_or_are_kept(tmp_path: Path, server: ImageServer) -> None:
    def save(image: Image.Image, image_format: str, **options: Any) -> bytes:
        file = BytesIO()
        image.save(file, image_format, **options)
        return file.getvalue()

    noise = Image.open(BytesIO(encode_image(7)))
    exif = Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    bomb = bytearray(encode_image(8))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    zero = bytearray(encode_image(8))
    zero[16:20] = bytes(4)
    usable = {
        "cmyk.jpg": save(noise.convert("CMYK"), "jpeg"),
        "16bit.png": save(Image.fromarray(np.random.default_rng(0).integers(0, 65535, (30, 40), np.uint16)), "png"),
        "palette.png": save(noise.quantize(16), "png", transparency=0),
        "turned.jpg": save(noise, "jpeg", exif=exif),
        "animated.gif": save(noise, "gif", save_all=True, append_images=[noise.rotate(90)]),
    }
    unusable = {
        "bomb.png": bytes(bomb),
        "zero.png": bytes(zero),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "photo.heic": b"\0\0\0\x18ftypheic" + bytes(100),
        "cut.jpg": save(noise, "jpeg")[:-20],
        "empty.png": b"",
        "thin.png": encode_image(9, size=(20_000, 1)),
    }
    server.files.update({f"/{name}": data for name, data in (usable | unusable).items()})
    links = [image_link(f"/{name}", alt=f"the image {name.replace('.', ' ')}") for name in usable | unusable]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/", links)])
    result = run_curate(pool, tmp_path / "set")
    assert (result.num_kept, sum(dropped(result).values())) == (len(usable), len(unusable)), dropped(result)
    assert set(read_all(tmp_path / "set").values()) == set(usable.values())
    assert {stage for stage, _ in dropped(result)} == {"download"}
    [turned] = [row for row in pq.read_table(tmp_path / "set/00000.parquet").to_pylist() if "turned" in row["url"]]
    assert (turned["width"], turned["height"]) == (30, 40)


def test_several_texts_of_an_image_are_its_captions_and_one_request(tmp_path: Path, server: ImageServer) -> None:
    pool = write_warc(tmp_path / "a.warc.gz", {f"{server.url}/": b'<img src=0.png alt="a horse" title="a mare">'})
    result = run_curate(pool, tmp_path / "set")
    assert (result.num_kept, result.num_images) == (2, 1)
    assert list(read_all(tmp_path / "set")) == [("a horse", "a mare")]
    assert server.requests["/0.png"] == 1


def test_a_run_killed_at_any_point_gives_the_same_bytes_and_repeats_no_request(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zebra.curate.pools.link_pool.ROWS_PER_BATCH", 3)
    pool = tmp_path / "pool"
    pool.mkdir()
    for number, name in enumerate("ab"):
        links = [image_link(f"/{n}.png", alt=f"animal number {n}") for n in range(6 * number, 6 * number + 6)]
        write_wat(pool / f"{name}.wat.gz", [wat_document(f"{server.url}/", [*links, image_link("/x", alt="no one")])])
    run_curate(pool, tmp_path / "whole", samples_per_shard=5)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir() if path.is_file()}

    class Killed(Exception):
        pass

    for stop in ("reading 1", "download 3", "writing 3"):
        server.requests.clear()

        def kill(done: int, _total: int, stage: str, stop: str = stop) -> None:
            if stop in (stage, f"{stage} {done}"):
                raise Killed

        with pytest.raises(Killed):
            curate.run(make_config(pool, tmp_path / "set", samples_per_shard=5), kill)
        run_curate(pool, tmp_path / "set", samples_per_shard=5)
        found = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir() if path.is_file()}
        found["account.json"] = found["account.json"].replace(b"/set", b"/whole")
        assert found == expected, stop
        assert max(server.requests[f"/{n}.png"] for n in range(12)) == 1, stop
        shutil.rmtree(tmp_path / "set")


def test_other_rules_for_captions_repeat_no_request(tmp_path: Path, server: ImageServer) -> None:
    links = [image_link(f"/{n}.png", alt=f"animal number {n}") for n in range(4)]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/", [*links, image_link("/5.png", alt="a dog")])])

    def stop(_done: int, _total: int, stage: str) -> None:
        if stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate.run(make_config(pool, tmp_path / "set"), stop)
    result = run_curate(pool, tmp_path / "set", text=TextRules(min_words=3))
    assert result.num_kept == 4
    assert server.requests["/0.png"] == 1


def test_captions_without_an_entry_are_dropped_before_the_download(tmp_path: Path, server: ImageServer) -> None:
    (tmp_path / "entries.txt").write_text("horse\n")
    links = [image_link("/0.png", alt="a horse"), image_link("/1.png", alt="a dog")]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/", links)])
    result = run_curate(pool, tmp_path / "set", balance=BalanceRules(entries=str(tmp_path / "entries.txt")))
    assert dropped(result) == {("match", "no entry in the caption"): 1}
    assert server.requests["/1.png"] == 0


def test_published_scores_are_filtered_before_the_download(tmp_path: Path, server: ImageServer) -> None:
    table = tmp_path / "links.csv"
    table.write_text(f"URL,TEXT,similarity\n{server.url}/0.png,a horse,0.31\n{server.url}/1.png,a dog,0.2\n")
    result = run_curate(table, tmp_path / "set", columns=("similarity >= 0.28",))
    assert result.num_kept == 1
    assert server.requests["/1.png"] == 0


def test_a_look_at_links_needs_no_contact_and_downloads_nothing(tmp_path: Path, server: ImageServer) -> None:
    links = [image_link(f"/{n}.png", alt="x" * n) for n in range(6)]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/", links)])
    config = CurateConfig(pool=str(pool), out="", text=TextRules(min_chars=3))
    looks = {look.reason: look for look in curate.look(config, num_samples=4) if look.alone}
    assert (looks["caption under 3 characters"].alone, looks["caption under 3 characters"].num_pairs) == (2, 4)
    assert not server.requests
    with pytest.raises(ConfigError, match=r"fetch\.contact"):
        curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set")))
    assert not (tmp_path / "set").exists()


def test_downloaded_images_are_scored_by_a_model(tmp_path: Path, server: ImageServer, model: Path) -> None:
    server.files["/again.bmp"] = encode_image(0, "bmp")  # the pixels of 0.png
    links = [image_link(f"/{name}", alt=f"a horse at {name}") for name in ("0.png", "1.png", "2.png", "again.bmp")]
    pool = write_wat(tmp_path / "a.wat", [wat_document(f"{server.url}/", links)])
    semantic = SemanticRules(max_cosine=0.9999)
    result = run_curate(pool, tmp_path / "set", model=str(model), semantic=semantic)
    assert dropped(result) == {("semantic", "image with a cosine over 0.9999 to a better aligned one"): 1}

"""A table of links with published scores, sizes and uids, through the rules before and after the download."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tests.crawl import serve_images

from zebra.config.curate import CurateConfig, ImageRules
from zebra.config.curate_address import AddressRules
from zebra.config.curate_text import LanguageRules
from zebra.config.fetch import FetchConfig
from zebra.data.sources import open_source
from zebra.workflows import curate

NUM_IMAGES = 6


def encode_image(seed: int, size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "jpeg")
    return file.getvalue()


def test_each_link_is_dropped_by_the_first_rule_that_its_row_breaks(tmp_path: Path) -> None:
    images = {f"/{number}.jpg": encode_image(number, (220, 210)) for number in range(NUM_IMAGES)}
    images["/small.jpg"] = encode_image(9, (150, 300))
    with serve_images(images) as server:
        rows = [
            # address, caption, language, width, height, similarity
            ("/0.jpg", "a dog", "en", 220, 210, 0.35),
            ("/0.jpg", "a dog", "en", 220, 210, 0.35),
            ("/0.jpg", "another caption of the dog, me@example.org", "en", 220, 210, 0.3),
            ("/1.jpg", "ein Hund", "de", 220, 210, 0.4),
            ("/2.jpg", "a cat", "en", 220, 199, 0.4),
            ("/2.jpg", "a wide cat", "en", 700, 220, 0.4),
            ("/3.jpg", "not similar", "en", 220, 210, 0.29),
            ("/3.jpg", "no score", "en", 220, 210, None),
            ("/4.jpg", "a removed zebra", "en", 220, 210, 0.4),
            ("/small.jpg", "smaller than the table says", "en", 400, 400, 0.4),
            ("https://ads.example.com/1.jpg", "an ad", "en", 220, 210, 0.4),
            ("data:image/png;base64,AA", "an image in the page", "en", 220, 210, 0.4),
        ]
        columns = list(zip(*rows, strict=True))
        urls = [url if ":" in url else server.url + url for url in columns[0]]
        uids = [f"{number:032x}" for number in range(len(rows))]
        names = ("uid", "url", "text", "LANGUAGE", "original_width", "original_height", "similarity")
        table = pa.table(dict(zip(names, [uids, urls, *columns[1:]], strict=True)))
        pq.write_table(table, tmp_path / "links.parquet")
        (tmp_path / "blocked.txt").write_text("example.com\n")
        (tmp_path / "removed.txt").write_text(f"url {server.url}/4.jpg\n")
        config = CurateConfig(
            pool=str(tmp_path / "links.parquet"),
            out=str(tmp_path / "set"),
            blocklist=(str(tmp_path / "blocked.txt"),),
            removals=(str(tmp_path / "removed.txt"),),
            columns=("similarity >= 0.3",),
            address=AddressRules(),
            language=LanguageRules(keep=("en",), keep_unsure=False),
            image=ImageRules(min_side=200, max_aspect_ratio=3.0, drop_duplicates=False),
            fetch=FetchConfig(allow_private=True, max_tries=1, timeout_seconds=10),
        )
        result = curate.run(config)
        requested = set(server.requests)
    assert [(count.stage, count.reason, count.dropped) for count in result.counts if count.dropped] == [
        ("address", "address is not http or https", 1),
        ("address", "repeated address and caption", 1),
        ("removals", "listed address", 1),
        ("blocklist", "listed domain", 1),
        ("columns", "no similarity", 1),
        ("columns", "similarity under 0.3", 1),
        ("size", "image side under 200 pixels", 1),
        ("size", "aspect ratio over 3", 1),
        ("language", "caption in another language", 1),
        ("image", "image side under 200 pixels", 1),
    ]
    assert {path for path in requested if path.endswith(".jpg")} == {"/0.jpg", "/small.jpg"}
    assert result.caption_counts == {"cleaned": {}, "masked": {"e-mail address": 1}, "language": {"en": 2}}
    halves = np.load(tmp_path / "set/subset.npy")
    assert halves.tolist() == [(0, 0), (0, 2)]
    source = open_source(tmp_path / "set", config.data_options)
    captions = [caption for index in range(len(source)) for caption in source.read(index).captions]
    assert captions == ["a dog", "another caption of the dog, <EMAIL>"]

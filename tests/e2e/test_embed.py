"""`zebra embed` as a user runs it: first, repeated, stopped and killed runs."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.store import Store

from .. import forkserver

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def photos(pairs, tmp_path):
    """Return a folder of images without captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for key, suffix, data, _ in pairs:
        (folder / f"{key}.{suffix}").write_bytes(data)
    return folder


def test_a_second_run_embeds_only_new_images(zebra, model, photos, tmp_path):
    output = zebra("embed", model, "photos", "--out", "store", cwd=tmp_path).stdout
    assert output.startswith("store: 96 images; 96 embedded (")
    (photos / "new.png").write_bytes((photos / "0001.png").read_bytes())
    (photos / "bad.jpg").write_bytes(b"no image")
    (photos / "0005.png").unlink()
    output = zebra("embed", model, "photos", "--out", "store", "--json", cwd=tmp_path).stdout
    result = json.loads(output)
    assert {name: result[name] for name in ("num_rows", "embedded", "reused", "unchanged", "stale", "finished")} == {
        "num_rows": 97,
        "embedded": 0,
        "reused": 1,
        "unchanged": 95,
        "stale": 1,
        "finished": True,
    }
    assert result["skipped"] == {"not an image": 1}
    pruned = zebra("embed", model, "photos", "--out", "store", "--prune", cwd=tmp_path).stdout
    assert "1 no longer in the data, deleted" in pruned
    assert len(Store.open(tmp_path / "store")) == 96


def test_a_run_stopped_by_sigterm_exits_with_75_and_continues_later(installed, environment, zebra, model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2000):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.bmp")
    arguments = ["embed", str(model), "photos", "--out", "store", "--batch-size", "4", "--precision", "fp32"]
    command = [sys.executable, str(installed / "bin" / "zebra"), *arguments]
    with forkserver.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "store" / "skipped.jsonl").exists():  # created just before the first batch
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Run the same command again to continue." in errors
    assert len(Store.open(tmp_path / "store")) < 2000
    zebra(*arguments, cwd=tmp_path)
    assert len(Store.open(tmp_path / "store")) == 2000


CHILD = """
import sys
from zebra.config.embed import EmbedConfig
from zebra.embed import pipeline
from zebra.workflows import embed
pipeline.COMMIT_ROWS = 4
model, data, out = sys.argv[1:]
embed.run(EmbedConfig(model=model, data=data, out=out, precision="fp32", batch_size=2, workers=2),
          callback=lambda progress: print(progress.done, flush=True))
"""


def test_a_killed_run_continues_without_losing_or_repeating_an_image(environment, zebra, model, photos, tmp_path):
    command = [sys.executable, "-c", CHILD, str(model), str(photos), str(tmp_path / "store")]
    for kill_at in (9, 37):
        with forkserver.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            while int(process.stdout.readline()) < kill_at:
                pass
            process.kill()
    output = zebra("embed", model, "photos", "--out", "store", "--json", "--precision", "fp32", cwd=tmp_path).stdout
    result = json.loads(output)
    assert 0 < result["embedded"] < 96
    assert result["unchanged"] + result["embedded"] == 96
    stored = [Path(row["path"]) for batch in Store.open(tmp_path / "store").scan(["path"]) for row in batch.to_pylist()]
    assert stored == sorted(photos.iterdir())


def test_the_examples_run(environment, model, photos, tmp_path):
    def run(name, *arguments):
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        result = forkserver.run(command, cwd=tmp_path, env=environment, timeout=120)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    first, *hits = run("search_a_folder.py", model, photos, "store", "a red circle")
    assert first.startswith("96 images, 96 of them new")
    assert len(hits) == 5
    assert run("embed_in_a_loop.py", model, "by-hand", *sorted(photos.iterdir()))[-1].startswith("96 images in")

"""The installed console script in processes of its own: every step of a first hour, without the fork server."""

import json
import subprocess
import sys

import pytest

from .test_own_data import SMALL, as_csv


@pytest.fixture(scope="module")
def console(installed, environment, tmp_path_factory):
    """Run the real `zebra WORDS…` in one folder; return its standard output."""
    folder = tmp_path_factory.mktemp("console")

    def run(*words, code=0):
        command = [sys.executable, str(installed / "bin" / "zebra"), *map(str, words)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return folder, run


def test_the_first_hour_with_the_console_script(console, pairs):
    folder, run = console
    table = as_csv(folder, pairs)
    assert run("--version").startswith("zebra ")
    run("train", "--data", table, "--out", "run", *SMALL)
    image = next((folder / "images").glob("*.png"))
    scores = json.loads(run("classify", "run/model", image, "--labels", "red circle,blue square", "--json"))
    assert {entry["label"] for entry in scores[0]["scores"]} == {"red circle", "blue square"}
    run("embed", "run/model", "images", "--out", "store", "--workers", "1")
    hits = json.loads(run("search", "store", "a red circle", "-k", "3", "--json"))["hits"]
    assert len(hits) == 3
    run("export", "run/model", "--format", "open_clip", "--out", "exported")
    assert run("doctor", "exported").count("ok ") >= 1


def test_wrong_usage_ends_with_2_and_a_mistake_with_1(console):
    _, run = console
    run("train", "--no-such-flag", code=2)
    run("classify", "nowhere", "x.png", "--labels", "a,b", code=1)

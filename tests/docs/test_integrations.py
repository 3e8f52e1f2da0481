"""The code of docs/integrations.md runs, with each library that is installed."""

import os
import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main

from ..parity.conftest import torchvision  # noqa: F401

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
LIBRARY = {
    "LangChain": "langchain_core",
    "LlamaIndex": "llama_index",
    "Haystack": "haystack",
    "LanceDB": "lancedb",
    "MTEB and MIEB": "mteb",
    "Anything else": "zebra",
}
PRINTS = {"LangChain": "a (cat on a chair|dog in the snow)", "LanceDB": r"(cat|dog)\.jpg", "Haystack": "32 32"}
MAX_LINES = 10


def blocks(title):
    """Return (language, code) of each block of a section that runs."""
    return re.findall(r"^```(python|sh)\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL)


@pytest.fixture
def photos(tmp_path, model, monkeypatch):
    """Change to a folder with the page's model and images."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "dog.jpg"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
        shutil.copy(tmp_path / name, tmp_path / "photos")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "model").symlink_to(model)
    monkeypatch.setitem(os.environ, "HAYSTACK_TELEMETRY_ENABLED", "False")
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.usefixtures("photos", "torchvision")
@pytest.mark.parametrize("title", LIBRARY)
def test_the_code_of_a_section_runs(title, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(LIBRARY[title])
    for language, code in blocks(title):
        if language == "python":
            exec(compile(code, f"{title}.py", "exec", dont_inherit=True), {"__name__": "page"})
        for command in code.splitlines() if language == "sh" else ():
            assert main(shlex.split(command)[1:]) == 0
    assert re.search(PRINTS.get(title, ""), capsys.readouterr().out)


def test_every_section_with_code_is_run_and_short():
    assert {title for title in SECTIONS if blocks(title)} == set(LIBRARY)
    for title in LIBRARY:
        for _, code in blocks(title):
            assert len([line for line in code.splitlines() if line.strip()]) <= MAX_LINES, title

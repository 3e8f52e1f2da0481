"""The code of docs/cookbook.md runs, in the order of the page, on its example data and a tiny model.

Python blocks share one namespace, commands run in this process. A block whose title says what it needs, such as
`title="Needs the network"`, is not run; the number of those is asserted. A line of output is compared without numbers,
names of classes and files, and quoted texts, because the page shows the output of another model.
"""

import contextlib
import io
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zebra.cli.main import main

from .example_data import ANIMALS, write_example_data

PAGE = Path(__file__).parents[2] / "docs" / "cookbook.md"
MAX_LINES = 10
"""Lines of code of a section."""
NUM_NOT_RUN = 17


class Block(NamedTuple):
    section: str
    language: str
    title: str
    code: str

    @property
    def is_run(self) -> bool:
        return self.language in ("sh", "python") and not self.title.startswith("Needs ")


def read_blocks() -> list[Block]:
    blocks = []
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for language, title, code in re.findall(
            r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', section, re.MULTILINE | re.DOTALL
        ):
            blocks.append(Block(section.split("\n")[0], language, title, code))
    return blocks


BLOCKS = read_blocks()
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS if block.is_run))


@pytest.fixture(scope="module")
def failures(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the page in a folder with the example data; return the first failure of each section."""
    folder = tmp_path_factory.mktemp("cookbook")
    write_example_data(folder, per_class=8)
    (folder / "model").symlink_to(model)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")  # such as for captions that the tiny model truncates
        patch.chdir(folder)
        patch.setitem(os.environ, "COLUMNS", "100")
        yield run_page({"__name__": "cookbook"})


def run_page(names: dict[str, Any]) -> dict[str, str]:
    """Run the blocks in order; return the first failure of each section."""
    failures: dict[str, str] = {}
    output = ""
    for block in BLOCKS:
        failure = ""
        if block.is_run:
            errors = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()) as stream, contextlib.redirect_stderr(errors):
                failure = run(block, names)
            output = stream.getvalue()
            failure = f"{failure}\n{errors.getvalue()}" if failure else ""
        elif block.language == "text":
            missing = {shape(line) for line in block.code.splitlines()} - {shape(line) for line in output.splitlines()}
            failure = f"not printed: {sorted(missing)}\n{output}" if missing else ""
        if failure:
            failures.setdefault(block.section, failure)
    return failures


def run(block: Block, names: dict[str, Any]) -> str:
    """Run a block; return what failed, or an empty text."""
    if block.language == "python":
        try:
            exec(compile(block.code, f"{PAGE.name}: {block.section}", "exec"), names)
        except Exception as error:  # the code of a page may fail in any way; all failures are reported together
            return f"{type(error).__name__}: {error}\n{block.code}"
        return ""
    for command in block.code.splitlines():
        words = shlex.split(command, comments=True)
        if words[0] != "zebra":
            return f"neither run nor marked: {command}"
        if code := main(words[1:]):
            return f"exit code {code}: {command}"
    return ""


def shape(line: str) -> str:
    """Return a line of output without what depends on model and machine."""
    line = re.sub(r"'[^']*'", "TEXT", line)
    line = re.sub(r"\((fp32|bf16|int8)\)", "(PRECISION)", line)  # auto picks what is fastest on this machine
    line = re.sub(rf"(photos/)?({'|'.join(ANIMALS)})(/\w+\.jpg)?", "NAME", line)
    return "".join(re.sub(r"[+-]?[\d.,:]+(e-\d+)?", "0", line).split())


@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_of_a_section_runs(section: str, failures: dict[str, str]) -> None:
    assert section not in failures, failures[section]


def test_every_block_is_run_or_says_what_it_needs() -> None:
    assert [block.title for block in BLOCKS if block.title and block.is_run] == []
    assert sum(block.language in ("sh", "python") and not block.is_run for block in BLOCKS) == NUM_NOT_RUN
    assert {block.language for block in BLOCKS} <= {"sh", "python", "text", "html"}


@pytest.mark.parametrize("section", dict.fromkeys(block.section for block in BLOCKS))
def test_a_section_is_short(section: str) -> None:
    code = [block.code for block in BLOCKS if block.section == section and block.language in ("sh", "python")]
    assert sum(len(text.splitlines()) for text in code) <= MAX_LINES


def test_every_fence_of_the_page_is_a_block() -> None:
    fences = re.findall(r"^```\w+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == len(BLOCKS) + 1  # one before the first section

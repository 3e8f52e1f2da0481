"""The hooks that `make hooks` installs accept and refuse what they should, in a repository of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOKS = ROOT / ".githooks"
GOOD = [
    "serve: build the worker command line in one place",
    "train, data: rename World to ProcessGroup",
    "docs: embed the glossary in the site",
    "data/remote: process ranges of 8 MiB",
    "README: shorten the first example",
    "ci: run tests on Python 3.13\n\nThe oldest and the newest version find different mistakes.\n",
    "x: " + "a" * 69,
    "Merge branch 'main'",
    'Revert "serve: build the worker command line in one place"',
    "fixup! serve: build the worker command line in one place",
    "# a comment of git\nserve: retry a failed request\n\n# another\n",
]
BAD = {
    "The words that start a model's process stand in one place": "area: summary",
    "serve the page": "area: summary",
    "serve:retry a request": "area: summary",
    "serve: Retry a request": "lower-case verb: Retry",
    "serve: retries a request": "imperative verb: retries",
    "serve: retried a request": "imperative verb: retried",
    "serve: retrying a request": "imperative verb: retrying",
    "README: how long the demo takes": "imperative verb: how",
    "serve: retry a request.": "period",
    "x: " + "a" * 70: "73 characters",
    "serve: retry a request\nThe reason follows at once.": "second line",
}


@pytest.mark.parametrize("message", GOOD)
def test_a_good_message_passes(tmp_path, message):
    assert check_message(tmp_path, message).returncode == 0


@pytest.mark.parametrize(("message", "reason"), BAD.items())
def test_a_bad_message_is_refused_with_the_reason(tmp_path, message, reason):
    done = check_message(tmp_path, message)
    assert done.returncode == 1
    assert reason in done.stderr


def check_message(folder, message):
    file = folder / "COMMIT_EDITMSG"
    file.write_text(message, encoding="utf-8")
    return subprocess.run([sys.executable, HOOKS / "commit-msg", file], capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path):
    """A repository with this project's settings and hooks."""
    for tool in ("ruff", "codespell"):
        if not (Path(sys.executable).parent / tool).is_file() and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "core.hooksPath", str(HOOKS))
    for key, value in (("name", "A"), ("email", "a@example.org")):
        git(tmp_path, "config", f"user.{key}", value)
    return tmp_path


def git(folder, *arguments, code=0):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=own | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(folder, name, content, code=0):
    (folder / name).write_text(content, encoding="utf-8")
    git(folder, "add", name)
    return git(folder, "commit", "--quiet", "-m", "test: add a file", code=code)


def test_clean_files_are_committed(repository):
    commit(repository, "clean.py", '"""A module."""\n\nANSWER = 42\n')
    commit(repository, "note.md", "The color of the image.\n")
    assert "note.md" in git(repository, "ls-files")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("unused.py", '"""A module."""\n\nimport os\n', "F401"),
        ("layout.py", '"""A module."""\n\nANSWER   =  42\n', "layout.py"),
        ("note.md", "The colour of the image.\n", "colour"),  # codespell:ignore colour
        ("note.md", "Teh image.\n", "Teh"),  # codespell:ignore teh
    ],
)
def test_a_file_with_a_mistake_is_refused(repository, name, content, reason):
    assert reason in commit(repository, name, content, code=1)


def test_the_staged_content_counts_and_not_the_working_tree(repository):
    bad, good = '"""A module."""\n\nimport os\n', '"""A module."""\n\nANSWER = 42\n'
    (repository / "part.py").write_text(bad)
    git(repository, "add", "part.py")
    (repository / "part.py").write_text(good)
    assert "F401" in git(repository, "commit", "-m", "test: add a file", code=1)
    git(repository, "add", "part.py")
    (repository / "part.py").write_text(bad)
    git(repository, "commit", "-m", "test: add a file")


def test_a_bad_message_stops_the_commit(repository):
    (repository / "note.md").write_text("The color of the image.\n")
    git(repository, "add", "note.md")
    assert "area: summary" in git(repository, "commit", "-m", "Added a note", code=1)

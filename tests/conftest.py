"""Shared by all tests: a cache directory of the session, a tiny model, the command line, and Hypothesis profiles."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from _pytest.capture import CaptureResult

    from zebra.pretrained.bundle import Bundle

SLOW_DATA = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=SLOW_DATA)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=SLOW_DATA)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEBRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model; a test that changes files works on a copy."""
    from .tiny_model import save_tiny_model  # imports torch, which most tests of data and text do not need

    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def clip(model: Path) -> "Bundle":
    """Return the same model, loaded; no test changes it."""
    from zebra.pretrained.load import load

    return load(model)


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Callable[..., CaptureResult[str]]":
    """Return a function that runs `zebra ARGS…` in this process, in `cwd` or `tmp_path`; it returns the output."""
    from zebra.cli.main import main

    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: object, cwd: Path = tmp_path, code: int = 0) -> "CaptureResult[str]":
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        actual = main([*map(str, args)])
        output = capsys.readouterr()
        assert actual == code, output.out + output.err
        return output

    return run

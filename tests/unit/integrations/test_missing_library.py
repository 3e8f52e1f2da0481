"""Adapters whose library is not installed."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from zebra.errors import MissingExtra

EXTRAS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize(
    ("adapter", "library"),
    [("langchain", "langchain_core"), ("llama_index", "llama_index"), ("haystack", "haystack"), ("mteb", "mteb")],
)
def test_an_adapter_without_its_library_names_the_pip_command(adapter, library, monkeypatch):
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"zebra.integrations.{adapter}", raising=False)
    with pytest.raises(MissingExtra, match=r'run: pip install "zebra-clip\[[\w-]+\]"') as caught:
        importlib.import_module(f"zebra.integrations.{adapter}")
    extra = re.search(r"zebra-clip\[(.+)\]", str(caught.value))[1]
    assert EXTRAS[extra][0].startswith(re.search(r"package '(.+)'", str(caught.value))[1])


def test_zebra_imports_no_adapter():
    import zebra

    assert zebra.integrations.__name__ in sys.modules
    assert not hasattr(zebra.integrations, "mteb") or "mteb" in sys.modules

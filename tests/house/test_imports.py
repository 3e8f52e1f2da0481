"""Imports stay fast, and the public names are those of docs/interface.md."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import zebra
from zebra.cli.main import VERBS

from .. import forkserver

INTERFACE = (Path(__file__).parents[2] / "docs" / "interface.md").read_text(encoding="utf-8")
PYTHON_SECTION = INTERFACE.partition("## Python")[2].partition("\n## ")[0]
DOCUMENTED = sorted(set(re.findall(r"\bzebra((?:\.\w+)+)", PYTHON_SECTION)))

HEAVY_LIBRARIES = {"torch", "numpy", "PIL", "pyarrow", "tyro", "sklearn", "matplotlib", "tokenizers"}


UNUSED_LIBRARIES = (
    "scipy", "sklearn", "matplotlib", "pyarrow", "lancedb", "fsspec", "huggingface_hub", "ftfy", "yaml", "rich",
    "fastapi", "uvicorn", "transformers", "torch._dynamo", "torch._inductor", "sympy",
)  # fmt: skip
"""Libraries that answers about single images do not need; importing one takes up to a second."""
WITHOUT_UNUSED_LIBRARIES = f"""
import sys
for name in [*sys.modules]:
    if name.startswith({tuple(f"{name}." for name in UNUSED_LIBRARIES)}):
        del sys.modules[name]
sys.modules.update(dict.fromkeys({UNUSED_LIBRARIES}))  # importing one is an error now
"""


def modules_after(statement):
    """Return the top-level modules that a new process has loaded after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted(m for m in sys.modules if '.' not in m)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(process.stdout.split("\n")[-2].split())


def test_importing_zebra_loads_no_heavy_library():
    assert not HEAVY_LIBRARIES & modules_after("import zebra")


def test_the_overview_of_verbs_loads_no_heavy_library():
    assert not HEAVY_LIBRARIES & modules_after("from zebra.cli.main import main; main(['--help'])")


def test_help_of_train_does_not_load_torch():
    statement = "from zebra.cli.main import main; main(['train', '--help'])"
    assert "torch" not in modules_after(statement)


@pytest.mark.parametrize(
    "answer",
    [
        "from zebra.cli.main import main; assert main(['classify', *sys.argv[1:], '--labels', 'horse,zebra']) == 0",
        "import zebra; print(zebra.load(sys.argv[1]).classify([sys.argv[2]], ['horse', 'zebra']))",
    ],
)
def test_an_image_is_classified_without_libraries_that_other_tasks_need(model, tmp_path, answer):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    shown = "print(*(name for name in sys.modules if name.startswith('zebra.')))"
    code = f"{WITHOUT_UNUSED_LIBRARIES}\n{answer}\n{shown}"
    process = forkserver.run([sys.executable, "-c", code, str(model), str(tmp_path / "red.png")])
    assert process.returncode == 0, process.stderr
    *results, modules = process.stdout.splitlines()
    assert "horse" in "".join(results)
    unneeded = ("zebra.evaluators", "zebra.protocols", "zebra.data.sources", "zebra.pretrained.transformers.layout")
    assert not [name for name in modules.split() if name.startswith(unneeded)]


def test_every_public_name_resolves():
    for name in zebra.__all__:
        assert getattr(zebra, name) is not None


@pytest.mark.parametrize("name", [name.removeprefix(".") for name in DOCUMENTED])
def test_every_documented_name_resolves(name):
    value = zebra
    for part in name.split("."):
        value = getattr(value, part)


def test_every_public_name_is_documented():
    documented = {name.split(".")[1] for name in DOCUMENTED}
    assert set(zebra.__all__) == documented


def test_every_documented_member_of_a_bundle_exists():
    members = set(re.findall(r"\bclip\.(\w+)", PYTHON_SECTION))
    assert members >= {"encode_images", "encode_texts", "classify", "class_vectors"}
    set_in_init = set(zebra.Bundle.__init__.__code__.co_names)
    assert members <= set(dir(zebra.Bundle)) | set_in_init


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_workflow(verb):
    assert callable(importlib.import_module(f"zebra.workflows.{verb}").run)


def test_sub_packages_are_reachable_with_one_import():
    code = (
        "import zebra; zebra.workflows.train.run; zebra.losses.info_nce; zebra.load;"
        "zebra.distributed.init_distributed; zebra.distributed.ProcessGroup"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

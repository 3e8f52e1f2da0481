"""The wheel of zebra-clip-lite has what zebra.lite imports, and runs without the other dependencies of zebra."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.unit.lite.folders import IMAGE, write_folder

import zebra.lite
from zebra import __version__

PROJECT = Path(__file__).parents[3] / "lite"
ALLOWED = {"PIL", "ftfy", "numpy", "onnxruntime", "tokenizers", "wcwidth", "zebra", "__main__", "__mp_main__"}
PROGRAM = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import numpy, PIL.Image
import zebra, zebra.lite
model = zebra.lite.load(sys.argv[2], "fp32")
vectors = [*model.encode_images([sys.argv[3]]), *model.encode_texts(["two dogs", "ein Caf\\u00c3\\u00a9 &amp; dogs"])]
numpy.save(sys.argv[4], numpy.stack(vectors))
assert pathlib.Path(zebra.__file__).is_relative_to(sys.argv[1]), zebra.__file__
try:
    zebra.load("model")
except ImportError as error:
    print(error)
print({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return next(out.glob(f"zebra_clip_lite-{__version__}-*.whl"))


def test_the_wheel_is_small_and_has_no_module_of_another_task(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert wheel.stat().st_size < 200_000
    assert {"zebra/lite/load.py", "zebra/text/bpe.py", "zebra/images/preprocess.py", "zebra/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("zebra/train", "zebra/models", "zebra/cli", "zebra/serve"))]
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_gives_the_same_vectors_with_nothing_but_its_dependencies(wheel, tmp_path):
    folder = write_folder(tmp_path / "model")
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    paths = [tmp_path / "site", folder, tmp_path / "image.png", tmp_path / "vectors.npy"]
    environment = {"ZEBRA_CACHE": str(tmp_path / "cache"), "PATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    message, imported = process.stdout.strip().split("\n")
    assert "pip install zebra-clip" in message
    names = {name for name in eval(imported) if not name.startswith("_")}
    assert names <= ALLOWED
    assert {"onnxruntime", "ftfy"} <= names
    model = zebra.lite.load(folder, "fp32", verify=False)
    texts = ["two dogs", "ein Caf\u00c3\u00a9 &amp; dogs"]
    expected = [*model.encode_images([tmp_path / "image.png"]), *model.encode_texts(texts)]
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), np.stack(expected))

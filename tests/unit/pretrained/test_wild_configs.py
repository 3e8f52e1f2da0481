"""Config files with wild values load or raise a ZebraError, in bounded memory."""

import json
import shutil
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zebra
from zebra.config.export import ExportConfig
from zebra.errors import ZebraError
from zebra.workflows import export

from ...tiny_model import build_tiny_model
from .bundles import random_images

resource = pytest.importorskip("resource", reason="only POSIX tells the memory of a process")

CONFIG_FILES = {
    "zebra": ("config.json", "preprocess.json", "tokenizer.json", "MANIFEST.json"),
    "transformers": ("config.json", "preprocessor_config.json", "tokenizer.json"),
    "open_clip": ("open_clip_config.json",),
}
MAX_GROWTH_BYTES = 256 << 20

SIZES = st.sampled_from(
    [0, 1, 2, 3, 16, 255, 1 << 14, 10**5, 10**7, 10**9, 1 << 31, 1 << 32, 1 << 62, 1 << 63, 1 << 64, 10**40, 10**400]
)
SCALARS = (
    SIZES
    | SIZES.map(lambda size: -size)
    | st.integers(-3, 300)
    | st.floats()
    | st.sampled_from([0.5, 1e308, 64.0, "64", "gelu", "", "squash", True, False, None])
)
WILD = (
    SCALARS
    | st.lists(SCALARS, max_size=5)
    | st.dictionaries(st.sampled_from(["kind", "width", "x"]), SCALARS, max_size=3)
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with a model in every layout."""
    root = tmp_path_factory.mktemp("models")
    build_tiny_model("vit").save(root / "zebra")
    build_tiny_model("resnet").save(root / "resnet")
    for layout in ("transformers", "open_clip"):
        export.run(ExportConfig(model=str(root / "zebra"), format=layout, out=str(root / layout)))
    return root


def leaves(value, path=()):
    """Yield the paths of all values in nested objects and lists, inner ones included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def set_leaf(value, path, leaf):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = leaf


def peak_bytes():
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("layout", [*CONFIG_FILES, "resnet"])
@given(data=st.data())
def test_a_config_with_wild_values_loads_or_raises_a_zebra_error(models, tmp_path, layout, data):
    folder = tmp_path / layout
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / layout, folder)
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        path = folder / data.draw(st.sampled_from(CONFIG_FILES.get(layout, CONFIG_FILES["zebra"])), "file")
        document = json.loads(path.read_text())
        place = data.draw(st.sampled_from(list(leaves(document))), "place")
        set_leaf(document, place, data.draw(WILD, "value"))
        path.write_text(json.dumps(document))
    before = peak_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bundle = zebra.load(folder, verify=False)
            assert bundle.encode_images(random_images(1)).shape == bundle.encode_texts(["a horse"]).shape == (1, 32)
            assert bundle.fingerprint
        except ZebraError as error:
            assert len(str(error)) < 2000
    assert peak_bytes() - before < MAX_GROWTH_BYTES


@pytest.mark.parametrize("side", [257, 100_000, 1 << 31])
def test_a_resize_far_beyond_the_crop_is_refused(models, tmp_path, side):
    folder = shutil.copytree(models / "transformers", tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"shortest_edge": side}}))
    with pytest.raises(ZebraError, match=r"resize_size is \d+; it must be from image_size \(64\) to 4 times as much"):
        zebra.load(folder, verify=False)

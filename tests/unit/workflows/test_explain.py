"""`zebra explain`: the files it writes, what it prints and what it refuses."""

import re

import numpy as np
import pytest
from PIL import Image

from zebra.config.explain import ExplainConfig
from zebra.errors import ConfigError, DataError
from zebra.report.heat_map import MIN_GRAY, HeatMaps
from zebra.workflows import explain


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "a & b.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_command_writes_a_page_with_a_map_per_text_and_prints_the_cosines(cli, model, clip, photo, tmp_path):
    texts = ["a <b>horse</b>", "a cat", "two dogs"]
    output = cli("explain", model, photo, *texts, "--out", "pages/map.html")
    page = (tmp_path / "pages" / "map.html").read_text(encoding="utf-8")
    cosines = (clip.encode_texts(texts) @ clip.encode_images([photo])[0]).tolist()
    assert [float(line.split()[0]) for line in output.out.splitlines()[:3]] == pytest.approx(cosines, abs=6e-4)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    ranked = sorted(zip(cosines, texts, strict=True), reverse=True)
    assert headings == [text.replace("<", "&lt;").replace(">", "&gt;") for _, text in ranked]
    assert page.count("data:image/png") == 3
    assert "a &amp; b.png" in page
    assert "<script" not in page


def test_an_image_holds_the_maps_side_by_side_in_the_order_of_the_texts(model, photo, tmp_path):
    out = tmp_path / "map.PNG"
    heat_maps = explain.run(ExplainConfig(model=str(model), image=str(photo), texts=("a horse", "a cat"), out=str(out)))
    with Image.open(out) as sheet:
        assert sheet.size == (960, 240)
        for index, drawn in enumerate(heat_maps.draw()):
            assert sheet.crop((480 * index, 0, 480 * index + 480, 240)).tobytes() == drawn.tobytes()


def test_colors_are_in_the_cells_of_the_map_and_nowhere_else():
    maps_THW = np.zeros((2, 4, 4), np.float32)
    maps_THW[0, 0, 0], maps_THW[1, 3, 3] = 0.02, -0.02
    image = Image.new("RGB", (200, 100), (255, 0, 0))
    heat_maps = HeatMaps(image, (50, 0, 150, 100), ("one", "two"), (0.1, 0.2), maps_THW)
    warm, cold = (np.asarray(drawn).astype(int) for drawn in heat_maps.draw())
    assert warm.shape == (240, 480, 3)
    red, _, blue = warm[20, 140]
    assert red > blue + 60
    red, _, blue = cold[220, 340]
    assert blue > red + 60
    for drawn in (warm, cold):
        assert len(np.unique(drawn[:, :115])) == 1  # outside of what the model sees: the gray image
        assert drawn[:, :115].min() > MIN_GRAY


def test_one_scale_serves_all_texts():
    maps_THW = np.full((2, 2, 2), 0.4, np.float32)
    maps_THW[1] = 0.04
    strong, weak = HeatMaps(Image.new("RGB", (8, 8)), (0, 0, 8, 8), ("a", "b"), (0.0, 0.0), maps_THW).draw()
    assert np.asarray(strong).std() > 2 * np.asarray(weak).std()


def test_a_map_without_any_value_is_drawn_gray():
    (drawn,) = HeatMaps(
        Image.new("L", (3, 900)), (0, 0, 3, 900), ("a",), (0.0,), np.zeros((1, 2, 2), np.float32)
    ).draw()
    assert drawn.size == (2, 480)
    assert np.unique(np.asarray(drawn)).tolist() == [MIN_GRAY]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"out": "map.jpg"}, ConfigError, "must end with .html"),
        ({"out": "map"}, ConfigError, "must end with .html"),
        ({"texts": ()}, ConfigError, "no text given"),
        ({"image": "gone.png"}, DataError, "gone.png"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(model, photo, tmp_path, args, error, message):
    settings = {"model": str(model), "image": str(photo), "texts": ("a",), "out": str(tmp_path / "m.html")} | args
    with pytest.raises(error, match=message):
        explain.run(ExplainConfig(**settings))
    assert not (tmp_path / "m.html").exists()


def test_a_text_only_model_is_refused_with_what_to_do(cli, photo, tmp_path):
    folder = tmp_path / "text-model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (folder / "config.json").write_text('{"model_type": "distilbert"}')
    output = cli("explain", folder, photo, "a cat", "--out", "map.html", code=1)
    assert "text model without an image tower" in output.err

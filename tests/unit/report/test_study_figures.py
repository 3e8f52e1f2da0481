"""Tests of figures over several models, runs and people."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from zebra.errors import DataError
from zebra.report import study_figures
from zebra.report.style import ACCENT, BACKGROUND, CSS_VARIABLES, FOREGROUND, MUTED
from zebra.values import Score

NAMES = ("Abyssinian", "Staffordshire bull terrier", "pug")


def score(value: float, n: int = 100) -> Score:
    return Score(value, max(0.0, value - 0.05), min(1.0, value + 0.05), n)


def scale_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 0.9 * values, 1.05 * values


def robustness(models: dict[str, tuple[Score, Score]]) -> Figure:
    references = {f"r{i}": (score(0.4 + 0.1 * i), score(0.3 + 0.1 * i)) for i in range(5)}
    return study_figures.plot_robustness(
        references, models, lambda x: 0.8 * x, lambda x: scale_band(0.8 * x), "ImageNet", "7 shifts"
    )


def scaling() -> Figure:
    runs = {f"run {i}": (10.0**i, 0.5 * 0.8**i) for i in range(4)}
    return study_figures.plot_scaling(runs, lambda x: 0.5 * x**-0.1, lambda x: scale_band(0.5 * x**-0.1),
                           lambda x: (0.4 * x**-0.1, 0.6 * x**-0.1), "GFLOP per image")  # fmt: skip


def class_difficulty() -> Figure:
    return study_figures.plot_class_difficulty(
        NAMES, [score(0.1), score(0.5), score(0.9)], [score(0.6), score(0.5), score(1.0)]
    )


EXAMPLES = {
    "robustness": lambda: robustness({"zero-shot CLIP": (score(0.76), score(0.7)), "weak": (score(0.3), score(0.3))}),
    "scaling": scaling,
    "class_difficulty": class_difficulty,
}


@pytest.fixture(params=EXAMPLES)
def figure(request: pytest.FixtureRequest) -> Figure:
    """One figure."""
    return EXAMPLES[request.param]()


def get_texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def points(figure: Figure, color: str) -> list[tuple[float, float]]:
    """Return the positions of the markers of one color, without those of the legend."""
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_marker() == "o" and to_hex(line.get_color()) == color]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_no_text_runs_out_of_the_figure(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for text in get_texts(figure):
        box = text.get_window_extent(renderer)
        is_inside = box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2
        assert is_inside, f"{text.get_text()!r} at {box.extents} leaves {width} by {height}"


def test_only_theme_colors_are_used(figure: Figure) -> None:
    colors = {to_hex(text.get_color()) for text in get_texts(figure)}
    colors |= {to_hex(line.get_color()) for axes in figure.axes for line in axes.lines}
    areas = (*figure.findobj(PolyCollection), *figure.findobj(PathCollection))
    colors |= {to_hex(color) for area in areas for color in area.get_facecolor()}
    assert colors <= set(CSS_VARIABLES)


def test_models_are_drawn_at_the_logits_of_their_accuracies() -> None:
    figure = robustness({"clip": (score(0.75), score(0.5))})
    assert points(figure, ACCENT) == [(pytest.approx(np.log(3)), pytest.approx(0))]
    assert len(points(figure, MUTED)) == 5
    assert {"clip", "50%", "accuracy on ImageNet", "Accuracy on 7 shifts"} <= {t.get_text() for t in get_texts(figure)}


def test_a_model_with_accuracy_0_is_drawn() -> None:
    """Its accuracy is clipped to 0.5 / (n + 1), as in the fit."""
    figure = robustness({"none": (score(0.5), score(0.0, n=99))})
    ((_, y),) = points(figure, ACCENT)
    assert y == pytest.approx(np.log(0.005 / 0.995))
    low, high = figure.axes[0].get_ylim()
    assert low < y < high


def test_runs_are_drawn_on_log_axes_with_round_ticks() -> None:
    figure = scaling()
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert points(figure, FOREGROUND) == [(10.0**i, pytest.approx(0.5 * 0.8**i)) for i in range(4)]
    assert {"1", "10", "100", "1000", "50%"} <= {text.get_text() for text in get_texts(figure)}


@pytest.mark.parametrize(("low", "high"), [(0.9, 1100.0), (0.3, 0.5), (3e9, 8e13), (0.04, 0.41)])
def test_a_log_axis_has_a_few_ticks_inside_its_ends(low: float, high: float) -> None:
    ticks = study_figures.round_ticks(low, high)
    assert 3 <= len(ticks) <= 12
    assert all(low <= tick <= high for tick in ticks)


def test_each_class_has_a_mark_for_humans_and_one_for_the_model() -> None:
    figure = class_difficulty()
    assert points(figure, BACKGROUND) == [(0.1, 0), (0.5, 1), (0.9, 2)]
    assert points(figure, ACCENT) == [(0.6, 0), (0.5, 1), (1.0, 2)]
    assert {*NAMES, "humans", "model"} <= {text.get_text() for text in get_texts(figure)}


def test_difficulty_of_unequal_lengths_is_refused() -> None:
    with pytest.raises(DataError, match="3 classes, 1 human scores and 3"):
        study_figures.plot_class_difficulty(NAMES, [score(0.5)], [score(0.5)] * 3)


def test_the_bands_of_a_figure_are_those_given() -> None:
    areas = [area for area in scaling().axes[0].collections if isinstance(area, PolyCollection)]
    heights = [area.get_paths()[0].vertices[:, 1].max() for area in areas]
    assert heights == [pytest.approx(0.6 * (1000**-0.08) ** -0.1), pytest.approx(0.525 * (1000**-0.08) ** -0.1)]


# The example sheet


def test_an_example_sheet_shows_every_example_completely() -> None:
    """Both ends of a wide image are visible."""
    image = Image.new("RGB", (400, 100), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 40, 100))
    image.paste((0, 255, 0), (360, 0, 400, 100))
    sheet = study_figures.make_example_sheet([[image, image]] * 3, NAMES)
    counts = {color: count for count, color in sheet.getcolors(1_000_000)}
    for color in ((0, 0, 255), (255, 0, 0), (0, 255, 0)):
        assert counts[color] > 6 * 160 * 40 / 20


def test_an_example_sheet_of_many_classes_is_about_square() -> None:
    image = Image.new("RGB", (20, 20), (0, 0, 255))
    for shots in (1, 2):
        sheet = study_figures.make_example_sheet([[image] * shots] * 37, [f"class {number}" for number in range(37)])
        assert 0.6 < sheet.width / sheet.height < 1.7


def test_a_long_class_name_does_not_run_into_the_next() -> None:
    sheet = study_figures.make_example_sheet([[Image.new("RGB", (20, 20), BACKGROUND)]] * 4, ["m" * 80, "", "", ""])
    rest = np.asarray(sheet.crop((12 + 160, 0, sheet.width, sheet.height)))
    assert (rest == rest[0, 0]).all()


def test_importing_study_figures_does_not_import_matplotlib() -> None:
    script = "import sys, zebra.report.study_figures; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_images_of_two_classes_do_not_touch() -> None:
    sheet = study_figures.make_example_sheet([[Image.new("RGB", (20, 20), (0, 0, 255))]] * 4, "abcd")
    blue = [sheet.getpixel((x, 100)) == (0, 0, 255) for x in range(sheet.width)]
    assert sum(first != second for first, second in itertools.pairwise(blue)) == 4

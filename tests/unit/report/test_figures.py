import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from zebra.errors import DataError
from zebra.report import figures, image_figures
from zebra.report.style import ACCENT, CSS_VARIABLES, FOREGROUND, MUTED
from zebra.values import Prediction, Score

HALF = Score(0.5, 0.4, 0.6, 100)


def texts(figure: Figure) -> Iterator[Text]:
    return (text for text in figure.findobj(Text) if text.get_text() and text.get_visible())


def get_texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in texts(figure)}


def find_boxes(figure: Figure, color: str) -> list[Rectangle]:
    """Return the visible rectangles of one color."""
    return [box for box in figure.findobj(Rectangle) if box.get_width() and to_hex(box.get_facecolor()) == color]


# All figures


def test_no_text_runs_out_of_the_figure(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        is_inside = box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2
        assert is_inside, f"{text.get_text()!r} at {box.extents} leaves {width} by {height}"


def test_only_theme_colors_are_used(figure: Figure) -> None:
    colors = {to_hex(text.get_color()) for text in texts(figure)}
    colors |= {to_hex(box.get_facecolor()) for box in figure.findobj(Rectangle) if box.get_facecolor()[3] > 0}
    assert colors <= set(CSS_VARIABLES)


def test_importing_the_package_loads_neither_matplotlib_nor_torch() -> None:
    script = (
        "import sys, zebra.report.figures, zebra.report.image_figures, zebra.report.page, zebra.evaluators.results_io\n"
        "sys.exit(', '.join({'matplotlib', 'torch'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_figures_do_not_import_pyplot(tmp_path: Path) -> None:
    """Without pyplot, figures can be drawn in any thread and are freed with their last reference."""
    script = (
        "import sys; from zebra.report.figures import plot_loss; from zebra.report.page import Section, write_page\n"
        "write_page(sys.argv[1], '', '', [Section('', '', plot_loss([{'samples': 1, 'loss': 1.0}]))])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "page.html")], check=True)


# Training


def test_the_loss_curve_is_labeled_with_its_last_value_and_evaluations() -> None:
    log_entries = [{"samples": 100 * n, "loss": 2.0, "eval": {"seen": 0.75}} for n in range(1, 4)]
    assert {"2.00", "seen 75%"} <= get_texts(figures.plot_loss(log_entries))


def test_without_evaluations_there_is_one_panel() -> None:
    assert len(figures.plot_loss([{"samples": 10, "loss": 2.0}]).axes) == 1


def test_a_step_without_a_finite_loss_is_left_out() -> None:
    log_entries = [{"samples": 10, "loss": 1.0}, {"samples": 20, "loss": float("nan")}]
    assert "1.00" in get_texts(figures.plot_loss(log_entries))


@pytest.mark.parametrize("log_entries", [[], [{"samples": 1, "loss": float("inf")}]])
def test_a_log_without_a_loss_is_refused(log_entries: list[dict[str, float]]) -> None:
    with pytest.raises(DataError, match="no step with a finite loss"):
        figures.plot_loss(log_entries)


# Scores


def test_each_bar_is_as_long_as_its_score_and_one_is_highlighted() -> None:
    figure = figures.plot_accuracy_bars({"a": HALF, "b": Score(0.25, 0.2, 0.3, 9)}, 0.1, highlight="b")
    assert [box.get_width() for box in find_boxes(figure, MUTED)] == [0.5]
    assert [box.get_width() for box in find_boxes(figure, ACCENT)] == [0.25]
    assert {"a", "b", "50.0%", "40.0% – 60.0%", "chance 10.0%"} <= get_texts(figure)


def test_unknown_chance_is_not_drawn() -> None:
    assert not any("chance" in text for text in get_texts(figures.plot_accuracy_bars({"a": HALF})))


def test_limitations_show_the_chance_level() -> None:
    assert {"counting", "50%", "chance 17%"} <= get_texts(figures.plot_limitations({"counting": (HALF, 1 / 6)}))


def test_the_gain_over_the_bare_name_is_written_in_points() -> None:
    figure = figures.plot_prompt_ablation(
        {"a": (HALF, HALF, Score(0.52, 0, 1, 9)), "b": (HALF, HALF, Score(0.47, 0, 1, 9))}
    )
    assert {"+2.0", "−3.0", "50% → 50% → 47%"} <= get_texts(figure)


def test_a_confusion_matrix_shows_row_percentages_and_errors_in_the_accent_color() -> None:
    figure = figures.plot_confusion_matrix(np.array([[3, 1], [0, 5]]), ["cat", "dog"])
    assert {"75", "25", "100"} <= get_texts(figure)
    assert len(find_boxes(figure, FOREGROUND)) == 2
    assert len(find_boxes(figure, ACCENT)) == 1


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (9,)])
def test_counts_that_do_not_fit_the_names_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"for 3 class names\. Pass \[3, 3\]"):
        figures.plot_confusion_matrix(np.zeros(shape, dtype=np.int64), ["a", "b", "c"])


# Images


def test_the_true_label_has_the_accent_color_at_any_rank() -> None:
    predictions = [Prediction("cat", 0.6), Prediction("dog", 0.3), Prediction("pig", 0.1)]
    figure = image_figures.plot_predictions([Image.new("RGB", (8, 8))], [predictions], ["dog"])
    assert [box.get_width() for box in find_boxes(figure, ACCENT)] == [0.3]
    assert [box.get_width() for box in find_boxes(figure, MUTED)] == [0.6, 0.1]


def test_predictions_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match="1 images, 0 predictions and 1 true labels"):
        image_figures.plot_predictions([Image.new("RGB", (8, 8))], [], ["dog"])


def test_every_similarity_is_written_and_matching_pairs_are_outlined() -> None:
    cosines = np.array([[0.5, 0.1], [0.2, 0.4]], dtype=np.float32)
    figure = image_figures.plot_similarity_matrix(cosines, [Image.new("L", (8, 8))] * 2, ["a cat", "a dog"])
    assert {".50", ".10", ".20", ".40", "a cat", "a dog"} <= get_texts(figure)
    outlines = [
        box for box in figure.findobj(Rectangle) if to_hex(box.get_edgecolor()) == FOREGROUND and not box.get_fill()
    ]
    assert sorted((round(box.get_x()), round(box.get_y())) for box in outlines) == [(0, 0), (1, 1)]


def test_similarities_that_are_all_equal_can_be_drawn() -> None:
    cosines = np.full((2, 2), 0.3, dtype=np.float32)
    assert ".30" in get_texts(image_figures.plot_similarity_matrix(cosines, [Image.new("L", (8, 8))] * 2, ["a", "b"]))


def test_unequal_numbers_of_images_and_captions_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(2, 2\) for 1 images and 2 captions"):
        image_figures.plot_similarity_matrix(np.eye(2, dtype=np.float32), [Image.new("L", (8, 8))], ["a", "b"])

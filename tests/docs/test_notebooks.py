"""The notebooks of examples/ run on the example data and a tiny model, cell by cell, and are stored without outputs.

Cells are executed as Python, without Jupyter; a cell that ends in an expression is displayed as Jupyter does, by
`_repr_html_` if the object has it.
"""

import ast
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from .example_data import write_example_data

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    write_example_data(folder, per_class=8)
    (folder / "model").symlink_to(model)
    return folder


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def execute(code: str, names: dict[str, Any]) -> object:
    """Run a cell; return the value of its last line if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def display(value: object) -> str:
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)


def test_there_is_a_notebook_for_each_main_task() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["classify_and_evaluate", "clean", "search", "train"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(notebook: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    cells = ["".join(cell["source"]) for cell in read_cells(notebook) if cell["cell_type"] == "code"]
    if notebook.stem == "train":
        assert "EPOCHS = 10" in cells[0]
        cells[0] = cells[0].replace("EPOCHS = 10", "EPOCHS = 2")
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # such as for captions that the tiny model truncates
        displayed = [display(execute(cell, names)) for cell in cells]
    assert not any(" object at 0x" in text for text in displayed)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(notebook: Path) -> None:
    code_cells = [cell for cell in read_cells(notebook) if cell["cell_type"] == "code"]
    assert len(code_cells) > 3
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells)

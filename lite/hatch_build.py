"""Selection of the files of the wheel: the modules of `src/zebra` that zebra.lite imports, directly or not."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SRC = Path(__file__).resolve().parents[1] / "src"
ROOTS = ("zebra.lite.load", "zebra.lite.__main__")


class LiteBuildHook(BuildHookInterface[Any]):
    """Adds the modules to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  the interface of hatchling
        """Set which files are included, and under which names."""
        build_data["force_include"] |= {str(SRC / name): name for name in [*imported_files(), "zebra/py.typed"]}
        build_data["extra_metadata"][str(SRC.parent / "LICENSE")] = "LICENSE"


def imported_files() -> list[str]:
    """Return the paths in `src` of the modules that ROOTS import, also inside functions, sorted."""
    found: set[Path] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        if path is not None and path not in found:
            found.add(path)
            parts = name.split(".")
            waiting += [".".join(parts[:end]) for end in range(1, len(parts))]
            waiting += _imported_names(path)
    return sorted(path.relative_to(SRC).as_posix() for path in found)


def _module_file(name: str) -> Path | None:
    """Return the file of a module of zebra; None for other modules, and for names in a module."""
    path = SRC / name.replace(".", "/")
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if name.startswith("zebra") and file.is_file()), None)


def _imported_names(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports when it runs, and possible ones: `from a import b` may name a module."""
    for node in _executed_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those below, but not what only type checkers import."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _executed_nodes(child)

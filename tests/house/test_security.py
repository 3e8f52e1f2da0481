"""The package never executes untrusted bytes."""

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FORBIDDEN = {
    "unpickling": r"pickle\.loads?\(|pickle\._?Unpickler|import .*Unpickler|(?<!_)Unpickler\(",
    "torch's unpickler": r"torch\.load\(",
    "TorchScript": r"torch\.jit\.load",
    "a shell": r"shell\s*=\s*True|os\.system\(|os\.popen\(",
    "evaluation of text": r"(?<![\w.])(eval|exec)\(",
    "unpacking an archive": r"\.extractall?\(",
    "unsafe YAML": r"yaml\.(unsafe_|full_)?load\(",
}


@pytest.mark.parametrize("danger", FORBIDDEN)
def test_the_package_never_uses(danger):
    matches = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in SOURCE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(FORBIDDEN[danger], line)
    ]
    assert matches == []

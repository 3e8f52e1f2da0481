"""The table of docs/reliability.md names tests that exist, and every scorecard test stands in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(test_\w+\.py)::(test_[rsv]\d+_)`", TABLE))


def written():
    for path in (ROOT / "tests").rglob("test_*.py"):
        for row in re.findall(r"^def (test_[rsv]\d+_)\w+", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield path.name, row


def test_every_row_of_the_table_has_its_test():
    assert NAMED - set(written()) == set()


def test_every_scorecard_test_is_in_the_table():
    assert set(written()) - NAMED == set()

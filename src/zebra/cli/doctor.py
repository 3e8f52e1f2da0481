"""`zebra doctor [MODEL]`: the installation, or a model: what it is and whether it is sound."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from zebra.cli.arguments import PositionalText, parse
from zebra.cli.main import DONE, MISTAKE, say


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra doctor` is told."""

    model: PositionalText = ""
    """A model of any layout; without one, the installation is described."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(words: Sequence[str]) -> int:
    """Print the findings; 1 if something is not sound."""
    told = parse(Words, "doctor", words, description="Explain and verify a model, or the installation.")
    from zebra.workflows import doctor

    findings = doctor.examine_model(told.model) if told.model else doctor.examine_installation()
    if told.json:
        say(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            say(f"{'ok ' if finding.sound else 'BAD'} {finding.what:<16} {finding.says}")
    return DONE if all(finding.sound for finding in findings) else MISTAKE

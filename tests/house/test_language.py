"""The code base keeps its vocabulary: retired names, module docstrings and unique public names."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for name in ("src", "benchmarks", "examples", "tests") for path in (ROOT / name).rglob("*.py"))
SOURCE_FILES = [path for path in FILES if path.is_relative_to(ROOT / "src")]
PACKAGE = ROOT / "src" / "zebra"

_RETIRED = """
    ALONE PARTING_SECONDS World leads led shared_sum announced joined
    RollCall Judge HeldOut Follower Watch Gain RunFolder Claim StepFigures Journal Ledger
    average_loose forget_activations share_statistics FixedBatchNorm SharedBatchNorm go_on open_session
    newest_whole best_whole purge take_weights DivergedError open_journal
    Sight ProbePool LowRank AdaptedLinear AdaptedAttention STRETCH seen_BK above_SA words_BV said_BL
    clamp_temperature initialise_text initialise_resnet initialise_siglip refuse_second_derivative
    Words PaddedTokenizer WordMemory find_words open_words require_words clean_words words_of STAND_INS
    Dice Facts EvaluationSet WorldConfig write_world paint_scene furnish with_article colour_pairs recoloured
    lowered in_precision pictures_at_once multiplies_bf16 to_timm
    climb Rungs Outcome Probed with_all with_few open_set open_sets true_or_false
    Doorkeeper Bodies Faults Passes Gone Fault Places Turns Recent SecureHeaders
    Spot Look Known Claims Tally picture_vectors Wish Found Broken _Desk
    check_every check_samples checkpoint_activations clip_norm lora_layers deadline_seconds delay_seconds allow_urls
    rgb_on_white perceptual_hashes cache_folder recipe_names preset folded
"""
RETIRED_NAMES = set(_RETIRED.split())
"""Names that the glossary's terms replaced, by AST in names, attributes, parameters, keywords and imports."""
RETIRED_LOCALS = {"told", "said", "kept", "mine", "whole"}
"""Names of variables that say nothing about the value; refused in src."""
MAX_SUMMARY = 80
SHARED_PUBLIC_NAMES = {
    "run": "one per workflow: zebra.workflows.<verb>.run(config)",
    "main": "one per command",
    "Args": "the arguments of one command",
    "load": "zebra.load, and zebra.lite.load without torch",
}


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def identifiers(tree):
    """Yield (line, name) of every identifier that is read, assigned, defined, passed or imported."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.keyword(arg=str(name)):
                yield node.value.lineno, name
            case ast.alias(name=name, asname=alias):
                yield from ((node.lineno, part) for part in [*name.split("."), alias] if part)


def assigned_names(tree):
    """Yield (line, name) of every variable and parameter."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def location(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def test_identifiers_are_found_in_every_position():
    code = "import a.b as c\nclass D:\n    def e(self, f): self.g(h=i)\ntry: j = 1\nexcept K as m: n"
    tree = ast.parse(code)
    assert {name for _, name in identifiers(tree)} >= set("abcDefghijKn")
    assert {name for _, name in assigned_names(tree)} == {"self", "f", "j", "m"}


def test_no_retired_name_is_used():
    uses = [
        f"{location(path, line)} {name}"
        for path in FILES
        for line, name in identifiers(parse(path))
        if name in RETIRED_NAMES
    ]
    assert uses == []


def test_no_variable_has_a_retired_name():
    uses = [
        f"{location(path, line)} {name}"
        for path in SOURCE_FILES
        for line, name in assigned_names(parse(path))
        if name in RETIRED_LOCALS
    ]
    assert uses == []


@pytest.mark.parametrize("path", SOURCE_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_docstring_starts_with_a_short_plain_sentence(path):
    docstring = ast.get_docstring(parse(path))
    assert docstring, "the module has no docstring"
    summary = docstring.split("\n")[0]
    assert not re.search(r"\bin\b.*\bout\b", summary), "say what the module is, not what goes in and out"
    assert len(summary) <= MAX_SUMMARY, f"{len(summary)} characters"
    assert summary.endswith("."), "the first line is a sentence"


def test_a_public_name_is_defined_in_one_module():
    modules = defaultdict(list)
    for path in SOURCE_FILES:
        for node in parse(path).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            ):
                modules[node.name].append(str(path.relative_to(ROOT)))
    repeated = {name: paths for name, paths in modules.items() if len(paths) > 1 and name not in SHARED_PUBLIC_NAMES}
    assert repeated == {}

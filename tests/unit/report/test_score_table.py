"""Tests of score tables as CSV, Markdown and LaTeX."""

import csv
import io

import pytest

from zebra.config.compare import CompareConfig
from zebra.config.evaluate import EvaluateConfig
from zebra.config.score_table import find_table_format
from zebra.errors import ConfigError
from zebra.evaluators.results_io import ResultRecord
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.protocols.paired_test import PairedComparison
from zebra.report.score_table import format_csv, format_latex, format_markdown, to_rows, write_score_table
from zebra.values import Score

FIRST, SECOND = Score(0.5, 0.4, 0.6, 90), Score(1 / 3, 0.25, 0.45, 90)
TEST = PairedComparison(Score(1 / 6, 0.1, 0.2, 90), 0.01, 20, 5, 0.02)
ROWS = [
    ComparisonRow("a|b_1", "zero-shot", "top1", (FIRST, SECOND), comparisons={"y": TEST}),
    ComparisonRow("c", "retrieval", "image_to_text_recall@1", (None, FIRST)),
]


def test_csv_has_one_line_for_each_score_with_full_precision():
    lines = list(csv.DictReader(io.StringIO(format_csv(["x", "y"], ROWS))))
    assert [(line["dataset"], line["run"]) for line in lines] == [("a|b_1", "x"), ("a|b_1", "y"), ("c", "y")]
    assert float(lines[1]["value"]) == 1 / 3
    assert (lines[0]["first_minus_run"], float(lines[1]["first_minus_run"])) == ("", 1 / 6)
    assert lines[1]["p_value"] == "0.01"


def test_names_with_commas_and_line_breaks_stay_one_cell_of_csv():
    name = 'a, "b"\nc'
    lines = list(csv.DictReader(io.StringIO(format_csv([name], [ComparisonRow(name, "t", "m", (FIRST,))]))))
    assert (lines[0]["dataset"], lines[0]["run"]) == (name, name)


def test_markdown_has_one_column_for_each_run():
    assert format_markdown(["x", "y"], ROWS).splitlines() == [
        "| dataset | task | metric | x | y |",
        "| --- | --- | --- | ---: | ---: |",
        r"| a\|b_1 | zero-shot | top1 | 50.0% [40.0%, 60.0%] | 33.3% [25.0%, 45.0%] |",
        "| c | retrieval | image_to_text_recall@1 | – | 50.0% [40.0%, 60.0%] |",
    ]


def test_latex_escapes_special_characters():
    lines = format_latex(["run_1", r"~x^\y"], ROWS).splitlines()
    assert lines[0] == r"\begin{tabular}{lllrr}"
    assert lines[2] == r"dataset & task & metric & run\_1 & \textasciitilde{}x\textasciicircum{}\textbackslash{}y \\"
    assert lines[4].startswith(r"a|b\_1 & zero-shot & top1 & 50.0\% [40.0\%, 60.0\%] & ")
    assert lines[-1] == r"\end{tabular}"


@pytest.mark.parametrize("suffix", [".csv", ".md", ".tex", ".CSV"])
def test_the_suffix_decides_the_format_and_the_directory_is_created(suffix, tmp_path):
    path = tmp_path / "tables" / f"scores{suffix}"
    records = [ResultRecord("pets", "zero-shot", metric, FIRST, "0") for metric in ("top1", "top5")]
    write_score_table(path, find_table_format(str(path), None), ["x"], to_rows(records))
    text = path.read_text()
    assert text.count("pets") == 2
    assert text.startswith({".csv": "dataset,", ".md": "| dataset", ".tex": r"\begin"}[suffix.lower()])


def test_an_unknown_suffix_is_refused_before_the_evaluation():
    with pytest.raises(ConfigError, match=r"--table scores\.xlsx .*\.csv, \.md, \.tex"):
        EvaluateConfig(model="m", datasets=("d",), out="o", table="scores.xlsx")
    with pytest.raises(ConfigError, match="--table"):
        CompareConfig(runs=("a", "b"), table="scores")


def test_a_given_format_replaces_that_of_the_suffix():
    assert find_table_format("README.md", "hf-card") == "hf-card"
    assert find_table_format("scores", "latex") == "latex"
    assert CompareConfig(runs=("a", "b"), table="scores", format="csv").format == "csv"


def test_a_table_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write --table .*file/scores\.csv"):
        write_score_table(tmp_path / "file" / "scores.csv", "csv", ["x"], [])

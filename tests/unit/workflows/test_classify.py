"""Labels of `zebra classify`, on the command line and in the workflow."""

import pytest

from zebra.cli.arguments import parse_args, split_commas
from zebra.cli.classify import Args, parse_labels
from zebra.config.classify import ClassifyConfig
from zebra.errors import ConfigError
from zebra.workflows import classify


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("horse, zebra", ["horse", "zebra"]),
        ('"T-shirt, tee shirt",cat', ["T-shirt, tee shirt", "cat"]),
        ('cat, "T-shirt, tee shirt"', ["cat", "T-shirt, tee shirt"]),
        (r"T-shirt\, tee shirt,cat", ["T-shirt, tee shirt", "cat"]),
        ('"a ""big"" cat",12" record', ['a "big" cat', '12" record']),
        ("horse\nzebra\n", ["horse", "zebra"]),
        ("a,,b", ["a", "", "b"]),
        ("", []),
    ],
)
def test_a_list_is_split_at_commas_outside_quotes(text, labels):
    assert split_commas(text) == labels


@pytest.mark.parametrize("text", ['"T-shirt, cat', '"a"b,c'])
def test_a_quote_that_is_not_closed_is_refused(text):
    with pytest.raises(ValueError, match="is not a list separated by commas"):
        split_commas(text)


def test_labels_are_read_from_a_file_after_an_at_sign(tmp_path):
    (tmp_path / "names.txt").write_text("T-shirt, tee shirt\ncat\n", encoding="utf-8")
    argv = ["model", "a.jpg", "--labels", f"@{tmp_path / 'names.txt'}"]
    assert parse_args(Args, "classify", argv, description="").labels == ("T-shirt, tee shirt", "cat")
    assert parse_labels('"@home",cat') == ("@home", "cat")


def test_a_missing_file_of_labels_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse_args(Args, "classify", ["model", "a.jpg", "--labels", f"@{tmp_path / 'gone.txt'}"], description="")
    assert exit_info.value.code == 2
    assert "No such file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("label", ["labels.txt", "mistyped.txt", "names.CSV", "photo.jpg"])
def test_a_label_that_is_a_file_is_refused_with_the_remedy(tmp_path, monkeypatch, label):
    monkeypatch.chdir(tmp_path)
    for name in ("labels.txt", "photo.jpg", "horse"):
        (tmp_path / name).touch()
    config = ClassifyConfig(model="nowhere", images=("a.jpg",), labels=("horse", "St. Bernard", label))
    with pytest.raises(ConfigError, match=f"--labels @{label}"):
        classify.run(config)

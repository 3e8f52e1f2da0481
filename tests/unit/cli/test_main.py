"""The entry point: exit codes, a closed output, and names in the help text."""

import os
import re
import select
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from zebra.cli.main import EXIT_BROKEN_PIPE, EXIT_ERROR, EXIT_OK, EXIT_USAGE, VERBS, main, shorten_path


@pytest.fixture
def closed_output():
    """Return a text file that writes to a pipe whose reader has exited."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        yield output


@pytest.mark.skipif(not hasattr(select, "poll"), reason="pipes of POSIX")
@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["train", "--help"], ["search", "--help"]])
def test_a_reader_that_exits_early_causes_no_error_message(closed_output, capsys, argv):
    with redirect_stdout(closed_output):
        assert main(argv) == EXIT_BROKEN_PIPE
        closed_output.flush()  # as the interpreter does at exit
    assert capsys.readouterr().err == ""


def test_an_error_message_is_printed_although_the_output_is_closed(closed_output, capsys):
    with redirect_stdout(closed_output):
        assert main(["no-such-verb"]) == EXIT_USAGE
        assert main(["doctor", "--no-such-flag"]) == EXIT_USAGE
    assert "no-such-verb" in capsys.readouterr().err


def test_a_broken_pipe_of_something_else_is_reported(monkeypatch, capsys):
    def run(argv):
        raise BrokenPipeError("a worker has exited")

    monkeypatch.setattr("zebra.cli.doctor.run", run)
    assert main(["doctor"]) == EXIT_ERROR
    assert "a worker has exited" in capsys.readouterr().err
    with pytest.raises(BrokenPipeError):
        main(["doctor", "--debug"])


def test_a_warning_is_one_line_without_the_place_in_the_code(monkeypatch):
    def run(argv):
        return EXIT_OK

    monkeypatch.setattr("zebra.cli.doctor.run", run)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # restored after the test
    assert main(["doctor"]) == EXIT_OK
    line = warnings.formatwarning("t.csv is separated by tabs", UserWarning, "table_files.py", 7)
    assert line == "zebra: warning: t.csv is separated by tabs\n"


@pytest.mark.parametrize("verb", VERBS)
def test_positional_arguments_have_names_in_the_help(verb, capsys):
    assert main([verb, "--help"]) == EXIT_OK
    positional = re.search(r"positional arguments(.*?)╰", capsys.readouterr().out, re.DOTALL)
    assert positional is None or not re.search(r"\b(STR|INT|PATH)\b", positional[1])


def test_a_path_below_the_working_directory_is_printed_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shorten_path(str(tmp_path / "photos" / "cat.jpg")) == str(Path("photos", "cat.jpg"))
    assert shorten_path(str(tmp_path.parent / "cat.jpg")) == str(tmp_path.parent / "cat.jpg")
    assert shorten_path("https://example.org/00000.tar/cat") == "https://example.org/00000.tar/cat"

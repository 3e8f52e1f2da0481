"""A write is either whole or did not happen."""

import pytest

from zebra.atomic_io import append_lines, atomic_write


@pytest.mark.parametrize("fsync", [False, True])
def test_a_file_is_replaced_when_the_block_succeeds(tmp_path, fsync):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with atomic_write(path, fsync=fsync) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fsync", [False, True])
def test_a_directory_appears_at_once(tmp_path, fsync):
    path = tmp_path / "model"
    with atomic_write(path, fsync=fsync) as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep/weights").write_text("w")
        assert not path.exists()
    assert (path / "deep/weights").read_text() == "w"


@pytest.mark.parametrize("as_directory", [False, True])
def test_an_error_leaves_the_target_and_no_temporary_path(tmp_path, as_directory):
    path = tmp_path / "target"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        if as_directory:
            (partial / "inside").mkdir(parents=True)
        else:
            partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_path_use_different_temporary_paths(tmp_path):
    path = tmp_path / "x"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"


def test_lines_are_appended_to_a_new_and_to_an_existing_file(tmp_path):
    path = tmp_path / "results.jsonl"
    append_lines(path, ["a", "b"])
    append_lines(path, ["c"])
    assert path.read_text() == "a\nb\nc\n"


def test_an_error_while_appending_leaves_the_lines_of_before(tmp_path):
    path = tmp_path / "results.jsonl"
    append_lines(path, ["a"])
    with pytest.raises(ZeroDivisionError):
        append_lines(path, (str(1 // number) for number in (1, 0)))
    assert path.read_text() == "a\n"
    assert list(tmp_path.iterdir()) == [path]

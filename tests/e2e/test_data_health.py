"""`zebra doctor DATA`: a user asks whether training on these pictures will go well."""

import json

import pytest

from zebra.cli.main import main
from zebra.data import inspection

from .test_own_data import as_csv, as_folder


@pytest.fixture
def photos(pairs, tmp_path):
    return as_folder(tmp_path, pairs)


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    """Run `zebra doctor WORDS…` in this process, with short measurements of the loader; return its output."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        assert main(["doctor", *map(str, words)]) == code
        return capsys.readouterr().out

    return run


def test_doctor_says_what_sound_data_is_like_and_how_fast_it_loads(doctor, photos):
    said = doctor(photos)
    lines = {line[4:21].strip(): line[21:] for line in said.splitlines() if line[:3] in ("ok ", "BAD")}
    assert "BAD" not in said
    assert lines["samples"] == "96 found in pictures; all inspected"
    assert lines["skipped"] == "none"
    assert lines["captions"].startswith("96 captions of 96 images, ")
    assert "12 × 'a photo of a red circle'" in lines["repeated"]
    assert lines["images"] == "all 64 × 64 pixels"
    assert lines["formats"] == "JPEG 64, PNG 32, all RGB"
    assert lines["duplicates"] == "no two samples have the same file"
    assert "if a step of 128 pairs takes less than" in said
    assert "fewer than one batch of 128: train with --batch-size 96 or less" in said


def test_doctor_finds_data_that_training_would_refuse(doctor, pairs, tmp_path):
    table = tmp_path / as_csv(tmp_path, pairs)
    (tmp_path / "pictures" / "0000.jpg").write_bytes(b"")
    table.write_text(table.read_text() + "pictures/gone.jpg,a cat\n")
    said = doctor(table.name, code=1)
    assert "BAD skipped          2 (2.06%); training accepts up to 1.00%" in said
    assert "1 × unreadable file: captions.csv:98 (pictures/gone.jpg: No such file or directory)" in said
    found = json.loads(doctor(table.name, "--json", code=1))
    assert (found["sound"], found["survey"]["num_examined"], found["survey"]["num_usable"]) == (False, 97, 95)
    doctor(table.name, "--data-options.max-skip-rate", "0.05", "--samples", 97)


def test_doctor_of_a_place_that_is_not_there_says_what_could_be(zebra, tmp_path):
    said = zebra("doctor", "nowhere", cwd=tmp_path, code=1).stderr
    assert "there is nothing at" in said and "a folder of images" in said and "nor is it a model" in said

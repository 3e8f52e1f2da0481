"""`zebra doctor DATA`: a report on captioned images before training."""

import json

import pytest

from zebra.data import inspection

from .test_own_data import as_csv, as_folder


@pytest.fixture
def folder(pairs, tmp_path):
    return as_folder(tmp_path, pairs)


@pytest.fixture
def doctor(cli, monkeypatch):
    """Run `zebra doctor ARGS…` in this process, with short measurements of the loader; return its output."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.2)
    return lambda *args, code=0: cli("doctor", *args, code=code).out


def test_doctor_describes_valid_data_and_how_fast_it_loads(doctor, folder):
    output = doctor(folder)
    lines = {line[4:21].strip(): line[21:] for line in output.splitlines() if line[:3] in ("ok ", "BAD")}
    assert "BAD" not in output
    assert lines["samples"] == "96 found in images; all inspected"
    assert lines["skipped"] == "none"
    assert lines["captions"].startswith("96 captions of 96 images, ")
    assert "12 × 'a photo of a red circle'" in lines["repeated"]
    assert lines["images"] == "all 64 × 64 pixels"
    assert lines["formats"] == "JPEG 64, PNG 32, all RGB"
    assert lines["duplicates"] == "no two samples have the same file"
    assert "if a step of 128 pairs takes less than" in output
    assert "fewer than one batch of 128: train with --batch-size 96 or less" in output


def test_doctor_reports_data_that_training_would_refuse(doctor, pairs, tmp_path):
    table = tmp_path / as_csv(tmp_path, pairs)
    (tmp_path / "images" / "0000.jpg").write_bytes(b"")
    table.write_text(table.read_text() + "images/gone.jpg,a cat\n")
    output = doctor(table.name, code=1)
    assert "BAD skipped          2 (2.06%); training accepts up to 1.00%" in output
    assert "1 × unreadable file: captions.csv:98 (images/gone.jpg: No such file or directory)" in output
    document = json.loads(doctor(table.name, "--json", code=1))
    assert (document["sound"], document["survey"]["num_examined"], document["survey"]["num_usable"]) == (False, 97, 95)
    doctor(table.name, "--data-options.max-skip-rate", "0.05", "--samples", 97)


def test_doctor_names_no_batch_size_for_a_single_sample(doctor, pairs, tmp_path):
    table = tmp_path / as_csv(tmp_path, pairs)
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))
    output = doctor(table.name)
    assert "too few to train on" in output
    assert "--batch-size" not in output


def test_for_a_missing_path_the_message_says_what_could_be_there(cli):
    message = cli("doctor", "nowhere", code=1).err
    assert "there is nothing at" in message and "a folder of images" in message
    assert "nor is it a model" in message

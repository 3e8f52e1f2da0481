"""Exit codes, error messages, and resuming in a run directory."""

import json
import signal
import subprocess
import sys
import time

import pytest

from .. import forkserver
from .test_own_data import SMALL, as_csv, as_folder


def test_the_wheel_contains_recipes_and_types_and_is_the_package_that_runs(zebra, installed, environment, tmp_path):
    assert (installed / "zebra" / "py.typed").is_file()
    assert (installed / "zebra" / "recipes" / "demo.yaml").is_file()
    command = [sys.executable, "-c", "import zebra; print(zebra.__file__)"]
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(str(installed))


@pytest.fixture(scope="module")
def trained(zebra, pairs, tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    as_csv(root, pairs)
    zebra("train", "--data", "captions.csv", "--out", "run", *SMALL, cwd=root)
    return root


def test_a_finished_run_is_reported_and_not_changed(cli, trained):
    before = {p: p.stat().st_mtime_ns for p in (trained / "run" / "model").iterdir()}
    output = cli("train", "--data", "captions.csv", "--out", "run", *SMALL, cwd=trained)
    assert "finished after 60 steps" in output.out
    assert before == {p: p.stat().st_mtime_ns for p in (trained / "run" / "model").iterdir()}


def test_other_settings_for_an_existing_run_are_refused_and_named(cli, trained):
    output = cli("train", "--data", "captions.csv", "--out", "run", *SMALL, "--seed", 5, cwd=trained, code=1)
    assert "seed: 0 → 5" in output.err
    assert (trained / "run" / "model" / "MANIFEST.json").is_file()


def test_resume_never_refuses_a_directory_that_is_not_empty(cli, trained):
    output = cli("train", "--data", "captions.csv", "--out", "run", *SMALL, "--resume", "never", cwd=trained, code=1)
    assert "not empty" in output.err


def test_a_directory_with_other_files_is_not_overwritten(cli, trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("other")
    data = trained / "captions.csv"
    output = cli("train", "--data", data, "--out", "out", *SMALL, cwd=tmp_path, code=1)
    assert "metrics.json" in output.err
    assert (tmp_path / "out" / "metrics.json").read_text() == "other"


def test_for_fewer_samples_than_a_batch_the_message_has_both_numbers(cli, trained):
    flags = [*SMALL, "--batch-size", 500]
    output = cli("train", "--data", "captions.csv", "--out", "big", *flags, cwd=trained, code=1)
    assert "96" in output.err and "500" in output.err


def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(zebra, installed, environment, trained):
    """Ctrl-C exits with 75 and a checkpoint; the same command again gives the same bytes."""
    args = ["train", "--data", "captions.csv", "--out", "stopped", *map(str, SMALL)]
    command = [sys.executable, str(installed / "bin" / "zebra"), *args]
    process = forkserver.Popen(command, cwd=trained, env=environment, stderr=subprocess.PIPE)
    log = trained / "stopped" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 1):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "checkpoint saved" in errors
    assert list((trained / "stopped" / "checkpoints").glob("step-*"))
    assert not (trained / "stopped" / "model").exists()
    zebra(*args, cwd=trained)
    for path in (trained / "run" / "model").iterdir():
        assert path.read_bytes() == (trained / "stopped" / "model" / path.name).read_bytes(), path.name

    def read_log(run):
        lines = [json.loads(line) for line in (trained / run / "log.jsonl").read_text().splitlines()]
        return {line["step"]: (line["loss"], line["lr"], line["grad_norm"]) for line in lines}

    assert read_log("run").items() <= read_log("stopped").items()


def test_bad_samples_are_counted_and_stop_the_run_above_the_accepted_rate(zebra, pairs, tmp_path):
    as_folder(tmp_path, pairs)
    (tmp_path / "images" / "0007.txt").write_text("   ")
    broken = next((tmp_path / "images").glob("0011.[jp]*"))
    broken.write_bytes(broken.read_bytes()[:300])
    process = zebra("train", "--data", "images", "--out", "strict", *SMALL, cwd=tmp_path, code=1)
    assert "--data-options.max-skip-rate" in process.stderr
    lenient = [*SMALL, "--data-options.max-skip-rate", "0.05"]
    zebra("train", "--data", "images", "--out", "run", *lenient, cwd=tmp_path)
    counts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert counts["found"] == 96
    for epoch in counts["epochs"]:
        if epoch["complete"]:
            assert epoch["consumed"] + sum(epoch["skipped"].values()) == 96
            assert sum(epoch["skipped"].values()) == epoch["substitutes"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {(line["epoch"], line["reason"]) for line in lines if line["epoch"] == 0} == {
        (0, "empty caption"),
        (0, "truncated image"),
    }

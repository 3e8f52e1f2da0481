"""Run directory: it belongs to one run, and nothing in it is deleted."""

import json
import os
from dataclasses import replace

import pytest

from zebra.config.files import write_config
from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig
from zebra.errors import ConfigError
from zebra.train.run_dir import RunDir

DIGEST = "1" * 64


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(tmp_path / "run")


@pytest.fixture
def config(run_dir):
    return TrainConfig(data="d", out=str(run_dir.path), steps=5)


def leave_checkpoint(run_dir):
    (run_dir.checkpoints / "step-00000003").mkdir(parents=True)


def start(run_dir, config):
    run_dir.path.mkdir()
    write_config(run_dir.config, config)


def finish(run_dir):
    run_dir.model.mkdir(parents=True)
    (run_dir.model / "MANIFEST.json").write_text("{}")
    run_dir.sample_counts.write_text(json.dumps({"digest": DIGEST}))


def test_an_empty_directory_is_a_new_run(run_dir, config):
    assert run_dir.run_status(config, DIGEST, "auto") == "new"
    assert not run_dir.path.exists()


def test_a_run_with_a_checkpoint_is_resumable(run_dir, config):
    start(run_dir, config)
    leave_checkpoint(run_dir)
    assert run_dir.run_status(config, DIGEST, "auto") == "resumable"


def test_a_model_marks_the_run_as_finished(run_dir, config):
    start(run_dir, config)
    finish(run_dir)
    assert run_dir.run_status(config, DIGEST, "auto") == "finished"


def test_a_finished_run_stays_finished_under_settings_that_do_not_affect_its_numbers(run_dir, config):
    start(run_dir, config)
    finish(run_dir)
    other = replace(config, workers=0, checkpoint_every=7, log=LogConfig(every=3), data="moved", eval_sets=("x",))
    assert run_dir.run_status(other, DIGEST, "auto") == "finished"


def test_a_finished_run_on_other_data_is_refused_although_its_settings_are_equal(run_dir, config):
    start(run_dir, config)
    finish(run_dir)
    with pytest.raises(ConfigError, match="finished run on other data"):
        run_dir.run_status(config, "2" * 64, "auto")


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"optimizer": OptimizerConfig(beta2=0.9)}])
def test_another_run_in_the_directory_of_a_finished_one_is_refused(run_dir, config, change):
    start(run_dir, config)
    finish(run_dir)
    with pytest.raises(ConfigError, match=next(iter(change))):
        run_dir.run_status(replace(config, **change), DIGEST, "auto")


@pytest.mark.parametrize("change", [{"steps": 6}, {"steps": None, "epochs": 2.0}])
def test_a_finished_run_of_another_length_is_extendable_if_it_has_checkpoints(run_dir, config, change):
    start(run_dir, config)
    finish(run_dir)
    with pytest.raises(ConfigError, match="without checkpoints"):
        run_dir.run_status(replace(config, **change), DIGEST, "auto")
    leave_checkpoint(run_dir)
    assert run_dir.run_status(replace(config, **change), DIGEST, "auto") == "extendable"


def test_a_run_without_a_checkpoint_can_be_replaced(run_dir, config):
    """A first attempt with a typing error must not block its directory."""
    start(run_dir, config)
    assert run_dir.run_status(replace(config, lr=0.5), DIGEST, "auto") == "new"


def test_the_resume_mode_never_refuses_a_directory_with_files(run_dir, config):
    run_dir.path.mkdir()
    (run_dir.path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        run_dir.run_status(config, DIGEST, "never")
    assert run_dir.run_status(config, DIGEST, "auto") == "new"
    assert (run_dir.path / "notes.txt").read_text() == "mine"


def test_foreign_files_with_names_of_a_run_are_refused(run_dir, config):
    run_dir.path.mkdir()
    (run_dir.path / "log.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"log\.jsonl"):
        run_dir.run_status(config, DIGEST, "auto")


def test_a_file_is_refused_as_run_directory(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        RunDir(tmp_path / "file").run_status(config, DIGEST, "auto")


def test_a_locked_directory_is_refused_with_the_process_that_uses_it(run_dir):
    with run_dir.lock(), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):  # noqa: SIM117
        with run_dir.lock():
            pass
    with run_dir.lock():
        pass


def test_a_stale_lock_file_does_not_block_a_new_run(run_dir, config):
    with run_dir.lock():
        pass
    assert run_dir.run_status(config, DIGEST, "never") == "new"

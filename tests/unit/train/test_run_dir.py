"""A run folder belongs to one run, and nothing in it is ever deleted."""

import os
from dataclasses import replace

import pytest

from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig
from zebra.errors import ConfigError
from zebra.train.run_dir import RunDir


@pytest.fixture
def folder(tmp_path):
    return RunDir(tmp_path / "run")


@pytest.fixture
def config(folder):
    return TrainConfig(data="d", out=str(folder.path), steps=5)


def leave_checkpoint(folder):
    (folder.checkpoints / "step-00000003").mkdir(parents=True)


def finish(folder):
    folder.model.mkdir(parents=True)
    (folder.model / "MANIFEST.json").write_text("{}")


def test_an_empty_place_is_a_new_run(folder, config):
    assert folder.run_status(config, "auto") == "new"
    assert not folder.path.exists()


def test_a_begun_run_has_its_config_written(folder, config):
    folder.save_config(config)
    assert "steps: 5" in folder.config.read_text()


def test_a_run_goes_on_where_a_checkpoint_lies(folder, config):
    folder.save_config(config)
    leave_checkpoint(folder)
    assert folder.run_status(config, "auto") == "resumable"


def test_a_model_marks_the_run_as_finished(folder, config):
    folder.save_config(config)
    finish(folder)
    assert folder.run_status(config, "auto") == "finished"


def test_a_finished_run_may_be_asked_for_again_with_settings_that_do_not_touch_learning(folder, config):
    folder.save_config(config)
    finish(folder)
    other = replace(
        config, workers=0, checkpoint_every=7, log=LogConfig(every=3), data="moved", eval_sets=("x",)
    )
    assert folder.run_status(other, "auto") == "finished"


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"steps": 6}, {"optimizer": OptimizerConfig(beta2=0.9)}])
def test_another_run_in_the_place_of_a_finished_one_is_refused_by_what_differs(folder, config, change):
    folder.save_config(config)
    finish(folder)
    with pytest.raises(ConfigError, match=next(iter(change))):
        folder.run_status(replace(config, **change), "auto")


def test_a_run_that_got_nowhere_protects_nothing(folder, config):
    """A first try with a typing mistake must not block its folder."""
    folder.save_config(config)
    assert folder.run_status(replace(config, lr=0.5), "auto") == "new"


def test_never_refuses_whatever_is_there(folder, config):
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        folder.run_status(config, "never")
    assert folder.run_status(config, "auto") == "new"
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_files_of_somebody_else_with_our_names_are_refused(folder, config):
    folder.path.mkdir()
    (folder.path / "log.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"log\.jsonl"):
        folder.run_status(config, "auto")


def test_a_file_is_no_folder(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        RunDir(tmp_path / "file").run_status(config, "auto")


def test_a_folder_in_use_is_refused_by_the_process_that_uses_it(folder):
    with folder.lock(), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):  # noqa: SIM117
        with folder.lock():
            pass
    with folder.lock():
        pass


def test_a_lock_left_behind_by_a_dead_process_holds_nobody_up(folder, config):
    with folder.lock():
        pass
    assert folder.run_status(config, "never") == "new"

"""Exit codes, messages and flags of `zebra VERB …`, run in this process."""

import json
import socket
import sys

import pytest

from zebra.cli.main import VERBS, main
from zebra.errors import ConfigError, WeightsError
from zebra.store import Store, StoreMetadata


def test_a_missing_or_unknown_verb_is_a_usage_error(cli):
    assert "zebra train" in cli(code=2).err
    assert "Did you mean 'train'" in cli("trian", code=2).err


def test_help_and_version_go_to_standard_output(cli):
    output = cli("--help")
    assert all(f"zebra {verb}" in output.out for verb in VERBS)
    assert output.err == ""
    assert cli("-h").out == output.out
    assert cli("--version").out.startswith("zebra 0.")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_refuses_an_unknown_flag(cli, verb):
    assert f"zebra {verb}" in cli(verb, "--help").out
    output = cli(verb, "--no-such-flag", code=2)
    assert f"zebra {verb}" in output.err and output.out == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("train", "--out", "run"), 2, "--data is missing"),
        (("train", "--data", "nowhere", "--out", "run"), 1, "nowhere"),
        (("train", "--data", "x", "--out", "run", "--recipe", "demmo"), 1, "Did you mean 'demo'"),
        (("train", "--data", "x", "--out", "run", "--recipe", "own.yaml"), 1, "recipe file not found"),
        (("train", "--data", "x", "--out", "run", "--model", "ViT-B-32"), 1, "Did you mean 'ViT-B/32'"),
        (("train", "--data", "x", "--out", "run", "--optimizer.beta3", "1"), 2, "--optimizer.beta2"),
        (("classify", "nowhere", "a.jpg", "--labels", "a,b"), 1, "no model folder"),
        (("classify", "nowhere", "a.jpg", "--labels", "a,a"), 1, "repeated: 'a'"),
        (("classify", "nowhere", "a.jpg", "--labels", ""), 2, "no labels"),
        (("classify", "nowhere", "a.jpg", "--labels", "a,,b"), 1, "empty label"),
        (("classify", "nowhere", "--labels", "a,b"), 2, "no images"),
        (("classify", "nowhere", "a.jpg"), 2, "--labels"),
        (("classify", "nowhere", "a.jpg", "--labels", "a", "--classifier", "c"), 2, "leave out --labels"),
        (("probe", "nowhere", "sets", "--out", "clf"), 1, "sets"),
        (("demo", "--out", sys.executable), 1, "is a file. Name a directory."),
        (("evaluate", "nowhere", "sets", "--out", "scores"), 1, "sets"),
        (("embed", "nowhere", "photos"), 2, "--out"),
        (("search", "nowhere", "x"), 1, "there is no store in nowhere"),
        (("serve",), 1, "Run `zebra demo` first"),
        (("serve", "--store", "none"), 1, "there is no store"),
        (("doctor", "nowhere"), 1, "nor is it a model"),
    ],
)
def test_errors_are_one_message_without_a_traceback(cli, args, code, message):
    output = cli(*args, code=code)
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


def test_debug_raises_the_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError):
        main(["classify", "nowhere", "a.jpg", "--labels", "a", "--debug"])


@pytest.mark.parametrize("error", [KeyError("lost"), MemoryError("full"), ConfigError("wrong")])
def test_an_error_of_any_kind_ends_with_1_and_its_message(cli, monkeypatch, error):
    def fail(argv):
        raise error

    monkeypatch.setattr("zebra.cli.doctor.run", fail)
    message = cli("doctor", code=1).err
    assert str(error) in message and message.count("\n") == 1
    is_unexpected = not isinstance(error, ConfigError)
    assert (f"{type(error).__name__}: " in message and "--debug shows the traceback" in message) is is_unexpected
    with pytest.raises(type(error)):
        main(["doctor", "--debug"])


def test_ctrl_c_ends_with_130(cli, monkeypatch):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("zebra.cli.doctor.run", interrupt)
    assert cli("doctor", code=130).err == "zebra: interrupted\n"


def test_a_table_without_captions_names_its_columns(cli, tmp_path):
    (tmp_path / "t.csv").write_text("path,words\na.jpg,hello\n")
    message = cli("train", "--data", "t.csv", "--out", "run", "--steps", 1, code=1).err
    assert "words" in message and "caption" in message


def test_embedding_an_empty_folder_writes_no_store(cli, model, tmp_path):
    (tmp_path / "empty").mkdir()
    assert cli("embed", model, "empty", "--out", "store", code=1).err.startswith("zebra embed: the folder ")
    assert not (tmp_path / "store").exists()


def test_the_server_refuses_a_store_of_another_model(cli, model, tmp_path):
    Store.create(tmp_path / "own", StoreMetadata("f" * 64, "another/model", 32, "fp32", "float16")).close()
    message = cli("serve", "--model", model, "--store", "own", "--port", 0, code=1).err
    assert "holds vectors of the model" in message


def test_the_server_reports_a_port_in_use(cli, model):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = cli("serve", "--model", model, "--port", port, code=1).err
    assert f"cannot listen at 127.0.0.1, port {port}" in message


def test_the_doctor_describes_the_installation(cli):
    findings = json.loads(cli("doctor", "--json").out)
    assert {"python", "packages", "processor"} <= {finding["what"] for finding in findings}


def test_the_doctor_describes_a_valid_model(cli, model):
    output = cli("doctor", model).out
    assert "golden vectors" in output and "BAD" not in output

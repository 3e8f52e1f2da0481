"""Hard negatives: wrong captions of the images, from a column of a table to the loss."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.rehearsal import join_rehearsal
from zebra.data.sources import open_source
from zebra.data.templated import fill_caption_templates
from zebra.distributed import SINGLE_PROCESS
from zebra.errors import ConfigError, DataError
from zebra.train.hard_negatives import hard_negative_texts, label_negatives, select_negatives
from zebra.train.metrics_logger import read_log
from zebra.train.run_dir import RunDir
from zebra.values import Batch
from zebra.workflows import train

from ...reliability.runs import tiny_run
from . import ranks

CPU = torch.device("cpu")


def batch(captions: list[str], negatives: list[str | None]) -> Batch:
    size = len(captions)
    return Batch(torch.zeros(size), tuple(captions), ("",) * size, (None,) * size, negatives=tuple(negatives))


def used_texts(captions: list[str], negatives: list[str | None]) -> tuple[list[str], int]:
    """Return the hard negatives that a step uses, and the number of those that it drops."""
    pairs = batch(captions, negatives)
    labels = label_negatives(pairs, CPU)
    assert labels is not None
    rows = torch.arange(len(captions), dtype=torch.float32)[:, None]
    used = select_negatives(labels, rows, SINGLE_PROCESS)
    return [hard_negative_texts(pairs)[int(row)] for row in used.text_ME], used.num_dropped


def test_missing_hard_negatives_and_those_equal_to_a_caption_of_the_batch_are_left_out_and_counted() -> None:
    assert used_texts(["a", "b", "c"], ["x", "y", "z"]) == (["x", "y", "z"], 0)
    assert used_texts(["a", "b", "c"], ["b", None, "z"]) == (["z"], 1)
    assert used_texts(["a", "b", "c"], ["a", "c", "b"]) == ([], 3)
    assert used_texts(["", "b", "c"], [None, None, "z"]) == (["z"], 0)
    assert used_texts(["a", "b", "c"], [None, None, None]) == ([], 0)


def test_a_batch_without_the_column_has_no_hard_negatives() -> None:
    pairs = Batch(torch.zeros(1), ("a",), ("",), (None,))
    assert (hard_negative_texts(pairs), label_negatives(pairs, CPU)) == ((), None)


@pytest.mark.parametrize("name", ["vit", "sigmoid"])
def test_chunks_have_the_gradients_of_the_whole_batch(name: str) -> None:
    whole, chunked = (
        ranks.steps(SINGLE_PROCESS, name, "ddp", size, False, False, 1.0, False, False, True) for size in (None, 5)
    )
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-8)
    without = ranks.steps(SINGLE_PROCESS, name)
    assert abs(whole[0][0][0] - without[0][0][0]) > 1e-3  # the loss of the first step


def write_table(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write a table of gray images."""
    for number, row in enumerate(rows):
        Image.new("RGB", (20, 20), (number, number, number)).save(folder / f"{number}.png")
        row["path"] = f"{number}.png"
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


WRONG = DataConfig(negatives_column="wrong")


def load(path: Path, config: DataConfig, seed: int = 0, workers: int = 0) -> Batch:
    source = open_source(path, config)
    size = len(source)
    return next(
        iter_batches(
            source,
            image_size=16,
            batch_size=size,
            seed=seed,
            start_sample=0,
            num_steps=1,
            num_workers=workers,
            config=config,
        )
    )


def test_a_cell_has_one_wrong_caption_a_list_or_nothing(tmp_path: Path) -> None:
    rows = [{"caption": "a", "wrong": "x"}, {"caption": "b", "wrong": ["y", "z"]}, {"caption": "c"}]
    path = write_table(tmp_path, [*rows, {"caption": "d", "wrong": " "}])
    drawn = [dict(zip(b.captions, b.negatives, strict=True)) for b in (load(path, WRONG, seed) for seed in range(12))]
    assert {negatives["a"] for negatives in drawn} == {"x"}
    assert {negatives["b"] for negatives in drawn} == {"y", "z"}
    assert {negatives[caption] for negatives in drawn for caption in "cd"} == {None}
    assert load(path, DataConfig()).negatives == ()


def test_another_caption_of_the_image_is_no_wrong_one(tmp_path: Path) -> None:
    rows = [{"caption": ["a", "the same"], "wrong": "the same"}, {"caption": "b", "wrong": "x"}]
    path = write_table(tmp_path, rows)
    for seed in range(6):
        loaded = load(path, WRONG, seed)
        used, num_dropped = used_texts(list(loaded.captions), list(loaded.negatives))
        assert (used, num_dropped) == (["x"], 1)


def test_the_column_changes_no_other_draw(tmp_path: Path) -> None:
    rows = [{"caption": ["a", "b", "c"], "wrong": ["x", "y"]}, {"caption": ["d", "e"], "wrong": "z"}]
    path = write_table(tmp_path, rows)
    without, with_column = load(path, DataConfig()), load(path, WRONG)
    assert (with_column.captions, with_column.ids) == (without.captions, without.ids)
    assert torch.equal(with_column.images, without.images)
    assert load(path, WRONG, workers=1).negatives == with_column.negatives


def test_wrong_labels_are_put_into_the_templates_too(tmp_path: Path) -> None:
    path = write_table(tmp_path, [{"caption": "cat", "wrong": "dog"}, {"caption": "cow"}])
    record = fill_caption_templates(open_source(path, WRONG), ("a photo of a {}.", "one {}")).read(0)
    assert record.negatives == ("a photo of a dog.", "one dog")


def test_a_folder_an_unknown_column_and_a_number_are_named(tmp_path: Path) -> None:
    path = write_table(tmp_path, [{"caption": "a", "wrong": 7}, {"caption": "b", "wrong": "x"}])
    source = open_source(path, WRONG)
    assert [source.table.row(index)["reason"] for index in range(2)] == ["caption is not text", None]
    with pytest.raises(DataError, match=r"no column 'wrng'\. Did you mean 'wrong'\?.*--data-options\.negatives-column"):
        open_source(path, DataConfig(negatives_column="wrng"))
    (tmp_path / "0.txt").write_text("a", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"negatives_column is 'wrong', but .* is no table"):
        open_source(tmp_path, WRONG)


def test_a_run_logs_them_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    config = tiny_run(tmp_path)
    rows = ["path,caption,wrong"]
    rows += [f"{n}.png,picture of {n % 5} things,picture of {n % 5 + n % 2} things" for n in range(29)]
    table = tmp_path / "data" / "table.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = replace(
        config, data=str(table), data_options=WRONG, steps=3, val_fraction=0.0, checkpoint_every=2, chunk_size=5
    )
    train.run(config)
    killed = replace(config, out=str(tmp_path / "killed"))
    train.run(killed, pause_at=2)
    train.run(killed)
    logs = [
        [{**line, "samples_per_second": 0, "data_wait_fraction": 0} for line in read_log(RunDir(each.out).log)]
        for each in (config, killed)
    ]
    assert logs[0] == logs[1]
    counts = [line["hard_negatives"] for line in logs[0]]
    assert all(count["equal_to_a_caption"] > 0 and sum(count.values()) <= 8 for count in counts)
    weights = [(RunDir(each.out).model / "model.safetensors").read_bytes() for each in (config, killed)]
    assert weights[0] == weights[1]


def test_rehearsed_pairs_have_no_wrong_captions() -> None:
    new, earlier = batch(["a", "b"], ["x", None]), Batch(torch.zeros(2), ("c", "d"), ("",) * 2, (None,) * 2)
    assert join_rehearsal(replace(new, rehearsal=earlier)).negatives == ("x", None, None, None)
    assert join_rehearsal(replace(earlier, rehearsal=earlier)).negatives == ()

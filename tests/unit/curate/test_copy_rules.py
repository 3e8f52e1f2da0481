"""Near duplicates, images of evaluation sets and splits in a pool."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from zebra.config.curate import CurateConfig
from zebra.config.curate_copies import CopyRules, SplitRules
from zebra.config.data import DataConfig
from zebra.data.sources import open_source
from zebra.errors import ConfigError
from zebra.menagerie.sample import generate_sample
from zebra.workflows import curate


def draw(number: int) -> Image.Image:
    return generate_sample(0, "train", number)[0]


def write_pool(folder: Path, images: dict[str, Image.Image]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        image.save(folder / name, quality=80)
        (folder / name).with_suffix(".txt").write_text(f"the image {name.replace('.', ' ')}")
    return folder


def run_curate(pool: Path, out: Path, **settings: object) -> curate.CurateResult:
    return curate.run(CurateConfig(pool=str(pool), out=str(out), **settings))


def read_decisions(out: Path) -> dict[str, str | None]:
    return {row["id"]: row["reason"] for row in pq.read_table(out / "decisions.parquet").to_pylist()}


def test_the_largest_of_near_duplicates_is_kept(tmp_path: Path) -> None:
    image = draw(0)
    crop = image.crop((0, 0, 80, 80))
    pool = write_pool(
        tmp_path / "pool",
        {"a.jpg": image.resize((70, 70)), "b.png": image, "c.jpg": image, "crop.png": crop, "other.png": draw(1)},
    )
    near = "near duplicate of a larger image"
    result = run_curate(pool, tmp_path / "set", copies=CopyRules(max_distance=5))
    assert read_decisions(tmp_path / "set") == {
        **dict.fromkeys(("a.jpg", "c.jpg"), near),
        **dict.fromkeys(("b.png", "crop.png", "other.png")),
    }
    assert [(count.stage, count.dropped) for count in result.counts if count.dropped] == [("copies", 2)]
    run_curate(pool, tmp_path / "cropped", copies=CopyRules(max_distance=5, crops=True))
    assert read_decisions(tmp_path / "cropped")["crop.png"] == near
    run_curate(pool, tmp_path / "all")
    assert set(read_decisions(tmp_path / "all").values()) == {None}


def test_all_captions_of_a_near_duplicate_are_dropped(tmp_path: Path) -> None:
    write_pool(tmp_path, {"large.png": draw(0), "small.png": draw(0).resize((60, 60))})
    table = tmp_path / "table.csv"
    table.write_text("image,caption,title\nsmall.png,one,two\nlarge.png,three,four\n")
    result = run_curate(table, tmp_path / "set", copies=CopyRules(max_distance=5))
    assert (result.num_pairs, result.num_kept, result.num_images) == (4, 2, 1)


@pytest.mark.parametrize("crops", [False, True])
def test_images_of_evaluation_sets_are_dropped_by_set(tmp_path: Path, crops: bool) -> None:
    for name, numbers in {"cats": (0, 1), "dogs": (2, 3)}.items():
        (tmp_path / name).mkdir()
        for number in numbers:
            (tmp_path / name / f"class {number}").mkdir()
            draw(number).save(tmp_path / name / f"class {number}" / f"{number}.png")
    pool = write_pool(
        tmp_path / "pool",
        {
            "same.png": draw(0),
            "mirrored.jpg": ImageOps.mirror(draw(1)),
            "gray.png": draw(2).convert("L"),
            "crop.png": draw(3).crop((10, 6, 90, 90)).resize((120, 126)),
            **{f"{number}.png": draw(number) for number in range(4, 9)},
        },
    )
    avoid = (str(tmp_path / "cats"), str(tmp_path / "dogs"))
    run_curate(pool, tmp_path / "set", copies=CopyRules(avoid=avoid, crops=crops))
    decisions = read_decisions(tmp_path / "set")
    assert {name: reason for name, reason in decisions.items() if reason} == {
        "same.png": f"image of {avoid[0]}",
        "mirrored.jpg": f"image of {avoid[0]}",
        "gray.png": f"image of {avoid[1]}",
        "crop.png": f"image of {avoid[1]}",
    }


@pytest.fixture(scope="module")
def pool_with_copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = {f"{number:02d}.png": draw(number) for number in range(24)}
    images |= {f"copy {number:02d}.jpg": draw(number).resize((64, 64)) for number in range(0, 24, 2)}
    return write_pool(tmp_path_factory.mktemp("pool"), images)


def list_numbers(folder: Path) -> list[str]:
    source = open_source(folder, DataConfig())
    return sorted(source.read(index).captions[0].split()[-2] for index in range(len(source)))


def test_no_copy_is_in_another_split_than_its_original(pool_with_copies: Path, tmp_path: Path) -> None:
    result = run_curate(pool_with_copies, tmp_path / "set", split=SplitRules(validation=0.3))
    train, validation = (list_numbers(tmp_path / "set" / name) for name in ("train", "validation"))
    assert len(train) + len(validation) == result.num_images == 36
    assert len(validation) >= 3
    assert not set(train) & set(validation)
    account = json.loads((tmp_path / "set/account.json").read_text())
    assert account["splits"] == {"train": len(train), "validation": len(validation)}


def test_an_interrupted_run_with_splits_continues_to_the_same_bytes(
    pool_with_copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"split": SplitRules(validation=0.3), "copies": CopyRules(max_distance=5), "samples_per_shard": 5}
    run_curate(pool_with_copies, tmp_path / "set", **settings)

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(curate, "write_account", stop)
        with pytest.raises(KeyboardInterrupt):
            run_curate(pool_with_copies, tmp_path / "again", **settings)
    run_curate(pool_with_copies, tmp_path / "again", **settings)
    files = [
        {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.suffix in (".tar", ".parquet")
        }
        for out in (tmp_path / "set", tmp_path / "again")
    ]
    assert len(files[0]) > 8
    assert files[0] == files[1]


def test_the_split_of_an_image_does_not_depend_on_the_others(pool_with_copies: Path, tmp_path: Path) -> None:
    half = write_pool(tmp_path / "half", {f"{number:02d}.png": draw(number) for number in range(0, 24, 2)})
    for name, pool in {"all": pool_with_copies, "few": half}.items():
        run_curate(pool, tmp_path / name, split=SplitRules(validation=0.3))
    assert set(list_numbers(tmp_path / "few/validation")) <= set(list_numbers(tmp_path / "all/validation"))
    assert set(list_numbers(tmp_path / "few/train")) <= set(list_numbers(tmp_path / "all/train"))


def test_a_split_may_be_empty(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", {"a.png": draw(0)})
    result = run_curate(pool, tmp_path / "set", split=SplitRules(validation=0.001))
    assert result.num_images == 1
    assert list_numbers(tmp_path / "set/train") == ["a"]


def test_a_look_applies_the_rules_against_copies_too(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", {"a.png": draw(0), "b.png": draw(0).resize((60, 60)), "c.png": draw(1)})
    config = CurateConfig(pool=str(pool), out="", copies=CopyRules(max_distance=5))
    looks = curate.look(config)
    assert [(look.reason, look.alone, look.in_order) for look in looks if look.alone] == [
        ("near duplicate of a larger image", 1, 1)
    ]


@pytest.mark.parametrize("make", [lambda: CopyRules(max_distance=17), lambda: SplitRules(validation=1.0)])
def test_impossible_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="it must be"):
        make()

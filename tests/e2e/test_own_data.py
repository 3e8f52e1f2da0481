"""Training and classification on own images, in every data layout."""

import csv
import io
import json
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .conftest import draw_shape, encode_image

SMALL = (
    "--steps", 60, "--batch-size", 16, "--lr", "1e-3", "--workers", 0, "--model.image-size", 32,
    "--model.vision.width", 8, "--model.vision.heads", 4, "--model.text.layers", 1,
    "--optimizer.warmup-steps", 5, "--checkpoint-every", 25,
)  # fmt: skip


def write_files(folder, pairs, captions=True):
    folder.mkdir(parents=True)
    for key, suffix, data, caption in pairs:
        (folder / f"{key}.{suffix}").write_bytes(data)
        if captions:
            (folder / f"{key}.txt").write_text(caption)


def as_folder(root, pairs):
    write_files(root / "images", pairs)
    return "images"


def as_csv(root, pairs, delimiter=",", name="captions.csv"):
    write_files(root / "images", pairs, captions=False)
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["path", "caption"])
        writer.writerows([f"images/{key}.{suffix}", caption] for key, suffix, _, caption in pairs)
    return name


def as_tsv(root, pairs):
    return as_csv(root, pairs, "\t", "captions.tsv")


def as_jsonl(root, pairs):
    write_files(root / "images", pairs, captions=False)
    rows = [{"image": f"images/{k}.{s}", "text": [c, c.removeprefix("a photo of ")]} for k, s, _, c in pairs]
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "captions.jsonl"


def as_parquet(root, pairs):
    table = pa.table({"image": [data for _, _, data, _ in pairs], "title": [c for *_, c in pairs]})
    pq.write_table(table, root / "captions.parquet", row_group_size=20)
    return "captions.parquet"


def as_shards(root, pairs):
    (root / "shards").mkdir()
    for number in range(2):
        with tarfile.open(root / "shards" / f"{number:05d}.tar", "w") as tar:
            for key, suffix, data, caption in pairs[number::2]:
                meta = json.dumps({"caption": caption}).encode()
                for field, content in ((suffix, data), ("txt", caption.encode()), ("json", meta)):
                    member = tarfile.TarInfo(f"{key}.{field}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return "shards"


def as_saved_dataset(root, pairs):
    images = [{"bytes": data, "path": None} for _, _, data, _ in pairs]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": images, "text": [caption for *_, caption in pairs]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features)}).save_to_disk(root / "saved")
    return "saved/train"


LAYOUTS = [as_folder, as_csv, as_tsv, as_jsonl, as_parquet, as_shards, as_saved_dataset]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_train_then_classify_on_own_data(layout, zebra, pairs, tmp_path):
    data = layout(tmp_path, pairs)
    zebra("train", "--data", data, "--out", "run", *SMALL, cwd=tmp_path)
    (tmp_path / "new.png").write_bytes(encode_image(draw_shape("blue", "square", 1000, (90, 70)), "png"))
    (tmp_path / "new.jpg").write_bytes(encode_image(draw_shape("red", "square", 1001, (64, 100)), "jpg"))
    process = zebra(
        "classify", "run/model", "new.png", "new.jpg", "--labels", "red square, blue square", "--json", cwd=tmp_path
    )
    document = json.loads(process.stdout)
    assert [entry["image"] for entry in document] == ["new.png", "new.jpg"]
    assert [entry["scores"][0]["label"] for entry in document] == ["blue square", "red square"]
    counts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert counts["found"] == 96
    assert all(epoch["skipped"] == {} for epoch in counts["epochs"])
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [10, 20, 30, 40, 50, 60]
    assert log[-1]["loss"] < log[0]["loss"]
    for name in ("config.yaml", "environment.json", "metrics.json", "report.html", "model/MANIFEST.json"):
        assert (tmp_path / "run" / name).is_file(), name

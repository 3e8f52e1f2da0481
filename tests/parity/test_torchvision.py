"""Images, labels and class names of unpacked archives, compared with torchvision.

Reference: the datasets of torchvision 0.28.0, on tiny archives in the original formats. Tolerance: none. Images that
are files are compared as bytes, others as pixels.
"""

import io
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zebra.data.benchmarks.catalog import find_catalog_entry, read_catalog_dataset

RNG = np.random.default_rng(0)
NAMES10 = "".join(f"class{i}\n" for i in range(10))


@pytest.fixture
def datasets(torchvision: None) -> ModuleType:
    """Return torchvision's dataset module."""
    return pytest.importorskip("torchvision.datasets")


def pixels(benchmark, index: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(benchmark.source.read(index).image)))


def labels(benchmark) -> list[int]:
    return [benchmark.source.read(i).label for i in range(len(benchmark.source))]


def write_files(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def jpegs(*names: str) -> dict[str, bytes]:
    """Return images of different colors."""
    files = {}
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        Image.new("RGB", (24, 20), (number * 40, 7, 13)).save(buffer, "JPEG")
        files[name] = buffer.getvalue()
    return files


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    images, digits = RNG.integers(0, 256, (4, 28, 28), np.uint8), np.array([7, 2, 1, 0], np.uint8)
    files = {f"{part}-images-idx3-ubyte": idx(images) for part in ("t10k", "train")}
    files |= {f"{part}-labels-idx1-ubyte": idx(digits) for part in ("t10k", "train")}
    return write_files(tmp_path / "MNIST/raw", files)


def test_mnist_equals_torchvision(datasets, mnist: Path, tmp_path: Path) -> None:
    theirs = datasets.MNIST(tmp_path, train=False)
    ours = read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)
    assert labels(ours) == theirs.targets.tolist()
    assert all((pixels(ours, i) == np.asarray(theirs[i][0])).all() for i in range(4))


def test_stl_10_equals_torchvision(datasets, tmp_path: Path, monkeypatch) -> None:
    images = RNG.integers(0, 256, (3, 3, 96, 96), np.uint8)
    files = {"test_X.bin": images.tobytes(), "test_y.bin": bytes([1, 10, 3]), "class_names.txt": NAMES10}
    write_files(tmp_path / "stl10_binary", files)
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    theirs = datasets.STL10(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("stl10"), tmp_path)
    assert labels(ours) == theirs.labels.tolist() == [0, 9, 2]
    assert all((pixels(ours, i) == np.asarray(theirs[i][0])).all() for i in range(3))


def test_food_101_equals_torchvision(datasets, tmp_path: Path) -> None:
    names = ["images/apple_pie/1.jpg", "images/waffles/2.jpg", "images/apple_pie/3.jpg"]
    meta = {"meta/test.txt": "waffles/2\napple_pie/3\n", "meta/train.txt": "apple_pie/1\n"}
    meta["meta/test.json"] = '{"apple_pie": ["apple_pie/3"], "waffles": ["waffles/2"]}'
    write_files(tmp_path / "food-101", jpegs(*names) | meta)
    theirs = datasets.Food101(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("food101"), tmp_path)
    labels_by_name = {(record.id.rpartition("/")[2], record.label) for record in map(ours.source.read, range(2))}
    assert labels_by_name == {(p.name, n) for p, n in zip(theirs._image_files, theirs._labels, strict=True)}
    assert ours.classnames == ("apple pie", "waffles")


def test_aircraft_equals_torchvision(datasets, tmp_path: Path) -> None:
    lists = {
        f"images_variant_{part}.txt": "0034309 A320\n0034958 Boeing 707-320\n" for part in ("train", "val", "test")
    }
    lists["variants.txt"] = "A320\nBoeing 707-320\n"
    root = tmp_path / "fgvc-aircraft-2013b/data"
    write_files(root, jpegs("images/0034309.jpg", "images/0034958.jpg") | lists)
    theirs = datasets.FGVCAircraft(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("FGVCAircraft"), tmp_path)
    assert (list(ours.classnames), labels(ours)) == (theirs.classes, theirs._labels)
    assert ours.source.read(1).image == Path(theirs._image_files[1]).read_bytes()


def test_pets_equal_torchvision(datasets, tmp_path: Path) -> None:
    lists = {
        f"annotations/{part}.txt": "Abyssinian_201 1 1 1\nyorkshire_terrier_9 2 2 25\n" for part in ("trainval", "test")
    }
    lists["annotations/trimaps/x"] = ""
    files = jpegs("images/Abyssinian_201.jpg", "images/yorkshire_terrier_9.jpg")
    write_files(tmp_path / "oxford-iiit-pet", files | lists)
    theirs = datasets.OxfordIIITPet(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("pets"), tmp_path)
    assert labels(ours) == theirs._labels
    assert ours.classnames == ("Abyssinian", "yorkshire terrier")
    assert (ours.metric, ours.templates) == ("mean_per_class", ("a photo of a {}, a type of pet.",))


def test_textures_equal_torchvision(datasets, tmp_path: Path) -> None:
    lists = {
        f"labels/{part}1.txt": "banded/banded_1.jpg\nzigzagged/zigzagged_2.jpg\n" for part in ("train", "val", "test")
    }
    files = jpegs("images/banded/banded_1.jpg", "images/zigzagged/zigzagged_2.jpg")
    write_files(tmp_path / "dtd/dtd", files | lists)
    theirs = datasets.DTD(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("dtd"), tmp_path)
    assert (labels(ours), list(ours.classnames)) == (theirs._labels, theirs.classes)


def test_traffic_signs_equal_torchvision(datasets, tmp_path: Path) -> None:
    signs = RNG.integers(0, 256, (2, 10, 12, 3), np.uint8)
    ppm = [b"P6\n12 10\n255\n" + sign.tobytes() for sign in signs]
    table = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    table += "00000.ppm;12;10;1;1;9;9;16\n00001.ppm;12;10;1;1;9;9;1\n"
    files = {f"GTSRB/Final_Test/Images/0000{i}.ppm": data for i, data in enumerate(ppm)}
    names = "".join(f"sign {i}\n" for i in range(43))
    write_files(tmp_path / "gtsrb", files | {"GT-final_test.csv": table, "classnames.txt": names})
    theirs = datasets.GTSRB(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("gtsrb"), tmp_path)
    assert labels(ours) == [label for _, label in theirs._samples] == [16, 1]
    assert all((pixels(ours, i) == np.asarray(theirs[i][0])).all() for i in range(2))


def test_flowers_equal_torchvision(datasets, tmp_path: Path, monkeypatch) -> None:
    root = write_files(tmp_path / "flowers-102", jpegs(*(f"jpg/image_{i:05d}.jpg" for i in range(1, 4))))
    savemat(root / "setid.mat", {"trnid": [[2, 1]], "valid": [[2, 1]], "tstid": [[3, 1]]})
    savemat(root / "imagelabels.mat", {"labels": np.array([[77, 5, 1]], np.uint8)})
    (root / "classnames.txt").write_text("".join(f"flower {i}\n" for i in range(102)))
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    theirs = datasets.Flowers102(tmp_path, split="test")
    ours = read_catalog_dataset(find_catalog_entry("flowers"), tmp_path)
    assert labels(ours) == [int(label) for label in theirs._labels] == [0, 76]
    assert ours.source.read(0).image == Path(theirs._image_files[0]).read_bytes()

"""Tiny archives in their authors' formats are read. `tests/parity` compares with torchvision."""

import gzip
import io
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zebra.data.benchmarks.catalog import find_catalog_entry, load_catalog, read_catalog_dataset
from zebra.data.image_source import encode_png
from zebra.errors import DataError

RNG = np.random.default_rng(0)


def pixels(benchmark, index: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(benchmark.source.read(index).image)))


def labels(benchmark) -> list[int]:
    return [benchmark.source.read(i).label for i in range(len(benchmark.source))]


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def jpegs(make_image, *names: str) -> dict[str, bytes]:
    return {name: make_image(number) for number, name in enumerate(names)}


# --- arrays of bytes ---

NAMES10 = "".join(f"class{i}\n" for i in range(10))


def cifar(count: int, label_bytes: int = 1, first: int = 0) -> tuple[bytes, np.ndarray]:
    """Return records as specified at cs.toronto.edu/~kriz/cifar.html: labels, then red, green and blue planes."""
    images = RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)
    data = b""
    for number, image in enumerate(images):
        data += bytes([9] * (label_bytes - 1) + [first + number])
        data += b"".join(image[:, :, channel].tobytes() for channel in range(3))
    return data, images


def test_cifar_10_is_read_from_its_binary_version(tmp_path: Path) -> None:
    data, images = cifar(3, first=4)
    put(tmp_path / "cifar-10-batches-bin", {"test_batch.bin": data, "batches.meta.txt": NAMES10})
    benchmark = read_catalog_dataset(find_catalog_entry("cifar10"), tmp_path)
    assert labels(benchmark) == [4, 5, 6]
    assert all((pixels(benchmark, i) == images[i]).all() for i in range(3))
    assert benchmark.classnames[4] == "class4"


def test_training_batches_of_cifar_are_concatenated(tmp_path: Path) -> None:
    batches = [cifar(2, first=i) for i in range(5)]
    files = {f"data_batch_{i + 1}.bin": data for i, (data, _) in enumerate(batches)}
    put(tmp_path / "cifar-10-batches-bin", files | {"batches.meta.txt": NAMES10})
    benchmark = read_catalog_dataset(find_catalog_entry("cifar10"), tmp_path, "train")
    assert labels(benchmark) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert (pixels(benchmark, 9) == batches[4][1][1]).all()


def test_cifar_100_uses_the_fine_label(tmp_path: Path) -> None:
    data, images = cifar(2, label_bytes=2, first=98)
    names = "".join(f"class{i}\n" for i in range(100))
    put(tmp_path / "cifar-100-binary", {"test.bin": data, "fine_label_names.txt": names})
    benchmark = read_catalog_dataset(find_catalog_entry("cifar100"), tmp_path)
    assert labels(benchmark) == [98, 99]
    assert (pixels(benchmark, 1) == images[1]).all()


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_pickle_is_refused_and_the_other_archive_named(tmp_path: Path, name: str, folder: str) -> None:
    put(tmp_path / folder, {"test_batch": pickle.dumps({})})
    with pytest.raises(DataError, match=r"is a pickle.*cifar-100?-binary\.tar\.gz"):
        read_catalog_dataset(find_catalog_entry(name), tmp_path)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    data, _ = cifar(2)
    put(tmp_path / "cifar-10-batches-bin", {"test_batch.bin": data[:-1], "batches.meta.txt": NAMES10})
    with pytest.raises(DataError, match="no multiple of 3073"):
        read_catalog_dataset(find_catalog_entry("cifar10"), tmp_path)


def test_a_missing_batch_is_an_error(tmp_path: Path) -> None:
    files = {f"data_batch_{i}.bin": cifar(1)[0] for i in (1, 2, 4, 5)}
    put(tmp_path / "cifar-10-batches-bin", files | {"batches.meta.txt": NAMES10})
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin"):
        read_catalog_dataset(find_catalog_entry("cifar10"), tmp_path, "train")


def test_a_label_without_a_class_name_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "cifar-10-batches-bin", {"test_batch.bin": cifar(1, first=10)[0], "batches.meta.txt": NAMES10})
    with pytest.raises(DataError, match="label 10, but there are 10 class names"):
        read_catalog_dataset(find_catalog_entry("cifar10"), tmp_path)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    images, digits = RNG.integers(0, 256, (4, 28, 28), np.uint8), np.array([7, 2, 1, 0], np.uint8)
    files = {f"{part}-images-idx3-ubyte": idx(images) for part in ("t10k", "train")}
    files |= {f"{part}-labels-idx1-ubyte": idx(digits) for part in ("t10k", "train")}
    return put(tmp_path / "MNIST/raw", files)


def test_gzipped_mnist_gives_the_same_records(mnist: Path, tmp_path: Path) -> None:
    before = read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)
    for path in [*mnist.iterdir()]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    after = read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)
    assert [after.source.read(i) for i in range(4)] == [before.source.read(i) for i in range(4)]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:3], lambda data: b"\x01" + data[1:]])
def test_damaged_idx_files_are_errors(mnist: Path, tmp_path: Path, damage) -> None:
    path = mnist / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)


def test_a_gzip_bomb_is_unpacked_only_up_to_its_shape(mnist: Path, tmp_path: Path) -> None:
    path = mnist / "t10k-images-idx3-ubyte"
    bomb = gzip.compress(path.read_bytes() + bytes(64 << 20))
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz has more bytes than its shape \(4, 28, 28\)"):
            read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (struct.pack(">HBB3I", 0, 8, 3, 60_000, 28_000, 28_000), "more than 2,147,483,648 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 60_000, 28, 28), "has fewer bytes than its shape"),
        (struct.pack(">HBB", 0, 8, 255), "truncated or damaged"),
        (struct.pack(">HBB1I", 0, 9, 1, 4), "no idx file of bytes"),
    ],
)
def test_an_idx_file_with_a_forged_header_is_refused(mnist: Path, tmp_path: Path, header: bytes, message: str) -> None:
    (mnist / "t10k-images-idx3-ubyte").write_bytes(header)
    with pytest.raises(DataError, match=message):
        read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)


def test_different_numbers_of_images_and_labels_are_an_error(mnist: Path, tmp_path: Path) -> None:
    (mnist / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte has the shape .* and t10k-labels-idx1-ubyte \(3,\)"):
        read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)


def test_cifar_10_1_is_read_from_its_arrays(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (2, 32, 32, 3), np.uint8)
    folder = tmp_path / "CIFAR-10.1/datasets"
    folder.mkdir(parents=True)
    np.save(folder / "cifar10.1_v6_data.npy", images)
    np.save(folder / "cifar10.1_v6_labels.npy", np.array([3, 5], np.int32))
    benchmark = read_catalog_dataset(find_catalog_entry("cifar10.1"), tmp_path)
    assert (labels(benchmark), benchmark.classnames[3]) == ([3, 5], "cat")
    assert (pixels(benchmark, 1) == images[1]).all()


def test_arrays_that_contain_a_pickle_are_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10.1/datasets"
    folder.mkdir(parents=True)
    for part in ("data", "labels"):
        np.save(folder / f"cifar10.1_v6_{part}.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(DataError, match="no numeric arrays"):
        read_catalog_dataset(find_catalog_entry("cifar10.1"), tmp_path)


def test_fer2013_is_read_from_its_table(tmp_path: Path) -> None:
    faces = RNG.integers(0, 256, (3, 48, 48), np.uint8)
    usages = ("Training", "PrivateTest", "PublicTest")
    rows = [f"{i},{' '.join(map(str, faces[i].ravel()))},{usages[i]}" for i in range(3)]
    put(tmp_path / "fer2013", {"fer2013.csv": "\n".join(["emotion,pixels,Usage", *rows])})
    benchmark = read_catalog_dataset(find_catalog_entry("fer2013"), tmp_path)
    assert labels(benchmark) == [1]
    assert (pixels(benchmark, 0) == faces[1]).all()


def test_a_broken_row_of_pixels_is_an_error_with_its_line(tmp_path: Path) -> None:
    text = "emotion,pixels,Usage\n0,1 2 3 4,PrivateTest\n0,1 2 3 900,PrivateTest\n"
    put(tmp_path / "fer2013", {"fer2013.csv": text})
    with pytest.raises(DataError, match=r"fer2013\.csv:3 has no label with the gray values of a square"):
        read_catalog_dataset(find_catalog_entry("fer2013"), tmp_path)


# --- lists of files, folders, tables ---


def test_classes_that_only_the_other_split_has_keep_their_label(tmp_path: Path, make_image) -> None:
    names = ["images/apple_pie/1.jpg", "images/waffles/2.jpg"]
    meta = {"meta/test.txt": "waffles/2\n", "meta/train.txt": "apple_pie/1\n"}
    put(tmp_path / "food-101", jpegs(make_image, *names) | meta)
    benchmark = read_catalog_dataset(find_catalog_entry("food101"), tmp_path)
    assert (labels(benchmark), benchmark.classnames) == ([1], ("apple pie", "waffles"))


def test_scene_names_include_their_place(tmp_path: Path, make_image) -> None:
    lines = "/a/abbey/sun_1.jpg\n/a/apartment_building/outdoor/sun_2.jpg\n"
    files = jpegs(make_image, "a/abbey/sun_1.jpg", "a/apartment_building/outdoor/sun_2.jpg")
    put(tmp_path / "SUN397", files | {"Testing_01.txt": lines})
    benchmark = read_catalog_dataset(find_catalog_entry("sun397"), tmp_path)
    assert (benchmark.classnames, labels(benchmark)) == (("abbey", "apartment building/outdoor"), [0, 1])


def test_a_line_that_does_not_match_is_an_error_with_its_number(tmp_path: Path) -> None:
    put(tmp_path / "dtd/dtd", {"labels/test1.txt": "banded.jpg\n"})
    with pytest.raises(DataError, match=r"test1\.txt:1: 'banded\.jpg' does not match"):
        read_catalog_dataset(find_catalog_entry("dtd"), tmp_path)


def test_a_missing_image_of_a_list_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "dtd/dtd", {"labels/test1.txt": "banded/banded_1.jpg\n"})
    with pytest.raises(DataError, match=r"banded_1\.jpg cannot be read"):
        read_catalog_dataset(find_catalog_entry("dtd"), tmp_path)


def test_numbered_classes_need_class_names(tmp_path: Path) -> None:
    files = {"GTSRB/Training/00000/1.ppm": b"P5\n1 1\n255\nx", "GTSRB/Training/00014/2.ppm": b"P5\n1 1\n255\nx"}
    put(tmp_path / "gtsrb", files)
    with pytest.raises(DataError, match=r"no names for its 43 classes\. Write classnames\.txt"):
        read_catalog_dataset(find_catalog_entry("gtsrb"), tmp_path, "train")


def test_the_test_split_of_imagenet_is_its_validation_set(tmp_path: Path, make_image) -> None:
    files = jpegs(make_image, "train/n01/a.jpg", "train/n02/b.jpg", "val/n02/c.jpg")
    put(tmp_path / "imagenet", files | {"classnames.txt": "tench\ngoldfish\n"})
    benchmark = read_catalog_dataset(find_catalog_entry("imagenet1k"), tmp_path)
    assert (labels(benchmark), benchmark.classnames) == ([1], ("tench", "goldfish"))


def test_rendered_sst2_is_read_from_its_folders(tmp_path: Path, make_image) -> None:
    put(
        tmp_path / "rendered-sst2",
        jpegs(make_image, "test/negative/1.png", "test/positive/2.png", "valid/positive/3.png"),
    )
    assert labels(read_catalog_dataset(find_catalog_entry("sst2"), tmp_path)) == [0, 1]
    assert labels(read_catalog_dataset(find_catalog_entry("sst2"), tmp_path, "val")) == [1]


def test_hateful_memes_are_read_from_their_table(tmp_path: Path, make_image) -> None:
    lines = '{"id": 1, "img": "img/1.png", "label": 1, "text": "x"}\n'
    put(tmp_path / "hateful_memes", jpegs(make_image, "img/1.png") | {"dev.jsonl": lines})
    benchmark = read_catalog_dataset(find_catalog_entry("hateful_memes"), tmp_path)
    assert (labels(benchmark), benchmark.classnames) == ([1], ("harmless", "hateful"))
    assert benchmark.metric == "roc_auc"


def test_a_dataset_may_be_in_a_folder_of_its_name(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "MNIST").rename(tmp_path / "mnist" / "MNIST")
    assert labels(read_catalog_dataset(find_catalog_entry("mnist"), tmp_path)) == [7, 2, 1, 0]


def test_an_unexpected_size_is_noted(mnist: Path, tmp_path: Path) -> None:
    notes = read_catalog_dataset(find_catalog_entry("mnist"), tmp_path).notes
    assert "4 samples, but the catalog expects 10,000 in test: scores may not be comparable" in notes


def test_a_missing_split_is_an_error_that_lists_the_others(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'val'\. It has train, test"):
        read_catalog_dataset(find_catalog_entry("mnist"), tmp_path, "val")


@pytest.mark.parametrize("name", list(load_catalog()))
def test_a_missing_dataset_is_an_error_with_advice(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"there is no copy of .*(unpack|name hf:|put|write) "):
        read_catalog_dataset(find_catalog_entry(name), tmp_path)


def test_raw_images_become_png_without_loss() -> None:
    image = RNG.integers(0, 256, (5, 9, 3), np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(encode_png(image)))) == image).all()


# --- MATLAB files ---


@pytest.mark.parametrize(
    ("numbers", "labels_name", "message"),
    [
        ([[1]], "other", "labels is missing"),
        ([[0]], "labels", "outside 1 … 3"),
        ([[4]], "labels", "outside 1 … 3"),
        (np.zeros((1, (1 << 20) + 1), np.uint8), "labels", "has the shape"),
        ([["a", "b"]], "labels", "cannot be read"),
    ],
)
def test_a_matlab_file_that_does_not_fit_is_named(tmp_path: Path, numbers, labels_name: str, message: str) -> None:

    (tmp_path / "flowers-102").mkdir(exist_ok=True)
    savemat(tmp_path / "flowers-102/setid.mat", {"tstid": numbers}, do_compression=True)
    savemat(tmp_path / "flowers-102/imagelabels.mat", {labels_name: np.array([[77, 5, 1]], np.uint8)})
    with pytest.raises(DataError, match=message):
        read_catalog_dataset(find_catalog_entry("flowers"), tmp_path)


def test_a_truncated_matlab_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "flowers-102").mkdir()
    savemat(tmp_path / "flowers-102/imagelabels.mat", {"labels": np.array([[77, 5, 1]], np.uint8)})
    whole = (tmp_path / "flowers-102/imagelabels.mat").read_bytes()
    for size in (0, 20, len(whole) - 9):
        (tmp_path / "flowers-102/setid.mat").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"setid\.mat"):
            read_catalog_dataset(find_catalog_entry("flowers"), tmp_path)

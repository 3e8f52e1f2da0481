"""Nothing that a source finds is lost: files = images + captions + ignored, in folders and in shards."""

import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zebra.data.folders import FolderSource
from zebra.data.remote.blobs import LocalBlob
from zebra.data.tar_index import TarIndex
from zebra.errors import BadSample

SUFFIXES = (".jpg", ".JPG", ".jfif", ".jpe", ".png", ".txt", ".TXT", ".Txt", ".heic", ".csv", ".tar", "", ".")
FOLDERS = ("", "a/", "a/b/", "train/")
STEMS = ("0", "1", "a.b", ".hidden", "é", "caf\udce9")
NAMES = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(STEMS), st.sampled_from(SUFFIXES)).map("".join)


@given(names=st.sets(NAMES, max_size=20))
def test_every_file_of_a_folder_is_an_image_a_caption_or_ignored(tmp_path: Path, names: set[str]) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    source = FolderSource(root)
    num_used = num_skipped = 0
    for index in range(len(source)):
        try:
            source.read(index)
            num_used += 1
        except BadSample:
            num_skipped += 1
    # A caption counts once for all images of its stem, such as a.jpg and a.png.
    num_captions = len(
        {str((root / source.sample_id(i)).with_suffix("")) for i in range(len(source)) if is_good(source, i)}
    )
    assert len(names) == num_used + num_captions + num_skipped + sum(entry.count for entry in source.ignored)
    assert source.num_images() == len(list(source.scan()))
    for entry in source.ignored:
        assert entry.example in {name.replace("\udce9", "\\xe9") for name in names}
    shutil.rmtree(root)


def is_good(source: FolderSource, index: int) -> bool:
    try:
        source.read(index)
    except BadSample:
        return False
    return True


@given(names=st.lists(NAMES, max_size=20))
def test_every_member_of_a_shard_is_part_of_a_sample_or_ignored(tmp_path: Path, names: list[str]) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "x.tar"
    with tarfile.open(path, "w", errors="surrogateescape") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    index = TarIndex(LocalBlob(path))
    samples = [index.sample(position) for position in range(len(index))]
    num_fields = sum(len(sample.fields) for sample in samples)
    num_ignored = sum(entry.count for entry in index.ignored)
    if all(sample.duplicate_field is None for sample in samples):
        assert len(names) == num_fields + num_ignored
    else:  # a sample with a duplicate field is skipped as a whole
        assert len(names) > num_fields + num_ignored

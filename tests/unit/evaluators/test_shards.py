"""Embedding of datasets in shards: the same vectors for any number of threads, and little work lost."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.errors import BadSample
from zebra.evaluators import embeddings, shard_cache, shards
from zebra.pretrained.bundle import Bundle
from zebra.values import Record

BATCH, SHARD, NUM_IMAGES = 2, 6, 21


class Images:
    """A source of random images, which records the positions that are read and fails at one of them."""

    name, ignored = "images", ()

    def __init__(self, num_images=NUM_IMAGES, digest="data", error=None, fails_at=None):
        self.num_images, self.digest, self.error, self.fails_at = num_images, digest, error, fails_at
        self.reads = []

    def __len__(self):
        return self.num_images

    def sample_id(self, index):
        return f"image {index}"

    def read(self, index):
        if index == self.fails_at:
            raise self.error
        self.reads.append(index)
        buffer = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return Record(self.sample_id(index), buffer.getvalue(), label=index % 3)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch, tmp_path):
    """Use shards of three batches, an empty cache, and one thread."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "BATCH_SIZE", BATCH)
    monkeypatch.setattr(shards, "SHARD_IMAGES", SHARD)
    monkeypatch.setattr(shards, "_cores_of_process", lambda: 1)


def cached_files(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "embeddings").glob("*/*"))


def test_the_vectors_are_the_same_bits_for_any_number_of_threads(clip, monkeypatch, tmp_path):
    results, encoder_threads = [], set()
    encode = clip.encode_pixels_with_features
    monkeypatch.setattr(
        clip, "encode_pixels_with_features", lambda p: encoder_threads.add(torch.get_num_threads()) or encode(p)
    )
    for num_threads, torch_threads in ((1, 1), (1, 2), (2, 2), (5, 1), (8, 3)):
        monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / f"{num_threads}-{torch_threads}"))
        monkeypatch.setattr(shards, "_cores_of_process", lambda threads=num_threads: threads)
        before = torch.get_num_threads()
        torch.set_num_threads(torch_threads)
        try:
            results.append(embeddings.embed_features_and_vectors(clip, Images()))
            assert torch.get_num_threads() == torch_threads
        finally:
            torch.set_num_threads(before)
    assert encoder_threads == {1}  # two threads would change the last bits of larger models
    for result in results:
        for kind, first in zip(result, results[0], strict=True):
            assert np.array_equal(kind.vectors, first.vectors)
            assert kind.ids == tuple(f"image {index}" for index in range(NUM_IMAGES))
            assert kind.labels.tolist() == [index % 3 for index in range(NUM_IMAGES)]


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("fails_at", [0, 5, 6, 7, 17, 20])
def test_an_interrupted_run_computes_at_most_one_shard_again(clip, monkeypatch, tmp_path, fails_at, num_threads):
    monkeypatch.setattr(shards, "_cores_of_process", lambda: num_threads)
    encoded = []
    encode = clip.encode_pixels
    monkeypatch.setattr(clip, "encode_pixels", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    with pytest.raises(KeyboardInterrupt):
        embeddings.embed_source(clip, Images(error=KeyboardInterrupt(), fails_at=fails_at))
    num_cached = len(cached_files(tmp_path)) * SHARD
    assert sum(encoded) - num_cached <= SHARD
    source = Images()
    resumed = embeddings.embed_source(clip, source)
    assert sorted(source.reads) == list(range(num_cached, NUM_IMAGES))
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "other"))
    assert np.array_equal(resumed.vectors, embeddings.embed_source(clip, Images()).vectors)


def test_the_shards_before_an_unusable_image_are_kept_and_the_error_names_it(clip, tmp_path):
    source = Images(error=BadSample("empty file", "image 13"), fails_at=13)
    with pytest.raises(BadSample, match=r"images: image 13: empty file .A score without it"):
        embeddings.embed_source(clip, source)
    assert cached_files(tmp_path) == ["00000.vectors.safetensors", "00001.vectors.safetensors"]


def test_an_unusable_image_does_not_stop_the_shards_behind_it(clip):
    bad, good = Images(error=BadSample("empty file", "image 3"), fails_at=3), Images()
    work = [*shards.split_into_shards(bad, ("vectors",)), *shards.split_into_shards(good, ("vectors",))]
    results = [
        (shard.source is bad, isinstance(result, BadSample)) for shard, result in shards.embed_shards(clip, work)
    ]
    assert results == [(True, True)] + [(True, False)] * 3 + [(False, False)] * 4


def test_shards_are_taken_when_they_are_needed(clip):
    taken = []

    def work():
        for shard in shards.split_into_shards(Images(60), ("vectors",)):
            taken.append(shard.number)
            yield shard

    for number, (shard, _) in enumerate(shards.embed_shards(clip, work(), num_threads=2)):
        assert shard.number == number
        assert len(taken) <= number + 4


def test_changed_data_takes_none_of_the_shards(clip):
    embeddings.embed_source(clip, Images(digest="data"))
    source = Images(digest="changed data")
    embeddings.embed_source(clip, source)
    assert len(source.reads) == NUM_IMAGES


def test_features_and_vectors_are_computed_once_from_a_cache_with_only_one_of_them(clip):
    embeddings.embed_source(clip, Images())
    source = Images()
    features, vectors = embeddings.embed_features_and_vectors(clip, source)
    assert (len(source.reads), features.vectors.shape[1], vectors.vectors.shape[1]) == (NUM_IMAGES, 64, 32)
    assert not embed_reads(clip, projected=False)
    assert not embed_reads(clip, projected=True)


def embed_reads(clip, *, projected):
    source = Images()
    embeddings.embed_source(clip, source, projected=projected)
    return source.reads


def test_a_cache_that_cannot_be_written_costs_only_a_warning(clip, monkeypatch):
    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_cache, "save_file", fail)
    with pytest.warns(UserWarning, match="the embeddings of images were not cached.*No space left") as warnings:
        result = embeddings.embed_source(clip, Images())
    assert (len(result.ids), len(warnings)) == (NUM_IMAGES, 1)


def test_a_model_that_was_never_saved_is_not_cached(clip, tmp_path):
    unsaved = Bundle(clip.model, clip.tokenizer, clip.preprocess)
    result = embeddings.embed_source(unsaved, Images())
    assert cached_files(tmp_path) == []
    assert np.array_equal(result.vectors, embeddings.embed_source(clip, Images()).vectors)


def test_a_shard_that_is_only_in_part_on_disk_is_no_shard(clip, tmp_path):
    embeddings.embed_source(clip, Images())
    (entry,) = (tmp_path / "cache" / "embeddings").iterdir()
    (entry / "00002.vectors.safetensors").unlink()
    source = Images()
    embeddings.embed_source(clip, source)
    assert source.reads == list(range(12, 18))

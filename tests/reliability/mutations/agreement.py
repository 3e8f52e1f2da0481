"""Read a dataset as train, embed, evaluate and doctor read it, and compare what they count."""

import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from zebra.config.data import DataConfig
from zebra.data.bad_samples import NoUsableSamples
from zebra.data.batches import iter_batches
from zebra.data.benchmarks.captioned import CaptionedSource
from zebra.data.dataset_stats import compute_dataset_stats
from zebra.data.sample_counter import SampleCounter
from zebra.data.sources import Source, open_images, open_source
from zebra.embed.preprocessing import ImagePreprocessor, read_record
from zebra.errors import BadSample, ZebraError
from zebra.evaluators.datasets import load_dataset
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess

CONFIG = DataConfig(max_skip_rate=1.0)
IMAGE_SIZE = 32
CAPTION_REASONS = {
    "missing caption", "empty caption", "caption is not UTF-8", "caption is not text", "caption is too long",
    "broken JSON",
    "label is not a number",
}  # fmt: skip
"""Reasons for which training skips a sample whose image `zebra embed` may use."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one verb found: the reason per bad sample, and the number of samples."""

    num_found: int
    bad: dict[str, str]
    """ID → reason."""
    num_repeated: int = 0
    """Samples that an evaluation joins with an earlier one, because they have the same image."""


def check_dataset(path: Path | str, place: Path) -> tuple[Source | None, Reading | None]:
    """Read a dataset by every verb; AssertionError if they disagree or an error does not help.

    Args:
        path: The dataset.
        place: The folder that every error must name.

    Returns:
        The opened source and what doctor found; None for a dataset that is refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doctor = _refused_or(place, lambda: read_as_doctor(path))
        train = _refused_or(place, lambda: read_as_train(path))
        embed = _refused_or(place, lambda: read_as_embed(path))
        evaluate = _refused_or(place, lambda: read_as_evaluate(path))
        if doctor is None or train is None:
            assert doctor is None, f"train refuses what doctor reads: {doctor}"
            assert train is None, f"doctor refuses what train reads: {train}"
            return None, None
        assert train == doctor, (train, doctor)
        if embed is not None:
            _compare_with_embed(doctor, embed)
        if evaluate is not None:
            _compare_with_evaluate(doctor, evaluate)
        return open_source(path, CONFIG), doctor


def read_as_doctor(path: Path | str) -> Reading:
    """Examine all samples, as `zebra doctor DATA` does."""
    source = open_source(path, CONFIG)
    stats, _ = compute_dataset_stats(
        source, image_size=IMAGE_SIZE, max_pixels=CONFIG.max_image_pixels, num_samples=len(source)
    )
    assert stats.num_examined == len(source)
    reasons = {entry.reason: entry.count for entry in stats.skipped}
    assert stats.num_usable + sum(reasons.values()) == len(source)
    bad: dict[str, str] = {}
    for index in range(len(source)):
        try:
            record = source.read(index)
            decode_image(record.image, record.id, max_pixels=CONFIG.max_image_pixels)
            if not record.captions:
                assert record.label is not None
                bad[record.id] = "missing caption"
        except BadSample as error:
            assert error.location.endswith(source.sample_id(index)), (error.location, source.sample_id(index))
            require_printable(str(error))
            bad[source.sample_id(index)] = error.reason
    assert Counter(bad.values()) == reasons, (bad, reasons)
    return Reading(len(source), bad)


def read_as_train(path: Path | str) -> Reading:
    """Load one epoch of batches of one sample."""
    source = open_source(path, CONFIG)
    counter = SampleCounter(len(source), 1.0, None)
    bad: dict[str, str] = {}
    batches = (
        iter_batches(
            source,
            image_size=IMAGE_SIZE,
            batch_size=2,
            seed=0,
            start_sample=0,
            num_steps=-(-len(source) // 2),
            num_workers=0,
            config=CONFIG,
        )
        if len(source) > 1
        else iter(())
    )
    try:
        for step, batch in enumerate(batches):
            counter.add(2 * step, batch)
            bad |= {skip.id: skip.reason for skip in batch.skips if skip.epoch == 0}
    except NoUsableSamples as error:
        require_helpful(error, Path(path))
        full = read_as_doctor(path)  # the error lists the samples that were tried
        assert {sample.location: sample.reason for sample in error.bad_samples}.items() <= full.bad.items()
        assert len(full.bad) == full.num_found
        return full
    if len(source) == 1:
        return read_as_doctor(path)
    epoch = counter.summary()["epochs"][0]
    assert epoch["complete"]
    assert epoch["consumed"] + sum(epoch["skipped"].values()) == len(source)
    return Reading(len(source), bad)


def read_as_embed(path: Path | str) -> Reading:
    """Scan and preprocess all images, as `zebra embed` does."""
    source = open_images(path, CONFIG)
    preprocess = ImagePreprocessor(Preprocess(image_size=IMAGE_SIZE))
    bad: dict[str, str] = {}
    keys = []
    for ref in source.scan():
        key = ref.location.key
        keys.append(key)
        try:
            preprocess(read_record(ref).image, key)
        except BadSample as error:
            require_printable(str(error))
            bad[key] = error.reason
        require_printable(key, ref.location.path, ref.location.stamp)
    assert len(set(keys)) == len(keys) == source.num_images(), (keys, source.num_images())
    return Reading(len(keys), bad)


def read_as_evaluate(path: Path | str) -> Reading:
    """Load the dataset for an evaluation, and decode its images."""
    benchmark = load_dataset(path)
    source = benchmark.source
    bad: dict[str, str] = {}
    num_repeated = 0
    if isinstance(source, CaptionedSource):
        bad = {sample.location: sample.reason for sample in source.bad_samples}
        num_repeated = source.num_repeated
        for sample in source.bad_samples:
            require_printable(str(sample))
    num_found = len(source) + num_repeated + len(bad)
    for index in range(len(source)):
        try:
            decode_image(source.read(index).image, source.sample_id(index))
        except BadSample as error:
            require_printable(str(error))
            bad[source.sample_id(index)] = error.reason
    for name in getattr(benchmark, "classnames", ()):
        require_printable(name)
    assert len(source) > 0
    return Reading(num_found, bad, num_repeated)


def _compare_with_embed(doctor: Reading, embed: Reading) -> None:
    """Images that embed skips are skipped by training too; the others only for their captions or labels."""
    matches = {key: _find_id(key, doctor.bad) for key in embed.bad}
    for key, reason in embed.bad.items():
        assert matches[key] is not None, f"only embed skips {key}: {reason}"
        other = doctor.bad[matches[key]]
        assert other == reason or other in CAPTION_REASONS, (key, reason, other)
    for sample_id, reason in doctor.bad.items():
        if sample_id not in matches.values():
            assert reason in CAPTION_REASONS | {"missing image", "unreadable file", "NUL character"}, (
                f"only training skips {sample_id}: {reason}"
            )
    num_captions_alone = sum(
        reason == "missing image" and i not in matches.values() for i, reason in doctor.bad.items()
    )
    assert embed.num_found == doctor.num_found - num_captions_alone


def _compare_with_evaluate(doctor: Reading, evaluate: Reading) -> None:
    """An evaluation uses every image that training uses; of images by class, it needs no captions."""
    for sample_id, reason in evaluate.bad.items():
        other = _find_id(sample_id, doctor.bad)
        assert other is not None, f"only evaluate cannot use {sample_id}: {reason}"
    num_captions_alone = sum(reason == "missing image" for reason in doctor.bad.values())
    assert doctor.num_found - num_captions_alone <= evaluate.num_found <= doctor.num_found, (evaluate, doctor)
    if not evaluate.num_repeated:
        num_used = doctor.num_found - len(doctor.bad)
        assert evaluate.num_found - len(evaluate.bad) >= num_used, (evaluate, doctor)


def _find_id(key: str, ids: dict[str, str]) -> str | None:
    """Return the ID of the longest end of a key: embed has absolute paths, training those below the dataset."""
    texts = (key, re.sub(r"\\udc([0-9a-f]{2})", r"\\x\1", key))  # two escapes of undecodable bytes are in use
    found = [sample_id for sample_id in ids if any(text.endswith(sample_id) for text in texts)]
    return max(found, key=len, default=None)


def _refused_or(place: Path, read):
    try:
        return read()
    except ZebraError as error:
        require_helpful(error, place)
        return None


def require_helpful(error: ZebraError, place: Path) -> None:
    """Assert that a message names the place and says what to do in a sentence of its own."""
    message = str(error)
    require_printable(message)
    assert place.name in message, f"names no place: {message}"
    assert re.search(r"[.?;] \S*\w+ ", message), f"names no next step: {message}"
    assert len(message) < 4000, len(message)


def require_printable(*texts: str) -> None:
    """Assert that texts can be written to a terminal and a log."""
    for text in texts:
        text.encode()  # fails for surrogates
        assert "\0" not in text, repr(text)

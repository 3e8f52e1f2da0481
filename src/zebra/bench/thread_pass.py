"""All measurements with one number of threads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.bench.ceilings import Ceiling
from zebra.bench.encoders import Encoder
from zebra.bench.results import ImageSpeed, TextSpeed, ThreadPass
from zebra.bench.rounds import Rounds, run_rounds
from zebra.bench.warm_up import FlopCounts
from zebra.bench.workload import IMAGE_SHARE, Workload

Seconds = Mapping[str, NDArray[np.float64]]
"""Encoder → seconds per item in each round."""


@contextmanager
def use_threads(num_threads: int) -> Iterator[None]:
    """Set torch's number of threads for a block."""
    previous = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def run_pass(
    encoders: Sequence[Encoder],
    workload: Workload,
    flops: FlopCounts,
    ceilings: list[Ceiling],
    *,
    seconds: float,
    device: torch.device,
) -> ThreadPass:
    """Time images, then texts, with torch's current number of threads; by CPU time if that is one."""
    by_cpu_time = device.type == "cpu" and torch.get_num_threads() == 1
    image_rounds = run_rounds(dict(_image_tasks(encoders, workload)), IMAGE_SHARE * seconds)
    waiting, texts = image_rounds.waiting, []
    text_encoders = [encoder for encoder in encoders if encoder.encode_texts is not None]
    if text_encoders:
        text_rounds = run_rounds(dict(_text_tasks(text_encoders, workload)), (1 - IMAGE_SHARE) * seconds)
        waiting = max(waiting, text_rounds.waiting)
        texts = _text_speeds(text_encoders, workload, text_rounds, flops, ceilings, by_cpu_time)
    return ThreadPass(
        num_threads=torch.get_num_threads(),
        num_images=len(workload.jpegs),
        num_prompts=len(workload.prompts),
        num_captions=len(workload.captions),
        num_peer_texts=workload.num_peer_texts,
        num_rounds=image_rounds.number,
        waiting=waiting,
        ceilings=ceilings,
        images=_image_speeds(encoders, workload, image_rounds, flops, ceilings, by_cpu_time),
        texts=texts,
    )


def _image_tasks(encoders: Sequence[Encoder], workload: Workload) -> Iterator[tuple[str, Callable[[], object]]]:
    for encoder in encoders:
        yield f"{encoder.name} preprocess", partial(encoder.preprocess, workload.jpegs)
        yield f"{encoder.name} tower", partial(encoder.encode_images, encoder.preprocess(workload.jpegs))


def _text_tasks(encoders: Sequence[Encoder], workload: Workload) -> Iterator[tuple[str, Callable[[], object]]]:
    for encoder in encoders:
        assert encoder.encode_texts is not None
        yield f"{encoder.name} captions", partial(encoder.encode_texts, workload.captions_for(encoder))
        if not encoder.is_peer:
            yield f"{encoder.name} prompts", partial(encoder.encode_texts, workload.prompts)


def _image_speeds(
    encoders: Sequence[Encoder],
    workload: Workload,
    rounds: Rounds,
    flops: FlopCounts,
    ceilings: Sequence[Ceiling],
    by_cpu_time: bool,
) -> list[ImageSpeed]:
    preprocess, tower = (
        {
            encoder.name: rounds.seconds(f"{encoder.name} {part}", by_cpu_time=by_cpu_time) / len(workload.jpegs)
            for encoder in encoders
        }
        for part in ("preprocess", "tower")
    )
    both = {name: preprocess[name] + tower[name] for name in tower}
    return [
        ImageSpeed(
            name=encoder.name,
            preprocess_per_second=_per_second(preprocess[encoder.name]),
            tower_per_second=_per_second(tower[encoder.name]),
            images_per_second=_per_second(both[encoder.name]),
            ceiling_fraction=_ceiling_fraction(encoder, tower, flops.image, ceilings),
            times_peers=_times_peers(encoder, encoders, both),
        )
        for encoder in encoders
    ]


def _text_speeds(
    encoders: Sequence[Encoder],
    workload: Workload,
    rounds: Rounds,
    flops: FlopCounts,
    ceilings: Sequence[Ceiling],
    by_cpu_time: bool,
) -> list[TextSpeed]:
    captions = {
        encoder.name: rounds.seconds(f"{encoder.name} captions", by_cpu_time=by_cpu_time)
        / len(workload.captions_for(encoder))
        for encoder in encoders
    }
    prompts = {
        encoder.name: captions[encoder.name]
        if encoder.is_peer
        else rounds.seconds(f"{encoder.name} prompts", by_cpu_time=by_cpu_time) / len(workload.prompts)
        for encoder in encoders
    }
    return [
        TextSpeed(
            name=encoder.name,
            prompts_per_second=_per_second(prompts[encoder.name]),
            captions_per_second=_per_second(captions[encoder.name]),
            ceiling_fraction=None if encoder.is_peer else _ceiling_fraction(encoder, captions, flops.caption, ceilings),
            prompts_times_peers=_times_peers(encoder, encoders, prompts),
            captions_times_peers=_times_peers(encoder, encoders, captions),
        )
        for encoder in encoders
    ]


def _per_second(seconds_R: NDArray[np.float64]) -> float:
    return float(1 / np.median(seconds_R))


def _ceiling_fraction(
    encoder: Encoder, seconds: Seconds, operations: float | None, ceilings: Sequence[Ceiling]
) -> float | None:
    gflops = next((ceiling.gflops for ceiling in ceilings if ceiling.format == encoder.format), None)
    if gflops is None or operations is None:
        return None
    return _per_second(seconds[encoder.name]) * operations / (1e9 * gflops)


def _times_peers(encoder: Encoder, encoders: Sequence[Encoder], seconds: Seconds) -> dict[str, float]:
    """Return how many times as fast as each peer an encoder is: the median of the ratios within a round."""
    return {
        peer.name: float(np.median(seconds[peer.name] / seconds[encoder.name]))
        for peer in encoders
        if peer.is_peer and peer is not encoder
    }

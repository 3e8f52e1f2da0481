"""Functions that tests run in several processes: evaluate a model together."""

import os

from zebra.config.evaluate import EvaluateConfig
from zebra.errors import ZebraError
from zebra.evaluators import shards
from zebra.workflows import evaluate


def ignore(*_args):
    """Take what a callback gets."""


def run(group, config, cache):
    """Evaluate with small shards and an empty cache; return the metrics and the number of images encoded here."""
    os.environ["ZEBRA_CACHE"] = cache
    shards.BATCH_SIZE, shards.SHARD_IMAGES = 4, 8
    num_encoded = []
    encode = shards._encode_kinds
    shards._encode_kinds = lambda clip, pixels, kinds: num_encoded.append(len(pixels)) or encode(clip, pixels, kinds)
    metrics = evaluate._run(config, group, ignore, ignore, ignore)
    return metrics, sum(num_encoded)


def run_on_other_data(group, config, cache, datasets):
    """Evaluate with other datasets on each rank; return the message of the error."""
    os.environ["ZEBRA_CACHE"] = cache
    try:
        run(group, EvaluateConfig(**config | {"datasets": (datasets[group.rank],)}), cache)
    except ZebraError as error:
        return str(error)
    return ""

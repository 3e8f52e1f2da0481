"""Train with open_clip's own trainer in this process: its command line, loader, tokenizer, loop, loss and optimizer.

Its loop saves weights only at the end of an epoch. A hook of the optimizer, which runs after each step, copies the
weights and notes the CPU time at the steps of the curve instead.
"""

import gzip
import importlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainers_runs import Encoder, RunSettings, Snapshot
from zebra.config.image_towers import ResNetConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import TrainConfig
from zebra.data.sources import open_source
from zebra.text.bpe import BPETokenizer
from zebra.train.setup import load_or_train_tokenizer

MODEL_NAME = "peer"
EVALUATION_BATCH = 256


def train_with_open_clip(settings: RunSettings, config: TrainConfig) -> list[Snapshot]:
    """Train as `settings` and the length, batch and learning rate of `config` say; return the points of the curve."""
    declare_torchvision_operators()
    main = importlib.import_module("open_clip_train.main")
    with tempfile.TemporaryDirectory() as folder:
        write_model_config(Path(folder), settings, config)
        recorder = _Recorder(settings.curve_steps)
        train_one_epoch = main.train_one_epoch

        def record_epoch(
            model: nn.Module, data: Any, loss: Any, epoch: int, optimizer: Any, *args: Any, **kwargs: Any
        ) -> None:
            recorder.follow(model, optimizer)
            train_one_epoch(model, data, loss, epoch, optimizer, *args, **kwargs)

        main.train_one_epoch = record_epoch
        try:
            recorder.start = time.process_time()
            main.main([*list_flags(settings, config), "--logs", folder, "--name", "run"])
        finally:
            main.train_one_epoch = train_one_epoch
        return [
            Snapshot(step, cpu_seconds, build_encoder(weights)) for step, cpu_seconds, weights in recorder.snapshots
        ]


def list_flags(settings: RunSettings, config: TrainConfig) -> list[str]:
    """Return the command line of open_clip_train."""
    flags: dict[str, Any] = {
        "train-data": settings.data,
        "csv-separator": ",",
        "csv-caption-key": "caption",
        "model": MODEL_NAME,
        "epochs": settings.epochs,
        "batch-size": config.batch_size,
        "lr": config.lr,
        "warmup": config.optimizer.warmup_steps,
        "seed": settings.seed,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
        "log-every-n-steps": 20,
        "save-frequency": 0,
    }
    if settings.settings != "open_clip":
        # timm's Muon with Nesterov momentum, as zebra's; embeddings are matrices to it, and products are bf16.
        flags |= {"opt": "timm/nmuon"} if config.optimizer.name == "muon" else {}
        flags |= {
            "beta1": config.optimizer.beta1,
            "beta2": config.optimizer.beta2,
            "eps": config.optimizer.eps,
            "wd": config.optimizer.weight_decay,
            "grad-clip-norm": config.optimizer.grad_clip_norm,
        }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def write_model_config(folder: Path, settings: RunSettings, config: TrainConfig) -> None:
    """Write the architecture of `config` where open_clip looks for it, with its vocabulary or with zebra's."""
    vision, text = config.model.vision, config.model.text
    assert isinstance(vision, ResNetConfig) and isinstance(text, TextConfig)
    text_cfg: dict[str, Any] = {
        "context_length": text.context_length,
        "vocab_size": 49_408,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
    }
    if settings.settings != "open_clip":
        source = open_source(settings.data, config.data_options)
        merges = folder / "merges.txt.gz"
        text_cfg["vocab_size"] = write_merges(load_or_train_tokenizer(config, source), folder, merges)
        text_cfg["tokenizer_kwargs"] = {"bpe_path": str(merges)}
    model_cfg = {
        "embed_dim": config.model.embed_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": config.model.image_size,
            "layers": list(vision.layers),
            "width": vision.width,
            "head_width": 32 * vision.width // vision.heads,
        },
        "text_cfg": text_cfg,
    }
    (folder / f"{MODEL_NAME}.json").write_text(json.dumps(model_cfg), encoding="utf-8")
    importlib.import_module("open_clip").add_model_config(folder)


def write_merges(tokenizer: BPETokenizer, folder: Path, path: Path) -> int:
    """Write the merges of a tokenizer in the format that open_clip reads; return the size of the vocabulary."""
    tokenizer.save(folder / "tokenizer.json")
    merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    # No newline at the end: open_clip would count the empty line as a symbol.
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *pairs]).encode()))
    return tokenizer.vocab_size


def build_encoder(weights: dict[str, Tensor]) -> Encoder:
    """Return the model with these weights as functions of images and texts, with open_clip's own preprocessing."""
    open_clip = importlib.import_module("open_clip")
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL_NAME)
    model.load_state_dict(weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer(MODEL_NAME)

    @torch.inference_mode()
    def encode_images(images: Sequence[bytes]) -> NDArray[np.float32]:
        pixels = torch.stack([preprocess(Image.open(io.BytesIO(image))) for image in images])
        return _embed(model.encode_image, pixels)

    @torch.inference_mode()
    def encode_texts(texts: Sequence[str]) -> NDArray[np.float32]:
        return _embed(model.encode_text, tokenizer(list(texts)))

    return Encoder(encode_images, encode_texts)


def peer_vocabulary() -> str:
    """Return the path of open_clip's merges file."""
    declare_torchvision_operators()
    return str(importlib.import_module("open_clip.tokenizer").default_bpe())


@lru_cache
def declare_torchvision_operators() -> torch.library.Library:
    """Declare the two operators that torchvision expects and a CPU build of torch lacks."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # deleting the library removes the operators


class _Recorder:
    """Copies of the weights and CPU times at some steps."""

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps = set(steps)
        self.start = 0.0
        self.snapshots: list[tuple[int, float, dict[str, Tensor]]] = []
        self._step = 0
        self._optimizer: Any = None

    def follow(self, model: nn.Module, optimizer: Any) -> None:
        """Record the steps of an optimizer from now on."""
        if self._optimizer is not None:
            return
        self._optimizer = optimizer

        def record(*_: Any) -> None:
            self._step += 1
            if self._step in self.steps:
                weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                self.snapshots.append((self._step, time.process_time() - self.start, weights))

        optimizer.register_step_post_hook(record)


def _embed(encode: Any, inputs: Tensor) -> NDArray[np.float32]:
    rows = [F.normalize(encode(part), dim=-1) for part in torch.split(inputs, EVALUATION_BATCH)]
    return torch.cat(rows).numpy()

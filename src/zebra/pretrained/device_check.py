"""Check of a device at its first use: its vectors against those of the CPU."""

import copy
import platform
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ConfigError, DeviceError
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import describe_device, rank_devices
from zebra.pretrained.digests import has_passed, record_passed
from zebra.pretrained.golden import GOLDEN_TEXT, make_golden_image
from zebra.pretrained.precision import MIN_COSINE

MIN_DEVICE_COSINE = 0.9999
"""Smallest accepted cosine between a vector in fp32 and that of the CPU. TF32 and other orders of summation cost 1e-6;
a kernel that is wrong costs far more."""
SHORT_TEXT = "a"
"""A second text, of another length, because wrong kernels were those of masks and of padded batches."""


def move_to_device(bundle: Bundle, name: str, *, verify: bool = True) -> None:
    """Move a model in fp32 from the CPU to a device that computes the same vectors.

    The vectors of built-in images and texts are compared at the first use with each model, device, driver and version
    of torch.

    Args:
        name: As for `zebra.load`. With "auto", a device that fails is not used, with a warning, and the next is tried.
        verify: False compares nothing.

    Raises:
        DeviceError: The named device computes other vectors, or none.
        ConfigError: It is not available.
    """
    expected_ME: Tensor | None = None
    for device in rank_devices(name):
        if device.type != "cpu" and verify:
            check = _describe_check(bundle, device)
            if not has_passed(check):
                expected_ME = _encode_inputs(bundle) if expected_ME is None else expected_ME
                problem = _find_problem(bundle, device, expected_ME)
                if problem and name == "auto":
                    warnings.warn(f"{describe_device(device)} is not used: {problem}", stacklevel=3)
                    continue
                if problem:
                    raise DeviceError(
                        f"{describe_device(device)} {problem}. Use device='cpu', update torch {torch.__version__} or "
                        "the driver, or pass verify=False to accept it"
                    )
                record_passed(check)
        move_model(bundle.model, device)
        return


def verify_fp16(bundle: Bundle, fp32_bundle: Bundle) -> None:
    """Compare the vectors of a model in fp16 with those in fp32 at the first use on a device.

    Activations beyond 65,504, as in SigLIP and large Vision Transformers, become infinite in fp16.

    Raises:
        ConfigError: A vector is not finite, or its cosine to that in fp32 is below MIN_COSINE.
    """
    check = f"fp16 {_describe_check(bundle, bundle.device)}"
    if has_passed(check):
        return
    cosine = float(F.cosine_similarity(_encode_inputs(bundle), _encode_inputs(fp32_bundle)).min())
    if not cosine >= MIN_COSINE:  # NaN fails
        raise ConfigError(
            f"precision='fp16' does not suit this model on {describe_device(bundle.device)}: the smallest cosine to "
            f"fp32 is {cosine:.4f}; values beyond 65,504 overflow in fp16. Use precision='auto', 'bf16' or 'fp32'."
        )
    record_passed(check)


def move_model(model: CLIP, device: torch.device) -> CLIP:
    """Move a model in place, and return it; tests replace this function to imitate a device."""
    return model.to(device)


def _find_problem(bundle: Bundle, device: torch.device, expected_ME: Tensor) -> str:
    """Return what is wrong with a device, for a model on the CPU, which stays there; "" if nothing is.

    Args:
        expected_ME: The vectors of the CPU.
    """
    try:
        trial = Bundle(move_model(copy.deepcopy(bundle.model), device), bundle.tokenizer, bundle.preprocess)
        actual_ME = _encode_inputs(trial)
    except (RuntimeError, NotImplementedError) as error:  # no kernel for this GPU or operation, or too little memory
        return f"cannot run the model: {str(error).splitlines()[0]}"
    cosine = float(F.cosine_similarity(actual_ME, expected_ME).min())
    if cosine >= MIN_DEVICE_COSINE and bool(actual_ME.isfinite().all()):
        return ""
    return f"computes wrong vectors: the smallest cosine to those of the CPU is {cosine:.4f}"


def _encode_inputs(bundle: Bundle) -> Tensor:
    """Return the vectors [M, E] of two images and two texts."""
    image = make_golden_image()
    vectors = [bundle.encode_images([image, image.rotate(180)])]
    vectors += [bundle.encode_texts([GOLDEN_TEXT, SHORT_TEXT])] if bundle.tokenizer else []
    return torch.cat(vectors)


def _describe_check(bundle: Bundle, device: torch.device) -> str:
    """Return everything that the outcome depends on."""
    driver = Path("/proc/driver/nvidia/version")
    parts = [
        f"device {describe_device(device)}",
        driver.read_text() if device.type == "cuda" and driver.exists() else platform.platform(),
        f"torch {torch.__version__} CUDA {torch.version.cuda} HIP {torch.version.hip}",
        f"model {bundle.fingerprint}",
    ]
    return "; ".join(parts)

"""A device that computes wrong vectors, or none, is refused by name; auto takes the next one."""

import copy

import pytest
import torch

import zebra
from zebra.config.export import ExportConfig
from zebra.errors import ConfigError, DeviceError, DeviceLost
from zebra.pretrained import device_check
from zebra.pretrained.device import translate_device_errors
from zebra.workflows import export

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ..."


class Devices:
    """Devices that are the CPU, with faults."""

    def __init__(self):
        self.faults, self.moves = {}, []

    def move_model(self, model, device):
        self.moves.append(device.type)
        match self.faults.get(device.type):
            case "no kernel":
                raise RuntimeError(NO_KERNEL)
            case "noise":
                for parameter in model.visual.parameters():
                    parameter.add_(torch.randn_like(parameter))
            case "nan":
                for parameter in model.text.parameters():
                    parameter.fill_(torch.nan)
        return model


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """Return devices named cuda and mps, in a machine where nothing was checked yet."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    devices = Devices()
    monkeypatch.setattr("zebra.pretrained.device.list_devices", lambda: ["cpu", "cuda", "mps"])
    monkeypatch.setattr(device_check, "describe_device", lambda device: f"{device} (fake {len(device.type)})")
    monkeypatch.setattr(device_check, "move_model", torch.no_grad()(devices.move_model))
    return devices


def test_a_right_device_is_compared_once_per_model_and_hardware(devices, model, monkeypatch):
    zebra.load(model, device="cuda")
    assert devices.moves == ["cuda", "cuda"]  # a copy for the comparison, and the model
    zebra.load(model, device="auto")
    assert devices.moves[2:] == ["cuda"]
    monkeypatch.setattr(device_check, "describe_device", lambda device: f"{device} (another)")
    zebra.load(model, device="cuda")
    assert devices.moves[3:] == ["cuda", "cuda"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("noise", r"computes wrong vectors: the smallest cosine to those of the CPU is -?0\.\d+"),
        ("nan", "computes wrong vectors: .* is nan"),
        ("no kernel", "cannot run the model: CUDA error: no kernel image"),
    ],
)
def test_a_wrong_device_is_named_each_time(devices, model, fault, reason):
    devices.faults["cuda"] = fault
    for _ in range(2):
        with pytest.raises(DeviceError, match=rf"^cuda \(fake 4\) {reason}.*device='cpu'"):
            zebra.load(model, device="cuda")


@pytest.mark.parametrize("faults", [{"cuda": "noise"}, {"cuda": "no kernel", "mps": "nan"}], ids=["one", "all"])
def test_auto_takes_the_next_device_with_a_warning(devices, model, clip, faults):
    devices.faults = faults
    with pytest.warns(UserWarning, match=r"\(fake \d\) is not used: c") as warnings:
        bundle = zebra.load(model, device="auto")
    assert [str(warning.message).split()[0] for warning in warnings] == list(faults)
    assert devices.moves[-1] == ("cpu" if len(faults) == 2 else "mps")
    assert torch.equal(bundle.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))


def test_models_of_other_layouts_are_compared_too(devices, model, tmp_path):
    export.run(ExportConfig(model=str(model), format="open_clip", out=str(tmp_path / "other")))
    devices.faults["mps"] = "noise"
    with pytest.raises(DeviceError, match="mps"):
        zebra.load(tmp_path / "other", device="mps")


def test_without_verification_any_device_is_accepted(devices, model):
    devices.faults["cuda"] = "noise"
    zebra.load(model, device="cuda", verify=False)
    assert devices.moves == ["cuda"]


@pytest.mark.parametrize("scale", [1.0, 1e6], ids=["in range", "beyond 65,504"])
def test_a_model_that_overflows_in_fp16_is_refused_in_it(devices, model, tmp_path, monkeypatch, scale):
    monkeypatch.setattr("zebra.pretrained.precision.has_native_fp16", lambda _device: True)
    bundle = zebra.load(model, device="cpu")
    with torch.no_grad():
        bundle.model.visual.ln_pre.weight *= scale
    bundle.save(tmp_path / "scaled")
    export.run(ExportConfig(model=str(tmp_path / "scaled"), format="open_clip", out=str(tmp_path / "other")))
    if scale == 1:
        assert zebra.load(tmp_path / "other", device="cpu", precision="fp16").precision == "fp16"
    else:
        with pytest.raises(ConfigError, match=r"fp16' does not suit .* on cpu .*beyond 65,504.*'fp32'"):
            zebra.load(tmp_path / "other", device="cpu", precision="fp16")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(NO_KERNEL), DeviceLost),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceLost),
        (RuntimeError("MPS backend: command buffer exited with error status"), DeviceLost),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), DeviceError),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError),
        (ValueError("CUDA"), ValueError),
    ],
)
def test_errors_of_a_device_are_told_from_those_of_the_program(error, expected):
    with pytest.raises(expected) as caught, translate_device_errors(torch.device("cuda")):
        raise copy.copy(error)
    assert type(caught.value) is expected
    with pytest.raises(type(error)), translate_device_errors(torch.device("cpu")):
        raise copy.copy(error)

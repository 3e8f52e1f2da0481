"""The GPU benchmark at toy size, which also runs without a GPU."""

import argparse
import importlib.util

import pytest

ARGS = {"pairs": 8, "steps": 1, "rounds": 1, "warm_up": 1, "eager": True, "toy": True, "peak_tflops": 1e-3}


@pytest.fixture
def train_gpu(script):
    return script("train_gpu")


def test_a_toy_run_is_marked_as_not_measured_on_a_gpu(train_gpu):
    row = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], argparse.Namespace(**ARGS))
    assert row["measured"] == "not measured on a GPU"
    assert row["zebra"]["pairs_per_second"] > 0
    assert row["zebra"]["utilization"] > 0
    assert sum(row["zebra"]["profile"]["share"].values()) == pytest.approx(1, abs=0.01)


@pytest.mark.skipif(not importlib.util.find_spec("open_clip"), reason="open_clip is not installed")
def test_both_libraries_start_with_the_same_loss(train_gpu):
    row = train_gpu.compare("toy", train_gpu.TOY, ["zebra", "open_clip"], argparse.Namespace(**ARGS))
    assert row["zebra"]["first_loss"] == pytest.approx(row["open_clip"]["first_loss"], abs=train_gpu.TOLERANCE)
    assert "zebra / open_clip" not in row, "a ratio at toy size is meaningless"


def test_activation_checkpointing_gives_the_same_first_loss(train_gpu, monkeypatch):
    attempts = []

    def run(name, config, batch, args, *, is_checkpointed):
        attempts.append(is_checkpointed)
        if not is_checkpointed:
            raise train_gpu.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return original(name, config, batch, args, is_checkpointed=is_checkpointed)

    args = argparse.Namespace(**ARGS)
    plain = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], args)
    original = train_gpu.run
    monkeypatch.setattr(train_gpu, "run", run)
    checkpointed = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], args)
    assert attempts == [False, True]
    assert checkpointed["zebra"]["options"] == "eager, blocks recomputed"
    assert checkpointed["zebra"]["first_loss"] == pytest.approx(plain["zebra"]["first_loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNT", "products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "products"),
        ("ampere_sgemm_128x64_tn", "products in fp32"),
        ("pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("triton_red_fused_native_layer_norm_3", "compiled"),
        ("Memcpy DtoH (Device -> Pageable)", "copies"),
        ("at::native::vectorized_elementwise_kernel", "other"),
    ],
)
def test_the_kind_of_a_kernel_follows_from_its_name(train_gpu, kernel, kind):
    assert train_gpu.kind(kernel) == kind


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12)],
)
def test_the_peak_follows_from_the_device_name(train_gpu, monkeypatch, name, peak):
    monkeypatch.setattr(train_gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(train_gpu.torch.cuda, "get_device_name", lambda: name)
    assert train_gpu.peak_flops(None) == peak
    assert train_gpu.peak_flops(500) == 500e12

"""The GPU benchmark at toy size: it runs where there is no GPU, and says so."""

import argparse
import importlib.util

import pytest

TOLD = {"pairs": 8, "steps": 1, "rounds": 1, "warm_up": 1, "eager": True, "toy": True, "peak_tflops": 1e-3}


@pytest.fixture
def train_gpu(script):
    return script("train_gpu")


def test_a_toy_run_without_a_gpu_says_that_it_measured_nothing(train_gpu):
    row = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], argparse.Namespace(**TOLD))
    assert row["measured"] == "not measured on a GPU"
    assert row["zebra"]["pairs_per_second"] > 0
    assert row["zebra"]["utilisation"] > 0
    assert sum(row["zebra"]["profile"]["share"].values()) == pytest.approx(1, abs=0.01)


@pytest.mark.skipif(not importlib.util.find_spec("open_clip"), reason="open_clip is not installed")
def test_both_sides_begin_with_the_same_loss(train_gpu):
    row = train_gpu.compare("toy", train_gpu.TOY, ["zebra", "open_clip"], argparse.Namespace(**TOLD))
    assert row["zebra"]["first_loss"] == pytest.approx(row["open_clip"]["first_loss"], abs=train_gpu.TOLERANCE)
    assert "zebra / open_clip" not in row, "a ratio at toy size says nothing"


def test_blocks_that_are_recomputed_give_the_same_first_loss(train_gpu, monkeypatch):
    asked = []

    def run(name, config, batch, told, *, recomputed):
        asked.append(recomputed)
        if not recomputed:
            raise train_gpu.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return original(name, config, batch, told, recomputed=recomputed)

    told = argparse.Namespace(**TOLD)
    plain = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], told)
    original = train_gpu.run
    monkeypatch.setattr(train_gpu, "run", run)
    again = train_gpu.compare("toy", train_gpu.TOY, ["zebra"], told)
    assert asked == [False, True]
    assert again["zebra"]["options"] == "eager, blocks recomputed"
    assert again["zebra"]["first_loss"] == pytest.approx(plain["zebra"]["first_loss"], abs=1e-3)


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
def test_kernels_are_told_apart_by_their_names(train_gpu, kernel, kind):
    assert train_gpu.kind(kernel) == kind


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12)],
)
def test_the_peak_follows_from_the_name_of_the_device(train_gpu, monkeypatch, name, peak):
    monkeypatch.setattr(train_gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(train_gpu.torch.cuda, "get_device_name", lambda: name)
    assert train_gpu.peak_flops(None) == peak
    assert train_gpu.peak_flops(500) == 500e12

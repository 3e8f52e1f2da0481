"""`zebra bench`: the page, the JSON document and what cannot be measured."""

import json
import sys
from dataclasses import asdict, replace

import pytest
import torch
from tests.tiny_model import build_tiny_model

from zebra.bench import ceilings, inputs, peers
from zebra.bench.encoders import Encoder, Unavailable, count_weight_bytes, open_precisions
from zebra.bench.inputs import draw_jpegs, make_captions, make_prompts
from zebra.bench.results import BenchResult
from zebra.bench.search_speed import measure_search
from zebra.config.bench import BenchConfig
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.report.bench import format_bench_page
from zebra.workflows import bench


def measure(bundle: Bundle) -> BenchResult:
    """Measure a bundle alone, in the least time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "load", lambda *_args, **_options: bundle)
        patch.setattr(peers, "PEERS", {})
        patch.setattr(ceilings, "SIZES", {"cpu": (32,)})
        patch.setattr(inputs, "PHOTO_SIZE", (64, 48))
        return bench.run(BenchConfig(model="tiny", device="cpu", seconds=0))


@pytest.fixture(scope="module")
def result(clip) -> BenchResult:
    return measure(clip)


def names(opened: list[Encoder | Unavailable]) -> list[str]:
    return [item.name for item in opened]


def test_every_precision_of_the_processor_has_images_texts_memory_and_cosine(result):
    own = [facts for facts in result.encoders if facts.name.startswith("zebra ")]
    assert {"zebra fp32", "zebra int8"} <= {facts.name for facts in own}
    assert all(facts.min_cosine > 0.99 and facts.weight_bytes for facts in own)
    for thread_pass in result.passes:
        assert thread_pass.num_rounds >= 2
        assert [speed.name for speed in thread_pass.images] == [facts.name for facts in own]
        assert all(speed.images_per_second < speed.tower_per_second for speed in thread_pass.images)
        assert all(speed.prompts_per_second > 0 < speed.captions_per_second for speed in thread_pass.texts)
        assert all(0 < speed.ceiling_fraction < 100 for speed in thread_pass.images + thread_pass.texts)
    assert result.auto.keys() == {"image", "text"}
    assert set(result.auto.values()) <= {facts.name.removeprefix("zebra ") for facts in own}


def test_the_page_names_the_machine_the_ceilings_and_what_was_not_measured(result):
    page = format_bench_page(result)
    for text in ("processor", "zebra int8", "ceiling", "of ceiling", "80 × 1 prompts", "auto takes", "least cosine"):
        assert text in page
    assert f"torch {torch.__version__}" in page
    assert "not measured: search in 1,000,000 vectors: no time was left" in page
    assert max(map(len, page.splitlines())) <= 180


def test_a_busy_machine_is_marked(result):
    calm, busy = (replace(result.passes[0], waiting=waiting) for waiting in (0.02, 0.5))
    assert "BUSY" not in format_bench_page(replace(result, passes=[calm]))
    page = format_bench_page(replace(result, passes=[calm, busy]))
    assert "second *" in page and "* BUSY" in page


def test_the_document_of_json_has_the_whole_result(cli, result, monkeypatch):
    monkeypatch.setattr(bench, "run", lambda config, callback: result)
    assert json.loads(cli("bench", "--json").out) == json.loads(json.dumps(asdict(result)))
    assert cli("bench").out.strip() == format_bench_page(result).strip()


def test_a_model_without_a_tokenizer_is_measured_with_images():
    bundle = build_tiny_model()
    result = measure(Bundle(bundle.model, None, bundle.preprocess, lambda: "no tokenizer"))
    assert result.passes[0].images and not result.passes[0].texts
    assert "not measured: no tokenizer" in format_bench_page(result)


@pytest.mark.parametrize(("kind", "measured"), [("naflex", ["fp32", "int8"]), ("resnet", ["fp32"])])
def test_other_image_towers_are_measured_in_the_precisions_that_they_support(kind, measured):
    tiny = build_tiny_model(kind)
    result = measure(Bundle(tiny.model, tiny.tokenizer, tiny.preprocess, lambda: f"tiny {kind}"))
    own = [facts.name for facts in result.encoders if facts.name.startswith("zebra ")]
    assert [f"zebra {precision}" for precision in measured] == [name for name in own if "16" not in name]
    if kind == "resnet":
        assert "zebra int8: precision='int8' supports transformers" in format_bench_page(result)


def test_a_precision_that_the_processor_lacks_says_so(clip, monkeypatch):
    monkeypatch.setattr(ceilings, "has_native_bf16", lambda _device: False)
    (bf16,) = [item for item in open_precisions(clip) if item.name == "zebra bf16"]
    assert bf16 == Unavailable("zebra bf16", "no bf16 instructions on this processor")
    (limit,) = [item for item in ceilings.measure_ceilings(clip.device, 0, (16,)) if item.format == "bf16"]
    assert (limit.gflops, limit.reason) == (None, "no bf16 instructions on this processor")


def test_a_missing_or_broken_peer_says_why(clip, tmp_path, monkeypatch):
    (tmp_path / "broken_peer.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "refusing_peer.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def refuse(_bundle, _folder):
        yield from ()
        raise ConfigError("no such tower")

    def fail(_bundle, _folder):
        raise OSError(28, "No space left on device")
        yield

    for module in ("broken_peer", "refusing_peer"):
        sys.modules.pop(module, None)
    monkeypatch.setattr(peers, "PEERS", {"absent_peer": refuse, "broken_peer": refuse, "refusing_peer": refuse})
    with peers.open_peers(clip) as opened:
        assert {item.name: item.reason for item in opened} == {
            "absent_peer": "not installed",
            "broken_peer": "import failed: RuntimeError: operator torchvision::nms does not exist",
            "refusing_peer": "not comparable: no such tower",
        }
    monkeypatch.setattr(peers, "PEERS", {"refusing_peer": fail})
    with peers.open_peers(clip) as opened:
        assert "No space left on device" in opened[0].reason


def test_too_little_memory_is_said_before_anything_is_measured(clip, monkeypatch):
    monkeypatch.setattr(bench, "available_memory", lambda: 1000)
    with pytest.raises(ConfigError, match=r"needs about .* GB of memory, but 0.0 GB is free"):
        bench.run(BenchConfig(device="cpu", seconds=0))
    monkeypatch.setattr("zebra.bench.search_speed.available_memory", lambda: 1000)
    search = measure_search(512)
    assert isinstance(search, Unavailable) and search.reason == "needs 1.5 GB of memory, 0.0 GB is free"
    monkeypatch.setattr(peers, "available_memory", lambda: 1000)
    with peers.open_peers(clip) as opened:
        assert all("memory" in item.reason or item.reason == "not installed" for item in opened)


def test_search_is_measured_in_vectors_of_the_size_of_the_model():
    search = measure_search(64, num_vectors=5000)
    assert (search.num_vectors, search.embed_dim) == (5000, 64)
    assert search.median_ms > 0 and search.memory_bytes >= 5000 * 64 * 2


def test_unknown_models_and_text_models_are_refused_by_name(cli, tmp_path):
    assert "no model folder at" in cli("bench", "no-such-model", code=1).err
    kinds = ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling")
    modules = [{"idx": i, "name": str(i), "path": f"{i}_{kind}", "type": kind} for i, kind in enumerate(kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert "is a text model without an image tower" in cli("bench", tmp_path, code=1).err


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_a_time_that_is_no_time_is_refused(cli, seconds):
    assert "must be a number of at least 0" in cli("bench", "--seconds", seconds, code=2).err


def test_weights_count_once_and_quantized_ones_by_their_bytes(clip):
    fp32 = count_weight_bytes(clip.model)
    assert fp32 >= sum(parameter.nbytes for parameter in clip.model.parameters())
    assert count_weight_bytes(clip.to_precision("int8").model) < fp32
    shared = torch.nn.Linear(4, 4, bias=False)
    assert count_weight_bytes(torch.nn.ModuleList([shared, shared])) == 64


def test_inputs_are_distinct_and_always_the_same():
    assert len(make_prompts()) == len(set(make_prompts())) == 2000
    assert make_prompts(2) == make_prompts()[:160]
    assert make_captions(50) == make_captions(60)[:50]
    assert len(set(draw_jpegs(6))) == 6

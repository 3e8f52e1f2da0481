"""Alignment of pairs: the model's cosine, its variants, and the rules that use them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from zebra.config.curate import CurateConfig
from zebra.config.curate_score import ScoreRules, SemanticRules
from zebra.config.curate_text import TextRules
from zebra.config.data import DataConfig
from zebra.config.embed import EmbedConfig
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.curate.column_rules import find_threshold
from zebra.curate.partners import draw_partners, neg_clip_loss
from zebra.curate.vectors import to_column, to_unit_length
from zebra.data.sources import Source, open_source
from zebra.errors import BadSample, ConfigError, DataError, StoreError
from zebra.losses import info_nce
from zebra.pretrained.bundle import Bundle
from zebra.workflows import curate, embed
from zebra.workflows.score import open_scorer, score_samples

from ...tiny_model import save_tiny_model

MakePool = Callable[..., Path]
CAPTIONS = ["a photo of a horse", "two spotted dogs", "a striped cat", "a photo of a horse", "snow"]


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    return make_pool(CAPTIONS, dict.fromkeys(range(len(CAPTIONS)), (30, 30)))


@pytest.fixture
def source(pool: Path) -> Source:
    return open_source(pool, DataConfig())


def drop_by_reason(result: curate.CurateResult) -> dict[str, int]:
    return {count.reason: count.dropped for count in result.counts if count.dropped}


def test_alignment_is_the_cosine_of_the_models_vectors(model: Path, clip: Bundle, source: Source) -> None:
    table = score_samples(open_scorer(str(model), batch_size=2, num_workers=2), source, range(5))
    images = clip.encode_images([source.read(index).image for index in range(5)])
    texts = clip.encode_texts([text for index in range(5) for text in source.read(index).captions])
    np.testing.assert_allclose(table["alignment"].to_numpy(), (images * texts).sum(dim=1), atol=2e-4)
    assert table["flipped_alignment"].null_count == 5
    assert table["score_reason"].null_count == 5


def test_the_flipped_alignment_is_that_of_the_mirrored_image(model: Path, source: Source, pool: Path) -> None:
    table = score_samples(open_scorer(str(model), flipped=True), source, range(5))
    for path in pool.glob("*.png"):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    mirrored = score_samples(open_scorer(str(model)), source, range(5))
    np.testing.assert_allclose(table["flipped_alignment"].to_numpy(), mirrored["alignment"].to_numpy(), atol=2e-4)
    assert (table["alignment"].to_numpy() != table["flipped_alignment"].to_numpy()).any()


def test_vectors_of_a_store_are_used_and_give_the_same_scores(
    model: Path, source: Source, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed.run(EmbedConfig(model=str(model), data=str(pool), out=str(tmp_path / "store"), precision="fp32"))
    computed = score_samples(open_scorer(str(model)), source, range(5))
    scorer = open_scorer(str(model), store=str(tmp_path / "store"))
    encoded: list[int] = []
    encode = Bundle.encode_pixels
    monkeypatch.setattr(
        Bundle, "encode_pixels", lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels)
    )
    stored = score_samples(scorer, source, range(5))
    assert encoded == []
    np.testing.assert_allclose(stored["alignment"].to_numpy(), computed["alignment"].to_numpy(), atol=2e-4)
    Image.new("RGB", (30, 30), "red").save(pool / "0.png")  # not in the store
    changed = score_samples(scorer, source, range(5))
    assert encoded == [1]
    assert changed["alignment"][1:] == stored["alignment"][1:]
    assert changed["alignment"][0] != stored["alignment"][0]


def test_a_store_of_another_model_is_refused(model: Path, pool: Path, tmp_path: Path) -> None:
    embed.run(EmbedConfig(model=str(model), data=str(pool), out=str(tmp_path / "store"), precision="fp32"))
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(StoreError, match="not comparable"):
        open_scorer(str(other), store=str(tmp_path / "store"))
    rules = ScoreRules(min_alignment=0.1, store=str(tmp_path / "store"))
    config = CurateConfig(pool=str(pool), out=str(tmp_path / "set"), model=str(other), score=rules)
    with pytest.raises(StoreError, match="not comparable"):
        curate.run(config)


def test_an_image_that_cannot_be_scored_has_a_reason(model: Path, source: Source, pool: Path) -> None:
    scorer = open_scorer(str(model))
    (pool / "1.png").write_bytes(b"no image")
    bad, good = scorer.encode_images(source, [1, 2])
    assert isinstance(bad, BadSample)
    not_finite = replace(good, vector_E=np.full(32, np.nan))
    table = scorer.score([bad, good, not_finite], ["a", "b", "c"])
    assert table["score_reason"].to_pylist() == ["not an image", None, "alignment is not a number"]
    assert table["alignment"].is_null().to_pylist() == [True, False, False]


def test_the_threshold_is_that_of_datacomp() -> None:
    scores = [np.array([0.1, 0.4, 0.3], np.float32), np.array([0.2, 0.3], np.float32)]
    for fraction in (0.01, 0.2, 0.4, 0.5, 0.79, 0.99):
        expected = -np.sort(-np.concatenate(scores))[int(5 * fraction)]
        assert find_threshold(scores, fraction) == pytest.approx(expected)
    assert find_threshold(scores, 1.0) == pytest.approx(0.1)


def test_negative_clip_loss_of_a_batch_is_that_of_the_training_loss() -> None:
    rng = np.random.default_rng(0)
    image_NE, text_NE = (to_unit_length(rng.standard_normal((16, 8))).astype(np.float16) for _ in range(2))
    uids = pa.array([bytes(rng.bytes(16)) for _ in range(16)], pa.binary(16))
    table = pa.table({"uid": uids, "image_vector": to_column(image_NE), "text_vector": to_column(text_NE)})
    partners = draw_partners([table[:7], table[7:]])
    score_N = neg_clip_loss(table, partners, 10.0)
    image, text = (torch.from_numpy(to_unit_length(vectors)) for vectors in (image_NE, text_NE))
    loss = float(info_nce(image, text, torch.tensor(10.0)))
    assert score_N.mean() == pytest.approx((np.log(16) - loss) / 10, abs=1e-5)


def test_partners_are_the_same_for_any_order_of_the_pool() -> None:
    rng = np.random.default_rng(0)
    vectors = to_column(to_unit_length(rng.standard_normal((40, 8))))
    uids = pa.array([bytes(rng.bytes(16)) for _ in range(40)], pa.binary(16))
    table = pa.table({"uid": uids, "image_vector": vectors, "text_vector": vectors})
    shuffled = table.take(rng.permutation(40))
    first = draw_partners([table[:11], table[11:]], num_partners=10)
    second = draw_partners([shuffled[:30], shuffled[30:30], shuffled[30:]], num_partners=10)
    assert len(first.uids) == 10
    assert first.uids == second.uids
    np.testing.assert_array_equal(first.image_RE, second.image_RE)


def test_a_pair_with_a_caption_of_many_images_scores_lower_than_its_alignment() -> None:
    image_NE = np.eye(4, dtype=np.float16)
    text_NE = image_NE.copy()
    text_NE[0] = 0.5  # as near to all images as to its own
    uids = pa.array([bytes([number] * 16) for number in range(4)], pa.binary(16))
    table = pa.table({"uid": uids, "image_vector": to_column(image_NE), "text_vector": to_column(text_NE)})
    score_N = neg_clip_loss(table, draw_partners([table]), 10.0)
    assert score_N.argmin() == 0


def test_curate_keeps_the_pairs_with_the_highest_alignment(
    model: Path, clip: Bundle, make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(CAPTIONS)
    Image.new("RGB", (40, 30), "red").save(pool / "torn.png")
    (pool / "torn.png").write_bytes((pool / "torn.png").read_bytes()[:60])
    (pool / "torn.txt").write_text("torn")
    table = score_samples(open_scorer(str(model)), open_source(pool, DataConfig()), range(5))
    best = {text for _, text in sorted(zip(table["alignment"].to_pylist(), table["id"].to_pylist(), strict=True))[-3:]}
    config = CurateConfig(
        pool=str(pool), out=str(tmp_path / "set"), model=str(model), score=ScoreRules(keep_fraction=0.4)
    )
    result = curate.run(config)
    assert (result.num_kept, result.num_pairs) == (3, 6)
    assert drop_by_reason(result)["alignment not in the top 0.4 of the pairs"] == 2
    account = json.loads((tmp_path / "set/account.json").read_text())
    assert clip.fingerprint in account["measurements"]["score"]
    kept = open_source(tmp_path / "set", DataConfig())
    originals = {(pool / name).read_bytes() for name in best}
    assert {kept.read(index).image for index in range(3)} == originals


@pytest.mark.parametrize("rank_by", ["flipped", "neg-clip-loss"])
def test_curate_ranks_by_other_scores(rank_by: str, model: Path, pool: Path, tmp_path: Path) -> None:
    rules = ScoreRules(keep_fraction=0.5, rank_by=rank_by, max_flipped_gain=1.0)
    result = curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set"), model=str(model), score=rules))
    assert drop_by_reason(result) == {f"{rank_by} not in the top 0.5 of the pairs": 2}


def test_curate_drops_images_that_match_a_prompt(model: Path, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("animal: a photo of a horse | snow\nrest: snow | a photo of a horse")
    rules = ScoreRules(prompts=str(tmp_path / "prompts.txt"), max_prompt=0.5)
    with pytest.raises(DataError, match="no pair"):  # of two opposite prompts, one is at least as likely
        curate.run(CurateConfig(pool=str(pool), out=str(tmp_path / "set"), model=str(model), score=rules))
    decisions = pq.read_table(tmp_path / "set/decisions.parquet")
    assert set(decisions["reason"].to_pylist()) <= {"animal over 0.5", "rest over 0.5"}
    config = CurateConfig(
        pool=str(pool), out=str(tmp_path / "all"), model=str(model), score=replace(rules, max_prompt=1.0)
    )
    assert drop_by_reason(curate.run(config)) == {}


def test_curate_drops_copies_by_their_vectors_and_low_alignment(model: Path, pool: Path, tmp_path: Path) -> None:
    Image.open(pool / "0.png").save(pool / "copy.bmp")
    (pool / "copy.txt").write_text("the same pixels in another format")
    config = CurateConfig(
        pool=str(pool), out=str(tmp_path / "set"), model=str(model), semantic=SemanticRules(max_cosine=0.9999)
    )
    assert drop_by_reason(curate.run(config)) == {"image with a cosine over 0.9999 to a better aligned one": 1}
    config = replace(config, out=str(tmp_path / "none"), score=ScoreRules(min_alignment=-1.0))
    assert drop_by_reason(curate.run(config)) == {"image with a cosine over 0.9999 to a better aligned one": 1}


def test_an_interrupted_curation_scores_no_unit_twice(
    model: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CurateConfig(
        pool=str(pool), out=str(tmp_path / "set"), model=str(model), score=ScoreRules(keep_fraction=0.5)
    )
    with monkeypatch.context() as patch:
        patch.setattr(curate, "write_shards", lambda *_args, **_settings: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            curate.run(config)
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "encode_pixels", lambda *_: pytest.fail("encoded again"))
        result = curate.run(config)
    curate.run(replace(config, out=str(tmp_path / "other")))
    assert (result.out / "00000.tar").read_bytes() == (tmp_path / "other/00000.tar").read_bytes()


def test_a_recipe_may_name_a_model_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: runs/demo/model\nscore: {min_alignment: 0.2}\n")
    settings = read_recipe(str(tmp_path / "mine.yaml"), "curate") | {"pool": "p", "out": "o"}
    assert structure(CurateConfig, settings).model == "runs/demo/model"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": ScoreRules(min_alignment=0.2)}, "need a model"),
        ({"semantic": SemanticRules(max_cosine=0.9)}, "need a model"),
        ({"model": "m"}, "no rule uses it"),
        ({"score": ScoreRules(store="s")}, "no rule uses its vectors"),
    ],
)
def test_rules_without_a_model_and_a_model_without_rules_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CurateConfig(pool="p", out="o", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_alignment": 1.5},
        {"min_alignment": float("nan")},
        {"max_flipped_gain": -0.1},
        {"keep_fraction": 0.0},
        {"keep_fraction": 1.1},
        {"max_prompt": 1.5},
        {"rank_by": "flipped"},
    ],
)
def test_limits_out_of_range_and_without_effect_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"score\."):
        ScoreRules(**settings)


@pytest.mark.parametrize("rank_by", ["alignment", "neg-clip-loss"])
def test_a_pool_of_which_nothing_is_left_to_score_is_explained(
    rank_by: str, model: Path, pool: Path, tmp_path: Path
) -> None:
    config = CurateConfig(
        pool=str(pool),
        out=str(tmp_path / "set"),
        model=str(model),
        text=TextRules(min_chars=1000),
        score=ScoreRules(keep_fraction=0.5, rank_by=rank_by),
        semantic=SemanticRules(max_cosine=0.9),
    )
    with pytest.raises(DataError, match="no pair of"):
        curate.run(config)

"""`zebra score`: how well image and caption of each pair match."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.config.cores import usable_cores
from zebra.config.precision import InferencePrecision
from zebra.config.score import ScoreConfig
from zebra.curate.pair_scorer import EncodedImage, PairScorer
from zebra.curate.pairs import make_uid
from zebra.curate.partners import NUM_PARTNERS, draw_partners, neg_clip_loss
from zebra.curate.prompt_scores import PromptPair, build_classifiers, read_prompts
from zebra.curate.vectors import ALIGNMENT, FLIPPED_ALIGNMENT, IMAGE_VECTOR, SCORE_REASON, TEXT_VECTOR, to_vectors
from zebra.data.bad_samples import format_reasons
from zebra.data.ignored import Ignored
from zebra.data.sources import Source, open_source
from zebra.embed.preprocessing import ImagePreprocessor
from zebra.embed.stored_vectors import StoredVectors
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.decode import MAX_PIXELS
from zebra.pretrained.load import load
from zebra.train.stop import stop_on_signals

SAMPLES_PER_PART = 1_024
METADATA_KEY = b"zebra"
"""Key in the metadata of the file; the value is JSON."""
NEG_CLIP_LOSS = "neg_clip_loss"
COLUMNS = {
    "id": pa.string(),
    "caption": pa.string(),
    ALIGNMENT: pa.float32(),
    NEG_CLIP_LOSS: pa.float32(),
    FLIPPED_ALIGNMENT: pa.float32(),  # if requested
    "reason": pa.string(),
    "detail": pa.string(),
}
"""Columns of the file; those of prompts follow."""
NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What was scored, and how well images and captions match."""

    out: Path
    num_pairs: int
    """Pairs with a score."""
    unusable: Mapping[str, int]
    """Samples without a score by reason, the most frequent first; the file lists each of them."""
    quantiles: Mapping[float, float]
    """Alignment at some quantiles of the pairs."""
    lowest: Sequence[tuple[float, str, str]]
    """Alignment, id and caption of the pairs that match least."""
    ignored: tuple[Ignored, ...]
    """Files of the dataset that are not read, by reason."""
    precision: str
    finished: bool
    """False if the run was stopped; run again to continue."""


def run(
    config: ScoreConfig, callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None
) -> ScoreResult:
    """Score all pairs and write a table of id, caption and scores to `config.out`.

    SIGTERM or Ctrl-C ends the run after the part in work; the same command continues.

    Args:
        callback: Called with the number of samples done, their total and the stage.

    Raises:
        DataError: The data cannot be read, or no pair has a score.
        StoreError: `store` is missing, or holds vectors of another model.
        ConfigError: `out` exists and holds anything else than these scores, or the prompts cannot be read.
        WeightsError: The model has no tokenizer.
    """
    source = open_source(config.data, config.data_options)
    prompts = _read_prompts(config)
    with stop_on_signals() as stop:
        scorer = open_scorer(
            config.model,
            flipped=config.flipped,
            store=config.store,
            precision=config.precision,
            device=config.device,
            batch_size=config.batch_size,
            num_workers=config.workers or usable_cores(),
            max_pixels=config.data_options.max_image_pixels,
        )
        metadata = {
            "fingerprint": scorer.clip.fingerprint,
            "model": config.model,
            "precision": scorer.clip.precision,
            "data": config.data,
            "data_sha256": source.digest,
            "num_partners": NUM_PARTNERS,
            "prompts": [asdict(pair) for pair in prompts],
            "key": scorer.key,
        }
        out = Path(config.out)
        if not _is_finished(out, metadata):
            parts = out.with_name(f".{out.name}.parts")
            parts.mkdir(parents=True, exist_ok=True)
            files = []
            for start in range(0, len(source), SAMPLES_PER_PART):
                if stop.is_set():
                    return ScoreResult(out, 0, {}, {}, (), source.ignored, scorer.clip.precision, finished=False)
                callback(start, len(source), "scoring")
                indices = range(start, min(start + SAMPLES_PER_PART, len(source)))
                files.append(_score_part(scorer, source, indices, parts))
            callback(len(source), len(source), "scoring")
            _write_scores(out, files, scorer, prompts, metadata)
            shutil.rmtree(parts)
    return _summarize(config, source, scorer.clip.precision)


def open_scorer(
    model: str,
    *,
    flipped: bool = False,
    store: str | None = None,
    precision: InferencePrecision | Literal["auto"] = "fp32",
    device: str = "auto",
    batch_size: int = 32,
    num_workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PairScorer:
    """Load a model to score pairs with; images are preprocessed as by `zebra embed`.

    Args:
        flipped: Score mirrored images too.
        store: A store whose vectors are used instead of computing them.
        num_workers: Threads; None: one per CPU core.
        max_pixels: Largest width × height to decode.

    Raises:
        StoreError: The store is missing, or holds vectors of another model.
        WeightsError: The model is missing or damaged, or has no tokenizer.
    """
    clip = load(model, precision=precision, device=device)
    preprocess = ImagePreprocessor(clip.preprocess, thumbnail_size=0, max_pixels=max_pixels)
    stored = StoredVectors(Path(store), clip.fingerprint) if store else None
    return PairScorer(
        clip,
        lambda data, location: preprocess(data, location).pixels_3HW,
        find_vectors=stored.find if stored else None,
        store_version=stored.version if stored else "",
        flipped=flipped,
        batch_size=batch_size,
        num_workers=num_workers or usable_cores(),
    )


def score_samples(scorer: PairScorer, source: Source, indices: Sequence[int]) -> pa.Table:
    """Score all pairs of some samples.

    Returns:
        A row per pair, or per sample that cannot be used: uid, index, id and text (null if the sample cannot be used),
        the columns of `PairScorer.schema`, and detail.
    """
    rows: list[tuple[int, EncodedImage | BadSample, str | None]] = []
    for index, image in zip(indices, scorer.encode_images(source, indices), strict=True):
        if isinstance(image, EncodedImage) and image.record.captions:
            rows += [(index, image, text) for text in image.record.captions]
        else:
            bad = image if isinstance(image, BadSample) else BadSample("missing caption", image.record.id)
            rows.append((index, bad, None))
    ids = [source.sample_id(index) for index, _, _ in rows]
    names = pa.table(
        {
            "uid": pa.array(
                [make_uid(id, text or "") for id, (_, _, text) in zip(ids, rows, strict=True)], pa.binary(16)
            ),
            "index": pa.array([index for index, _, _ in rows], pa.int64()),
            "id": pa.array(ids, pa.string()),
            "text": pa.array([text for _, _, text in rows], pa.string()),
            "detail": pa.array(
                [image.detail if isinstance(image, BadSample) else None for _, image, _ in rows], pa.string()
            ),
        }
    )
    scores = scorer.score([image for _, image, _ in rows], [text or "" for _, _, text in rows])
    return pa.table([*names.columns, *scores.columns], names=[*names.column_names, *scores.column_names])


def _score_part(scorer: PairScorer, source: Source, indices: range, folder: Path) -> Path:
    """Score the pairs of a part and return its file; a part that is complete is not scored again."""
    key = json.dumps([scorer.key, source.digest, indices.start, indices.stop])
    path = folder / f"{indices.start:09d}-{sha256(key.encode()).hexdigest()[:16]}.parquet"
    if not path.is_file():
        with atomic_write(path, fsync=True) as partial:
            pq.write_table(score_samples(scorer, source, indices), partial)
    return path


def _read_prompts(config: ScoreConfig) -> list[PromptPair]:
    prompts = read_prompts(Path(config.prompts)) if config.prompts else []
    for pair in prompts:
        if pair.name in COLUMNS:
            raise ConfigError(f"{config.prompts} has the name {pair.name!r}, a column of all scores. Rename it")
    return prompts


def _write_scores(
    out: Path, parts: Sequence[Path], scorer: PairScorer, prompts: Sequence[PromptPair], metadata: Mapping[str, object]
) -> None:
    """Write the scores of all parts as one file, without the vectors."""
    classifiers = build_classifiers(scorer.clip, prompts) if prompts else []
    partners = draw_partners(_read_scored(parts, ["uid", IMAGE_VECTOR, TEXT_VECTOR, SCORE_REASON]))
    names = [name for name in COLUMNS if scorer.flipped or name != FLIPPED_ALIGNMENT]
    fields = [*((name, COLUMNS[name]) for name in names), *((pair.name, pa.float32()) for pair in prompts)]
    schema = pa.schema(fields, {METADATA_KEY: json.dumps(metadata).encode()})
    with atomic_write(out, fsync=True) as partial, pq.ParquetWriter(partial, schema) as writer:
        for path in parts:
            table = pq.read_table(path)
            scored = table.filter(table[SCORE_REASON].is_null())
            columns = {NEG_CLIP_LOSS: neg_clip_loss(scored, partners, scorer.clip.logit_scale)}
            columns |= {classifier.name: classifier(to_vectors(scored[IMAGE_VECTOR])) for classifier in classifiers}
            for name, score_N in columns.items():
                table = table.append_column(name, _spread(score_N, table[SCORE_REASON]))
            table = table.append_column("caption", table["text"]).append_column("reason", table[SCORE_REASON])
            writer.write_table(table.select(schema.names).cast(schema))


def _spread(score_K: NDArray[np.float32], reasons: pa.ChunkedArray) -> pa.Array:
    """Return the scores of the pairs without a reason, and null for the others."""
    is_scored_N = reasons.is_null().to_numpy(zero_copy_only=False)
    return pa.array(score_K).take(pa.array(np.cumsum(is_scored_N) - 1, pa.int64(), mask=~is_scored_N))


def _read_scored(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    for path in parts:
        table = pq.read_table(path, columns=list(columns))
        yield table.filter(table[SCORE_REASON].is_null())


def _is_finished(out: Path, metadata: Mapping[str, object]) -> bool:
    """Return whether a file has the scores already; ConfigError if it holds anything else."""
    if not out.exists():
        return False
    try:
        document = (pq.read_schema(out).metadata or {}).get(METADATA_KEY)
    except (OSError, pa.ArrowException):
        document = None
    if document != json.dumps(metadata).encode():
        raise ConfigError(
            f"{out} exists and is no result of this command: data, model or settings differ. Use another --out, or "
            "delete it"
        )
    return True


def _summarize(config: ScoreConfig, source: Source, precision: str) -> ScoreResult:
    out = Path(config.out)
    table = pq.read_table(out, columns=[ALIGNMENT, "reason"])
    reasons = {row["values"]: row["counts"] for row in table["reason"].drop_null().value_counts().to_pylist()}
    unusable = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    alignment_N = np.sort(table[ALIGNMENT].drop_null().to_numpy())
    if not len(alignment_N):
        raise DataError(
            f"no pair of {config.data} has a score: {format_reasons(unusable)}. Repair them; {out} lists all"
        )
    threshold = alignment_N[min(NUM_EXAMPLES, len(alignment_N)) - 1]
    rows = pq.read_table(out, columns=["id", "caption", ALIGNMENT], filters=pc.field(ALIGNMENT) <= threshold)
    lowest = sorted((row[ALIGNMENT], row["id"], row["caption"]) for row in rows.to_pylist())[:NUM_EXAMPLES]
    quantiles = {q: float(np.quantile(alignment_N, q)) for q in (0.05, 0.5, 0.95)}
    return ScoreResult(out, len(alignment_N), unusable, quantiles, lowest, source.ignored, precision, finished=True)

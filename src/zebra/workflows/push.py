"""`zebra push`: upload a model to the Hugging Face hub."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zebra.config.export import ExportConfig
from zebra.config.push import PushConfig
from zebra.data.hub import HubRepo
from zebra.errors import ConfigError
from zebra.evaluators.results_io import ResultRecord, read_latest_results
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.download import list_model_files
from zebra.pretrained.folder import write_json
from zebra.pretrained.hub_card import has_license, render_hub_card
from zebra.pretrained.load import load
from zebra.pretrained.locate import HUB_PREFIX, detect_layout, find_or_download
from zebra.pretrained.manifest import CARD_FILE
from zebra.pretrained.model_card import render_model_card
from zebra.pretrained.open_clip.layout import name_tokenizer_repo
from zebra.pretrained.sentence_transformers.modules import MODULES_FILE
from zebra.pretrained.upload import require_token, upload_model
from zebra.pretrained.weight_files import OPEN_CLIP_CONFIG
from zebra.report.hub_card import build_model_index
from zebra.report.score_table import to_rows
from zebra.workflows import export


@dataclass(frozen=True, slots=True)
class PushResult:
    """A model on the hub."""

    repo: str
    """The repository, "org/name"."""
    layout: str
    """zebra, transformers, open_clip or sentence-transformers."""
    files: tuple[str, ...]
    """The files of the model, with its card."""
    is_uploaded: bool
    """False if the repository had all files."""
    has_license: bool
    """Whether the card names a license."""


def run(config: PushConfig) -> PushResult:
    """Verify a model, convert it if `config.format` says so, and upload its files with a model card.

    Nothing else in its folder is uploaded. The card has what README.md of the model says, such as training data and
    scores, and how zebra and the library of its layout open it.

    Raises:
        ConfigError: The name of the repository is not valid, the model is a single file, an evaluation has no scores of
            this model, or the front matter of its README.md is not valid.
        UploadError: As `zebra.pretrained.upload.upload_model`.
        WeightsError: The model cannot be read, or not be converted to the layout.
    """
    repo = _parse_repo(config.repo)
    require_token()
    clip = load(config.model, device="cpu")
    source = find_or_download(config.model)
    records = _read_scores(clip, config.scores)
    with tempfile.TemporaryDirectory(prefix="zebra-push-") as temporary:
        layout = _detect_layout(source)
        folder = source
        if config.format is not None and config.format != layout:
            layout, folder = config.format, Path(temporary) / "converted"
            export.run(ExportConfig(model=config.model, format=config.format, out=str(folder)))
        text = _read_card(source, clip)
        card = render_hub_card(
            text,
            repo,
            layout,
            license_id=config.license,
            scores=_render_scores(records),
            model_index=_build_index(repo, records),
        )
        staged = Path(temporary) / "staged"
        _stage(folder, staged, card, repo)
        is_uploaded = upload_model(staged, repo, private=config.private, replace=config.replace)
        files = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    return PushResult(repo, layout, tuple(files), is_uploaded, has_license(card))


def _parse_repo(name: str) -> str:
    """Return "org/name"."""
    try:
        repo = HubRepo.parse(HUB_PREFIX + name.removeprefix(HUB_PREFIX), "model")
    except ConfigError as error:
        raise ConfigError(f"{name!r} is no valid name of a repository. Write ORG/NAME, such as zoo/horses") from error
    if repo.revision is not None:
        raise ConfigError(f"{name} has a revision, but a model is pushed to the main branch. Write {repo.repo_id}")
    return repo.repo_id


def _detect_layout(path: Path) -> str:
    if (path / MODULES_FILE).is_file():
        return "sentence-transformers"
    layout = detect_layout(path)
    if path.is_file():
        raise ConfigError(
            f"{path} is a single file, not a folder that others can open. Add --format open_clip or zebra."
        )
    return layout


def _read_card(folder: Path, clip: Bundle) -> str:
    path = folder / CARD_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return render_model_card(clip.model.config, clip.num_parameters, {}, clip.templates)


def _stage(folder: Path, staged: Path, card: str, repo: str) -> None:
    """Link the files of a model into a new folder, beside its card."""
    for name in list_model_files(folder):
        if name != CARD_FILE:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).symlink_to((folder / name).resolve())
    (staged / CARD_FILE).write_text(card, encoding="utf-8")
    config = staged / OPEN_CLIP_CONFIG
    hub_config = name_tokenizer_repo(config, repo) if config.is_file() else None
    if hub_config is not None:
        config.unlink()
        write_json(config, hub_config)


def _read_scores(clip: Bundle, runs: Sequence[str]) -> list[ResultRecord]:
    """Return the latest scores of a model in directories of evaluations; ConfigError if one has none of it."""
    records: dict[tuple[str, str, str], ResultRecord] = {}
    for run_dir in runs:
        results = {
            key: record
            for key, record in read_latest_results(Path(run_dir)).items()
            if record.provenance.get("fingerprint") == clip.fingerprint
        }
        if not results:
            raise ConfigError(
                f"{run_dir} has no scores of this model ({clip.fingerprint}). Run `zebra evaluate` with it."
            )
        records |= results
    return list(records.values())


def _render_scores(records: Sequence[ResultRecord]) -> str:
    """Return a section with the scores; empty without any."""
    if not records:
        return ""
    header = "| dataset | task | metric | score | 95 % interval | n |\n|---|---|---|---|---|---|"
    rows = [
        f"| {record.dataset} | {record.task} | {record.metric} | {record.score.value:.1%} | "
        f"{record.score.low:.1%} to {record.score.high:.1%} | {record.score.n:,} |"
        for record in records
    ]
    return "## Evaluation\n\n" + "\n".join([header, *rows])


def _build_index(repo: str, records: Sequence[ResultRecord]) -> list[Mapping[str, Any]]:
    """Return the scores as the hub shows them; empty without any."""
    return build_model_index([repo.partition("/")[2]], to_rows(records)) if records else []

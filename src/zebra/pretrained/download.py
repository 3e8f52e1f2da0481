"""Download models from the Hugging Face hub, with one set of weights each."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path

from zebra.data.hub import HubRepo, download_snapshot, find_cached_snapshot, list_repo_files
from zebra.errors import DownloadError, WeightsError
from zebra.pretrained.sentence_transformers.modules import (
    CONFIG_FILE,
    MODULE_SETTINGS_FILES,
    MODULES_FILE,
    Module,
    read_modules,
)
from zebra.pretrained.weight_files import (
    INDEX_SUFFIX,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    list_weight_files,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")

SETTINGS_FILES = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "processor_config.json",
    "preprocess.json", "templates.json", "golden.safetensors", "MANIFEST.json", "README.md",
    MODULES_FILE, CONFIG_FILE, *MODULE_SETTINGS_FILES,
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "bpe_simple_vocab_16e6.txt.gz",
)  # fmt: skip
"""All files except weights that zebra reads, of models in any layout."""


def download_model(
    name: str, weight_names: Sequence[str] | None = None, *, check_settings: Callable[[Path], None] | None = None
) -> Path:
    """Download the files of a model, or find them in the cache.

    Settings come first. They and the list of the repository's files determine the weights: one file, or the shards of
    one model. Many repositories have the same weights in several formats, which are not downloaded.

    Args:
        name: "hf:org/name", or "hf:org/name@revision" with a branch, tag or commit. A full commit hash that is in the
            cache needs no request.
        weight_names: Names of the weight file, best first; by default those of the layout that is read.
        check_settings: Called with the folder before the weights are downloaded; raises if zebra cannot read the model.

    Returns:
        The snapshot folder in the cache. Do not write to it.

    Raises:
        ConfigError: The name is invalid.
        DownloadError: As `zebra.data.hub.download_snapshot`, or the repository has no weights that zebra reads.
        WeightsError: `modules.json` or the index of shards is damaged, or names what zebra does not compute.
    """
    repository = HubRepo.parse(name, "model")
    command = repository.download_command()
    if repository.is_commit:
        cached = find_cached_snapshot(repository, SETTINGS_FILES)
        if cached is not None and _is_complete(cached, weight_names):
            return cached
    folder = download_snapshot(repository, SETTINGS_FILES, command=command)
    if not _is_complete(folder, weight_names):
        if check_settings is not None:
            check_settings(folder)
        # By commit, so that all requests see the same state of the repository.
        _download_weights(replace(repository, revision=folder.name), folder, weight_names, command)
    if None in _find_weights(folder, weight_names):
        raise DownloadError(
            f"{name} has no weights that zebra reads ({', '.join(TRANSFORMERS_WEIGHTS[::2])}, or those of open_clip) "
            f"in the cache, {folder}. If the repository has such files, run this with a network: {command}"
        )
    return folder


def list_model_files(folder: Path) -> list[str]:
    """Return the names of the files of a model that zebra reads, those that `download_model` would fetch.

    Raises:
        WeightsError: A weight file is missing, or `modules.json` or the index of shards is damaged.
    """
    modules = _list_modules(folder)
    subfolders = dict.fromkeys(["", *(module.path for module in modules)])
    names = [f"{subfolder}/{file}" if subfolder else file for subfolder in subfolders for file in SETTINGS_FILES]
    weights = _find_weights(folder, None)
    if None in weights:
        raise WeightsError(f"{folder} has no weights that zebra reads. Copy the folder again.")
    names += [
        file.relative_to(folder).as_posix() for path in weights if path is not None for file in list_weight_files(path)
    ]
    return [name for name in names if (folder / name).is_file()]


def choose_weights(names: Collection[str], module: str = "", weight_names: Sequence[str] | None = None) -> str | None:
    """Return the name of the weight file, or of the index of shards, that is read of a model.

    Args:
        names: The names of all files of the repository.
        module: A subfolder with the model; "" is the repository itself.
        weight_names: As in `download_model`.
    """
    prefix = f"{module}/" if module else ""
    layout_names = OPEN_CLIP_WEIGHTS if prefix + OPEN_CLIP_CONFIG in names else TRANSFORMERS_WEIGHTS
    return next((prefix + name for name in weight_names or layout_names if prefix + name in names), None)


def blob_sha256(path: Path) -> str | None:
    """Return the SHA-256 in the name of a file of the hub's cache; None for any other file.

    The cache stores large files as `blobs/<sha256>` and links to them. Small files are named by a git hash instead.
    """
    blob = path.resolve()
    is_blob = path.is_symlink() and blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name)
    return blob.name if is_blob else None


def _download_weights(commit: HubRepo, folder: Path, weight_names: Sequence[str] | None, command: str) -> None:
    """Download the weights into a snapshot folder that has the settings, and the settings of modules in subfolders."""
    names = list_repo_files(commit)
    if names is None:  # offline: the cache is all there is
        return
    modules = _list_modules(folder)
    chosen = [choose_weights(names, module.path, weight_names) for module in modules if module.has_weights]
    weights = [name for name in chosen if name is not None]
    settings = [f"{module.path}/{file}" for module in modules for file in SETTINGS_FILES if module.path]
    if weights:
        download_snapshot(commit, [escape(name) for name in (*weights, *settings)], command=command)
    shards = [path for name in weights if name.endswith(INDEX_SUFFIX) for path in list_weight_files(folder / name)]
    if shards:
        names = [path.relative_to(folder).as_posix() for path in shards]
        download_snapshot(commit, [escape(name) for name in names], command=command)


def _is_complete(folder: Path, weight_names: Sequence[str] | None) -> bool:
    """Return whether a snapshot folder has the weights, and it is certain that they are those of its layout."""
    order = weight_names or (OPEN_CLIP_WEIGHTS if (folder / OPEN_CLIP_CONFIG).is_file() else ())
    has_two_layouts = bool(order) and (folder / "config.json").is_file()
    for weights in _find_weights(folder, weight_names):
        # Another program may have downloaded the weights of transformers only, which open_clip's config does not fit.
        if weights is None or (has_two_layouts and weights.name in TRANSFORMERS_WEIGHTS and weights.name != order[0]):
            return False
        if not all(path.is_file() for path in list_weight_files(weights)):
            return False
    return True


def _find_weights(folder: Path, weight_names: Sequence[str] | None) -> list[Path | None]:
    """Return the weight file in a snapshot folder of each module that has weights."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    modules = [module for module in _list_modules(folder) if module.has_weights]
    weights = [choose_weights(names, module.path, weight_names) for module in modules]
    return [None if name is None else folder / name for name in weights]


def _list_modules(folder: Path) -> list[Module]:
    """Return the modules of a model of sentence-transformers; of any other model, one in the folder itself."""
    return read_modules(folder) if (folder / MODULES_FILE).is_file() else [Module("Transformer", "")]

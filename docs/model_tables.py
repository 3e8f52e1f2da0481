"""Write the tables of models in docs/layouts.md and README.md: `python docs/model_tables.py`.

A test fails if a page differs.
"""

import re
from pathlib import Path

from zebra.pretrained.known_models import KnownModel, format_libraries, list_known_models
from zebra.pretrained.transformers_models import TRANSFORMERS_MODELS

DOCS = Path(__file__).parent
PAGES = (DOCS / "layouts.md", DOCS.parent / "README.md")
FAMILIES = {
    r"RN": "ResNet (OpenAI, YFCC, CC12M)",
    r"ViT-": "CLIP ViT (OpenAI, LAION, DataComp, DFN, MetaCLIP)",
    r".*SigLIP": "SigLIP",
    r".*SigLIP2": "SigLIP 2",
    r".*CLIPA": "CLIPA",
    r".*worldwide": "MetaCLIP 2",
    r"coca": "CoCa (without its decoder)",
    r"(xlm-)?roberta": "RoBERTa and XLM-R texts",
    r"nllb": "NLLB-CLIP",
    r"convnext": "ConvNeXt",
    r"ViTamin": "ViTamin",
    r"EVA": "EVA01, EVA02",
    r"PE-Core": "PE-Core",
    r"MobileCLIP": "MobileCLIP, MobileCLIP2",
}
"""Families of open_clip's tags by a pattern of their architectures; the last one that matches counts."""
PEERS = {
    "open_clip": "open_clip",
    "pt": "open_clip",
    "sentence-transformers": "sentence-transformers",
    "M-CLIP": "its published formula",
    "fgclip": "nothing: its repository computes it by its own Python code",
}
"""What vectors are compared with, by reader; others are model types of transformers."""


def format_tags() -> str:
    """Return the table of open_clip's tags by family."""
    families: dict[str, list[KnownModel]] = {family: [] for family in FAMILIES.values()}
    for model in list_known_models():
        if not model.name.startswith("hf:"):
            families[find_family(model.name)].append(model)
    lines = ["| family | open / tags | opens | why not |", "|---|---|---|---|"]
    for family, models in families.items():
        opens = sorted({format_libraries(model.libraries) for model in models if not model.refused})
        reasons = sorted({model.refused.partition(", which zebra")[0] for model in models if model.refused})
        num_open = sum(not model.refused for model in models)
        lines.append(f"| {family} | {num_open} / {len(models)} | {', '.join(opens)} | {'; '.join(reasons)} |")
    return "\n".join(lines)


def find_family(name: str) -> str:
    """Return the family of a tag."""
    return [family for pattern, family in FAMILIES.items() if re.match(pattern, name)][-1]


def format_model_types() -> str:
    """Return the table of transformers' dual encoders."""
    lines = ["| `model_type` | class | opens | why not |", "|---|---|---|---|"]
    for model in TRANSFORMERS_MODELS:
        opens = "" if model.refused else format_libraries(model.libraries)
        lines.append(f"| `{model.model_type}` | `{model.class_name}` | {opens} | {model.refused} |")
    return "\n".join(lines)


def format_repositories() -> str:
    """Return the table of repositories of the hub."""
    lines = ["| repository | layout | opens | vectors compared with |", "|---|---|---|---|"]
    for model in list_known_models():
        if model.name.startswith("hf:"):
            peer = PEERS.get(model.reader, "transformers")
            opens = "; ".join(filter(None, [format_libraries(model.libraries), model.note]))
            compared = peer
            if model.refused:
                opens, compared = f"refused: {model.refused}", "–"
            lines.append(f"| {model.repository} | {model.reader or 'its own'} | {opens} | {compared} |")
    return "\n".join(lines)


def format_counts() -> str:
    """Return how many tags and model types open."""
    tags = [model for model in list_known_models() if not model.name.startswith("hf:")]
    num_tags = sum(not model.refused for model in tags)
    num_types = sum(not model.refused for model in TRANSFORMERS_MODELS)
    return (
        f"zebra opens {num_tags} of the {len(tags)} pretrained tags of open_clip 3.3 and {num_types} of the "
        f"{len(TRANSFORMERS_MODELS)} dual encoders for images and texts of transformers 5.24."
    )


TABLES = {
    "counts": format_counts,
    "tags": format_tags,
    "model types": format_model_types,
    "repositories": format_repositories,
}


def update(text: str) -> str:
    """Return the page with new tables between the comments `<!-- NAME -->` and `<!-- end -->`."""
    for name, build in TABLES.items():
        start, end = text.partition(f"<!-- {name} -->\n")[::2]
        if end:
            text = f"{start}<!-- {name} -->\n\n{build()}\n\n<!-- end -->{end.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")

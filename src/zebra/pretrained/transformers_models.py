"""Dual encoders of transformers 5.24 for images and texts, and what computes them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransformersModel:
    """A model class of transformers with embeddings of images and texts."""

    model_type: str
    """`model_type` in config.json."""
    class_name: str
    libraries: tuple[str, ...]
    """The libraries that compute the towers; empty if it is refused."""
    refused: str = ""
    """Why zebra does not open it; empty if it does."""


TRANSFORMERS_MODELS = (
    TransformersModel("clip", "CLIPModel", ("zebra",)),
    TransformersModel("siglip", "SiglipModel", ("zebra",)),
    TransformersModel("siglip2", "Siglip2Model", ("zebra",)),
    TransformersModel("metaclip_2", "MetaClip2Model", ("zebra",)),
    TransformersModel("chinese_clip", "ChineseCLIPModel", ("zebra",)),
    TransformersModel("altclip", "AltCLIPModel", ("zebra",)),
    TransformersModel("vision-text-dual-encoder", "VisionTextDualEncoderModel", ("zebra",)),
    TransformersModel("tipsv2", "Tipsv2Model", ("transformers",)),
    TransformersModel("align", "AlignModel", ("transformers",)),
    TransformersModel("aimv2", "Aimv2Model", ("transformers",)),
    TransformersModel("groupvit", "GroupViTModel", ("transformers",)),
    TransformersModel("flava", "FlavaModel", ("transformers",)),
    TransformersModel("blip", "BlipForImageTextRetrieval", ("transformers",)),
    TransformersModel(
        "blip-2", "Blip2ForImageTextRetrieval", (), "an image has 32 vectors and its score is the largest similarity"
    ),
)

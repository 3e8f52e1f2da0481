"""FG-CLIP (arXiv 2505.05071): CLIP with a second function for long texts.

`get_text_features` of its published code computes short texts (`walk_short_pos=True`, the default) with CLIP's 77
positions and projection. Long texts, of up to 248 tokens, have positions and a projection of their own. A zebra model
is one function, so it is that of short texts, for all texts.
"""

from collections.abc import Mapping

from torch import Tensor

MODEL_TYPE = "fgclip"
LONG_POSITIONS = "text_model.embeddings.position_embedding_res.weight"
UNUSED_TENSORS = frozenset(
    (
        LONG_POSITIONS,
        "text_model.embeddings.position_embedding_ori.weight",
        "text_filip_projection.weight",
        "logit_scale_finegraind",
        "logit_scale_hardneg",
    )
)
"""Tensors for long texts, image regions and training. The misspelling is theirs."""


def drop_long_text_function(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of the function for short texts, and in words what is dropped; "" for a CLIP model."""
    if LONG_POSITIONS not in tensors:
        return dict(tensors), ""
    short = {name: tensor for name, tensor in tensors.items() if name not in UNUSED_TENSORS}
    return short, "FG-CLIP's function for long texts (walk_short_pos=False); all texts are computed as short ones"

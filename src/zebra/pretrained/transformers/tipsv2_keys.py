"""Tensor names of TIPSv2's files, which differ from those in the library's model.

Files stack q, k and v, and the two halves of a gated MLP.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_QKV = ("q_proj", "k_proj", "v_proj")
_RENAMED = (
    (r"^text_encoder\.transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^text_encoder\.ln_final\.", "text_model.final_layer_norm."),
    (r"^text_encoder\.token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^vision_encoder\.blocks\.", "vision_model.encoder.layer."),
    (r"^vision_encoder\.norm\.", "vision_model.layernorm."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embeddings.projection."),
    (r"^vision_encoder\.pos_embed$", "vision_model.embeddings.position_embeddings"),
    (r"^vision_encoder\.(cls_token|mask_token|register_tokens)$", r"vision_model.embeddings.\1"),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.(in_proj_|out_proj\.)", r".self_attn.\1"),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.mlp\.w3\.", ".mlp.down_proj."),
)
"""Patterns of names in files, and the names in the library; each is applied once, in this order."""
_STACKED = (
    (re.compile(r"\.in_proj_(weight|bias)$"), _QKV),
    (re.compile(r"\.qkv\.(weight|bias)$"), _QKV),
    (re.compile(r"\.w12\.(weight|bias)$"), ("gate_proj", "up_proj")),
)
"""Patterns of tensors that are split along the first axis, and the names of the parts."""


def rename_tipsv2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a TIPSv2 file under the names of the library's model; other names stay."""
    renamed: dict[str, Tensor] = {}
    for file_name, tensor in tensors.items():
        name = file_name
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name, count=1)
        for stacked, parts in _STACKED:
            if (match := stacked.search(name)) and tensor.ndim > 0:
                prefix = name[: match.start()]
                chunks = tensor.chunk(len(parts))
                renamed |= {f"{prefix}.{part}.{match[1]}": chunk for part, chunk in zip(parts, chunks, strict=False)}
                break
        else:
            renamed[name] = tensor
    return renamed

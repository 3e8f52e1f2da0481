"""The captioning baseline (CLIP §2.3, after VirTex): predict the next token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import ConfigError, ShapeError
from zebra.models.init import initialize_text
from zebra.models.text.causal import TextTransformer
from zebra.models.towers import build_image_tower


class Captioner(nn.Module):
    """CLIP's image tower, with CLIP's text tower as the decoder of captions.

    The decoder has exactly the text tower's weights. The image embedding, multiplied by the transposed
    `text_projection`, replaces the start token; the token embedding is also the output layer.
    VirTex ties these tables too, but attends to a grid of image positions. With one vector instead, CLIP, bag of words
    and captioner have the same image tower.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config.text, TextConfig):
            raise ConfigError(
                f"a captioner needs a causal text tower, but model.text.kind is {config.text.kind!r}. Use a model with "
                "model.text.kind: causal"
            )
        self.config = config
        self.visual = build_image_tower(config)
        self.text = TextTransformer(config.text, config.embed_dim)
        initialize_text(self.text)

    def forward(self, images_B3HW: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, targets and mask, the arguments of `captioning_loss`.

        Args:
            images_B3HW: Normalized pixels, float.
            tokens_BL: int64 ids, L ≤ context_length; a text starts at position 0 and ends at its largest id.

        Returns:
            Logits [B, L-1, V]; the next tokens, int64 [B, L-1]; and a mask that is False at padding, bool [B, L-1].

        Raises:
            ShapeError: If L exceeds the context length, or the numbers of images and texts differ.
        """
        return self.decode(self.visual(images_B3HW), tokens_BL)

    def decode(self, image_BE: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for image embeddings [B, E], which many texts can share."""
        B, L = tokens_BL.shape
        if len(image_BE) != B or self.text.context_length < L:
            raise ShapeError(
                f"{len(image_BE)} images with texts {tuple(tokens_BL.shape)} for a captioner of context length "
                f"{self.text.context_length}; pass one text per image, truncated to that length"
            )
        start_BD = image_BE @ self.text.text_projection.T
        words_BLD = self.text.token_embedding(tokens_BL[:, 1:-1])
        x_BLD = torch.cat([start_BD[:, None].to(words_BLD.dtype), words_BLD], dim=1)
        x_BLD = x_BLD + self.text.positional_embedding[: L - 1]
        causal_mask_LL = torch.ones(L - 1, L - 1, dtype=torch.bool, device=x_BLD.device).tril()
        x_BLD = self.text.ln_final(self.text.transformer(x_BLD, attn_mask=causal_mask_LL))
        position_L = torch.arange(1, L, device=tokens_BL.device)
        mask_BL = position_L <= tokens_BL.argmax(dim=1, keepdim=True)
        return F.linear(x_BLD, self.text.token_embedding.weight), tokens_BL[:, 1:], mask_BL

    def log_likelihood(self, images_B3HW: Tensor, tokens_CL: Tensor) -> Tensor:
        """Return the log-probability [B, C] of each text with its end token, given each image, for zero-shot scores."""
        image_BE = self.visual(images_B3HW)
        columns = []
        for tokens_L in tokens_CL:
            logits_BLV, target_BL, mask_BL = self.decode(image_BE, tokens_L.expand(len(image_BE), -1))
            log_N = -F.cross_entropy(logits_BLV.float().flatten(0, 1), target_BL.flatten(), reduction="none")
            columns.append((log_N.view_as(target_BL) * mask_BL).sum(dim=1))
        return torch.stack(columns, dim=1)

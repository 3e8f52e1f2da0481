"""The paper's first approach (CLIP §2.3, after VirTex): an image and words so far in, scores of the next word out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.model import ModelConfig, TextConfig
from zebra.errors import ConfigError, ShapeError
from zebra.models.init import initialize_text
from zebra.models.text.causal import TextTransformer
from zebra.models.towers import build_image_tower


class Captioner(nn.Module):
    """CLIP's image tower, and CLIP's text tower turned into a decoder that tells what the image shows.

    The decoder has the text tower's weights, not one more: the image's embedding, taken through the transposed
    `text_projection`, stands where the start token would; and a state scores the tokens by their embeddings.
    VirTex ties these two tables also, but looks at a grid of image positions by cross-attention. One vector in their
    place leaves CLIP, bag of words and captioner the same image tower up to its last weight.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config.text, TextConfig):
            raise ConfigError(
                f"a captioner needs a causal text tower, and model.text.kind is {config.text.kind!r}, whose tokens see "
                "those after them; take a model with kind: causal"
            )
        self.config = config
        self.visual = build_image_tower(config)
        self.text = TextTransformer(config.text, config.embed_dim)
        initialize_text(self.text)

    def forward(self, images_B3HW: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score every next token of a text; what `captioning_loss` takes.

        Args:
            images_B3HW: Normalised pixels, float.
            tokens_BL: int64 ids, L ≤ context_length; a text begins at position 0 and ends at its largest id.

        Returns:
            Logits [B, L-1, V]; the tokens that come there, int64 [B, L-1]: the first word to the end; and which of
            them are no padding, bool [B, L-1].

        Raises:
            ShapeError: L exceeds the context length, or there is not one text per image.
        """
        return self.decode(self.visual(images_B3HW), tokens_BL)

    def decode(self, image_BE: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do the same from the tower's embeddings [B, E], which many texts can share."""
        B, L = tokens_BL.shape
        if len(image_BE) != B or self.text.context_length < L:
            raise ShapeError(
                f"{len(image_BE)} images with texts {tuple(tokens_BL.shape)} for a captioner of context length "
                f"{self.text.context_length}; give one text per image, cut to that length"
            )
        start_BD = image_BE @ self.text.text_projection.T
        words_BLD = self.text.token_embedding(tokens_BL[:, 1:-1])
        x_BLD = torch.cat([start_BD[:, None].to(words_BLD.dtype), words_BLD], dim=1)
        x_BLD = x_BLD + self.text.positional_embedding[: L - 1]
        past_LL = torch.ones(L - 1, L - 1, dtype=torch.bool, device=x_BLD.device).tril()
        x_BLD = self.text.ln_final(self.text.transformer(x_BLD, attn_mask=past_LL))
        place_L = torch.arange(1, L, device=tokens_BL.device)
        said_BL = place_L <= tokens_BL.argmax(dim=1, keepdim=True)
        return F.linear(x_BLD, self.text.token_embedding.weight), tokens_BL[:, 1:], said_BL

    def log_likelihood(self, images_B3HW: Tensor, tokens_CL: Tensor) -> Tensor:
        """Return the log-probability [B, C] of each text, its end included, given each image: zero-shot scores."""
        image_BE = self.visual(images_B3HW)
        columns = []
        for tokens_L in tokens_CL:
            logits_BLV, next_BL, said_BL = self.decode(image_BE, tokens_L.expand(len(image_BE), -1))
            log_N = -F.cross_entropy(logits_BLV.float().flatten(0, 1), next_BL.flatten(), reduction="none")
            columns.append((log_N.view_as(next_BL) * said_BL).sum(dim=1))
        return torch.stack(columns, dim=1)

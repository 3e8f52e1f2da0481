"""Initial weights of the towers, as in OpenAI's published code."""

from torch import nn

from zebra.models.image.naflex import NaflexVision
from zebra.models.image.resnet import Bottleneck, ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.siglip import SiglipText
from zebra.models.transformer import MLP, Attention


def initialize_text(tower: TextTransformer | CocaText) -> None:
    """Initialize the text tower: embeddings N(0, 0.02) and N(0, 0.01), matrices scaled by width and depth."""
    width, layers = tower.token_embedding.embedding_dim, len(tower.transformer.resblocks)
    nn.init.normal_(tower.token_embedding.weight, std=0.02)
    nn.init.normal_(tower.positional_embedding, std=0.01)
    if isinstance(tower, CocaText):
        nn.init.normal_(tower.cls_emb, std=0.01)
    for block in tower.transformer.blocks():
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
    nn.init.normal_(tower.text_projection, std=width**-0.5)


def initialize_resnet(tower: ModifiedResNet) -> None:
    """Initialize the attention pool with N(0, C^-½) and every residual branch with zero."""
    pool = tower.attnpool
    for linear in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
        nn.init.normal_(linear.weight, std=pool.c_proj.in_features**-0.5)
    for module in tower.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)


def initialize_siglip(tower: SiglipVision | NaflexVision | SiglipText) -> None:
    """Initialize a SigLIP tower as big_vision does: Xavier matrices, MLP biases N(0, 1e-6)."""
    for module in tower.modules():
        if isinstance(module, Attention):
            nn.init.xavier_uniform_(module.out_proj.weight)
        elif isinstance(module, MLP):
            for linear in (module.c_fc, module.c_proj):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.normal_(linear.bias, std=1e-6)
    if isinstance(tower, SiglipText):
        nn.init.normal_(tower.token_embedding.weight, std=tower.token_embedding.embedding_dim**-0.5)
        if isinstance(tower.text_projection, nn.Linear):
            nn.init.zeros_(tower.text_projection.bias)
            nn.init.xavier_uniform_(tower.text_projection.weight)


def initialize_bert(tower: BertText) -> None:
    """Initialize a BERT tower: embeddings and matrices N(0, 0.02), biases zero."""
    for name, parameter in tower.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)

"""How the blocks of segment-anything and TinyViT take adapters and LoRA; who builds such blocks imports this module.

Their packages take seconds to import, which a network without such blocks need not wait for.
"""

from __future__ import annotations

from segment_anything.modeling.image_encoder import Block
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from timm.models.tiny_vit import TinyVitBlock

from bundle.networks.tuning.adapters import (
    After,
    Before,
    Beside,
    BottleneckAdapter,
    ConvAdapter,
    add_bottleneck_adapter,
    add_conv_adapter,
)
from bundle.networks.tuning.lora import LowRank, add_lora, lora_on_qkv, low_rank_pair


@add_conv_adapter.register(Block)
@add_conv_adapter.register(TinyVitBlock)
def _(block: Block | TinyVitBlock) -> None:
    block.Adapter = ConvAdapter(block.attn.qkv.in_features)
    block.mlp.register_forward_hook(Beside(block.Adapter, 1.0))


@add_bottleneck_adapter.register(Block)
@add_bottleneck_adapter.register(TinyVitBlock)
def _(block: Block | TinyVitBlock) -> None:
    width = block.attn.qkv.in_features
    block.MLP_Adapter = BottleneckAdapter(width, residual=False)
    block.Space_Adapter = BottleneckAdapter(width, residual=True)
    block.attn.register_forward_hook(After(block.Space_Adapter))
    block.mlp.register_forward_hook(Beside(block.MLP_Adapter, 0.5))


@add_bottleneck_adapter.register
def _(layer: TwoWayAttentionBlock) -> None:
    width = layer.self_attn.embedding_dim
    layer.MLP_Adapter = BottleneckAdapter(width, residual=False)
    layer.Adapter = BottleneckAdapter(width, residual=True)
    layer.norm2.register_forward_pre_hook(Before(layer.Adapter))
    layer.mlp.register_forward_hook(Beside(layer.MLP_Adapter, 0.5))
    layer.norm4.register_forward_pre_hook(Before(layer.Adapter))


@add_bottleneck_adapter.register
def _(attention: Attention) -> None:
    """The decoder's last attention has none in finetune-SAM."""


@add_lora.register(Block)
@add_lora.register(TinyVitBlock)
def _(block: Block | TinyVitBlock, rank: int = 4) -> None:
    lora_on_qkv(block.attn.qkv, rank)


@add_lora.register
def _(layer: TwoWayAttentionBlock, rank: int = 4) -> None:
    for attention in (layer.self_attn, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token):
        add_lora(attention, rank)


@add_lora.register
def _(attention: Attention, rank: int = 4) -> None:
    for layer in (attention.q_proj, attention.v_proj):
        layer.w_a, layer.w_b = low_rank_pair(layer.in_features, layer.out_features, rank)
        layer.register_forward_hook(LowRank([(slice(0, layer.out_features), layer.w_a, layer.w_b)]))

"""Parameter names: from every project's layout to ours, and from ours back to the official SAM layout.

Ours is segment-anything's, with timm's names inside a TinyViT, the adapters and LoRA under the names of their papers'
code, and ``automatic_decoder`` for MedicoSAM's convolutional decoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# DDP wraps in module., micro-sam's trainers in sam., MedicoSAM's on several GPUs in both.
_PREFIXES = ("module.", "sam.", "sam_model.", "model.")

# Not weights, or weights that no output depends on: SAM's pixel statistics, TinyViT's classifier and index tables.
# finetune-SAM's Depth_Adapter, which only its volume mode calls.
_DROPPED = re.compile(
    r"^pixel_(mean|std)$|^image_encoder\.(norm_head|head)\.|\.(attention_bias_idxs|ab)$|\.Depth_Adapter\."
)

_MOBILE_SAM = (
    (r"^image_encoder\.patch_embed\.seq\.0\.", "image_encoder.patch_embed.conv1."),
    (r"^image_encoder\.patch_embed\.seq\.2\.", "image_encoder.patch_embed.conv2."),
    *((rf"^image_encoder\.layers\.{k}\.downsample\.", f"image_encoder.stages.{k + 1}.downsample.") for k in range(3)),
    (r"^image_encoder\.layers\.(\d)\.", r"image_encoder.stages.\1."),
    (r"^(image_encoder\.(?:stages|patch_embed)\..*)\.c\.weight$", r"\1.conv.weight"),
)
_FINETUNE_SAM_LORA = ((r"\.qkv\.qkv\.", ".qkv."), (r"\.([qv]_proj)\.proj\.", r".\1."))
_MICRO_SAM = (
    (r"^encoder\.(?:image_encoder\.)?", "image_encoder."),
    (r"^(decoder|deconv\d|deconv_out|base|decoder_head|out_conv)\.", r"automatic_decoder.\1."),
)
_HUGGING_FACE = (
    (r"^shared_image_embedding\.", "prompt_encoder.shared_embedding."),
    (r"shared_embedding\.positional_embedding$", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.neck\.conv(\d)", lambda m: f"image_encoder.neck.{2 * int(m[1]) - 2}"),
    (r"^vision_encoder\.neck\.layer_norm(\d)", lambda m: f"image_encoder.neck.{2 * int(m[1]) - 1}"),
    (r"^vision_encoder\.", "image_encoder."),
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"mask_embed\.conv(\d)", lambda m: f"mask_downscaling.{3 * int(m[1]) - 3}"),
    (r"mask_embed\.layer_norm(\d)", lambda m: f"mask_downscaling.{3 * int(m[1]) - 2}"),
    (r"(?<!not_a_)point_embed\.", "point_embeddings."),
    (r"upscale_conv1\.", "output_upscaling.0."),
    (r"upscale_layer_norm\.", "output_upscaling.1."),
    (r"upscale_conv2\.", "output_upscaling.3."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.layers.1."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.proj_in\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.proj_out\.", r"\1.layers.2."),
    (r"\.layer_norm", ".norm"),
)
# The first network of volumes of this project, as it was trained outside of the repository.
_FIRST_3D = (
    (r"^((?:down|merge)\.\d\.\d)\.a\.", r"\1.first."),
    (r"^((?:down|merge)\.\d\.\d)\.b\.", r"\1.second."),
    (r"^head\.", "mask_head."),
    (r"^iou\.", "iou_head."),
)
# TinyViT's unused classifier, which MobileSAM's own class nevertheless holds: 1000 ImageNet classes of 320 channels.
_MOBILE_SAM_CLASSIFIER = {
    "image_encoder.norm_head.weight": (320,),
    "image_encoder.norm_head.bias": (320,),
    "image_encoder.head.weight": (1000, 320),
    "image_encoder.head.bias": (1000,),
}


def to_bundle_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of any known project our names; our own come back as they are.

    Knows segment-anything, MedSAM, MobileSAM, LiteMedSAM, SAM-Med2D, finetune-SAM, micro-sam, MedicoSAM and the SAM of
    Hugging Face's transformers.
    """
    state = _strip_prefixes(dict(state))
    rules = [*_MOBILE_SAM, *_FINETUNE_SAM_LORA, *_MICRO_SAM]
    if any(key.startswith("vision_encoder.") for key in state):
        rules = [*_HUGGING_FACE]
    elif "down.0.1.a.0.weight" in state:
        rules = [*_FIRST_3D]
    return {_rename(key, rules): value for key, value in state.items() if not _DROPPED.search(key)}


def to_official_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give our weights the names that segment-anything's, MobileSAM's and LiteMedSAM's own classes load.

    Args:
        state: of a network without adapters and with LoRA merged.

    Returns:
        Name to float32 tensor. MobileSAM's unused classifier is filled with zeros, because its class insists on it.
    """
    rules = (
        (r"^image_encoder\.patch_embed\.conv1\.", "image_encoder.patch_embed.seq.0."),
        (r"^image_encoder\.patch_embed\.conv2\.", "image_encoder.patch_embed.seq.2."),
        (r"^image_encoder\.stages\.(\d)\.downsample\.", lambda m: f"image_encoder.layers.{int(m[1]) - 1}.downsample."),
        (r"^image_encoder\.stages\.", "image_encoder.layers."),
        (r"^(image_encoder\.(?:layers|patch_embed\.seq)\..*)\.conv\.weight$", r"\1.c.weight"),
    )
    official = {_rename(key, rules): _full_precision(value) for key, value in state.items()}
    if "image_encoder.patch_embed.seq.0.c.weight" in official and _is_strided(official):
        official |= {key: torch.zeros(shape) for key, shape in _MOBILE_SAM_CLASSIFIER.items()}
    return official


def _is_strided(state: Mapping[str, Tensor]) -> bool:
    """MobileSAM's 3x3 stem, not LiteMedSAM's 1x1."""
    return state["image_encoder.patch_embed.seq.0.c.weight"].shape[-1] == 3


def _full_precision(value: Tensor) -> Tensor:
    return value.detach().cpu().float() if value.is_floating_point() else value.cpu()


def _rename(key: str, rules: Iterable) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = True
    while found:
        found = [prefix for prefix in _PREFIXES if state and all(key.startswith(prefix) for key in state)]
        for prefix in found:
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state

"""Builders that the family files name as ``_target_``.

Those of SAM's networks are imported when they are asked for: their packages take seconds, which the shipped model does
not need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.networks import prompted_unet_3d as unet_3d
from bundle.networks.interface import SAM_MASKS
from bundle.networks.prompted_unet import DEPTHS, WIDTHS, PromptedUNet
from bundle.networks.tuning.peft import apply_tuning

_OF_SAM = ("sam_vit", "sam_tiny_vit", "semantic_sam")
BUILDERS = (*_OF_SAM, "prompted_unet", "prompted_unet_3d")  # what a family file may name


def __getattr__(name: str) -> Any:
    if name not in _OF_SAM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bundle.families import sam_builders

    return getattr(sam_builders, name)


def prompted_unet(
    *,
    image_size: int = 256,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    tuning: Sequence[Mapping[str, Any]] = (),
) -> PromptedUNet:
    """A U-Net that sees image and drawn prompts from its first layer on, with SAM's four masks.

    Args:
        image_size: S in pixels, a multiple of 64 (with six levels).
        widths, depths: as ``PromptedUNet``.
        tuning: as ``sam_vit``.

    Raises:
        FamilyError: on an unknown tuning, or a size that the levels do not divide.
    """
    return apply_tuning(PromptedUNet(image_size, 1 + SAM_MASKS, widths=widths, depths=depths), tuning)


def prompted_unet_3d(
    *, image_size: int = 96, widths: Sequence[int] = unet_3d.WIDTHS, depths: Sequence[int] = unet_3d.DEPTHS
) -> unet_3d.PromptedUNet3D:
    """A U-Net that sees a cube of a volume and the prompts drawn into it.

    Args:
        image_size: S in cells, a multiple of 32 (with five levels).
        widths, depths: as ``PromptedUNet3D``.

    Raises:
        FamilyError: a size that the levels do not divide.
    """
    return unet_3d.PromptedUNet3D(image_size, widths=widths, depths=depths)
